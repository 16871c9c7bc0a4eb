"""Which concrete functions of a SavedModel a call may run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge._parity.runners.worker_values import steps_of
from bridge._surfaces.surface import Call
from bridge._surfaces.templates import paths_of
from bridge.errors import MalformedError, Where
from bridge.proto import tf_pb
from bridge.saved_model.object_tree import ObjectTree
from bridge.saved_model.objects import ROOT
from bridge.saved_model.traces import (
    Python,
    Trace,
    argument_defaults,
    argument_names,
    read_trace,
)


class CalledFunctions:
    """Finds the functions that calls run.

    Attributes:
      tree: the objects.
      library: the function library.
    """

    def __init__(self, meta_graph: tf_pb.MetaGraphDef, path: Path):
        """Takes the SavedModel.

        Args:
          meta_graph: its graph, with objects.
          path: the file it comes from, for error messages.
        """
        self.tree = ObjectTree(meta_graph.object_graph_def, path)
        self.library = {f.signature.name: f for f in meta_graph.graph_def.library.function}
        self.concrete = meta_graph.object_graph_def.concrete_functions
        self._where = Where(path)

    def traces(self, call: Call) -> list[Trace]:
        """Returns the traces that take what a call gives, in the order of the function object.

        Raises:
          MalformedError: there is nothing to call.
          UnsupportedError: a trace that takes or gives something that is not known.
        """
        number = self._number(call)
        spec = self.tree.nodes[number].function.function_spec
        names, defaults = argument_names(spec), argument_defaults(spec)
        given = {**defaults, **_constants(call, names)}
        traces = [
            read_trace(
                name, self.concrete[name], self.library[name], names, self._where, defaults
            )
            for name in self.tree.concrete_functions(number)
        ]  # fmt: skip
        count = len(list(input_names(call)))
        return [
            trace
            for trace in traces
            if all(given.get(key, value) == value for key, value in trace.values.items())
            and sum(not leaf.is_fixed for leaf in trace.inputs) == count
        ] or traces

    def results(self, trace: Trace, path: tuple[str | int, ...]) -> list[int]:
        """Returns the positions of the function's results that lie at a path in what it returns.

        Args:
          trace: of the function.
          path: as `Call.outputs` has it.

        Returns:
          The positions; all where nothing lies there.
        """
        paths = paths_of(self.concrete[trace.function], trace, self._where)
        found: list[int] = []
        position = 0
        for leaf in trace.outputs:
            end = position + len(leaf.endpoint.components)
            if paths[leaf.key] == path:
                found += range(position, end)
            position = end
        return found or list(range(position))

    def _number(self, call: Call) -> int:
        steps = ["signatures", call.name] if call.kind == "signature" else steps_of(call.name)
        number: int | None = ROOT
        for step in steps:
            number = None if number is None else self.tree.child(number, step)
        if number is not None and not self.tree.concrete_functions(number):
            number = self.tree.child(number, "__call__")
        if number is None or not self.tree.concrete_functions(number):
            raise MalformedError(f"there is no callable {call.label}", where=self._where)
        return number


def input_names(call: Call) -> Iterator[str]:
    """Yields the inputs that a call gives, in the order of the function's tensors."""
    for template in (*call.args, *(call.kwargs[name] for name in sorted(call.kwargs))):
        yield from _inputs_of(template)


def _inputs_of(template: Any) -> Iterator[str]:
    if isinstance(template, Mapping):
        if "input" in template:
            yield template["input"]
        elif "dict" in template:
            for key in sorted(template["dict"]):
                yield from _inputs_of(template["dict"][key])
        elif "tuple" in template:
            yield from _inputs_of(template["tuple"])
        elif "fields" in template:
            for field in template["fields"]:
                yield from _inputs_of(field[1])
    elif isinstance(template, Sequence) and not isinstance(template, str):
        for item in template:
            yield from _inputs_of(item)


def _constants(call: Call, arguments: Sequence[str]) -> dict[str, Python]:
    """Returns the arguments of a call that are plain values of Python, by name."""
    given = {**dict(zip(arguments, call.args, strict=False)), **call.kwargs}
    return {
        name: template["value"]
        for name, template in given.items()
        if isinstance(template, Mapping) and "value" in template
    }
