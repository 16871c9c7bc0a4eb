"""Writing a tensor bundle out of the shards of others.

Sources: BundleWriter in tensorflow/core/util/tensor_bundle/tensor_bundle.cc, and the messages in
tensorflow/core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from bridge.bundle import crc
from bridge.bundle.coding import Extent, encode_slice_key
from bridge.bundle.files import index_name, shard_name
from bridge.bundle.index import HEADER_KEY, VERSION, Entry
from bridge.bundle.plan import Piece, ShardPlan, plan_shards
from bridge.bundle.strings import encode_strings
from bridge.bundle.table import write_table
from bridge.bundle.transfer import not_writable, transfer
from bridge.dtypes import element_bytes
from bridge.errors import MalformedError, Where
from bridge.model import ByteRange
from bridge.proto import tf_pb

_CRC_OF_NOTHING = crc.mask(0)


@dataclass(frozen=True, slots=True)
class TensorSource:
    """A tensor whose bytes lie in a source shard.

    Attributes:
      dtype: DataType number.
      shape: its shape.
      data: where its bytes lie.
    """

    dtype: int
    shape: tuple[int, ...]
    data: ByteRange


@dataclass(frozen=True, slots=True)
class StringTensor:
    """A small string tensor, given by its values in row-major order."""

    values: tuple[bytes, ...]
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class BytesTensor:
    """A small plain tensor, given by its little-endian bytes in row-major order."""

    dtype: int
    shape: tuple[int, ...]
    value: bytes


Source: TypeAlias = TensorSource | Entry
Extra: TypeAlias = StringTensor | BytesTensor


@dataclass(frozen=True, slots=True)
class BundleStats:
    """What `write_bundle` did.

    Attributes:
      shards: names of the new data shards.
      tensors: number of tensors; a partitioned one counts once.
      bytes_written: bytes copied or composed, data and index.
      bytes_linked: bytes of the shards that were hard-linked.
      bytes_dropped: bytes of the source shards that no tensor refers to.
    """

    shards: tuple[str, ...]
    tensors: int
    bytes_written: int
    bytes_linked: int
    bytes_dropped: int


def write_bundle(
    directory: Path,
    prefix_name: str,
    shards: Sequence[Path],
    tensors: Mapping[str, Source],
    extras: Mapping[str, Extra] | None = None,
    *,
    link: bool = False,
    progress: Callable[[int], None] | None = None,
) -> BundleStats:
    """Writes a checkpoint whose tensors lie in the shards of other checkpoints.

    A shard of which every byte is needed is reproduced as it is; of any other, the needed bytes
    are, without the rest. The extras get a last shard of their own. Same input, same bytes.

    Args:
      directory: where to; it exists, and holds no such checkpoint.
      prefix_name: what the file names start with, such as `variables`.
      shards: the source shards that `ByteRange.shard` counts.
      tensors: what to store, by key; an `Entry` with slices is stored partitioned again.
      extras: further small tensors, by key.
      link: hard-link the shards that are reproduced, where the file system can.
      progress: called with the number of bytes verified so far, of `total_bytes(tensors)`.

    Returns:
      What was done.

    Raises:
      MalformedError: a checksum does not match, or a tensor lies outside of its shard.
      UnsafeError: a shard is a link, or not a plain file.
      UnsupportedError: a tensor is of a type that is no plain data.
      DestinationError: a file can't be written.
      ValueError: a key is empty or twice in use.
    """
    extras = extras or {}
    if "" in tensors or "" in extras or tensors.keys() & extras.keys():
        raise ValueError("a key is empty, or both a tensor and an extra")
    plans = plan_shards(shards, _pieces(tensors))
    _check_empty(shards, tensors)
    extra_shard, extra_entries = _encode_extras(extras)
    # Where there is nothing to store, an empty shard still is.
    num_shards = len(plans) + bool(extras or not plans)
    names = tuple(shard_name(prefix_name, shard, num_shards) for shard in range(num_shards))

    meter = _Meter(progress)
    linked = written = 0
    for plan, name in zip(plans.values(), names, strict=False):
        if transfer(plan, directory / name, link=link, progress=meter.add):
            linked += plan.new_size
        else:
            written += plan.new_size
    if num_shards > len(plans):
        _write_file(directory / names[-1], extra_shard)
        written += len(extra_shard)

    new_shards = {old: new for new, old in enumerate(plans)}
    index = _index(tensors, plans, new_shards, extra_entries, num_shards)
    _write_file(directory / index_name(prefix_name), index)
    return BundleStats(
        shards=names,
        tensors=len(tensors) + len(extras),
        bytes_written=written + len(index),
        bytes_linked=linked,
        bytes_dropped=sum(plan.file_size - plan.new_size for plan in plans.values()),
    )


def total_bytes(tensors: Mapping[str, Source]) -> int:
    """Returns the number of bytes that `write_bundle` will verify; shared ranges count once."""
    total = 0
    reached: dict[int, int] = {}
    ranges = {(p.data.shard, p.data.offset, p.data.size) for p in _pieces(tensors)}
    for shard, offset, size in sorted(ranges):
        start = max(offset, reached.get(shard, 0))
        total += max(offset + size - start, 0)
        reached[shard] = max(offset + size, start)
    return total


class _Meter:
    def __init__(self, progress: Callable[[int], None] | None):
        self.progress = progress
        self.done = 0

    def add(self, count: int) -> None:
        self.done += count
        if self.progress is not None:
            self.progress(self.done)


def _pieces(tensors: Mapping[str, Source]) -> Iterator[Piece]:
    for key, tensor in tensors.items():
        if tensor.data is not None:
            yield Piece(key, tensor.dtype, tensor.shape, tensor.data)
        elif isinstance(tensor, Entry):
            for part in tensor.slices:
                yield Piece(key, tensor.dtype, part.shape, part.data)


def _check_empty(shards: Sequence[Path], tensors: Mapping[str, Source]) -> None:
    for piece in _pieces(tensors):
        if not piece.data.size and piece.data.crc32c != _CRC_OF_NOTHING:
            raise MalformedError(
                f"the checksum of tensor {piece.key!r}, which is empty, does not match",
                where=Where(shards[piece.data.shard]),
            )


def _encode_extras(extras: Mapping[str, Extra]) -> tuple[bytes, dict[str, TensorSource]]:
    """Returns the bytes of the extra shard, and where in it each tensor lies."""
    shard = bytearray()
    entries: dict[str, TensorSource] = {}
    for key, extra in sorted(extras.items()):
        if isinstance(extra, StringTensor):
            dtype: int = tf_pb.DT_STRING
            if len(extra.values) != math.prod(extra.shape):
                raise ValueError(f"{key!r} has {len(extra.values)} values, shape {extra.shape}")
            stored, checksum = encode_strings(extra.values)
        else:
            dtype = extra.dtype
            width = element_bytes(dtype)
            if width is None or len(extra.value) != math.prod(extra.shape) * width:
                raise ValueError(f"{key!r} has {len(extra.value)} bytes, shape {extra.shape}")
            stored, checksum = extra.value, crc.mask(crc.value(extra.value))
        data = ByteRange(-1, len(shard), len(stored), checksum)
        entries[key] = TensorSource(dtype, extra.shape, data)
        shard += stored
    return bytes(shard), entries


def _index(
    tensors: Mapping[str, Source],
    plans: Mapping[int, ShardPlan],
    new_shards: Mapping[int, int],
    extra_entries: Mapping[str, TensorSource],
    num_shards: int,
) -> bytes:
    header = tf_pb.BundleHeaderProto(num_shards=num_shards)
    header.version.producer = VERSION
    entries = {HEADER_KEY: header.SerializeToString(deterministic=True)}

    def place(data: ByteRange) -> ByteRange:
        plan = plans.get(data.shard)
        if not data.size and (plan is None or not plan.whole or data.offset > plan.file_size):
            return ByteRange(0, 0, 0, data.crc32c)
        offset = plans[data.shard].new_offset(data.offset)
        return ByteRange(new_shards[data.shard], offset, data.size, data.crc32c)

    for key, tensor in tensors.items():
        if tensor.data is not None:
            entries[key.encode()] = _entry(tensor.dtype, tensor.shape, place(tensor.data))
        elif isinstance(tensor, Entry):
            extents = [part.extents for part in tensor.slices]
            entries[key.encode()] = _entry(tensor.dtype, tensor.shape, None, extents)
            for part in tensor.slices:
                slice_entry = _entry(tensor.dtype, part.shape, place(part.data))
                entries[encode_slice_key(key, part.extents)] = slice_entry
    for key, extra in extra_entries.items():
        data = ByteRange(num_shards - 1, extra.data.offset, extra.data.size, extra.data.crc32c)
        entries[key.encode()] = _entry(extra.dtype, extra.shape, data)
    return write_table(sorted(entries.items()))


def _entry(
    dtype: int,
    shape: tuple[int, ...],
    data: ByteRange | None,
    slices: Sequence[Sequence[Extent]] = (),
) -> bytes:
    entry = tf_pb.BundleEntryProto(dtype=dtype)  # type: ignore[arg-type]
    entry.shape.SetInParent()  # TensorFlow writes it for scalars, too
    for size in shape:
        entry.shape.dim.add(size=size)
    if data is not None:
        entry.shard_id, entry.offset, entry.size = data.shard, data.offset, data.size
        entry.crc32c = data.crc32c
    for extents in slices:
        item = entry.slices.add()
        for start, length in extents:
            extent = item.extent.add(start=start)
            if length is not None:
                extent.length = length
    return entry.SerializeToString(deterministic=True)


def _write_file(path: Path, data: bytes) -> None:
    try:
        with path.open("xb") as file:
            file.write(data)
    except OSError as error:
        raise not_writable(path, error) from error
