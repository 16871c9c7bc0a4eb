"""A progress bar, for work that takes longer than a second and has somebody who looks on."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

from bridge.cli._terminal import is_terminal, plain, write_stderr

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

PATIENCE = 1.0
"""Seconds of work before a bar is shown."""


@contextlib.contextmanager
def converting(stream: TextIO | None, *, quiet: bool = False) -> Iterator[Converting]:
    """Yields what a conversion is to call.

    Args:
      stream: where bars go; if it is None, or no terminal that can show one, there are none.
      quiet: show nothing anyway.
    """
    progress = Converting(stream, bars=_shows_bars(stream), quiet=quiet)
    try:
        yield progress
    finally:
        progress.close()


class Converting:
    """The progress of a conversion: first bytes are copied, then both models run.

    Attributes:
      copying: to call with the bytes done, and how many there are; None where nobody looks on.
      verifying: to call with what is compared, the batches done and all batches; likewise.
    """

    def __init__(self, stream: TextIO | None, *, bars: bool, quiet: bool):
        self._stream = stream
        self._shows = bars
        self._bar: _Bar | None = _Bar(stream, _copying_columns)
        self._verifies = False
        self.copying = None if quiet or not bars else self._copy
        self.verifying = None if quiet else self._verify

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar:
            self._bar.close()
        self._bar = None

    def _copy(self, done: int, total: int) -> None:
        if self._bar:
            self._bar.update("", done, total)

    def _verify(self, what: str, done: int, total: int) -> None:
        if not self._verifies:
            self._verifies = True
            self.close()
            write_stderr("Verifying: both models run side by side; --no-verify leaves that out\n")
        if self._shows:
            self._bar = self._bar or _Bar(self._stream, _running_columns)
            self._bar.update(what, done, total)


@contextlib.contextmanager
def running(
    stream: TextIO | None, *, quiet: bool = False
) -> Iterator[Callable[[str, int, int], None] | None]:
    """Yields what a parity run is to call with what it does, the steps done and all steps.

    Args:
      stream: where the bar goes; if it is None, or no terminal that can show one, None is yielded.
      quiet: show none anyway.
    """
    if quiet or not _shows_bars(stream):
        yield None
        return
    bar = _Bar(stream, _running_columns)
    try:
        yield bar.update
    finally:
        bar.close()


def _shows_bars(stream: TextIO | None) -> bool:
    return is_terminal(stream) and os.environ.get("TERM") != "dumb"


def _copying_columns() -> list[ProgressColumn]:
    from rich.progress import BarColumn, DownloadColumn, TransferSpeedColumn

    return [BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn()]


def _running_columns() -> list[ProgressColumn]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

    text = TextColumn("{task.description}", markup=False)
    return [BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn(), text]


class _Bar:
    def __init__(self, stream: TextIO | None, columns: Callable[[], list[ProgressColumn]]):
        self._stream = stream
        self._columns = columns
        self._started = time.monotonic()
        self._bar: tuple[Progress, TaskID] | None = None

    def update(self, what: str, done: int, total: int) -> None:
        if self._bar is None:
            if time.monotonic() - self._started < PATIENCE or done >= total:
                return
            self._bar = self._show(what, done, total)
        progress, task = self._bar
        progress.update(task, description=plain(what), completed=done, total=total)

    def _show(self, what: str, done: int, total: int) -> tuple[Progress, TaskID]:
        from rich.console import Console
        from rich.progress import Progress

        progress = Progress(*self._columns(), console=Console(file=self._stream), transient=True)
        task = progress.add_task(plain(what), completed=done, total=total)
        progress.start()
        return progress, task

    def close(self) -> None:
        if self._bar is not None:
            self._bar[0].stop()
