"""CRC-32C, and the masked form in which TensorFlow stores it.

Source: tensorflow/core/lib/hash/crc32c.h. A checksum that lies beside the data it covers is stored
masked, because the checksum of data that holds its own checksum is of little use.
"""

from __future__ import annotations

import ctypes
from typing import TypeAlias

import google_crc32c

Chunk: TypeAlias = bytes | memoryview
"""What `extend` reads without a copy; a memoryview must be of writable memory."""

_MASK_DELTA = 0xA282EAD8
_UINT32 = 0xFFFFFFFF

# Without its C extension google_crc32c walks over Python integers.
_PURE_PYTHON = google_crc32c.implementation == "python"


def extend(crc: int, chunk: Chunk) -> int:
    """Returns the checksum of A followed by `chunk`, given `crc`, the checksum of A."""
    if _PURE_PYTHON:
        data: object = bytes(chunk)
    elif isinstance(chunk, memoryview):
        # google_crc32c refuses memoryviews, but takes a ctypes array over the same memory.
        data = (ctypes.c_char * len(chunk)).from_buffer(chunk)
    else:
        data = chunk
    return int(google_crc32c.extend(crc, data))


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
