"""Turns v1 loops (Enter, Merge, LoopCond, Switch, NextIteration, Exit) into While.

Nodes of a v1 loop run in a *frame*, which Enter opens and Exit leaves. A loop variable goes
Enter → Merge → Switch → body → NextIteration → Merge, and leaves by Switch → Exit; an invariant
comes in by an Enter with `is_constant`. LoopCond holds the condition for all Switches
(tensorflow/python/ops/control_flow_ops.py, class WhileContext).

Arguments of the While, and of its cond and body functions, in this order:

1. `loop_counter` and `maximum_iterations`, int32 scalars: the gradient of a While
   (tensorflow/python/ops/while_v2.py, _WhileGrad) takes for granted that its first two loop
   variables are these. The counter only counts; -1 stands for no maximum.
2. The loop variables, in the order of their Enters.
3. The invariants, which the body hands on as they are: the gradient recognizes them by that.

Loops are turned innermost first, and before each its conditionals, so that functions only ever
hold functional control flow. Each Exit becomes an Identity of the same name.
"""

from __future__ import annotations

from collections.abc import Collection

from bridge.attrs import bool_attr, function_attr, int_attr, shapes_attr, type_attr, types_attr
from bridge.errors import UnsupportedError
from bridge.function_body import FunctionArg, build_function
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.model import Shape
from bridge.passes._functions import (
    Functionalized,
    add_int_const,
    effects,
    follow,
    handle_data,
    has_effect,
    is_small_const,
    last_name,
)
from bridge.passes._hoist_reads import hoist_reads
from bridge.passes._loops import HINT, Frame, Loop, LoopVar, find_frames, read_loop
from bridge.passes._order import Readers, topological_order
from bridge.passes._shapes import ShapeReader, invariant_shapes
from bridge.passes.functionalize_cond import functionalize_region, redirect_controls
from bridge.proto import tf_pb


def functionalize_while(graph: Graph, keep: Collection[str] = ()) -> Functionalized:
    """Turns every v1 loop into a While or a StatelessWhile, and the conditionals inside loops.

    Conditionals outside of loops stay (`functionalize_cond`). The functions are added to
    `graph.functions`.

    Args:
      graph: is changed.
      keep: Consts outside of loops that the functions must not have copies of.

    Returns:
      How many loops, and conditionals inside loops, there were, and where their nodes are now.

    Raises:
      UnsupportedError: a loop is not built as tf.while_loop builds it.
    """
    if not any(node.op in ("Enter", "NextIteration") for node in graph.nodes.values()):
        return Functionalized(0, {})
    hoist_reads(graph)
    frames = find_frames(graph)
    moved: dict[str, str] = {}
    readers = Readers(graph)
    shapes: dict[Frame, ShapeReader] = {}
    count = 0
    # Stable: loops of one depth keep their order.
    for frame in sorted(frames, key=len, reverse=True):
        if frame:
            loop = read_loop(graph, frame, frames[frame], readers)
            outside = shapes.setdefault(frame[:-1], ShapeReader(graph))
            entered = _entered(loop, outside)
            inside = ShapeReader(graph, entered)
            added = functionalize_region(graph, loop.members, moved, readers, inside, keep)
            count += len(added) + 1
            loop.members = [name for name in [*loop.members, *added] if name in graph.nodes]
            converter = _Converter(graph, loop, moved, readers, outside, entered, keep)
            frames[frame[:-1]] += converter.run()
            if any(Tensor(leave.name, 0) in outside for v in loop.loop_vars for leave in v.exits):
                del shapes[frame[:-1]]  # it has looked into the loop, and found less than is known
    topological_order(graph, graph.nodes)
    return Functionalized(count, follow(moved))


def _entered(loop: Loop, outside: ShapeReader) -> dict[Tensor, Shape]:
    """Returns the shapes of what comes into a loop."""
    enters = [*(var.enter for var in loop.loop_vars), *loop.invariants]
    return {Tensor(enter.name, 0): outside.shape(parse_tensor(enter.input[0])) for enter in enters}


class _Converter:
    """Puts a While in the place of one loop, whose inside has no v1 control flow any more."""

    def __init__(
        self,
        graph: Graph,
        loop: Loop,
        moved: dict[str, str],
        readers: Readers,
        outside: ShapeReader,
        entered: dict[Tensor, Shape],
        keep: Collection[str],
    ):
        self.graph = graph
        self.loop = loop
        self.moved = moved
        self.readers = readers
        self.outside = outside
        self.entered = entered
        self.keep = keep
        self.members = set(loop.members)
        self.name = graph.unique_name(loop.scope)
        # Nodes outside that some node of the loop waits for.
        self.controls: dict[Tensor, None] = {}
        # Nodes of the loop that NextIteration or LoopCond wait for.
        self.awaited: dict[str, list[Tensor]] = {"NextIteration": [], "LoopCond": []}

    def run(self) -> list[str]:
        """Converts; returns the names of the nodes that were added around the loop."""
        graph, loop = self.graph, self.loop
        self._cut_controls()
        results = [parse_tensor(var.next_iteration.input[0]) for var in loop.loop_vars]
        cond_nodes = self._needed([loop.condition, *self.awaited["LoopCond"]])
        body_nodes = self._needed([*results, *self.awaited["NextIteration"]])
        self._check_members(cond_nodes, body_nodes)

        counter = add_int_const(graph, f"{self.name}/loop_counter", 0)
        maximum = add_int_const(graph, f"{self.name}/maximum_iterations", -1)
        counting = self._add_counting(counter)
        loop_vars = [(parse_tensor(v.enter.input[0]), self._stands_for(v)) for v in loop.loop_vars]
        cond_nodes = [*self._take_in_consts(cond_nodes), *cond_nodes]
        body_nodes = [*self._take_in_consts(body_nodes), *body_nodes]
        invariants = self._invariants([*cond_nodes, *body_nodes], [loop.condition, *results])
        # A loop variable may change its shape from one iteration to the next.
        shapes = invariant_shapes(
            graph,
            [
                (source, replaced, result)
                for (source, replaced), result in zip(loop_vars, results, strict=True)
            ],
            self.outside,
            self.entered,
        )
        args = [
            self._arg(Tensor(counter, 0), (Tensor(counter, 0),), shape=()),
            self._arg(Tensor(maximum, 0), (Tensor(maximum, 0),), shape=()),
            *(self._arg(s, r, shape) for (s, r), shape in zip(loop_vars, shapes, strict=True)),
            *(self._arg(s, r, self.outside.shape(s)) for s, r in invariants.items()),
        ]
        ends = [Tensor(counting[-1], 0), Tensor(maximum, 0), *results]
        ends += [replaced[0] for replaced in invariants.values()]
        outputs = [(arg.name, end) for arg, end in zip(args, ends, strict=True)]
        cond = self._function("cond", cond_nodes, args, [("loop_cond", loop.condition)])
        body = self._function("body", [*body_nodes, *counting], args, outputs)
        stateful = cond.signature.is_stateful or body.signature.is_stateful
        sources = [Tensor(counter, 0), Tensor(maximum, 0), *(s for s, _ in loop_vars), *invariants]
        parallel = max(graph.attr(var.enter, "parallel_iterations").i for var in loop.loop_vars)
        node = graph.add(
            "While" if stateful else "StatelessWhile",
            self.name,
            [str(tensor) for tensor in (*sources, *self.controls)],
            T=types_attr([arg.dtype for arg in args]),
            cond=function_attr(cond.signature.name),
            body=function_attr(body.signature.name),
            output_shapes=shapes_attr([arg.shape for arg in args]),
            parallel_iterations=int_attr(parallel),
            _lower_using_switch_merge=bool_attr(True),
            _num_original_outputs=int_attr(len(args)),
        )
        self.readers.add(node)
        self._replace(counting)
        return [counter, maximum, self.name]

    def _cut_controls(self) -> None:
        """Takes off the control edges that have no place in a function body."""
        for name in [*self.loop.members, *sorted(self.loop.structure)]:
            node = self.graph.nodes[name]
            kept: list[str] = []
            for tensor in self.graph.inputs(node):
                if not tensor.is_control:
                    kept.append(str(tensor))
                elif tensor.node in self.members:
                    if name in self.members:
                        kept.append(str(tensor))
                    elif node.op in self.awaited:
                        self.awaited[node.op].append(tensor)
                    else:
                        raise UnsupportedError(
                            f"this {node.op} waits for {tensor.node!r} inside its loop",
                            where=self.graph.at(name),
                            hint=HINT,
                        )
                elif tensor.node not in self.loop.structure:
                    self.controls[tensor] = None
            node.input[:] = kept

    def _stands_for(self, var: LoopVar) -> tuple[Tensor, ...]:
        """Returns the tensors that hold a loop variable at the start of an iteration."""
        return (Tensor(var.merge.name, 0), *(Tensor(node.name, 1) for node in var.switches))

    def _needed(self, targets: list[Tensor]) -> list[str]:
        """Returns the nodes of the loop that some tensors depend on within one iteration."""
        start = {tensor for var in self.loop.loop_vars for tensor in self._stands_for(var)}
        start |= {Tensor(enter.name, 0) for enter in self.loop.invariants}
        needed: set[str] = set()
        stack = [(tensor, self.loop.scope) for tensor in targets]
        while stack:
            tensor, reader = stack.pop()
            if tensor.node in self.loop.structure:
                if tensor not in start:
                    raise UnsupportedError(
                        f"reads {str(tensor)!r}, a part of its loop that has no value by itself",
                        where=self.graph.at(reader),
                        hint=HINT,
                    )
            elif tensor.node in self.members and tensor.node not in needed:
                needed.add(tensor.node)
                node = self.graph.nodes[tensor.node]
                stack += [(source, tensor.node) for source in self.graph.inputs(node)]
        return [name for name in self.loop.members if name in needed]

    def _check_members(self, cond_nodes: list[str], body_nodes: list[str]) -> None:
        in_cond, in_body = set(cond_nodes), set(body_nodes)
        for name in self.loop.members:
            # Others may be copied into both, or left out, and nobody will know.
            if (name in in_cond) == (name in in_body) and has_effect(
                self.graph, self.graph.nodes[name]
            ):
                found = (
                    "is part of both the condition and" if name in in_cond else "is needed by no"
                )
                raise UnsupportedError(
                    f"has a side effect, and {found} iteration of its loop",
                    where=self.graph.at(name),
                    hint=HINT,
                )

    def _add_counting(self, counter: str) -> list[str]:
        """Adds the nodes that count iterations, to be moved into the body; returns the names."""
        one = add_int_const(self.graph, f"{self.name}/loop_counter/one", 1)
        following = self.graph.unique_name(f"{self.name}/loop_counter/next")
        self.graph.add("AddV2", following, [counter, one], T=type_attr(tf_pb.DT_INT32))
        return [one, following]

    def _source(self, tensor: Tensor) -> Tensor | None:
        """Returns the value outside that an invariant holds; None for what is inside the loop."""
        if tensor.node in self.members:
            return None
        if tensor.node not in self.loop.structure:
            return tensor
        node = self.graph.nodes[tensor.node]
        is_invariant = node.op == "Enter" and self.graph.attr(node, "is_constant").b
        return parse_tensor(node.input[0]) if is_invariant else None

    def _is_copied(self, source: Tensor) -> bool:
        return is_small_const(self.graph, source, self.keep)

    def _take_in_consts(self, names: list[str]) -> list[str]:
        """Lets nodes of a function read small Consts directly; returns the names of these."""
        consts: dict[str, None] = {}
        for name in names:
            node = self.graph.nodes[name]
            for position, tensor in enumerate(self.graph.inputs(node)):
                source = self._source(tensor)
                if source and not tensor.is_control and self._is_copied(source):
                    consts[source.node] = None
                    node.input[position] = str(source)
                    self.readers.add(node)
        return list(consts)

    def _invariants(
        self, names: list[str], results: list[Tensor]
    ) -> dict[Tensor, tuple[Tensor, ...]]:
        """Returns the values from outside, each with the tensors that hold it inside."""
        invariants: dict[Tensor, dict[Tensor, None]] = {}
        nodes = [self.graph.nodes[name] for name in names]
        own = set(names)
        for tensor in (*(t for node in nodes for t in self.graph.inputs(node)), *results):
            source = self._source(tensor)
            if source and tensor.node not in own:
                invariants.setdefault(source, {})[tensor] = None
        return {source: tuple(inside) for source, inside in invariants.items()}

    def _arg(self, source: Tensor, replaced: tuple[Tensor, ...], shape: Shape) -> FunctionArg:
        dtype = self.graph.output(source).dtype
        handle = handle_data(self.graph, source)
        return FunctionArg(last_name(source.node), replaced, dtype, shape, handle)

    def _function(
        self,
        kind: str,
        names: list[str],
        args: list[FunctionArg],
        outputs: list[tuple[str, Tensor]],
    ) -> tf_pb.FunctionDef:
        name = self.graph.unique_function_name(f"{self.name}_{kind}")
        controls = effects(self.graph, names)
        function = build_function(
            self.graph, name, names, args, outputs=outputs, control_outputs=controls
        )
        self.graph.functions[name] = function
        return function

    def _replace(self, counting: list[str]) -> None:
        graph = self.graph
        for position, var in enumerate(self.loop.loop_vars, start=2):
            for leave in var.exits:
                waits = [str(tensor) for tensor in graph.inputs(leave) if tensor.is_control]
                leave.op = "Identity"
                leave.input[:] = [str(Tensor(self.name, position)), *waits]
                self.readers.add(leave)
        gone = {*self.members, *self.loop.structure, *counting}
        for name in sorted(gone):
            del graph.nodes[name]
            self.moved[name] = self.name
        for name in sorted(gone):
            redirect_controls(self.readers, name, self.name)
        for name in sorted(gone):
            for node in self.readers.of(name):
                raise UnsupportedError(
                    f"needs {name!r} from inside a loop, not by way of an Exit",
                    where=graph.at(node.name),
                    hint=HINT,
                )
