"""Nodes and edges that only tie others together go."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.graph import Graph
from bridge.model import INFERENCE, Component, Encoding, Endpoint, Signature, Variant
from bridge.opsets import OpTable
from bridge.passes.forward_identities import ForwardIdentities
from bridge.proto import tf_pb
from bridge.report import Report
from tests.saved_model.handmade import FLOAT, op
from tests.saved_model.tiny import placeholder


def dense(name: str) -> Endpoint:
    return Endpoint(Encoding.DENSE, FLOAT, None, (Component(name, FLOAT, None),))


def variant_of(
    nodes: Sequence[tf_pb.NodeDef], output: str = "y:0", inputs: Sequence[str] = ("x:0",)
) -> Variant:
    graph = Graph([placeholder("x"), *nodes], OpTable(()))
    taken = {f"i{i}": dense(name) for i, name in enumerate(inputs)}
    signature = Signature("default", taken, {"default": dense(output)})
    return Variant(INFERENCE, graph, {"default": signature})


def run(variant: Variant) -> int:
    return ForwardIdentities().rewrite(variant, Report("source", None, "to-hub-module"))


def output(variant: Variant) -> str:
    return variant.signatures["default"].outputs["default"].components[0].name


def identity(name: str, *inputs: str) -> tf_pb.NodeDef:
    return op(name, "Identity", *inputs, T=FLOAT)


def relu(name: str, *inputs: str) -> tf_pb.NodeDef:
    return op(name, "Relu", *inputs, T=FLOAT)


def inputs(variant: Variant, name: str) -> list[str]:
    return list(variant.graph.nodes[name].input)


def test_readers_of_an_identity_read_its_input() -> None:
    top = op("t", "TopKV2", "x", "n", T=FLOAT)
    number = op("n", "Placeholder", dtype=tf_pb.DT_INT32)
    nodes = [number, top, identity("a", "t:1"), identity("b", "a:0"), relu("r", "b"),
             identity("y", "r")]  # fmt: skip
    variant = variant_of(nodes)
    variant.regularization_losses = ["b:0"]
    assert run(variant) == 3
    assert inputs(variant, "r") == ["t:1"]
    assert output(variant) == "r:0"
    assert variant.regularization_losses == ["t:1"]


def test_an_identity_that_is_an_input_or_an_update_op_stays() -> None:
    nodes = [identity("a", "x"), identity("u", "x"), relu("y", "a"), relu("z", "u")]
    variant = variant_of(nodes, inputs=["a:0"])
    variant.update_ops = {"u": "u"}
    assert run(variant) == 0
    assert inputs(variant, "y") == ["a"]
    assert inputs(variant, "z") == ["u"]


def test_ties_to_what_has_no_effect_are_cut() -> None:
    nodes = [
        op("v", "VarHandleOp", dtype=FLOAT),
        op("read", "ReadVariableOp", "v", dtype=FLOAT),
        op("tie", "NoOp", "^read"),
        identity("y", "x", "^tie", "^read"),
    ]
    variant = variant_of(nodes)
    assert run(variant) == 4
    assert inputs(variant, "y") == ["x"]
    assert output(variant) == "x:0"


def test_what_waits_for_an_effect_still_does() -> None:
    guard = op("guard", "Assert", "c", "x")
    guard.attr["T"].list.type.append(FLOAT)
    nodes = [
        op("c", "Placeholder", dtype=tf_pb.DT_BOOL),
        guard,
        op("tie", "NoOp", "^guard"),
        relu("r", "x"),
        identity("y", "r", "^tie"),
    ]
    variant = variant_of(nodes)
    assert run(variant) == 0
    assert inputs(variant, "y") == ["r", "^tie"]
    assert output(variant) == "y:0"


def test_a_write_still_waits_for_the_reads_before_it() -> None:
    nodes = [
        op("v", "VarHandleOp", dtype=FLOAT),
        op("read", "ReadVariableOp", "v", dtype=FLOAT),
        op("tie", "NoOp", "^read"),
        op("write", "AssignVariableOp", "v", "x", "^tie", "^read", dtype=FLOAT),
        relu("y", "read", "^tie"),
    ]
    variant = variant_of(nodes)
    assert run(variant) == 1
    assert inputs(variant, "write") == ["v", "x", "^tie", "^read"]
    assert inputs(variant, "tie") == ["^read"]
    assert inputs(variant, "y") == ["read"]


def test_what_writes_in_a_branch_still_waits_for_reads() -> None:
    branch = tf_pb.FunctionDef()
    branch.signature.name = "branch"
    branch.signature.input_arg.add(name="v", type=tf_pb.DT_RESOURCE)
    branch.signature.input_arg.add(name="x", type=FLOAT)
    branch.node_def.append(op("write", "AssignVariableOp", "v", "x", dtype=FLOAT))
    branch.signature.control_output.append("write")
    branch.control_ret["write"] = "write"
    choice = op("if", "If", "p", "v", "x", "^read")
    choice.attr["Tcond"].type = tf_pb.DT_BOOL
    choice.attr["Tin"].list.type.extend([tf_pb.DT_RESOURCE, FLOAT])
    for name in ("then_branch", "else_branch"):
        choice.attr[name].func.name = "branch"
    nodes = [
        op("p", "Placeholder", dtype=tf_pb.DT_BOOL),
        op("v", "VarHandleOp", dtype=FLOAT),
        op("read", "ReadVariableOp", "v", dtype=FLOAT),
        relu("y", "read"),
        choice,
    ]
    variant = variant_of(nodes)
    variant.graph.functions["branch"] = branch
    run(variant)
    assert inputs(variant, "if") == ["p", "v", "x", "^read"]


def test_a_tensor_has_one_name() -> None:
    variant = variant_of([relu("a", "x:0"), relu("y", "a")])
    run(variant)
    assert inputs(variant, "a") == ["x"]
