"""What nodes do to variables: read them, write them, or ask for their shape.

The ops are those of tensorflow/core/ops/resource_variable_ops.cc, state_ops.cc and
stateful_random_ops.cc.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator

from bridge.errors import UnsupportedError
from bridge.graph import Graph
from bridge.ops import RESOURCE_VARIABLE, WRITING_OPS
from bridge.proto import tf_pb

GENERATOR_OPS = (
    "RngReadAndSkip",
    "RngSkip",
    "StatefulRandomBinomial",
    "StatefulStandardNormal",
    "StatefulTruncatedNormal",
    "StatefulUniform",
)
"""How the names of the ops start that draw from a tf.random.Generator and move its state on."""

FUNCTIONAL = frozenset({"If", "StatelessIf", "Case", "StatelessCase", "While", "StatelessWhile"})
"""Ops that run functions of the library."""

READS = frozenset({"ReadVariableOp", "ResourceGather", "ResourceGatherNd"})
"""Ops that read a variable, and do nothing else."""

_NEITHER = frozenset({"DestroyResourceOp", "VarIsInitializedOp", "VariableShape"})
_WRITES = (*WRITING_OPS, *GENERATOR_OPS)


class Use(enum.Flag):
    """What a node does to a variable."""

    NOTHING = 0
    READ = enum.auto()
    WRITE = enum.auto()


def uses_variable(op: str) -> bool:
    """True for an op that takes the handle of a variable, and of which is known what for."""
    return op in READS or op in _NEITHER or op.startswith(_WRITES)


class VariableUses:
    """Finds out which variables the nodes of a graph use, by the functions that they run too."""

    def __init__(self, graph: Graph, handles: Collection[str] | None = None):
        """Takes the graph, whose edges to variables must not change meanwhile.

        Args:
          graph: the graph.
          handles: names of the variables' nodes, where these are arguments of a body.
        """
        if handles is None:
            handles = [n.name for n in graph.nodes.values() if n.op == RESOURCE_VARIABLE]
        self._graph = graph
        self._of_args: dict[tuple[str, int], Use] = {}
        self._handles = {name: name for name in handles}
        # An Identity hands the handle on; there may be several in a row.
        passing = [node for node in graph.nodes.values() if node.op == "Identity"]
        while found := [n for n in passing if n.name not in self._handles and n.input[0] in self]:
            self._handles.update((node.name, self._handles[node.input[0]]) for node in found)

    def __contains__(self, tensor: str) -> bool:
        """True for a tensor that is the handle of a variable."""
        return tensor in self._handles

    def of_node(self, node: tf_pb.NodeDef) -> dict[str, Use]:
        """Returns what a node does, by the name of the variable.

        Raises:
          UnsupportedError: its op takes the handle of a variable, and nobody knows what for.
        """
        result: dict[str, Use] = {}
        for position, text in enumerate(node.input):
            variable = self._handles.get(text)
            if variable is None or node.op == "Identity":
                continue
            if node.op in FUNCTIONAL:
                use = self._of_input(node, position)
            else:
                use = self._of_op(node)
            result[variable] = result.get(variable, Use.NOTHING) | use
        return result

    def _of_op(self, node: tf_pb.NodeDef) -> Use:
        if node.op in READS:
            return Use.READ
        if node.op in _NEITHER:
            return Use.NOTHING
        if node.op == "AssignVariableOp":
            return Use.WRITE
        if node.op.startswith(_WRITES):
            return Use.READ | Use.WRITE
        raise UnsupportedError(
            f"op {node.op} takes the handle of a variable, and what it does to it is not known",
            where=self._graph.at(node.name),
            hint="read and assign the variable by ordinary ops, and save the model again",
        )

    def _of_input(self, node: tf_pb.NodeDef, position: int) -> Use:
        """Returns what the functions that a node runs do to one of its inputs."""
        if not node.op.endswith("While"):
            position -= 1  # the predicate, or the index of the branch
        result = Use.NOTHING
        for name in self._graph.called_functions(node):
            result |= self._of_arg(name, position)
        return result

    def _of_arg(self, function_name: str, position: int) -> Use:
        key = (function_name, position)
        if key not in self._of_args:
            self._of_args[key] = Use.NOTHING  # ends the search in functions that run themselves
            function = self._graph.functions[function_name]
            arg = function.signature.input_arg[position].name
            for node, inner in _readers(function, arg):
                if node.op in FUNCTIONAL:
                    self._of_args[key] |= self._of_input(node, inner)
                else:
                    self._of_args[key] |= self._of_op(node)
        return self._of_args[key]


def _readers(function: tf_pb.FunctionDef, arg: str) -> Iterator[tuple[tf_pb.NodeDef, int]]:
    """Yields the nodes of a body that take an argument, with the position of the input."""
    names = {arg}
    while names:
        handed_on: set[str] = set()
        for node in function.node_def:
            for position, text in enumerate(node.input):
                if text in names and node.op == "Identity":
                    handed_on.add(f"{node.name}:output:0")
                elif text in names:
                    yield node, position
        names = handed_on
