"""Moving the bytes of a shard, and verifying them.

Copy and verification run side by side: the kernel copies in one thread (copy_file_range, which
holds no lock of Python's), the checksums are computed in the caller's. Each reads the source for
itself, from the page cache, so that neither needs memory beyond its buffer.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path
from threading import Event, Thread

from bridge.bundle import crc
from bridge.bundle.files import open_plain_file, read_into
from bridge.bundle.plan import Check, ShardPlan, Span
from bridge.bundle.strings import StringChecksum
from bridge.errors import DestinationError, MalformedError, Where

_CHUNK_BYTES = 1 << 20
"""What is read at a time; about the second-level cache of a core."""

_KERNEL_COPY_BYTES = 64 << 20
"""What the kernel copies at a time; between, the copy can be stopped."""

# What says that two files can't be linked, or copied in the kernel: other ways may do.
_NOT_THIS_WAY = frozenset(
    getattr(errno, name)
    for name in (
        *("EXDEV", "EPERM", "EACCES", "EMLINK", "ENOSYS", "EINVAL"),
        *("EOPNOTSUPP", "ENOTSUP", "EBADF", "EIO", "ETXTBSY"),
    )
    if hasattr(errno, name)
)


def transfer(
    plan: ShardPlan, destination: Path, *, link: bool, progress: Callable[[int], None]
) -> bool:
    """Makes a new shard and verifies every tensor in it.

    Args:
      plan: what to take.
      destination: the new file, in an existing directory.
      link: hard-link the shard if it is reproduced whole and the file system can.
      progress: called with the number of bytes verified since the last call.

    Returns:
      True if the shard was linked.

    Raises:
      MalformedError: a checksum does not match.
      DestinationError: the new file can't be written.
    """
    linked = link and plan.whole and _try_link(plan.path, destination)
    if linked:
        _verify(plan, progress)
        return True
    stop = Event()
    failures: list[BaseException] = []

    def copy() -> None:
        try:
            _copy(plan, destination, stop)
        except BaseException as error:
            failures.append(error)

    thread = Thread(target=copy, name="bundle-copy")
    thread.start()
    try:
        _verify(plan, progress, failures)
    except BaseException:
        stop.set()
        raise
    finally:
        thread.join()
    if failures:
        raise failures[0]
    return False


def _try_link(source: Path, destination: Path) -> bool:
    try:
        destination.hardlink_to(source)
    except NotImplementedError:
        return False
    except OSError as error:
        if error.errno in _NOT_THIS_WAY:
            return False
        raise not_writable(destination, error) from error
    return True


def not_writable(path: Path, error: OSError) -> DestinationError:
    """Returns the error to raise for a new file that can't be written."""
    reason = error.strerror or str(error)
    return DestinationError(f"can't write the file: {reason}", where=Where(path))


# -- copying ------------------------------------------------------------------------------


def _copy(plan: ShardPlan, destination: Path, stop: Event) -> None:
    spans = [Span(0, plan.file_size)] if plan.whole else plan.spans
    with open_plain_file(plan.path) as source:
        try:
            with destination.open("xb", buffering=0) as target:
                in_kernel = hasattr(os, "copy_file_range")
                for span in spans:
                    done = _copy_in_kernel(source, target, span, stop) if in_kernel else 0
                    in_kernel = in_kernel and span.start + done == span.end
                    rest = Span(span.start + done, span.end)
                    _copy_by_hand(source, target, rest, stop, plan.path)
        except OSError as error:
            raise not_writable(destination, error) from error


def _copy_in_kernel(source: FileIO, target: FileIO, span: Span, stop: Event) -> int:
    """Copies what the kernel can to the position of `target`, and returns how much that was."""
    position = span.start
    while position < span.end and not stop.is_set():
        size = min(_KERNEL_COPY_BYTES, span.end - position)
        try:
            count = os.copy_file_range(source.fileno(), target.fileno(), size, position)
        except OSError as error:
            if error.errno in _NOT_THIS_WAY:
                break
            raise
        if count == 0:
            break
        position += count
    return position - span.start


def _copy_by_hand(source: FileIO, target: FileIO, span: Span, stop: Event, path: Path) -> None:
    if span.start == span.end:
        return
    buffer = memoryview(bytearray(min(_CHUNK_BYTES, span.end - span.start)))
    source.seek(span.start)
    left = span.end - span.start
    while left and not stop.is_set():
        count = read_into(source, buffer[: min(left, len(buffer))], path)
        written = 0
        while written < count:
            written += target.write(buffer[written:count])
        left -= count


# -- verifying ----------------------------------------------------------------------------


def _verify(
    plan: ShardPlan, progress: Callable[[int], None], failures: Sequence[BaseException] = ()
) -> None:
    """Verifies a shard, and stops early if the copy fails meanwhile."""
    verifier = _Verifier(plan)
    buffer = bytearray(_CHUNK_BYTES)
    view = memoryview(buffer)
    with open_plain_file(plan.path) as source:
        for span in plan.spans:
            position = span.start
            source.seek(position)
            while position < span.end:
                wanted = min(_CHUNK_BYTES, span.end - position)
                count = read_into(source, view[:wanted], plan.path)
                verifier.feed(position, view[:count])
                position += count
                progress(count)
                if failures:
                    raise failures[0]


class _Verifier:
    """Computes all checksums of a shard in one pass over its spans."""

    def __init__(self, plan: ShardPlan):
        self.plan = plan
        self.waiting = list(reversed(plan.checks))
        self.active: list[_Running] = []

    def feed(self, position: int, chunk: crc.Chunk) -> None:
        """Takes the bytes at `position` of the shard."""
        end = position + len(chunk)
        while self.waiting and self.waiting[-1].start < end:
            self.active.append(_Running(self.waiting.pop()))
        still_active = []
        for running in self.active:
            check = running.check
            first = max(check.start - position, 0)
            ok = running.feed(chunk[first : check.end - position])
            if check.end <= end:
                ok = ok and running.matches()
            else:
                still_active.append(running)
            if not ok:
                self.fail(check)
        self.active = still_active

    def fail(self, check: Check) -> None:
        keys = self.plan.checks[check]
        names = ", ".join(map(repr, keys[:3])) + (" …" if len(keys) > 3 else "")
        raise MalformedError(
            f"the checksum of tensor {names} does not match its bytes",
            where=Where(self.plan.path),
            hint="the file may be damaged; fetch the model again",
        )


class _Running:
    """The checksum of one range, under way."""

    __slots__ = ("check", "crc", "strings")

    def __init__(self, check: Check):
        self.check = check
        self.crc = 0
        self.strings = StringChecksum(check.strings) if check.strings is not None else None

    def feed(self, chunk: crc.Chunk) -> bool:
        if self.strings is not None:
            return self.strings.feed(chunk)
        self.crc = crc.extend(self.crc, chunk)
        return True

    def matches(self) -> bool:
        actual = self.strings.result() if self.strings is not None else self.crc
        return actual is not None and crc.mask(actual) == self.check.checksum
