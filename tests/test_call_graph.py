"""Which functions refer to which."""

from __future__ import annotations

import pytest

from bridge.attrs import function_attr, shapes_attr
from bridge.call_graph import CallGraph, keep_called_functions
from bridge.errors import MalformedError
from bridge.graph import Graph
from bridge.opsets import OpTable
from bridge.proto import tf_pb


def library(**calls: list[str]) -> Graph:
    """Returns a graph whose functions each call others."""
    functions = []
    for name, called in calls.items():
        function = tf_pb.FunctionDef()
        function.signature.name = name
        for number, other in enumerate(called):
            node = function.node_def.add(name=f"call_{number}", op="PartitionedCall")
            node.attr["f"].CopyFrom(function_attr(other))
        functions.append(function)
    return Graph([], OpTable(), functions)


def test_functions_come_after_those_that_they_call() -> None:
    graph = library(top=["left", "right"], left=["base"], base=[], right=["base", "left", "base"])
    assert CallGraph(graph).callees_first() == ["base", "left", "right", "top"]


@pytest.mark.parametrize(
    "graph",
    [library(a=["a"]), library(a=["b"], b=["c"], c=["b"]), library(a=["b", "c"], b=["c"], c=["a"])],
)
def test_no_order_has_a_function_that_calls_itself(graph: Graph) -> None:
    with pytest.raises(MalformedError, match="calls itself"):
        CallGraph(graph).callees_first()


def test_a_node_may_refer_to_functions_in_any_attribute() -> None:
    graph = library(f=[], g=[], h=[], i=[])
    node = tf_pb.NodeDef(name="n", op="f")
    node.attr["z"].CopyFrom(function_attr("g"))
    node.attr["a"].list.func.add(name="i")
    node.attr["a"].list.func.add(name="h")
    node.attr["_output_shapes"].CopyFrom(shapes_attr([(2,)]))
    assert graph.called_functions(node) == ["f", "i", "h", "g"]


def test_functions_that_nothing_reaches_go_with_their_gradients() -> None:
    graph = library(f=["g"], g=[], grad_g=["h"], h=[], other=["g"])
    graph.gradients = [
        tf_pb.GradientDef(function_name="g", gradient_func="grad_g"),
        tf_pb.GradientDef(function_name="other", gradient_func="f"),
    ]
    graph.add("PartitionedCall", "call", f=function_attr("f"))
    assert keep_called_functions(graph) == 1
    assert list(graph.functions) == ["f", "g", "grad_g", "h"]
    assert [gradient.function_name for gradient in graph.gradients] == ["g"]
