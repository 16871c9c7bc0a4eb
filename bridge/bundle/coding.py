"""Integers as the table and its keys encode them: varints and ordered code.

Sources: tensorflow/core/lib/core/coding.cc (varints), tensorflow/core/lib/strings/ordered_code.cc
and tensorflow/core/util/saved_tensor_slice_util.cc (keys of slices).
"""

from __future__ import annotations

from collections.abc import Sequence

Extent = tuple[int, int | None]
"""Start and length of a slice in one dimension; length None, with start 0, is all of it."""

_MAX_VARINT_BYTES = 10


def common_prefix(a: bytes, b: bytes) -> int:
    """Returns the number of bytes that both start with."""
    for position, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return position
    return min(len(a), len(b))


def encode_varint(number: int) -> bytes:
    """Encodes a non-negative integer: seven bits a byte, low bits first."""
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def decode_varint(data: bytes, position: int, limit: int) -> tuple[int, int]:
    """Decodes an integer of at most 64 bits.

    Args:
      data: the bytes.
      position: where the integer starts.
      limit: where the bytes that may be read end; at most `len(data)`.

    Returns:
      The integer, and the position after it.

    Raises:
      ValueError: the integer does not end before `limit`, or is not in its shortest form.
    """
    number = 0
    for index in range(_MAX_VARINT_BYTES):
        if position >= limit:
            break
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if (index and not byte) or number >> 64:
                break
            return number, position
    raise ValueError("bad varint")


def encode_slice_key(name: str, extents: Sequence[Extent]) -> bytes:
    """Returns the key under which a slice of a partitioned tensor is stored.

    Source: EncodeTensorNameSlice in tensorflow/core/util/saved_tensor_slice_util.cc.

    Args:
      name: key of the whole tensor.
      extents: the slice, one extent a dimension.
    """
    parts = [_ordered_unsigned(0), _ordered_string(name.encode()), _ordered_unsigned(len(extents))]
    for start, length in extents:
        parts += [_ordered_signed(start), _ordered_signed(-1 if length is None else length)]
    return b"".join(parts)


def _ordered_unsigned(number: int) -> bytes:
    size = (number.bit_length() + 7) // 8
    return bytes([size]) + number.to_bytes(size, "big")


def _ordered_string(text: bytes) -> bytes:
    # Ordered code escapes 0xff too, which UTF-8 has not.
    return text.replace(b"\x00", b"\x00\xff") + b"\x00\x01"


def _ordered_signed(number: int) -> bytes:
    """One byte holds 6 bits and a sign, each further one 7 more; the first bits count them."""
    bits = (~number if number < 0 else number).bit_length()
    size = bits // 7 + 1
    header = ((1 << size) - 1) << (7 * size)
    value = number & ((1 << 8 * size) - 1)
    return (value ^ header).to_bytes(size, "big")
