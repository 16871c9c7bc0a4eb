"""Keeps gradients away from ops that have none, where training needs none."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from bridge.attrs import type_attr
from bridge.graph import Tensor, parse_tensor
from bridge.model import Endpoint, Variant
from bridge.ops import RESOURCE_VARIABLE
from bridge.opsets import CURRENT, ops_without_gradient
from bridge.passes._gradient_paths import DIFFERENTIABLE
from bridge.passes._infra import VariantPass
from bridge.proto import tf_pb
from bridge.report import Report

FUNCTION_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
"""Ops that TensorFlow differentiates by their function, not by a registered gradient."""


class StopGradients(VariantPass):
    """Puts a StopGradient behind ops without gradient that no trainable variable stands before.

    Requires: FunctionalControlFlow has run. Ensures: fine-tuning does not ask for the gradient of
    an op that no trainable variable lies before.

    1. TensorFlow 1 differentiated with respect to the variables, and stopped there. TensorFlow 2
       differentiates a loaded function with respect to all its arguments, so an image resize
       without gradient at the start of a net would make the whole net untrainable. The gradient
       with respect to the images was an error before, and is None now.
    2. Where a trainable variable lies before such an op, training raises, as it did in the old
       client. The report names the op.
    """

    name: ClassVar[str] = "stop-gradients"

    def rewrite(self, variant: Variant, report: Report) -> int:
        """Rewrites one variant."""
        graph = variant.graph
        without = ops_without_gradient(CURRENT)
        suspects = [
            node
            for node in graph.nodes.values()
            if node.op in without
            and node.op not in FUNCTION_CALLS
            and any(not tensor.is_control for tensor in graph.inputs(node))
            and any(output.dtype in DIFFERENTIABLE for output in graph.outputs(node))
        ]
        if not suspects:
            return 0
        consumers = graph.consumers()
        trained = graph.descendants(
            [
                Tensor(node.name, 0)
                for node in graph.nodes.values()
                if node.op == RESOURCE_VARIABLE and node.name in variant.trainable_variables
            ],
            consumers=consumers,
        )
        changed = 0
        for node in suspects:
            if node.name in trained:
                report.remark(
                    "gradient",
                    node.name,
                    f"op {node.op} has no gradient in TensorFlow {CURRENT}, so training the "
                    "variables before it raises",
                    graph.at(node.name),
                )
            else:
                changed += _stop(variant, node, consumers[node.name])
        return changed


def _stop(variant: Variant, node: tf_pb.NodeDef, consumers: list[tuple[tf_pb.NodeDef, int]]) -> int:
    """Lets all who read a node's float outputs read them through a StopGradient."""
    graph = variant.graph
    stops: dict[Tensor, str] = {}
    for number, output in enumerate(graph.outputs(node)):
        if output.dtype in DIFFERENTIABLE:
            tensor = Tensor(node.name, number)
            name = graph.unique_name(f"{node.name}/StopGradient")
            graph.add("StopGradient", name, [str(tensor)], T=type_attr(output.dtype))
            stops[tensor] = name
    for consumer, position in consumers:
        tensor = parse_tensor(consumer.input[position])
        consumer.input[position] = stops.get(tensor, consumer.input[position])
    for name, signature in variant.signatures.items():
        outputs = {key: _read(end, stops) for key, end in signature.outputs.items()}
        variant.signatures[name] = replace(signature, outputs=outputs)
    return len(stops)


def _read(endpoint: Endpoint, stops: dict[Tensor, str]) -> Endpoint:
    components = tuple(
        replace(component, name=stops.get(parse_tensor(component.name), component.name))
        for component in endpoint.components
    )
    return replace(endpoint, components=components)
