"""What a release can't take of a graph, told in one error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from bridge.dtypes import dtype_name
from bridge.errors import UnsupportedError
from bridge.graph import Graph
from bridge.opsets.release import Release
from bridge.proto import tf_pb

_NAMED = 3  # nodes that a message names of many

_MAX_TEXT = 80


@dataclass(frozen=True)
class Site:
    """A node of a graph, or of the body of one of its functions.

    Attributes:
      node: the node.
      function: the name of the function.
    """

    node: tf_pb.NodeDef
    function: str | None = None


def sites(graph: Graph) -> Iterator[Site]:
    """Yields the nodes of a graph, then those in the bodies of its functions."""
    for node in graph.nodes.values():
        yield Site(node)
    for name, function in graph.functions.items():
        for node in function.node_def:
            yield Site(node, name)


@dataclass
class Findings:
    """Collects the problems of one graph, so that a user need not meet them one by one.

    Attributes:
      graph: the graph.
      release: the release that can't take it.
    """

    graph: Graph
    release: Release
    _nodes: dict[str, list[Site]] = field(default_factory=dict)
    _hints: dict[str, str] = field(default_factory=dict)

    def add(self, site: Site, problem: str, hint: str) -> None:
        """Notes a problem of a node.

        Args:
          site: the node.
          problem: what is wrong; nodes with the same problem are told together.
          hint: what to do; that of the first node counts.
        """
        self._nodes.setdefault(problem, []).append(site)
        self._hints.setdefault(problem, hint)

    def check(self) -> None:
        """Raises what was found, if anything was.

        Raises:
          UnsupportedError: something was; the message groups the nodes by problem.
        """
        if not self._nodes:
            return
        hints = "; ".join(dict.fromkeys(self._hints.values()))
        count = sum(map(len, self._nodes.values()))
        if count == 1:
            ((problem, (site,)),) = self._nodes.items()
            inside = f", in the body of function {site.function!r}" if site.function else ""
            raise UnsupportedError(
                problem + inside, where=self.graph.at(site.node.name), hint=hints
            )
        problems = "; ".join(
            f"{problem} ({_names(found)})" for problem, found in self._nodes.items()
        )
        raise UnsupportedError(
            f"{self.release} can't take {count} nodes: {problems}",
            where=self.graph.where,
            hint=hints,
        )


def _names(found: list[Site]) -> str:
    names = [
        repr(site.node.name) + (f" of function {site.function!r}" if site.function else "")
        for site in found[:_NAMED]
    ]
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return ("nodes " if len(found) > 1 else "node ") + ", ".join(names) + more


def format_attr(value: tf_pb.AttrValue) -> str:
    """Prints an attribute for a message: `true`, `'SAME'`, `[1, 2]`, `float32`."""
    kind = value.WhichOneof("value")
    if kind == "list":
        items = value.list
        texts = [
            *(_text(text) for text in items.s),
            *map(str, [*items.i, *items.f]),
            *(_bool(flag) for flag in items.b),
            *map(dtype_name, items.type),
        ]
        return _short(f"[{', '.join(texts)}]")
    if kind == "type":
        return dtype_name(value.type)
    if kind == "s":
        return _text(value.s)
    if kind == "b":
        return _bool(value.b)
    if kind in ("i", "f"):
        return str(getattr(value, kind))
    return f"a {kind}"


def _text(value: bytes) -> str:
    return _short(repr(value.decode(errors="replace")))


def _bool(flag: bool) -> str:
    return "true" if flag else "false"


def _short(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"
