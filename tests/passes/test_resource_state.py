"""Reference variables become resource variables that do the same, in the same order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bridge.dtypes import is_ref
from bridge.errors import UnsupportedError
from bridge.graph import Graph
from bridge.model import INFERENCE, Component, Encoding, Endpoint, Signature, Variant
from bridge.opsets import OpTable
from bridge.passes.resource_state import ResourceState
from bridge.passes.strip_placement import StripPlacement
from bridge.proto import tf_pb
from bridge.report import Report

pytestmark = pytest.mark.tf2


def rewritten(graph_def: bytes, output: str) -> tuple[Variant, str]:
    """Runs the pass on a whole graph; returns the variant, and the output's tensor in it."""
    proto = tf_pb.GraphDef.FromString(graph_def)
    component = Component(output.removesuffix(":0"), tf_pb.DT_FLOAT, None)
    endpoint = Endpoint(Encoding.DENSE, tf_pb.DT_FLOAT, None, (component,))
    variant = Variant(INFERENCE, Graph(proto.node, OpTable()))
    variant.signatures["default"] = Signature("default", {}, {"default": endpoint})
    report = Report("", None, "to-saved-model")
    StripPlacement().rewrite(variant, report)
    ResourceState().rewrite(variant, report)
    for node in variant.graph.nodes.values():
        assert not any(is_ref(o.dtype) for o in variant.graph.outputs(node)), node.name
    return variant, variant.signatures["default"].output_tensors()[0]


def run(graph_def: Any, output: str, times: int, init: str) -> list[Any]:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
        with v1.Session() as session:
            session.run(graph.get_operation_by_name(init))
            tensor = graph.get_tensor_by_name(output if ":" in output else f"{output}:0")
            return [session.run(tensor) for _ in range(times)]


def check(make: Callable[[Any, Any], Any]) -> Graph:
    """Compares three runs of a graph with references and of what the pass made of it."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        variable = v1.get_variable("v", initializer=np.float32([1.0, 2.0, 3.0]), use_resource=False)
        assert variable.dtype._is_ref_dtype
        output = make(v1, variable)
        v1.global_variables_initializer()
        graph_def = graph.as_graph_def()
    variant, tensor = rewritten(graph_def.SerializeToString(), output.name)
    nodes = tf_pb.GraphDef(node=variant.graph.nodes.values()).SerializeToString()
    result = tf.compat.v1.GraphDef.FromString(nodes)
    wanted = run(graph_def, output.name, 3, "init")
    found = run(result, tensor, 3, "init")
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    assert any((value != 0).any() for value in map(np.asarray, wanted))
    return variant.graph


def test_an_identity_of_a_variable_becomes_its_read_under_the_same_name() -> None:
    graph = check(lambda v1, v: v1.multiply(v.value(), 2.0))
    assert graph.nodes["v"].op == "VarHandleOp"
    assert graph.nodes["v/read"].op == "ReadVariableOp"


def test_a_reader_after_an_assignment_sees_the_new_value() -> None:
    def make(v1: Any, v: Any) -> Any:
        with v1.control_dependencies([v1.assign_add(v, [1.0, 1.0, 1.0])]):
            return v1.raw_ops.Mul(x=v._ref(), y=v1.constant(2.0))

    graph = check(make)
    assert graph.nodes["AssignAdd"].op == "AssignAddVariableOp"
    # TensorFlow gave Mul no control input, for its other input has it.
    assert list(graph.nodes["Mul/ReadVariableOp"].input) == ["v", "^Const"]


def test_the_value_that_an_assignment_gives_is_read_after_it() -> None:
    check(lambda v1, v: v1.assign_sub(v, [1.0, 1.0, 1.0]) * 3.0)


def test_chained_assignments_keep_their_order() -> None:
    def make(v1: Any, v: Any) -> Any:
        first = v1.assign_add(v, [1.0, 0.0, 0.0])
        return v1.identity(v1.assign(first, v1.constant([4.0, 5.0, 6.0])))

    check(make)


@pytest.mark.parametrize(
    ("op", "resource_op"),
    [
        ("scatter_update", "ResourceScatterUpdate"),
        ("scatter_add", "ResourceScatterAdd"),
        ("scatter_sub", "ResourceScatterSub"),
        ("scatter_mul", "ResourceScatterMul"),
        ("scatter_div", "ResourceScatterDiv"),
        ("scatter_min", "ResourceScatterMin"),
        ("scatter_max", "ResourceScatterMax"),
    ],
)
def test_scatter_ops_become_resource_scatter_ops(op: str, resource_op: str) -> None:
    graph = check(lambda v1, v: getattr(v1, op)(v, [0, 2], [5.0, 7.0]) + 0.5)
    assert any(node.op == resource_op for node in graph.nodes.values())


@pytest.mark.parametrize("op", ["scatter_nd_update", "scatter_nd_add", "scatter_nd_sub"])
def test_scatter_nd_ops_become_resource_scatter_nd_ops(op: str) -> None:
    check(lambda v1, v: getattr(v1, op)(v, [[0], [2]], [5.0, 7.0]) + 0.5)


def test_an_output_that_is_a_reference_becomes_its_value() -> None:
    check(lambda v1, v: v._ref())
    check(lambda v1, v: v1.assign_add(v, [1.0, 1.0, 1.0]))


def test_references_pass_through_a_switch() -> None:
    import tensorflow as tf

    def make(v1: Any, v: Any) -> Any:
        tf.compat.v1.disable_control_flow_v2()
        try:
            return v1.cond(
                v1.reduce_sum(v) < 100.0,
                lambda: v1.assign_add(v, [20.0, 20.0, 20.0]) * 1.0,
                lambda: v.value() * -1.0,
            )
        finally:
            tf.compat.v1.enable_control_flow_v2()

    graph = check(make)
    assert not any(node.op.startswith("Ref") for node in graph.nodes.values())


def test_an_op_without_resource_form_is_refused_by_name() -> None:
    def make(v1: Any, v: Any) -> Any:
        counter = v1.get_variable("n", initializer=1, use_resource=False)
        return v1.raw_ops.CountUpTo(ref=counter._ref(), limit=3)

    with pytest.raises(UnsupportedError, match=r"CountUpTo.*node 'CountUpTo'"):
        check(make)


def test_the_value_of_a_table_is_refused_by_name_and_that_of_a_string_variable_is_read() -> None:
    graph = Graph([], OpTable())
    text = tf_pb.AttrValue(type=tf_pb.DT_STRING)  # type: ignore[arg-type]
    graph.add("VariableV2", "v", dtype=text, shape=tf_pb.AttrValue(shape={}))
    graph.add("Identity", "value", ["v"], T=text)
    graph.add("HashTable", "table", key_dtype=text, value_dtype=text)
    variant = Variant(INFERENCE, graph)
    ResourceState().rewrite(variant, Report("", None, "to-saved-model"))
    assert graph.nodes["value"].op == "ReadVariableOp"
    assert graph.nodes["table"].op == "HashTableV2"

    graph = Graph([], OpTable())
    graph.add("HashTable", "table", key_dtype=text, value_dtype=text)
    graph.add("RefIdentity", "same", ["table"], T=text)
    graph.add("Identity", "value", ["same"], T=text)
    with pytest.raises(UnsupportedError, match=r"table.*node 'value'"):
        ResourceState().rewrite(Variant(INFERENCE, graph), Report("", None, "to-saved-model"))
