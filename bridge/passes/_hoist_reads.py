"""Lets variables that nothing writes enter loops and branches by value instead of by handle.

The gradient of a While or an If that is loaded from a SavedModel wants to know what its resource
arguments point to, and TensorFlow forgets that for functions inside functions: a loop in a loop
has no gradient for its variables, a conditional in a loop an error. A value has neither trouble,
and a function that only reads is stateless.
"""

from __future__ import annotations

from bridge.attrs import type_attr
from bridge.graph import Consumers, Graph, parse_tensor
from bridge.ops import RESOURCE_VARIABLE
from bridge.proto import tf_pb

_GATES = frozenset({"Enter", "Identity", "Switch"})
_HARMLESS = frozenset({"ReadVariableOp", "ResourceGather", "VariableShape", "VarIsInitializedOp"})


def hoist_reads(graph: Graph) -> None:
    """Moves reads of never written variables out of v1 loops and conditionals.

    A ReadVariableOp inside becomes an Identity, a ResourceGather a Gather, under the same name; the
    Switches and Enters before it pass on the value. A variable that is written anywhere in the
    graph stays as it is, and so does a Switch or Enter whose handle serves something else too.
    """
    variables = [node for node in graph.nodes.values() if node.op == RESOURCE_VARIABLE]
    consumers = graph.consumers() if variables else {}
    for variable in variables:
        gates = [
            node
            for node, position in consumers[variable.name]
            if position == 0 and node.op in ("Enter", "Switch")
        ]
        if gates and _is_constant(variable.name, consumers):
            _hoist(graph, variable, gates, consumers)


def _is_constant(name: str, consumers: Consumers) -> bool:
    stack = [name]
    while stack:
        for node, position in consumers[stack.pop()]:
            if node.input[position].startswith("^"):
                continue
            if node.op in _GATES:
                stack.append(node.name)
            elif node.op not in _HARMLESS:
                return False
    return True


def _hoist(
    graph: Graph, variable: tf_pb.NodeDef, gates: list[tf_pb.NodeDef], consumers: Consumers
) -> None:
    dtype = graph.attr(variable, "dtype")
    value = ""
    for gate in gates:
        behind = _behind(graph, gate, consumers)
        if behind is None:
            continue
        if not value:
            value = graph.unique_name(f"{variable.name}/Read")
            graph.add("ReadVariableOp", value, [variable.name], dtype=dtype)
        gate.input[0] = value
        for node in behind:
            if node.op == "ReadVariableOp":
                node.op = "Identity"
                node.attr.clear()
            elif node.op == "ResourceGather":
                indices = graph.attr(node, "Tindices").type
                node.op = "Gather"
                node.attr.clear()
                node.attr["Tparams"].CopyFrom(dtype)
                node.attr["Tindices"].CopyFrom(type_attr(indices))
                continue
            node.attr["T"].CopyFrom(dtype)
            node.attr.pop("_output_shapes", None)


def _behind(graph: Graph, gate: tf_pb.NodeDef, consumers: Consumers) -> list[tf_pb.NodeDef] | None:
    """Returns a gate and all it leads to, or None where a value would not serve instead."""
    behind = [gate]
    for node in behind:  # grows while it runs
        if node.op not in _GATES:
            continue
        for consumer, position in consumers[node.name]:
            if parse_tensor(consumer.input[position]).is_control:
                continue
            plain_gather = (
                consumer.op == "ResourceGather" and graph.attr(consumer, "batch_dims").i == 0
            )
            if not plain_gather and consumer.op not in (*_GATES, "ReadVariableOp"):
                return None
            behind.append(consumer)
    return behind
