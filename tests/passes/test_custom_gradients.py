"""Gradients that were Python code: kept where autodiff agrees, else refused when they are asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bridge.passes.custom_gradients import CustomGradients
from tests.clients.tf1 import Tf1Client, Tf1Error
from tests.passes.flat_graphs import FlatFunction, assert_close, check_equal, flatten, in_tf1

pytestmark = pytest.mark.tf2

X = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]], np.float32)


def markers(flat: FlatFunction) -> list[str]:
    return [node.name for node in flat.graph.all_nodes() if "_gradient_op_type" in node.attr]


def test_swish_has_its_gradient(tf1: Tf1Client) -> None:
    import tensorflow as tf

    w = tf.Variable([[0.3, -0.2], [0.5, 0.7], [-0.4, 0.1]])

    def call(x: Any) -> Any:
        return tf.nn.silu(tf.matmul(tf.nn.silu(x), w)), tf.nn.silu(x, beta=1.7)

    flat = flatten(call, X)
    assert len(markers(flat)) == 3
    flat.rewrite(CustomGradients())
    assert not markers(flat)
    assert not flat.report.not_kept
    check_equal(tf1, flat)


def test_swish_of_tensorflow_2_8_has_its_gradient(tf1: Tf1Client) -> None:
    import tensorflow as tf

    def call(x: Any) -> Any:
        beta = tf.constant(1.0, name="beta")

        @tf.custom_gradient
        def swish(x: Any) -> Any:
            sigmoid = tf.sigmoid(beta * x)
            return x * sigmoid, lambda dy: dy * sigmoid * (1.0 + x * (1.0 - sigmoid))

        return swish(x)

    flat = flatten(call, X)
    assert len(markers(flat)) == 1
    flat.rewrite(CustomGradients())
    assert not markers(flat)
    assert not flat.report.not_kept
    check_equal(tf1, flat)


def test_swish_in_a_branch_has_its_gradient() -> None:
    import tensorflow as tf

    flat = flatten(lambda x: tf.cond(x[0, 0] > 0.0, lambda: tf.nn.silu(x), lambda: x), X)
    assert markers(flat)
    flat.rewrite(CustomGradients())
    assert not markers(flat)
    assert not flat.report.not_kept
    assert "PreventGradient" not in flat.ops()


@pytest.mark.parametrize("name", ["reversed", "product", "two results", "beta"])
def test_any_other_gradient_raises_and_is_named(tf1: Tf1Client, name: str) -> None:
    import tensorflow as tf

    @tf.custom_gradient
    def reverse(x: Any) -> Any:
        return x * 1.0, lambda dy: -dy

    @tf.custom_gradient
    def product(x: Any) -> Any:
        return x * tf.sigmoid(2.0 * x), lambda dy: dy

    @tf.custom_gradient
    def two(x: Any) -> Any:
        return (x * 2.0, x + 1.0), lambda first, second: first + second

    beta = tf.Variable([1.0, 2.0, 3.0])
    call = {
        "reversed": lambda x: reverse(tf.sin(x)),
        "product": product,
        "two results": two,
        "beta": lambda x: tf.nn.silu(x, beta=beta),
    }[name]
    flat = flatten(call, X)
    expected = tf.nest.flatten(call(tf.constant(X)))
    (marked,) = markers(flat)
    gradient = flat.graph.nodes[marked].attr["_gradient_op_type"].s.decode()
    flat.rewrite(CustomGradients())
    assert not markers(flat)
    (note,) = flat.report.not_kept
    assert (note.kind, note.name, note.node) == ("custom_gradient", gradient, marked)
    outputs, _ = in_tf1(tf1, flat)
    for ours, theirs in zip(outputs, expected, strict=True):
        assert_close(ours, theirs.numpy(), 1e-6)
    with pytest.raises(Tf1Error, match=f"{gradient} of {marked} was Python code"):
        in_tf1(tf1, flat, [np.ones_like(output) for output in outputs])


def test_another_gradient_in_a_branch_raises(tf1: Tf1Client) -> None:
    import tensorflow as tf

    @tf.custom_gradient
    def reverse(x: Any) -> Any:
        return x * 1.0, lambda dy: -dy

    flat = flatten(lambda x: tf.cond(x[0, 0] > 0.0, lambda: reverse(x), lambda: x), X)
    flat.rewrite(CustomGradients())
    outputs, _ = in_tf1(tf1, flat)
    assert_close(outputs[0], X, 1e-6)
    with pytest.raises(Tf1Error, match="was Python code"):
        in_tf1(tf1, flat, [np.ones_like(outputs[0])])
