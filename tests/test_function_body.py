"""Function bodies name tensors, arguments and outputs as TensorFlow's function.proto says."""

from __future__ import annotations

import pytest

from bridge.errors import MalformedError
from bridge.function_body import FunctionArg, argument_name, build_function
from bridge.graph import Graph, Tensor
from bridge.opsets import OpTable
from bridge.proto import tf_pb


def attr(dtype=tf_pb.DT_FLOAT):
    return tf_pb.AttrValue(type=dtype)


@pytest.fixture
def graph():
    graph = Graph([], OpTable())
    graph.add("Placeholder", "X", dtype=attr())
    graph.add("VarHandleOp", "v", dtype=attr(), shape=tf_pb.AttrValue())
    graph.add("ReadVariableOp", "read", ["v", "^X"], dtype=attr())
    graph.add("Switch", "switch", ["X", "flag"], T=attr())
    graph.add("Const", "flag", dtype=attr(tf_pb.DT_BOOL), value=tf_pb.AttrValue())
    graph.add("Add", "sum", ["switch:1", "read"], T=attr()).device = "/cpu:0"
    graph.nodes["sum"].attr["_class"].list.s.append(b"loc:@v")
    return graph


def data(size):
    shape = tf_pb.TensorShapeProto(dim=[tf_pb.TensorShapeProto.Dim(size=size)])
    return (tf_pb.ResourceHandleProto.DtypeAndShape(dtype=tf_pb.DT_FLOAT, shape=shape),)


ARGS = [
    FunctionArg("X", (Tensor("X", 0),), tf_pb.DT_FLOAT, (None, 3)),
    FunctionArg("Sum", (Tensor("v", 0),), tf_pb.DT_RESOURCE, (), data(3)),
]


def test_bodies_read_arguments_by_name_and_nodes_by_output_argument(graph):
    body = {"read", "switch", "flag", "sum"}
    function = build_function(graph, "f", body, ARGS, outputs=[("sum", Tensor("sum", 0))])
    nodes = {node.name: node for node in function.node_def}
    assert list(nodes) == ["read", "switch", "flag", "sum"]
    assert list(nodes["switch"].input) == ["x", "flag:output:0"]
    assert list(nodes["sum"].input) == ["switch:output_true:0", "read:value:0"]
    assert list(nodes["read"].input) == ["sum_1"]  # `sum` is a node; the control edge is gone
    assert function.ret["sum"] == "sum:z:0"
    assert function.signature.is_stateful


def test_places_outside_the_function_are_cleared(graph):
    body = {"read", "switch", "flag", "sum"}
    function = build_function(graph, "f", body, ARGS, outputs=[])
    node = function.node_def[3]
    assert (node.device, "_class" in node.attr) == ("", False)
    assert graph.nodes["sum"].device == "/cpu:0"


def test_shapes_and_handle_data_are_told(graph):
    function = build_function(graph, "f", ["read"], ARGS, outputs=[])
    shape = function.arg_attr[0].attr["_output_shapes"].list.shape[0]
    assert [dim.size for dim in shape.dim] == [-1, 3]
    assert function.signature.input_arg[1].handle_data[0].shape.dim[0].size == 3
    assert function.node_def[0].attr["_output_shapes"].list.shape[0].dim[0].size == 3


def test_an_argument_may_be_an_output(graph):
    outputs = [("y", Tensor("X", 0)), ("y", Tensor("X", 0))]
    function = build_function(graph, "f", [], ARGS, outputs=outputs)
    assert dict(function.ret) == {"y": "x", "y_1": "x"}
    assert [arg.type for arg in function.signature.output_arg] == [tf_pb.DT_FLOAT] * 2


def test_control_outputs_are_listed(graph):
    function = build_function(graph, "f", ["read"], ARGS, outputs=[], control_outputs=["read"])
    assert list(function.signature.control_output) == ["read"]
    assert dict(function.control_ret) == {"read": "read"}


@pytest.mark.parametrize("args", [ARGS[:1], ARGS[1:]])
def test_a_body_that_needs_more_than_it_gets_is_refused(graph, args):
    with pytest.raises(MalformedError):
        build_function(graph, "f", ["read"], args, outputs=[])


def test_names_are_made_to_fit():
    assert [argument_name(n) for n in ("Images:0", "_x", "9", "a/B-c")] == [
        "images_0",
        "arg_x",
        "arg_9",
        "a_b_c",
    ]


def test_many_arguments_of_one_name_are_numbered_without_much_ado(graph):
    args = [FunctionArg("a", (), tf_pb.DT_FLOAT) for _ in range(5000)]
    function = build_function(graph, "f", [], args, outputs=[])
    names = [arg.name for arg in function.signature.input_arg]
    assert [*names[:3], names[-1]] == ["a", "a_1", "a_2", "a_4999"]
