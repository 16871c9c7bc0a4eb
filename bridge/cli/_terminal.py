"""Writing to stdout and stderr, whatever they are connected to."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TextIO

from bridge.errors import UsageError

# The shell's code for a program that SIGPIPE ended.
CLOSED_PIPE = 141

NO_BREAK = "\N{NO-BREAK SPACE}"
"""Stands for a space at which no line is broken, until lines are made."""

_MAX_WIDTH = 100
_MIN_WIDTH = 30


@dataclass(frozen=True)
class Style:
    """What a stream can show.

    Attributes:
      width: columns to fill.
      unicode: whether more than ASCII can be shown.
      colour: whether escape sequences are wanted.
    """

    width: int = 80
    unicode: bool = True
    colour: bool = False

    @classmethod
    def of(cls, stream: TextIO | None) -> Style:
        """Finds out; NO_COLOR, TERM=dumb and COLUMNS are respected.

        Args:
          stream: None where there is none, as with pythonw, or closed by the parent process.
        """
        if stream is None:
            return cls()
        return cls(
            width=min(max(_columns(stream), _MIN_WIDTH), _MAX_WIDTH),
            unicode=_can_encode(stream, "├└│─…·→≤×✓✗"),
            colour=(
                is_terminal(stream)
                and not os.environ.get("NO_COLOR")
                and os.environ.get("TERM") != "dumb"
            ),
        )

    def bold(self, text: str) -> str:
        """Returns the text, bold where colour is wanted."""
        return f"\x1b[1m{text}\x1b[0m" if self.colour else text

    def red(self, text: str) -> str:
        """Returns the text, bold and red where colour is wanted."""
        return f"\x1b[1;31m{text}\x1b[0m" if self.colour else text

    def green(self, text: str) -> str:
        """Returns the text, bold and green where colour is wanted."""
        return f"\x1b[1;32m{text}\x1b[0m" if self.colour else text

    def yellow(self, text: str) -> str:
        """Returns the text, bold and yellow where colour is wanted."""
        return f"\x1b[1;33m{text}\x1b[0m" if self.colour else text

    def cyan(self, text: str) -> str:
        """Returns the text, bold and cyan where colour is wanted."""
        return f"\x1b[1;36m{text}\x1b[0m" if self.colour else text


def is_terminal(stream: TextIO | None) -> bool:
    """True if somebody looks at the stream."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def _columns(stream: TextIO) -> int:
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    try:
        # The last column stays free: some terminals wrap when it is filled.
        return os.get_terminal_size(stream.fileno()).columns - 1
    except (OSError, ValueError):
        return 80


def _can_encode(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def plain(text: str) -> str:
    """Makes text of a stranger's model harmless: no control characters reach the terminal."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c == NO_BREAK else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


def write_stderr(text: str) -> None:
    """Writes talk; if nobody listens any more, so be it."""
    _write(sys.stderr, text)


def write_stdout(text: str) -> None:
    """Writes data.

    Raises:
      typer.Exit: the reader has closed the pipe.
      UsageError: it can't be written, such as to a full disk.
    """
    error = _write(sys.stdout, text)
    if isinstance(error, BrokenPipeError):
        import typer

        raise typer.Exit(CLOSED_PIPE)
    if error is not None:
        raise UsageError(f"stdout can't be written: {error.strerror or error}") from error


def _write(stream: TextIO | None, text: str) -> OSError | None:
    """Writes, and returns the error if that is not possible."""
    if stream is None:
        return None
    if not _can_encode(stream, text):
        encoding = stream.encoding or "ascii"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        # Else the interpreter tries to flush once more when it exits, and complains.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None
