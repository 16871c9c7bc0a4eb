"""Nodes that compute the same become one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bridge.attrs import string_attr, type_attr
from bridge.graph import Graph
from bridge.model import INFERENCE, Component, Encoding, Endpoint, Signature, Variant
from bridge.opsets import OpTable
from bridge.passes.merge_equal import MergeEqual
from bridge.proto import tf_pb
from bridge.report import Report
from tests.saved_model.handmade import FLOAT, call, function, op
from tests.saved_model.tiny import constant, placeholder


def variant_of(nodes: Sequence[tf_pb.NodeDef], outputs: Sequence[str] = ()) -> Variant:
    ends = {
        f"o{i}": Endpoint(Encoding.DENSE, FLOAT, None, (Component(name, FLOAT, None),))
        for i, name in enumerate(outputs)
    }
    graph = Graph(nodes, OpTable(()))
    return Variant(INFERENCE, graph, {"default": Signature("default", {}, ends)})


def run(variant: Variant) -> int:
    return MergeEqual().rewrite(variant, Report("source", None, "to-hub-module"))


def outputs(variant: Variant) -> list[str]:
    ends = variant.signatures["default"].outputs
    return [ends[key].components[0].name for key in sorted(ends)]


def relu(name: str, *inputs: str) -> tf_pb.NodeDef:
    return op(name, "Relu", *inputs, T=FLOAT)


def test_equal_chains_become_one() -> None:
    nodes = [
        placeholder("x"),
        *(relu(f"{side}1", "x") for side in "ab"),
        *(relu(f"{side}2", f"{side}1") for side in "ab"),
    ]
    variant = variant_of(nodes, ["a2:0", "b2:0"])
    assert run(variant) == 2
    assert set(variant.graph.nodes) == {"x", "a1", "a2"}
    assert outputs(variant) == ["a2", "a2"]


def test_losses_initializers_and_updates_follow() -> None:
    nodes = [
        placeholder("x"),
        op("v", "VarHandleOp", dtype=FLOAT),
        *(op(f"w{i}", "AssignVariableOp", "v", "x", dtype=FLOAT) for i in range(2)),
        *(relu(f"l{i}", "x") for i in range(2)),
        *(op(f"n{i}", "NoOp", "^l0") for i in range(2)),
        *(op(f"y{i}", "Identity", "x", f"^w{i}", T=FLOAT) for i in range(2)),
    ]
    variant = variant_of(nodes, ["y0"])
    other = variant_of(nodes, ["y1"])
    variant.signatures["other"] = other.signatures["default"]
    variant.regularization_losses = ["l0:0", "l1:0"]
    variant.table_initializers = ["n1", "n0"]
    variant.update_ops = {"first": "w0", "second": "w1"}
    assert run(variant) == 4
    assert variant.regularization_losses == ["l0", "l0"]
    assert variant.table_initializers == ["n0"]
    assert variant.update_ops == {"first": "w0"}


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (relu("a", "x"), relu("b", "y")),
        (relu("a", "x"), op("b", "Neg", "x", T=FLOAT)),
        (relu("a", "x"), relu("b", "x", "^y")),
        (relu("a", "x"), relu("b", "s:1")),
        (constant("a", 1.0), constant("b", 2.0)),
        (placeholder("a"), placeholder("b")),
        (op("a", "VarHandleOp", dtype=FLOAT), op("b", "VarHandleOp", dtype=FLOAT)),
        (op("a", "RandomUniform", "n", dtype=FLOAT), op("b", "RandomUniform", "n", dtype=FLOAT)),
        (op("a", "HashTableV2"), op("b", "HashTableV2")),
    ],
    ids=[
        "inputs",
        "ops",
        "control inputs",
        "outputs",
        "values",
        "placeholders",
        "variables",
        "random numbers",
        "tables",
    ],
)
def test_what_differs_or_holds_state_stays(left: tf_pb.NodeDef, right: tf_pb.NodeDef) -> None:
    split = op("s", "TopKV2", "x", "n", T=FLOAT)
    number = op("n", "Placeholder", dtype=tf_pb.DT_INT32)
    nodes = [placeholder("x"), placeholder("y"), number, split, left, right]
    assert run(variant_of(nodes)) == 0


def test_reads_merge_if_they_are_ordered_alike() -> None:
    def read(name: str, *control: str) -> tf_pb.NodeDef:
        return op(name, "ReadVariableOp", "v", *control, dtype=FLOAT)

    write = op("w", "AssignVariableOp", "v", "x", dtype=FLOAT)
    nodes = [placeholder("x"), op("v", "VarHandleOp", dtype=FLOAT), write]
    nodes += [read("a"), read("b"), read("c", "^w"), read("d", "^w")]
    variant = variant_of(nodes, ["a:0", "b:0", "c:0", "d:0"])
    assert run(variant) == 2
    assert outputs(variant) == ["a", "a", "c", "c"]


def adding(*outputs_of: str) -> Variant:
    """A variable to which signatures `one` and `two` add.

    Args:
      outputs_of: for each write, the signatures whose outputs wait for it, as `one two`.
    """
    nodes = [placeholder("x"), op("v", "VarHandleOp", dtype=FLOAT)]
    nodes += [
        op(f"w{i}", "AssignAddVariableOp", "v", "x", dtype=FLOAT) for i in range(len(outputs_of))
    ]
    variant = variant_of(nodes)
    del variant.signatures["default"]
    for name in ("one", "two"):
        waits = [f"^w{i}" for i, names in enumerate(outputs_of) if name in names.split()]
        variant.graph.add("Identity", f"{name}/y", ["x", *waits], T=type_attr(FLOAT))
        component = Component(f"{name}/y:0", FLOAT, None)
        ends = {"default": Endpoint(Encoding.DENSE, FLOAT, None, (component,))}
        variant.signatures[name] = Signature(name, {}, ends)
    return variant


@pytest.mark.parametrize(
    ("outputs_of", "left"),
    [
        (("one", "two"), {"w0"}),
        (("one", "one", "two", "two"), {"w0", "w1"}),
        (("one", "one"), {"w0", "w1"}),
        (("one two", "one two"), {"w0", "w1"}),
        (("one two", "two"), {"w0", "w1"}),
        (("", ""), {"w0", "w1"}),
        (("one", ""), {"w0", "w1"}),
    ],
)
def test_equal_writes_merge_where_they_are_those_of_two_signatures(
    outputs_of: tuple[str, ...], left: set[str]
) -> None:
    variant = adding(*outputs_of)
    run(variant)
    assert {name for name in variant.graph.nodes if name.startswith("w")} == left


def test_writes_of_other_values_stay_apart() -> None:
    variant = adding("one", "two")
    variant.graph.add("Placeholder", "y", dtype=type_attr(FLOAT))
    variant.graph.nodes["w1"].input[1] = "y"
    assert run(variant) == 0


@pytest.mark.parametrize(("draws", "left"), [(False, {"a"}), (True, {"a", "b"})])
def test_calls_merge_where_the_function_has_no_state(draws: bool, left: set[str]) -> None:
    shape = op("n", "Const", dtype=tf_pb.DT_INT32)
    random = op("y", "RandomUniform", "n:output:0", dtype=FLOAT, T=tf_pb.DT_INT32)
    nodes = [shape, random] if draws else [op("y", "Neg", "x", T=FLOAT)]
    inner = function("inner", nodes, {"y": "y:output:0" if draws else "y:y:0"})
    outer = function("outer", [call("y", "inner", "x")], {"y": "y:output:0"})
    variant = variant_of([placeholder("x"), call("a", "outer", "x"), call("b", "outer", "x")])
    variant.graph.functions |= {"inner": inner, "outer": outer}
    run(variant)
    assert set(variant.graph.nodes) - {"x"} == left


def test_the_paths_of_assets_stay_nodes_of_their_own() -> None:
    nodes = [op(name, "Const", dtype=tf_pb.DT_STRING) for name in ("one", "two", "text", "same")]
    for node in nodes:
        node.attr["value"].CopyFrom(string_attr("vocabulary.txt"))
    variant = variant_of(nodes)
    variant.assets = {"one": "vocabulary.txt", "two": "vocabulary.txt"}
    assert run(variant) == 1
    assert set(variant.graph.nodes) == {"one", "two", "text"}


def test_nothing_changes_where_nothing_is_equal() -> None:
    variant = variant_of([placeholder("x"), relu("a", "x")], ["a:0"])
    before = {name: node.SerializeToString() for name, node in variant.graph.nodes.items()}
    assert run(variant) == 0
    assert {n: node.SerializeToString() for n, node in variant.graph.nodes.items()} == before
    assert outputs(variant) == ["a:0"]


def test_types_are_part_of_what_is_compared() -> None:
    nodes = [placeholder("x")]
    for name, dtype in (("a", tf_pb.DT_INT32), ("b", tf_pb.DT_INT64)):
        node = op(name, "Cast", "x", SrcT=FLOAT)
        node.attr["DstT"].CopyFrom(type_attr(dtype))
        nodes.append(node)
    assert run(variant_of(nodes)) == 0
