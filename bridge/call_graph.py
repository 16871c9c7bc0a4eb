"""Which functions of a graph's library refer to which."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.errors import MalformedError
from bridge.graph import Graph
from bridge.proto import tf_pb

Call = tuple[tf_pb.NodeDef, list[str]]
"""A node that refers to functions, and their names."""


class CallGraph:
    """What the functions of a graph refer to; right as long as they stay as they are."""

    def __init__(self, graph: Graph):
        """Takes the graph; its functions are read when they are asked for."""
        self._graph = graph
        self._calls: dict[str, list[Call]] = {}

    def of_function(self, name: str) -> list[Call]:
        """Returns the nodes of a function that refer to others."""
        if name not in self._calls:
            self._calls[name] = self.of_nodes(self._graph.functions[name].node_def)
        return self._calls[name]

    def of_nodes(self, nodes: Iterable[tf_pb.NodeDef]) -> list[Call]:
        """Returns those of some nodes that refer to functions."""
        called_functions = self._graph.called_functions
        return [(node, names) for node in nodes if (names := called_functions(node))]

    def callees_first(self) -> list[str]:
        """Returns the functions, each after those that it refers to, always in the same order.

        Raises:
          MalformedError: a function refers to itself, be it through others.
        """
        functions = self._graph.functions
        order: dict[str, None] = {}
        for root in functions:
            # Depth first with an explicit stack: a stranger's graph may be deep.
            stack = [root]
            path: set[str] = set()
            while stack:
                name = stack[-1]
                if name in path:  # now all that it refers to stands in the order
                    path.remove(name)
                    order[name] = None
                if name in order or name not in functions:
                    stack.pop()
                    continue
                path.add(name)
                for called in (called for _, names in self.of_function(name) for called in names):
                    if called in path:
                        raise MalformedError(
                            f"function {called!r} calls itself", where=self._graph.where
                        )
                    stack.append(called)
        return list(order)


def keep_called_functions(graph: Graph) -> int:
    """Drops the functions that no node of a graph reaches; returns how many they were.

    Gradients of functions that are gone go too.
    """
    if not graph.functions and not graph.gradients:
        return 0
    calls = CallGraph(graph)
    gradients = {gradient.function_name: gradient.gradient_func for gradient in graph.gradients}
    kept: set[str] = set()
    stack = [name for _, names in calls.of_nodes(graph.nodes.values()) for name in names]
    while stack:
        name = stack.pop()
        if name in kept or name not in graph.functions:
            continue
        kept.add(name)
        stack.extend(called for _, names in calls.of_function(name) for called in names)
        if name in gradients:
            stack.append(gradients[name])
    dropped = len(graph.functions) - len(kept)
    graph.functions = {name: body for name, body in graph.functions.items() if name in kept}
    graph.gradients = [g for g in graph.gradients if g.function_name in kept]
    return dropped
