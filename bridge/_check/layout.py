"""IMG10: tensors are laid out channels_last."""

from __future__ import annotations

from collections.abc import Iterator

from bridge._check.flow import Point
from bridge._check.results import Breach
from bridge._check.rule import NO_IMAGES, Judgement, judged, not_applicable, where
from bridge._check.seen import CHANNELS, SeenModel, SeenSignature
from bridge.model import format_shape

_FORMAT = "data_format"
_MEND = "build the model with data_format='channels_last'; TensorFlow rewrites it where that pays"
_MAX_NAMED = 2


def is_channels_last(model: SeenModel) -> Judgement:
    """IMG10: no image input, and no op that it flows through, has its channels first."""
    signatures = model.image_signatures()
    if not signatures:
        return not_applicable(NO_IMAGES)
    breaches = [breach for signature in signatures for breach in _breaches(signature)]
    return judged(where(signatures), breaches)


def _breaches(signature: SeenSignature) -> Iterator[Breach]:
    for name in signature.image_inputs:
        shape = signature.inputs[name].shape
        if shape is not None and len(shape) == 4 and shape[1] == CHANNELS != shape[3]:
            what = f"the images are {format_shape(shape)}, channels first"
            yield signature.breach(what, _MEND, name=name)
    outputs = [point for points in signature.returned.values() for point in points]
    found = [p for p in signature.flow.between(outputs) if _channels_first(p)]
    nodes = {(point.frame.function, point.node.name): point for point in found}
    if nodes:
        ops = sorted(nodes.values(), key=lambda point: (point.frame.function, point.node.name))
        named = ", ".join(point.place for point in ops[:_MAX_NAMED])
        more = len(ops) - _MAX_NAMED
        others = f" and {more} more" if more > 0 else ""
        have = "has its" if len(ops) == 1 else "have their"
        yield signature.breach(
            f"{named}{others} {have} channels first", _MEND, node=ops[0].node.name
        )


def _channels_first(point: Point) -> bool:
    op_def = point.frame.graph.ops.get(point.node.op)
    if op_def is None or not any(attr.name == _FORMAT for attr in op_def.attr):
        return False
    return point.frame.graph.attr(point.node, _FORMAT).s.startswith(b"NC")
