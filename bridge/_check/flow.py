"""Walks from tensors back to what they are made of, as if every function were inlined.

A function is opened once for each call of it that a walk comes to. Calls, conditionals and loops
are looked through: behind a call stands what the function returns, behind an argument what the call
gives. A branch that a constant rules out is never taken, in v1 control flow neither.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from bridge._surfaces.bodies import Bodies
from bridge.errors import MalformedError
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.inline import MAX_NODES, called_body
from bridge.ops import CONDITIONALS, LOOP_BACK_EDGE, MERGES
from bridge.proto import tf_pb

_CASES = frozenset({"Case", "StatelessCase"})
_LOOPS = frozenset({"While", "StatelessWhile"})
_SWITCHES = frozenset({"Switch", "RefSwitch"})

_Item = TypeVar("_Item")


class Frame:
    """A graph, or one call of a function.

    Attributes:
      graph: its nodes.
      function: name of the function; empty for the graph of a variant.
      given: for each argument, the tensors of callers that it may be.
      known: the values of nodes that are Booleans.
      children: the calls that were opened, by calling node and function.
    """

    def __init__(self, graph: Graph, function: str = "", known: Mapping[str, bool] | None = None):
        self.graph = graph
        self.function = function
        self.given: dict[str, list[Point]] = {}
        self.known = dict(known or {})
        self.children: dict[tuple[str, str], Frame] = {}
        self.dead: frozenset[Tensor] | None = None


class Point(NamedTuple):
    """A tensor within a frame."""

    frame: Frame
    tensor: Tensor

    @property
    def node(self) -> tf_pb.NodeDef:
        """The node that gives it."""
        return self.frame.graph.nodes[self.tensor.node]

    @property
    def place(self) -> str:
        """The node as a message names it; in a function, that too."""
        name = f"{self.node.name!r} ({self.node.op})"
        return f"{name} of function {self.frame.function!r}" if self.frame.function else name


class Flow:
    """The data flow of one signature."""

    def __init__(self, bodies: Bodies, root: Frame, fed: Collection[str]):
        """Takes the signature.

        Args:
          bodies: the functions of the library.
          root: the frame of its outputs.
          fed: nodes of the root that callers give.
        """
        self._bodies = bodies
        self.root = root
        self.fed = frozenset(fed)

    def is_fed(self, point: Point) -> bool:
        """True for an input of the signature."""
        return point.frame is self.root and point.tensor.node in self.fed

    def walk(
        self, starts: Iterable[Point], follow: Callable[[Point], Iterable[Point]] | None = None
    ) -> dict[Point, list[Point]]:
        """Returns all points that others are made of, each with what it is made of directly.

        Args:
          starts: where to start.
          follow: what to go on to from a point; all that it is made of by default.

        Raises:
          MalformedError: there are too many.
        """
        follow = follow or self.sources
        found: dict[Point, list[Point]] = {}
        stack = list(starts)
        while stack:
            point = stack.pop()
            if point in found:
                continue
            if len(found) >= MAX_NODES:
                raise MalformedError(
                    "its functions call one another so often that they have over "
                    f"{MAX_NODES} nodes",
                    where=self.root.graph.where,
                )
            found[point] = list(follow(point))
            stack += found[point]
        return found

    def between(self, outputs: Iterable[Point]) -> list[Point]:
        """Returns the points on a way from an input of the signature to some outputs."""
        edges = self.walk(outputs)
        consumers: dict[Point, list[Point]] = {}
        for point, sources in edges.items():
            for source in sources:
                consumers.setdefault(source, []).append(point)
        order = dict.fromkeys(point for point in edges if self.is_fed(point))
        stack = list(order)
        while stack:
            for consumer in consumers.get(stack.pop(), ()):
                if consumer not in order:
                    order[consumer] = None
                    stack.append(consumer)
        return list(order)

    def is_transparent(self, point: Point) -> bool:
        """True where sources stand for the point itself: calls, conditionals, loops, arguments."""
        node = point.node
        return (
            node.name in point.frame.given
            or node.op in CONDITIONALS | _CASES | _LOOPS
            or called_body(point.frame.graph, node) is not None
        )

    def sources(self, point: Point) -> list[Point]:
        """Returns the tensors that a tensor is made of directly, without control edges."""
        frame, tensor = point
        node = point.node
        if self.is_fed(point):
            return []
        if node.name in frame.given:
            return frame.given[node.name]
        data = self._data(point)
        if (body := called_body(frame.graph, node)) is not None:
            return [self._result(frame, node, body.signature.name, data, tensor.output)]
        if node.op in CONDITIONALS | _CASES:
            names = self._branches(frame, node, data[0])
            found = [self._result(frame, node, name, data[1:], tensor.output) for name in names]
            return found if len(names) == 1 else [*found, data[0]]
        if node.op in _LOOPS:
            return self._loop(frame, node, data, tensor.output)
        unknown = [
            Point(inner, output)
            for name in frame.graph.called_functions(node)
            for inner in [self._child(frame, node, name)]
            for output in self._bodies[name].outputs
        ]
        return [*data, *unknown]

    def _data(self, point: Point) -> list[Point]:
        frame = point.frame
        dead = self._dead(frame)
        return [
            Point(frame, tensor)
            for tensor in frame.graph.inputs(point.node)
            if not tensor.is_control and tensor not in dead
        ]

    def _child(self, frame: Frame, node: tf_pb.NodeDef, name: str) -> Frame:
        key = node.name, name
        if key not in frame.children:
            if name not in frame.graph.functions:
                raise MalformedError(
                    f"there is no function {name!r}, which it calls",
                    where=frame.graph.at(node.name),
                )
            frame.children[key] = Frame(self._bodies[name].graph, name)
        return frame.children[key]

    def _result(
        self, frame: Frame, node: tf_pb.NodeDef, name: str, given: list[Point], output: int
    ) -> Point:
        """Returns what a call of a function returns."""
        inner = self._child(frame, node, name)
        body = self._bodies[name]
        if not inner.given:
            inner.given = {arg: [p] for arg, p in body.given(name, given).items()}
        return Point(inner, _at(body.outputs, output, inner.graph, node))

    def _loop(
        self, frame: Frame, node: tf_pb.NodeDef, data: list[Point], output: int
    ) -> list[Point]:
        """Returns what the result of a loop may be: its first value, or what a round makes."""
        found: list[Point] = []
        rounds: dict[str, list[Point]] = {}
        for attr in ("body", "cond"):
            name = frame.graph.attr(node, attr).func.name
            inner = self._child(frame, node, name)
            body = self._bodies[name]
            if attr == "body":
                results = [Point(inner, tensor) for tensor in body.outputs]
                if len(results) != len(data):
                    raise MalformedError(
                        f"function {name!r} returns {len(results)} values, the loop has "
                        f"{len(data)}",
                        where=frame.graph.at(node.name),
                    )
                found += [_at(data, output, frame.graph, node), results[output]]
            else:
                found += [Point(inner, tensor) for tensor in body.outputs[:1]]
            if not inner.given:
                rounds = body.given(name, [list(pair) for pair in zip(data, results, strict=True)])
                inner.given = rounds
        return found

    # -- what constants rule out ---------------------------------------------------------------

    def _branches(self, frame: Frame, node: tf_pb.NodeDef, index: Point) -> list[str]:
        value = self._boolean(index) if node.op in CONDITIONALS else None
        if value is not None:
            return [frame.graph.attr(node, "then_branch" if value else "else_branch").func.name]
        return list(dict.fromkeys(frame.graph.called_functions(node)))

    def _boolean(self, point: Point) -> bool | None:
        """Returns the value of a tensor, if it is the same in every call."""
        seen: set[Point] = set()
        while point not in seen:
            seen.add(point)
            frame, node = point.frame, point.node
            if node.name in frame.known:
                return frame.known[node.name]
            if self.is_fed(point):
                return None
            given = frame.given.get(node.name, ())
            if len(given) == 1:
                point = given[0]
            elif node.op in ("Identity", "PlaceholderWithDefault"):
                point = Point(frame, parse_tensor(node.input[0]))
            else:
                return _constant(node)
        return None

    def _dead(self, frame: Frame) -> frozenset[Tensor]:
        """Returns the tensors of v1 conditionals that are never computed."""
        if frame.dead is None:
            frame.dead = frozenset()  # meanwhile, and mostly
            nodes = frame.graph.nodes
            if any(node.op in _SWITCHES for node in nodes.values()):
                frame.dead = self._find_dead(frame)
        return frame.dead

    def _find_dead(self, frame: Frame) -> frozenset[Tensor]:
        graph = frame.graph
        gone: set[str] = set()
        dead: set[Tensor] = set()
        for name in graph.topological_order():
            node = graph.nodes[name]
            inputs = [
                tensor.node in gone or tensor in dead
                for tensor in graph.inputs(node)
                if graph.nodes[tensor.node].op not in LOOP_BACK_EDGE
            ]
            if (all if node.op in MERGES and inputs else any)(inputs):
                gone.add(name)
            elif node.op in _SWITCHES:
                value = self._boolean(Point(frame, parse_tensor(node.input[1])))
                if value is not None:
                    dead.add(Tensor(name, 0 if value else 1))
        # A node has few outputs that anybody reads; those are what is asked for.
        read = {t for node in graph.nodes.values() for t in graph.inputs(node)}
        return frozenset(dead | {tensor for tensor in read if tensor.node in gone})


def _at(items: Sequence[_Item], output: int, graph: Graph, node: tf_pb.NodeDef) -> _Item:
    if not 0 <= output < len(items):
        raise MalformedError(
            f"output {output} is used, the function returns {len(items)}",
            where=graph.at(node.name),
        )
    return items[output]


def _constant(node: tf_pb.NodeDef) -> bool | None:
    if node.op != "Const" or node.attr["dtype"].type != tf_pb.DT_BOOL:
        return None
    value = node.attr["value"].tensor
    if value.tensor_shape.dim:
        return None
    if value.bool_val:
        return bool(value.bool_val[0])
    return value.tensor_content != b"\0" if len(value.tensor_content) == 1 else None
