"""A graph without what does not tell two mappings apart, to compare what tensors are computed by.

1. Control edges. A signature that calls a function returns an Identity that waits for the call; the
   function itself returns the tensor.
2. Seeds of random ops that are attributes. TensorFlow gives each op one of its own, and of two that
   differ in nothing else, each does what the other does.
"""

from __future__ import annotations

from bridge._check.random_ops import is_random
from bridge.graph import Graph
from bridge.proto import tf_pb

_SEEDS = ("seed", "seed2")


def comparable(graph: Graph) -> Graph:
    """Returns a graph of the same nodes and functions, without these; it shares what has none."""
    return Graph(
        [_node(graph, node) for node in graph.nodes.values()],
        graph.ops,
        [_function(graph, function) for function in graph.functions.values()],
        where=graph.where,
    )


def _differs(graph: Graph, node: tf_pb.NodeDef) -> bool:
    is_ordered = any(text.startswith("^") for text in node.input)
    return is_ordered or (any(seed in node.attr for seed in _SEEDS) and is_random(graph, node))


def _node(graph: Graph, node: tf_pb.NodeDef) -> tf_pb.NodeDef:
    if not _differs(graph, node):
        return node
    copy = tf_pb.NodeDef()
    copy.CopyFrom(node)
    _strip(graph, copy)
    return copy


def _function(graph: Graph, function: tf_pb.FunctionDef) -> tf_pb.FunctionDef:
    if not any(_differs(graph, node) for node in function.node_def):
        return function
    copy = tf_pb.FunctionDef()
    copy.CopyFrom(function)
    for node in copy.node_def:
        if _differs(graph, node):
            _strip(graph, node)
    return copy


def _strip(graph: Graph, node: tf_pb.NodeDef) -> None:
    node.input[:] = [text for text in node.input if not text.startswith("^")]
    if is_random(graph, node):
        for seed in _SEEDS:
            if seed in node.attr:
                del node.attr[seed]
