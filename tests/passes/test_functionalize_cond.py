"""v1 conditionals become Ifs that compute and differentiate as they did."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.errors import UnsupportedError
from bridge.passes.functionalize_cond import functionalize_cond
from tests.passes.v1_graphs import Tf2Function, V1Graph, build, check, functionalize

pytestmark = pytest.mark.tf2

X = np.array([1.0, -2.0, 3.0], np.float32)
YES, NO = np.array(True), np.array(False)


def ops(graph):
    return sorted(
        n.op
        for n in graph.nodes.values()
        if n.op in ("If", "StatelessIf", "While", "StatelessWhile")
    )


def test_a_pure_conditional_becomes_one_stateless_if_under_its_scope():
    def make(v1):
        x, p = v1.placeholder("float32", [3]), v1.placeholder("bool", [])
        y, z = v1.cond(p, lambda: (x * x, v1.sin(x)), lambda: (x + 1.0, x))
        return V1Graph({x: X, p: YES}, [y, z])

    graph = check(make, [X, NO])
    assert ops(graph) == ["StatelessIf"]
    assert graph.nodes["cond"].op == "StatelessIf"
    assert graph.nodes["cond/Merge"].op == graph.nodes["cond/Merge_1"].op == "Identity"
    assert [*graph.functions] == ["cond_false", "cond_true"]


def test_conditionals_that_share_a_predicate_stay_apart():
    def make(v1):
        x, p = v1.placeholder("float32", [3]), v1.placeholder("bool", [])
        y = x
        for _ in range(3):
            y = v1.cond(p, lambda y=y: y * x, lambda y=y: v1.sin(y))
        return V1Graph({x: X, p: YES}, [y])

    graph = check(make, [X, NO])
    assert ops(graph) == ["StatelessIf"] * 3


def test_nested_conditionals_become_nested_ifs():
    def make(v1):
        x, p, q = (
            v1.placeholder("float32", [3]),
            v1.placeholder("bool", []),
            v1.placeholder("bool", []),
        )

        def outer():
            y = x * 2.0
            a, b = v1.cond(q, lambda: (y * x, v1.constant([1.0, 2.0, 3.0])), lambda: (v1.exp(x), y))
            return a * b

        return V1Graph(
            {x: X, p: YES, q: YES}, [v1.cond(p, outer, lambda: v1.cond(q, lambda: -x, lambda: x))]
        )

    graph = check(make, [X, YES, NO], [X, NO, YES], [X, NO, NO])
    assert ops(graph) == ["StatelessIf"]


def test_a_computed_predicate_and_tf_case():
    def make(v1):
        x = v1.placeholder("float32", [3])
        s = v1.reduce_sum(x)
        y = v1.case(
            [(s > 10.0, lambda: x * x), (s > 1.0, lambda: v1.sin(x))], default=lambda: x * 3.0
        )
        return V1Graph({x: X}, [y])

    check(make, [X * 8], [-X])


def test_variables_are_read_and_assigned_in_the_taken_branch_only():
    def make(v1):
        x, p = v1.placeholder("float32", [3]), v1.placeholder("bool", [])
        v = v1.get_variable("v", initializer=[1.0, 2.0, 3.0], use_resource=True)
        n = v1.get_variable("n", initializer=0.0, use_resource=True)

        def then():
            with v1.control_dependencies([n.assign_add(1.0)]):
                value = n.read_value()
            with v1.control_dependencies([n.assign(value * 10.0)]):
                return x * v

        return V1Graph({x: X, p: YES}, [v1.cond(p, then, lambda: x)])

    graph = check(make, [X, NO])
    assert ops(graph) == ["If"]
    assert "AssignAddVariableOp" in graph.functions["cond_true"].control_ret or any(
        n.op == "AssignAddVariableOp" for n in graph.functions["cond_true"].node_def
    )


def test_batch_norm_with_a_placeholder_and_update_ops_inside_the_branch():
    def make(v1):
        x, p = v1.placeholder("float32", [None, 2, 2, 3]), v1.placeholder("bool", [])
        g = v1.get_variable("gamma", initializer=[1.0, 2.0, 3.0], use_resource=True)
        b = v1.get_variable("beta", initializer=[0.0, 1.0, 0.0], use_resource=True)
        updates = []
        y = x
        for i in range(2):
            mean = v1.get_variable(
                f"mean{i}", initializer=[0.1, 0.2, 0.3], trainable=False, use_resource=True
            )
            var = v1.get_variable(
                f"var{i}", initializer=[1.0, 1.1, 1.2], trainable=False, use_resource=True
            )

            def train(y=y, mean=mean, var=var):
                out, m, s = v1.nn.fused_batch_norm(y, g, b, epsilon=0.01)
                updates.append(mean.assign_sub((mean - m) * 0.1).op)
                updates.append(var.assign_sub((var - s) * 0.1).op)
                return out

            def infer(y=y, mean=mean, var=var):
                return v1.nn.fused_batch_norm(y, g, b, mean, var, epsilon=0.01, is_training=False)[
                    0
                ]

            y = v1.nn.relu(v1.cond(p, train, infer))
        images = np.random.default_rng(0).normal(size=(4, 2, 2, 3)).astype(np.float32)
        return V1Graph({x: images, p: YES}, [y], updates)

    images = np.random.default_rng(1).normal(size=(4, 2, 2, 3)).astype(np.float32)
    graph = check(make, [images, NO])
    assert ops(graph) == ["If", "If"]
    # All but the batch is known past the conditionals.
    shape = graph.nodes["cond_1"].attr["output_shapes"].list.shape[0]
    assert [d.size for d in shape.dim] == [-1, 2, 2, 3]


def test_an_assertion_keeps_guarding():
    import tensorflow as tf

    def make(v1):
        x = v1.placeholder("float32", [3])
        guard = v1.Assert(v1.reduce_sum(x) > -100.0, [x])
        with v1.control_dependencies([guard]):
            return V1Graph({x: X}, [v1.identity(x * x)])

    check(make)
    built = build(make)
    graph = built.graph()
    functionalize(graph)
    with pytest.raises(tf.errors.InvalidArgumentError):
        Tf2Function(built, graph, []).run([X - 1000.0])


def test_moved_nodes_are_told_with_the_outermost_construct():
    def make(v1):
        x, p = v1.placeholder("float32", [3]), v1.placeholder("bool", [])
        n = v1.get_variable("n", initializer=0.0, use_resource=True)
        update = []

        def then():
            def inner():
                update.append(n.assign_add(1.0).op)
                return x * 2.0

            return v1.cond(v1.reduce_sum(x) > 0.0, inner, lambda: x)

        return V1Graph({x: X, p: YES}, [v1.cond(p, then, lambda: x)], update)

    built = build(make, gradients=False)
    graph = built.graph()
    result = functionalize(graph)
    assert result.count == 2
    assert result.moved[built.updates[0]] == "cond"
    check(make, [X, NO], gradients=False)


def test_what_waits_for_a_branch_waits_for_the_if():
    def make(v1):
        x, p = v1.placeholder("float32", [3]), v1.placeholder("bool", [])
        n = v1.get_variable("n", initializer=0.0, use_resource=True)
        inside = []

        def then():
            inside.append(n.assign_add(1.0).op)
            return x

        y = v1.cond(p, then, lambda: x)
        with v1.control_dependencies(inside):
            return V1Graph({x: X, p: YES}, [y, v1.sin(x, name="after")])

    graph = check(make, gradients=False)
    assert "^cond" in graph.nodes["after"].input


def test_the_result_does_not_depend_on_chance():
    def make(v1):
        x, p = v1.placeholder("float32", [3]), v1.placeholder("bool", [])
        ys = v1.cond(p, lambda: [x * x, v1.sin(x), x], lambda: [x, x + 1.0, v1.cos(x)])
        return V1Graph({x: X, p: YES}, ys)

    built = build(make)
    texts = set()
    for _ in range(2):
        graph = built.graph()
        functionalize(graph)
        texts.add(
            "".join(str(n) for n in graph.nodes.values())
            + "".join(str(f) for f in graph.functions.values())
        )
    assert len(texts) == 1


def test_a_switch_without_merge_is_refused_by_name():
    def make(v1):
        x, p = v1.placeholder("float32", [3]), v1.placeholder("bool", [])
        return V1Graph(
            {x: X, p: YES}, [v1.sin(v1.raw_ops.Switch(data=x, pred=p)[1], name="lonely")]
        )

    with pytest.raises(UnsupportedError, match="lonely"):
        functionalize_cond(build(make, gradients=False).graph())


def test_asking_which_branch_was_taken_is_refused_by_name():
    def make(v1):
        x, p = v1.placeholder("float32", [3]), v1.placeholder("bool", [])
        no, yes = v1.raw_ops.Switch(data=x, pred=p)
        merged = v1.raw_ops.Merge(inputs=[no, v1.sin(yes)])
        return V1Graph({x: X, p: YES}, [merged[0], v1.identity(merged[1], name="which")])

    with pytest.raises(UnsupportedError, match="which"):
        functionalize_cond(build(make, gradients=False).graph())


def test_a_merge_of_different_conditionals_is_refused_by_name():
    def make(v1):
        x, p, q = (v1.placeholder(t, s) for t, s in (("float32", [3]), ("bool", []), ("bool", [])))
        yes = v1.raw_ops.Switch(data=x, pred=p)[1]
        no = v1.raw_ops.Switch(data=x, pred=q)[0]
        merged = v1.raw_ops.Merge(inputs=[no, yes], name="odd")
        return V1Graph({x: X, p: YES, q: YES}, [v1.identity(merged[0])])

    with pytest.raises(UnsupportedError, match="odd"):
        functionalize_cond(build(make, gradients=False).graph())


def test_a_loop_in_a_branch():
    def make(v1):
        x, p = v1.placeholder("float32", [3]), v1.placeholder("bool", [])
        w = v1.get_variable("w", initializer=0.5, use_resource=True)

        def then():
            return v1.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * w + x), [0, x])[1]

        return V1Graph({x: X, p: YES}, [v1.cond(p, then, lambda: x * w)])

    check(make, [X, NO])
