"""Reading the index of a tensor bundle: which tensor lies where.

Sources: tensorflow/core/protobuf/tensor_bundle.proto and BundleReader in
tensorflow/core/util/tensor_bundle/tensor_bundle.cc.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

from google.protobuf.message import DecodeError

from bridge.bundle.coding import Extent, encode_slice_key
from bridge.bundle.files import index_name, open_plain_file, plain_file_size, shard_name
from bridge.bundle.slices import covers, slice_shape
from bridge.bundle.strings import decode_strings
from bridge.bundle.table import MAX_TABLE_BYTES, read_table
from bridge.dtypes import REF_OFFSET, dtype_name, element_bytes
from bridge.errors import MalformedError, UnsupportedError, Where
from bridge.model import ByteRange
from bridge.proto import MAX_MESSAGE_BYTES, tf_pb

HEADER_KEY = b""
"""Key of the header, always the first (kHeaderEntryKey)."""

VERSION = 1
"""Version of the format that this package reads and writes (kTensorBundleVersion)."""

_SLICE_KEY_START = b"\0"  # EncodeTensorNameSlice starts with the number 0
_MAX_RANK = 254  # TensorShape::MaxDimensions
_MAX_INT64 = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a partitioned tensor.

    Attributes:
      extents: start and length in each dimension of the whole; (0, None) is all of a dimension.
      shape: shape of the part.
      data: where its bytes lie.
    """

    extents: tuple[Extent, ...]
    shape: tuple[int, ...]
    data: ByteRange

    @property
    def offsets(self) -> tuple[int, ...]:
        """The start in each dimension (`var_offset` of a SaveSliceInfoDef)."""
        return tuple(start for start, _ in self.extents)


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor of a checkpoint, in one piece (`data`) or partitioned (`slices`).

    Attributes:
      dtype: DataType number.
      shape: shape of the whole.
      data: where its bytes lie; None for a partitioned tensor.
      slices: the parts of a partitioned tensor, which cover it without overlap, in the order of the
        index; else empty.
    """

    dtype: int
    shape: tuple[int, ...]
    data: ByteRange | None
    slices: tuple[Slice, ...] = ()


@dataclass(frozen=True, slots=True)
class BundleIndex:
    """What a checkpoint holds.

    Attributes:
      prefix: the path that its file names start with.
      shards: the data files.
      entries: the tensors by key, sorted; a partitioned tensor stands under its full name.
    """

    prefix: Path
    shards: list[Path]
    entries: dict[str, Entry]

    def read_string(self, key: str) -> bytes:
        """Reads a string scalar, the only kind of value that is ever read into memory.

        Raises:
          MalformedError: there is no such tensor, or it is no string scalar.
        """
        entry = self.entries.get(key)
        data = entry.data if entry else None
        where = Where(self.prefix.with_name(index_name(self.prefix.name)))
        if entry is None or data is None or (entry.dtype, entry.shape) != (tf_pb.DT_STRING, ()):
            raise MalformedError(f"the checkpoint has no string {key!r}", where=where)
        if data.size > MAX_MESSAGE_BYTES:
            raise MalformedError(f"the string {key!r} has {data.size} bytes", where=where)
        path = self.shards[data.shard]
        with open_plain_file(path) as plain, BufferedReader(plain) as file:
            file.seek(data.offset)
            stored = file.read(data.size)
        try:
            return decode_strings(stored, 1, data.crc32c)[0]
        except ValueError as error:
            raise MalformedError(
                f"the string {key!r} is broken: {error}", where=Where(path)
            ) from error


def read_index(prefix: Path) -> BundleIndex:
    """Reads and checks the index of a checkpoint, and that its data files are there.

    Args:
      prefix: what the names of its files start with, such as `variables/variables`.

    Raises:
      MalformedError: a file is missing, the index is broken, or a tensor lies outside its file.
      UnsafeError: a file is a link, or not a plain file.
      UnsupportedError: the checkpoint is big-endian, newer than this package, or compressed.
    """
    path = prefix.with_name(index_name(prefix.name))
    size = plain_file_size(path)
    if size > MAX_TABLE_BYTES:
        raise MalformedError(
            f"the checkpoint index has more than {MAX_TABLE_BYTES} bytes", where=Where(path)
        )
    with open_plain_file(path) as file:
        data = file.read(size)
    return _IndexReader(prefix, path).read(data)


class _IndexReader:
    def __init__(self, prefix: Path, path: Path):
        self.prefix = prefix
        self.where = Where(path)
        self.raw: dict[bytes, bytes] = {}
        self.shards: list[Path] = []
        self.shard_sizes: list[int] = []

    def fail(self, found: str, key: str | None = None) -> NoReturn:
        subject = f"tensor {key!r}: " if key is not None else ""
        raise MalformedError(subject + found, where=self.where)

    def read(self, data: bytes) -> BundleIndex:
        table = read_table(data, self.prefix.with_name(index_name(self.prefix.name)))
        key, header = next(table, (None, b""))
        if key != HEADER_KEY:
            self.fail("the checkpoint index has no header")
        self.read_header(header)
        self.raw = dict(table)
        entries: dict[str, Entry] = {}
        for key, value in self.raw.items():
            if key.startswith(_SLICE_KEY_START):
                continue  # read with the tensor it is a slice of
            try:
                name = key.decode()
            except UnicodeDecodeError:
                self.fail(f"key {key!r} is not UTF-8")
            entries[name] = self.read_entry(name, value)
        return BundleIndex(self.prefix, self.shards, entries)

    def read_header(self, data: bytes) -> None:
        header = self.parse(tf_pb.BundleHeaderProto, data, "the header")
        if header.endianness != tf_pb.BundleHeaderProto.LITTLE:
            raise UnsupportedError("the checkpoint is big-endian", where=self.where)
        # CheckVersions in tensorflow/core/framework/versions.cc.
        version = header.version
        if version.min_consumer > VERSION or VERSION in version.bad_consumers:
            raise UnsupportedError(
                f"the checkpoint asks for a reader of format version {version.min_consumer}, "
                f"this one knows {VERSION}",
                where=self.where,
            )
        if version.producer < 0 or header.num_shards < 0:
            self.fail("the header holds negative numbers")
        for shard in range(header.num_shards):
            name = shard_name(self.prefix.name, shard, header.num_shards)
            path = self.prefix.with_name(name)
            self.shard_sizes.append(plain_file_size(path))
            self.shards.append(path)

    def parse(self, message: Any, data: bytes, what: str) -> Any:
        try:
            return message.FromString(data)
        except DecodeError:
            self.fail(f"{what} can't be parsed")

    def read_entry(self, name: str, data: bytes) -> Entry:
        proto = self.parse(tf_pb.BundleEntryProto, data, f"the entry of tensor {name!r}")
        shape = self.read_shape(name, proto.shape)
        if not 0 < proto.dtype < REF_OFFSET:
            self.fail(f"data type {proto.dtype} can't be stored", name)
        if not proto.slices:
            return Entry(proto.dtype, shape, self.read_range(name, proto, shape))
        slices = tuple(self.read_slice(name, proto.dtype, shape, item) for item in proto.slices)
        if not covers(shape, [(item.offsets, item.shape) for item in slices]):
            self.fail(f"its {len(slices)} slices do not cover it once", name)
        return Entry(proto.dtype, shape, None, slices)

    def read_shape(self, name: str, proto: tf_pb.TensorShapeProto) -> tuple[int, ...]:
        shape = tuple(dim.size for dim in proto.dim)
        if proto.unknown_rank or len(shape) > _MAX_RANK or any(size < 0 for size in shape):
            self.fail("its shape is not fully defined", name)
        if math.prod(size for size in shape if size) > _MAX_INT64:
            self.fail("its shape is too large", name)
        return shape

    def read_slice(
        self, name: str, dtype: int, shape: tuple[int, ...], proto: tf_pb.TensorSliceProto
    ) -> Slice:
        extents = tuple(
            (extent.start, extent.length if extent.HasField("length") else None)
            for extent in proto.extent
        )
        part = slice_shape(shape, extents)
        if part is None:
            self.fail(f"slice {extents} does not fit into shape {shape}", name)
        data = self.raw.get(encode_slice_key(name, extents))
        if data is None:
            self.fail(f"slice {extents} is missing", name)
        entry = self.parse(tf_pb.BundleEntryProto, data, f"a slice of tensor {name!r}")
        if entry.slices or entry.dtype != dtype or self.read_shape(name, entry.shape) != part:
            self.fail(f"slice {extents} has another data type or shape than it should", name)
        return Slice(extents, part, self.read_range(name, entry, part))

    def read_range(
        self, name: str, proto: tf_pb.BundleEntryProto, shape: tuple[int, ...]
    ) -> ByteRange:
        shard, offset, size = proto.shard_id, proto.offset, proto.size
        if not 0 <= shard < len(self.shards):
            self.fail(f"it lies in shard {shard}, there are {len(self.shards)}", name)
        if offset < 0 or size < 0 or offset + size > self.shard_sizes[shard]:
            self.fail(
                f"bytes {offset} to {offset + size} are outside of "
                f"{self.shards[shard].name}, which has {self.shard_sizes[shard]}",
                name,
            )
        count = math.prod(shape)
        width = element_bytes(proto.dtype)
        if width is not None and size != count * width:
            self.fail(
                f"{size} bytes can't be {dtype_name(proto.dtype)} of shape {shape}, "
                f"which takes {count * width}",
                name,
            )
        # A length of at least a byte for each string, then the checksum of the lengths.
        if proto.dtype == tf_pb.DT_STRING and count and size < count + 4:
            self.fail(f"{size} bytes are too few for {count} strings", name)
        return ByteRange(shard, offset, size, proto.crc32c)
