"""v1 loops become Whiles that compute and differentiate as they did."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.errors import UnsupportedError
from bridge.passes.functionalize_while import functionalize_while
from bridge.proto import tf_pb
from bridge.validate import check_graph
from tests.passes.v1_graphs import Tf2Function, V1Graph, build, build_only, check

pytestmark = pytest.mark.tf2

X = np.array([1.0, -2.0, 3.0], np.float32)


def test_a_loop_with_a_computed_number_of_iterations():
    def make(v1):
        x, n = v1.placeholder("float32", [3]), v1.placeholder("int32", [])
        i, y = v1.while_loop(lambda i, y: i < n, lambda i, y: (i + 1, v1.sin(y) * x), [0, x])
        return V1Graph({x: X, n: np.array(4, np.int32)}, [i, y])

    graph = check(make, [X, np.array(0, np.int32)])
    assert graph.nodes["while"].op == "StatelessWhile"
    assert graph.nodes["while/Exit_1"].op == "Identity"


def test_variables_are_invariants():
    def make(v1):
        x = v1.placeholder("float32", [2, 3])
        w = v1.get_variable("w", initializer=np.eye(3, dtype=np.float32) * 0.7, use_resource=True)
        y = v1.while_loop(
            lambda y: v1.reduce_sum(y * y) > 0.01, lambda y: v1.tanh(v1.matmul(y, w)), [x]
        )
        return V1Graph({x: np.stack([X, X])}, [y])

    graph = check(make)
    # Nothing writes w: it is read once, before the loop.
    assert graph.nodes["while"].op == "StatelessWhile"


def test_loops_in_loops():
    def make(v1):
        x = v1.placeholder("float32", [3])
        w = v1.get_variable("w", initializer=0.5, use_resource=True)

        def outer(i, y):
            inner = v1.while_loop(
                lambda j, z: j < i, lambda j, z: (j + 1, z * w + v1.sin(y) + x), [0, y]
            )
            return i + 1, inner[1] * 0.5

        return V1Graph({x: X}, [v1.while_loop(lambda i, y: i < 4, outer, [0, x])[1]])

    check(make)


def test_conditionals_in_loops_and_loops_in_those():
    def make(v1):
        x, p = v1.placeholder("float32", [3]), v1.placeholder("bool", [])
        w = v1.get_variable("w", initializer=0.5, use_resource=True)

        def body(i, y):
            def loop():
                return v1.while_loop(
                    lambda j, z: j < 2, lambda j, z: (j + 1, v1.cos(z) * w), [0, y]
                )[1]

            z = v1.cond(v1.equal(i % 2, 0), loop, lambda: y * x)
            return i + 1, v1.cond(p, lambda: z + w, lambda: z)

        return V1Graph(
            {x: X, p: np.array(True)}, [v1.while_loop(lambda i, y: i < 5, body, [0, x])[1]]
        )

    check(make, [X, np.array(False)])


def test_side_effects_keep_their_order():
    def make(v1):
        x = v1.placeholder("float32", [])
        v = v1.get_variable("v", initializer=1.0, use_resource=True)

        def body(i):
            with (
                v1.control_dependencies([v.assign(v * 2.0)]),
                v1.control_dependencies([v.assign_add(x)]),
            ):
                return i + 1

        i = v1.while_loop(lambda i: i < 3, body, [0])
        with v1.control_dependencies([i]):
            return V1Graph({x: np.array(1.5, np.float32)}, [v.read_value(), i])

    check(make, gradients=False)


def test_a_loop_variable_may_change_its_shape():
    def make(v1):
        x = v1.placeholder("float32", [None, 3])
        _, y = v1.while_loop(
            lambda i, y: i < 3,
            lambda i, y: (i + 1, v1.concat([y, y * x[:1]], 0)),
            [0, x],
            shape_invariants=[v1.TensorShape([]), v1.TensorShape([None, 3])],
        )
        return V1Graph({x: np.stack([X, X])}, [y])

    check(make)


def test_maximum_iterations():
    def make(v1):
        x = v1.placeholder("float32", [3])
        y = v1.while_loop(
            lambda y: v1.reduce_sum(y) < 1e9, lambda y: y * y + x, [x], maximum_iterations=3
        )
        return V1Graph({x: X}, [y])

    check(make)


def test_the_functions_have_the_form_that_the_gradient_of_while_wants():
    def make(v1):
        x = v1.placeholder("float32", [3])
        w = v1.get_variable("w", initializer=[1.0, 2.0, 3.0], use_resource=True)
        loop = v1.while_loop(
            lambda i, y: i < 3, lambda i, y: (i + 1, y * w), [0, x], parallel_iterations=4
        )
        return V1Graph({x: X}, [loop[1]])

    graph = check(make)
    node, body = graph.nodes["while"], graph.functions["while_body"]
    args = [arg.name for arg in body.signature.input_arg]
    assert args == ["loop_counter", "maximum_iterations", "const", "placeholder", "read"]
    assert body.ret[body.signature.output_arg[4].name] == "read"
    assert node.attr["parallel_iterations"].i == 4
    shapes = [[d.size for d in s.dim] for s in node.attr["output_shapes"].list.shape]
    assert shapes == [[], [], [], [3], [3]]


def test_rows_of_a_variable_are_gathered_in_a_loop():
    def make(v1):
        x = v1.placeholder("float32", [3])
        w = v1.get_variable("w", initializer=np.eye(4, 3, dtype=np.float32), use_resource=True)
        y = v1.while_loop(
            lambda i, y: i < 4,
            lambda i, y: (i + 1, y + x * v1.nn.embedding_lookup(w, [i])[0]),
            [0, x],
        )[1]
        return V1Graph({x: X}, [y])

    check(make)


def test_a_variable_that_the_loop_writes_stays_a_resource():
    def make(v1):
        x = v1.placeholder("float32", [3])
        n = v1.get_variable("n", initializer=0.0, use_resource=True, trainable=False)
        w = v1.get_variable("w", initializer=[1.0, 2.0, 3.0], use_resource=True)

        def body(i, y):
            count = v1.cond(v1.equal(i, 1), lambda: n.assign_add(2.0), lambda: v1.constant(0.0))
            with v1.control_dependencies([count]):
                return i + 1, y * w + x

        return V1Graph({x: X}, [v1.while_loop(lambda i, y: i < 3, body, [0, x])[1]])

    graph = check(make)
    assert graph.nodes["while"].op == "While"
    assert graph.functions["while_body"].signature.input_arg[-1].type == tf_pb.DT_RESOURCE


def test_a_frame_without_a_condition_is_refused_by_name():
    def make(v1):
        x = v1.placeholder("float32", [3])
        inside = v1.raw_ops.Enter(data=x, frame_name="odd", name="in")
        return V1Graph({x: X}, [v1.raw_ops.Exit(data=v1.sin(inside))])

    with pytest.raises(UnsupportedError, match="odd"):
        functionalize_while(build(make, gradients=False).graph())


@pytest.mark.parametrize("frame", [b"\xff\xfe", b"^a:1", b"", b"while/while_context"])
def test_a_frame_may_have_any_name(frame):
    def make(v1):
        x = v1.placeholder("float32", [3])
        return V1Graph(
            {x: X}, [v1.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * x), [0, x])[1]]
        )

    built = build(make, gradients=False)
    graph = built.graph()
    for node in graph.nodes.values():
        if node.op == "Enter":
            node.attr["frame_name"].s = frame
    functionalize_while(graph)
    check_graph(graph)
    (got,) = Tf2Function(built, graph, []).run(built.feeds[0], gradients=False).outputs
    np.testing.assert_array_equal(got, built.expected[0].outputs[0])


def test_a_merge_of_two_loops_is_refused_by_name():
    def make(v1):
        x = v1.placeholder("float32", [3])
        y, z = (
            v1.while_loop(lambda y: v1.reduce_sum(y) < 9.0, lambda y: (y * x,), [x])
            for _ in range(2)
        )
        return V1Graph({x: X}, [y + z])

    graph = build_only(make)
    graph.nodes["while/Merge"].input[1] = "while_1/NextIteration"
    with pytest.raises(UnsupportedError, match="while/"):
        functionalize_while(graph)
