"""Compares the outputs of two models, batch by batch, in memory that does not grow."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace

from bridge._parity.crew import Crew
from bridge._parity.feed.inputs import Batch
from bridge._parity.lanes import REFERENCE, LanePair, Plan
from bridge._parity.numbers.measure import Accumulator, Measured
from bridge._parity.options import ParityOptions
from bridge._parity.results import Comparison, Status
from bridge._parity.rule import Tolerance, tolerance_for
from bridge._parity.runners.protocol import Lane, RunnerError, Value, Values
from bridge._parity.surfaces.surface import Call, Pair
from bridge.model import format_tags

CLASSIFICATION = "image_classification"
"""The common signature whose output holds a score for each class."""

NOISE_BATCHES = 4
"""How many batches of a signature tell how far the reference is from itself."""

Outputs = dict[str, Value] | RunnerError
Key = tuple[Lane, int]
"""A lane, and the id of a Call of the pair."""

Asked = dict[Key, Future[Outputs]]


@dataclass(frozen=True)
class Route:
    """A signature in two lanes, each called in one way.

    Attributes:
      lanes: where it is computed.
      first: how the first lane is called.
      second: how the second is.
      outputs: what is compared: name in reports, name in the first call, name in the second.
    """

    lanes: LanePair
    first: Call
    second: Call
    outputs: tuple[tuple[str, str, str], ...]


@dataclass
class _Tally:
    """What was seen of one output on one route; the names are those of `Route.outputs`."""

    route: Route
    names: tuple[str, str, str]
    tolerance: Tolerance
    accumulator: Accumulator
    batches: int = 0
    failure: str = ""
    unusable: str = ""
    failed_on: Batch | None = None


@dataclass
class OutputComparer:
    """Compares one pair of signatures in all lanes.

    Attributes:
      pair: the signatures.
      plan: the lanes.
      crew: runs them.
      options: the tolerances.
      not_comparable: why nothing can be compared, where random ops act that nothing pins.
      seconds: what comparing took.
    """

    pair: Pair
    plan: Plan
    crew: Crew
    options: ParityOptions
    not_comparable: str = ""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._main = self.pair.reference.calls[0]
        self.routes = [route for lanes in self.plan.pairs for route in _routes(self.pair, lanes)]
        self._tallies = [
            self._tally(route, names) for route in self.routes for names in route.outputs
        ]
        self._noise: dict[tuple[str, str], Accumulator] = {}

    def run(self, batches: Iterator[Batch]) -> list[Comparison]:
        """Runs all batches in all lanes; returns an entry for each output of each route."""
        if self.not_comparable:
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

    def first_failure(self) -> Batch | None:
        """The batch on which an output failed first."""
        return next((t.failed_on for t in self._tallies if t.failed_on), None)

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
            for lane, call in (
                (route.lanes.first, route.first),
                (route.lanes.second, route.second),
            ):
                key = lane, id(call)
                if key not in asked:
                    asked[key] = self.crew.run(lane, call, values_for(self.pair, batch, lane))
        if with_noise:
            for lane, again in self.plan.again.items():
                asked[again, id(self._main)] = self.crew.run(
                    again, self._main, values_for(self.pair, batch, lane)
                )
        return asked

    # -- comparing --------------------------------------------------------------------------------

    def _compare(self, batch: Batch, asked: Asked) -> None:
        found = {key: future.result() for key, future in asked.items()}
        start = time.monotonic()
        for tally in self._tallies:
            route = tally.route
            first = found[route.lanes.first, id(route.first)]
            second = found[route.lanes.second, id(route.second)]
            self._compare_output(batch, first, second, tally)
        self._compare_noise(batch, found)
        self.seconds += time.monotonic() - start

    def _compare_output(self, batch: Batch, first: Outputs, second: Outputs, tally: _Tally) -> None:
        _, name, other = tally.names
        if isinstance(first, RunnerError):
            if first.fatal:
                tally.failure = tally.failure or str(first)
            else:
                # What the reference refuses, the candidate need not compute.
                tally.unusable = tally.unusable or str(first)
        elif isinstance(second, RunnerError):
            tally.failure = tally.failure or str(second)
        elif name not in first or other not in second:
            side, key = ("reference", name) if name not in first else ("candidate", other)
            tally.failure = tally.failure or f"the {side} returned no output {key!r}"
        else:
            tally.accumulator.add(first[name], second[other], batch.name, batch.index)
            tally.batches += 1
        if tally.failed_on is None and (tally.failure or tally.accumulator.failed):
            tally.failed_on = batch

    def _compare_noise(self, batch: Batch, found: Mapping[Key, Outputs]) -> None:
        for lane, again in self.plan.again.items():
            main = id(self._main)
            first, second = found[lane, main], found.get((again, main))
            if second is None or isinstance(first, RunnerError) or isinstance(second, RunnerError):
                continue
            for name in first.keys() & second.keys():
                key = lane.device, name
                if key not in self._noise:
                    tolerance = tolerance_for(
                        self.options, self.pair.reference.signature, name, across=False
                    )
                    self._noise[key] = Accumulator(tolerance)
                self._noise[key].add(first[name], second[name], batch.name, batch.index)

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
        if tally.failure:
            return replace(entry, status=Status.FAIL, reason=tally.failure)
        if self.not_comparable:
            return replace(entry, reason=self.not_comparable)
        measured = tally.accumulator.result()
        noise = self._noise.get((lanes.first.device, names[1]))
        of_reference = lanes.first.side == REFERENCE
        return replace(
            entry,
            status=measured.status,
            reason=tally.unusable if tally.unusable and not tally.batches else measured.reason,
            limit=measured.limit,
            difference=measured.difference,
            noise=_max_abs(noise.result()) if noise and of_reference else None,
        )


def values_for(pair: Pair, batch: Batch, lane: Lane) -> Values:
    """Returns the inputs of a batch as the side of a lane calls them."""
    if lane.side == REFERENCE:
        return batch.values
    return {pair.inputs[name]: value for name, value in batch.values.items()}


def _max_abs(measured: Measured) -> float | None:
    return measured.difference.max_abs if measured.difference else None


def _routes(pair: Pair, lanes: LanePair) -> Iterator[Route]:
    """Yields each way to call one side, beside the main way to call the other."""
    if lanes.first.side == lanes.second.side:
        of_reference = lanes.first.side == REFERENCE
        names = {name: name if of_reference else pair.outputs[name] for name in pair.outputs}
        for call in (pair.reference if of_reference else pair.candidate).calls:
            same = ((name, own, own) for name, own in names.items() if own in call.outputs)
            yield Route(lanes, call, call, tuple(same))
        return
    firsts, seconds = pair.reference.calls, pair.candidate.calls
    for first, second in [
        *((firsts[0], second) for second in seconds),
        *((first, seconds[0]) for first in firsts[1:]),
    ]:
        yield Route(lanes, first, second, _shared(pair, first, second))
    covered = {name for call in seconds for name, *_ in _shared(pair, firsts[0], call)}
    covered |= {name for call in firsts for name, *_ in _shared(pair, call, seconds[0])}
    for first in firsts[1:]:
        for second in seconds[1:]:  # what only further ways return
            left = tuple(n for n in _shared(pair, first, second) if n[0] not in covered)
            if left:
                covered.update(name for name, *_ in left)
                yield Route(lanes, first, second, left)


def _shared(pair: Pair, first: Call, second: Call) -> tuple[tuple[str, str, str], ...]:
    """The outputs that two calls both return."""
    return tuple(
        (name, name, pair.outputs[name])
        for name in first.outputs
        if pair.outputs.get(name) in second.outputs
    )
