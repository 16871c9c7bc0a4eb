"""Removes what only ties nodes together."""

from __future__ import annotations

from typing import ClassVar

from bridge.graph import Graph, Tensor, parse_tensor
from bridge.model import Variant
from bridge.passes._functions import effects
from bridge.passes._infra import VariantPass
from bridge.passes._variable_ops import Use, VariableUses
from bridge.report import Report


class ForwardIdentities(VariantPass):
    """Drops control edges that order nothing, then Identity nodes that do nothing.

    Requires: SeparateUpdates has run: nothing of the forward pass writes a variable. Ensures: equal
    computations differ in nothing but names, so that MergeEqual finds them.

    1. tf.function ties its outputs to whatever touches state, reads of variables too. An edge from
       nodes without effect orders nothing, unless it makes a write wait for a read.
    2. An Identity without control inputs is its input. Each nested function returns through one.
    """

    name: ClassVar[str] = "forward-identities"

    def rewrite(self, variant: Variant, report: Report) -> int:
        """Cleans one variant; returns how many edges and nodes went."""
        del report
        graph = variant.graph
        edges = _drop_ties(graph)
        forwarded = _forwarded(variant)

        def source(tensor: Tensor) -> Tensor:
            while tensor in forwarded:
                tensor = forwarded[tensor]
            return tensor

        for node in graph.nodes.values():
            for position, name in enumerate(node.input):
                tensor = parse_tensor(name)
                # MergeEqual compares names: each tensor has one only.
                if tensor in forwarded or name.endswith(":0"):
                    node.input[position] = str(source(tensor))

        def moved(name: str) -> str:
            tensor = source(parse_tensor(name))
            return f"{tensor.node}:{tensor.output}"

        variant.retarget(moved)
        return edges + len(forwarded)


def _drop_ties(graph: Graph) -> int:
    tied = [n for n in graph.nodes.values() if n.input and n.input[-1].startswith("^")]
    active = _with_effect(graph) if tied else set()
    ordering = _before_writes(graph) if tied else set()
    dropped = 0
    for node in tied:
        if node.name in ordering:
            continue
        kept = [n for n in node.input if not n.startswith("^") or n[1:] in active]
        if len(kept) < len(node.input):
            dropped += len(node.input) - len(kept)
            node.input[:] = kept
    return dropped


def _with_effect(graph: Graph) -> set[str]:
    """Returns the nodes that have an effect, and those that depend on one."""
    found = set(effects(graph, graph.nodes))
    for name in graph.topological_order() if found else ():
        if name not in found and any(t.node in found for t in graph.inputs(graph.nodes[name])):
            found.add(name)
    return found


def _before_writes(graph: Graph) -> set[str]:
    """Returns the nodes that write a variable, and the NoOps that such a node waits for."""
    find = VariableUses(graph)
    found: set[str] = set()
    stack = [
        node
        for node in graph.nodes.values()
        if any(Use.WRITE in use for use in find.of_node(node).values())
    ]
    while stack:
        node = stack.pop()
        if node.name in found:
            continue
        found.add(node.name)
        waits = (graph.nodes[tensor.node] for tensor in graph.inputs(node) if tensor.is_control)
        stack.extend(other for other in waits if other.op == "NoOp")
    return found


def _forwarded(variant: Variant) -> dict[Tensor, Tensor]:
    """Returns the input of each Identity that does nothing."""
    inputs = {
        parse_tensor(name).node
        for signature in variant.signatures.values()
        for name in signature.input_tensors()
    }
    kept = inputs | set(variant.update_ops.values())
    return {
        Tensor(node.name, 0): parse_tensor(node.input[0])
        for node in variant.graph.nodes.values()
        if node.op == "Identity" and len(node.input) == 1 and node.name not in kept
    }
