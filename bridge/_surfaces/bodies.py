"""The functions of a library as graphs, each opened once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from bridge.attrs import type_attr
from bridge.call_graph import CallGraph
from bridge.errors import MalformedError, UnsupportedError
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.inline import Body as InlinedBody

MAX_CALLS = 100
"""Functions may call one another so deep: to follow them takes several frames of Python each."""

_Given = TypeVar("_Given")


@dataclass(frozen=True)
class OpenBody:
    """A function whose arguments are Placeholders, and whose tensors are named as in a graph.

    Attributes:
      graph: its nodes, with the library that it belongs to.
      arguments: names of its arguments, which those of the Placeholders are.
      outputs: what it returns.
      controls: the nodes that run even if no output needs them.
    """

    graph: Graph
    arguments: list[str]
    outputs: list[Tensor]
    controls: list[str]

    def given(self, name: str, values: Sequence[_Given]) -> dict[str, _Given]:
        """Returns what each argument gets.

        Raises:
          MalformedError: there are more arguments, or fewer.
        """
        if len(values) != len(self.arguments):
            raise MalformedError(
                f"function {name!r} takes {len(self.arguments)} arguments, a call gives "
                f"{len(values)}",
                where=self.graph.where,
            )
        return dict(zip(self.arguments, values, strict=True))


class Bodies:
    """Opens functions."""

    def __init__(self, graph: Graph):
        """Takes a graph whose library check_graph has been through.

        Raises:
          UnsupportedError: functions call one another deeper than MAX_CALLS.
        """
        self._graph = graph
        self._open: dict[str, OpenBody] = {}
        self._check_depth()

    def _check_depth(self) -> None:
        calls = CallGraph(self._graph)
        depths: dict[str, int] = {}
        for name in calls.callees_first():
            called = {other for _, names in calls.of_function(name) for other in names}
            depths[name] = 1 + max((depths[other] for other in called), default=0)
            if depths[name] > MAX_CALLS:
                raise UnsupportedError(
                    f"function {name!r} calls others more than {MAX_CALLS} deep",
                    where=self._graph.where,
                    hint="save the model again with its functions inlined",
                )

    def __getitem__(self, name: str) -> OpenBody:
        """Returns a function of the library, which is to be read only."""
        if name not in self._open:
            self._open[name] = self._opened(name)
        return self._open[name]

    def _opened(self, name: str) -> OpenBody:
        function = self._graph.functions[name]
        body = Graph([], self._graph.ops, where=self._graph.where)
        body.functions = self._graph.functions  # to index them for each body takes long
        arguments = [arg.name for arg in function.signature.input_arg]
        for arg in function.signature.input_arg:
            body.add("Placeholder", arg.name, dtype=type_attr(arg.type))
        inner = InlinedBody(self._graph, function, {name: name for name in arguments})
        body.nodes.update((node.name, node) for node in inner.nodes())
        outputs = [
            parse_tensor(inner.tensor(function.ret[arg.name]))
            for arg in function.signature.output_arg
        ]
        controls = [function.control_ret[control] for control in function.signature.control_output]
        return OpenBody(body, arguments, outputs, controls)
