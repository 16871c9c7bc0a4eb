"""Tells the static shapes of outputs, where the functions that knew them are gone."""

from __future__ import annotations

from typing import ClassVar

from bridge.attrs import shape_attr, type_attr
from bridge.graph import Graph, parse_tensor
from bridge.model import Encoding, Shape, Variant
from bridge.ops import PLACEHOLDERS_WITH_DEFAULT
from bridge.passes._infra import VariantPass
from bridge.report import Report


class EnsureShapes(VariantPass):
    """Lets signatures return their outputs through EnsureShape.

    Requires: InlineCalls has run. Ensures: in the client's graph, each dense output has the static
    shape that its signature gives.

    1. A function says the shapes of its outputs, also where its nodes don't: after `set_shape`, a
       loop, or an op whose shape TensorFlow 1.15 does not infer yet.
    2. Inputs that are outputs too, and outputs of which nothing is known, need no node.
    """

    name: ClassVar[str] = "ensure-shapes"

    def rewrite(self, variant: Variant, report: Report) -> int:
        """Adds the nodes of one variant; returns how many."""
        del report
        graph = variant.graph
        shapes: dict[str, Shape] = {}
        for signature in variant.signatures.values():
            for endpoint in signature.outputs.values():
                if endpoint.encoding is Encoding.DENSE:
                    part = endpoint.components[0]
                    shapes.setdefault(part.name, part.shape)
        ensured = {
            name: _ensured(graph, name, shape)
            for name, shape in shapes.items()
            if _can_tell(graph, name, shape)
        }
        losses = list(variant.regularization_losses)
        variant.retarget(lambda name: ensured.get(name, name))
        variant.regularization_losses = losses
        return len(ensured)


def _can_tell(graph: Graph, name: str, shape: Shape) -> bool:
    op = graph.nodes[parse_tensor(name).node].op
    known = shape is not None and (not shape or any(size is not None for size in shape))
    return known and op not in PLACEHOLDERS_WITH_DEFAULT | {"EnsureShape", "Const"}


def _ensured(graph: Graph, name: str, shape: Shape) -> str:
    tensor = parse_tensor(name)
    dtype = graph.output(tensor).dtype
    node = graph.add(
        "EnsureShape",
        graph.unique_name(f"{tensor.node}/EnsureShape"),
        [str(tensor)],
        shape=shape_attr(shape),
        T=type_attr(dtype),
    )
    return f"{node.name}:0"
