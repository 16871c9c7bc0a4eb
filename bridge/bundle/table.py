"""The table file that holds a bundle's index: sorted keys, in blocks, each with a checksum.

    data block … data block, metaindex block (empty), index block, footer of 48 bytes

A block is `entries, restarts: uint32[n], n: uint32`, followed by a type byte (0 plain, 1 snappy)
and the masked crc32c of all of that. An entry is `shared, unshared, value size` as varints, then
the key without the bytes it shares with the key before it, then the value; at a restart it shares
none. The index block maps a key at or after the last of each data block to the block's handle,
`offset, size` as varints. The footer is the handles of metaindex and index block, padded with
zeros, and the magic number.

Sources: tensorflow/core/lib/io/{format,block,block_builder,table_builder}.cc and table_options.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

from bridge.bundle import crc
from bridge.bundle.coding import common_prefix, decode_varint, encode_varint
from bridge.errors import MalformedError, UnsupportedError, Where

MAX_TABLE_BYTES = 128 << 20
"""A larger file is refused unread; an entry takes about 60 bytes."""

MAX_KEY_BYTES = 256 << 20
"""All keys together, uncompressed."""

_BLOCK_SIZE = 262144  # table::Options::block_size
_RESTART_INTERVAL = 16  # table::Options::block_restart_interval
_TRAILER_BYTES = 5  # kBlockTrailerSize
_FOOTER_BYTES = 48  # Footer::kEncodedLength
_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)  # kTableMagicNumber
_PLAIN, _SNAPPY = 0, 1  # table::CompressionType


class _Handle(NamedTuple):
    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size + _TRAILER_BYTES

    def encode(self) -> bytes:
        return encode_varint(self.offset) + encode_varint(self.size)


class _Reader:
    """Reads one table; every byte of the file must be accounted for."""

    def __init__(self, data: bytes, path: Path):
        self.data = data
        self.where = Where(path)
        self.key_bytes = 0

    def fail(self, found: str) -> NoReturn:
        raise MalformedError(
            f"the checkpoint index is broken: {found}",
            where=self.where,
            hint="the file may be damaged or cut off; fetch the model again",
        )

    def footer(self) -> tuple[_Handle, _Handle]:
        start = len(self.data) - _FOOTER_BYTES
        if start < 0 or not self.data.endswith(_MAGIC):
            self.fail("it has no table footer")
        limit = len(self.data) - len(_MAGIC)
        metaindex, position = self.handle(self.data, start, limit)
        index, position = self.handle(self.data, position, limit)
        if any(self.data[position:limit]):
            self.fail("the footer's padding is not zero")
        if metaindex.end != index.offset or index.end != start:
            self.fail("the footer does not point at the blocks before it")
        return metaindex, index

    def handle(self, data: bytes, position: int, limit: int) -> tuple[_Handle, int]:
        try:
            offset, position = decode_varint(data, position, limit)
            size, position = decode_varint(data, position, limit)
        except ValueError:
            self.fail("a block handle can't be read")
        handle = _Handle(offset, size)
        if handle.end > len(self.data) - _FOOTER_BYTES:
            self.fail("a block lies outside the file")
        return handle, position

    def block(self, handle: _Handle) -> list[tuple[bytes, bytes]]:
        """Checks a block and returns its keys and values."""
        end = handle.offset + handle.size
        (stored,) = struct.unpack_from("<I", self.data, end + 1)
        if crc.mask(crc.value(self.data[handle.offset : end + 1])) != stored:
            self.fail("the checksum of a block does not match")
        if self.data[end] == _SNAPPY:
            raise UnsupportedError(
                "the checkpoint index is compressed with snappy",
                where=self.where,
                hint="TensorFlow writes it uncompressed; save the checkpoint again",
            )
        if self.data[end] != _PLAIN:
            self.fail("a block is of unknown type")
        return self.entries(self.data[handle.offset : end])

    def entries(self, block: bytes) -> list[tuple[bytes, bytes]]:
        restarts, limit = self.restarts(block)
        result: list[tuple[bytes, bytes]] = []
        due = 0  # index of the next restart
        key, position = b"", 0
        while position < limit:
            start = position
            try:
                shared, position = decode_varint(block, position, limit)
                unshared, position = decode_varint(block, position, limit)
                size, position = decode_varint(block, position, limit)
            except ValueError:
                self.fail("an entry can't be read")
            if due < len(restarts) and start == restarts[due]:
                due += 1
                if shared:
                    self.fail("a key at a restart point is not whole")
            if shared > len(key) or unshared + size > limit - position:
                self.fail("an entry runs over its end")
            self.key_bytes += shared + unshared
            if self.key_bytes > MAX_KEY_BYTES:
                self.fail(f"its keys take more than {MAX_KEY_BYTES} bytes")
            key = key[:shared] + block[position : position + unshared]
            position += unshared
            result.append((key, block[position : position + size]))
            position += size
        # An empty block still names its start as a restart.
        if due < len(restarts) and not (restarts == (0,) and limit == 0):
            self.fail("a restart point is not at an entry")
        return result

    def restarts(self, block: bytes) -> tuple[tuple[int, ...], int]:
        """Returns the restart points, and where the entries end."""
        if len(block) < 8:
            self.fail("a block is too small")
        (count,) = struct.unpack_from("<I", block, len(block) - 4)
        limit = len(block) - 4 - 4 * count
        if count == 0 or limit < 0:
            self.fail("a block has a wrong number of restart points")
        restarts = struct.unpack_from(f"<{count}I", block, limit)
        if restarts[0] != 0:
            self.fail("the first restart point is not the first entry")
        return restarts, limit


def read_table(data: bytes, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yields the keys and values of a table, in order.

    Args:
      data: the whole file.
      path: its name, for errors.

    Raises:
      MalformedError: any byte of it is not as the format has it, keys are not in order or are there
        twice.
      UnsupportedError: a block is compressed.
    """
    reader = _Reader(data, path)
    metaindex, index = reader.footer()
    if reader.block(metaindex):
        reader.fail("it has meta blocks")
    end = 0
    last: bytes | None = None
    for separator, encoded in reader.block(index):
        handle, position = reader.handle(encoded, 0, len(encoded))
        if position != len(encoded) or handle.offset != end:
            reader.fail("the blocks do not follow each other")
        end = handle.end
        for key, value in reader.block(handle):
            if last is not None and key <= last:
                reader.fail("its keys are not in order")
            last = key
            yield key, value
        if last is None or last > separator:
            reader.fail("a block holds a key after the one it is filed under")
    if end != metaindex.offset:
        reader.fail("there are bytes that belong to no block")


class _BlockBuilder:
    """One block; source: tensorflow/core/lib/io/block_builder.cc."""

    def __init__(self, restart_interval: int):
        self.restart_interval = restart_interval
        self.buffer = bytearray()
        self.restarts = [0]
        self.since_restart = 0
        self.last_key = b""

    def add(self, key: bytes, value: bytes) -> None:
        shared = 0
        if self.since_restart < self.restart_interval:
            shared = common_prefix(self.last_key, key)
        else:
            self.restarts.append(len(self.buffer))
            self.since_restart = 0
        for number in (shared, len(key) - shared, len(value)):
            self.buffer += encode_varint(number)
        self.buffer += key[shared:]
        self.buffer += value
        self.last_key = key
        self.since_restart += 1

    def size(self) -> int:
        """CurrentSizeEstimate: the size that `finish` would give."""
        return len(self.buffer) + 4 * len(self.restarts) + 4

    def finish(self) -> bytes:
        count = len(self.restarts)
        return bytes(self.buffer) + struct.pack(f"<{count + 1}I", *self.restarts, count)


def write_table(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Returns the table file for the entries, the same bytes as TensorFlow's TableBuilder.

    Args:
      entries: keys and values, by strictly rising key.

    Raises:
      ValueError: the keys do not rise.
    """
    table = bytearray()
    data, index = _BlockBuilder(_RESTART_INTERVAL), _BlockBuilder(1)
    pending: _Handle | None = None  # a finished data block that the index block lacks
    last: bytes | None = None

    def write_block(block: _BlockBuilder) -> _Handle:
        contents = block.finish()
        handle = _Handle(len(table), len(contents))
        contents += bytes([_PLAIN])
        table.extend(contents)
        table.extend(struct.pack("<I", crc.mask(crc.value(contents))))
        return handle

    for key, value in entries:
        if last is not None and key <= last:
            raise ValueError(f"key {key!r} comes after {last!r}")
        # An overly large entry gets a block of its own.
        if data.buffer and len(key) + len(value) >= 2 * _BLOCK_SIZE:
            pending, data = write_block(data), _BlockBuilder(_RESTART_INTERVAL)
        if pending is not None and last is not None:
            index.add(_shortest_separator(last, key), pending.encode())
            pending = None
        last = key
        data.add(key, value)
        if data.size() >= _BLOCK_SIZE:
            pending, data = write_block(data), _BlockBuilder(_RESTART_INTERVAL)
    if data.buffer:
        pending = write_block(data)
    metaindex = write_block(_BlockBuilder(_RESTART_INTERVAL))
    if pending is not None and last is not None:
        index.add(_short_successor(last), pending.encode())
    footer = metaindex.encode() + write_block(index).encode()
    return bytes(table) + footer.ljust(_FOOTER_BYTES - len(_MAGIC), b"\0") + _MAGIC


def _shortest_separator(start: bytes, limit: bytes) -> bytes:
    """A short key that is at least `start` and less than `limit`."""
    shared = common_prefix(start, limit)
    if shared < min(len(start), len(limit)):
        byte = start[shared]
        if byte < 0xFF and byte + 1 < limit[shared]:
            return start[:shared] + bytes([byte + 1])
    return start


def _short_successor(key: bytes) -> bytes:
    """A short key that is at least `key`."""
    for position, byte in enumerate(key):
        if byte != 0xFF:
            return key[:position] + bytes([byte + 1])
    return key
