"""Compares how two models train: gradients, and variables after some steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import numpy as np

from bridge._parity.crew import Crew
from bridge._parity.feed.inputs import Batch
from bridge._parity.lanes import REFERENCE, LanePair, Plan
from bridge._parity.numbers.measure import Accumulator
from bridge._parity.options import ParityOptions
from bridge._parity.outputs import values_for
from bridge._parity.results import Comparison, Status
from bridge._parity.rule import ALL, Tolerance, proves_nothing, training_tolerance, unsteady
from bridge._parity.runners.protocol import Lane, RunnerError, TrainResult, Value
from bridge._parity.training_rows import entry, size_of, with_error, with_result
from bridge._parity.training_ways import TrainedPair

STEPS = (1, 3)
"""After how many steps of gradient descent variables are compared."""

RATE = 1e-3

_LOSS = "regularization_loss"

Pick = Callable[[TrainResult], Value | None]
"""Takes one value out of what training gave."""


@dataclass(frozen=True)
class TrainingComparer:
    """Trains both sides of one pair of signatures on one batch, in all lanes.

    Attributes:
      trained: the signature to train.
      plan: the lanes.
      crew: runs them.
      options: the tolerances.
    """

    trained: TrainedPair
    plan: Plan
    crew: Crew
    options: ParityOptions

    def run(self, batches: Iterable[Batch]) -> list[Comparison]:
        """Trains on the first batch that the reference takes, and whose gradients tell something.

        Args:
          batches: to try in this order.

        Returns:
          An entry for each gradient and variable of each pair of lanes.
        """
        again = self._trained_on(batches)
        if again is None:
            return []
        rows = {pair: list(self._compare(pair, again)) for pair in self.plan.pairs}
        compared = {
            (row.kind, row.output)
            for pair in self.plan.pairs
            if pair.first.side != pair.second.side
            for row in rows[pair]
            if row.status is Status.PASS
        }
        # What noise hides between two runtimes may have been seen in one of them.
        return [
            replace(row, excused=row.excused and (row.kind, row.output) not in compared)
            for pair in self.plan.pairs
            for row in rows[pair]
        ]

    def _trained_on(self, batches: Iterable[Batch]) -> _Again | None:
        """Trains in all lanes; returns what came of the first batch that tells most."""
        lanes = dict.fromkeys(n for pair in self.plan.pairs for n in (pair.first, pair.second))
        taken: _Again | None = None
        refused: _Again | None = None
        for batch in batches if lanes else ():
            asked = {lane: self.ask(lane, batch) for lane in lanes}
            again = _Again(self, batch, {lane: future.result() for lane, future in asked.items()})
            lane = next((lane for lane in lanes if lane.side == REFERENCE), None)
            if lane is None:
                return again
            found = again.found[lane]
            if not isinstance(found, RunnerError):
                if _is_telling(found):
                    return again
                taken = taken or again
            elif found.fatal or self._takes(lane, batch):
                # What it computes and can't be trained on, no other batch helps to train.
                return taken or again
            else:
                refused = refused or again
        return taken or refused

    def _takes(self, lane: Lane, batch: Batch) -> bool:
        """Whether a lane computes a batch."""
        values = values_for(self.trained.pair, batch, lane)
        computed = self.crew.run(lane, self.trained.call(lane), values).result()
        return not isinstance(computed, RunnerError)

    def ask(self, lane: Lane, batch: Batch) -> Future[TrainResult | RunnerError]:
        """Lets a lane train."""
        values = values_for(self.trained.pair, batch, lane)
        return self.crew.train(lane, self.trained.call(lane), values, STEPS, RATE)

    def listed(self, reason: str) -> list[Comparison]:
        """Returns the entries that say why nothing could be trained."""
        rows = (self._entry(lanes, "gradient", ALL) for lanes in self.plan.pairs)
        return [replace(row, reason=reason) for row in rows]

    def _compare(self, lanes: LanePair, again: _Again) -> Iterator[Comparison]:
        first, second = again.found[lanes.first], again.found[lanes.second]
        for error in (first, second):
            if isinstance(error, RunnerError):
                row = self._entry(lanes, "gradient", ALL)
                yield with_error(row, error, is_first=error is first)
                return
        assert not isinstance(first, RunnerError)
        assert not isinstance(second, RunnerError)
        own = self.trained.variable_names(lanes.first)
        other = self.trained.variable_names(lanes.second)
        largest = max(map(size_of, first.gradients.values()), default=0.0)
        yield from self._gradients(lanes, first, second, again, largest)
        allowed = training_tolerance(self.options, "gradient", across=lanes.across, largest=largest)
        for steps in STEPS:
            for name in self.trained.names:
                what = f"{name} after {steps} step{'s'[: steps > 1]}"
                pick = _variable(own[name], steps)
                a, b = pick(first), _variable(other[name], steps)(second)
                if name in self.trained.excused:
                    row = self._entry(lanes, "variable", what)
                    yield replace(row, reason=self.trained.excused[name])
                elif (a is None) != (b is None):
                    lacks = "reference" if a is None else "candidate"
                    row = self._entry(lanes, "variable", what)
                    reason = f"training of the {lacks} has no such variable"
                    yield replace(row, status=Status.FAIL, reason=reason)
                elif a is not None:
                    gradient = first.gradients.get(own[name])
                    drift = 0.0
                    if gradient is not None:
                        drift = steps * RATE * allowed.limit(size_of(gradient))
                    tolerance = training_tolerance(
                        self.options, "variable", across=lanes.across, drift=drift
                    )
                    row = self._entry(lanes, "variable", what, tolerance)
                    yield self._measured(row, lanes, a, b, again, pick)

    def _gradients(
        self,
        lanes: LanePair,
        first: TrainResult,
        second: TrainResult,
        again: _Again,
        largest: float,
    ) -> Iterator[Comparison]:
        own = self.trained.variable_names(lanes.first)
        other = self.trained.variable_names(lanes.second)
        tolerance = training_tolerance(
            self.options, "gradient", across=lanes.across, largest=largest
        )
        for name in self.trained.names:
            pick = _gradient(own[name])
            a, b = pick(first), _gradient(other[name])(second)
            if a is None and b is None:
                continue
            if a is None or b is None:
                has, lacks = ("candidate", "reference") if a is None else ("reference", "candidate")
                row = self._entry(lanes, "gradient", name)
                reason = f"the {has} has a gradient by this variable, the {lacks} has none"
                yield replace(row, status=Status.FAIL, reason=reason)
                continue
            row = self._entry(lanes, "gradient", name, tolerance)
            yield self._measured(row, lanes, a, b, again, pick)

    def _measured(
        self,
        row: Comparison,
        lanes: LanePair,
        first: Value,
        second: Value,
        again: _Again,
        pick: Pick,
    ) -> Comparison:
        """Compares two values, unless they prove nothing."""
        tolerance, batch = Tolerance(*row.tolerance), again.batch
        result, breach = with_result(row, first, second, batch.name, batch.index)
        if breach is None:
            return result
        for one, other in again.runs(lanes):
            a, b = pick(one), pick(other)
            if a is None or b is None:
                continue
            noise = Accumulator(tolerance).add(a, b, batch.name, batch.index)
            if noise is not None and proves_nothing(breach, noise):
                return replace(row, reason=unsteady(noise), noise=noise.max_abs, excused=True)
        return result

    def _entry(
        self, lanes: LanePair, kind: str, name: str, tolerance: Tolerance | None = None
    ) -> Comparison:
        return entry(self.trained, self.crew, lanes, kind, name, tolerance)


@dataclass
class _Again:
    """What training gave, and how far the reference is from itself when it trains otherwise.

    Attributes:
      comparer: of the signature.
      batch: what was fed.
      found: what each lane gave.
    """

    comparer: TrainingComparer
    batch: Batch
    found: Mapping[Lane, TrainResult | RunnerError]
    _again: dict[Lane, TrainResult | RunnerError] = field(default_factory=dict, init=False)

    def runs(self, lanes: LanePair) -> Iterator[tuple[TrainResult, TrainResult]]:
        """Yields results of the reference that would be one, if rounding were none.

        Across releases those are its own in both, where both run it; then those in one release
        with other thread settings, for which it trains again.
        """
        wanted = lanes.first
        if wanted.side != REFERENCE:
            return
        if lanes.second.side != REFERENCE and wanted.runtime != lanes.second.runtime:
            for lane in self.found:
                there = (REFERENCE, wanted.device, lanes.second.runtime)
                if (lane.side, lane.device, lane.runtime) == there:
                    yield from self._both(self.found[wanted], self.found[lane])
        # TensorFlow 1.x does not train again; how steady a model is, today's tells as well.
        for lane, again in self.comparer.plan.again.items():
            if lane.device == wanted.device and lane in self.found:
                yield from self._both(self.found[lane], self._train(again))

    def _both(
        self, *results: TrainResult | RunnerError
    ) -> Iterator[tuple[TrainResult, TrainResult]]:
        first, second = results
        if not isinstance(first, RunnerError) and not isinstance(second, RunnerError):
            yield first, second

    def _train(self, lane: Lane) -> TrainResult | RunnerError:
        if lane not in self._again:
            self._again[lane] = self.comparer.ask(lane, self.batch).result()
        return self._again[lane]


def _is_telling(result: TrainResult) -> bool:
    """Whether gradients are numbers, and not all of them zero, or there are none on any batch."""
    gradients = [np.asarray(gradient) for gradient in result.gradients.values()]
    if not gradients:
        return True
    are_numbers = all(bool(np.all(np.isfinite(gradient))) for gradient in gradients)
    return are_numbers and any(bool(np.any(gradient)) for gradient in gradients)


def _gradient(name: str) -> Pick:
    return lambda result: result.gradients.get(name)


def _variable(name: str, steps: int) -> Pick:
    return lambda result: result.variables[steps].get(name)
