"""Runs TF2 functions that write variables beside their graphs in TensorFlow 1.15."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.attrs import type_attr
from bridge.graph import Graph
from bridge.passes import Pass
from bridge.proto import tf_pb
from tests.clients.tf1 import Tf1Client
from tests.passes.flat_graphs import FlatFunction, assert_close, flatten, tf1_graph_def


def rewritten(
    function: Callable[..., Any], *inputs: Any, passes: Sequence[Pass], specs: Sequence[Any] = ()
) -> FlatFunction:
    """Traces a function and runs passes, which don't see the nodes that initialize variables."""
    flat = flatten(function, *inputs, specs=specs)
    nodes = flat.graph.nodes
    assigns = [nodes.pop(name) for name in flat.initializers]
    values = [nodes.pop(assign.input[1]) for assign in assigns]
    flat.rewrite(*passes)
    flat.initializers.clear()
    for assign, value in zip(assigns, values, strict=True):
        if assign.input[0] in flat.graph.nodes:
            flat.graph.nodes |= {assign.name: assign, value.name: value}
            flat.initializers.append(assign.name)
        else:
            del flat.variables[assign.input[0]]
    return flat


def call_in_tf1(
    tf1: Tf1Client, flat: FlatFunction, calls: int
) -> tuple[list[NDArray[Any]], dict[str, NDArray[Any]]]:
    """Returns outputs and variables after the update ops have run some times.

    The outputs are fetched together with the update ops, after these: they must not see them.
    """
    source = tf_pb.GraphDef.FromString(tf1_graph_def(flat))
    graph = Graph(source.node, flat.graph.ops, source.library.function)
    updates = [f"^{name}" for name in flat.variant.update_ops.values()]
    outputs = []
    for endpoint in flat.signature.outputs.values():
        component = endpoint.components[0]
        name = graph.unique_name("fetch")
        graph.add(
            "Identity",
            name,
            [component.name.removesuffix(":0"), *updates],
            T=type_attr(component.dtype),
        )
        outputs.append(f"{name}:0")
    reads = {}
    for name in flat.variables:
        read = graph.unique_name(f"{name}/now")
        graph.add("ReadVariableOp", read, [name], dtype=graph.nodes[name].attr["dtype"])
        reads[name] = f"{read}:0"
    feeds = {
        f"{endpoint.components[0].name.removesuffix(':0')}:0": tensor.numpy()
        for endpoint, tensor in zip(flat.signature.inputs.values(), flat.inputs, strict=True)
    }
    del source.node[:]
    source.node.extend(graph.nodes.values())
    data = source.SerializeToString()
    steps = [flat.initializers] if flat.initializers else []
    steps += [list(flat.variant.update_ops.values())] * calls if updates else []
    found, _ = tf1.run_graph(data, feeds, outputs, steps=steps)
    state, _ = tf1.run_graph(data, feeds, list(reads.values()), steps=steps)
    return [found[name] for name in outputs], {name: state[t] for name, t in reads.items()}


def check_calls(tf1: Tf1Client, flat: FlatFunction, calls: int = 3) -> None:
    """Fails unless each of several calls gives what TensorFlow 2 gives, and leaves what it does."""
    import tensorflow as tf

    call = tf.function(flat.function)
    for number in range(calls):
        outputs, state = call_in_tf1(tf1, flat, number)
        for name, ours in state.items():
            assert_close(ours, flat.variables[name].numpy(), 1e-5, f"{name} before call {number}")
        expected = tf.nest.flatten(call(*flat.inputs))
        for ours, theirs in zip(outputs, expected, strict=True):
            assert_close(ours, np.asarray(theirs), 1e-5, f"call {number}")
