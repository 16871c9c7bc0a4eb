"""What is to be known of values that are the same on both sides: one look at them is enough."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_CHUNK = 1 << 17
"""So many values at a time, which stay in the processor's cache."""


@dataclass(frozen=True)
class Looked:
    """Facts of floating-point values.

    Attributes:
      largest: max|a|.
      nonzero: how many are not zero.
    """

    largest: float
    nonzero: int


_seen: dict[int, tuple[weakref.ref[Array], Looked | None]] = {}
"""What is compared on several routes is looked at once: by id of an array that can't change."""


def look(array: Array) -> Looked | None:
    """Returns the facts of an array of floats; None where a value is NaN or infinite."""
    known = _seen.get(id(array))
    if known is not None and known[0]() is array:
        return known[1]
    found = _look(array)
    if not array.flags.writeable:
        key = id(array)
        _seen[key] = weakref.ref(array, lambda _: _seen.pop(key, None)), found
    return found


def _look(array: Array) -> Looked | None:
    flat = array.ravel()
    unequal = np.empty(min(_CHUNK, flat.size), bool)
    largest, nonzero = 0.0, 0
    for start in range(0, flat.size, _CHUNK):
        piece = flat[start : start + _CHUNK]
        # Of NaN and another, either is NaN.
        high, low = float(piece.max()), float(piece.min())
        if not (math.isfinite(high) and math.isfinite(low)):
            return None
        largest = max(largest, high, -low)
        nonzero += int(np.count_nonzero(np.not_equal(piece, 0, out=unequal[: piece.size])))
    return Looked(largest, nonzero)
