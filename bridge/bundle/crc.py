"""CRC-32C, and the masked form in which TensorFlow stores it.

Source: tensorflow/core/lib/hash/crc32c.h. A checksum that lies beside the data it covers is stored
masked, because the checksum of data that holds its own checksum is of little use.
"""

from __future__ import annotations

from typing import TypeAlias

import google_crc32c
import numpy as np
import numpy.typing as npt

Chunk: TypeAlias = bytes | npt.NDArray[np.uint8]
"""What `extend` reads without a copy: google_crc32c takes no bytearray and no memoryview."""

_MASK_DELTA = 0xA282EAD8
_UINT32 = 0xFFFFFFFF

# Without its C extension google_crc32c walks over Python integers.
_PURE_PYTHON = google_crc32c.implementation == "python"


def extend(crc: int, chunk: Chunk) -> int:
    """Returns the checksum of A followed by `chunk`, given `crc`, the checksum of A."""
    if _PURE_PYTHON:
        chunk = bytes(chunk)
    return int(google_crc32c.extend(crc, chunk))


def value(data: Chunk) -> int:
    """Returns the checksum of `data`."""
    return extend(0, data)


def mask(crc: int) -> int:
    """Returns the stored form of a checksum."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & _UINT32


def unmask(masked: int) -> int:
    """Returns the checksum that `masked` stores."""
    rotated = (masked - _MASK_DELTA) & _UINT32
    return ((rotated >> 17) | (rotated << 15)) & _UINT32
