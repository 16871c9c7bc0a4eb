"""Compares how two models train: gradients, regularization losses, variables after some steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
from bridge._parity.rule import ALL, Breach, Tolerance, proves_nothing, training_tolerance, unsteady
from bridge._parity.runners.protocol import Lane, RunnerError, TrainResult, Value
from bridge._surfaces.surface import Call, Computation, Pair, Surface
from bridge.model import TRAIN, Tags, format_tags
from bridge.saved_model.names import TRAINING

STEPS = (1, 3)
"""After how many steps of gradient descent variables are compared."""

RATE = 1e-3

_LOSS = "regularization_loss"

Pick = Callable[[TrainResult], Value | None]
"""Takes one value out of what training gave."""


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
      with_losses: whether the regularization losses of the two are the same ones.
    """

    pair: Pair
    first: Call
    second: Call
    names: Mapping[str, str]
    excused: Mapping[str, str]
    with_losses: bool = True

    def call(self, lane: Lane) -> Call:
        """How the side of a lane is called."""
        return self.first if lane.side == REFERENCE else self.second


def to_train(pairs: Sequence[Pair], reference: Surface, candidate: Surface) -> list[Pair]:
    """Returns the pairs to train: all that may train in another way than the others.

    Where a variant has one for training beside it, the signatures that this one has are trained
    there. But a serving signature of a SavedModel runs no update ops of others, which those of a
    module's variant do: it is trained where there are none. What is known to be another pair
    again, on both sides, is not trained twice.
    """
    forms = {_form(pair, pair.reference.variant): pair for pair in pairs}
    chosen: dict[object, Pair] = {}
    for pair in forms.values():
        variant = pair.reference.variant
        in_training, without = (
            forms.get(_form(pair, v)) for v in (variant | TRAIN, variant - TRAIN)
        )
        if (
            in_training
            and without
            and pair is (without if _has_modes(in_training) else in_training)
        ):
            continue
        origins = _origin(reference, pair.reference), _origin(candidate, pair.candidate)
        chosen.setdefault(origins, pair)
    return list(chosen.values())


def _form(pair: Pair, variant: Tags) -> tuple[Tags, str, str]:
    """What names a pair, or what it is in another variant."""
    return variant, pair.reference.signature, pair.candidate.signature


def _has_modes(pair: Pair) -> bool:
    """Whether both sides are called in another way to train than to infer."""
    return all(side.calls[0].kind != "signature" for side in (pair.reference, pair.candidate))


def _origin(surface: Surface, computation: Computation) -> tuple[Tags, str]:
    """Returns variant and signature of the first of the computations that are this one again."""
    by_key = {(c.variant, c.signature): c for c in surface.computations}
    while computation.same_as is not None:
        computation = by_key[computation.same_as]
    return computation.variant, computation.signature


def training_calls(pair: Pair, reference: Surface, candidate: Surface) -> tuple[Call, Call]:
    """Returns how to call both sides of a pair so that they train on the outputs that both have."""
    first = _training_call(reference, pair.reference)
    second = _training_call(candidate, pair.candidate)
    both = {a: b for a, b in pair.outputs.items() if a in first.outputs and b in second.outputs}
    return (
        replace(first, outputs={name: first.outputs[name] for name in both}),
        replace(second, outputs={name: second.outputs[name] for name in both.values()}),
    )


def _training_call(surface: Surface, computation: Computation) -> Call:
    """Returns how to call a signature so that it trains.

    A module's variant always comes with its update ops, whatever its tags are. So where a
    SavedModel has the same computation with `training=True`, that is what runs them.
    """
    call = computation.calls[0]
    if call.kwargs.get(TRAINING) != {"value": False}:
        return call
    if all(computation is not other for other in surface.computations):
        return call  # with `training=True`, it is another of the further callables
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
        asked = {lane: self.ask(lane, batch) for lane in lanes}
        found = {lane: future.result() for lane, future in asked.items()}
        again = _Again(self, batch, found)
        entries = {pair: list(self._compare(pair, again)) for pair in self.plan.pairs}
        compared = {
            (entry.kind, entry.output)
            for pair in self.plan.pairs
            if pair.first.side != pair.second.side
            for entry in entries[pair]
            if entry.status is Status.PASS
        }
        # What noise hides between two runtimes may have been seen in one of them.
        return [
            replace(entry, excused=entry.excused and (entry.kind, entry.output) not in compared)
            for pair in self.plan.pairs
            for entry in entries[pair]
        ]

    def ask(self, lane: Lane, batch: Batch) -> Future[TrainResult | RunnerError]:
        """Lets a lane train."""
        values = values_for(self.trained.pair, batch, lane)
        return self.crew.train(lane, self.trained.call(lane), values, STEPS, RATE)

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
        entries = (self._entry(lanes, "gradient", ALL) for lanes in self.plan.pairs)
        return [replace(entry, reason=reason) for entry in entries]

    def _compare(self, lanes: LanePair, again: _Again) -> Iterator[Comparison]:
        first, second = again.found[lanes.first], again.found[lanes.second]
        for error in (first, second):
            if isinstance(error, RunnerError):
                yield self._error(lanes, "gradient", error, is_first=error is first)
                return
        assert not isinstance(first, RunnerError)
        assert not isinstance(second, RunnerError)
        own, other = self._variable_names(lanes.first), self._variable_names(lanes.second)
        largest = max(map(_size, first.gradients.values()), default=0.0)
        yield from self._gradients(lanes, first, second, again, largest)
        if self.trained.with_losses and (first.losses or second.losses):
            yield self._losses(lanes, first.losses, second.losses)
        allowed = training_tolerance(self.options, "gradient", across=lanes.across, largest=largest)
        for steps in STEPS:
            for name in self.trained.names:
                what = f"{name} after {steps} step{'s'[: steps > 1]}"
                pick = _variable(own[name], steps)
                a, b = pick(first), _variable(other[name], steps)(second)
                if name in self.trained.excused:
                    entry = self._entry(lanes, "variable", what)
                    yield replace(entry, reason=self.trained.excused[name])
                elif (a is None) != (b is None):
                    lacks = "reference" if a is None else "candidate"
                    entry = self._entry(lanes, "variable", what)
                    reason = f"training of the {lacks} has no such variable"
                    yield replace(entry, status=Status.FAIL, reason=reason)
                elif a is not None:
                    gradient = first.gradients.get(own[name])
                    drift = 0.0
                    if gradient is not None:
                        drift = steps * RATE * allowed.limit(_size(gradient))
                    tolerance = training_tolerance(
                        self.options, "variable", across=lanes.across, drift=drift
                    )
                    entry = self._entry(lanes, "variable", what, tolerance)
                    yield self._measured(entry, lanes, a, b, again, pick)

    def _error(
        self, lanes: LanePair, kind: str, error: RunnerError, *, is_first: bool
    ) -> Comparison:
        # What the reference can't do, such as a gradient that no op has, need not be done.
        excused = is_first and not error.fatal
        status = Status.NOT_COMPARABLE if excused else Status.FAIL
        return replace(self._entry(lanes, kind, ALL), status=status, reason=str(error))

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
        tolerance = training_tolerance(self.options, _LOSS, across=lanes.across)
        entry = self._entry(lanes, _LOSS, ALL, tolerance)
        # No sum over the batch is in them, so that no noise is to be expected.
        return _with_result(entry, Accumulator(tolerance), ours, theirs, "", 0)[0]

    def _gradients(
        self,
        lanes: LanePair,
        first: TrainResult,
        second: TrainResult,
        again: _Again,
        largest: float,
    ) -> Iterator[Comparison]:
        own, other = self._variable_names(lanes.first), self._variable_names(lanes.second)
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
                entry = self._entry(lanes, "gradient", name)
                reason = f"the {has} has a gradient by this variable, the {lacks} has none"
                yield replace(entry, status=Status.FAIL, reason=reason)
                continue
            entry = self._entry(lanes, "gradient", name, tolerance)
            yield self._measured(entry, lanes, a, b, again, pick)

    def _variable_names(self, lane: Lane) -> Mapping[str, str]:
        """A lane's own name of each variable of the reference."""
        return {n: n for n in self.trained.names} if lane.side == REFERENCE else self.trained.names

    def _measured(
        self,
        entry: Comparison,
        lanes: LanePair,
        first: Value,
        second: Value,
        again: _Again,
        pick: Pick,
    ) -> Comparison:
        """Compares two values, unless they prove nothing."""
        tolerance, batch = Tolerance(*entry.tolerance), again.batch
        result, breach = _with_result(
            entry, Accumulator(tolerance), first, second, batch.name, batch.index
        )
        if breach is None:
            return result
        for one, other in again.runs(lanes):
            a, b = pick(one), pick(other)
            if a is None or b is None:
                continue
            noise = Accumulator(tolerance).add(a, b, batch.name, batch.index)
            if noise is not None and proves_nothing(breach, noise):
                return replace(entry, reason=unsteady(noise), noise=noise.max_abs, excused=True)
        return result

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


def _gradient(name: str) -> Pick:
    return lambda result: result.gradients.get(name)


def _variable(name: str, steps: int) -> Pick:
    return lambda result: result.variables[steps].get(name)


def _size(value: Value) -> float:
    """The largest absolute value that is a number."""
    sizes = np.abs(np.asarray(value)).astype(np.float64)
    return float(np.max(sizes, initial=0.0, where=np.isfinite(sizes)))


def _with_result(
    entry: Comparison,
    accumulator: Accumulator,
    first: Value,
    second: Value,
    inputs: str,
    batch: int,
) -> tuple[Comparison, Breach | None]:
    """Compares two values; returns the entry with what came of it, and how they break the rule."""
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
