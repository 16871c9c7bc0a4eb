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

from bridge.errors import UnsupportedError
from bridge.function_body import FunctionArg, build_function, unique_function_name
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.model import Shape
from bridge.passes._branch_states import HINT, BranchStates, State
from bridge.passes._functions import (
    Functionalized,
    bool_attr,
    effects,
    follow,
    function_attr,
    handle_data,
    is_small_const,
    last_name,
    shapes_attr,
    type_attr,
    types_attr,
)
from bridge.passes._hoist_reads import hoist_reads
from bridge.passes._order import Components, topological_order
from bridge.passes._shapes import ShapeReader, common_shape
from bridge.proto import tf_pb


def functionalize_cond(graph: Graph) -> Functionalized:
    """Turns every v1 conditional outside of v1 loops into an If or a StatelessIf.

    Loops must have been turned before (`functionalize_while`, which also does the conditionals
    inside them). The branches are added to `graph.functions`.

    Args:
      graph: is changed.

    Returns:
      How many conditionals there were, and where the nodes of their branches are now.

    Raises:
      UnsupportedError: a Switch or Merge is not part of a conditional as tf.cond makes them.
    """
    hoist_reads(graph)
    moved: dict[str, str] = {}
    added = functionalize_region(graph, list(graph.nodes), moved)
    return Functionalized(len(added), follow(moved))


def functionalize_region(graph: Graph, region: Collection[str], moved: dict[str, str]) -> list[str]:
    """Turns the conditionals among some nodes of a graph.

    Args:
      graph: is changed.
      region: the nodes to look at, without the Switches and Merges that belong to a loop; all
        others count as always alive.
      moved: gets an entry for every node that is gone.

    Returns:
      The Ifs that were added.

    Raises:
      UnsupportedError: a Switch or Merge is not part of a conditional as tf.cond makes them.
    """
    if not any(graph.nodes[name].op in ("Switch", "Merge") for name in region):
        return []
    return _Region(graph, dict.fromkeys(region), moved).run()


class _Region:
    """The conditionals of one loop body, or of the graph outside of loops."""

    def __init__(self, graph: Graph, region: Collection[str], moved: dict[str, str]):
        self.graph = graph
        self.moved = moved
        self.known = BranchStates(graph, region)
        self.shapes = ShapeReader(graph)
        self.waiting: dict[str, dict[str, None]] = {}  # node to its consumers by control edge
        self.added: list[str] = []
        for node in graph.nodes.values():
            for tensor in graph.inputs(node):
                if tensor.is_control:
                    self.waiting.setdefault(tensor.node, {})[node.name] = None

    def run(self) -> list[str]:
        """Turns all conditionals of the region, innermost first."""
        for around, predicate in self.known.pairs():
            for component in self._components(around, predicate):
                self._convert(around, predicate, component)
        self._check_result()
        return self.added

    def _check_result(self) -> None:
        for node in self.graph.nodes.values():
            for tensor in self.graph.inputs(node):
                if tensor.node in self.moved and tensor.node not in self.graph.nodes:
                    raise UnsupportedError(
                        f"needs {str(tensor)!r} from inside a conditional, not by way of its Merge",
                        where=self.graph.at(node.name),
                        hint=HINT,
                    )
        topological_order(self.graph, self.graph.nodes)

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

    def _convert(self, around: State, predicate: Tensor, component: list[str]) -> None:
        graph = self.graph
        ends = set(self.known.merges.get((around, predicate), ()))
        starts = set(self.known.switches.get((around, predicate), ()))
        merges = [n for n in component if n in ends]
        switches = [n for n in component if n in starts]
        inside = [n for n in component if n not in ends and n not in starts]
        if not switches:
            raise UnsupportedError(
                "its conditional has no Switch of its own", where=graph.at(component[0]), hint=HINT
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
                unique_function_name(graph, f"{name}_{'true' if way else 'false'}"),
                [*consts, *branch],
                args,
                outputs=outputs,
                control_outputs=effects(graph, branch),
            )
            graph.functions[function.signature.name] = function
            functions.append(function.signature.name)
        stateful = any(graph.functions[f].signature.is_stateful for f in functions)
        condition = self._nearest_predicate(switches)
        graph.add(
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
        self._replace(around, name, merges, [*inside, *switches], controls)

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
        raise AssertionError(merge)  # _merge_state has seen both

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
                if is_small_const(self.graph, source):
                    consts[source.node] = None
                    node.input[position] = str(source)
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

    def _replace(
        self,
        around: State,
        name: str,
        merges: list[str],
        gone: list[str],
        controls: Iterable[Tensor],
    ) -> None:
        """Puts the If in the place of the conditional."""
        graph = self.graph
        for position, merge in enumerate(merges):
            node = graph.nodes[merge]
            waits = [str(tensor) for tensor in graph.inputs(node) if tensor.is_control]
            node.op = "Identity"
            node.attr.pop("N", None)
            node.input[:] = [str(Tensor(name, position)), *waits]
        self.known.add(name, around, after=(merges or gone)[0])
        for tensor in controls:
            self.waiting.setdefault(tensor.node, {})[name] = None
        self._remove(gone, name)
        self.added.append(name)

    def _remove(self, gone: list[str], successor: str) -> None:
        """Removes nodes; what waited for them waits for their successor."""
        for old in gone:
            del self.graph.nodes[old]
            self.known.remove(old)
            self.moved[old] = successor
        for old in gone:
            for name in self.waiting.pop(old, ()):
                if name in self.graph.nodes and name != successor:
                    redirect_control(self.graph.nodes[name], old, successor)
                    self.waiting.setdefault(successor, {})[name] = None


def redirect_control(node: tf_pb.NodeDef, old: str, new: str) -> None:
    """Lets a node wait for `new` instead of `old`, once."""
    inputs = [text for text in node.input if text not in (f"^{old}", f"^{new}")]
    node.input[:] = [*inputs, f"^{new}"]
