"""A graph of calls becomes a flat one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.attrs import shapes_attr, type_attr
from bridge.errors import MalformedError
from bridge.graph import Graph
from bridge.model import INFERENCE, Component, Encoding, Endpoint, Signature, Variant
from bridge.opsets import OpTable
from bridge.passes.inline_calls import InlineCalls
from bridge.proto import tf_pb
from bridge.report import Report
from tests.saved_model.handmade import FLOAT, call, function, op, scaled

BOOL, RESOURCE = tf_pb.DT_BOOL, tf_pb.DT_RESOURCE


def dense(name: str, dtype: int = FLOAT) -> Endpoint:
    return Endpoint(Encoding.DENSE, dtype, (None,), (Component(name, dtype, (None,)),))


def variant_of(*functions: tf_pb.FunctionDef, output: int = FLOAT) -> Variant:
    """A variant whose output is a call of the first function with its input."""
    graph = Graph([], OpTable(()), functions)
    graph.add("Placeholder", "x", dtype=type_attr(FLOAT))
    graph.nodes["call"] = call("call", functions[0].signature.name, "x")
    graph.nodes["call"].attr["Tout"].list.type[:] = [
        arg.type for arg in functions[0].signature.output_arg
    ]
    signature = Signature("default", {"x": dense("x:0")}, {"default": dense("call:0", output)})
    return Variant(INFERENCE, graph, {"default": signature})


def run(variant: Variant) -> int:
    return InlineCalls().rewrite(variant, Report("source", None, "to-hub-module"))


def conditional(then: str = "double", otherwise: str = "triple") -> tf_pb.FunctionDef:
    node = op("y", "If", "p:z:0", "x", Tcond=BOOL)
    node.attr["then_branch"].func.name = then
    node.attr["else_branch"].func.name = otherwise
    node.attr["Tin"].list.type.append(FLOAT)
    node.attr["Tout"].list.type.append(FLOAT)
    return function("main", [op("p", "Less", "x", "x", T=FLOAT), node], {"y": "y:output:0"})


def test_signatures_losses_and_initializers_follow() -> None:
    variant = variant_of(scaled("double", 2.0))
    variant.regularization_losses = ["call:0", "x:0"]
    write = op("write", "AssignVariableOp", "v", "x", dtype=FLOAT)
    fill = function("fill", [write], {"y": "x"}, {"x": FLOAT, "v": RESOURCE})
    fill.signature.control_output.append("write")
    fill.control_ret["write"] = "write"
    variant.graph.functions["fill"] = fill
    variant.graph.add("VarHandleOp", "v", dtype=type_attr(FLOAT))
    variant.graph.nodes["init"] = call("init", "fill", "x", "v")
    variant.table_initializers = ["init"]
    assert run(variant) == 2
    output = variant.signatures["default"].outputs["default"]
    assert output.components[0].name == "call/y"
    assert variant.regularization_losses == ["call/y", "x:0"]
    assert variant.table_initializers == ["init/write"]
    assert variant.graph.functions == {}


def test_branches_stay_functions_without_calls() -> None:
    body = function("double", [call("c", "times", "x")], {"y": "c:output:0"})
    body.arg_attr[0].attr["_output_shapes"].CopyFrom(shapes_attr([(None, 3)]))
    variant = variant_of(conditional(), body, scaled("times", 2.0), scaled("triple", 3.0))
    assert run(variant) == 2
    functions = variant.graph.functions
    assert sorted(functions) == ["double", "triple"]
    flat = functions["double"]
    assert [node.op for node in flat.node_def] == ["Const", "Mul"]
    assert flat.ret["y"] == f"{flat.node_def[1].name}:z:0"
    assert flat.node_def[1].input[0] == "x"
    assert [arg.name for arg in flat.signature.input_arg] == ["x"]
    shapes = flat.arg_attr[0].attr["_output_shapes"].list.shape
    assert [dim.size for dim in shapes[0].dim] == [-1, 3]


def test_each_variant_gets_functions_of_its_own() -> None:
    shared = [conditional(), scaled("double", 2.0), scaled("triple", 3.0)]
    variants = [variant_of(*shared) for _ in range(2)]
    for variant in variants:
        run(variant)
    first, second = (variant.graph.functions["double"] for variant in variants)
    assert first == second
    assert first is not second
    assert first is not shared[1]


def test_what_a_branch_must_run_it_still_must() -> None:
    write = op("write", "AssignVariableOp", "v", "x", dtype=FLOAT)
    inner = function("inner", [write], {"y": "x"}, {"x": FLOAT, "v": RESOURCE})
    inner.signature.control_output.append("write")
    inner.control_ret["write"] = "write"
    branches = []
    for name in ("double", "triple"):
        made = function(
            name, [call("c", "inner", "x", "v")], {"y": "c:output:0"}, {"x": FLOAT, "v": RESOURCE}
        )
        made.signature.control_output.append("c")
        made.control_ret["c"] = "c"
        branches.append(made)
    main = conditional()
    main.signature.input_arg.add(name="v", type=RESOURCE)
    main.node_def[1].input.append("v")
    main.node_def[1].attr["Tin"].list.type.append(RESOURCE)
    variant = variant_of(main, inner, *branches)
    variant.graph.add("VarHandleOp", "v", dtype=type_attr(FLOAT))
    variant.graph.nodes["call"].input.append("v")
    variant.graph.nodes["call"].attr["Tin"].list.type.append(RESOURCE)
    run(variant)
    for name in ("double", "triple"):
        flat = variant.graph.functions[name]
        assert flat.ret["y"] == "x"
        assert [flat.control_ret[c] for c in flat.signature.control_output] == ["c/write"]


def test_branches_lose_names_that_old_releases_do_not_take() -> None:
    odd = [op("a>b", "Identity", "x", T=FLOAT), op("a_b", "Identity", "a>b:output:0", T=FLOAT)]
    body = function("double", odd, {"y": "a_b:output:0"})
    body.signature.control_output.append("a>b")
    body.control_ret["a>b"] = "a>b"
    variant = variant_of(conditional(), body, scaled("triple", 3.0))
    run(variant)
    flat = variant.graph.functions["double"]
    assert [node.name for node in flat.node_def] == ["a_b_1", "a_b"]
    assert flat.node_def[1].input[:] == ["a_b_1:output:0"]
    assert list(flat.control_ret.values()) == ["a_b_1"]


# -- what is checked -------------------------------------------------------------------------------


def refused(variant: Variant) -> str:
    with pytest.raises(MalformedError) as caught:
        run(variant)
    return str(caught.value)


def test_types_are_checked_where_the_nodes_stand_now() -> None:
    wrong = scaled("double", 2.0)
    wrong.node_def[0].attr["dtype"].type = tf_pb.DT_INT32
    assert "is int32, op Mul takes float32" in refused(variant_of(wrong))
    branched = variant_of(conditional(), wrong, scaled("triple", 3.0))
    assert "is int32, op Mul takes float32" in refused(branched)


def test_cycles_are_found_in_functions() -> None:
    nodes = [op("a", "Neg", "b:y:0", T=FLOAT), op("b", "Neg", "a:y:0", T=FLOAT)]
    cycle = function("double", nodes, {"y": "a:y:0"})
    assert "cycle" in refused(variant_of(cycle))
    assert "cycle" in refused(variant_of(conditional(), cycle, scaled("triple", 3.0)))


@pytest.mark.parametrize(
    "branch",
    [
        function("double", [], {"y": "z"}, {"x": FLOAT, "z": FLOAT}),
        function("double", [], {"y": "x", "z": "x"}),
        function("double", [], {}),
        function("double", [], {"y": "x"}, {"x": BOOL}, {"y": BOOL}),
    ],
    ids=["takes more", "gives more", "gives nothing", "takes a bool"],
)
def test_branches_must_take_and_give_what_their_node_does(branch: tf_pb.FunctionDef) -> None:
    text = refused(variant_of(conditional(), branch, scaled("triple", 3.0)))
    assert "'double' takes or returns other tensors" in text


def loop(cond: tf_pb.FunctionDef, body: tf_pb.FunctionDef) -> Variant:
    node = op("y", "While", "x")
    node.attr["T"].list.type.append(FLOAT)
    node.attr["cond"].func.name = "cond"
    node.attr["body"].func.name = "body"
    return variant_of(function("main", [node], {"y": "y:output:0"}), cond, body)


def test_loops_must_take_and_give_what_their_node_does() -> None:
    less = op("less", "Less", "x", "x", T=FLOAT)
    good = function("cond", [less], {"y": "less:z:0"}, types={"y": BOOL})
    run(loop(good, scaled("body", 2.0)))
    two = function("body", [], {"y": "x", "z": "x"})
    assert "'body' takes or returns other tensors" in refused(loop(good, two))
    both = function(
        "cond", [less], {"y": "less:z:0", "z": "less:z:0"}, types=dict.fromkeys("yz", BOOL)
    )
    assert "'cond' takes or returns other tensors" in refused(loop(both, scaled("body", 2.0)))


def test_an_output_must_be_what_the_signature_says() -> None:
    assert "is float32, its function says int32" in refused(
        variant_of(scaled("double", 2.0), output=tf_pb.DT_INT32)
    )


def test_an_output_must_be_there() -> None:
    variant = variant_of(scaled("double", 2.0))
    moved = dense("call:1")
    signature = variant.signatures["default"]
    variant.signatures["default"] = replace(signature, outputs={"default": moved})
    assert "no such node" in refused(variant)
