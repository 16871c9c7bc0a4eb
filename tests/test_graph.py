"""A graph knows names, edges and orders of its nodes."""

from __future__ import annotations

import pytest

from bridge.attrs import type_attr
from bridge.errors import MalformedError
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.opsets import OpTable
from bridge.proto import tf_pb

FLOAT = type_attr(tf_pb.DT_FLOAT)


@pytest.fixture
def graph():
    return Graph([], OpTable())


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("a", Tensor("a", 0)),
        ("a/b:1", Tensor("a/b", 1)),
        ("^a", Tensor("a", -1)),
        ("a:2147483647", Tensor("a", 2147483647)),
    ],
)
def test_names_of_tensors_are_parsed(name, tensor):
    assert parse_tensor(name) == tensor


@pytest.mark.parametrize(
    "index", ["", "x", "-1", "+1", " 1", "1_0", "٣", "²", "2147483648", "99999999999", "9" * 5000]
)
def test_an_index_that_no_output_can_have_is_refused(index):
    with pytest.raises(MalformedError, match="is not a tensor name"):
        parse_tensor(f"a:{index}")


def test_control_inputs_are_put_after_data_inputs(graph):
    node = graph.add("Add", "sum", ["^b", "x", "^a", "y"], T=FLOAT)
    assert list(node.input) == ["x", "y", "^b", "^a"]


def test_a_name_is_given_to_one_node_only(graph):
    graph.add("NoOp", "a")
    with pytest.raises(MalformedError, match="the same name"):
        graph.add("Const", "a")
    assert graph.nodes["a"].op == "NoOp"


def test_taken_names_get_the_first_free_number(graph):
    for name in ("a", "a_1", "a_3"):
        graph.add("NoOp", name)
    assert graph.unique_name("b") == "b"
    assert graph.unique_name("a") == graph.unique_name("a") == "a_2"
    graph.add("NoOp", "a_2")
    assert graph.unique_name("a") == "a_4"


def test_many_equal_names_are_numbered_without_much_ado(graph):
    for _ in range(5000):
        graph.add("NoOp", graph.unique_name("a"))
    assert list(graph.nodes)[-1] == "a_4999"


def test_functions_are_named_as_functions_may_be_and_as_no_op_is(graph):
    graph.functions["a_b"] = tf_pb.FunctionDef()
    assert graph.unique_function_name("a/b") == "a_b_1"
    assert graph.unique_function_name("Add") == "Add_1"
    assert graph.unique_function_name("new") == "new"


def test_the_topological_order_has_inputs_before_readers_and_leaves_loops_open(graph):
    graph.add("Merge", "merge", ["enter", "next"])
    graph.add("NextIteration", "next", ["merge"])
    graph.add("NoOp", "last", ["^next"])
    graph.add("Enter", "enter", ["x"])
    graph.add("Placeholder", "x")
    assert graph.topological_order() == ["x", "enter", "merge", "next", "last"]
    assert graph.topological_order(["next", "merge"]) == ["merge", "next"]


@pytest.mark.parametrize("op", ["Identity", "NextIteration"])
def test_the_topological_order_leaves_out_cycles_and_what_follows_them(graph, op):
    graph.add("NoOp", "free")
    graph.add("Identity", "a", ["b"])
    graph.add(op, "b", ["a"])
    graph.add("NoOp", "after", ["^a"])
    assert graph.topological_order() == ["free"]


def test_descendants_follow_single_outputs_and_may_be_stopped(graph):
    graph.add("Switch", "switch", ["x", "p"])
    graph.add("Placeholder", "x")
    graph.add("Placeholder", "p")
    graph.add("Identity", "no", ["switch"])
    graph.add("Identity", "yes", ["switch:1"])
    graph.add("NoOp", "done", ["^yes"])
    consumers = graph.consumers()
    assert graph.descendants([Tensor("switch", 1)]) == {"yes", "done"}
    assert graph.descendants([Tensor("switch", 1)], consumers=consumers) == {"yes", "done"}
    found = graph.descendants([Tensor("x", 0)], stop=[Tensor("switch", 0)], consumers=consumers)
    assert found == {"switch", "yes", "done"}
