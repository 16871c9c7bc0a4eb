"""`hubbridge inspect`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bridge.cli._terminal import Style, write_stdout


def inspect(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            show_default=False,
            help="A TF1 Hub module or SavedModel: a directory, .tar.gz, .zip or URL.",
        ),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON, with all lists.")
    ] = False,
    variables: Annotated[
        bool, typer.Option("--variables", help="List all variables, not the largest only.")
    ] = False,
    ops: Annotated[
        bool, typer.Option("--ops", help="List all ops, not the most frequent only.")
    ] = False,
    conversion: Annotated[
        bool,
        typer.Option(
            "--conversion/--no-conversion",
            help="Try whether it can be converted; on large graphs that takes most of the time.",
        ),
    ] = True,
) -> None:
    """Says what is in a model, from its files alone."""
    from bridge import inspect as look

    report = look(path, conversion=conversion)
    if as_json:
        import json

        write_stdout(json.dumps(report.to_dict(), indent=2) + "\n")
    else:
        from bridge.cli._inspect_tree import inspect_tree

        text = inspect_tree(report, Style.of(sys.stdout), variables=variables, ops=ops)
        write_stdout(text)
