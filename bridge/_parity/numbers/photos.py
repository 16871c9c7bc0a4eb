"""The photos on which an output differs most: a few rows of all batches of photos."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge._parity.results import PhotoRow

Array = NDArray[Any]

KEPT = 4
"""So many photos of each output are kept."""


class PhotoRows:
    """Keeps the rows that differ most, the farthest first."""

    def __init__(self, *, with_classes: bool):
        """Starts with none.

        Args:
          with_classes: whether a matrix holds a score for each class.
        """
        self._with_classes = with_classes
        self._rows: list[PhotoRow] = []

    def add(self, reference: Any, candidate: Any, batch: int, photos: int) -> None:
        """Looks at the output of one batch, if its rows are those of the photos.

        Args:
          reference: an array.
          candidate: another.
          batch: index of the batch.
          photos: how many the batch has.
        """
        if reference is candidate:
            return
        a, b = np.asarray(reference), np.asarray(candidate)
        numbers = a.dtype.kind in "biufcV" and b.dtype.kind in "biufcV"
        if not numbers or a.shape != b.shape or a.shape[:1] != (photos,):
            return
        with_classes = self._with_classes and a.ndim == 2
        for row in range(photos):
            largest = _farthest(a[row], b[row])
            if largest:
                top1 = (_best(a[row]), _best(b[row])) if with_classes else None
                self._rows.append(PhotoRow(batch, row, largest, top1))
        self._rows = sorted(self._rows, key=lambda row: -row.max_abs)[:KEPT]

    def worst(self) -> tuple[PhotoRow, ...]:
        """Returns them; none where no photo makes a difference."""
        return tuple(self._rows)


def _farthest(a: Array, b: Array) -> float:
    """Returns max|a - b|; infinite where NaN or Inf stands on one side only."""
    wide = np.complex128 if "c" in (a.dtype.kind, b.dtype.kind) else np.float64
    a, b = np.atleast_1d(a).astype(wide), np.atleast_1d(b).astype(wide)
    # What is the same, such as NaN on both sides, is no difference.
    apart = (a != b) & ~(np.isnan(a) & np.isnan(b))
    with np.errstate(over="ignore", invalid="ignore"):
        distance = np.abs(a[apart] - b[apart])
    return float(np.where(np.isnan(distance), math.inf, distance).max(initial=0.0))


def _best(scores: Array) -> int:
    """Returns the class with the best score; NaN is the worst."""
    scores = scores.astype(np.float64)
    return int(np.where(np.isnan(scores), -np.inf, scores).argmax())
