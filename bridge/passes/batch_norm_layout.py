"""Brings the images of FusedBatchNorm into the one layout that a CPU of old knows."""

from __future__ import annotations

from typing import ClassVar

from bridge.attrs import string_attr
from bridge.graph import Tensor
from bridge.ops import FUSED_BATCH_NORMS
from bridge.passes._replacing import Replacement, ReplaceNodes

_LAYOUTS = {b"NCHW": 4, b"NCDHW": 5, b"NDHWC": 5}


class BatchNormLayout(ReplaceNodes):
    """Lets every FusedBatchNorm see channels-last images.

    Requires: BatchNormAverage has run. Ensures: the `data_format` of every FusedBatchNorm is
    `NHWC`.

    1. TensorFlow 1.15 has no CPU kernel for `NCHW`, and no layouts of volumes. TensorFlow 2 has
       both, and tf_keras even expresses LayerNormalization by an `NCHW` batch norm.
    2. Channels that come first are moved to the end, and back. A volume becomes an image of one
       column: the statistics are those of all pixels of a channel, wherever they are.
    """

    name: ClassVar[str] = "batch-norm-layout"
    ops: ClassVar[frozenset[str]] = FUSED_BATCH_NORMS

    def replace(self, new: Replacement) -> bool:
        """Replaces a FusedBatchNorm."""
        layout = new.attr("data_format").s
        rank = _LAYOUTS.get(layout)
        if rank is None:
            return False
        image, *others = new.inputs
        order = [0, *range(2, rank), 1] if layout.startswith(b"NC") else list(range(rank))
        sizes = [new.size(image, axis) for axis in order]
        result = new.transpose(image, order)
        if rank > 4:
            result = new.reshape(result, [-1, 1, 1, new.size(others[0], 0)])
        attrs = new.attrs()
        attrs["data_format"].CopyFrom(string_attr("NHWC"))
        norm = new.add(new.op, new.op, [result, *others], **attrs)
        for number in range(1, len(new.outputs)):
            new.moved[Tensor(new.name, number)] = str(Tensor(norm, number))
        result = new.reshape(norm, sizes) if rank > 4 else norm
        new.become_identity(new.transpose(result, [order.index(axis) for axis in range(rank)]))
        return True
