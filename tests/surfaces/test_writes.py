"""Which variables graphs change, through branches, loops and calls."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

import bridge
from bridge._surfaces.bodies import Bodies
from bridge._surfaces.writes import Effects, EffectsReader
from bridge.attrs import bool_tensor_attr, type_attr
from bridge.graph import Graph, Tensor
from bridge.opsets import OpTable
from bridge.proto import tf_pb
from bridge.validate import check_graph
from tests.saved_model.handmade import FLOAT, function, op

RESOURCE = tf_pb.DT_RESOURCE
BOOL = tf_pb.DT_BOOL


def assigning(name: str) -> tf_pb.FunctionDef:
    """A function that assigns `x` to `v` and returns it."""
    made = function(
        name,
        [op("assign", "AssignVariableOp", "v", "x", dtype=FLOAT)],
        {"y": "x"},
        {"x": FLOAT, "v": RESOURCE},
    )
    made.signature.control_output.append("assign")
    made.control_ret["assign"] = "assign"
    return made


def passing(name: str) -> tf_pb.FunctionDef:
    """A function that returns `x`, and assigns nothing."""
    return function(name, [], {"y": "x"}, {"x": FLOAT, "v": RESOURCE})


def running(name: str, kind: str, inputs: Iterable[str], **functions: str) -> tf_pb.NodeDef:
    """A node that runs functions of a float and a handle."""
    node = tf_pb.NodeDef(name=name, op=kind, input=inputs)
    for attr, called in functions.items():
        node.attr[attr].func.name = called
    types = [FLOAT, RESOURCE] if kind == "While" else [FLOAT]
    if kind == "While":
        node.attr["T"].list.type.extend(types)
    else:
        node.attr["Tin"].list.type.extend([FLOAT, RESOURCE])
        node.attr["Tout"].list.type.extend(types)
    if kind == "If":
        node.attr["Tcond"].type = BOOL
    return node


def effects(
    nodes: Iterable[tf_pb.NodeDef],
    functions: Iterable[tf_pb.FunctionDef],
    outputs: Iterable[str] = (),
    run: Iterable[str] = (),
) -> Effects:
    handles = [op(name, "VarHandleOp", dtype=FLOAT) for name in ("a", "b")]
    for handle in handles:
        handle.attr["shape"].shape.SetInParent()
    inputs = [op("x", "Placeholder", dtype=FLOAT), op("p", "Placeholder", dtype=BOOL)]
    graph = Graph([*handles, *inputs, *nodes], OpTable(), functions)
    check_graph(graph)
    tensors = [Tensor(name, 0) for name in outputs]
    return EffectsReader(Bodies(graph)).of_graph(graph, tensors, run)


def test_only_what_runs_counts() -> None:
    nodes = [
        op("to_a", "AssignVariableOp", "a", "x", dtype=FLOAT),
        op("to_b", "AssignAddVariableOp", "b", "x", dtype=FLOAT),
    ]
    assert effects(nodes, [], run=["to_a"]).written.keys() == {"a"}
    assert effects(nodes, [], outputs=["x"]).written.keys() == set()
    assert effects(nodes, [], run=["to_a", "to_b"]).written.keys() == {"a", "b"}


def test_references_are_followed_to_their_variable() -> None:
    variable = op("r", "VariableV2", dtype=FLOAT)
    variable.attr["shape"].shape.SetInParent()
    nodes = [
        variable,
        op("switch", "RefSwitch", "r", "p", T=FLOAT),
        op("assign", "Assign", "switch:1", "x", T=FLOAT),
        op("value", "Identity", "r", T=FLOAT),
    ]
    assert effects(nodes, [], run=["assign"]).written.keys() == {"r"}
    assert effects(nodes, [], outputs=["value"]).written.keys() == set()


def test_calls_are_followed() -> None:
    outer = function(
        "outer",
        [running("call", "StatefulPartitionedCall", ["x", "v"], f="inner")],
        {"y": "call:output:0"},
        {"x": FLOAT, "v": RESOURCE},
    )
    nodes = [running("outer_call", "StatefulPartitionedCall", ["x", "b"], f="outer")]
    found = effects(nodes, [assigning("inner"), outer], outputs=["outer_call"])
    assert found.written.keys() == {"b"}


def test_either_branch_counts_unless_the_predicate_is_known() -> None:
    functions = [assigning("then"), passing("else_")]
    branches = {"then_branch": "then", "else_branch": "else_"}
    nodes = [running("if", "If", ["p", "x", "a"], **branches)]
    assert effects(nodes, functions, outputs=["if"]).written.keys() == {"a"}
    for value in (True, False):
        constant = op("known", "Const", dtype=BOOL)
        constant.attr["value"].CopyFrom(bool_tensor_attr(value))
        nodes = [constant, running("if", "If", ["known", "x", "a"], **branches)]
        wanted = {"a"} if value else set()
        assert effects(nodes, functions, outputs=["if"]).written.keys() == wanted


def test_a_known_argument_chooses_the_branch_of_a_function() -> None:
    outer = function(
        "outer",
        [running("if", "If", ["p", "x", "v"], then_branch="then", else_branch="else_")],
        {"y": "if:output:0"},
        {"p": BOOL, "x": FLOAT, "v": RESOURCE},
    )
    graph = Graph([], OpTable(), [outer, assigning("then"), passing("else_")])
    check_graph(graph)
    reader = EffectsReader(Bodies(graph))
    assert reader.of_function("outer")[1].written.keys() == {"v"}
    assert reader.of_function("outer", ((0, True),))[1].written.keys() == {"v"}
    assert reader.of_function("outer", ((0, False),))[1].written.keys() == set()


def test_loops_are_followed() -> None:
    condition = function(
        "condition", [op("no", "Const", dtype=BOOL)], {"go": "no:output:0"},
        {"x": FLOAT, "v": RESOURCE}, {"go": BOOL},
    )  # fmt: skip
    condition.node_def[0].attr["value"].CopyFrom(bool_tensor_attr(False))
    body = assigning("body")
    body.signature.output_arg.add(name="w", type=RESOURCE)
    body.ret["w"] = "v"
    loop = running("loop", "While", ["x", "a"], cond="condition", body="body")
    after = op("after", "AssignVariableOp", "loop:1", "x", dtype=FLOAT)
    assert effects([loop], [condition, body], outputs=["loop"]).written.keys() == {"a"}
    found = effects([loop, after], [condition, passing_loop()], run=["after"])
    assert found.written.keys() == {"a"}


def passing_loop() -> tf_pb.FunctionDef:
    made = passing("body")
    made.signature.output_arg.add(name="w", type=RESOURCE)
    made.ret["w"] = "v"
    return made


def test_a_write_that_nobody_understands_is_refused() -> None:
    node = op("mapped", "RemoteCall", "target", "x", "a")
    node.attr["f"].func.name = "inner"
    node.attr["Tin"].list.type.extend([FLOAT, RESOURCE])
    node.attr["Tout"].list.type.append(FLOAT)
    target = op("target", "Placeholder", dtype=tf_pb.DT_STRING)
    with pytest.raises(bridge.UnsupportedError, match="which one is not known"):
        effects([target, node], [assigning("inner")], outputs=["mapped"])
    assert effects([target, node], [passing("inner")], outputs=["mapped"]).written == {}


def test_seeds_are_told_from_values() -> None:
    nodes = [
        op("read", "ReadVariableOp", "a", dtype=FLOAT),
        op("seed", "Cast", "read", SrcT=FLOAT, DstT=tf_pb.DT_INT32),
        op("drawn", "StatelessRandomUniform", "shape", "seed"),
        op("shape", "Placeholder", dtype=tf_pb.DT_INT32),
        op("y", "AddV2", "drawn", "x", T=FLOAT),
        op("z", "AddV2", "y", "read", T=FLOAT),
    ]
    for node in nodes[2:3]:
        for name, dtype in (("dtype", FLOAT), ("T", tf_pb.DT_INT32), ("Tseed", tf_pb.DT_INT32)):
            node.attr[name].CopyFrom(type_attr(dtype))
    found = effects(nodes, [], outputs=["y"])
    assert (found.seeds, found.needed_otherwise()) == ({"a"}, frozenset())
    found = effects(nodes, [], outputs=["z"])
    assert (found.seeds, found.needed_otherwise()) == ({"a"}, {"a"})
