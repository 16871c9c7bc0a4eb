"""Splits convolutions of groups of channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from bridge.attrs import int_attr, shapes_attr, type_attr
from bridge.graph import Tensor
from bridge.passes._replacing import Replacement, ReplaceNodes
from bridge.proto import tf_pb

_FORWARD = frozenset({"Conv2D", "Conv3D"})
_TRANSPOSED = frozenset({"Conv2DBackpropInput", "Conv3DBackpropInputV2"})

_CHANNELS_LAST = {b"NHWC": 4, b"NDHWC": 5}


class GroupedConvolution(ReplaceNodes):
    """Convolves groups of channels one after another.

    Requires: InlineCalls has run. Ensures: every convolution whose channels are known has a filter
    for all channels of its image.

    1. A filter for fewer channels than the image has is applied to groups of them. No CPU kernel of
       TensorFlow 1.15 does so. Image and filter are split, and the results concatenated.
    2. Where each channel is a group of its own, that is a depthwise convolution. Its kernel wants
       equal strides.
    3. A transposed convolution gets the shape of its result; each group has its part of the
       channels.
    """

    name: ClassVar[str] = "grouped-convolution"
    ops: ClassVar[frozenset[str]] = _FORWARD | _TRANSPOSED

    def replace(self, new: Replacement) -> bool:
        """Replaces a convolution, if it has groups."""
        rank = _CHANNELS_LAST.get(new.attr("data_format").s)
        image = new.shape(new.name if new.op in _TRANSPOSED else new.inputs[0])
        kernel = new.shape(new.inputs[1])
        if rank is None or image is None or kernel is None or not len(image) == len(kernel) == rank:
            return False
        channels, depth, filters = image[-1], kernel[-2], kernel[-1]
        if not channels or not depth or not filters or channels == depth:
            return False
        groups = channels // depth
        if channels % depth or filters % groups:
            return False
        strides = new.attr("strides").list.i
        if new.op == "Conv2D" and depth == 1 and strides[1] == strides[2]:
            _make_depthwise(new, channels, filters // groups)
        elif new.op in _FORWARD:
            _make_split(new, groups)
        else:
            _make_transposed_split(new, channels, groups)
        return True


def _make_depthwise(new: Replacement, channels: int, multiplier: int) -> None:
    image, kernel = new.inputs
    sizes = [new.size(kernel, axis) for axis in (0, 1)]
    attrs = new.attrs()
    attrs.pop("use_cudnn_on_gpu", None)
    kernel = new.reshape(kernel, [*sizes, channels, multiplier])
    new.become("DepthwiseConv2dNative", [image, kernel], **attrs)


def _make_split(new: Replacement, groups: int) -> None:
    images, kernels = (_split(new, tensor, groups) for tensor in new.inputs)
    parts = [
        new.add(new.op, new.op, [image, kernel], **new.attrs())
        for image, kernel in zip(images, kernels, strict=True)
    ]
    _concatenate(new, parts)


def _make_transposed_split(new: Replacement, channels: int, groups: int) -> None:
    sizes, kernel, image = new.inputs
    rank = len(new.shape(kernel) or ())
    rest = new.ints("other_groups", [0] * (rank - 1) + [channels - channels // groups])
    if new.dtype(sizes) == tf_pb.DT_INT64:
        rest = new.cast(rest, tf_pb.DT_INT64)
    sizes = new.math("Sub", sizes, rest)
    parts = [
        new.add(new.op, new.op, [sizes, kernel_part, image_part], **new.attrs())
        for kernel_part, image_part in zip(
            _split(new, kernel, groups), _split(new, image, groups), strict=True
        )
    ]
    _concatenate(new, parts)


def _split(new: Replacement, tensor: str, groups: int) -> list[str]:
    """Splits the last axis of a tensor."""
    shape = new.shape(tensor) or (None,)
    channels = None if shape[-1] is None else shape[-1] // groups
    node = new.add(
        "Split",
        "Split",
        [new.ints("axis", -1), tensor],
        num_split=int_attr(groups),
        T=type_attr(new.dtype(tensor)),
        # For passes that come later: they may need the shape of the filter.
        _output_shapes=shapes_attr([(*shape[:-1], channels)] * groups),
    )
    return [str(Tensor(node, number)) for number in range(groups)]


def _concatenate(new: Replacement, parts: Sequence[str]) -> None:
    axis = new.ints("axis", -1)
    dtype, index = type_attr(new.dtype(parts[0])), type_attr(tf_pb.DT_INT32)
    new.become("ConcatV2", [*parts, axis], N=int_attr(len(parts)), T=dtype, Tidx=index)
