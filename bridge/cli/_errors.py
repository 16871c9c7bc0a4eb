"""Errors as the command line prints them: `error: …`, `hint: …`, an exit code."""

from __future__ import annotations

import os
import sys

from bridge.cli._terminal import Style, plain, write_stderr
from bridge.errors import HubBridgeError

INTERNAL = 5
USAGE = 2
TRACEBACK = "HUBBRIDGE_TRACEBACK"


def report_error(error: Exception) -> int:
    """Prints an error to stderr and returns its exit code."""
    if os.environ.get(TRACEBACK) == "1":
        import traceback

        write_stderr("".join(traceback.format_exception(error)))
    import typer

    if isinstance(error, HubBridgeError):
        _print(str(error), error.hint)
        return error.exit_code
    if isinstance(error, typer.Abort):
        return 130
    if hasattr(error, "format_message"):  # a usage error of typer
        message = str(error.format_message()).strip().rstrip(".")
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "hubbridge"
        _print(message[:1].lower() + message[1:], f"see `{command} --help`")
        return USAGE
    if isinstance(error, MemoryError):
        _print("there is not enough memory", "parity needs less with a smaller --batch-size")
        return INTERNAL
    _print(
        f"internal error: {type(error).__name__}: {error}",
        f"this is a bug in hubbridge; please report it with what {TRACEBACK}=1 prints",
    )
    return INTERNAL


def _print(message: str, hint: str | None) -> None:
    style = Style.of(sys.stderr)
    text = f"{style.red('error:')} {plain(message)}\n"
    if hint:
        text += f"{style.cyan('hint:')} {plain(hint)}\n"
    write_stderr(text)
