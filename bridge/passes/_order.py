"""Orders and partitions of a graph's nodes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from bridge.errors import UnsupportedError
from bridge.graph import Graph
from bridge.proto import tf_pb


def topological_order(graph: Graph, names: Collection[str]) -> list[str]:
    """Sorts nodes so that each comes after its inputs; the back edges of v1 loops don't count.

    Args:
      graph: the graph.
      names: the nodes to sort; edges from other nodes don't count either.

    Raises:
      UnsupportedError: there is a cycle.
    """
    order = graph.topological_order(names)
    if len(order) < len(names):
        sorted_names = set(order)
        stuck = next(name for name in names if name not in sorted_names)
        raise UnsupportedError(
            "its control flow is not that of plain tf.cond and tf.while_loop calls: it depends on "
            "its own result",
            where=graph.at(stuck),
        )
    return order


class Readers:
    """Which nodes read a node, kept up to date while a graph changes.

    `Graph.consumers` walks over the whole graph, which is too much for every loop of many.
    """

    def __init__(self, graph: Graph):
        """Takes in all nodes of the graph."""
        self._graph = graph
        self._of: dict[str, dict[str, None]] = {}
        for node in graph.nodes.values():
            self.add(node)

    def add(self, node: tf_pb.NodeDef) -> None:
        """Takes in a node that is new or has a new input; lost inputs are noticed anyway."""
        for tensor in self._graph.inputs(node):
            self._of.setdefault(tensor.node, {})[node.name] = None

    def names(self, name: str) -> Iterable[str]:
        """Returns the names of the nodes that read a node, or once did; some may be gone."""
        return self._of.get(name, {}).keys()

    def of(self, name: str) -> list[tf_pb.NodeDef]:
        """Returns the nodes that read a node or wait for it; it may itself be gone already."""
        nodes = (self._graph.nodes.get(reader) for reader in self.names(name))
        return [
            node
            for node in nodes
            if node is not None and any(t.node == name for t in self._graph.inputs(node))
        ]


class Components:
    """Connected components of some nodes (union-find)."""

    def __init__(self, names: Iterable[str]):
        self._parent = {name: name for name in names}

    def _root(self, name: str) -> str:
        while (parent := self._parent[name]) != name:
            self._parent[name] = self._parent[parent]
            name = parent
        return name

    def join(self, first: str, second: str) -> None:
        """Puts two nodes into one component; a node that is not among them is ignored."""
        if first in self._parent and second in self._parent:
            self._parent[self._root(second)] = self._root(first)

    def groups(self, order: Mapping[str, int]) -> list[list[str]]:
        """Returns the components and the nodes in each, both in the given order."""
        groups: dict[str, list[str]] = {}
        for name in sorted(self._parent, key=order.__getitem__):
            groups.setdefault(self._root(name), []).append(name)
        return list(groups.values())
