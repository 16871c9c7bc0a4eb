"""Proves a conversion before DEST appears: runs both models and compares them."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.errors import HubBridgeError, MissingExtraError, VerificationError, Where
from bridge.report import Report, Verification

if TYPE_CHECKING:
    from bridge._parity.results import ParityReport, StructureCheck

SWITCH = "HUBBRIDGE_VERIFY"
"""Environment variable: `1` turns verification on where nobody says otherwise."""

SAMPLES = 2
"""How many generated inputs of each kind a signature is run with."""


def should_verify(verify: bool | None) -> bool:
    """Whether to verify: as asked for, else as the environment says.

    Raises:
      MissingExtraError: it is asked for, and TensorFlow is not installed.
    """
    wanted = os.environ.get(SWITCH) == "1" if verify is None else verify
    if wanted and importlib.util.find_spec("tensorflow") is None:
        raise MissingExtraError(
            "verification needs TensorFlow", hint="pip install 'hubbridge[parity]'"
        )
    return wanted


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
    except HubBridgeError as error:
        raise VerificationError(
            f"the conversion can't be verified: {error.message}",
            where=error.where,
            hint="--no-verify writes DEST without",
        ) from error
    found.reference = replace(found.reference, path=report.source)
    found.candidate = replace(found.candidate, path=str(destination))
    found.structure = [_excused(check, report) for check in found.structure]
    found.verdict, found.decided_by = decide(found.structure, found.comparisons, found.training)
    report.verification = Verification(
        verdict=found.verdict.value,
        decided_by=found.decided_by,
        runtimes=[f"{runtime.side}: {runtime.name}" for runtime in found.runtimes],
        compared=sum(row.difference is not None for row in found.comparisons),
        not_compared=sum(row.difference is None for row in found.comparisons),
        seconds=found.seconds["total"],
    )
    if found.verdict is not Verdict.PASS:
        kept = _keep(found, destination)
        raise VerificationError(
            f"the conversion was not verified: {found.decided_by}",
            where=Where(destination),
            hint=f"{kept} has the whole comparison; --no-verify writes DEST all the same",
        )


def _excused(check: StructureCheck, report: Report) -> StructureCheck:
    """A thing that the conversion names as not kept is not compared."""
    from bridge._parity.results import Status

    if check.status is not Status.FAIL:
        return check
    for note in report.not_kept:
        if (
            (note.kind, note.name) == (check.check, check.name)
            and note.variant in (None, check.variant)
            and note.signature in (None, check.signature)
        ):
            reason = f"the conversion names it as not kept: {note.reason}"
            return replace(check, status=Status.NOT_COMPARABLE, reason=reason)
    return check


def _keep(found: ParityReport, destination: Path) -> Path:
    """Writes the report beside DEST; returns the file to open."""
    text = json.dumps(found.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    path = destination.with_name(f"{destination.name}.parity.json")
    path.write_text(text + "\n", encoding="utf-8")
    from bridge._parity.html import render

    page = destination.with_name(f"{destination.name}.parity.html")
    page.write_text(render(found), encoding="utf-8")
    return page
