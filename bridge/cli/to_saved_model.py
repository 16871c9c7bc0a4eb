"""`hubbridge to-saved-model`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bridge.cli._terminal import Style, write_stderr, write_stdout


def to_saved_model(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            show_default=False,
            help="The module: a directory, .tar.gz, .zip or URL. It is never written to.",
        ),
    ],
    dest: Annotated[
        str,
        typer.Argument(
            metavar="DEST",
            show_default=False,
            help="The directory to make. It appears whole or not at all.",
        ),
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing DEST.")
    ] = False,
    link: Annotated[
        bool,
        typer.Option(
            "--link", help="Hard-link the checkpoint's data instead of copying it, where possible."
        ),
    ] = False,
    verify: Annotated[
        bool | None,
        typer.Option(
            "--verify/--no-verify",
            show_default="on where TensorFlow is installed, unless HUBBRIDGE_VERIFY=0",
            help="Run both models and compare them before DEST appears.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read, check and report, but write nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON on stdout, and no summary.")
    ] = False,
    variant: Annotated[
        str | None,
        typer.Option(
            metavar="TAGS",
            show_default=False,
            help="Comma-separated tags of the variant that can be called directly, in a module "
            "that has none without tags.",
        ),
    ] = None,
    allow_op: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OP",
            show_default=False,
            help="Let an op through although it is unsafe, or unknown to TensorFlow; may be "
            "repeated.",
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing but errors (and --json).")
    ] = False,
) -> None:
    """Converts a TF1 Hub module to a reusable TF2 SavedModel."""
    from bridge import to_saved_model as convert
    from bridge.cli._progress import converting

    with converting(sys.stderr, quiet=quiet) as progress:
        report = convert(
            source,
            dest,
            overwrite=overwrite,
            link=link,
            dry_run=dry_run,
            verify=verify,
            variant=None if variant is None else _tags(variant),
            allow_ops=allow_op or (),
            progress=progress.copying,
            verify_progress=progress.verifying,
        )
    if as_json:
        import json

        write_stdout(json.dumps(report.to_dict(), indent=2) + "\n")
    elif not quiet:
        from bridge.cli._summary import summary

        write_stderr(summary(report, dest, Style.of(sys.stderr)))


def _tags(text: str) -> set[str]:
    return {tag.strip() for tag in text.split(",")} - {""}
