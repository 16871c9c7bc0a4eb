"""What of the functions that control flow runs is needed where they are built into a graph."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bridge.graph import Graph, Tensor, parse_tensor
from bridge.passes._bodies import Body, open_body
from bridge.passes._functions import has_effect
from bridge.passes._lists import give_each_its_own
from bridge.passes._variable_ops import FUNCTIONAL
from bridge.proto import tf_pb


@dataclass
class Function:
    """A function and what of it does something beside its outputs.

    Attributes:
      body: the function.
      arguments: position of each argument by its name.
      effects: the nodes that must run.
      ordering: those and all that depend on them: only control edges from these order anything.
    """

    body: Body
    arguments: dict[str, int]
    effects: list[str]
    ordering: set[str]

    def needed(self, targets: Iterable[Tensor]) -> tuple[set[str], set[int]]:
        """Returns the nodes and the arguments that some tensors and the effects depend on."""
        graph = self.body.graph
        nodes = graph.ancestors(
            [*(tensor.node for tensor in targets), *self.effects],
            lambda tensor: tensor.is_control and tensor.node not in self.ordering,
        )
        args = {self.arguments[name] for name in nodes if name in self.arguments}
        return nodes - self.arguments.keys(), args

    def passed_on(self, position: int) -> int | None:
        """Returns the argument that an output is, if it is one as it came."""
        tensor = self.body.outputs[position][1]
        node = self.body.graph.nodes[tensor.node]
        while node.op == "Identity":
            node = self.body.graph.nodes[parse_tensor(node.input[0]).node]
        return self.arguments.get(node.name)


class Functions:
    """The functions of a graph's library, each looked at once."""

    def __init__(self, graph: Graph):
        """Takes the graph."""
        self._graph = graph
        self._known: dict[str, Function] = {}

    def get(self, name: str) -> Function:
        """Returns a function by its name."""
        if name not in self._known:
            self._known[name] = self._read(name)
        return self._known[name]

    def _read(self, name: str) -> Function:
        body = open_body(self._graph, name)
        graph = body.graph
        give_each_its_own(graph)
        arguments = {arg.name: position for position, arg in enumerate(body.args)}
        effects = [
            node.name
            for node in graph.nodes.values()
            if node.name not in arguments and self._has_effect(node)
        ]
        ordering: set[str] = set(effects)
        for node_name in graph.topological_order():
            if any(tensor.node in ordering for tensor in graph.inputs(graph.nodes[node_name])):
                ordering.add(node_name)
        return Function(body, arguments, effects, ordering)

    def _has_effect(self, node: tf_pb.NodeDef) -> bool:
        if node.op not in FUNCTIONAL:
            return has_effect(self._graph, node)
        return any(self.get(name).effects for name in self._graph.called_functions(node))
