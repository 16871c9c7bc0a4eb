"""A SavedModel that was a TF1 Hub module remembers which."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

import bridge
from bridge.hub_module import read_hub_module
from bridge.model import INFERENCE, TRAIN, Model, Variant
from bridge.proto import record_pb, tf_pb
from bridge.report import Report
from bridge.saved_model.reader import read_saved_model
from bridge.saved_model.record import RECORD, VERSION
from tests.attacks.edit import saved_model
from tests.conftest import TESTDATA

# Those that to_saved_model converts whole; the names of the others' tests say what they lack.
NAMES = sorted(path.name for path in (TESTDATA / "modules").iterdir())


def report() -> Report:
    return Report("source", None, "to-hub-module")


@pytest.fixture
def converted(tmp_path: Path, module_dir: Callable[[str], Path]) -> Callable[[str], Path]:
    """Returns a function from a module's name to the SavedModel made of it."""

    def convert(name: str) -> Path:
        bridge.to_saved_model(module_dir(name), tmp_path / name)
        return tmp_path / name

    return convert


def promises(variant: Variant) -> dict[str, object]:
    """What a variant says of itself beside its nodes."""
    return {
        "signatures": {
            name: [
                {key: (e.encoding, e.dtype, e.shape) for key, e in ends.items()}
                for ends in (signature.inputs, signature.outputs)
            ]
            for name, signature in variant.signatures.items()
        },
        "trainable": variant.trainable_variables,
        "model": variant.model_variables,
        "losses": len(variant.regularization_losses),
        "updates": len(variant.update_ops),
        "tables": len(variant.table_initializers),
        "assets": sorted(variant.assets.values()),
        "attachments": variant.attachments,
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_module_is_read_back_as_it_was(
    name: str, converted: Callable[[str], Path], module_dir: Callable[[str], Path]
) -> None:
    before = read_hub_module(module_dir(name), report())
    after = read_saved_model(converted(name), report())
    assert after.was_module
    assert after.variants.keys() == before.variants.keys()
    for tags, variant in before.variants.items():
        assert promises(after.variants[tags]) == promises(variant)
    assert _variables(after) == _variables(before)
    assert after.assets.keys() == before.assets.keys()


def _variables(model: Model) -> dict[str, tuple[object, ...]]:
    return {
        name: (v.dtype, v.shape, v.trainable, v.save_slice, v.data.crc32c, v.variants)
        for name, v in model.variables.items()
    }


def test_the_record_is_text_of_the_version_that_is_known(converted: Callable[[str], Path]) -> None:
    message = tf_pb.SavedModel.FromString((converted("digits") / "saved_model.pb").read_bytes())
    values = message.meta_graphs[0].collection_def[RECORD].bytes_list.value
    assert len(values) == 2
    for value in values:
        assert value.isascii()
        record = record_pb.VariantRecord.FromString(base64.b64decode(value, validate=True))
        assert record.version == VERSION
        assert record.bodies


def test_the_record_holds_no_node_that_a_function_holds(converted: Callable[[str], Path]) -> None:
    message = tf_pb.SavedModel.FromString((converted("digits") / "saved_model.pb").read_bytes())
    meta_graph = message.meta_graphs[0]
    bodies = {f.signature.name: f for f in meta_graph.graph_def.library.function}
    for value in meta_graph.collection_def[RECORD].bytes_list.value:
        record = record_pb.VariantRecord.FromString(base64.b64decode(value))
        own = {node.name for node in record.meta_graph.graph_def.node}
        held = {n.name for body in record.bodies for n in bodies[body.function].node_def}
        assert held
        assert not own & held


def test_without_the_record_the_objects_speak(converted: Callable[[str], Path]) -> None:
    path = converted("digits")
    with saved_model(path) as message:
        del message.meta_graphs[0].collection_def[RECORD]
    model = read_saved_model(path, report())
    assert not model.was_module
    assert model.variants.keys() == {INFERENCE, TRAIN}
    assert all("default" in variant.signatures for variant in model.variants.values())
