"""Builds the bodies of branches and loops into the graph that runs them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from bridge.attrs import int_attr, type_attr
from bridge.errors import UnsupportedError
from bridge.graph import Tensor
from bridge.ops import RESOURCE_VARIABLE
from bridge.passes._contexts import Context, WhileContext
from bridge.passes._functions import has_effect
from bridge.passes._lists import HINT, Lists, is_list_op
from bridge.passes._lowered_functions import Functions
from bridge.passes._variable_ops import FUNCTIONAL, READS, Use, VariableUses
from bridge.proto import tf_pb


@dataclass
class Done:
    """What stands in the place of a node.

    Attributes:
      outputs: its outputs that were wanted, by position.
      after: the node that has run when its effects are done; None if it has none.
    """

    outputs: dict[int, Tensor] = field(default_factory=dict)
    after: str | None = None


class Expand(Protocol):
    """Builds what a functional node does, in some context."""

    def __call__(
        self,
        node: tf_pb.NodeDef,
        inputs: list[Tensor],
        controls: list[Tensor],
        wanted: Collection[int],
        context: Context,
        name: str,
    ) -> Done:
        """Builds it.

        Args:
          node: the node.
          inputs: its data inputs, of the context or outer ones.
          controls: what it waits for, in the context.
          wanted: the outputs that are read.
          context: where to build it.
          name: the wanted scope.
        """
        ...


class Bodies:
    """Builds the bodies of functions.

    Attributes:
      reads: the value of each variable that is read outside, by its handle; since `begin`.
    """

    def __init__(self, functions: Functions, lists: Lists, outermost: Context, expand: Expand):
        """Takes what bodies are made of.

        Args:
          functions: the functions.
          lists: the lists of tensors.
          outermost: the context that is none.
          expand: builds the functional nodes of bodies.
        """
        graph = outermost.graph
        self._graph = graph
        self._functions = functions
        self._lists = lists
        self._outermost = outermost
        self._expand = expand
        self._uses = VariableUses(graph)
        self._variables = {
            Tensor(n.name, 0) for n in graph.nodes.values() if n.op == RESOURCE_VARIABLE
        }
        self._written: Collection[str] = ()
        self._controls: list[Tensor] = []
        self.reads: dict[Tensor, Tensor] = {}

    def begin(self, node: tf_pb.NodeDef, controls: list[Tensor]) -> None:
        """Prepares for the bodies of a node of the graph, and those in them.

        Args:
          node: the node.
          controls: what it waits for.
        """
        uses = self._uses.of_node(node)
        self._written = {variable for variable, use in uses.items() if Use.WRITE in use}
        self._controls = controls
        self.reads = {}

    def build(
        self,
        name: str,
        args: dict[int, Tensor],
        wanted: Collection[int],
        context: Context,
        scope: str,
    ) -> Done:
        """Builds the body of a function.

        Args:
          name: the function.
          args: its arguments, of the context or outer ones.
          wanted: the outputs that are read.
          context: where to build it.
          scope: what to prefix names with.
        """
        function = self._functions.get(name)
        graph = function.body.graph
        targets = {position: function.body.outputs[position][1] for position in wanted}
        nodes, _ = function.needed(targets.values())
        tensors = {Tensor(arg, 0): args[p] for arg, p in function.arguments.items() if p in args}
        after: dict[str, str] = {}
        read = {tensor for node in nodes for tensor in graph.inputs(graph.nodes[node])}
        read.update(targets.values())
        for node_name in graph.topological_order([n for n in graph.nodes if n in nodes]):
            node = graph.nodes[node_name]
            inputs = list(graph.inputs(node))
            data = [tensors[tensor] for tensor in inputs if not tensor.is_control]
            controls = [
                Tensor(after[tensor.node], -1)
                for tensor in inputs
                if tensor.is_control and tensor.node in after
            ]
            full = node_name if node_name.startswith(f"{scope}/") else f"{scope}/{node_name}"
            if node.op in FUNCTIONAL:
                outputs = {tensor.output for tensor in read if tensor.node == node_name}
                done = self._expand(node, data, controls, outputs - {-1}, context, full)
            else:
                done = self._add(node, data, controls, context, full)
            tensors.update((Tensor(node_name, p), tensor) for p, tensor in done.outputs.items())
            if node_name in function.ordering:
                local = [context.bring_in(tensor) for tensor in done.outputs.values()]
                after[node_name] = done.after or local[0].node
        waits = [after[effect] for effect in function.effects]
        result = Done({position: tensors[tensor] for position, tensor in targets.items()})
        if waits:
            controls = [Tensor(wait, -1) for wait in waits]
            result.after = context.add("NoOp", f"{scope}/effects", controls).name
            for position, tensor in result.outputs.items():
                result.outputs[position] = self._wait(tensor, result.after, context, scope)
        return result

    def _wait(self, tensor: Tensor, after: str, context: Context, scope: str) -> Tensor:
        """Returns the same value, there after some node has run."""
        dtype = self._graph.output(tensor).dtype
        if dtype == tf_pb.DT_RESOURCE:
            return tensor
        inputs = [context.bring_in(tensor), Tensor(after, -1)]
        node = context.add("Identity", f"{scope}/Identity", inputs, T=type_attr(dtype))
        result = Tensor(node.name, 0)
        self._lists.same(result, tensor)
        return result

    def _add(
        self,
        node: tf_pb.NodeDef,
        data: list[Tensor],
        controls: list[Tensor],
        context: Context,
        name: str,
    ) -> Done:
        """Builds what one node of a body does."""
        if node.op == "Identity" and not controls:
            return Done({0: data[0]})
        if is_list_op(node.op):
            return Done(dict(enumerate(self._lists.convert(node, data, context, name))))
        if any(tensor in self._lists for tensor in data) and node.op != "Identity":
            raise UnsupportedError(
                f"op {node.op} takes a list of tensors, which has no form in the loops of "
                "TensorFlow 1",
                where=self._graph.at(name),
                hint=HINT,
            )
        if node.op in READS and self._may_hoist(data[0]):
            return self._read(node, data, context, name)
        local = [context.bring_in(tensor) for tensor in data]
        pivot = context.pivot
        if pivot is not None:
            free = not controls and all(context.is_invariant(tensor) for tensor in local)
            if free or (isinstance(context, WhileContext) and has_effect(self._graph, node)):
                controls = [*controls, Tensor(pivot.node, -1)]
        copy = tf_pb.NodeDef()
        copy.CopyFrom(node)
        copy.name = self._graph.unique_name(name)
        copy.input[:] = [str(tensor) for tensor in (*local, *controls)]
        self._graph.nodes[copy.name] = copy
        context.adopt(copy)
        count = len(self._graph.outputs(copy))
        outputs = {position: Tensor(copy.name, position) for position in range(count)}
        if local:
            self._lists.same(Tensor(copy.name, 0), data[0])
        return Done(outputs, copy.name)

    def _may_hoist(self, handle: Tensor) -> bool:
        return handle in self._variables and handle.node not in self._written

    def _read(self, node: tf_pb.NodeDef, data: list[Tensor], context: Context, name: str) -> Done:
        """Reads a variable outside of all branches and loops.

        The gradient of a variable that is read in a branch is no tensor when the branch is not
        taken; that of a value which comes into one is zero.
        """
        handle = data[0]
        dtype = node.attr["dtype"]
        if handle not in self.reads:
            read = self._outermost.add(
                "ReadVariableOp",
                f"{handle.node}/Read/ReadVariableOp",
                [handle, *self._controls],
                dtype=dtype,
            )
            self.reads[handle] = Tensor(read.name, 0)
        value = self.reads[handle]
        if node.op == "ReadVariableOp":
            return Done({0: value})
        local = [context.bring_in(value), context.bring_in(data[1])]
        attrs = {"Tparams": dtype, "Tindices": node.attr["Tindices"]}
        if node.op == "ResourceGatherNd":
            gather = context.add("GatherNd", name, local, **attrs)
        else:
            local.append(context.add_ints(f"{name}/axis", 0))
            attrs |= {"Taxis": type_attr(tf_pb.DT_INT32)}
            attrs |= {"batch_dims": int_attr(self._graph.attr(node, "batch_dims").i)}
            gather = context.add("GatherV2", name, local, **attrs)
        return Done({0: Tensor(gather.name, 0)})
