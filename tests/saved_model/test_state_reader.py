"""Variables, tables, assets and constants that a SavedModel's functions capture."""

from __future__ import annotations

from pathlib import Path

import pytest

import bridge
from bridge.model import INFERENCE, Model
from bridge.proto import tf_pb
from bridge.report import Report
from bridge.saved_model.reader import read_saved_model
from tests.attacks.saved_models import _lookup, _static_table
from tests.saved_model.handmade import FLOAT, ROOT, Handmade, doubling, function, op, scaled, spec
from tests.saved_model.tiny import constant


def read(model: Handmade, folder: Path) -> tuple[Model, Report]:
    report = Report("source", None, "to-hub-module")
    return read_saved_model(model.write(folder / "model"), report), report


def reading(*captures: int, model: Handmade, name: str = "read") -> Handmade:
    """Lets `__call__` read variables."""
    nodes = [op(f"r{i}", "ReadVariableOp", f"h{i}", dtype=FLOAT) for i in range(len(captures))]
    nodes.append(op("y", "Identity", "x", *(f"^r{i}" for i in range(len(captures))), T=FLOAT))
    args = {"x": FLOAT} | {f"h{i}": tf_pb.DT_RESOURCE for i in range(len(captures))}
    made = function(name, nodes, {"y": "y:output:0"}, args)
    model.method("__call__", [model.trace(made, [spec()], captures=captures)])
    return model


# -- which variables -------------------------------------------------------------------------------


def test_without_a_list_all_variables_of_the_model_are_kept(tmp_path: Path) -> None:
    model = doubling()
    model.variable("b", attribute="one")
    model.variable("a", attribute="two")
    found, report = read(model, tmp_path)
    assert list(found.variables) == ["a", "b"]
    assert [(v.name, v.source_name, v.source_path) for v in report.variables] == [
        ("b", "b", "one"),
        ("a", "a", "two"),
    ]
    assert report.not_kept == []


def test_a_list_and_the_functions_say_which_are_kept(tmp_path: Path) -> None:
    model = Handmade()
    read_one = model.variable("read", attribute="read")
    listed = model.variable("listed", attribute="listed")
    model.variable("neither", [5.0], attribute="neither")
    model.list_of("variables", [listed])
    found, report = read(reading(read_one, model=model), tmp_path)
    assert list(found.variables) == ["listed", "read"]
    assert [(note.kind, note.name) for note in report.not_kept] == [("variable", "neither")]


def test_what_an_optimizer_keeps_is_left_out_unless_a_function_reads_it(tmp_path: Path) -> None:
    model = Handmade()
    slots = [model.variable(name) for name in ("momentum", "rate")]
    optimizer = model.objects.add_object()
    model.objects.link(ROOT, "optimizer", optimizer)
    for i, slot in enumerate(slots):
        model.objects.link(optimizer, str(i), slot)
    model.variable("kernel", attribute="kernel")
    found, report = read(reading(slots[1], model=model), tmp_path)
    assert list(found.variables) == ["kernel", "rate"]
    assert [note.name for note in report.not_kept] == ["momentum"]


def test_a_second_copy_of_a_variable_is_left_out_and_told(tmp_path: Path) -> None:
    model = doubling()
    listed = model.variable("kernel", [1.0, 2.0])
    model.list_of("variables", [listed])
    model.list_of("_all_variables", [model.variable("kernel", [1.0, 2.0])])
    other = model.variable("kernel", [1.0, 3.0])
    model.objects.link(ROOT, "other", other)
    found, report = read(model, tmp_path)
    assert list(found.variables) == ["kernel"]
    assert [note.name for note in report.not_kept] == ["kernel"]  # of another value
    (remark,) = report.remarks
    assert (remark.kind, remark.name) == ("variable", "kernel")
    assert "equal copy" in remark.reason


def test_an_unread_variable_may_lack_shape_and_value(tmp_path: Path) -> None:
    model = doubling()
    model.list_of("variables", [])
    number = model.variable("open", attribute="open")
    model.objects.nodes[number].variable.shape.dim[0].size = -1
    found, report = read(model, tmp_path)
    assert found.variables == {}
    assert [note.name for note in report.not_kept] == ["open"]


@pytest.mark.parametrize(
    ("listed", "expected"), [(None, ["a", "c"]), ((1, 0, 1), ["b", "a"])], ids=["own", "list"]
)
def test_the_list_of_trainable_variables_has_the_last_word(
    listed: tuple[int, ...] | None, expected: list[str], tmp_path: Path
) -> None:
    model = doubling()
    numbers = [
        model.variable(name, attribute=name, trainable=name != "b") for name in ("a", "b", "c")
    ]
    if listed is not None:
        model.list_of("trainable_variables", [numbers[i] for i in listed])
    found, _ = read(model, tmp_path)
    assert found.variants[INFERENCE].trainable_variables == expected
    assert [name for name, v in found.variables.items() if v.trainable] == sorted(expected)


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("layer/kernel", "layer/kernel"),
        ("layer/kernel:0", "layer/kernel"),
        ("an odd name?", "an_odd_name_"),
        ("greater>than", "greater_than"),
        ("back\\slash", "back_slash"),
        ("größe", "gr__e"),
        ("/_hidden", "hidden"),
        ("_", "variable"),
        ("", "attribute"),
    ],
)
def test_names_are_such_as_tensorflow_1_takes(name: str, expected: str, tmp_path: Path) -> None:
    model = doubling()
    model.variable(name, attribute="attribute")
    found, _ = read(model, tmp_path)
    assert list(found.variables) == [expected]


def test_equal_names_become_paths_and_equal_paths_are_numbered(tmp_path: Path) -> None:
    model = doubling()
    for attribute, name in (("a b", "same"), ("a?b", "same"), ("c", "a_b")):
        model.variable(name, attribute=attribute)
    found, report = read(model, tmp_path)
    assert [v.name for v in report.variables] == ["a_b", "a_b_1", "a_b_2"]
    assert len(found.variables) == 3


def test_no_node_takes_the_name_of_a_variable(tmp_path: Path) -> None:
    model = Handmade()
    names = ["StatefulPartitionedCall", "training", "x", "asset_path"]
    numbers = [model.variable(name, attribute=f"v{i}") for i, name in enumerate(names)]
    nodes = [op("y", "Identity", "x", T=FLOAT)]
    args = {"x": FLOAT, "training": tf_pb.DT_BOOL}
    made = function("call", nodes, {"y": "y:output:0"}, args)
    training = spec("training", tf_pb.DT_BOOL, ())
    model.method("__call__", [model.trace(made, [spec(), training])], ["x", "training"])
    found, _ = read(model, tmp_path)
    for variant in found.variants.values():
        for name in names:
            assert variant.graph.nodes[name].op == "VarHandleOp"
        assert len(variant.graph.nodes) == len(numbers) + 3


# -- constants, assets and tables ------------------------------------------------------------------


def test_a_captured_constant_becomes_a_node(tmp_path: Path) -> None:
    model = Handmade()
    model.meta_graph.graph_def.node.append(constant("c", 2.5))
    model.objects.nodes.append(tf_pb.SavedObject(constant=tf_pb.SavedConstant(operation="c")))
    nodes = [op("y", "Mul", "x", "c", T=FLOAT)]
    made = function("call", nodes, {"y": "y:z:0"}, {"x": FLOAT, "c": FLOAT})
    model.method("__call__", [model.trace(made, [spec()], captures=[1])])
    found, _ = read(model, tmp_path)
    (node,) = (n for n in found.variants[INFERENCE].graph.nodes.values() if n.op == "Const")
    assert node.attr["value"].tensor.float_val[0] == 2.5


def table_name(content: bytes, folder: Path, key_index: int = -2) -> str:
    model = Handmade()
    _lookup([_static_table()], model.asset("words.txt", content), model)
    for made in model.library.function:
        for node in made.node_def:
            if node.op.startswith("InitializeTable"):
                node.attr["key_index"].i = key_index
    folder.mkdir()
    found, _ = read(model, folder)
    graph = found.variants[INFERENCE].graph
    (node,) = (n for n in graph.all_nodes() if n.op == "HashTableV2")
    return node.attr["shared_name"].s.decode()


def test_a_table_is_named_by_what_is_in_it(tmp_path: Path) -> None:
    name = table_name(b"a\nb\n", tmp_path / "1")
    assert name.startswith("t_")
    assert table_name(b"a\nb\n", tmp_path / "2") == name
    assert table_name(b"a\nc\n", tmp_path / "3") != name
    assert table_name(b"a\nb\n", tmp_path / "4", key_index=-1) != name


def test_a_table_brings_its_asset_and_its_initializer(tmp_path: Path) -> None:
    model = Handmade()
    _lookup([_static_table()], model.asset("deep/words.txt", b"a\n"), model)
    found, _ = read(model, tmp_path)
    variant = found.variants[INFERENCE]
    assert list(found.assets) == ["deep/words.txt"]
    assert variant.assets == {"asset_path": "deep/words.txt"}
    assert len(variant.table_initializers) == 1
    report = bridge.to_hub_module(tmp_path / "model", tmp_path / "module")
    assert (report.kept.tables, report.kept.assets) == (1, 1)


def test_an_unused_asset_is_kept(tmp_path: Path) -> None:
    model = doubling()
    model.asset("readme.txt", b"hello")
    found, _ = read(model, tmp_path)
    assert list(found.assets) == ["readme.txt"]
    bridge.to_hub_module(tmp_path / "model", tmp_path / "module")
    assert (tmp_path / "module" / "assets" / "readme.txt").read_bytes() == b"hello"


def test_a_resource_is_made_and_filled_once_for_all_functions(tmp_path: Path) -> None:
    model = Handmade()
    _lookup([_static_table()], model.asset("words.txt", b"a\n"), model)
    table = next(n for n, node in enumerate(model.objects.nodes) if node.HasField("resource"))
    size = op("size", "LookupTableSizeV2", "table")
    nodes = [size, op("y", "Cast", "size:size:0", SrcT=tf_pb.DT_INT64, DstT=FLOAT)]
    args = {"table": tf_pb.DT_RESOURCE}
    made = function("serve", nodes, {"y": "y:y:0"}, args)
    served = model.trace(made, output=spec("y", FLOAT, ()), captures=[table])
    model.signature("size", served, [])
    report = bridge.to_hub_module(model.write(tmp_path / "model"), tmp_path / "module")
    assert report.kept.tables == 1
    assert [s.name for s in report.signatures] == ["default", "size"]


def test_two_functions_may_share_a_name_of_nodes(tmp_path: Path) -> None:
    model = doubling()
    model.signature("triple", model.trace(scaled("triple", 3.0), keywords={"x": spec("x")}))
    report = bridge.to_hub_module(model.write(tmp_path / "model"), tmp_path / "module")
    assert [s.name for s in report.signatures] == ["default", "triple"]
