"""Orders and partitions of a graph's nodes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from bridge.errors import UnsupportedError
from bridge.graph import LOOP_BACK_EDGE, Graph


def topological_order(graph: Graph, names: Collection[str]) -> list[str]:
    """Sorts nodes so that each comes after its inputs; the back edges of v1 loops don't count.

    Args:
      graph: the graph.
      names: the nodes to sort; edges from other nodes don't count either.

    Raises:
      UnsupportedError: there is a cycle.
    """
    members = dict.fromkeys(names)
    missing: dict[str, int] = {}
    followers: dict[str, list[str]] = {name: [] for name in members}
    for name in members:
        node = graph.nodes[name]
        sources = [t.node for t in graph.inputs(node) if t.node in members]
        if node.op in ("Merge", "RefMerge"):
            sources = [s for s in sources if graph.nodes[s].op not in LOOP_BACK_EDGE]
        missing[name] = len(sources)
        for source in sources:
            followers[source].append(name)
    order = [name for name, count in missing.items() if count == 0]
    for name in order:  # grows while it runs
        for follower in followers[name]:
            missing[follower] -= 1
            if missing[follower] == 0:
                order.append(follower)
    if len(order) < len(members):
        stuck = next(name for name, count in missing.items() if count)
        raise UnsupportedError(
            "its control flow is not that of plain tf.cond and tf.while_loop calls: it depends on "
            "its own result",
            where=graph.at(stuck),
        )
    return order


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
