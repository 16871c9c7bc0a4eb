"""Calls of functions by their names become PartitionedCalls, and whatever reads them follows."""

from __future__ import annotations

from bridge.graph import Graph
from bridge.model import INFERENCE, Variant
from bridge.opsets import OpTable
from bridge.passes.call_functions import CallFunctions
from bridge.proto import tf_pb
from bridge.report import Report

OUTPUTS = 40  # Many, since the order in which protobuf walks a map differs from process to process.


def defun(name: str) -> tf_pb.FunctionDef:
    function = tf_pb.FunctionDef()
    function.signature.name = name
    function.signature.input_arg.add(name="x", type=tf_pb.DT_FLOAT)
    for number in range(OUTPUTS):
        function.signature.output_arg.add(name=f"y{number}", type=tf_pb.DT_FLOAT)
        function.ret[f"y{number}"] = "x"
    return function


def test_all_outputs_of_a_body_follow_a_call_in_it() -> None:
    inner, outer = defun("inner"), defun("outer")
    outer.node_def.append(tf_pb.NodeDef(name="call", op="inner", input=["x"]))
    outer.node_def.append(tf_pb.NodeDef(name="last", op="Relu", input=[f"call:y{OUTPUTS - 1}:0"]))
    for number in range(OUTPUTS):
        outer.ret[f"y{number}"] = f"call:y{number}:0"
    graph = Graph([], OpTable(), (inner, outer))
    assert CallFunctions().rewrite(Variant(INFERENCE, graph), Report("", None, "")) == 1
    call, last = outer.node_def
    assert (call.op, call.attr["f"].func.name) == ("PartitionedCall", "inner")
    assert list(last.input) == [f"call:output:{OUTPUTS - 1}"]
    assert dict(outer.ret) == {f"y{n}": f"call:output:{n}" for n in range(OUTPUTS)}
