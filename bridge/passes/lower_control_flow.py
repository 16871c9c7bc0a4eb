"""Turns If, Case and While into Switch, Merge, Enter and their like."""

from __future__ import annotations

from typing import ClassVar

from bridge.call_graph import keep_called_functions
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.model import Variant
from bridge.passes._contexts import CondContext, WhileContext
from bridge.passes._infra import VariantPass
from bridge.passes._lists import give_each_its_own, is_list_op
from bridge.passes._lowering import Lowering
from bridge.passes._variable_ops import FUNCTIONAL
from bridge.proto import tf_pb
from bridge.report import Report

_WITH_UPDATES = 10_000


class LowerControlFlow(VariantPass):
    """Rewrites functional control flow, which TensorFlow 1 runs and mostly can't differentiate.

    Requires: InlineCalls, SeparateUpdates and Prune have run. Ensures: no If, Case or While is
    left; `cond_contexts` and `while_contexts` are those that a program of TensorFlow 1 would have,
    and no later pass may drop or rename the nodes that they name.

    1. TensorFlow 1.15 has no gradient for While unless the program turned control flow v2 on, and
       no StatelessCase; its v1 control flow works in each client, in each scope and any number of
       times, by contexts that tf.train.import_meta_graph restores.
    2. A Case becomes conditionals, one in the other.
    3. Variables are read outside of branches and loops, unless the node writes them: what comes
       into a branch as a value has a gradient whichever branch is taken.
    4. Lists of tensors become TensorArrays, also those outside of loops: TensorLists have no
       gradient in v1 loops.
    5. An update op that is a conditional or a loop becomes the node that has run when all of its
       effects are done.
    6. A loop keeps all its Exits, wanted or not: without one, a loop variable has no gradient.
    7. Where there are update ops, many iterations may run at a time. A client takes gradients in
       tf.control_dependencies(update_ops). In TensorFlow 1 the gradient of a loop adds a counter to
       it, which then starts only when the update ops are done; and if these wait for the loop, it
       must have got to its end without that counter. If it may not, the step does nothing, and
       mostly no error tells.
    """

    name: ClassVar[str] = "lower-control-flow"

    def rewrite(self, variant: Variant, report: Report) -> int:
        """Rewrites one variant."""
        del report
        graph = variant.graph
        functional = [n.name for n in graph.nodes.values() if n.op in FUNCTIONAL]
        if not functional:
            return 0
        give_each_its_own(graph)
        wanted = _readers(variant, functional)
        lowering = Lowering(graph, _WITH_UPDATES if variant.update_ops else 1)
        moved: dict[Tensor, Tensor] = {}
        after: dict[str, list[str]] = {}
        ran: dict[str, str] = {}
        for name in graph.topological_order():
            node = graph.nodes[name]
            _update_inputs(node, moved, after)
            if node.op in FUNCTIONAL:
                del graph.nodes[name]
                done, reads = lowering.replace(node, wanted[name])
                if done.after:
                    ran[name] = done.after
                # If nothing happens in it, what waits for it waits for what it waits for.
                after[name] = [*([done.after] if done.after else _waits(node)), *reads]
                outputs = done.outputs
            elif is_list_op(node.op):
                del graph.nodes[name]
                inputs = [tensor for tensor in graph.inputs(node) if not tensor.is_control]
                found = lowering.lists.convert(node, inputs, lowering.outermost, name)
                outputs = dict(enumerate(found))
                after[name] = [found[0].node]
            else:
                if node.op == "Identity":
                    _pass_on(graph, node, lowering)
                continue
            moved |= {Tensor(name, position): tensor for position, tensor in outputs.items()}
        keep_called_functions(graph)

        def moved_name(text: str) -> str:
            tensor = parse_tensor(text)
            return str(moved[tensor]) if tensor in moved else text

        variant.retarget(moved_name)
        variant.update_ops = {
            name: ran.get(node, node)
            for name, node in variant.update_ops.items()
            if node in ran or node in graph.nodes  # else nothing happens in it
        }
        for context in lowering.outermost.nested:
            if isinstance(context, CondContext):
                variant.cond_contexts.append(context.to_proto())
            elif isinstance(context, WhileContext):
                variant.while_contexts.append(context.to_proto())
        return len(functional)


def _readers(variant: Variant, functional: list[str]) -> dict[str, set[int]]:
    """Returns which outputs of functional nodes are read."""
    wanted: dict[str, set[int]] = {name: set() for name in functional}
    names = list(variant.regularization_losses)
    for signature in variant.signatures.values():
        names += signature.output_tensors()
    tensors = [parse_tensor(name) for name in names]
    for node in variant.graph.nodes.values():
        tensors += variant.graph.inputs(node)
    for tensor in tensors:
        if tensor.node in wanted and not tensor.is_control:
            wanted[tensor.node].add(tensor.output)
    return wanted


def _waits(node: tf_pb.NodeDef) -> list[str]:
    return [text[1:] for text in node.input if text.startswith("^")]


def _update_inputs(
    node: tf_pb.NodeDef, moved: dict[Tensor, Tensor], after: dict[str, list[str]]
) -> None:
    inputs: dict[str, None] = {}
    data: list[str] = []
    for text in node.input:
        tensor = parse_tensor(text)
        if tensor.is_control:
            inputs.update((f"^{name}", None) for name in after.get(tensor.node, [tensor.node]))
        else:
            data.append(str(moved.get(tensor, tensor)))
    node.input[:] = [*data, *inputs]


def _pass_on(graph: Graph, node: tf_pb.NodeDef, lowering: Lowering) -> None:
    """Lets an Identity of a list be one of its flow."""
    source = parse_tensor(node.input[0])
    if source in lowering.lists:
        lowering.lists.same(Tensor(node.name, 0), source)
        node.attr["T"].type = graph.output(source).dtype  # type: ignore[assignment]
