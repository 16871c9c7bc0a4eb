"""What the passes share that turn parts of a graph into functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from bridge.attrs import HandleData, ints_tensor_attr, type_attr, variable_handle_data
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.ops import RESOURCE_VARIABLE
from bridge.proto import tf_pb

# Ops that pass their first input on as it is. Merge counts: all its inputs hold the same handle.
_PASS_ON = frozenset({"Enter", "Exit", "Identity", "Merge", "NextIteration", "Switch"})

_SMALL_CONST = 1024  # bytes

# Ops that OpDefs call stateful though nothing is lost where nobody wants their output.
_NO_EFFECT = frozenset(
    {
        "HashTableV2",
        "LookupTableFindV2",
        "LookupTableSizeV2",
        "Multinomial",
        "Placeholder",
        "RandomGamma",
        "RandomShuffle",
        "RandomStandardNormal",
        "RandomUniform",
        "RandomUniformInt",
        "ReadVariableOp",
        "ResourceGather",
        "TruncatedNormal",
        "VarHandleOp",
        "VariableShape",
    }
)


@dataclass(frozen=True)
class Functionalized:
    """What a pass did.

    Attributes:
      count: how many constructs became functional.
      moved: for each node that is no longer in the graph, the If or While that does its work now.
    """

    count: int
    moved: dict[str, str]


def follow(moved: dict[str, str]) -> dict[str, str]:
    """Resolves nodes that moved into a construct which itself moved into another."""
    result: dict[str, str] = {}
    for node in moved:
        target = node
        while target in moved:
            target = moved[target]
        result[node] = target
    return result


def has_effect(graph: Graph, node: tf_pb.NodeDef) -> bool:
    """True if running the node does something beside giving its outputs."""
    return node.op not in _NO_EFFECT and graph.op_def(node).is_stateful


def effects(graph: Graph, names: Iterable[str]) -> list[str]:
    """Returns the nodes among `names` that must run whether or not their output is wanted."""
    return [name for name in names if has_effect(graph, graph.nodes[name])]


def handle_data(graph: Graph, tensor: Tensor) -> HandleData:
    """Returns what a resource handle points to, if it can be followed to its VarHandleOp."""
    origin = _origin(graph, tensor)
    if origin is None or origin.op != RESOURCE_VARIABLE:
        return ()
    return variable_handle_data(graph.attr(origin, "dtype").type, graph.attr(origin, "shape").shape)


def _origin(graph: Graph, tensor: Tensor) -> tf_pb.NodeDef | None:
    seen: set[str] = set()
    while tensor.node in graph.nodes and tensor.node not in seen:
        seen.add(tensor.node)
        node = graph.nodes[tensor.node]
        if node.op not in _PASS_ON:
            return node
        tensor = parse_tensor(node.input[0])
    return None


def is_small_const(graph: Graph, tensor: Tensor, keep: Collection[str]) -> bool:
    """True for a Const that a function had better hold itself than get as an argument.

    As a Const, a shape or an axis still tells TensorFlow static shapes.

    Args:
      graph: the graph.
      tensor: what the function reads.
      keep: Consts that must stay where they are.
    """
    node = graph.node(tensor.node)
    if node.op != "Const" or node.input or node.name in keep:
        return False
    return node.ByteSize() <= _SMALL_CONST


def last_name(name: str) -> str:
    """Returns a node's name without its scope."""
    return name.rpartition("/")[2]


def add_int_const(graph: Graph, name: str, values: int | Sequence[int]) -> str:
    """Adds an int32 Const, scalar or vector; returns its name, made unique."""
    name = graph.unique_name(name)
    value = ints_tensor_attr(tf_pb.DT_INT32, values)
    graph.add("Const", name, dtype=type_attr(tf_pb.DT_INT32), value=value)
    return name
