"""Expresses dilated convolutions by plain ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from bridge.attrs import type_attr
from bridge.passes._replacing import Replacement, ReplaceNodes, Size
from bridge.proto import tf_pb

_FORWARD = frozenset({"Conv2D", "Conv3D", "DepthwiseConv2dNative"})
_TRANSPOSED = frozenset({"Conv2DBackpropInput", "Conv3DBackpropInputV2"})


class DilatedConvolution(ReplaceNodes):
    """Makes dilations of all convolutions 1.

    Requires: GroupedConvolution has run. Ensures: no channels-last convolution whose filter has a
    known size is dilated.

    1. In TensorFlow 1.15 no CPU kernel computes the gradient of a dilated Conv2D, nor runs any
       other dilated convolution; that of DepthwiseConv2dNative ignores the attribute.
    2. With strides of 1, every d-th pixel goes to a batch of its own (SpaceToBatchND), as
       tf.nn.convolution does it.
    3. With other strides, and for transposed convolutions, the filter gets zeros between its rows
       and columns. That costs d times as much per axis.
    """

    name: ClassVar[str] = "dilated-convolution"
    ops: ClassVar[frozenset[str]] = _FORWARD | _TRANSPOSED

    def replace(self, new: Replacement) -> bool:
        """Replaces a convolution, if it is dilated."""
        dilations = list(new.attr("dilations").list.i)
        if all(dilation == 1 for dilation in dilations):
            return False
        kernel = new.shape(new.inputs[1])
        channels_last = new.attr("data_format").s in (b"NHWC", b"NDHWC")
        if not channels_last or kernel is None or len(kernel) != len(dilations):
            return False
        extents = [extent for extent in kernel[:-2] if extent is not None]
        if len(extents) != len(kernel) - 2:
            return False
        strides = new.attr("strides").list.i
        if new.op in _FORWARD and all(stride == 1 for stride in strides):
            _convolve_batches(new, extents, dilations[1:-1])
        else:
            _spread_filter(new, extents, dilations[1:-1])
        return True


def _convolve_batches(new: Replacement, extents: Sequence[int], dilations: Sequence[int]) -> None:
    image, kernel = new.inputs
    padding = new.attr("padding").s
    explicit = list(new.attr("explicit_paddings").list.i) if padding == b"EXPLICIT" else []
    paddings: list[Size] = []
    crops: list[Size] = []
    for axis, (extent, dilation) in enumerate(zip(extents, dilations, strict=True), start=1):
        before = after = 0
        if padding == b"SAME":
            missing = (extent - 1) * dilation
            before, after = missing // 2, missing - missing // 2
        elif explicit:
            before, after = explicit[2 * axis : 2 * axis + 2]
        # The batches must be equally large: what is missing comes at the end, and goes again.
        padded = new.combine("AddV2", new.size(image, axis), before + after)
        rest = new.combine("FloorMod", new.combine("Sub", 0, padded), dilation)
        paddings += [before, new.combine("AddV2", rest, after)]
        crops += [0, rest]
    attrs = new.attrs()
    dtype, index = attrs["T"], type_attr(tf_pb.DT_INT32)
    blocks = new.ints("block_shape", dilations)
    batches = new.add(
        "SpaceToBatchND",
        "SpaceToBatchND",
        [image, blocks, new.reshape(new.vector(paddings), [len(extents), 2])],
        T=dtype,
        Tblock_shape=index,
        Tpaddings=index,
    )
    attrs["padding"].s = b"VALID"
    attrs.pop("explicit_paddings", None)
    attrs.pop("dilations")
    result = new.add(new.op, new.op, [batches, kernel], **attrs)
    new.become(
        "BatchToSpaceND",
        [result, blocks, new.reshape(new.vector(crops), [len(extents), 2])],
        T=dtype,
        Tblock_shape=index,
        Tcrops=index,
    )


def _spread_filter(new: Replacement, extents: Sequence[int], dilations: Sequence[int]) -> None:
    first, kernel, *others = new.inputs
    channels = [new.size(kernel, axis) for axis in (len(extents), len(extents) + 1)]
    dtype, index = type_attr(new.dtype(kernel)), type_attr(tf_pb.DT_INT32)
    spread, sizes = kernel, list(extents)
    for axis, dilation in enumerate(dilations):
        # One axis at a time, for Pad takes no more than six: zeros come after every pixel …
        apart = new.reshape(spread, [math.prod(sizes[: axis + 1]), 1, -1])
        amounts = new.reshape(new.ints("zeros", [0, 0, 0, dilation - 1, 0, 0]), [3, 2])
        spread = new.add("Pad", "Pad", [apart, amounts], T=dtype, Tpaddings=index)
        sizes[axis] *= dilation
    spread = new.reshape(spread, [*sizes, *channels])
    # … and those after the last one go again.
    kept = [(extent - 1) * d + 1 for extent, d in zip(extents, dilations, strict=True)]
    begin = new.ints("begin", [0] * (len(extents) + 2))
    size = new.ints("size", [*kept, -1, -1])
    spread = new.add("Slice", "Slice", [spread, begin, size], T=dtype, Index=index)
    attrs = new.attrs()
    attrs.pop("dilations")
    new.become(new.op, [first, spread, *others], **attrs)
