"""What tensors are made of, followed through calls, branches and loops."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from bridge._surfaces.bodies import Bodies
from bridge.graph import Graph, Tensor
from bridge.inline import called_body
from bridge.passes._variable_ops import FUNCTIONAL
from bridge.proto import tf_pb

LOOPS = frozenset({"While", "StatelessWhile"})

TOP = ""
"""Stands for the graph itself where the name of a function is asked for."""

UNKNOWN_RUN = "run in a way that is not known"
"""Is found where an op runs functions and nobody knows what it gives them."""


@dataclass(frozen=True)
class Argument:
    """An argument of the function that is looked at."""

    name: str


Found = frozenset[object]
Look = Callable[[str, tf_pb.NodeDef], tuple[Found, bool]]
"""Takes a function, or TOP, and a node of it that runs no functions; returns what is found there,
and whether to follow its inputs."""


class MadeOf:
    """Collects what a caller finds at the nodes that tensors are made of."""

    def __init__(self, bodies: Bodies, look: Look, *, with_order: bool):
        """Takes what it follows.

        Args:
          bodies: the functions of the graphs that are given.
          look: is asked at each node.
          with_order: whether to follow control edges to ops with state, whose values depend on
            what ran before. What a stateless op waits for changes no value.
        """
        self._bodies = bodies
        self._look = look
        self._with_order = with_order
        self._outputs: dict[tuple[str, int], Found] = {}

    def of_output(self, function: str, position: int) -> Found:
        """Returns what is found behind an output of a function, and the arguments it needs."""
        key = function, position
        if key not in self._outputs:
            body = self._bodies[function]
            tensors = body.outputs[position : position + 1]
            self._outputs[key] = self.of_tensors(body.graph, function, tensors, body.arguments)
        return self._outputs[key]

    def of_function(self, function: str) -> Found:
        """Returns what is found behind all outputs of a function and all that it must run."""
        body = self._bodies[function]
        tensors = [*body.outputs, *(Tensor(control, -1) for control in body.controls)]
        return self.of_tensors(body.graph, function, tensors, body.arguments)

    def of_tensors(
        self, graph: Graph, place: str, tensors: Iterable[Tensor], arguments: Collection[str]
    ) -> Found:
        """Returns what is found behind tensors.

        Args:
          graph: has them.
          place: the function whose body the graph is, or TOP.
          tensors: where to start; a control edge stands for all that its node does.
          arguments: names of the nodes that are arguments.
        """
        found: set[object] = set()
        seen: set[Tensor] = set()
        stack = list(tensors)
        while stack:
            tensor = stack.pop()
            if tensor in seen:
                continue
            seen.add(tensor)
            if tensor.node in arguments:
                found.add(Argument(tensor.node))
                continue
            node = graph.node(tensor.node)
            inputs = list(graph.inputs(node))
            data = [edge for edge in inputs if not edge.is_control]
            if graph.called_functions(node):
                inner, needed = self._of_call(graph, node, tensor.output, data)
                found |= inner
                stack += needed
            else:
                here, follows = self._look(place, node)
                found |= here
                if not follows:
                    continue
                stack += data
            if self._with_order and (tensor.is_control or graph.op_def(node).is_stateful):
                stack += inputs[len(data) :]
        return frozenset(found)

    def _of_call(
        self, graph: Graph, node: tf_pb.NodeDef, output: int, data: list[Tensor]
    ) -> tuple[set[object], list[Tensor]]:
        """Returns what is found in the functions that a node runs, and what they need of it."""
        called = graph.called_functions(node)
        if node.op in LOOPS:
            return self._of_loop(node, output, data)
        if called_body(graph, node) is not None:
            return self._of_run(called[:1], output, data)
        if node.op in FUNCTIONAL:
            found, needed = self._of_run(called, output, data[1:])
            return found, [*data[:1], *needed]
        found, _ = self._of_run(called, -1, [])
        return {*found, UNKNOWN_RUN}, data

    def _of_run(
        self, functions: Iterable[str], output: int, given: list[Tensor]
    ) -> tuple[set[object], list[Tensor]]:
        found: set[object] = set()
        needed: list[Tensor] = []
        for name in functions:
            inner = self.of_function(name) if output < 0 else self.of_output(name, output)
            found |= {one for one in inner if not isinstance(one, Argument)}
            needed += [given[place] for place in self._places(name, inner) if place < len(given)]
        return found, needed

    def _of_loop(
        self, node: tf_pb.NodeDef, output: int, data: list[Tensor]
    ) -> tuple[set[object], list[Tensor]]:
        condition, body = (node.attr[attr].func.name for attr in ("cond", "body"))
        found: set[object] = set()
        inner = self.of_output(condition, 0)
        stack = [*self._places(condition, inner), *(range(len(data)) if output < 0 else [output])]
        if output < 0:
            found |= self.of_function(body)
        places: set[int] = set()
        while True:
            found |= inner
            if not stack:
                break
            place = stack.pop()
            inner = frozenset()
            if place not in places:
                places.add(place)
                inner = self.of_output(body, place)
                stack += self._places(body, inner)
        needed = [data[place] for place in sorted(places) if place < len(data)]
        return {one for one in found if not isinstance(one, Argument)}, needed

    def _places(self, function: str, found: Found) -> list[int]:
        names = self._bodies[function].arguments
        needed = {one.name for one in found if isinstance(one, Argument)}
        return [place for place, name in enumerate(names) if name in needed]
