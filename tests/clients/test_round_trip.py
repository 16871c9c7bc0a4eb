"""A module that was taken to a SavedModel and back is the module that it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bridge
from bridge.bundle import read_index
from bridge.hub_module import read_hub_module
from bridge.model import Model, Variable
from bridge.proto import tf_pb
from bridge.report import Report
from tests.clients.converted import MODULES
from tests.clients.records import check_record
from tests.clients.tf1 import Tf1Client
from tests.conftest import TESTDATA, Golden

NOT_TRAINED = {"digits"}  # no training was recorded of it


@pytest.fixture(scope="module")
def there_and_back(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns a function from the name of a test module to what comes back."""
    folder = tmp_path_factory.mktemp("round_trip")

    def convert(name: str) -> Path:
        back = folder / name / "module"
        if not back.exists():
            saved_model = folder / name / "saved_model"
            bridge.to_saved_model(TESTDATA / "modules" / name, saved_model)
            report = bridge.to_hub_module(saved_model, back)
            assert report.not_kept == []
        return back

    return convert


@pytest.mark.parametrize("name", MODULES)
def test_the_client_finds_what_it_found_in_the_original(
    name: str,
    there_and_back: Callable[[str], Path],
    golden: Callable[[str], Golden],
    tf1: Tf1Client,
) -> None:
    check_record(there_and_back(name), golden(name), tf1, training=name not in NOT_TRAINED)


def read(directory: Path) -> Model:
    return read_hub_module(directory, Report(str(directory), None, ""))


def stored(model: Model, variable: Variable) -> bytes:
    data = variable.data
    with model.shards[data.shard].open("rb") as file:
        file.seek(data.offset)
        return file.read(data.size)


@pytest.mark.parametrize("name", MODULES)
def test_it_has_the_same_state_signatures_and_attachments(
    name: str, there_and_back: Callable[[str], Path]
) -> None:
    before, after = read(TESTDATA / "modules" / name), read(there_and_back(name))
    assert list(after.variants) == list(before.variants)
    assert list(after.variables) == list(before.variables)
    for key, variable in before.variables.items():
        found = after.variables[key]
        assert (found.dtype, found.shape, found.trainable, found.save_slice) == (
            *(variable.dtype, variable.shape, variable.trainable, variable.save_slice),
        )
        assert stored(after, found) == stored(before, variable)
    assert {a.filename: a.source.read_bytes() for a in after.assets.values()} == {
        a.filename: a.source.read_bytes() for a in before.assets.values()
    }
    for tags, variant in before.variants.items():
        other = after.variants[tags]
        assert other.attachments == variant.attachments
        assert other.trainable_variables == variant.trainable_variables
        assert other.model_variables == variant.model_variables
        assert len(other.regularization_losses) == len(variant.regularization_losses)
        assert sorted(other.assets.values()) == sorted(variant.assets.values())
        assert list(other.signatures) == list(variant.signatures)


def test_a_second_trip_changes_nothing(
    there_and_back: Callable[[str], Path], tmp_path: Path
) -> None:
    first = there_and_back("toy_image_resource")
    bridge.to_saved_model(first, tmp_path / "saved_model")
    bridge.to_hub_module(tmp_path / "saved_model", tmp_path / "module")
    again = [
        read_index(d / "variables" / "variables").entries for d in (first, tmp_path / "module")
    ]
    assert list(again[0]) == list(again[1])
    first_pb, second_pb = (
        tf_pb.SavedModel.FromString((d / "saved_model.pb").read_bytes())
        for d in (first, tmp_path / "module")
    )
    for one, two in zip(first_pb.meta_graphs, second_pb.meta_graphs, strict=True):
        assert dict(one.collection_def) == dict(two.collection_def)


# -- what tf.saved_model.save leaves ------------------------------------------------------------


@pytest.mark.tf2
def test_what_tf2_saved_again_goes_back_by_its_objects(
    golden: Callable[[str], Golden], tf1: Tf1Client, tmp_path: Path
) -> None:
    import tensorflow as tf

    name = "toy_train_nodropout_resource"
    bridge.to_saved_model(TESTDATA / "modules" / name, tmp_path / "saved_model")
    obj = tf.saved_model.load(str(tmp_path / "saved_model"))
    tf.saved_model.save(obj, str(tmp_path / "again"), signatures=dict(obj.signatures))
    report = bridge.to_hub_module(tmp_path / "again", tmp_path / "module")
    assert report.kept.update_ops == 4  # each once, though three functions make them
    wanted = golden(name)
    for tags in ((), ("train",)):
        key = "|".join(["train"] if tags else [])
        for signature in ("default", "image_classification"):
            prefix = f"{key}|{signature}"
            outputs: dict[str, Any] = tf1.hub_apply(
                tmp_path / "module",
                wanted.under(f"{prefix}|in"),
                signature=signature,
                tags=tags,
                trainable=bool(tags),
            )
            expected = wanted.under(f"{prefix}|out")
            assert sorted(outputs) == sorted(expected)
            for output, array in expected.items():
                limit = 1e-5 * abs(array).max()
                assert abs(outputs[output] - array).max() <= limit, (prefix, output)


@pytest.mark.tf2
def test_a_v1_loader_takes_the_record_for_nothing(tmp_path: Path) -> None:
    import tensorflow as tf

    bridge.to_saved_model(TESTDATA / "modules" / "toy_image_resource", tmp_path / "out")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "out"), import_scope="s")
        assert "s/" in session.graph.get_operations()[0].name
