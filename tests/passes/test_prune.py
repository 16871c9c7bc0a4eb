"""Only what something needs is left, and whatever something needs is."""

from __future__ import annotations

from bridge.graph import Graph
from bridge.model import INFERENCE, Component, Encoding, Endpoint, Signature, Variant
from bridge.opsets import OpTable
from bridge.passes.prune import Prune
from bridge.proto import tf_pb
from bridge.report import Report


def node(name: str, op: str, *inputs: str, function: str = "") -> tf_pb.NodeDef:
    result = tf_pb.NodeDef(name=name, op=op, input=inputs)
    if function:
        result.attr["f"].func.name = function
    return result


def function(name: str, *calls: str) -> tf_pb.FunctionDef:
    result = tf_pb.FunctionDef()
    result.signature.name = name
    for called in calls:
        result.node_def.append(node(f"call_{called}", "PartitionedCall", function=called))
    return result


def endpoint(name: str) -> Endpoint:
    return Endpoint(Encoding.DENSE, tf_pb.DT_FLOAT, None, (Component(name, tf_pb.DT_FLOAT, None),))


def variant(
    *nodes: tf_pb.NodeDef,
    output: str,
    inputs: tuple[str, ...] = (),
    functions: tuple[tf_pb.FunctionDef, ...] = (),
    gradients: tuple[tf_pb.GradientDef, ...] = (),
) -> Variant:
    result = Variant(INFERENCE, Graph(nodes, OpTable(), functions, gradients))
    result.signatures["default"] = Signature(
        "default", {name: endpoint(name) for name in inputs}, {"default": endpoint(output)}
    )
    return result


def pruned(one: Variant) -> Report:
    report = Report("", None, "to-saved-model")
    Prune().rewrite(one, report)
    return report


def test_what_nothing_needs_goes() -> None:
    one = variant(
        node("x", "Placeholder"),
        node("y", "Relu", "x"),
        node("saver", "NoOp", "^y"),
        output="y",
        inputs=("x",),
    )
    pruned(one)
    assert set(one.graph.nodes) == {"x", "y"}


def test_control_inputs_update_ops_and_table_initializers_stay() -> None:
    one = variant(
        node("x", "Placeholder"),
        node("first", "NoOp"),
        node("y", "Relu", "x", "^first"),
        node("update", "NoOp", "^more"),
        node("more", "NoOp"),
        node("fill", "NoOp"),
        output="y",
        inputs=("x",),
    )
    one.update_ops = {"update": "update"}
    one.table_initializers = ["fill"]
    pruned(one)
    assert set(one.graph.nodes) == {"x", "first", "y", "update", "more", "fill"}


def test_a_fed_tensor_keeps_what_its_node_needs() -> None:
    one = variant(
        node("c", "Const"), node("fed", "Relu", "c"), node("y", "Relu", "fed"),
        output="y", inputs=("fed",),
    )  # fmt: skip
    pruned(one)
    assert set(one.graph.nodes) == {"c", "fed", "y"}


def test_only_functions_that_are_called_stay_with_their_gradients() -> None:
    one = variant(
        node("y", "PartitionedCall", function="a"),
        output="y",
        functions=tuple(
            function(*names) for names in (("a", "b"), ("b",), ("c", "b"), ("db", "e"), ("e",))
        ),
        gradients=(
            tf_pb.GradientDef(function_name="b", gradient_func="db"),
            tf_pb.GradientDef(function_name="c", gradient_func="e"),
        ),
    )
    pruned(one)
    assert set(one.graph.functions) == {"a", "b", "db", "e"}
    assert [g.function_name for g in one.graph.gradients] == ["b"]


def test_a_loss_of_an_input_is_dropped_by_name_as_often_as_it_stands_there() -> None:
    one = variant(
        node("x", "Placeholder"), node("y", "Relu", "x"), node("w", "Const"),
        output="y", inputs=("x",),
    )  # fmt: skip
    one.regularization_losses = ["y", "w", "y", "w"]
    report = pruned(one)
    assert one.regularization_losses == ["w", "w"]
    assert [note.name for note in report.not_kept] == ["y", "y"]


def test_assets_of_nodes_that_go_are_forgotten() -> None:
    one = variant(node("y", "Const"), node("path", "Const"), output="y")
    one.assets = {"path": "words.txt", "y": "other.txt"}
    pruned(one)
    assert one.assets == {"y": "other.txt"}
