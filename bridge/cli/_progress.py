"""A progress bar, for work that takes longer than a second and has somebody who looks on."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

from bridge.cli._terminal import is_terminal

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PATIENCE = 1.0
"""Seconds of work before a bar is shown."""


@contextlib.contextmanager
def copying(stream: TextIO, *, quiet: bool = False) -> Iterator[Callable[[int, int], None] | None]:
    """Yields what a conversion is to call with the bytes done, and how many there are.

    Args:
      stream: where the bar goes; if it is no terminal that can show one, None is yielded.
      quiet: show none anyway.
    """
    if quiet or not is_terminal(stream) or os.environ.get("TERM") == "dumb":
        yield None
        return
    bar = _Bar(stream)
    try:
        yield bar.update
    finally:
        bar.close()


class _Bar:
    def __init__(self, stream: TextIO):
        self._stream = stream
        self._started = time.monotonic()
        self._bar: tuple[Progress, TaskID] | None = None

    def update(self, done: int, total: int) -> None:
        if self._bar is None:
            if time.monotonic() - self._started < PATIENCE or done >= total:
                return
            self._bar = self._show(total)
        progress, task = self._bar
        progress.update(task, completed=done)

    def _show(self, total: int) -> tuple[Progress, TaskID]:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

        progress = Progress(
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            console=Console(file=self._stream),
            transient=True,
        )
        progress.start()
        return progress, progress.add_task("", total=total)

    def close(self) -> None:
        if self._bar is not None:
            self._bar[0].stop()
