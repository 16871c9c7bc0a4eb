"""Memory that two processes share, through which the results of a runner come without a copy."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge._parity.runners.protocol import Value
from bridge._parity.runners.worker_values import TransportError, lengthen


class Lent:
    """Bytes that are read for some time: every array that is made of them keeps this alive."""

    def __init__(self, data: NDArray[np.uint8]):
        self._data = data
        address, _ = data.__array_interface__["data"]
        self.__array_interface__ = {**data.__array_interface__, "data": (address, True)}


class Segment:
    """A file that two processes share.

    Where the system lets, it lies in memory alone, and another process of this user opens it below
    /proc; elsewhere it lies in a directory.

    Attributes:
      path: where another process finds it.
    """

    def __init__(self, directory: Path):
        # Not on Linux everywhere: the C library that Python was built with may be too old for it.
        self._on_disk = not hasattr(os, "memfd_create")
        if self._on_disk:
            self._file, path = tempfile.mkstemp(dir=directory)
            self.path = str(Path(path).absolute())
        else:
            self._file = os.memfd_create("hubbridge")
            self.path = f"/proc/{os.getpid()}/fd/{self._file}"
        self._mapped: NDArray[np.uint8] = np.empty(0, np.uint8)

    def space(self, size: int) -> NDArray[np.uint8]:
        """Returns its bytes to be written to, as many as asked for at least.

        Raises:
          OSError: there is no space.
        """
        lengthen(self._file, size)
        return self._bytes(size)

    def read(self, size: int) -> Lent:
        """Lends out bytes that are written in it.

        Raises:
          TransportError: there are not so many.
        """
        return Lent(self._bytes(size)[:size])

    def close(self) -> None:
        """Lets go of the file; what was lent stays readable."""
        os.close(self._file)
        if self._on_disk:
            Path(self.path).unlink(missing_ok=True)

    def _bytes(self, size: int) -> NDArray[np.uint8]:
        if size > self._mapped.size:
            there = os.fstat(self._file).st_size
            if size > there:
                raise TransportError(f"its answer is cut off: of {size} bytes there are {there}")
            # All pages at once: one by one they take several times as long.
            flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
            self._mapped = np.frombuffer(mmap.mmap(self._file, there, flags=flags), np.uint8)
        return self._mapped


class Segments:
    """The segments of one runner, each used again when nobody reads what was in it any more.

    Memory that was written before is several times as fast to write as fresh memory.
    """

    def __init__(self, directory: Path):
        self._directory = directory
        self._free: deque[Segment] = deque()
        self._closed = False

    def take(self) -> Segment:
        """Returns a segment that nobody uses."""
        try:
            return self._free.pop()
        except IndexError:
            return Segment(self._directory)

    def give_back(self, segment: Segment) -> None:
        """Takes a segment back that nobody will read."""
        if self._closed:
            segment.close()
        else:
            self._free.append(segment)

    def read(self, segment: Segment, size: int) -> NDArray[np.uint8]:
        """Returns what is in a segment, and takes it back when no array is left that shows it.

        Args:
          segment: one that was taken.
          size: how many bytes are of interest; what lies behind them was there before.

        Raises:
          TransportError: there are not so many; the segment is still the caller's.
        """
        if not size:
            self.give_back(segment)
            return np.empty(0, np.uint8)
        lent = segment.read(size)
        weakref.finalize(lent, self.give_back, segment).atexit = False
        return np.asarray(lent)

    def close(self) -> None:
        """Lets go of the segments, of those in use when they are given back."""
        self._closed = True
        while self._free:
            self._free.pop().close()


class Results(dict[str, Value]):
    """What a runner returns: values by name, which can't be written to, and where they lie.

    Attributes:
      path: the file that holds them.
      header: where each lies in it, as `write_values` says; those that lie elsewhere are not in it.
    """

    def __init__(self, values: Mapping[str, Value], path: str, header: Mapping[str, Any]):
        super().__init__(values)
        self.path = path
        self.header = header
