"""Whether the seeds of random ops are the same in each call.

A seed that is made of constants, of what a caller gives, and of variables that nothing writes, is
settled: the op draws the same numbers from the same inputs. A seed that is made of another
variable, or drawn itself, moves. The two are told apart through the arguments of functions, for as
many calls of a function as there are.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from bridge._parity.random.made_of import LOOPS, TOP, UNKNOWN_RUN, Argument, Found, MadeOf
from bridge._surfaces.bodies import Bodies
from bridge.call_graph import CallGraph
from bridge.graph import Graph, Tensor
from bridge.inline import called_body
from bridge.passes._variable_ops import FUNCTIONAL, READS
from bridge.proto import tf_pb

_MOVES = "it may be another in the next call"

_SOURCES = frozenset({"Const", "Placeholder"})
"""Ops without inputs whose value stays: a caller gives that of a Placeholder."""


class Seed(enum.Enum):
    """What is known of a seed."""

    SETTLED = "settled"
    MOVING = "moving"
    UNKNOWN = "unknown"
    """It can't be told, or is the one in some calls and the other in others."""


Places = Mapping[str, Mapping[str, Sequence[int]]]
"""For each function, and for TOP, the nodes with seeds and which of their inputs these are."""


def seeds_of(
    graph: Graph,
    bodies: Bodies,
    places: Places,
    entries: Mapping[str, Sequence[Seed]],
    unwritten: Collection[str],
) -> dict[tuple[str, str], Seed]:
    """Returns what is known of the seeds of each node, by function and name.

    Args:
      graph: the graph, with its library.
      bodies: the functions of the library.
      places: where seeds are.
      entries: for the functions that users call, what is known of their arguments. Where there
        are some, nobody runs the graph itself.
      unwritten: the graph's variables that nothing writes.
    """
    return _Seeds(graph, bodies, places, entries, unwritten).result()


class _Seeds:
    def __init__(
        self,
        graph: Graph,
        bodies: Bodies,
        places: Places,
        entries: Mapping[str, Sequence[Seed]],
        unwritten: Collection[str],
    ):
        self._graph = graph
        self._unwritten = unwritten
        self._bodies = bodies
        self._places = places
        self._calls = CallGraph(graph)
        self._made_of = MadeOf(bodies, self._look, with_order=False)
        callees_first = self._calls.callees_first()
        # The arguments that seeds are made of, and what each may be.
        self._wanted: dict[str, list[str]] = {}
        for name in callees_first:
            self._wanted[name] = self._arguments_of_seeds(name)
        self._known: dict[str, dict[str, set[Seed]]] = {}
        for name, given in entries.items():
            arguments = [arg.name for arg in graph.functions[name].signature.input_arg]
            known = self._known.setdefault(name, {})
            for argument, seed in zip(arguments, given, strict=False):
                known.setdefault(argument, set()).add(seed)
        for place in (*(() if entries else (TOP,)), *reversed(callees_first)):
            self._tell(place)

    def result(self) -> dict[tuple[str, str], Seed]:
        found: dict[tuple[str, str], Seed] = {}
        for place, nodes in self._places.items():
            for name, positions in nodes.items():
                graph, _ = self._open(place)
                node = graph.nodes[name]
                tensors = [list(graph.inputs(node))[position] for position in positions]
                may_be = self._may_be(place, tensors)
                # What nobody runs may be either.
                is_run = place == TOP or place in self._known
                seed = may_be.pop() if len(may_be) == 1 else Seed.UNKNOWN
                found[place, name] = seed if is_run else Seed.MOVING
        return found

    def _look(self, place: str, node: tf_pb.NodeDef) -> tuple[Found, bool]:
        if node.op in READS or (place == TOP and node.name in self._unwritten):
            return frozenset(), True
        op_def = self._graph.op_def(node)
        has_no_inputs = not op_def.input_arg and node.op not in _SOURCES
        if op_def.is_stateful or has_no_inputs:
            return frozenset({_MOVES}), False
        return frozenset(), True

    def _open(self, place: str) -> tuple[Graph, list[str]]:
        if place == TOP:
            return self._graph, []
        body = self._bodies[place]
        return body.graph, body.arguments

    def _behind(self, place: str, tensors: Iterable[Tensor]) -> Found:
        graph, arguments = self._open(place)
        return self._made_of.of_tensors(graph, place, tensors, arguments)

    def _calls_of(self, place: str) -> Iterator[tuple[tf_pb.NodeDef, str]]:
        """Yields the nodes that run functions with seeds made of arguments, and these functions."""
        if place == TOP:
            calls = self._calls.of_nodes(self._graph.nodes.values())
        else:
            calls = self._calls.of_function(place)
        for node, names in calls:
            for name in names:
                yield node, name

    def _given(self, place: str, node: tf_pb.NodeDef, called: str) -> dict[str, Tensor | None]:
        """Returns what the wanted arguments of a function get; None where that is not known."""
        names = [arg.name for arg in self._graph.functions[called].signature.input_arg]
        wanted = self._wanted[called]
        if not wanted:
            return {}
        graph, _ = self._open(place)
        node = graph.nodes[node.name]  # with the names that a graph gives tensors
        data = [tensor for tensor in graph.inputs(node) if not tensor.is_control]
        if node.op in LOOPS:
            # What comes out of a loop is made of all that goes around in it.
            data = [Tensor(node.name, position) for position in range(len(data))]
        elif node.op in FUNCTIONAL:
            data = data[1:]
        elif called_body(graph, node) is None:
            data = []
        found = dict(zip(names, data, strict=False))
        return {name: found.get(name) for name in wanted}

    def _arguments_of_seeds(self, name: str) -> list[str]:
        tensors: list[Tensor] = []
        if nodes := self._places.get(name):
            graph, _ = self._open(name)
            for node, positions in nodes.items():
                inputs = list(graph.inputs(graph.nodes[node]))
                tensors += [inputs[position] for position in positions]
        for call, called in self._calls_of(name):
            tensors += [t for t in self._given(name, call, called).values() if t is not None]
        if not tensors:
            return []
        return sorted(one.name for one in self._behind(name, tensors) if isinstance(one, Argument))

    def _tell(self, place: str) -> None:
        """Notes what the functions that a place runs are given."""
        if place != TOP and place not in self._known:
            return  # nobody runs it
        for node, called in self._calls_of(place):
            known = self._known.setdefault(called, {})
            for argument, tensor in self._given(place, node, called).items():
                may_be = {Seed.UNKNOWN} if tensor is None else self._may_be(place, [tensor])
                known.setdefault(argument, set()).update(may_be)

    def _may_be(self, place: str, tensors: Sequence[Tensor]) -> set[Seed]:
        found = self._behind(place, tensors)
        if _MOVES in found:
            return {Seed.MOVING}
        if UNKNOWN_RUN in found:
            return {Seed.UNKNOWN}
        result = {Seed.SETTLED}
        for argument in found:
            assert isinstance(argument, Argument)
            may_be = self._known.get(place, {}).get(argument.name, {Seed.UNKNOWN})
            if may_be == {Seed.MOVING}:
                return may_be.copy()
            result |= may_be
        return result
