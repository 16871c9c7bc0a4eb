"""`hubbridge to-hub-module`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Annotated

import typer

from bridge.cli._terminal import Style, write_stderr, write_stdout
from bridge.errors import UsageError


def to_hub_module(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            show_default=False,
            help="The SavedModel: a directory, .tar.gz, .zip or URL. It is never written to.",
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
    tf: Annotated[
        str,
        typer.Option(
            "--tf", metavar="RELEASE", help="The oldest TensorFlow release that must run it."
        ),
    ] = "1.15",
    task: Annotated[
        str | None,
        typer.Option(
            metavar="TASK",
            show_default=False,
            help="image_feature_vector or image_classification: the signature of this name is made "
            "the same as `default`.",
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NEW=NAME",
            show_default=False,
            help="Call an input of `default` otherwise: images=NAME says which one is the image; "
            "may be repeated.",
        ),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW",
            show_default=False,
            help="Height and width of the images, such as 224x224, where the source leaves them "
            "open.",
        ),
    ] = None,
    logits: Annotated[
        bool, typer.Option("--logits", help="Let `default` return what goes into its softmax.")
    ] = False,
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
    allow_op: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OP",
            show_default=False,
            help="Let an op through although it is unsafe; may be repeated.",
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing but errors (and --json).")
    ] = False,
) -> None:
    """Converts a TF2 SavedModel to a TF1 Hub module, for TensorFlow 1.15."""
    from bridge import to_hub_module as convert
    from bridge.cli._progress import converting

    with converting(sys.stderr, quiet=quiet) as progress:
        report = convert(
            source,
            dest,
            overwrite=overwrite,
            link=link,
            dry_run=dry_run,
            verify=verify,
            tf=tf,
            task=task,
            inputs=_renamed(inputs or ()),
            image_size=None if image_size is None else _size(image_size),
            logits=logits,
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


def _renamed(texts: Iterable[str]) -> dict[str, str]:
    renamed: dict[str, str] = {}
    for text in texts:
        new, equals, old = text.partition("=")
        if not (new and equals and old):
            raise UsageError(f"--input {text}: NEW=NAME is expected, such as images=input_1")
        if new in renamed:
            raise UsageError(f"--input {text}: {new!r} is given twice")
        renamed[new] = old
    return renamed


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", text)
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(size):
        raise UsageError(f"--image-size {text}: HEIGHTxWIDTH is expected, such as 224x224")
    return size
