"""Removes what only ties nodes together."""

from __future__ import annotations

from typing import ClassVar

from bridge.graph import Graph, Tensor, parse_tensor
from bridge.model import Variant
from bridge.passes._functions import has_effect
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

        def moved(name: str) -> str:
            tensor = parse_tensor(name)
            while tensor in forwarded:
                tensor = forwarded[tensor]
            return f"{tensor.node}:{tensor.output}"

        for node in graph.nodes.values():
            for position, name in enumerate(node.input):
                if not name.startswith("^"):
                    node.input[position] = str(parse_tensor(moved(name)))
        variant.retarget(moved)
        return edges + len(forwarded)


def _drop_ties(graph: Graph) -> int:
    effects: set[str] = set()
    for name in graph.topological_order():
        node = graph.nodes[name]
        if has_effect(graph, node) or any(t.node in effects for t in graph.inputs(node)):
            effects.add(name)
    ordering = _before_writes(graph)
    dropped = 0
    for node in graph.nodes.values():
        if node.name in ordering:
            continue
        kept = [n for n in node.input if not n.startswith("^") or n[1:] in effects]
        if len(kept) < len(node.input):
            dropped += len(node.input) - len(kept)
            node.input[:] = kept
    return dropped


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
