"""Calls are replaced by what they call."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bridge import inline
from bridge.attrs import bool_tensor_attr, type_attr
from bridge.errors import MalformedError, UnsupportedError
from bridge.graph import Graph
from bridge.inline import Inliner, check_size, node_name
from bridge.opsets import OpTable
from bridge.proto import tf_pb
from tests.saved_model.handmade import FLOAT, call, function, op, scaled
from tests.saved_model.tiny import constant

BOOL = tf_pb.DT_BOOL


def graph_of(*functions: tf_pb.FunctionDef, nodes: Sequence[tf_pb.NodeDef] = ()) -> Graph:
    """A graph with the input `x` that calls the first function by the node `call`."""
    graph = Graph(nodes, OpTable(()), functions)
    graph.add("Placeholder", "x", dtype=type_attr(FLOAT))
    if not nodes:
        graph.nodes["call"] = call("call", functions[0].signature.name, "x")
    return graph


def edges(graph: Graph) -> dict[str, list[str]]:
    return {name: list(node.input) for name, node in graph.nodes.items()}


def assign(name: str, *inputs: str) -> tf_pb.NodeDef:
    return op(name, "AssignVariableOp", *inputs, dtype=FLOAT)


# -- names and data --------------------------------------------------------------------------------


def test_the_nodes_of_a_body_take_the_place_of_a_call() -> None:
    graph = graph_of(scaled("double", 2.0))
    inliner = Inliner(graph)
    assert inliner.run() == 1
    assert edges(graph) == {
        "x": [],
        "call/factor": [],
        "call/y": ["x", "call/factor"],
    }
    assert inliner.resolve("call") == inliner.resolve("call:0") == "call/y"
    assert inliner.resolve("x:0") == "x:0"


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("PartitionedCall", ""),
        ("StatefulPartitionedCall_12", ""),
        ("layer/StatefulPartitionedCall", "layer/"),
        ("layer/own", "layer/own/"),
        ("PartitionedCallOfMine", "PartitionedCallOfMine/"),
    ],
)
def test_a_call_is_a_scope_if_its_name_says_anything(name: str, prefix: str) -> None:
    graph = graph_of(scaled("double", 2.0), nodes=[call(name, "double", "x")])
    Inliner(graph).run()
    assert set(graph.nodes) == {"x", f"{prefix}factor", f"{prefix}y"}


def test_no_two_nodes_get_one_name() -> None:
    taken = constant("call/factor", 5.0)
    again = call("PartitionedCall", "double", "x")
    graph = graph_of(
        scaled("double", 2.0), nodes=[taken, call("call", "double", "x"), again, constant("y", 1.0)]
    )
    Inliner(graph).run()
    assert set(graph.nodes) == {
        "x",
        "y",
        "call/factor",
        "call/factor_1",
        "call/y",
        "factor",
        "y_1",
    }
    assert graph.nodes["call/y"].input[1] == "call/factor_1"


def test_calls_within_calls_are_inlined_too() -> None:
    nodes = [call("a", "double", "x"), call("b", "double", "a:output:0")]
    twice = function("twice", nodes, {"y": "b:output:0"})
    graph = graph_of(twice, scaled("double", 2.0))
    inliner = Inliner(graph)
    assert inliner.run() == 3
    assert graph.nodes["call/b/y"].input[:] == ["call/a/y", "call/b/factor"]
    assert inliner.resolve("call:0") == "call/b/y"


def test_arguments_may_be_returned_as_they_are() -> None:
    same = function("same", [], {"y": "x"})
    through = function("through", [call("c", "same", "x")], {"y": "c:output:0"})
    graph = graph_of(through, same)
    graph.nodes["reader"] = op("reader", "Identity", "call:0", T=FLOAT)
    inliner = Inliner(graph)
    inliner.run()
    assert inliner.resolve("call:0") == "x"
    assert edges(graph) == {"x": [], "reader": ["x"]}


def test_outputs_are_numbered_as_the_op_has_them() -> None:
    split = op("s", "Split", "axis:output:0", "x", T=FLOAT)
    split.attr["num_split"].i = 3
    axis = tf_pb.NodeDef(name="axis", op="Const")
    axis.attr["dtype"].type = tf_pb.DT_INT32
    top = op("t", "TopKV2", "x", "axis:output:0", T=FLOAT)
    made = function(
        "parts",
        [axis, split, top],
        {"a": "s:output:2", "b": "s:output:0", "c": "t:indices:0"},
        types={"c": tf_pb.DT_INT32},
    )
    node = call("call", "parts", "x")
    node.attr["Tout"].list.type[:] = [FLOAT, FLOAT, tf_pb.DT_INT32]
    graph = graph_of(made, nodes=[node])
    inliner = Inliner(graph)
    inliner.run()
    assert [inliner.resolve(f"call:{i}") for i in range(3)] == ["call/s:2", "call/s", "call/t:1"]


def test_a_node_may_have_the_name_of_a_function_as_its_op() -> None:
    graph = graph_of(scaled("double", 2.0), nodes=[op("call", "double", "x")])
    inliner = Inliner(graph)
    assert inliner.run() == 1
    assert inliner.resolve("call") == "call/y"


def test_names_are_such_as_every_release_takes() -> None:
    assert node_name("a>b\\c d/e-f.g_h") == "a_b_c_d/e-f.g_h"
    made = function("odd", [op("a>b", "Identity", "x", T=FLOAT)], {"y": "a>b:output:0"})
    graph = graph_of(made)
    Inliner(graph).run()
    assert set(graph.nodes) == {"x", "call/a_b"}


# -- order -----------------------------------------------------------------------------------------


def writing(name: str = "write") -> tf_pb.FunctionDef:
    """Assigns its argument to a variable, and returns it doubled."""
    nodes = [
        assign("assign", "v", "x"),
        op("unrelated", "Identity", "x", T=FLOAT),
        op("y", "Add", "x", "x", T=FLOAT),
    ]
    made = function(name, nodes, {"y": "y:z:0"}, {"x": FLOAT, "v": tf_pb.DT_RESOURCE})
    made.signature.control_output.append("written")
    made.control_ret["written"] = "assign"
    return made


def with_variable(*functions: tf_pb.FunctionDef, nodes: Sequence[tf_pb.NodeDef]) -> Graph:
    graph = graph_of(*functions, nodes=nodes)
    graph.add("VarHandleOp", "v", dtype=type_attr(FLOAT))
    return graph


def test_what_waits_for_a_call_waits_for_what_the_function_must_run() -> None:
    after = op("after", "Identity", "x", "^call", T=FLOAT)
    graph = with_variable(writing(), nodes=[call("call", "write", "x", "v"), after])
    inliner = Inliner(graph)
    inliner.run()
    assert graph.nodes["after"].input[:] == ["x", "^call/assign"]
    assert inliner.resolve_control("call") == ["call/assign"]


def test_what_waits_for_a_function_that_must_run_nothing_does_not_wait() -> None:
    after = op("after", "Identity", "x", "^call", T=FLOAT)
    graph = graph_of(scaled("double", 2.0), nodes=[call("call", "double", "x"), after])
    Inliner(graph).run()
    assert graph.nodes["after"].input[:] == ["x"]


def test_what_touches_state_waits_for_what_the_call_waits_for() -> None:
    nodes = [constant("first", 1.0), call("call", "write", "x", "v", "^first")]
    graph = with_variable(writing(), nodes=nodes)
    Inliner(graph).run()
    assert graph.nodes["call/assign"].input[:] == ["v", "x", "^first"]
    assert graph.nodes["call/unrelated"].input[:] == ["x"]


def test_many_that_a_call_waits_for_meet_in_one_node() -> None:
    nodes = [constant("a", 1.0), constant("b", 1.0)]
    graph = with_variable(writing(), nodes=[*nodes, call("call", "write", "x", "v", "^a", "^b")])
    Inliner(graph).run()
    assert graph.nodes["call/begin"].op == "NoOp"
    assert graph.nodes["call/begin"].input[:] == ["^a", "^b"]
    assert graph.nodes["call/assign"].input[:] == ["v", "x", "^call/begin"]


def test_order_passes_through_nested_calls() -> None:
    inner = call("inner", "write", "x", "v", kind="StatefulPartitionedCall")
    again = call("again", "write", "x", "v", "^inner", kind="StatefulPartitionedCall")
    outer = function(
        "outer", [inner, again], {"y": "again:output:0"}, {"x": FLOAT, "v": tf_pb.DT_RESOURCE}
    )
    for name in ("inner", "again"):
        outer.signature.control_output.append(name)
        outer.control_ret[name] = name
    nodes = [call("call", "outer", "x", "v"), op("after", "Identity", "x", "^call", T=FLOAT)]
    graph = with_variable(outer, writing(), nodes=nodes)
    Inliner(graph).run()
    assert graph.nodes["call/again/assign"].input[:] == ["v", "x", "^call/inner/assign"]
    assert graph.nodes["after"].input[:] == ["x", "^call/inner/assign", "^call/again/assign"]


def test_waiting_for_an_argument_is_waiting_for_what_stands_for_it() -> None:
    made = function("wait", [op("y", "Identity", "x", "^x", T=FLOAT)], {"y": "y:output:0"})
    graph = graph_of(made)
    Inliner(graph).run()
    assert graph.nodes["call/y"].input[:] == ["x", "^x"]


# -- conditionals ----------------------------------------------------------------------------------


def conditional(predicate: tf_pb.NodeDef | None) -> Graph:
    """Calls a function that doubles or triples, as its argument says."""
    node = op("y", "If", "p", "x", Tcond=BOOL)
    node.attr["then_branch"].func.name = "double"
    node.attr["else_branch"].func.name = "triple"
    node.attr["Tin"].list.type.append(FLOAT)
    node.attr["Tout"].list.type.append(FLOAT)
    made = function("main", [node], {"y": "y:output:0"}, {"x": FLOAT, "p": BOOL})
    p = predicate or op("p", "Placeholder", dtype=BOOL)
    functions = [made, scaled("double", 2.0), scaled("triple", 3.0)]
    return graph_of(*functions, nodes=[p, call("call", "main", "x", p.name)])


@pytest.mark.parametrize(("value", "factor"), [(True, 2.0), (False, 3.0)])
def test_a_conditional_of_a_known_predicate_is_a_call_of_its_branch(
    value: bool, factor: float
) -> None:
    p = op("p", "Const", dtype=BOOL)
    p.attr["value"].CopyFrom(bool_tensor_attr(value))
    graph = conditional(p)
    inliner = Inliner(graph)
    assert inliner.run() == 2
    assert inliner.resolve("call") == "call/y/y"
    assert graph.nodes["call/y/factor"].attr["value"].tensor.float_val[0] == factor


def test_any_other_conditional_stays() -> None:
    graph = conditional(None)
    inliner = Inliner(graph)
    assert inliner.run() == 1
    assert graph.nodes[inliner.resolve("call")].op == "If"


# -- what does not fit -----------------------------------------------------------------------------


def test_a_call_must_give_what_the_function_takes() -> None:
    graph = graph_of(scaled("double", 2.0), nodes=[call("call", "double", "x", "x")])
    with pytest.raises(MalformedError, match="takes 1 arguments, the call gives 2") as caught:
        Inliner(graph).run()
    assert caught.value.where.node == "call"


def test_the_function_must_be_there() -> None:
    graph = graph_of(scaled("double", 2.0), nodes=[call("call", "absent", "x")])
    with pytest.raises(MalformedError, match="no function 'absent'"):
        Inliner(graph).run()


def test_functions_whose_types_the_call_decides_are_refused() -> None:
    made = scaled("any", 2.0)
    made.signature.input_arg[0].type_attr = "T"
    with pytest.raises(UnsupportedError, match="'any' has argument 'x'"):
        Inliner(graph_of(made)).run()


def test_a_node_must_have_the_output_that_a_body_names() -> None:
    made = scaled("double", 2.0)
    made.ret["y"] = "y:other:0"
    with pytest.raises(MalformedError, match="no output other:0"):
        Inliner(graph_of(made)).run()


# -- size ------------------------------------------------------------------------------------------


def doubling_calls(levels: int) -> Graph:
    functions = [scaled("f0", 2.0)]
    for level in range(1, levels):
        nodes = [call("a", f"f{level - 1}", "x"), call("b", f"f{level - 1}", "a:output:0")]
        functions.append(function(f"f{level}", nodes, {"y": "b:output:0"}))
    return graph_of(*reversed(functions))


@pytest.mark.parametrize("levels", [1, 2, 7])
def test_size_is_counted_as_it_comes_out(levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    graph = doubling_calls(levels)
    inliner = Inliner(graph)
    real = inliner._new_name
    monkeypatch.setattr(inliner, "_new_name", lambda name: counted.append(1) or real(name))
    inliner.run()
    made = len(counted) + 2  # the graph has two nodes before
    monkeypatch.setattr(inline, "MAX_NODES", made)
    check_size(doubling_calls(levels))
    monkeypatch.setattr(inline, "MAX_NODES", made - 1)
    with pytest.raises(MalformedError, match=f"over {made - 1} nodes"):
        check_size(doubling_calls(levels))


def test_bytes_are_never_counted_too_low(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = doubling_calls(8)
    Inliner(graph).run()
    made = sum(node.ByteSize() for node in graph.nodes.values())
    monkeypatch.setattr(inline, "MAX_BYTES", made)
    with pytest.raises(MalformedError, match=f"over {made} bytes"):
        check_size(doubling_calls(8))


def test_size_is_known_without_making_anything() -> None:
    with pytest.raises(MalformedError, match="over 500000 nodes"):
        check_size(doubling_calls(1000))


def test_a_call_leaves_only_so_many_control_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inline, "MAX_CONTROL_EDGES", 2)
    nodes = [call("call", "write", "x", "v")]
    nodes += [op(f"n{i}", "Identity", "x", "^call", T=FLOAT) for i in range(3)]
    with pytest.raises(MalformedError, match="over 2 control edges"):
        Inliner(with_variable(writing(), nodes=nodes)).run()
