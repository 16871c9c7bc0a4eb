"""`hubbridge parity`."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli._terminal import Style, write_stderr, write_stdout
from bridge.errors import DestinationError, UsageError

if TYPE_CHECKING:
    from bridge._parity.results import ParityReport

_STDOUT = "-"


class Device(str, Enum):
    """What `--device` takes."""

    CPU = "cpu"
    GPU = "gpu"
    ALL = "all"


def parity(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REFERENCE",
            show_default=False,
            help="A TF1 Hub module or a SavedModel: a directory, .tar.gz, .zip or URL.",
        ),
    ],
    candidate: Annotated[
        str,
        typer.Argument(
            metavar="CANDIDATE",
            show_default=False,
            help="What is compared with it: a module or a SavedModel too.",
        ),
    ],
    device: Annotated[
        Device,
        typer.Option(help="Where to run; `all` compares the CPU with the GPU too."),
    ] = Device.CPU,
    require_gpu: Annotated[
        bool, typer.Option("--require-gpu", help="Fail where there is no GPU.")
    ] = False,
    tf1_python: Annotated[
        str | None,
        typer.Option(
            metavar="PYTHON",
            show_default=False,
            help="A Python with TensorFlow 1.x and tensorflow-hub, which runs modules too; "
            "HUBBRIDGE_TF1_PYTHON by default.",
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(metavar="DIR", show_default=False, help="Photos to feed image signatures."),
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.npz",
            show_default=False,
            help="Inputs by name, to feed instead of generated ones.",
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(metavar="N", help="Inputs that the larger generated sets have.")
    ] = 8,
    batch_size: Annotated[
        int, typer.Option(metavar="N", help="Inputs to feed at once, at most.")
    ] = 4,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Seed of the inputs and of random ops.")
    ] = 0,
    rtol: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            show_default=False,
            help="Allowed difference, relative to the largest value of the reference's output; "
            "1e-5 by default, 1e-4 across devices and releases of TensorFlow.",
        ),
    ] = None,
    atol: Annotated[
        float, typer.Option(metavar="X", help="Allowed difference on top of that.")
    ] = 0.0,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OUTPUT=RTOL[,ATOL]",
            show_default=False,
            help="Tolerance of one output, by its name or SIGNATURE/NAME; may be repeated.",
        ),
    ] = None,
    train: Annotated[
        bool,
        typer.Option(
            "--train",
            help="Compare gradients, regularization losses and variables after training steps.",
        ),
    ] = False,
    bisect: Annotated[
        bool, typer.Option("--bisect", help="Name the first node that differs.")
    ] = False,
    time_limit: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="What one request to a runtime may take."),
    ] = 600.0,
    report: Annotated[
        str | None,
        typer.Option(metavar="FILE.html", show_default=False, help="Write the report as a page."),
    ] = None,
    as_json: Annotated[
        str | None,
        typer.Option(
            "--json", metavar="FILE", show_default=False, help="Write it as JSON; - is stdout."
        ),
    ] = None,
    junit: Annotated[
        str | None,
        typer.Option(metavar="FILE", show_default=False, help="Write it as JUnit XML."),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing but errors (and --json -).")
    ] = False,
) -> int:
    """Runs two models on the same inputs and compares everything that a user could see.

    Exit code 0 means that they agree, 1 that they don't or that nothing could be compared.
    """
    from bridge._api import parity as compare
    from bridge._parity.results import Verdict
    from bridge.cli._progress import running

    writers = _writers(report, as_json, junit)
    tolerances = _tolerances(tolerance or ())
    # Off for conversions, which are short; here memory must not grow.
    gc.enable()
    with running(sys.stderr, quiet=quiet) as progress:
        found = compare(
            reference,
            candidate,
            device=device.value,
            require_gpu=require_gpu,
            tf1_python=tf1_python,
            images=images,
            inputs=inputs,
            samples=samples,
            batch_size=batch_size,
            seed=seed,
            rtol=rtol,
            atol=atol,
            tolerances=tolerances,
            train=train,
            bisect=bisect,
            time_limit=time_limit,
            artifacts=None if report is None else Path(report).with_suffix(".bisect"),
            progress=progress,
        )
    failures = _write(found, writers)
    if not quiet:
        from bridge.cli._parity_tree import parity_summary

        hints = [] if failures else _hints(found, report, bisect=bisect)
        write_stderr(parity_summary(found, Style.of(sys.stderr), hints))
    if as_json == _STDOUT:
        write_stdout(_json(found))
    if failures:
        raise DestinationError("; ".join(failures))
    return 0 if found.verdict is Verdict.PASS else 1


def _tolerances(texts: Iterable[str]) -> dict[str, tuple[float, float]]:
    from bridge._parity.rule import parse_override

    tolerances: dict[str, tuple[float, float]] = {}
    for text in texts:
        output, tolerance = parse_override(text)
        if output in tolerances:
            raise UsageError(f"--tolerance {text}: {output!r} is given twice")
        tolerances[output] = tolerance.rtol, tolerance.atol
    return tolerances


def _hints(found: ParityReport, report: str | None, *, bisect: bool) -> list[str]:
    from bridge._parity.results import Status

    hints = []
    # A crash, a timeout or a lack is no difference between values.
    differ = (row.status is Status.FAIL and row.difference for row in found.comparisons)
    if any(differ) and not bisect:
        hints.append("--bisect looks for the first node that differs")
    if report is None:
        hints.append("--report FILE.html writes a page with charts and all figures")
    else:
        hints.append(f"the whole report is in {report}")
    return hints


# -- files ------------------------------------------------------------------------------------


def _writers(
    report: str | None, as_json: str | None, junit: str | None
) -> dict[Path, Callable[[ParityReport], str]]:
    """Returns what makes each file that is asked for.

    Raises:
      DestinationError: a file can't be written; it is better to know that before the models run.
      MissingExtraError: what makes the page is not installed.
      UsageError: two reports are to go to one file.
    """
    asked: list[tuple[str, Callable[[ParityReport], str]]] = []
    if as_json is not None and as_json != _STDOUT:
        asked.append((as_json, _json))
    if junit is not None:
        from bridge._parity.junit import junit as as_junit

        asked.append((junit, as_junit))
    if report is not None:
        from bridge._parity.html import render, require

        require()
        asked.append((report, render))
    writers: dict[Path, Callable[[ParityReport], str]] = {}
    for text, write in asked:
        path = Path(text)
        _check(path)
        if any(os.path.realpath(path) == os.path.realpath(other) for other in writers):
            raise UsageError(f"two reports can't go to one file, {text}")
        writers[path] = write
    return writers


def _check(path: Path) -> None:
    """Finds out whether a file can be written; leaves everything as it is."""
    try:
        if path.is_dir():
            raise DestinationError(f"{path} is a directory", hint="name a file")
        if not path.parent.is_dir():
            raise DestinationError(f"{path} can't be written: there is no directory {path.parent}")
        if not path.exists():
            path.touch(exist_ok=False)
            path.unlink()
        elif not os.access(path, os.W_OK):  # it may be a pipe, which is opened once only
            raise DestinationError(f"{path} can't be written: permission denied")
    except OSError as error:
        raise DestinationError(f"{path} can't be written: {error.strerror or error}") from error


def _write(
    report: ParityReport, writers: Mapping[Path, Callable[[ParityReport], str]]
) -> list[str]:
    """Writes each file that can be written; returns why others can't."""
    from bridge._parity.files import write_report

    failures = []
    for path, make in writers.items():
        try:
            write_report(path, make(report))
        except DestinationError as error:
            failures.append(error.message)
    return failures


def _json(report: ParityReport) -> str:
    import json

    return json.dumps(report.to_dict(), indent=2, allow_nan=False) + "\n"
