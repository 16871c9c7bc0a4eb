"""Keeps the moving averages of FusedBatchNorm out of the op."""

from __future__ import annotations

from typing import ClassVar

from bridge.graph import Tensor
from bridge.ops import FUSED_BATCH_NORMS
from bridge.passes._replacing import Replacement, ReplaceNodes


class BatchNormAverage(ReplaceNodes):
    """Computes the averages that a FusedBatchNorm in training gives beside its output.

    Requires: InlineCalls has run. Ensures: every FusedBatchNorm in training has an
    `exponential_avg_factor` of 1, and empty averages.

    1. With another factor f, outputs 1 and 2 are `(1 - f) * old + f * batch`, of the averages in
       inputs 3 and 4 and the statistics of the batch. TensorFlow 1.15 has no such attribute: there
       these outputs are the statistics of the batch, and the inputs must be empty. The variance
       is unbiased in both.
    2. Who read outputs 1 and 2 reads averages that other nodes compute. No gradient flows through
       them, as none flows through those outputs.
    3. With a factor of 1 nothing of the inputs gets into the outputs: they become empty.
    4. In inference these outputs are the averages of the inputs; TensorFlow 1.15 leaves them unset.
    """

    name: ClassVar[str] = "batch-norm-average"
    ops: ClassVar[frozenset[str]] = FUSED_BATCH_NORMS

    def replace(self, new: Replacement) -> bool:
        """Replaces a FusedBatchNorm."""
        factor = new.attr("exponential_avg_factor").f
        image, scale, offset, *averages = new.inputs
        if not new.attr("is_training").b:
            new.moved.update((Tensor(new.name, i), averages[i - 1]) for i in (1, 2))
            return False
        if factor == 1:
            if all(new.shape(old) == (0,) for old in averages):
                return False
            averages = []  # nothing of them gets into the outputs
        for output, old in enumerate(averages, start=1):
            batch = Tensor(new.name, output)
            kept = new.math("Mul", old, new.numbers("old", 1 - factor, new.dtype(old)))
            added = new.math("Mul", str(batch), new.numbers("batch", factor, new.dtype(old)))
            average = new.math("AddV2", kept, added)
            new.moved[batch] = new.math("StopGradient", average)
        empty = new.numbers("empty", [], new.dtype(scale))
        attrs = new.attrs()
        attrs.pop("exponential_avg_factor", None)
        new.become(new.op, [image, scale, offset, empty, empty], **attrs)
        return True
