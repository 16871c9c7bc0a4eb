"""Where the bytes of a new bundle come from: whole shards where it can be, ranges of them else."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from bridge.bundle.files import open_plain_file
from bridge.errors import MalformedError, UnsupportedError, Where
from bridge.model import ByteRange
from bridge.proto import tf_pb

_MAX_PASSES = 8
"""How often, on average, the tensors of a shard may refer to its bytes in different ways."""

_MAX_PADDING = 4096
"""Zeros between tensors up to this many bytes may be padding (BundleWriter::Options)."""


class Span(NamedTuple):
    """Bytes `start` to `end` of a shard."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Piece:
    """The bytes of one tensor, or of one slice.

    Attributes:
      key: name for messages.
      dtype: DataType number.
      shape: its shape.
      data: its place in the source.
    """

    key: str
    dtype: int
    shape: tuple[int, ...]
    data: ByteRange


class Check(NamedTuple):
    """A range whose checksum is to be verified, and once only.

    Attributes:
      start: first byte.
      end: the byte after the last.
      checksum: masked checksum.
      strings: number of strings; None for plain bytes.
    """

    start: int
    end: int
    checksum: int
    strings: int | None


@dataclass
class ShardPlan:
    """What of one source shard is needed.

    Attributes:
      path: the source shard.
      file_size: its bytes.
      whole: reproduce it as it is.
      spans: the needed bytes, sorted, apart from each other.
      checks: the ranges to verify, by start, each with the keys that refer to it.
      bases: where each span goes in a new shard that is not whole.
    """

    path: Path
    file_size: int
    whole: bool
    spans: list[Span]
    checks: dict[Check, list[str]]
    bases: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.bases = []
        base = 0
        for span in self.spans:
            self.bases.append(base)
            base += span.end - span.start

    @property
    def new_size(self) -> int:
        """Bytes of the new shard."""
        return self.file_size if self.whole else sum(end - start for start, end in self.spans)

    def new_offset(self, offset: int) -> int:
        """Returns where the byte at `offset` goes."""
        if self.whole:
            return offset
        index = bisect_right(self.spans, offset, key=lambda span: span.start) - 1
        return self.bases[index] + offset - self.spans[index].start


def plan_shards(shards: Sequence[Path], pieces: Iterable[Piece]) -> dict[int, ShardPlan]:
    """Plans the new shards.

    Args:
      shards: the source shards.
      pieces: what the new bundle needs of them.

    Returns:
      Plans by index of the source shard, rising; a shard of which no byte is needed has none.

    Raises:
      MalformedError: a range is outside of its shard, or ranges overlap without measure.
      UnsupportedError: a tensor is of a type whose checksum nobody can verify.
    """
    checks: dict[int, dict[Check, list[str]]] = defaultdict(dict)
    for piece in pieces:
        data = piece.data
        if not 0 <= data.shard < len(shards):
            raise MalformedError(f"tensor {piece.key!r} lies in shard {data.shard}, which is not")
        if data.size:
            check = Check(data.offset, data.offset + data.size, data.crc32c, _strings(piece))
            checks[data.shard].setdefault(check, []).append(piece.key)
    return {shard: _plan_shard(shards[shard], checks[shard]) for shard in sorted(checks)}


def _strings(piece: Piece) -> int | None:
    if piece.dtype == tf_pb.DT_STRING:
        return math.prod(piece.shape)
    if piece.dtype in (tf_pb.DT_VARIANT, tf_pb.DT_RESOURCE):
        raise UnsupportedError(f"tensor {piece.key!r} of the checkpoint is no plain data")
    return None


def _plan_shard(path: Path, by_check: Mapping[Check, list[str]]) -> ShardPlan:
    checks = dict(sorted(by_check.items(), key=lambda item: (*item[0][:3], item[0][3] or 0)))
    with open_plain_file(path) as file:
        file_size = file.seek(0, 2)
        for check, keys in checks.items():
            if check.start < 0 or check.end > file_size:
                raise MalformedError(
                    f"tensor {keys[0]!r} is outside of its data shard", where=Where(path)
                )
        if sum(check.end - check.start for check in checks) > _MAX_PASSES * file_size:
            raise MalformedError("tensors overlap without measure", where=Where(path))
        spans = _merge(checks)
        whole = all(_is_padding(file, gap) for gap in _gaps(spans, file_size))
    return ShardPlan(path, file_size, whole, spans, checks)


def _merge(checks: Iterable[Check]) -> list[Span]:
    spans: list[Span] = []
    for check in checks:
        if spans and check.start <= spans[-1].end:
            spans[-1] = Span(spans[-1].start, max(check.end, spans[-1].end))
        else:
            spans.append(Span(check.start, check.end))
    return spans


def _gaps(spans: Sequence[Span], file_size: int) -> Iterable[Span]:
    end = 0
    for span in [*spans, Span(file_size, file_size)]:
        if span.start > end:
            yield Span(end, span.start)
        end = span.end


def _is_padding(file: FileIO, gap: Span) -> bool:
    """True for fewer zeros than the alignment that they reach (PadAlignment, tensor_bundle.cc)."""
    size = gap.end - gap.start
    if size >= min(_MAX_PADDING, gap.end & -gap.end):
        return False
    file.seek(gap.start)
    return not any(file.read(size))
