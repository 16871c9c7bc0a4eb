"""What tests ask of a report."""

from __future__ import annotations

from bridge import Breach, CheckReport, ClauseResult, ClauseStatus

HOLDS = ClauseStatus.HOLDS
BROKEN = ClauseStatus.BROKEN
NOT_APPLICABLE = ClauseStatus.DOES_NOT_APPLY


def line(report: CheckReport, clause: str) -> ClauseResult:
    """Returns what became of a clause."""
    return next(one for one in report.clauses if one.id == clause)


def statuses(report: CheckReport) -> dict[str, ClauseStatus]:
    """Returns the status of each clause."""
    return {clause.id: clause.status for clause in report.clauses}


def broken(report: CheckReport) -> set[str]:
    """Returns the ids of the broken clauses."""
    return {clause.id for clause in report.broken}


def places(breaches: tuple[Breach, ...]) -> set[tuple[str | None, str | None, str | None]]:
    """Returns variant, signature and name of each breach."""
    return {(breach.variant, breach.signature, breach.name) for breach in breaches}
