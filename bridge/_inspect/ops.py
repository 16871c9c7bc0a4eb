"""Counts ops, and finds the oldest TensorFlow release that knows them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from bridge._inspect.results import OpInfo, ReleaseInfo
from bridge.opsets.history import History, load_history
from bridge.proto import tf_pb

_OBJECTS_SINCE = "2.0"
_OBJECTS = "objects, which tf.saved_model.load of TensorFlow 2 makes"


class OpCounter:
    """What the graphs and functions of a model are made of.

    Attributes:
      ops: the ops, sorted by name.
    """

    def __init__(self, meta_graphs: Sequence[tf_pb.MetaGraphDef]):
        """Looks at every node."""
        self._history = load_history()
        graph_defs = [meta_graph.graph_def for meta_graph in meta_graphs]
        functions = [body for graph in graph_defs for body in graph.library.function]
        # A node whose op is a function of the library is a call.
        self._called = frozenset(body.signature.name for body in functions)
        self._inside = _Part(self._history)
        self._outside = _Part(self._history)
        for body in functions:
            self._inside.add(body.node_def, self._called)
        for graph in graph_defs:
            self._outside.add(graph.node, self._called)
        counts = self._inside.counts + self._outside.counts
        self.ops = [
            OpInfo(op, count, self._history.since(op)) for op, count in sorted(counts.items())
        ]

    def of_graphs(self) -> ReleaseInfo:
        """Returns which releases can load the graphs, with their functions."""
        return _release(self._history, [self._inside, self._outside])

    def of_objects(self) -> ReleaseInfo:
        """Returns which releases can make objects of the functions; they leave the graph alone."""
        return _release(self._history, [self._inside], {_OBJECTS_SINCE: {_OBJECTS}})


class _Part:
    """Some of the nodes: how many there are of each op, and what demands which release."""

    def __init__(self, history: History):
        self._history = history
        self.counts: Counter[str] = Counter()
        self.demands: dict[str, set[str]] = {}

    def add(self, nodes: Iterable[tf_pb.NodeDef], called: frozenset[str]) -> None:
        for node in nodes:
            if node.op in called:
                continue
            if node.op not in self.counts:
                since = self._history.since(node.op)
                if since not in (None, self._history.releases[0]):
                    self.demands.setdefault(since, set()).add(f"op {node.op}")
            self.counts[node.op] += 1
            for release, what in self._history.demands_of(node):
                self.demands.setdefault(release, set()).add(what)


def _release(
    history: History, parts: Sequence[_Part], more: dict[str, set[str]] | None = None
) -> ReleaseInfo:
    order = history.releases.index
    demands = [*(part.demands for part in parts), more or {}]
    oldest = max((release for one in demands for release in one), key=order, default=None)
    ops = sorted({op for part in parts for op in part.counts})
    dropped = [last for op in ops if (last := history.last(op)) is not None]
    return ReleaseInfo(
        oldest=oldest or history.releases[0],
        or_older=oldest is None,
        newest=min(dropped, key=order, default=None),
        demanded_by=sorted({what for one in demands if oldest for what in one.get(oldest, ())}),
        unknown_ops=[op for op in ops if history.since(op) is None],
    )
