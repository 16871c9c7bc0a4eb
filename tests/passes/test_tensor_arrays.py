"""TensorArrays become TensorLists that compute and differentiate as they did."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.errors import UnsupportedError
from bridge.passes.tensor_arrays import lower_tensor_arrays
from tests.passes.v1_graphs import V1Graph, build, check

pytestmark = pytest.mark.tf2

X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def no_tensor_arrays(graph):
    nodes = [*graph.nodes.values(), *(n for f in graph.functions.values() for n in f.node_def)]
    return not any(n.op.startswith("TensorArray") for n in nodes)


def test_map_fn():
    def make(v1):
        x = v1.placeholder("float32", [None, 3])
        w = v1.get_variable("w", initializer=[1.0, 2.0, 3.0], use_resource=True)
        y = v1.map_fn(lambda row: v1.sin(row) * w, x)
        z = v1.map_fn(
            lambda row: (v1.cast(row * 10.0, "int32"), row), x, dtype=("int32", "float32")
        )
        return V1Graph({x: X}, [y, *z])

    graph = check(make, [X[:2]])
    assert no_tensor_arrays(graph)


def test_scan():
    def make(v1):
        x = v1.placeholder("float32", [None, 3])
        return V1Graph({x: X}, [v1.scan(lambda a, row: v1.tanh(a * row + a), x)])

    check(make, [X[:2]])


def test_dynamic_rnn_with_sequence_lengths():
    def make(v1):
        x = v1.placeholder("float32", [None, 4, 3])
        n = v1.placeholder("int32", [None])
        w = v1.get_variable("w", initializer=np.eye(3, dtype=np.float32), use_resource=True)
        inputs = v1.TensorArray("float32", 4, element_shape=[None, 3]).unstack(
            v1.transpose(x, [1, 0, 2])
        )
        outputs = v1.TensorArray("float32", 4, element_shape=[None, 3])

        def step(t, state, ta):
            new = v1.tanh(v1.matmul(inputs.read(t), w) + state)
            state = v1.cond(
                v1.reduce_all(t < n), lambda: new, lambda: v1.where_v2((t < n)[:, None], new, state)
            )
            return t + 1, state, ta.write(t, state)

        _, state, ta = v1.while_loop(
            lambda t, *_: t < 4, step, [0, v1.zeros_like(x[:, 0]), outputs]
        )
        return V1Graph(
            {x: np.stack([X, X * 2]), n: np.array([2, 4], np.int32)}, [state, ta.stack(), ta.size()]
        )

    check(make)


def test_an_array_that_grows_and_is_concatenated():
    def make(v1):
        x = v1.placeholder("float32", [None, 3])
        ta = v1.TensorArray("float32", 0, dynamic_size=True, infer_shape=False)
        ta = v1.while_loop(
            lambda i, ta: i < 3, lambda i, ta: (i + 1, ta.write(i, x[: i + 1] * x[0])), [0, ta]
        )[1]
        return V1Graph({x: X}, [ta.concat()])

    check(make)


def test_splitting():
    def make(v1):
        x = v1.placeholder("float32", [None, 3])
        ta = v1.TensorArray("float32", 2, infer_shape=False).split(x, [1, 3])
        return V1Graph({x: X}, [ta.read(0), v1.sin(ta.read(1))])

    check(make)


def test_a_write_that_nothing_follows_is_refused():
    def make(v1):
        x = v1.placeholder("float32", [None, 3])
        ta = v1.TensorArray("float32", 2, clear_after_read=False)
        one = ta.write(0, x[0])
        two = ta.write(1, x[1])
        with v1.control_dependencies([two.flow]):
            return V1Graph({x: X}, [one.read(0)])

    with pytest.raises(UnsupportedError, match="TensorArray"):
        lower_tensor_arrays(build(make, gradients=False).graph())
