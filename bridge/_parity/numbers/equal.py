"""What is to be known of values that are the same on both sides: one look at them is enough."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_CHUNK = 1 << 16
"""So many values at a time, which stay in the processor's cache."""

_BITS = {2: np.uint16, 4: np.uint32, 8: np.uint64}


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
    kind: Any = _BITS[array.dtype.itemsize]
    magnitude = kind((1 << (8 * array.dtype.itemsize - 1)) - 1)
    infinite = np.asarray(np.inf, array.dtype).view(kind)
    bits = flat.view(kind)
    buffer = np.empty(min(_CHUNK, flat.size), kind)
    largest, nonzero = kind(0), 0
    for start in range(0, flat.size, _CHUNK):
        # Without its sign, the larger number has the larger bits; above Inf stands NaN.
        piece = bits[start : start + _CHUNK]
        found = np.bitwise_and(piece, magnitude, out=buffer[: piece.size])
        largest = max(largest, found.max())
        if largest >= infinite:
            return None
        nonzero += int(np.count_nonzero(found))
    return Looked(float(np.asarray(largest, kind).view(array.dtype)), nonzero)
