"""Makes nodes that compute the same one node."""

from __future__ import annotations

from typing import ClassVar

from bridge.graph import Graph, Tensor, parse_tensor
from bridge.model import Variant
from bridge.ops import PLACEHOLDERS_WITH_DEFAULT, RESOURCE_VARIABLE, WRITING_OPS
from bridge.passes._effects import signatures_that_wait
from bridge.passes._infra import VariantPass
from bridge.proto import tf_pb
from bridge.report import Report


class MergeEqual(VariantPass):
    """Merges nodes with equal op, attributes and inputs, data and control.

    Requires: InlineCalls has run. Ensures: what two signatures compute from the same inputs, they
    compute with the same nodes.

    1. Each function of a SavedModel has nodes of its own, though `__call__` and `serving_default`
       mostly are the same mapping. A TF1 Hub module has one graph for all of its signatures.
    2. Only stateless nodes are merged, and reads of variables that are ordered alike. Nodes that
       draw random numbers stay apart, and so do those that run functions with a node that has a
       state.
    3. A write of one signature and an equal write of another are merged: what both update alike
       must not be updated twice when the client runs all update ops. Outputs wait for the writes of
       their signature, as tf.function orders them; what no output waits for stays, and so does
       what one signature writes twice.
    """

    name: ClassVar[str] = "merge-equal"

    def rewrite(self, variant: Variant, report: Report) -> int:
        """Merges the nodes of one variant."""
        del report
        graph = variant.graph
        merged = _merge(variant)
        if not merged:
            return 0

        def renamed(name: str) -> str:
            tensor = parse_tensor(name)
            return str(Tensor(merged.get(tensor.node, tensor.node), tensor.output))

        variant.retarget(renamed)
        variant.table_initializers = list(dict.fromkeys(map(renamed, variant.table_initializers)))
        nodes = {renamed(node): name for name, node in reversed(variant.update_ops.items())}
        variant.update_ops = {name: node for node, name in reversed(nodes.items())}
        graph.keep(graph.nodes.keys() - merged.keys())
        return len(merged)


def _merge(variant: Variant) -> dict[str, str]:
    """Lets consumers read the first of equal nodes; returns the first for each of the others."""
    graph = variant.graph
    merged: dict[str, str] = {}
    first: dict[bytes, str] = {}
    writes: dict[bytes, dict[str, set[str]]] = {}
    updates = [node.name for node in graph.nodes.values() if node.op.startswith(WRITING_OPS)]
    signatures = signatures_that_wait(variant, updates)
    for name in graph.topological_order():
        node = graph.nodes[name]
        _rename_inputs(node, merged)
        if name in variant.assets or not _may_merge(graph, node):
            continue
        node.name = ""
        content = node.SerializeToString(deterministic=True)
        node.name = name
        if not node.op.startswith(WRITING_OPS):
            if (kept := first.setdefault(content, name)) != name:
                merged[name] = kept
        elif signatures[name]:
            # Each write stands for one of each signature.
            equal = writes.setdefault(content, {})
            for kept, taken in equal.items():
                if taken.isdisjoint(signatures[name]):
                    merged[name] = kept
                    taken.update(signatures[name])
                    break
            else:
                equal[name] = signatures[name]
    return merged


def _rename_inputs(node: tf_pb.NodeDef, merged: dict[str, str]) -> None:
    for position, (source, output) in enumerate(map(parse_tensor, node.input)):
        if source in merged:
            node.input[position] = str(Tensor(merged[source], output))


def _may_merge(graph: Graph, node: tf_pb.NodeDef) -> bool:
    op = node.op
    if op in PLACEHOLDERS_WITH_DEFAULT or op == RESOURCE_VARIABLE:
        return False
    if op == "ReadVariableOp" or op.startswith(WRITING_OPS):
        return True
    return not graph.op_def(node).is_stateful and not _runs_state(graph, node)


def _runs_state(graph: Graph, node: tf_pb.NodeDef) -> bool:
    """True if a function that a node runs has a node with a state, or runs one that has."""
    seen: set[str] = set()
    stack = list(graph.called_functions(node))
    while stack:
        name = stack.pop()
        if name in seen:
            continue
        seen.add(name)
        for inner in graph.functions[name].node_def:
            if graph.op_def(inner).is_stateful:
                return True
            stack += graph.called_functions(inner)
    return False
