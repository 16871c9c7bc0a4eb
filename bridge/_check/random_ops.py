"""Which ops draw random numbers, whatever their seed is."""

from __future__ import annotations

from bridge._surfaces.writes import draws_by_seed
from bridge.graph import Graph
from bridge.proto import tf_pb

_DRAWING = frozenset({"NonDeterministicInts", "RiscRandomUniform"})
"""Random ops that neither their name's start nor a `seed2` gives away."""


def is_random(graph: Graph, node: tf_pb.NodeDef) -> bool:
    """True for a random op; one with a fixed seed, too, drops the same units in each call."""
    if node.op in graph.functions:
        return False
    if node.op in _DRAWING or draws_by_seed(node.op):
        return True
    op_def = graph.ops.get(node.op)
    if op_def is None:  # nobody knows it; conversions say so
        return False
    return any(attr.name == "seed2" for attr in op_def.attr)
