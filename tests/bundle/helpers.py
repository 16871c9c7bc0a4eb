"""Checkpoints composed by hand, for the tests of bridge.bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bridge.bundle import BundleIndex, Entry, TensorSource, crc, write_bundle
from bridge.bundle.files import index_name, shard_name
from bridge.bundle.table import read_table, write_table
from bridge.model import ByteRange
from bridge.proto import tf_pb

FLOAT, STRING, INT64, UINT8 = 1, 7, 9, 4


def ones(key: str, count: int) -> bytes:
    """Bytes that differ from key to key."""
    return np.full(count, len(key) + ord(key[-1]), np.uint8).tobytes()


def source(shard: int, offset: int, data: bytes, dtype: int = UINT8) -> TensorSource:
    """A tensor that lies at `offset` of a shard."""
    place = ByteRange(shard, offset, len(data), crc.mask(crc.value(data)))
    return TensorSource(dtype, (len(data),), place)


def read(index: BundleIndex, data: ByteRange | None) -> bytes:
    """The bytes of a tensor."""
    assert data is not None
    return index.shards[data.shard].read_bytes()[data.offset : data.offset + data.size]


def contents(index: BundleIndex) -> dict[str, tuple[int, tuple[int, ...], list[bytes]]]:
    """All that a checkpoint holds, wherever it lies in it."""

    def parts(entry: Entry) -> list[bytes]:
        places = [part.data for part in entry.slices] or [entry.data]
        return [read(index, place) for place in places]

    return {key: (e.dtype, e.shape, parts(e)) for key, e in index.entries.items()}


def make_checkpoint(directory: Path, **tensors: bytes) -> Path:
    """Writes tensors of bytes into one shard, back to back, and returns the prefix."""
    directory.mkdir(parents=True, exist_ok=True)
    raw = directory / "raw"
    raw.write_bytes(b"".join(tensors.values()))
    sources, offset = {}, 0
    for key, data in tensors.items():
        sources[key] = source(0, offset, data)
        offset += len(data)
    write_bundle(directory, "m", [raw], sources)
    raw.unlink()
    return directory / "m"


def edit_index(prefix: Path, edit: dict[bytes, bytes | None]) -> None:
    """Sets or removes entries of an index, leaving its checksums right."""
    path = prefix.with_name(index_name(prefix.name))
    entries: dict[bytes, bytes | None] = {**dict(read_table(path.read_bytes(), path)), **edit}
    path.write_bytes(write_table(sorted((k, v) for k, v in entries.items() if v is not None)))


def entry_proto(prefix: Path, key: bytes) -> tf_pb.BundleEntryProto:
    """Reads an entry of an index as its message."""
    path = prefix.with_name(index_name(prefix.name))
    return tf_pb.BundleEntryProto.FromString(dict(read_table(path.read_bytes(), path))[key])


def shard_path(prefix: Path, shard: int = 0, num_shards: int = 1) -> Path:
    """Path of a data shard."""
    return prefix.with_name(shard_name(prefix.name, shard, num_shards))
