"""Compares how two models train: gradients, regularization losses, variables after some steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bridge._parity.crew import Crew
from bridge._parity.feed.inputs import Batch
from bridge._parity.lanes import REFERENCE, LanePair, Plan
from bridge._parity.numbers.measure import Accumulator
from bridge._parity.options import ParityOptions
from bridge._parity.outputs import values_for
from bridge._parity.results import Comparison, Status
from bridge._parity.rule import Tolerance, training_tolerance
from bridge._parity.runners.protocol import Lane, RunnerError, TrainResult, Value
from bridge._surfaces.surface import Call, Computation, Pair, Surface
from bridge.model import format_tags
from bridge.saved_model.names import TRAINING

STEPS = (1, 3)
"""After how many steps of gradient descent variables are compared."""

RATE = 1e-3

_LOSS = "regularization_loss"


@dataclass(frozen=True)
class TrainedPair:
    """What is trained.

    Attributes:
      pair: the signature.
      first: how the reference is called.
      second: how the candidate is.
      names: the candidate's name of each variable of the reference.
      excused: why the value of a variable can't be compared after training, by its name in the
        reference.
    """

    pair: Pair
    first: Call
    second: Call
    names: Mapping[str, str]
    excused: Mapping[str, str]

    def call(self, lane: Lane) -> Call:
        """How the side of a lane is called."""
        return self.first if lane.side == REFERENCE else self.second


def training_call(surface: Surface, computation: Computation) -> Call:
    """Returns how to call a signature so that it trains.

    A module's variant always comes with its update ops, whatever its tags are. So where a
    SavedModel has the same computation with `training=True`, that is what runs them.
    """
    call = computation.calls[0]
    if call.kwargs.get(TRAINING) != {"value": False}:
        return call
    key = (computation.variant, computation.signature)
    if any(other.same_as == key for other in surface.computations) or "." in call.name:
        return replace(call, kwargs={**call.kwargs, TRAINING: {"value": True}})
    return call


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

    def run(self, batch: Batch) -> list[Comparison]:
        """Returns an entry for each gradient, loss and variable of each pair of lanes."""
        lanes = {lane for pair in self.plan.pairs for lane in (pair.first, pair.second)}
        asked = {}
        for lane in lanes:
            values = values_for(self.trained.pair, batch, lane)
            asked[lane] = self.crew.train(lane, self.trained.call(lane), values, STEPS, RATE)
        found = {lane: future.result() for lane, future in asked.items()}
        return [
            entry
            for pair in self.plan.pairs
            for entry in self._compare(pair, found[pair.first], found[pair.second], batch)
        ]

    def losses(self) -> list[Comparison]:
        """Returns an entry for the regularization losses of each pair of lanes.

        They need no training, for they are made of variables alone. The hub.Module of TensorFlow 1
        has them only where it trains, so its lanes are left to `run`.
        """
        pairs = [p for p in self.plan.pairs if {p.first.runtime, p.second.runtime} == {"tf2"}]
        lanes = {lane for pair in pairs for lane in (pair.first, pair.second)}
        asked = {lane: self.crew.losses(lane, self.trained.call(lane)) for lane in lanes}
        found = {lane: future.result() for lane, future in asked.items()}
        return [self._losses(pair, found[pair.first], found[pair.second]) for pair in pairs]

    def listed(self, reason: str) -> list[Comparison]:
        """Returns the entries that say why nothing could be trained."""
        entries = (self._entry(lanes, "gradient", "all") for lanes in self.plan.pairs)
        return [replace(entry, reason=reason) for entry in entries]

    def _compare(
        self,
        lanes: LanePair,
        first: TrainResult | RunnerError,
        second: TrainResult | RunnerError,
        batch: Batch,
    ) -> Iterator[Comparison]:
        for error in (first, second):
            if isinstance(error, RunnerError):
                yield self._error(lanes, "gradient", error, is_first=error is first)
                return
        assert not isinstance(first, RunnerError)
        assert not isinstance(second, RunnerError)
        own, other = self._variable_names(lanes.first), self._variable_names(lanes.second)
        yield from self._gradients(lanes, first, second, batch, own, other)
        if first.losses or second.losses:
            yield self._losses(lanes, first.losses, second.losses)
        for steps in STEPS:
            befores, afters = first.variables[steps], second.variables[steps]
            for name in self.trained.names:
                what = f"{name} after {steps} step{'s'[: steps > 1]}"
                a, b = befores.get(own[name]), afters.get(other[name])
                if name in self.trained.excused:
                    entry = self._entry(lanes, "variable", what)
                    yield replace(entry, reason=self.trained.excused[name])
                elif (a is None) != (b is None):
                    lacks = "reference" if a is None else "candidate"
                    entry = self._entry(lanes, "variable", what)
                    reason = f"training of the {lacks} has no such variable"
                    yield replace(entry, status=Status.FAIL, reason=reason)
                elif a is not None:
                    yield self._measure(lanes, "variable", what, a, b, batch)

    def _error(
        self, lanes: LanePair, kind: str, error: RunnerError, *, is_first: bool
    ) -> Comparison:
        # What the reference can't do, such as a gradient that no op has, need not be done.
        excused = is_first and not error.fatal
        status = Status.NOT_COMPARABLE if excused else Status.FAIL
        return replace(self._entry(lanes, kind, "all"), status=status, reason=str(error))

    def _losses(
        self,
        lanes: LanePair,
        first: Sequence[float] | RunnerError,
        second: Sequence[float] | RunnerError,
    ) -> Comparison:
        for losses in (first, second):
            if isinstance(losses, RunnerError):
                return self._error(lanes, _LOSS, losses, is_first=losses is first)
        ours, theirs = (np.sort(np.asarray(losses, np.float32)) for losses in (first, second))
        return self._measure(lanes, _LOSS, "all", ours, theirs, None)

    def _gradients(
        self,
        lanes: LanePair,
        first: TrainResult,
        second: TrainResult,
        batch: Batch,
        own: Mapping[str, str],
        other: Mapping[str, str],
    ) -> Iterator[Comparison]:
        sizes = [float(np.max(np.abs(g))) for g in first.gradients.values() if np.size(g)]
        largest = max(sizes, default=0.0)
        for name in self.trained.names:
            a, b = first.gradients.get(own[name]), second.gradients.get(other[name])
            if a is None and b is None:
                continue
            if a is None or b is None:
                has, lacks = ("candidate", "reference") if a is None else ("reference", "candidate")
                entry = self._entry(lanes, "gradient", name)
                reason = f"the {has} has a gradient by this variable, the {lacks} has none"
                yield replace(entry, status=Status.FAIL, reason=reason)
                continue
            yield self._measure(lanes, "gradient", name, a, b, batch, largest)

    def _variable_names(self, lane: Lane) -> Mapping[str, str]:
        """A lane's own name of each variable of the reference."""
        return {n: n for n in self.trained.names} if lane.side == REFERENCE else self.trained.names

    def _measure(
        self,
        lanes: LanePair,
        kind: str,
        name: str,
        first: Value,
        second: Value,
        batch: Batch | None,
        largest: float = 0.0,
    ) -> Comparison:
        tolerance = training_tolerance(self.options, kind, across=lanes.across, largest=largest)
        accumulator = Accumulator(tolerance)
        accumulator.add(first, second, batch.name if batch else "", batch.index if batch else 0)
        measured = accumulator.result()
        return replace(
            self._entry(lanes, kind, name, tolerance),
            status=measured.status,
            reason=measured.reason,
            limit=measured.limit,
            difference=measured.difference,
        )

    def _entry(
        self, lanes: LanePair, kind: str, name: str, tolerance: Tolerance | None = None
    ) -> Comparison:
        tolerance = tolerance or Tolerance(0.0)
        labels = [self.trained.call(lane).label for lane in (lanes.first, lanes.second)]
        return Comparison(
            kind=kind,
            reference_runtime=self.crew.name(lanes.first),
            candidate_runtime=self.crew.name(lanes.second),
            device=lanes.second.device,
            reference_device=lanes.first.device,
            variant=format_tags(self.trained.pair.reference.variant),
            signature=self.trained.pair.reference.signature,
            output=name,
            status=Status.NOT_COMPARABLE,
            through=(labels[0], labels[1]),
            tolerance=(tolerance.rtol, tolerance.atol),
        )
