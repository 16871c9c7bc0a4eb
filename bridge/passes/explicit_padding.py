"""Pads images before ops that can't."""

from __future__ import annotations

from typing import ClassVar

from bridge.attrs import string_attr, type_attr
from bridge.passes._replacing import Replacement, ReplaceNodes
from bridge.proto import tf_pb

_LOWEST = -3.4028234663852886e38  # of float32


class ExplicitPadding(ReplaceNodes):
    """Makes the explicit padding of an op a Pad before it.

    Requires: DilatedConvolution has run. Ensures: no DepthwiseConv2dNative or MaxPool of floats has
    explicit paddings.

    1. In TensorFlow 1.15 only Conv2D and its transposed form have such paddings.
    2. A MaxPool sees the lowest number there is where nothing else is.
    """

    name: ClassVar[str] = "explicit-padding"
    ops: ClassVar[frozenset[str]] = frozenset({"DepthwiseConv2dNative", "MaxPool"})

    def replace(self, new: Replacement) -> bool:
        """Replaces an op, if it pads explicitly."""
        dtype = new.attr("T")
        if new.attr("padding").s != b"EXPLICIT":
            return False
        image, *others = new.inputs
        amounts = list(new.attr("explicit_paddings").list.i)
        paddings = new.reshape(new.ints("paddings", amounts), [len(amounts) // 2, 2])
        index = type_attr(tf_pb.DT_INT32)
        if new.op == "MaxPool":
            lowest = new.numbers("lowest", _LOWEST, dtype.type)
            padded = new.add("PadV2", "PadV2", [image, paddings, lowest], T=dtype, Tpaddings=index)
        else:
            padded = new.add("Pad", "Pad", [image, paddings], T=dtype, Tpaddings=index)
        attrs = new.attrs()
        attrs.pop("explicit_paddings")
        attrs["padding"].CopyFrom(string_attr("VALID"))
        new.become(new.op, [padded, *others], **attrs)
        return True
