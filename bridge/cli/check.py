"""`hubbridge check`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bridge.cli._terminal import Style, write_stdout


def check(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            show_default=False,
            help="A TF1 Hub module or a TF2 SavedModel: a directory, .tar.gz, .zip or URL.",
        ),
    ],
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLAUSE",
            show_default=False,
            help="Judge this clause alone, such as IMG05; several by commas, or repeated.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> int:
    """Judges whether a model keeps the common image signatures, clause by clause.

    Exit code 0 means that no clause is broken, 1 that one is.
    """
    from bridge import check as judge

    names = [name.strip() for text in only or () for name in text.split(",")]
    report = judge(path, only=names)
    if as_json:
        import json

        write_stdout(json.dumps(report.to_dict(), indent=2) + "\n")
    else:
        from bridge.cli._check_lines import check_lines

        write_stdout(check_lines(report, Style.of(sys.stdout)))
    return 1 if report.broken else 0
