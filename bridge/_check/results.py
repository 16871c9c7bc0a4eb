"""What a check found. docs/check.md describes the JSON form."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass
from typing import Any

SCHEMA = "hubbridge/check-report"
SCHEMA_VERSION = 1


class ClauseStatus(str, enum.Enum):
    """What became of a clause; a member is its own text in JSON."""

    HOLDS = "holds"
    BROKEN = "broken"
    DOES_NOT_APPLY = "does not apply"


@dataclass(frozen=True)
class Breach:
    """One place where a clause is broken.

    Attributes:
      found: what was found, one sentence without a full stop.
      mend: what to do about it, likewise.
      variant: tags of the variant, as `format_tags` prints them; None where it is the model's.
      signature: name of the signature; None where it belongs to none.
      called: how a SavedModel's user calls it, such as `__call__(training=True)`; None in a module.
      name: the input, output or variable; None where it is none of them.
      node: name of the graph node; None where there is none.
    """

    found: str
    mend: str
    variant: str | None = None
    signature: str | None = None
    called: str | None = None
    name: str | None = None
    node: str | None = None


@dataclass(frozen=True)
class ClauseResult:
    """One clause, judged for the whole model.

    Attributes:
      id: such as `IMG05`; docs/check.md explains each.
      title: what it asks for.
      status: what became of it.
      reason: what was looked at, or why the clause does not apply; one sentence.
      breaches: where it is broken.
    """

    id: str
    title: str
    status: ClauseStatus
    reason: str
    breaches: tuple[Breach, ...] = ()


@dataclass(frozen=True)
class CheckReport:
    """All that a check found.

    Attributes:
      path: the model, as the user gave it.
      format: `TF1 Hub module` or `TF2 SavedModel`.
      producer: the TensorFlow release that wrote it, as it says.
      clauses: one for each clause that was asked for, in the order of docs/check.md.
      remarks: what could not be judged, one sentence each.
    """

    path: str
    format: str
    producer: str
    clauses: tuple[ClauseResult, ...]
    remarks: tuple[str, ...] = ()

    @property
    def broken(self) -> tuple[ClauseResult, ...]:
        """The clauses that are broken."""
        return tuple(c for c in self.clauses if c.status is ClauseStatus.BROKEN)

    @property
    def applies(self) -> bool:
        """Whether any clause has something to say about the model."""
        return any(c.status is not ClauseStatus.DOES_NOT_APPLY for c in self.clauses)

    def to_dict(self) -> dict[str, Any]:
        """Returns what `--json` prints."""
        clauses = [
            asdict(clause)
            | {"status": clause.status.value, "breaches": list(map(asdict, clause.breaches))}
            for clause in self.clauses
        ]
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            **asdict(self),
            "clauses": clauses,
            "remarks": list(self.remarks),
        }
