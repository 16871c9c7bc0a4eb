"""The typer application: which commands there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from bridge import __version__
from bridge.cli._terminal import write_stderr, write_stdout
from bridge.cli.check import check
from bridge.cli.inspect import inspect
from bridge.cli.parity import parity
from bridge.cli.to_hub_module import to_hub_module
from bridge.cli.to_saved_model import to_saved_model

PROGRAM = "hubbridge"

app = typer.Typer(
    name=PROGRAM,
    add_completion=False,
    # Plain text: it suits every terminal, and rich need not be imported.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 parity or check failed, 2 usage, 3 the model needs something "
    "unsupported, 4 the input is malformed or unsafe, 5 internal error.",
)


def _version(wanted: bool) -> None:
    if wanted:
        write_stdout(f"{PROGRAM} {__version__}\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 (the callback has done it)
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Converts TF1 Hub modules to TF2 SavedModels and back, and compares what came of it."""
    if context.invoked_subcommand is None:
        write_stderr(context.get_help() + "\n")
        raise typer.Exit(2)


app.command("to-saved-model")(to_saved_model)
app.command("to-hub-module")(to_hub_module)
app.command("parity")(parity)
app.command("inspect")(inspect)
app.command("check")(check)


def run(argv: Sequence[str] | None) -> int:
    """Parses the arguments and runs the command; returns the exit code."""
    arguments = None if argv is None else list(argv)
    result = app(arguments, prog_name=PROGRAM, standalone_mode=False)
    return result if isinstance(result, int) else 0
