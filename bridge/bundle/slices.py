"""Geometry of partitioned tensors.

Source: tensorflow/core/framework/tensor_slice.cc.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bridge.bundle.coding import Extent

Box = tuple[tuple[int, ...], tuple[int, ...]]
"""Offsets and sizes, by dimension."""


def slice_shape(shape: tuple[int, ...], extents: Sequence[Extent]) -> tuple[int, ...] | None:
    """Returns the shape of a slice; None if it does not lie within `shape`.

    A slice of which every extent is trivial is not one: TensorFlow stores such a tensor in one
    piece.
    """
    if len(extents) != len(shape) or all(length is None for _, length in extents):
        return None
    result = []
    for (start, length), size in zip(extents, shape, strict=True):
        if length is None:
            if start:
                return None
            result.append(size)
        elif start < 0 or length < 0 or start + length > size:
            return None
        else:
            result.append(length)
    return tuple(result)


def covers(shape: tuple[int, ...], boxes: Sequence[Box]) -> bool:
    """True if the boxes, which lie within `shape`, cover every element exactly once."""
    if sum(math.prod(sizes) for _, sizes in boxes) != math.prod(shape):
        return False
    boxes = [box for box in boxes if all(box[1])]
    if not boxes:
        return True
    # Sweep along the dimension that is cut most often; only boxes that meet there can overlap.
    starts = [{offsets[d] for offsets, _ in boxes} for d in range(len(shape))]
    axis = max(range(len(shape)), key=lambda d: len(starts[d]), default=None)
    if axis is None:
        return len(boxes) == 1
    active: list[Box] = []
    for box in sorted(boxes, key=lambda item: item[0][axis]):
        start = box[0][axis]
        active = [other for other in active if other[0][axis] + other[1][axis] > start]
        if any(_overlap(box, other) for other in active):
            return False
        active.append(box)
    return True


def _overlap(a: Box, b: Box) -> bool:
    return all(
        x < y + height and y < x + width
        for x, width, y, height in zip(a[0], a[1], b[0], b[1], strict=True)
    )
