"""Writes what is left of a run: reports."""

from __future__ import annotations

import contextlib
from pathlib import Path

from bridge.errors import DestinationError


def write_report(path: Path, text: str) -> None:
    """Writes a report; one that is cut short, such as by a full disk, does not stay.

    Args:
      path: the file, which may be a pipe or a device too.
      text: of it. Whatever a name of a model holds, such as half of a surrogate pair, gets written.

    Raises:
      DestinationError: it can't be written.
    """
    try:
        with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
            try:
                file.write(text)
                file.flush()
            except OSError:
                if path.is_file():
                    with contextlib.suppress(OSError):
                        path.unlink()
                raise
    except OSError as error:
        raise DestinationError(f"{path} can't be written: {error.strerror or error}") from error
