"""Turns Switch, Merge, Enter and their like into If and While."""

from __future__ import annotations

from typing import ClassVar

from bridge.attrs import type_attr
from bridge.errors import UnsupportedError
from bridge.graph import Tensor, parse_tensor
from bridge.model import Variant
from bridge.ops import RESOURCE_VARIABLE, V1_CONTROL_FLOW
from bridge.passes._infra import VariantPass
from bridge.report import Report


class FunctionalControlFlow(VariantPass):
    """Rewrites v1 control flow, which runs inside a function but can't be differentiated there.

    Requires: ResourceState has run. Ensures: no v1 control flow is left in the main graph; the
    names of Merge and Exit nodes still stand for the same tensors.

    1. TensorArrays become TensorLists first: their gradient works in v1 loops only.
    2. Loops become While, inner ones first.
    3. Conditionals, also those in the bodies of loops, become If.
    4. An update op that moved into a branch is replaced by the If that holds it.
    5. Paths of assets and handles of variables stay outside, even if a branch or a loop made them:
       the functions get them as arguments, for only a body of the main graph can capture them.
    6. The outputs of a loop with `back_prop=False` become StopGradient.
    7. An output of a signature that moved into a branch is refused by name.
    """

    name: ClassVar[str] = "functional-control-flow"

    def rewrite(self, variant: Variant, report: Report) -> int:
        """Rewrites one variant."""
        del report
        graph = variant.graph
        if not any(node.op in V1_CONTROL_FLOW for node in graph.nodes.values()):
            return 0
        # Most modules have none of it, and need not wait for these and for NumPy.
        from bridge.passes.functionalize_cond import functionalize_cond
        from bridge.passes.functionalize_while import functionalize_while
        from bridge.passes.tensor_arrays import lower_tensor_arrays

        self._lift_state(variant)
        changed = lower_tensor_arrays(graph)
        for functionalize in (functionalize_while, functionalize_cond):
            result = functionalize(graph, keep=variant.assets)
            changed += result.count
            variant.update_ops = {
                name: result.moved.get(node, node) for name, node in variant.update_ops.items()
            }
        self._stop_gradients(variant)
        self._check_targets(variant)
        for node in graph.nodes.values():
            if node.op in V1_CONTROL_FLOW:
                raise UnsupportedError(
                    f"op {node.op} is not part of a conditional or loop that is understood",
                    where=graph.at(node.name),
                )
        return changed

    def _stop_gradients(self, variant: Variant) -> None:
        """Keeps gradients out of loops with `back_prop=False`.

        An Exit is an Identity by now, in the main graph or in a body.
        """
        for node in variant.graph.all_nodes():
            if node.name in variant.undifferentiated and node.op == "Identity":
                node.op = "StopGradient"

    def _lift_state(self, variant: Variant) -> None:
        """Takes what a body captures out of branches and loops.

        Such a node has no data inputs: it is inside because it waits for something there. An
        Identity waits in its place, so that what reads it stays inside.
        """
        graph = variant.graph
        lifted = [
            node
            for node in graph.nodes.values()
            if node.input and (node.name in variant.assets or node.op == RESOURCE_VARIABLE)
        ]
        consumers = graph.consumers() if lifted else {}
        for node in lifted:
            name = graph.unique_name(f"{node.name}/Identity")
            for consumer, position in consumers[node.name]:
                tensor = parse_tensor(consumer.input[position])
                consumer.input[position] = str(tensor._replace(node=name))
            dtype = type_attr(graph.output(Tensor(node.name, 0)).dtype)
            graph.add("Identity", name, [node.name, *node.input], T=dtype)
            del node.input[:]

    def _check_targets(self, variant: Variant) -> None:
        """Refuses to give a tensor that only one branch of a conditional computes."""
        graph = variant.graph
        targets: list[tuple[str, str | None]] = [
            (name, None) for name in variant.regularization_losses
        ]
        for signature in variant.signatures.values():
            names = signature.input_tensors() + signature.output_tensors()
            targets.extend((name, signature.name) for name in names)
        for name, signature_name in targets:
            node = parse_tensor(name).node
            if node not in graph.nodes:
                raise UnsupportedError(
                    f"tensor {name!r} has a value only if a branch of a conditional runs",
                    where=graph.at(node, signature_name),
                    hint="export the module again with the output of the tf.cond instead",
                )
