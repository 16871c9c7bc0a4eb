"""Digests of what is too large to be compared in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from io import FileIO
from pathlib import Path

from bridge.assets import asset_digest, find_assets
from bridge.bundle import Entry
from bridge.bundle.files import open_plain_file, read_into
from bridge.errors import UnsupportedError, Where
from bridge.model import ByteRange

_CHUNK_BYTES = 1 << 20


def digest_of_ranges(ranges: Iterable[ByteRange], shards: Sequence[Path]) -> str:
    """Returns the SHA-256 of some bytes of a checkpoint, one after the other.

    Raises:
      MalformedError: a shard ends before they do.
      UnsafeError: a shard is a link, or no plain file.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    for data in ranges:
        path = shards[data.shard]
        with open_plain_file(path) as file:
            file.seek(data.offset)
            _feed(digest, file, data.size, buffer, path)
    return digest.hexdigest()


def _feed(digest: hashlib._Hash, file: FileIO, size: int, buffer: memoryview, path: Path) -> None:
    while size:
        count = read_into(file, buffer[: min(size, len(buffer))], path)
        digest.update(buffer[:count])
        size -= count


def digest_of_entry(entry: Entry, name: str, shards: Sequence[Path], where: Where) -> str:
    """Returns the SHA-256 of a variable's bytes, in row-major order.

    Raises:
      UnsupportedError: it is stored in parts whose bytes, one after the other, are not its own.
    """
    if entry.data is not None:
        return digest_of_ranges([entry.data], shards)
    parts = sorted(entry.slices, key=lambda part: part.offsets)
    if any(part.shape[1:] != entry.shape[1:] for part in parts):
        raise UnsupportedError(
            f"variable {name!r} is stored in slices that cut more than its first dimension",
            where=where,
            hint="save the model again with its variables in one piece each",
        )
    return digest_of_ranges((part.data for part in parts), shards)


def digests_of_assets(directory: Path) -> Mapping[str, str]:
    """Returns the SHA-256 of each file below a model's `assets/`, by its name there.

    Raises:
      UnsafeError: one is a link, or no plain file.
    """
    return {name: asset_digest(asset).hex() for name, asset in find_assets(directory).items()}
