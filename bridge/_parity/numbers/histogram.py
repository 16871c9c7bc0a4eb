"""Histograms of magnitudes over all that a double can hold, in constant memory.

A bin is read off the bits of a double: its exponent and the first four bits of its fraction, hence
16 bins between two powers of two. The widest of them spans log10(17/16), less than a 32nd of a
decade.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_SHIFT = 48
_BINS = 1 << 15
_INFINITE = 0x7FF << 4


def bins(values: Array) -> Array:
    """Returns the bin of each value.

    Args:
      values: float64, not negative, not NaN, contiguous.
    """
    return values.view(np.int64) >> _SHIFT


class Magnitudes:
    """Counts values by their magnitude. Below 2^-1026, a value counts as zero."""

    def __init__(self) -> None:
        self.counts = np.zeros(_BINS, np.int64)

    def add(self, indices: Array) -> None:
        """Counts values whose bins are given."""
        counts = np.bincount(indices)
        self.counts[: len(counts)] += counts

    def quantile(self, share: float) -> float:
        """Returns the middle of the bin that the value at this share of all values is in."""
        total = int(self.counts.sum())
        if not total:
            return 0.0
        rank = max(1, math.ceil(share * total))
        index = np.searchsorted(np.cumsum(self.counts), rank)
        return float(_middles(np.asarray([index]))[0])

    def decades(self, divisor: float) -> dict[str, int]:
        """Returns how many values / divisor are in [10^k, 10^(k+1)), by k.

        The keys are text: k, `equal` for zeros, and `inf`. A bin across the border of two decades
        counts where its middle is.
        """
        present = np.flatnonzero(self.counts)
        # Logarithms are subtracted, for the quotient may be beyond what a double holds.
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log10(_middles(present)) - (math.log10(divisor) if divisor else -math.inf)
        result: dict[str, int] = {}
        for index, log, count in zip(present, logs, self.counts[present], strict=True):
            key = "equal" if index == 0 else "inf" if log == math.inf else str(math.floor(log))
            result[key] = result.get(key, 0) + int(count)
        return result


class Plane:
    """Counts pairs of magnitudes between 2^-127 and 2^127 in cells of a power of two."""

    _SIDE = 256
    _LOWEST = 1023 - 128
    # From a bin to the row or column of its cell; the first and the last are for what is outside.
    _OCTAVE = np.clip((np.arange(_BINS) >> 4) - _LOWEST, 0, _SIDE - 1)

    def __init__(self) -> None:
        self._cells: dict[int, int] = {}

    def add(self, x: Array, y: Array) -> None:
        """Counts pairs whose bins are given."""
        counts = np.bincount(self._OCTAVE[x] * self._SIDE + self._OCTAVE[y])
        for cell in np.flatnonzero(counts).tolist():
            self._cells[cell] = self._cells.get(cell, 0) + int(counts[cell])

    def cells(self) -> tuple[tuple[float, float, int], ...]:
        """Returns (log10 x, log10 y, count), at the middle of each cell."""
        result = []
        for cell, count in sorted(self._cells.items()):
            octaves = divmod(cell, self._SIDE)
            if all(0 < octave < self._SIDE - 1 for octave in octaves):
                x, y = ((octave - 127.5) * math.log10(2) for octave in octaves)
                result.append((round(x, 3), round(y, 3), count))
        return tuple(result)


def _middles(indices: Array) -> Array:
    """Returns the middle of bins; 0 of the lowest, infinity of the one that holds it."""
    low = (indices.astype(np.int64) << _SHIFT).view(np.float64)
    # A bin's first value and its width stand in the ratio of 16 to 1 at the least.
    half = ((indices.astype(np.int64) << _SHIFT) + (1 << (_SHIFT - 1))).view(np.float64)
    return np.where(indices == 0, 0.0, np.where(indices < _INFINITE, half, low))
