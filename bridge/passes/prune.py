"""Drops what nothing of a variant needs."""

from __future__ import annotations

from typing import ClassVar

from bridge.call_graph import keep_called_functions
from bridge.graph import Tensor, parse_tensor
from bridge.model import Variant
from bridge.ops import PLACEHOLDERS
from bridge.passes._infra import VariantPass
from bridge.report import Report


class Prune(VariantPass):
    """Keeps what signatures, update ops, regularization losses and table initializers need.

    Requires: nothing. Ensures: every node is an ancestor of one of those, or an input of a
    signature; every function is called; every regularization loss can be computed without inputs.

    1. Variable initializers, savers and summaries go: the checkpoint holds the values.
    2. A signature's input that is no placeholder keeps what it is made of, for its node needs it.
    3. A regularization loss that depends on an input is dropped and named: TF2 calls such losses
       without arguments (the old client can't evaluate one either).
    """

    name: ClassVar[str] = "prune"

    def rewrite(self, variant: Variant, report: Report) -> int:
        """Prunes one variant."""
        graph = variant.graph
        self._drop_losses_of_inputs(variant, report)
        tensors = list(variant.regularization_losses)
        for signature in variant.signatures.values():
            tensors += [*signature.input_tensors(), *signature.output_tensors()]
        needed = [parse_tensor(name).node for name in tensors]
        kept = graph.ancestors([*needed, *variant.update_ops.values(), *variant.table_initializers])
        dropped = graph.keep(kept)
        variant.assets = {node: name for node, name in variant.assets.items() if node in kept}
        return dropped + keep_called_functions(graph)

    def _drop_losses_of_inputs(self, variant: Variant, report: Report) -> None:
        graph = variant.graph
        inputs: set[Tensor] = {
            parse_tensor(name)
            for signature in variant.signatures.values()
            for name in signature.input_tensors()
        }
        input_nodes = {tensor.node for tensor in inputs}
        for name in list(variant.regularization_losses):
            needed = graph.ancestors([parse_tensor(name).node])
            fed = sorted(
                node
                for node in needed
                if node in input_nodes or graph.nodes[node].op in PLACEHOLDERS
            )
            if fed:
                variant.regularization_losses.remove(name)
                report.drop(
                    "regularization_loss",
                    name,
                    f"it depends on the input {fed[0]!r}, and TF2 calls regularization losses "
                    "without arguments",
                    graph.at(parse_tensor(name).node),
                )
