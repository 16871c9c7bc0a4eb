"""Which tensors of two graphs can be compared, and the nodes that lie between them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from bridge.attrs import type_attr
from bridge.call_graph import keep_called_functions
from bridge.dtypes import is_ref
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.ops import LOOP_BACK_EDGE, MERGES, REFERENCE_VARIABLES, RESOURCE_VARIABLE
from bridge.proto import tf_pb

ENTERS = frozenset({"Enter", "RefEnter"})
EXITS = frozenset({"Exit", "RefExit"})
SWITCHES = frozenset({"Switch", "RefSwitch"})
VARIABLES = REFERENCE_VARIABLES | {RESOURCE_VARIABLE}

_HANDLES = frozenset({tf_pb.DT_RESOURCE, tf_pb.DT_VARIANT})

_FLOW_THROUGH = (
    ENTERS | EXITS | SWITCHES | MERGES | LOOP_BACK_EDGE | {"Identity", "PlaceholderWithDefault"}
)
_READ_ARRAYS = tuple(f"TensorArray{how}" for how in ("Read", "Gather", "Pack", "Concat", "Size"))

_READS = frozenset({"Identity", "ReadVariableOp", "PlaceholderWithDefault"})
"""Ops that pass on what they get, one of which often becomes another."""


def inner_nodes(graph: Graph) -> set[str]:
    """Returns the nodes inside of v1 loops and conditionals.

    Nobody can fetch them: in a loop they have many values, in the branch that is not taken none.
    """
    frames: dict[str, int] = {}
    branches: dict[str, frozenset[tuple[Tensor, int]]] = {}
    for name in graph.topological_order():
        node = graph.nodes[name]
        edges = [
            tensor
            for tensor in graph.inputs(node)
            if not (node.op in MERGES and graph.nodes[tensor.node].op in LOOP_BACK_EDGE)
        ]
        depth = max((frames[tensor.node] for tensor in edges), default=0)
        taken = [_branches_of(graph, tensor, branches) for tensor in edges if not tensor.is_control]
        found = frozenset[tuple[Tensor, int]]()
        if node.op in MERGES and taken:
            found = frozenset.intersection(*taken)
        else:
            found = found.union(*taken)
        found = found.union(*(branches[tensor.node] for tensor in edges if tensor.is_control))
        if node.op in EXITS:
            depth = max(0, depth - 1)
            found = frozenset(branch for branch in found if frames[branch[0].node] <= depth)
        frames[name] = depth + (node.op in ENTERS)
        branches[name] = found
    return {name for name in frames if frames[name] or branches[name]}


def _branches_of(
    graph: Graph, tensor: Tensor, branches: Mapping[str, frozenset[tuple[Tensor, int]]]
) -> frozenset[tuple[Tensor, int]]:
    """Returns the branches in which a tensor has a value: predicates, and what they must be."""
    found = branches[tensor.node]
    node = graph.nodes[tensor.node]
    if node.op in SWITCHES:
        found |= {(parse_tensor(node.input[1]), tensor.output)}
    return found


def valueless_nodes(graph: Graph) -> set[str]:
    """Returns the nodes outside of loops and conditionals whose outputs say nothing of values.

    A Switch has but one of its outputs. What an op that writes a v1 TensorArray gives is a number
    that only says when it was done: whoever is fed it finds nothing in the array.
    """
    found = {name for name, node in graph.nodes.items() if node.op in SWITCHES}
    writers = {
        name
        for name, node in graph.nodes.items()
        if node.op.startswith("TensorArray") and not node.op.startswith(_READ_ARRAYS)
    }
    consumers = graph.consumers()
    stack = list(writers)
    while stack:
        for consumer, _ in consumers[stack.pop()]:
            if consumer.op in _FLOW_THROUGH and consumer.name not in writers:
                writers.add(consumer.name)
                stack.append(consumer.name)
    return found | writers


@dataclass
class SideGraph:
    """One side of a comparison.

    Attributes:
      graph: its graph.
      inner: nodes that can't be fetched.
      twins: for each of its tensors that the other side has too, the reference's tensor.
    """

    graph: Graph
    inner: set[str]
    twins: dict[Tensor, Tensor] = field(default_factory=dict)

    def region(self, node: str) -> Region:
        """Returns a node and what it is computed with, back to tensors that both sides have."""
        region = Region()
        stack = [node]
        while stack:
            name = stack.pop()
            if name in region.nodes:
                continue
            region.nodes[name] = None
            inside = name in self.inner or self.graph.nodes[name].op in EXITS | MERGES
            for tensor in self.graph.inputs(self.graph.nodes[name]):
                if tensor in self.twins:
                    region.boundary[tensor] = None
                elif not tensor.is_control or (inside and tensor.node in self.inner):
                    stack.append(tensor.node)
        return region

    def alone(self, region: Region) -> tuple[tf_pb.GraphDef, dict[Tensor, str]]:
        """Returns a region as a graph of its own, and the Placeholders of its boundary."""
        names = {*region.nodes, *(tensor.node for tensor in region.boundary)}
        alone = Graph([], self.graph.ops, self.graph.functions.values(), where=self.graph.where)
        placeholders: dict[Tensor, str] = {}
        for tensor in region.boundary:
            name = tensor.node
            if tensor.output or name in region.nodes or name in alone.nodes:
                name = f"{tensor.node}_output_{tensor.output}"
                while name in names:
                    name += "_"
            names.add(name)
            dtype = self.graph.output(tensor).dtype
            alone.add("Placeholder", name, dtype=type_attr(dtype))
            placeholders[tensor] = name
        for name in region.nodes:
            node = tf_pb.NodeDef()
            node.CopyFrom(self.graph.nodes[name])
            inputs = [parse_tensor(text) for text in node.input]
            node.input[:] = [
                placeholders.get(tensor, str(tensor))
                for tensor in inputs
                if not tensor.is_control or tensor.node in region.nodes
            ]
            alone.nodes[name] = node
        keep_called_functions(alone)
        definition = tf_pb.GraphDef(node=alone.nodes.values())
        definition.library.function.extend(alone.functions.values())
        return definition, placeholders


@dataclass
class Region:
    """Some nodes, in no order.

    Attributes:
      nodes: their names.
      boundary: the tensors of other nodes that they read.
    """

    nodes: dict[str, None] = field(default_factory=dict)
    boundary: dict[Tensor, None] = field(default_factory=dict)


def find_twins(
    reference: SideGraph, candidate: SideGraph, inputs: Iterable[tuple[Tensor, Tensor]]
) -> list[str]:
    """Finds the nodes that both sides have, and notes their tensors as twins.

    Those are nodes of one name whose outputs have the same dtypes, whether of reference or of
    resource variables. A node with another op must have an input in common, or it is there by
    chance.

    Args:
      reference: one side; gets its twins.
      candidate: the other one; gets its twins.
      inputs: the tensors of the inputs, on both sides.

    Returns:
      The names, in topological order.
    """
    for first, second in inputs:
        reference.twins[first] = candidate.twins[second] = first
    fed = {t.node for side in (reference, candidate) for t in side.twins}
    fed |= valueless_nodes(reference.graph) | valueless_nodes(candidate.graph)
    common: list[str] = []
    for name in reference.graph.topological_order():
        other = candidate.graph.nodes.get(name)
        if other is None or name in fed or name in reference.inner or name in candidate.inner:
            continue
        node = reference.graph.nodes[name]
        types = [out.dtype for out in reference.graph.outputs(node)]
        if types != [out.dtype for out in candidate.graph.outputs(other)] or not types:
            continue
        if any(is_ref(dtype) or dtype in _HANDLES for dtype in types) or not _same(node, other):
            continue
        common.append(name)
        for number in range(len(types)):
            tensor = Tensor(name, number)
            reference.twins[tensor] = candidate.twins[tensor] = tensor
    return common


def _same(node: tf_pb.NodeDef, other: tf_pb.NodeDef) -> bool:
    if node.op == other.op or {node.op, other.op} <= _READS:
        return True
    return bool({*map(parse_tensor, node.input)} & {*map(parse_tensor, other.input)})


def ranks(graph: Graph, inputs: Collection[Tensor]) -> dict[str, float]:
    """Returns numbers that sort nodes: as they are computed, and constants where they are used."""
    order = graph.topological_order()
    consumers = graph.consumers()
    moving = graph.descendants(inputs, consumers=consumers)
    result: dict[str, float] = {name: position for position, name in enumerate(order)}
    for name in reversed(order):
        if name not in moving:
            used = [result[consumer.name] - 0.5 for consumer, _ in consumers[name]]
            result[name] = min([*used, float(len(order))])
    return result


def share_a_consumer(name: str, first: Graph, second: Graph) -> bool:
    """True if a node of one name takes a node's output as the same input in both graphs."""
    uses = [
        {
            (node.name, position)
            for node in graph.nodes.values()
            for position, text in enumerate(node.input)
            if parse_tensor(text).node == name
        }
        for graph in (first, second)
    ]
    return bool(uses[0] & uses[1])
