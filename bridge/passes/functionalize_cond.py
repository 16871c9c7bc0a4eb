"""Turns v1 conditionals (Switch, Merge) into If and StatelessIf.

A v1 conditional has no node of its own: Switch sends a value down one of two ways, all that
depends on it is alive on that way only, and Merge takes what arrives. Such a graph runs forward
inside a TF2 function, but has no gradient there. An If has one.

The structure is read off the data flow, as TensorFlow's functionalize_cond.cc does:

1. The *state* of a node is the set of (predicate, way) pairs that must hold for it to be alive: the
   union over its inputs, where a Switch adds its own pair. A Merge takes its predicate away again.
2. Nodes with the same state but for the way of one predicate, and the Switches and Merges around
   them, fall into connected components. Each is one conditional: tf.cond makes a pivot and Switches
   of its own for every call, even where calls share a predicate.
3. Innermost conditionals go first, so that a branch only ever holds Ifs.

What becomes of the parts: nodes of a branch move into a function under their own names; every
Switch becomes an argument; a Merge becomes an Identity of the same name; a control edge out of a
branch becomes one from the If, a control edge into a branch one into the If.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from bridge.attrs import bool_attr, function_attr, shapes_attr, type_attr, types_attr
from bridge.errors import UnsupportedError
from bridge.function_body import FunctionArg, build_function
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.model import Shape
from bridge.passes._branch_states import HINT, BranchStates, State
from bridge.passes._functions import (
    Functionalized,
    effects,
    follow,
    handle_data,
    is_small_const,
    last_name,
)
from bridge.passes._hoist_reads import hoist_reads
from bridge.passes._order import Components, Readers, topological_order
from bridge.passes._shapes import ShapeReader, common_shape
from bridge.proto import tf_pb


def functionalize_cond(graph: Graph, keep: Collection[str] = ()) -> Functionalized:
    """Turns every v1 conditional outside of v1 loops into an If or a StatelessIf.

    Loops must have been turned before (`functionalize_while`, which also does the conditionals
    inside them). The branches are added to `graph.functions`.

    Args:
      graph: is changed.
      keep: Consts outside of branches that branches must not have copies of.

    Returns:
      How many conditionals there were, and where the nodes of their branches are now.

    Raises:
      UnsupportedError: a Switch or Merge is not part of a conditional as tf.cond makes them.
    """
    hoist_reads(graph)
    moved: dict[str, str] = {}
    added: list[str] = []
    if _has_conditional(graph, graph.nodes):
        region = list(graph.nodes)
        added = functionalize_region(graph, region, moved, Readers(graph), ShapeReader(graph), keep)
    return Functionalized(len(added), follow(moved))


def functionalize_region(
    graph: Graph,
    region: Collection[str],
    moved: dict[str, str],
    readers: Readers,
    shapes: ShapeReader,
    keep: Collection[str],
) -> list[str]:
    """Turns the conditionals among some nodes of a graph.

    Takes time in proportion to the region, not to the graph: there may be many loops.

    Args:
      graph: is changed.
      region: the nodes to look at, in the order of the graph, without the Switches and Merges that
        belong to a loop; all others count as always alive.
      moved: gets an entry for every node that is gone.
      readers: of the graph; is kept up to date.
      shapes: knows the shapes of what comes into the region.
      keep: Consts that branches must not have copies of.

    Returns:
      The Ifs that were added.

    Raises:
      UnsupportedError: a Switch or Merge is not part of a conditional as tf.cond makes them.
    """
    if not _has_conditional(graph, region):
        return []
    return _Region(graph, dict.fromkeys(region), moved, readers, shapes, keep).run()


def _has_conditional(graph: Graph, region: Iterable[str]) -> bool:
    return any(graph.nodes[name].op in ("Switch", "Merge") for name in region)


class _Region:
    """The conditionals of one loop body, or of the graph outside of loops."""

    def __init__(
        self,
        graph: Graph,
        region: Collection[str],
        moved: dict[str, str],
        readers: Readers,
        shapes: ShapeReader,
        keep: Collection[str],
    ):
        self.graph = graph
        self.moved = moved
        self.readers = readers
        self.shapes = shapes
        self.keep = keep
        self.known = BranchStates(graph, region, readers)
        self.added: list[str] = []
        self.gone: list[str] = []

    def run(self) -> list[str]:
        """Turns all conditionals of the region, innermost first."""
        for around, predicate in self.known.pairs():
            starts = set(self.known.switches.get((around, predicate), ()))
            ends = set(self.known.merges.get((around, predicate), ()))
            for component in self._components(around, predicate):
                merges = [n for n in component if n in ends]
                switches = [n for n in component if n in starts]
                inside = [n for n in component if n not in ends and n not in starts]
                self._convert(around, predicate, merges, switches, inside)
        self._check_result()
        return self.added

    def _check_result(self) -> None:
        for name in self.gone:
            if name in self.graph.nodes:
                continue  # an If has the name now
            for node in self.readers.of(name):
                raise UnsupportedError(
                    f"needs {name!r} from inside a conditional, not by way of its Merge",
                    where=self.graph.at(node.name),
                    hint=HINT,
                )
        topological_order(self.graph, self.known.states)

    def _components(self, around: State, predicate: Tensor) -> list[list[str]]:
        switches = self.known.switches.get((around, predicate), [])
        merges = self.known.merges.get((around, predicate), [])
        inside = [name for branch in self.known.branches(around, predicate) for name in branch]
        components = Components([*switches, *merges, *inside])
        for name in inside:
            for tensor in self.graph.inputs(self.graph.nodes[name]):
                components.join(name, tensor.node)
        for name in merges:
            for tensor in self.graph.inputs(self.graph.nodes[name]):
                if not tensor.is_control:
                    components.join(name, tensor.node)
        # Each tf.cond has its own `pred_id`: a conditional stays one where its values don't meet.
        by_identity: dict[str, str] = {}
        for name in switches:
            source = parse_tensor(self.graph.nodes[name].input[1]).node
            if last_name(source).startswith("pred_id"):
                components.join(name, by_identity.setdefault(source, name))
        return components.groups(self.known.order)

    def _convert(
        self,
        around: State,
        predicate: Tensor,
        merges: list[str],
        switches: list[str],
        inside: list[str],
    ) -> None:
        """Turns one conditional, given by its Merges, its Switches and what is in the branches."""
        graph = self.graph
        if not switches:
            raise UnsupportedError(
                "its conditional has no Switch of its own",
                where=graph.at((merges or inside)[0]),
                hint=HINT,
            )
        self._drop_pivots(inside, merges, switches)
        if not merges and not effects(graph, inside):
            self._drop_unused(inside, switches)
            return
        name = graph.unique_name((merges or switches)[0].rpartition("/")[0] or "cond")
        consts = self._take_in_consts(inside, switches)
        args, sources = self._arguments([*inside, *consts], merges, switches)
        controls = self._cut_controls(inside, switches)
        functions: list[str] = []
        shapes: list[list[Shape]] = []
        for way, branch_nodes in enumerate(self.known.branches(around, predicate)):
            branch = [n for n in inside if n in branch_nodes]
            outputs = [(last_name(n), self._merged(n, predicate, bool(way))) for n in merges]
            shapes.append([self.shapes.shape(tensor) for _, tensor in outputs])
            function = build_function(
                graph,
                graph.unique_function_name(f"{name}_{'true' if way else 'false'}"),
                [*consts, *branch],
                args,
                outputs=outputs,
                control_outputs=effects(graph, branch),
            )
            graph.functions[function.signature.name] = function
            functions.append(function.signature.name)
        stateful = any(graph.functions[f].signature.is_stateful for f in functions)
        condition = self._nearest_predicate(switches)
        node = graph.add(
            "If" if stateful else "StatelessIf",
            name,
            [str(tensor) for tensor in (condition, *sources, *controls)],
            Tcond=type_attr(tf_pb.DT_BOOL),
            Tin=types_attr([arg.dtype for arg in args]),
            Tout=types_attr([graph.attr(graph.nodes[n], "T").type for n in merges]),
            then_branch=function_attr(functions[1]),
            else_branch=function_attr(functions[0]),
            output_shapes=shapes_attr([common_shape(*pair) for pair in zip(*shapes, strict=True)]),
            _lower_using_switch_merge=bool_attr(True),
        )
        self.readers.add(node)
        self._replace(around, name, merges, [*inside, *switches])

    def _nearest_predicate(self, switches: list[str]) -> Tensor:
        """Returns the predicate as most Switches read it: `pred_id`, where there is one."""
        read = [
            parse_tensor(self.graph.nodes[n].input[1])
            for n in switches
            if n in self.known.predicates
        ]
        return next((t for t in read if t != self.known.predicates[switches[0]]), read[0])

    def _drop_unused(self, inside: list[str], switches: list[str]) -> None:
        if inside:
            raise UnsupportedError(
                "is alive on one way of a Switch only, and no Merge joins it again",
                where=self.graph.at(inside[0]),
                hint=HINT,
            )
        for name in switches:
            source = parse_tensor(self.graph.nodes[name].input[0]).node
            self._remove([name], self.moved.get(source, source))

    def _merged(self, merge: str, predicate: Tensor, way: bool) -> Tensor:
        """Returns the input of a Merge that comes from one branch."""
        for tensor in self.graph.inputs(self.graph.nodes[merge]):
            if not tensor.is_control and (predicate, way) in self.known.edge_state(tensor):
                return tensor
        raise UnsupportedError(
            "its conditional is part of another one in a way that is not understood",
            where=self.graph.at(merge),
            hint=HINT,
        )

    def _drop_pivots(self, inside: list[str], merges: list[str], switches: list[str]) -> None:
        """Drops the nodes that are there only to be waited for.

        They stand for being in the branch, which is what a function body stands for now.
        """
        readers = {
            tensor.node
            for name in [*inside, *merges]
            for tensor in self.graph.inputs(self.graph.nodes[name])
            if not tensor.is_control
        }
        for name in list(inside):
            node = self.graph.nodes[name]
            if (
                node.op == "Identity"
                and len(node.input) == 1
                and parse_tensor(node.input[0]).node in switches
                and name not in readers
            ):
                inside.remove(name)
                switches.append(name)

    def _take_in_consts(self, inside: list[str], switches: list[str]) -> list[str]:
        """Lets the branches read small Consts directly; returns the names of these."""
        consts: dict[str, None] = {}
        own, cut = set(inside), set(switches)
        for name in inside:
            node = self.graph.nodes[name]
            for position, tensor in enumerate(self.graph.inputs(node)):
                if tensor.is_control or tensor.node in own:
                    continue
                source = tensor
                if tensor.node in cut:
                    source = parse_tensor(self.graph.nodes[tensor.node].input[0])
                if is_small_const(self.graph, source, self.keep):
                    consts[source.node] = None
                    node.input[position] = str(source)
                    self.readers.add(node)
        return list(consts)

    def _arguments(
        self, inside: list[str], merges: list[str], switches: list[str]
    ) -> tuple[list[FunctionArg], list[Tensor]]:
        """Finds the values that come into the branches: through a Switch, or directly."""
        own, cut = set(inside), set(switches)
        captured: dict[Tensor, dict[Tensor, None]] = {}
        for name in [*inside, *merges]:
            for tensor in self.graph.inputs(self.graph.nodes[name]):
                if tensor.is_control or tensor.node in own:
                    continue
                source = tensor
                if tensor.node in cut:
                    source = parse_tensor(self.graph.nodes[tensor.node].input[0])
                captured.setdefault(source, {})[tensor] = None
        args = [
            FunctionArg(
                last_name(source.node),
                tuple(replaced),
                self.graph.output(source).dtype,
                self.shapes.shape(source),
                handle_data(self.graph, source),
            )
            for source, replaced in captured.items()
        ]
        return args, list(captured)

    def _cut_controls(self, inside: list[str], switches: list[str]) -> list[Tensor]:
        """Takes the control edges that come from outside off the nodes; returns their sources."""
        own, cut = set(inside), set(switches)
        controls: dict[Tensor, None] = {}
        for name in [*inside, *switches]:
            node = self.graph.nodes[name]
            kept: list[str] = []
            for tensor in self.graph.inputs(node):
                if not tensor.is_control or tensor.node in own:
                    kept.append(str(tensor))
                elif tensor.node not in cut:
                    controls[tensor] = None
            node.input[:] = kept
        return list(controls)

    def _replace(self, around: State, name: str, merges: list[str], gone: list[str]) -> None:
        """Puts the If in the place of the conditional."""
        graph = self.graph
        for position, merge in enumerate(merges):
            node = graph.nodes[merge]
            waits = [str(tensor) for tensor in graph.inputs(node) if tensor.is_control]
            node.op = "Identity"
            node.attr.pop("N", None)
            node.input[:] = [str(Tensor(name, position)), *waits]
            self.readers.add(node)
        self.known.add(name, around, after=(merges or gone)[0])
        self._remove(gone, name)
        self.added.append(name)

    def _remove(self, gone: list[str], successor: str) -> None:
        """Removes nodes; what waited for them waits for their successor."""
        for old in gone:
            del self.graph.nodes[old]
            self.known.remove(old)
            self.moved[old] = successor
            self.gone.append(old)
        for old in gone:
            redirect_controls(self.readers, old, successor)


def redirect_controls(readers: Readers, old: str, new: str) -> None:
    """Lets all nodes that wait for `old` wait for `new` instead, once."""
    for node in readers.of(old):
        if f"^{old}" in node.input and node.name != new:
            inputs = [text for text in node.input if text not in (f"^{old}", f"^{new}")]
            node.input[:] = [*inputs, f"^{new}"]
            readers.add(node)
