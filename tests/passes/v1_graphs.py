"""Builds v1 graphs, runs them in a v1 session, and as TF2 functions after the passes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bridge.function_body import FunctionArg, build_function
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.model import shape_from_proto
from bridge.opsets import OpTable
from bridge.passes._functions import Functionalized, handle_data
from bridge.passes.functionalize_cond import functionalize_cond
from bridge.passes.functionalize_while import functionalize_while
from bridge.passes.tensor_arrays import lower_tensor_arrays
from bridge.proto import tf_pb


@dataclass
class Result:
    """What a run gave: outputs, gradients by inputs then variables, variables afterwards."""

    outputs: list[Any]
    input_gradients: list[Any]
    variable_gradients: dict[str, Any]
    variables: dict[str, Any]


@dataclass
class V1Graph:
    """What a test's function builds: feeds by placeholder, outputs, and ops to run besides."""

    feeds: dict[Any, Any]
    outputs: Sequence[Any]
    updates: Sequence[Any] = ()


@dataclass
class Built:
    """A v1 graph, and what a v1 session computes with it for several feeds."""

    graph_def: bytes
    inputs: list[str]
    outputs: list[str]
    updates: list[str]
    variables: dict[str, Any]
    feeds: list[list[Any]]
    expected: list[Result]

    def graph(self) -> Graph:
        """The part of the graph that is needed, as earlier passes leave it."""
        proto = tf_pb.GraphDef.FromString(self.graph_def)
        graph = Graph(proto.node, OpTable())
        graph.keep(graph.ancestors([parse_tensor(t).node for t in self.outputs] + self.updates))
        return graph


@contextlib.contextmanager
def v1_control_flow() -> Iterator[None]:
    """Lets TensorFlow 2 build Switch and Merge."""
    from tensorflow.python.ops import control_flow_util

    before = control_flow_util.ENABLE_CONTROL_FLOW_V2
    control_flow_util.ENABLE_CONTROL_FLOW_V2 = False
    try:
        yield
    finally:
        control_flow_util.ENABLE_CONTROL_FLOW_V2 = before


def build(
    make: Callable[[Any], V1Graph], *more_feeds: Sequence[Any], gradients: bool = True
) -> Built:
    """Builds a graph and runs it for its own feeds and others."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as g, v1_control_flow():
        v1.set_random_seed(1)
        made = make(v1)
        graph_def = g.as_graph_def().SerializeToString()
        variables = v1.global_variables()
        g._unfetchable_ops.clear()  # update ops in branches can be run as targets
        floats = [t for t in made.outputs if t.dtype.is_floating]
        inputs = list(made.feeds)
        xs = [t for t in inputs if t.dtype.is_floating]
        wrt = [*xs, *(v for v in variables if v.dtype.is_floating)]
        grads = v1.gradients([v1.reduce_sum(t * t) for t in floats], wrt) if gradients else []
        grads = [v1.convert_to_tensor(t) if t is not None else None for t in grads]
        built = Built(
            graph_def,
            [t.name for t in inputs],
            [t.name for t in made.outputs],
            [op.name for op in made.updates],
            {},
            [list(made.feeds.values()), *map(list, more_feeds)],
            [],
        )
        for feed in built.feeds:
            with v1.Session() as session:
                session.run(v1.global_variables_initializer())
                start = {v.op.name: session.run(v) for v in variables}
                built.variables = start
                feed_dict = dict(zip(inputs, feed, strict=True))
                # Gradients first: updates change the variables.
                present = [t for t in grads if t is not None]
                values = iter(session.run(present, feed_dict))
                got = [next(values) if t is not None else None for t in grads]
                for v in variables:
                    v.load(start[v.op.name], session)
                outputs, _ = session.run([list(made.outputs), list(made.updates)], feed_dict)
                built.expected.append(
                    Result(
                        outputs,
                        got[: len(xs)],
                        {
                            v.op.name: t
                            for v, t in zip(
                                (v for v in variables if v.dtype.is_floating),
                                got[len(xs) :],
                                strict=gradients,
                            )
                        },
                        {v.op.name: session.run(v) for v in variables},
                    )
                )
    return built


def build_only(make: Callable[[Any], V1Graph]) -> Graph:
    """Builds a graph without running it, and returns the part that its outputs need."""
    import tensorflow as tf

    with tf.Graph().as_default() as g, v1_control_flow():
        outputs = [t.op.name for t in make(tf.compat.v1).outputs]
        proto = tf_pb.GraphDef.FromString(g.as_graph_def().SerializeToString())
    graph = Graph(proto.node, OpTable())
    graph.keep(graph.ancestors(outputs))
    return graph


def functionalize(graph: Graph) -> Functionalized:
    """Runs the three passes in their order."""
    lower_tensor_arrays(graph)
    loops = functionalize_while(graph)
    conds = functionalize_cond(graph)
    moved = {**loops.moved, **conds.moved}
    moved = {name: conds.moved.get(target, target) for name, target in moved.items()}
    return Functionalized(loops.count + conds.count, moved)


class Tf2Function:
    """A graph as the function that tf.saved_model.load makes of it."""

    def __init__(self, built: Built, graph: Graph, updates: Sequence[str]):
        import tensorflow as tf
        from tensorflow.core.framework import function_pb2
        from tensorflow.core.function.capture import restore_captures
        from tensorflow.core.protobuf import saved_object_graph_pb2
        from tensorflow.python.saved_model import function_deserialization, nested_structure_coder

        self.built = built
        handles = [n for n in graph.nodes.values() if n.op == "VarHandleOp"]
        args = []
        for name in built.inputs:
            node = graph.nodes.get(parse_tensor(name).node)
            assert node is not None, f"{name} was pruned"
            shape = shape_from_proto(graph.attr(node, "shape").shape)
            args.append(
                FunctionArg(
                    node.name,
                    (Tensor(node.name, 0),),
                    graph.output(Tensor(node.name, 0)).dtype,
                    shape,
                )
            )
        for node in handles:
            tensor = Tensor(node.name, 0)
            args.append(
                FunctionArg(node.name, (tensor,), tf_pb.DT_RESOURCE, (), handle_data(graph, tensor))
            )
        outputs = [parse_tensor(name) for name in built.outputs]
        needed = graph.ancestors([t.node for t in outputs] + list(updates))
        needed -= {tensor.node for arg in args for tensor in arg.replaces}
        function = build_function(
            graph,
            "tested",
            needed,
            args,
            outputs=[(f"output_{i}", t) for i, t in enumerate(outputs)],
            control_outputs=updates,
        )
        library = function_pb2.FunctionDefLibrary()
        for proto in (*graph.functions.values(), function):
            library.function.add().ParseFromString(proto.SerializeToString())
        objects = saved_object_graph_pb2.SavedObjectGraph()
        signature = objects.concrete_functions["tested"]
        specs = [
            tf.TensorSpec(a.shape, tf.as_dtype(a.dtype), name=f"x{i}")
            for i, a in enumerate(args[: len(built.inputs)])
        ]
        encode = nested_structure_coder.encode_structure
        signature.canonicalized_input_signature.CopyFrom(encode((tuple(specs), {})))
        signature.output_signature.CopyFrom(
            encode(
                [tf.TensorSpec(None, tf.as_dtype(o.type)) for o in function.signature.output_arg]
            )
        )
        functions = function_deserialization.load_function_def_library(library, objects)
        self.function = functions["tested"]
        self.tf_variables = {
            n.name: tf.Variable(
                built.variables[n.name], dtype=tf.as_dtype(graph.attr(n, "dtype").type)
            )
            for n in handles
        }
        restore_captures.restore_captures(self.function, list(self.tf_variables.values()))
        self.function._arg_keywords = [f"x{i}" for i in range(len(specs))]
        self.function._num_positional_args = len(specs)
        self.function.add_to_graph()

    def run(self, feed: Sequence[Any], *, gradients: bool = True, compiled: bool = False) -> Result:
        """Runs forward and backward; the variables start from their initial values."""
        import tensorflow as tf

        for name, variable in self.tf_variables.items():
            variable.assign(self.built.variables[name])
        inputs = [tf.constant(x) for x in feed]

        def call(*inputs: Any) -> Any:
            with tf.GradientTape() as tape:
                for x in inputs:
                    if x.dtype.is_floating:
                        tape.watch(x)
                outputs = self.function(*inputs)
                loss = sum(
                    (tf.reduce_sum(t * t) for t in outputs if t.dtype.is_floating), tf.zeros([])
                )
            xs = [x for x in inputs if x.dtype.is_floating]
            floats = {n: v for n, v in self.tf_variables.items() if v.dtype.is_floating}
            if not gradients:
                return outputs, [], {}
            grads = tape.gradient(loss, [*xs, *floats.values()])
            grads = [tf.convert_to_tensor(g) if g is not None else None for g in grads]
            return outputs, grads[: len(xs)], dict(zip(floats, grads[len(xs) :], strict=True))

        outputs, by_input, by_variable = (tf.function(call) if compiled else call)(*inputs)
        variables = {name: variable.numpy() for name, variable in self.tf_variables.items()}
        return Result([t.numpy() for t in outputs], by_input, by_variable, variables)


def assert_same(got: Result, want: Result) -> None:
    """Compares two results; a missing gradient is as good as zeros."""
    for a, b in zip(got.outputs, want.outputs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for a, b in zip(got.input_gradients, want.input_gradients, strict=True):
        _assert_same_gradient(a, b)
    for name, a in got.variable_gradients.items():
        _assert_same_gradient(a, want.variable_gradients.get(name))
    for name, value in got.variables.items():
        np.testing.assert_allclose(value, want.variables[name], rtol=1e-5, atol=1e-6)


def _assert_same_gradient(a: Any, b: Any) -> None:
    if a is None or b is None:
        assert a is None or not np.any(a)
        assert b is None or not np.any(b)
    else:
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def check(
    make: Callable[[Any], V1Graph], *more_feeds: Sequence[Any], gradients: bool = True
) -> Graph:
    """Builds, converts, and compares all runs; returns the converted graph."""
    built = build(make, *more_feeds, gradients=gradients)
    graph = built.graph()
    result = functionalize(graph)
    left = {n.op for n in graph.nodes.values()} & {
        "Switch",
        "Merge",
        "Enter",
        "Exit",
        "NextIteration",
        "LoopCond",
    }
    assert not left
    updates = list(dict.fromkeys(result.moved.get(name, name) for name in built.updates))
    function = Tf2Function(built, graph, updates)
    for feed, want in zip(built.feeds, built.expected, strict=True):
        assert_same(function.run(feed, gradients=gradients), want)
    # Then as a call from another tf.function. Not before: after the gradient of a call with written
    # variables has been built in a graph, TensorFlow 2.21 fails in eager mode, with its own
    # SavedModels too.
    got = function.run(built.feeds[0], gradients=gradients, compiled=True)
    assert_same(got, built.expected[0])
    return graph
