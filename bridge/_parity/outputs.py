"""Compares the outputs of two models, batch by batch, in memory that does not grow."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from bridge._parity.crew import Crew
from bridge._parity.feed.inputs import Batch
from bridge._parity.lanes import REFERENCE, Plan
from bridge._parity.numbers.measure import Accumulator, Measured
from bridge._parity.options import ParityOptions
from bridge._parity.results import Comparison, Status
from bridge._parity.routes import Route, routes
from bridge._parity.rule import Breach, Tolerance, proves_nothing, tolerance_for, unsteady
from bridge._parity.runners.protocol import Lane, RunnerError, Value, Values
from bridge._parity.runners.segments import Results
from bridge._surfaces.surface import Call, Pair
from bridge.model import format_tags

CLASSIFICATION = "image_classification"
"""The common signature whose output holds a score for each class."""

NOISE_BATCHES = 2
"""How many batches of a signature tell how far the reference is from itself: one and a full one.

Each further batch that fails does so too."""

WAYS_BATCHES = 2
"""On how many batches of a set a model is called in all ways: one and a full one.

On all of many photos it would run several times, only to say the same."""

PHOTOS = "photos"
"""Name of the set of photos."""

MAIN = "default"
"""The output that a module's users look at first, where there is one of that name."""

Outputs = Results | RunnerError
Key = tuple[Lane, int]
"""A lane, and the id of a Call of the pair."""

Asked = dict[Key, Future[Outputs]]


@dataclass
class _Tally:
    """What was seen of one output on one route; the names are those of `Route.outputs`.

    Attributes:
      batches: how many were compared.
      failure: why no batch can pass any more; empty where there is no such reason.
      refused: how many batches the reference refused.
      refusal: what it said first.
      unsteady: how many failed, and proved nothing because the reference differs from itself.
      noise: how it does, where it does so most.
      failed_on: the first batch that failed.
    """

    route: Route
    names: tuple[str, str, str]
    tolerance: Tolerance
    accumulator: Accumulator
    batches: int = 0
    failure: str = ""
    refused: int = 0
    refusal: str = ""
    unsteady: int = 0
    noise: Breach | None = None
    failed_on: Batch | None = None

    def aside(self) -> str:
        """Says why batches could not be compared, and how many where others could."""
        reasons = []
        total = self.batches + self.refused + self.unsteady
        for count, reason in (
            (self.refused, self.refusal),
            (self.unsteady, unsteady(self.noise) if self.noise else ""),
        ):
            if count:
                how_many = f"{count} of {total} batches could not be compared: "
                reasons.append(f"{how_many}{reason}" if count < total else reason)
        return "; ".join(reasons)


@dataclass(frozen=True)
class Failure:
    """Where a pair of signatures failed.

    Attributes:
      pair: the signatures, each with one way to call it, and with the outputs that failed so.
      batch: the first batch on which one of them did.
      tolerance: of that output, in one TensorFlow on one device.
    """

    pair: Pair
    batch: Batch
    tolerance: Tolerance


@dataclass
class OutputComparer:
    """Compares one pair of signatures in all lanes.

    Attributes:
      pair: the signatures.
      plan: the lanes.
      crew: runs them.
      options: the tolerances.
      not_comparable: why outputs can't be compared, by their names in the reference: random ops
        act on them that nothing pins.
      seconds: what comparing took.
    """

    pair: Pair
    plan: Plan
    crew: Crew
    options: ParityOptions
    not_comparable: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._main = self.pair.reference.calls[0]
        self.routes = [route for lanes in self.plan.pairs for route in routes(self.pair, lanes)]
        outputs = self.pair.outputs
        self._shown = {MAIN} if MAIN in outputs else set(outputs)
        self._tallies = [
            self._tally(route, names) for route in self.routes for names in route.outputs
        ]
        self._noise: dict[tuple[str, str], Accumulator] = {}

    def run(self, batches: Iterator[Batch]) -> list[Comparison]:
        """Runs all batches in all lanes; returns an entry for each output of each route."""
        if all(tally.names[0] in self.not_comparable for tally in self._tallies):
            return [self._entry(tally) for tally in self._tallies]
        waiting: tuple[Batch, Asked] | None = None
        for number, batch in enumerate(batches):
            # The next batch is under way while this process compares the last one.
            asked = self._ask(batch, with_noise=number < NOISE_BATCHES)
            if waiting:
                self._compare(*waiting)
            waiting = batch, asked
        if waiting:
            self._compare(*waiting)
        return [self._entry(tally) for tally in self._tallies]

    def first_failure(self) -> Failure | None:
        """Returns the first failure; one of the reference against the candidate, if there is any.

        Where only two devices differ, both models are called in their main ways.
        """
        failed = [t for t in self._tallies if t.failed_on]
        first = next((t for t in failed if t.route.lanes.first.side != t.route.lanes.second.side),
                     next(iter(failed), None))  # fmt: skip
        if first is None or first.failed_on is None:
            return None
        ours, theirs = self.pair.reference, self.pair.candidate
        route = first.route
        calls = route.first, route.second
        if route.lanes.first.side == route.lanes.second.side:
            calls = ours.calls[0], theirs.calls[0]
        names = {t.names[0] for t in failed if t.route is route}
        outputs = {name: self.pair.outputs[name] for name in self.pair.outputs if name in names}
        narrowed = Pair(
            replace(ours, calls=calls[:1], outputs={n: ours.outputs[n] for n in outputs}),
            replace(
                theirs, calls=calls[1:], outputs={n: theirs.outputs[n] for n in outputs.values()}
            ),
            self.pair.inputs,
            outputs,
        )
        tolerance = tolerance_for(self.options, ours.signature, first.names[0], across=False)
        return Failure(narrowed, first.failed_on, tolerance)

    def _tally(self, route: Route, names: tuple[str, str, str]) -> _Tally:
        signature = self.pair.reference.signature
        tolerance = tolerance_for(self.options, signature, names[0], across=route.lanes.across)
        accumulator = Accumulator(
            tolerance,
            dtype=self.pair.reference.outputs[names[0]].dtype,
            classification=signature == CLASSIFICATION,
        )
        return _Tally(route, names, tolerance, accumulator)

    # -- running ----------------------------------------------------------------------------------

    def _ask(self, batch: Batch, *, with_noise: bool) -> Asked:
        asked: Asked = {}
        for route in self.routes:
            if not self._takes(route, batch):
                continue
            self._run(asked, batch, route.lanes.first, route.first)
            self._run(asked, batch, route.lanes.second, route.second)
        if with_noise:
            for again in self.plan.again.values():
                self._run(asked, batch, again, self._main)
        return asked

    def _takes(self, route: Route, batch: Batch) -> bool:
        return route.needed or batch.index < WAYS_BATCHES

    def _run(self, asked: Asked, batch: Batch, lane: Lane, call: Call) -> Future[Outputs]:
        """Lets a lane compute a batch, if that was not asked of it yet."""
        key = lane, id(call)
        if key not in asked:
            # What the first lane of all returned needs no way here a second time.
            known = next(iter(asked.values()), None)
            own, first = self._names(lane), self._names(self.routes[0].lanes.first)
            asked[key] = self.crew.run(
                lane,
                call,
                values_for(self.pair, batch, lane),
                known,
                {own[name]: first[name] for name in self.pair.outputs},
            )
        return asked[key]

    def _names(self, lane: Lane) -> Mapping[str, str]:
        """What a side calls each output of the reference."""
        outputs = self.pair.outputs
        return {n: n for n in outputs} if lane.side == REFERENCE else outputs

    # -- comparing --------------------------------------------------------------------------------

    def _compare(self, batch: Batch, asked: Asked) -> None:
        for future in asked.values():
            future.result()
        start = time.monotonic()
        self._note_noise(batch, asked)
        for tally in self._tallies:
            comparable = tally.names[0] not in self.not_comparable
            if comparable and self._takes(tally.route, batch):
                self._compare_output(batch, asked, tally)
        self.seconds += time.monotonic() - start

    def _compare_output(self, batch: Batch, asked: Asked, tally: _Tally) -> None:
        _, name, other = tally.names
        route = tally.route
        first = asked[route.lanes.first, id(route.first)].result()
        second = asked[route.lanes.second, id(route.second)].result()
        if isinstance(first, RunnerError):
            if first.fatal:
                tally.failure = tally.failure or str(first)
            else:
                # What the reference refuses, the candidate need not compute.
                tally.refused += 1
                tally.refusal = tally.refusal or str(first)
        elif isinstance(second, RunnerError):
            tally.failure = tally.failure or str(second)
        elif name not in first or other not in second:
            side, key = ("reference", name) if name not in first else ("candidate", other)
            tally.failure = tally.failure or f"the {side} returned no output {key!r}"
        else:
            self._measure(batch, asked, tally, first[name], second[other])
        if tally.failed_on is None and (tally.failure or tally.accumulator.failed):
            tally.failed_on = batch

    def _measure(
        self, batch: Batch, asked: Asked, tally: _Tally, first: Value, second: Value
    ) -> None:
        """Adds the values of a batch, unless they prove nothing."""
        # What failed before fails whatever comes of this batch, and what is the same can't fail.
        may_fail = not tally.accumulator.failed and first is not second
        before = copy.deepcopy(tally.accumulator) if may_fail else None
        photos = len(batch.files) if batch.name == PHOTOS and tally.names[0] in self._shown else 0
        breach = tally.accumulator.add(first, second, batch.name, batch.index, photos=photos)
        if breach and before is not None:
            noise = self._noise_of(batch, asked, tally)
            if noise and proves_nothing(breach, noise):
                tally.accumulator = before
                tally.unsteady += 1
                if tally.noise is None or noise.rank > tally.noise.rank:
                    tally.noise = noise
                return
        tally.batches += 1

    # -- noise ------------------------------------------------------------------------------------

    def _note_noise(self, batch: Batch, asked: Asked) -> None:
        """Compares the reference with itself where it was run again."""
        for lane, again in self.plan.again.items():
            if (again, id(self._main)) in asked:
                self._again(batch, asked, lane, self._main)

    def _again(self, batch: Batch, asked: Asked, lane: Lane, call: Call) -> None:
        """Adds how far the outputs of a call are from those of the same call, run again."""
        first = asked[lane, id(call)].result()
        second = asked[self.plan.again[lane], id(call)].result()
        if isinstance(first, RunnerError) or isinstance(second, RunnerError):
            return
        signature = self.pair.reference.signature
        for name in first.keys() & second.keys():
            key = lane.device, name
            if key not in self._noise:
                tolerance = tolerance_for(self.options, signature, name, across=False)
                self._noise[key] = Accumulator(tolerance)
            self._noise[key].add(first[name], second[name], batch.name, batch.index)

    def _noise_of(self, batch: Batch, asked: Asked, tally: _Tally) -> Breach | None:
        """How the reference breaks the rule against itself, in one output of one batch."""
        route, name = tally.route, tally.names[1]
        wanted = route.lanes.first
        # TensorFlow 1.x is not run again; how steady a model is, today's tells as well.
        lane = next(
            (
                one
                for one in self.plan.again
                if (one.side, one.device) == (wanted.side, wanted.device)
            ),
            None,
        )
        if lane is None or (lane, id(route.first)) not in asked:
            return None
        again = self.plan.again[lane]
        was_run = (again, id(route.first)) in asked
        second = self._run(asked, batch, again, route.first).result()
        if not was_run:
            self._again(batch, asked, lane, route.first)
        first = asked[lane, id(route.first)].result()
        if isinstance(first, RunnerError) or isinstance(second, RunnerError):
            return None
        if name not in first or name not in second:
            return None
        return Accumulator(tally.tolerance).add(first[name], second[name], batch.name, batch.index)

    # -- results ----------------------------------------------------------------------------------

    def _entry(self, tally: _Tally) -> Comparison:
        route, names = tally.route, tally.names
        lanes = route.lanes
        entry = Comparison(
            kind="output",
            reference_runtime=self.crew.name(lanes.first),
            candidate_runtime=self.crew.name(lanes.second),
            device=lanes.second.device,
            reference_device=lanes.first.device,
            variant=format_tags(self.pair.reference.variant),
            signature=self.pair.reference.signature,
            output=names[0],
            status=Status.NOT_COMPARABLE,
            through=(route.first.label, route.second.label),
            tolerance=(tally.tolerance.rtol, tally.tolerance.atol),
        )
        aside = tally.aside()
        if tally.failure:
            return replace(entry, status=Status.FAIL, reason=_joined(tally.failure, aside))
        if names[0] in self.not_comparable:
            return replace(entry, reason=self.not_comparable[names[0]])
        measured = tally.accumulator.result()
        noise = self._noise.get((lanes.first.device, names[1]))
        of_reference = lanes.first.side == REFERENCE
        return replace(
            entry,
            status=measured.status,
            reason=_joined(measured.reason if tally.batches or not aside else "", aside),
            limit=measured.limit,
            difference=measured.difference,
            noise=_max_abs(noise.result()) if noise and of_reference else None,
            batches=tally.batches,
            excused=bool(tally.unsteady) and not tally.batches,
        )


def values_for(pair: Pair, batch: Batch, lane: Lane) -> Values:
    """Returns the inputs of a batch as the side of a lane calls them."""
    if lane.side == REFERENCE:
        return batch.values
    return {pair.inputs[name]: value for name, value in batch.values.items()}


def _max_abs(measured: Measured) -> float | None:
    return measured.difference.max_abs if measured.difference else None


def _joined(*reasons: str) -> str:
    return "; ".join(reason for reason in reasons if reason)
