"""A SavedModel as a Model: variants, calls and what the report says of the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bridge
from bridge.model import INFERENCE, TRAIN, Model
from bridge.proto import tf_pb
from bridge.report import Report
from bridge.saved_model.reader import read_saved_model
from bridge.saved_model.structured_value import boolean, function_spec, mapping
from tests.saved_model.handmade import FLOAT, Handmade, Value, doubling, function, op, scaled, spec
from tests.saved_model.tiny import constant


def read(model: Handmade, folder: Path) -> tuple[Model, Report]:
    report = Report("source", None, "to-hub-module")
    return read_saved_model(model.write(folder / "model"), report), report


def two_modes() -> Handmade:
    model = Handmade()
    traces = [
        model.trace(scaled(f"call_{value}", 2.0), [spec(), boolean(value)])
        for value in (False, True)
    ]
    model.method("__call__", traces, ["x", "training"], [boolean(False)])
    return model


def test_each_variant_calls_its_function(tmp_path: Path) -> None:
    found, _ = read(two_modes(), tmp_path)
    assert list(found.variants) == [INFERENCE, TRAIN]
    for tags, value in ((INFERENCE, False), (TRAIN, True)):
        variant = found.variants[tags]
        signature = variant.signatures["default"]
        assert signature.inputs["x"].components[0].name == "x:0"
        call = variant.graph.nodes[signature.outputs["default"].components[0].name.split(":")[0]]
        assert call.op == "StatefulPartitionedCall"
        assert call.attr["f"].func.name == f"call_{value}"
        assert list(variant.graph.functions) == [f"call_{value}"]


def test_signatures_share_inputs_of_one_name_and_type(tmp_path: Path) -> None:
    model = doubling()
    for name, shape in (("same", (None,)), ("other", (2,))):
        made = scaled(name, 3.0)
        output = mapping({"y": spec("y", FLOAT, shape)})
        traced = model.trace(made, keywords={"x": spec("x", FLOAT, shape)}, output=output)
        model.signature(name, traced)
    found, _ = read(model, tmp_path)
    signatures = found.variants[INFERENCE].signatures
    inputs = {name: one.inputs["x"].components[0].name for name, one in signatures.items()}
    assert inputs["default"] == inputs["same"]
    assert inputs["other"] != inputs["same"]


@pytest.mark.parametrize(
    ("key", "node"), [("an input", "an_input"), ("_x", "x"), ("?", "input"), ("a/b", "a/b")]
)
def test_an_input_keeps_its_name_whatever_its_node_is_called(
    key: str, node: str, tmp_path: Path
) -> None:
    model = Handmade()
    model.method("__call__", [model.trace(scaled("call", 2.0), [spec(key)])])
    found, _ = read(model, tmp_path)
    (signature,) = found.variants[INFERENCE].signatures.values()
    assert {k: e.components[0].name for k, e in signature.inputs.items()} == {key: f"{node}:0"}


def test_default_is_added_where_there_is_one_output(tmp_path: Path) -> None:
    model = Handmade()
    one = mapping({"features": spec("y")})
    model.method("__call__", [model.trace(scaled("call", 2.0), [spec()], output=one)])
    served = model.trace(scaled("serve", 2.0), keywords={"x": spec("x")}, output=one)
    model.signature("serve", served)
    signatures = read(model, tmp_path)[0].variants[INFERENCE].signatures
    assert sorted(signatures["default"].outputs) == ["default", "features"]
    assert sorted(signatures["serve"].outputs) == ["features"]


def test_losses_are_in_every_variant(tmp_path: Path) -> None:
    model = two_modes()
    made = function("loss", [constant("l", 0.5)], {"l": "l:output:0"}, args={})
    traced = model.trace(made, output=spec("l", FLOAT, ()))
    model.list_of(
        "regularization_losses", [model.objects.add_function([traced], function_spec([]))]
    )
    found, _ = read(model, tmp_path)
    for variant in found.variants.values():
        assert len(variant.regularization_losses) == 1


def test_a_model_without_variables_needs_no_checkpoint(tmp_path: Path) -> None:
    import shutil

    path = doubling().write(tmp_path / "model")
    shutil.rmtree(path / "variables")
    report = bridge.to_hub_module(path, tmp_path / "module")
    assert report.kept.variables == 0


def test_composite_tensors_get_a_node_for_each_component(tmp_path: Path) -> None:
    integer = tf_pb.DT_INT64
    dtype = Value()
    dtype.tensor_dtype_value = FLOAT  # type: ignore[assignment]
    shape = Value()
    shape.tensor_shape_value.dim.add(size=-1)
    sparse = Value()
    sparse.type_spec_value.type_spec_class = tf_pb.TypeSpecProto.SPARSE_TENSOR_SPEC
    sparse.type_spec_value.type_state.tuple_value.values.extend([shape, dtype])
    nodes = [op("y", "Identity", "b", T=FLOAT)]
    args = {"a": integer, "b": FLOAT, "c": integer}
    made = function("call", nodes, {"y": "y:output:0"}, args)
    model = Handmade()
    model.method("__call__", [model.trace(made, [sparse])], ["x"])
    found, _ = read(model, tmp_path)
    (signature,) = found.variants[INFERENCE].signatures.values()
    assert [part.name for part in signature.inputs["x"].components] == [
        "x/indices:0",
        "x/values:0",
        "x/dense_shape:0",
    ]


# -- what no module has ----------------------------------------------------------------------------


def notes(report: Report) -> list[tuple[str, str]]:
    return [(note.kind, note.name) for note in report.not_kept]


def test_files_that_no_module_has_are_named(tmp_path: Path) -> None:
    path = doubling().write(tmp_path / "model")
    for name in ("keras_metadata.pb", "fingerprint.pb", "variables/notes"):
        (path / name).write_bytes(b"x")
    report = bridge.to_hub_module(path, tmp_path / "module")
    assert notes(report) == [("file", "keras_metadata.pb"), ("file", "variables/notes")]
    assert not (tmp_path / "module" / "keras_metadata.pb").exists()


def test_extra_assets_are_kept_and_not_named(tmp_path: Path) -> None:
    path = doubling().write(tmp_path / "model")
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / "labels.txt").write_bytes(b"cat")
    report = bridge.to_hub_module(path, tmp_path / "module")
    assert (tmp_path / "module" / "assets.extra" / "labels.txt").read_bytes() == b"cat"
    assert notes(report) == []


def test_the_producer_is_reported(tmp_path: Path) -> None:
    model = doubling()
    model.meta_graph.meta_info_def.tensorflow_version = "2.21.0"
    report = bridge.to_hub_module(model.write(tmp_path / "model"), tmp_path / "module")
    assert report.producer == "2.21.0"


def test_the_source_is_not_changed(tmp_path: Path) -> None:
    path = two_modes().write(tmp_path / "model")
    before = _files(path)
    bridge.to_hub_module(path, tmp_path / "module")
    assert _files(path) == before


def _files(directory: Path) -> dict[str, Any]:
    return {
        file.relative_to(directory).as_posix(): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in directory.rglob("*")
        if file.is_file()
    }
