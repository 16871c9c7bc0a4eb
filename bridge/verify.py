"""Proves a conversion before DEST appears: runs both models and compares them."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.errors import (
    DestinationError,
    HubBridgeError,
    MissingExtraError,
    UsageError,
    VerificationError,
    Where,
)
from bridge.report import Report, Verification

if TYPE_CHECKING:
    from bridge._parity.results import ParityReport, StructureCheck

SWITCH = "HUBBRIDGE_VERIFY"
"""Environment variable: `0` turns verification off where nobody says otherwise, `1` demands it."""

LOGITS = "with --logits, the signature `default` returns something else than the source's"
_UNWRITABLE = "no report could be written beside DEST"
_NEEDED = {"tensorflow": "TensorFlow", "PIL": "Pillow"}
"""What nothing can be compared without, by the name that Python imports."""

SAMPLES = 2
"""How many generated inputs of each kind a signature is run with."""


def should_verify(verify: bool | None) -> bool:
    """Whether to verify: as asked for, else as the environment says, else where that is possible.

    Raises:
      MissingExtraError: it is asked for, and a package is missing.
      UsageError: the environment variable HUBBRIDGE_VERIFY is neither 0 nor 1.
    """
    switch = os.environ.get(SWITCH, "")
    if switch not in ("", "0", "1"):
        raise UsageError(f"{SWITCH} is {switch!r}", hint=f"set {SWITCH} to 0 or 1")
    missing = _missing()
    if verify is None and not switch:
        return not missing
    wanted = switch == "1" if verify is None else verify
    if wanted and missing:
        raise MissingExtraError(
            f"verification needs {missing}", hint="pip install 'hubbridge[parity]'"
        )
    return wanted


def why_not() -> str:
    """Says why nothing can be verified here; empty where it can."""
    missing = _missing()
    return f"it needs {missing}, which pip install 'hubbridge[parity]' installs" if missing else ""


def _missing() -> str:
    return next(
        (name for package, name in _NEEDED.items() if importlib.util.find_spec(package) is None),
        "",
    )


def is_expected(verify: bool | None) -> bool:
    """Whether a result that is not verified must say so: nobody turned verification off."""
    return verify is None and os.environ.get(SWITCH) != "0"


def verify_conversion(
    source: Path,
    result: Path,
    destination: Path,
    report: Report,
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Compares a conversion with its source.

    Args:
      source: what was converted.
      result: what came of it, not yet at DEST.
      destination: DEST.
      report: of the conversion; takes the verification.
      progress: told how far it is.

    Raises:
      VerificationError: the verdict is not pass. The whole report then lies beside DEST.
    """
    # All that parity needs is imported here: a conversion without verification must not pay for it.
    from bridge._parity.options import ParityOptions
    from bridge._parity.results import Verdict
    from bridge._parity.rule import decide
    from bridge._parity.run import parity

    options = ParityOptions(samples=SAMPLES, batch_size=SAMPLES)
    try:
        found = parity(source, result, options, artifacts=destination.parent, progress=progress)
    except UsageError as error:  # such as of HUBBRIDGE_TF1_PYTHON
        error.hint = "; ".join(filter(None, (error.hint, "--no-verify writes DEST without")))
        raise
    except HubBridgeError as error:
        raise VerificationError(
            f"the conversion can't be verified: {error.message}",
            where=error.where,
            hint="--no-verify writes DEST without",
        ) from error
    except OSError as error:  # of temporary files; it is not about DEST
        raise VerificationError(
            f"the conversion can't be verified: {error}", hint="--no-verify writes DEST without"
        ) from error
    found.reference = replace(found.reference, path=report.source)
    found.candidate = replace(found.candidate, path=str(destination))
    found.structure = _with_excuses(found.structure, report, source)
    found.verdict, found.decided_by = decide(found.structure, found.comparisons, found.training)
    report.verification = Verification(
        verdict=found.verdict.value,
        decided_by=found.decided_by,
        runtimes=[f"{runtime.side}: {runtime.name}" for runtime in found.runtimes],
        compared=sum(row.difference is not None for row in found.comparisons),
        not_compared=sum(row.difference is None for row in found.comparisons),
        seconds=found.seconds["total"],
    )
    if found.verdict is Verdict.PASS:
        # What an earlier conversion to the same DEST left here is true no more.
        for path in _beside(destination):
            with contextlib.suppress(OSError):  # such as a directory, which is somebody else's
                path.unlink(missing_ok=True)
    else:
        kept = _keep(found, report.direction, destination)
        where = f"{kept} has the whole comparison" if kept else _UNWRITABLE
        then = "all the same"
        if found.verdict is Verdict.INCONCLUSIVE:
            then = "for `hubbridge parity SOURCE DEST --inputs FILE.npz`, with inputs it takes"
        raise VerificationError(
            f"the conversion was not verified: {found.decided_by}",
            where=Where(destination),
            hint=f"{where}; --no-verify writes DEST {then}",
        )


def _with_excuses(
    checks: Sequence[StructureCheck], report: Report, source: Path
) -> list[StructureCheck]:
    """Returns the checks; what the conversion names as not kept is not compared."""
    from bridge._parity.results import Status

    if all(check.status is not Status.FAIL for check in checks):
        return list(checks)
    updated = _updated_by_notes(report, source)
    return [
        _excused(check, report, updated) if check.status is Status.FAIL else check
        for check in checks
    ]


def _excused(
    check: StructureCheck, report: Report, updated: Mapping[tuple[str, str], str]
) -> StructureCheck:
    reasons = [
        note.reason
        for note in report.not_kept
        if (note.kind, note.name) == (check.check, check.name)
        and note.variant in (None, check.variant)
        and note.signature in (None, check.signature)
    ]
    if check.check == "regularization_loss":
        reasons = _reasons_for_losses(check, report)
    elif check.check == "update_op" and check.candidate == "not updated":
        reason = updated.get((check.variant or "", check.name))
        reasons = [reason] if reason is not None else []
    if not reasons:
        return check
    reason = f"the conversion names it as not kept: {reasons[0]}"
    return replace(check, status=type(check.status).NOT_COMPARABLE, reason=reason)


def _reasons_for_losses(check: StructureCheck, report: Report) -> list[str]:
    """Returns why losses are not kept, if they are as many as the counts differ by."""
    reasons = [
        note.reason
        for note in report.not_kept
        if note.kind == check.check and note.variant in (None, check.variant)
    ]
    lost = int(check.reference) - int(check.candidate)
    return reasons if lost == len(reasons) else []


def _updated_by_notes(report: Report, source: Path) -> dict[tuple[str, str], str]:
    """Returns why variables are not updated: those that only update ops write which are not kept.

    Returns:
      The reasons, by variant and variable.
    """
    notes = {
        (note.variant or "", note.name): note.reason
        for note in report.not_kept
        if note.kind == "update_op"
    }
    if not notes:
        return {}
    from bridge._surfaces.hub_module import variables_by_update_op

    result: dict[tuple[str, str], str] = {}
    kept: set[tuple[str, str]] = set()
    for (variant, name), variables in variables_by_update_op(source).items():
        for variable in variables:
            if (variant, name) in notes:
                result[variant, variable] = notes[variant, name]
            else:
                kept.add((variant, variable))
    return {key: reason for key, reason in result.items() if key not in kept}


def _beside(destination: Path) -> tuple[Path, Path]:
    """Where the report of a conversion that is not verified lies, as a page and as JSON."""
    page, data = (
        destination.with_name(f"{destination.name}.parity.{kind}") for kind in ("html", "json")
    )
    return page, data


def _keep(found: ParityReport, direction: str, destination: Path) -> Path | None:
    """Writes the report beside DEST; returns the file to open, None where none can be written."""
    from bridge._parity.files import write_report
    from bridge._parity.html import render
    from bridge._parity.text import conversion_line

    page, path = _beside(destination)
    convert = conversion_line(direction, found.reference.path, found.candidate.path)
    before = f"# nothing was written to DEST; add the options that the conversion had\n{convert}\n"
    text = json.dumps(found.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    kept = None
    # The verdict must not be lost with a file.
    with contextlib.suppress(DestinationError):
        write_report(path, text + "\n")
        kept = path
    try:
        write_report(page, render(found, before=before))
        kept = page
    except (DestinationError, MissingExtraError):
        with contextlib.suppress(OSError):  # that of an earlier run, which tells of another
            page.unlink(missing_ok=True)
    return kept
