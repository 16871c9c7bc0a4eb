"""Writes leave the forward pass, and update ops do what a call of the TF2 function does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bridge.attrs import shape_attr, type_attr
from bridge.errors import UnsupportedError
from bridge.graph import Graph, parse_tensor
from bridge.model import INFERENCE, Variant
from bridge.opsets import OpTable
from bridge.passes.merge_equal import MergeEqual
from bridge.passes.separate_updates import SeparateUpdates
from bridge.proto import tf_pb
from bridge.report import Report
from tests.clients.tf1 import Tf1Client, Tf1Error
from tests.passes.flat_graphs import FlatFunction, check_equal, flatten
from tests.passes.stateful import call_in_tf1, check_calls, rewritten

pytestmark = pytest.mark.tf2

X = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]], np.float32)


def counter(tf: Any) -> Callable[..., Any]:
    count = tf.Variable(2.0, trainable=False)
    steps = tf.Variable(7, dtype=tf.int64, trainable=False)

    def call(x: Any) -> Any:
        before = x * count
        count.assign_add(1.5)
        steps.assign_add(2)
        return before, x + count, steps * 3

    return call


def moving_average(tf: Any) -> Callable[..., Any]:
    mean = tf.Variable([1.0, 2.0, 3.0], trainable=False)
    scale = tf.Variable([0.5, 0.6, 0.7])

    def call(x: Any) -> Any:
        batch = tf.reduce_mean(x, 0)
        mean.assign_sub((mean - batch) * 0.1)
        return (x - batch) * scale

    return call


def in_sequence(tf: Any) -> Callable[..., Any]:
    a = tf.Variable([1.0, 2.0, 3.0], trainable=False)
    b = tf.Variable(1.0, trainable=False)

    def call(x: Any) -> Any:
        first = a + 1.0
        a.assign(a * 2.0 + tf.reduce_sum(x))
        second = a + 1.0
        b.assign_add(tf.reduce_sum(a))
        a.assign_sub(b * tf.ones([3]))
        third = a + 1.0
        a.assign_add(third)
        return first, second, third, x * b

    return call


def in_part(tf: Any) -> Callable[..., Any]:
    memory = tf.Variable(np.arange(12.0).reshape(4, 3), dtype=tf.float32, trainable=False)
    other = tf.Variable(np.arange(12.0).reshape(4, 3), dtype=tf.float32, trainable=False)

    def call(x: Any) -> Any:
        before = tf.gather(memory, [1, 0])
        memory.scatter_nd_update([[0], [2]], x)
        memory.scatter_nd_add([[0]], x[:1])
        memory.scatter_nd_sub([[3]], x[1:])
        other[1:3].assign(x)
        after = tf.gather(memory, [0, 3, 0])
        return before, after, memory.gather_nd([[2, 1], [0, 0]]), other * 1.0, tf.gather(other, [1])

    return call


def assigned_weights(tf: Any) -> Callable[..., Any]:
    w = tf.Variable([[1.0, 2.0], [3.0, 4.0], [-5.0, 6.0]])
    u = tf.Variable([[0.3, 0.7]], trainable=False)

    def call(x: Any) -> Any:
        v = tf.math.l2_normalize(tf.matmul(u, w, transpose_b=True))
        next_u = tf.math.l2_normalize(tf.matmul(v, w))
        sigma = tf.matmul(tf.matmul(v, w), next_u, transpose_b=True)
        u.assign(next_u)
        w.assign(w / sigma)
        return tf.matmul(x, w), tf.reduce_sum(x) * u

    return call


def guarded(tf: Any) -> Callable[..., Any]:
    count = tf.Variable(0.0, trainable=False)

    def call(x: Any) -> Any:
        tf.debugging.assert_less(tf.reduce_max(x), 5.0)
        count.assign_add(1.0)
        return x * 2.0

    return call


def conditional_update(tf: Any) -> Callable[..., Any]:
    seen = tf.Variable([0.0, 0.0, 0.0], trainable=False)
    calls = tf.Variable(0.0, trainable=False)

    def call(x: Any) -> Any:
        calls.assign_add(1.0)
        if tf.reduce_sum(x) > 0.0:
            seen.assign_add(tf.reduce_sum(x, 0))
        return x * 2.0 + calls

    return call


CASES = (
    counter,
    moving_average,
    in_sequence,
    in_part,
    assigned_weights,
    guarded,
    conditional_update,
)


def separated(make: Callable[[Any], Callable[..., Any]]) -> FlatFunction:
    import tensorflow as tf

    return rewritten(make(tf), X, passes=[MergeEqual(), SeparateUpdates()])


@pytest.mark.parametrize("make", CASES)
def test_forward_pass_and_update_ops_do_what_a_call_does(
    tf1: Tf1Client, make: Callable[[Any], Callable[..., Any]]
) -> None:
    check_calls(tf1, separated(make))


@pytest.mark.parametrize("make", [counter, in_sequence, in_part, assigned_weights])
def test_gradients_are_those_of_reads_and_not_of_what_was_assigned(
    tf1: Tf1Client, make: Callable[[Any], Callable[..., Any]]
) -> None:
    import tensorflow as tf

    def call(x: Any) -> Any:
        return [tf.cast(t, tf.float32) for t in function(x)]

    function = make(tf)
    check_equal(tf1, rewritten(call, X, passes=[MergeEqual(), SeparateUpdates()]))


@pytest.mark.parametrize("make", CASES)
def test_no_output_depends_on_a_write(make: Callable[[Any], Callable[..., Any]]) -> None:
    flat = separated(make)
    outputs = [parse_tensor(name).node for name in flat.signature.output_tensors()]
    assert flat.variant.update_ops
    assert not flat.graph.ancestors(outputs) & flat.variant.update_ops.keys()


def test_an_assertion_still_guards_the_output(tf1: Tf1Client) -> None:
    import tensorflow as tf

    flat = separated(guarded)
    flat.inputs = [tf.constant(X * 2.0)]
    with pytest.raises(Tf1Error, match="assertion failed"):
        call_in_tf1(tf1, flat, 0)


def test_a_write_in_a_branch_that_gives_an_output_is_refused() -> None:
    import tensorflow as tf

    count = tf.Variable(0.0, trainable=False)

    def call(x: Any) -> Any:
        if tf.reduce_sum(x) > 0.0:
            count.assign_add(1.0)
            x = x * 2.0
        return x

    with pytest.raises(UnsupportedError, match=r"If writes variable .* needs its outputs") as error:
        rewritten(call, X, passes=[SeparateUpdates()])
    assert error.value.where.node
    assert error.value.hint


def test_a_read_of_what_a_branch_has_written_is_refused() -> None:
    import tensorflow as tf

    with pytest.raises(UnsupportedError, match=r"writes variable .* in its body, and the forward"):
        rewritten(read_after_branch(tf), X, passes=[SeparateUpdates()])


def read_after_branch(tf: Any) -> Callable[..., Any]:
    count = tf.Variable(0.0, trainable=False)

    def call(x: Any) -> Any:
        if tf.reduce_sum(x) > 0.0:
            count.assign_add(1.0)
        return x * count

    return call


def test_a_read_in_a_body_of_what_was_written_is_refused() -> None:
    import tensorflow as tf

    count = tf.Variable(0.0, trainable=False)

    def call(x: Any) -> Any:
        count.assign_add(1.0)
        return tf.cond(tf.reduce_sum(x) > 0.0, lambda: x * count.read_value(), lambda: x)

    with pytest.raises(UnsupportedError, match=r"reads variable .* in its body, after"):
        rewritten(call, X, passes=[SeparateUpdates()])


def test_other_effects_are_refused() -> None:
    import tensorflow as tf

    def call(x: Any) -> Any:
        queue = tf.raw_ops.FIFOQueueV2(component_types=[tf.float32], capacity=2)
        tf.raw_ops.QueueEnqueueV2(handle=queue, components=[tf.reduce_sum(x)])
        return x * 2.0

    with pytest.raises(UnsupportedError, match="FIFOQueueV2 has an effect"):
        rewritten(call, X, passes=[SeparateUpdates()])


def test_writes_of_the_inference_variant_are_told_of() -> None:
    flat = separated(counter)
    assert flat.variant.tags == INFERENCE
    remarks = [note for note in flat.report.remarks if note.kind == "update_op"]
    assert len(remarks) == 2
    assert all("inference writes variable" in note.reason for note in remarks)


def test_a_function_without_writes_stays_as_it_is() -> None:
    import tensorflow as tf

    w = tf.Variable([1.0, 2.0, 3.0])
    flat = rewritten(lambda x: x * w, X, passes=[SeparateUpdates()])
    assert flat.report.passes == {"separate-updates": 0}
    assert not flat.variant.update_ops


def twice(flat: FlatFunction, different: bool) -> None:
    """Adds the same function once more, as another signature has it."""
    graph = flat.graph
    shared = {n.name for n in graph.nodes.values() if n.op in ("Placeholder", "VarHandleOp")}
    for node in [node for node in graph.nodes.values() if node.name not in shared]:
        inputs = []
        for text in node.input:
            tensor = parse_tensor(text)
            name = tensor.node if tensor.node in shared else f"again/{tensor.node}"
            inputs.append(str(tensor._replace(node=name)))
        graph.add(node.op, f"again/{node.name}", inputs, **node.attr)
        if different and node.op == "Mul":
            graph.nodes[f"again/{node.name}"].op = "Div"
    signature = flat.signature
    outputs = {
        key: end.moved(lambda name: f"again/{name}") for key, end in signature.outputs.items()
    }
    flat.variant.signatures["again"] = replace(signature, name="again", outputs=outputs)


def moving_twice(different: bool) -> FlatFunction:
    import tensorflow as tf

    flat = flatten(moving_average(tf), X)
    assigns = [flat.graph.nodes.pop(name) for name in flat.initializers]
    values = [flat.graph.nodes.pop(assign.input[1]) for assign in assigns]
    twice(flat, different)
    flat.rewrite(MergeEqual(), SeparateUpdates())
    flat.graph.nodes |= {node.name: node for node in (*assigns, *values)}
    return flat


def test_two_signatures_that_share_an_update_make_it_once(tf1: Tf1Client) -> None:
    flat = moving_twice(different=False)
    assert len(flat.variant.update_ops) == 1
    check_calls(tf1, flat)


def test_two_signatures_that_update_otherwise_are_told_of() -> None:
    flat = moving_twice(different=True)
    assert len(flat.variant.update_ops) == 2
    reasons = [note.reason for note in flat.report.remarks]
    assert any("two calls, of which TF2 makes one at a time" in reason for reason in reasons)


def test_a_read_after_unordered_writes_is_refused() -> None:
    graph = Graph([], OpTable())
    dtype = type_attr(tf_pb.DT_FLOAT)
    graph.add("VarHandleOp", "v", dtype=dtype, shape=shape_attr(()))
    for name in ("a", "b"):
        graph.add("Placeholder", name, dtype=dtype)
        graph.add("AssignVariableOp", f"{name}/assign", ["v", name], dtype=dtype)
    graph.add("ReadVariableOp", "read", ["v", "^a/assign", "^b/assign"], dtype=dtype)
    with pytest.raises(UnsupportedError, match="which write it in no order") as error:
        SeparateUpdates().rewrite(Variant(INFERENCE, graph), Report("", None, ""))
    assert error.value.where.node == "read"


def test_an_op_that_does_something_unknown_to_a_variable_is_refused() -> None:
    graph = Graph([], OpTable())
    graph.add("VarHandleOp", "v", dtype=type_attr(tf_pb.DT_FLOAT), shape=shape_attr(()))
    graph.add("ResourceAccumulatorNumAccumulated", "count", ["v"])
    with pytest.raises(UnsupportedError, match="what it does to it is not known"):
        SeparateUpdates().rewrite(Variant(INFERENCE, graph), Report("", None, ""))
