"""A sample of the sweep, `python -m tests.networks`: what breaks a rule there fails here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import bridge
from tests.clients.tf1 import Tf1Client
from tests.networks.build import images
from tests.networks.catalog import NETWORKS
from tests.networks.compare import difference
from tests.networks.sweep import check, convert, generate, read

pytestmark = [pytest.mark.tf2, pytest.mark.slow]

# Between them: batch norm and dropout of Keras 3 in training, attention of tf_keras (Einsum) with
# dropout, and a SavedModel that has signatures only.
SAMPLE = (("MobileNet", "reusable"), ("ViT", "tf_keras-save"), ("ViT", "keras3-export"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Returns a function that gives the folder of a network in a format, made on first use."""
    folder = tmp_path_factory.mktemp("networks")

    def directory(network: str, format_: str) -> Path:
        path = folder / f"{network}-{format_}"
        generate(NETWORKS[network], [format_], path, noisy=False)
        return path

    return directory


@pytest.mark.parametrize(("network", "format_"), SAMPLE)
def test_a_network_computes_and_trains_in_tf1_as_in_tf2(
    network: str, format_: str, tf1: Tf1Client, saved: Callable[[str, str], Path]
) -> None:
    result = check(tf1, NETWORKS[network], format_, saved(network, format_), noise={})
    assert result.problems == []
    assert result.inference is not None
    assert result.inference.gradients > 20
    assert (result.training is not None) == (format_ in ("reusable", "tf_keras-save"))
    if network == "MobileNet":
        assert result.training is not None
        assert (result.training.updated, result.training.regularizers) == (54, 15)


def test_clients_use_a_network_in_every_way(
    tf1: Tf1Client, saved: Callable[[str, str], Path], tmp_path: Path
) -> None:
    folder = saved("MobileNet", "reusable")
    reference = read(folder / "reusable.npz")
    convert(folder / "reusable", tmp_path / "module")
    uses = tf1.hub_client(tmp_path / "module", {"images": reference["images"]})
    for way, outputs in uses.outputs.items():
        assert difference(outputs["default"], reference["inference|output"]) <= 1e-5, way
    facts = uses.facts
    assert (facts["image_size"], facts["channels"]) == ([96, 96], 3)
    assert facts["infos"]["default"] == {
        "inputs": {"images": ["float32", [None, 96, 96, 3]]},
        "outputs": {"default": ["float32", [None, 1000]]},
    }
    assert facts["tags"] == facts["exported_tags"] == [[], ["train"]]
    names = facts["module_variables"]
    assert len(names) == len(set(names)) > 100
    for way, scope in (("first", "module"), ("nested", "outer/inner/of_its_own")):
        assert facts["variables"][way] == [f"{scope}/{name}" for name in names]


def test_an_estimator_learns_with_a_network_in_its_model_fn(
    tf1: Tf1Client, saved: Callable[[str, str], Path], tmp_path: Path
) -> None:
    source = saved("ViT", "tf_keras-save") / "tf_keras-save"
    bridge.to_hub_module(source, tmp_path / "module", logits=True)
    batch = {"images": images(NETWORKS["ViT"], 6)}
    labels = np.arange(6) % 3
    fitted = tf1.hub_estimator(tmp_path / "module", batch, labels, steps=10, learning_rate=0.003)
    assert fitted.losses[1] < 0.5 * fitted.losses[0]
    assert np.isfinite(fitted.logits).all()
    assert fitted.logits.shape == (6, 3)
