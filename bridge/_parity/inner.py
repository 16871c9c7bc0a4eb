"""What the calls of a SavedModel run in the end.

A callable of a SavedModel is often traced several times, and each trace only calls one function
that all of them share: so does each way to call what a converter made, and a serving signature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from bridge._parity.called import CalledFunctions
from bridge._surfaces.surface import Call
from bridge.layout import SAVED_MODEL
from bridge.ops import CALLS
from bridge.proto import tf_pb
from bridge.proto_file import read_proto
from bridge.saved_model.traces import Trace

_PASSING_ON = frozenset({*CALLS, "Identity", "NoOp"})
_GRADIENT = "_gradient_op_type"
"""Attribute of a node whose gradient is another than that of its op."""


@dataclass(frozen=True)
class _Run:
    """A function that runs.

    Attributes:
      function: its name.
      arguments: what each of its arguments is.
      results: which of its results each output is made of.
    """

    function: str
    arguments: tuple[object, ...]
    results: tuple[tuple[int, ...], ...]


class InnerFunctions:
    """Tells which calls of a SavedModel run one function."""

    def __init__(self, model: Path):
        """Takes the directory; the model is read when it is asked for."""
        self._path = model / SAVED_MODEL

    def are_one(self, call: Call, other: Call) -> bool:
        """Whether all outputs of a call are those of another: of one function, fed alike."""
        if not call.outputs.keys() <= other.outputs.keys():
            return False
        outputs = {name: other.outputs[name] for name in call.outputs}
        runs = self._runs(call) | self._runs(replace(other, outputs=outputs))
        return len(runs) == 1

    @cached_property
    def _called(self) -> CalledFunctions:
        message = read_proto(tf_pb.SavedModel, self._path)
        (meta_graph,) = (m for m in message.meta_graphs if m.HasField("object_graph_def"))
        return CalledFunctions(meta_graph, self._path)

    def _runs(self, call: Call) -> set[_Run]:
        """Returns what is run in the end by each trace that may take what a call gives."""
        return {self._innermost(self._outermost(call, t)) for t in self._called.traces(call)}

    def _outermost(self, call: Call, trace: Trace) -> _Run:
        arguments: list[object] = []
        for leaf in trace.inputs:
            given = call.kwargs.get(leaf.argument, {})
            what = given["input"] if call.kind == "signature" and "input" in given else leaf.key
            what = repr(given or leaf.default) if leaf.is_fixed else what
            arguments += [(what, part) for part in range(len(leaf.endpoint.components))]
        results = (self._called.results(trace, call.outputs[name]) for name in sorted(call.outputs))
        places = tuple(tuple(positions) for positions in results)
        return _Run(trace.function, (*arguments, *trace.captures), places)

    def _innermost(self, run: _Run) -> _Run:
        seen: set[str] = set()
        while run.function not in seen:
            seen.add(run.function)
            run = _called_by(self._called.library[run.function], run) or run
        return run


def _called_by(function: tf_pb.FunctionDef, run: _Run) -> _Run | None:
    """Returns what a function runs if all that it does is to call another one; else None."""
    nodes = {node.name: node for node in function.node_def}
    calls = [node for node in nodes.values() if node.op in CALLS]
    others = any(n.op not in _PASSING_ON or _GRADIENT in n.attr for n in nodes.values())
    if len(calls) != 1 or others:
        return None
    (call,) = calls
    own = {arg.name: place for place, arg in enumerate(function.signature.input_arg)}
    given = [name for name in call.input if not name.startswith("^")]
    if len(own) != len(run.arguments) or not own.keys() >= set(given):
        return None
    returned = [function.ret[arg.name] for arg in function.signature.output_arg]
    found = []
    for positions in run.results:
        places = [_result_of(call, nodes, returned[position]) for position in positions]
        if any(place is None for place in places):
            return None
        found.append(tuple(place for place in places if place is not None))
    arguments = tuple(run.arguments[own[name]] for name in given)
    return _Run(call.attr["f"].func.name, arguments, tuple(found))


def _result_of(call: tf_pb.NodeDef, nodes: Mapping[str, tf_pb.NodeDef], tensor: str) -> int | None:
    """Returns which result of a call a tensor of the function is; None where it is none."""
    for _ in nodes:
        name, _, place = tensor.partition(":")
        if name == call.name:
            return int(place.rpartition(":")[2])
        if name not in nodes or nodes[name].op != "Identity":
            return None
        tensor = nodes[name].input[0]
    return None
