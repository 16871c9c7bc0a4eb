"""Nets of real size, made by the genuine exporter from tensorflow.contrib.slim.nets."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.clients.converted import assert_close
from tests.clients.tf1 import tf1_environ
from tests.clients.v1_session import v1_module
from tests.conftest import TESTDATA

pytestmark = [pytest.mark.tf2, pytest.mark.slow]

NETS = {"inception_v3": "InceptionV3/", "resnet_v2_50": "resnet_v2_50/"}


@pytest.fixture(scope="module", params=sorted(NETS))
def net(
    request: pytest.FixtureRequest, tf1_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The directory of a module; what the old client computed lies beside it as an .npz."""
    directory = tmp_path_factory.mktemp("slim")
    subprocess.run(
        [tf1_python, "-W", "ignore", TESTDATA / "make_slim.py", directory, request.param],
        check=True,
        env=tf1_environ(),
    )
    return directory / request.param


def test_a_slim_net_gives_every_end_point_and_trains(net: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    from bridge.convert import to_saved_model

    report = to_saved_model(net, tmp_path / "out")
    assert report.kept.reference_variables == report.kept.variables
    obj = tf.saved_model.load(str(tmp_path / "out"))
    with np.load(net.with_suffix(".npz")) as arrays:
        recorded = dict(arrays)
    images = tf.constant(recorded["|default|in|images"])
    outputs = obj(images, return_endpoints=True)
    assert sum(name.startswith(NETS[net.name]) for name in outputs) > 10
    for key, array in recorded.items():
        signature, _, name = key.removeprefix("|").partition("|out|")
        if name and signature == "default":
            assert_close(outputs[name].numpy(), array, name, rtol=1e-4)
    with v1_module(net, []) as session:
        wanted = session.run("default", {"images": images})
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        for name, value in obj(images, return_endpoints=True).items():
            assert value.numpy().tobytes() == wanted[name][0].tobytes(), name
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
    wanted_losses = [a for k, a in sorted(recorded.items()) if k.startswith("|reg|")]
    found_losses = [loss().numpy() for loss in obj.regularization_losses]
    np.testing.assert_allclose(sorted(found_losses), sorted(wanted_losses), rtol=1e-5)

    statistics = {v.name: v.numpy() for v in obj.variables if "moving_" in v.name}
    with tf.GradientTape() as tape:
        logits = obj.image_classification(images, training=True)
        loss = tf.reduce_mean(tf.square(logits))
    gradients = tape.gradient(loss, list(obj.trainable_variables))
    # The auxiliary head of Inception has no part in the logits.
    missing = [
        variable.name
        for variable, gradient in zip(obj.trainable_variables, gradients, strict=True)
        if gradient is None and "Aux" not in variable.name
    ]
    assert missing == []
    moved = [n for n, v in statistics.items() if (_value(obj, n) != v).any() or "Aux" in n]
    assert sorted(moved) == sorted(statistics)


def _value(obj: object, name: str) -> np.ndarray:
    (variable,) = (v for v in obj.variables if v.name == name)  # type: ignore[attr-defined]
    return variable.numpy()
