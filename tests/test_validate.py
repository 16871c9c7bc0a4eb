"""What a graph may be; tests/attacks has what it may not be."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from bridge.errors import MalformedError
from bridge.graph import Graph
from bridge.opsets import OpTable
from bridge.proto import tf_pb
from bridge.validate import check_graph


def body(name: str = "f") -> tf_pb.FunctionDef:
    """A function that splits its first argument in two, and returns the second part."""
    result = tf_pb.FunctionDef()
    result.signature.name = name
    result.signature.input_arg.add(name="x", type=tf_pb.DT_FLOAT)
    result.signature.output_arg.add(name="y", type=tf_pb.DT_FLOAT)
    axis = result.node_def.add(name="axis", op="Const")
    axis.attr["dtype"].type = tf_pb.DT_INT32
    split = result.node_def.add(name="split", op="Split", input=["axis:output:0", "x", "^x"])
    split.attr["num_split"].i = 2
    split.attr["T"].type = tf_pb.DT_FLOAT
    result.ret["y"] = "split:output:1"
    return result


def check(*functions: tf_pb.FunctionDef) -> None:
    check_graph(Graph([], OpTable(), functions))


def test_a_body_reads_arguments_outputs_and_control_edges() -> None:
    check(body())


def test_a_body_may_return_its_argument_and_run_more() -> None:
    function = body()
    function.ret["y"] = "x"
    function.signature.control_output.append("done")
    function.control_ret["done"] = "split"
    check(function)


def test_a_body_may_call_other_functions_by_op_and_by_attribute() -> None:
    outer = body("outer")
    outer.node_def.add(name="by_op", op="f", input=["x"])
    call = outer.node_def.add(name="by_attr", op="PartitionedCall", input=["by_op:y:0"])
    call.attr["Tin"].list.type.append(tf_pb.DT_FLOAT)
    call.attr["Tout"].list.type.append(tf_pb.DT_FLOAT)
    call.attr["f"].func.name = "f"
    outer.ret["y"] = "by_attr:output:0"
    check(outer, body())


def test_what_another_graph_was_checked_with_is_not_judged_again() -> None:
    checked: set[str] = set()
    check_graph(Graph([], OpTable(), [body()]), checked)
    assert checked == {"f"}
    broken = body()
    del broken.ret["y"]
    check_graph(Graph([], OpTable(), [broken]), checked)
    with pytest.raises(MalformedError):
        check(broken)
    broken.signature.name = "g"
    with pytest.raises(MalformedError):
        check_graph(Graph([], OpTable(), [broken]), checked)


def test_a_number_of_outputs_that_a_caller_gives_is_not_judged() -> None:
    function = body()
    function.node_def[1].attr["num_split"].Clear()
    function.node_def[1].attr["num_split"].placeholder = "N"
    check(function)


def test_an_op_that_nobody_knows_is_left_to_check_ops() -> None:
    function = body()
    function.node_def[1].op = "MyOwnOp"
    check(function)


@pytest.mark.parametrize("tensor", ["split", "split:output", "split:output:2", "x:0", "^split", ""])
def test_other_forms_of_a_result_are_refused(tensor: str) -> None:
    function = body()
    function.ret["y"] = tensor
    with pytest.raises(MalformedError, match="not there"):
        check(function)


def test_few_bytes_do_not_become_much_memory() -> None:
    graph = tf_pb.GraphDef()
    axis = graph.node.add(name="axis", op="Const")
    axis.attr["dtype"].type = tf_pb.DT_INT32
    value = graph.node.add(name="value", op="Const")
    value.attr["dtype"].type = tf_pb.DT_FLOAT
    for number in range(2000):
        split = graph.node.add(name=f"split_{number}", op="Split", input=["axis", "value"])
        split.attr["num_split"].i = 1 << 16
        split.attr["T"].type = tf_pb.DT_FLOAT
    made = Graph(graph.node, OpTable())
    tracemalloc.start()
    started = time.monotonic()
    with pytest.raises(MalformedError, match="more than 1048576 outputs"):
        check_graph(made)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20
    assert time.monotonic() - started < 10
