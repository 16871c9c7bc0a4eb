"""Distances between floating-point numbers, counted in units in the last place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

BFLOAT16 = "bfloat16"
"""Name of the dtype that numpy has no own type for; its values come as float32."""

_INTEGERS = {2: np.int16, 4: np.int32, 8: np.int64}


def max_ulp(a: Array, b: Array, dtype: str) -> int:
    """Returns the largest distance between finite values of two arrays.

    That is how many numbers of the dtype lie between, plus one; +0 and -0 are the same number.

    Args:
      a: floating-point values, one-dimensional and contiguous.
      b: as many of the same dtype.
      dtype: name of the dtype that counts: that of the arrays, or BFLOAT16 for float32 arrays.
    """
    if not a.size:
        return 0
    first, second = _ordered(a, dtype), _ordered(b, dtype)
    if first.dtype == np.int64:
        # Up to 2^64 apart, which the subtraction modulo 2^64 of unsigned numbers gets right.
        high, low = np.maximum(first, second), np.minimum(first, second)
        return int((high.view(np.uint64) - low.view(np.uint64)).max())
    # Up to 2^32 apart. A double holds that exactly, and is faster to make than an int64.
    distance = np.subtract(first, second, dtype=np.float64)
    return int(max(distance.max(), -distance.min()))


def _ordered(array: Array, dtype: str) -> Array:
    """Returns integers in the order of the values, one apart for neighbours."""
    kind = _INTEGERS[array.dtype.itemsize]
    bits = array.view(kind)
    if dtype == BFLOAT16 and kind is np.int32:
        bits = bits >> 16
        width = 15
    else:
        width = 8 * array.dtype.itemsize - 1
    # The bits of a negative number are its sign and its magnitude: -magnitude is wanted.
    sign = bits >> width
    bits = bits & kind((1 << width) - 1)
    bits ^= sign
    bits -= sign
    ordered: Array = bits
    return ordered
