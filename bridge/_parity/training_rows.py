"""The entries of a report that say how training went."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bridge._parity.crew import Crew
from bridge._parity.lanes import LanePair
from bridge._parity.numbers.measure import Accumulator
from bridge._parity.results import Comparison, Status
from bridge._parity.rule import ALL, Breach, Tolerance
from bridge._parity.runners.protocol import RunnerError, Value
from bridge._parity.training_ways import TrainedPair
from bridge.model import format_tags


def size_of(value: Value) -> float:
    """The largest absolute value that is a number."""
    sizes = np.abs(np.asarray(value)).astype(np.float64)
    return float(np.max(sizes, initial=0.0, where=np.isfinite(sizes)))


def entry(
    trained: TrainedPair,
    crew: Crew,
    lanes: LanePair,
    kind: str,
    name: str = ALL,
    tolerance: Tolerance | None = None,
) -> Comparison:
    """Returns an entry of what is not compared yet."""
    tolerance = tolerance or Tolerance(0.0)
    return Comparison(
        kind=kind,
        reference_runtime=crew.name(lanes.first),
        candidate_runtime=crew.name(lanes.second),
        device=lanes.second.device,
        reference_device=lanes.first.device,
        variant=format_tags(trained.pair.reference.variant),
        signature=trained.pair.reference.signature,
        output=name,
        status=Status.NOT_COMPARABLE,
        through=(trained.call(lanes.first).label, trained.call(lanes.second).label),
        tolerance=(tolerance.rtol, tolerance.atol),
    )


def with_error(entry: Comparison, error: RunnerError, *, is_first: bool) -> Comparison:
    """Returns the entry of what a side could not do.

    What the reference can't do, such as a gradient that no op has, need not be done.
    """
    excused = is_first and not error.fatal
    status = Status.NOT_COMPARABLE if excused else Status.FAIL
    return replace(entry, status=status, reason=str(error))


def with_result(
    entry: Comparison, first: Value, second: Value, inputs: str = "", batch: int = 0
) -> tuple[Comparison, Breach | None]:
    """Compares two values by the tolerance of an entry.

    Returns:
      The entry with what came of it, and how they break the rule.
    """
    accumulator = Accumulator(Tolerance(*entry.tolerance))
    breach = accumulator.add(first, second, inputs, batch)
    measured = accumulator.result()
    compared = replace(
        entry,
        status=measured.status,
        reason=measured.reason,
        limit=measured.limit,
        difference=measured.difference,
    )
    return compared, breach
