"""String tensors as a data shard holds them.

    lengths as varints, masked crc32c of the lengths, the bytes of all strings

Both checksums see a length not as a varint but as a little-endian uint32, or uint64 where 32 bits
are too few; the entry's checksum goes on over the stored checksum and the bytes. A tensor without
elements still has the checksum of no lengths.

Source: WriteStringTensor and ReadStringTensor in
tensorflow/core/util/tensor_bundle/tensor_bundle.cc.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from bridge.bundle import crc
from bridge.bundle.coding import decode_varint, encode_varint

_MAX_VARINT_BITS = 63


def encode_strings(values: Sequence[bytes]) -> tuple[bytes, int]:
    """Returns the stored bytes of a string tensor, and their masked checksum."""
    lengths = [len(value) for value in values]
    checksum = crc.value(_fixed(lengths))
    length_checksum = struct.pack("<I", crc.mask(checksum))
    text = b"".join(values)
    checksum = crc.extend(crc.extend(checksum, length_checksum), text)
    stored = b"".join(map(encode_varint, lengths)) + length_checksum + text
    return stored, crc.mask(checksum)


def decode_strings(stored: bytes, count: int, checksum: int) -> list[bytes]:
    """Returns the strings of a tensor.

    Args:
      stored: the bytes that the shard holds.
      count: how many strings they are.
      checksum: the masked checksum that the index records.

    Raises:
      ValueError: the bytes are no such tensor's, or do not match the checksum.
    """
    check = StringChecksum(count)
    if not check.feed(stored) or (found := check.result()) is None or crc.mask(found) != checksum:
        raise ValueError("the checksum does not match")
    lengths: list[int] = []
    position = 0
    for _ in range(count):
        length, position = decode_varint(stored, position, len(stored))
        lengths.append(length)
    position += 4  # the checksum of the lengths
    values: list[bytes] = []
    for length in lengths:
        values.append(stored[position : position + length])
        position += length
    return values


def _fixed(lengths: Iterable[int]) -> bytes:
    return b"".join(struct.pack("<Q" if size >> 32 else "<I", size) for size in lengths)


class StringChecksum:
    """Computes the checksum of a string tensor while its stored bytes pass by."""

    def __init__(self, count: int):
        """Starts at the first byte.

        Args:
          count: number of strings.
        """
        self._lengths_left = count
        self._number = 0
        self._bits = 0
        self._text_size = 0
        self._length_checksum = b""
        self._crc = 0
        self._text_seen = 0

    def feed(self, chunk: crc.Chunk) -> bool:
        """Takes the next bytes; false if they can't be a string tensor's."""
        position = 0
        if self._lengths_left:
            head = bytes(chunk)
            position = self._feed_lengths(head)
            if position < 0:
                return False
        missing = 4 - len(self._length_checksum)
        if missing and not self._lengths_left and position < len(chunk):
            self._length_checksum += bytes(chunk[position : position + missing])
            position = min(position + missing, len(chunk))
            if len(self._length_checksum) == 4:
                if struct.pack("<I", crc.mask(self._crc)) != self._length_checksum:
                    return False
                self._crc = crc.extend(self._crc, self._length_checksum)
        if position < len(chunk):
            self._text_seen += len(chunk) - position
            self._crc = crc.extend(self._crc, chunk[position:])
        return True

    def _feed_lengths(self, chunk: bytes) -> int:
        lengths: list[int] = []
        number, bits = self._number, self._bits
        position = -1
        for position, byte in enumerate(chunk):  # noqa: B007 - used after the loop
            number |= (byte & 0x7F) << bits
            if byte & 0x80:
                bits += 7
                if bits > _MAX_VARINT_BITS:
                    return -1
                continue
            lengths.append(number)
            number = bits = 0
            if len(lengths) == self._lengths_left:
                break
        if any(length >> 64 for length in lengths):
            return -1
        self._number, self._bits = number, bits
        self._lengths_left -= len(lengths)
        self._text_size += sum(lengths)
        self._crc = crc.extend(self._crc, _fixed(lengths))
        return position + 1

    def result(self) -> int | None:
        """Returns the checksum after the last byte; None if the bytes end too early or too late."""
        whole = not self._lengths_left and len(self._length_checksum) == 4
        return self._crc if whole and self._text_seen == self._text_size else None
