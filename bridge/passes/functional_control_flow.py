"""Turns Switch, Merge, Enter and their like into If and While."""

from __future__ import annotations

from typing import ClassVar

from bridge.errors import UnsupportedError
from bridge.graph import parse_tensor
from bridge.model import Variant
from bridge.passes._infra import VariantPass
from bridge.report import Report

V1_CONTROL_FLOW = frozenset({"Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond"})


class FunctionalControlFlow(VariantPass):
    """Rewrites v1 control flow, which runs inside a function but can't be differentiated there.

    Requires: ResourceState has run. Ensures: no v1 control flow is left in the main graph; the
    names of Merge and Exit nodes still stand for the same tensors.

    1. TensorArrays become TensorLists first: their gradient works in v1 loops only.
    2. Loops become While, inner ones first.
    3. Conditionals, also those in the bodies of loops, become If.
    4. An update op that moved into a branch is replaced by the If that holds it.
    5. An output of a signature that moved into a branch is refused by name.
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

        changed = lower_tensor_arrays(graph)
        for functionalize in (functionalize_while, functionalize_cond):
            result = functionalize(graph)
            changed += result.count
            variant.update_ops = list(
                dict.fromkeys(result.moved.get(name, name) for name in variant.update_ops)
            )
        self._check_targets(variant)
        for node in graph.nodes.values():
            if node.op in V1_CONTROL_FLOW:
                raise UnsupportedError(
                    f"op {node.op} is not part of a conditional or loop that is understood",
                    where=graph.at(node.name),
                )
        return changed

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
