"""Measures what comparing costs beside running: `hubbridge parity` on many images.

    python benchmarks/parity_overhead.py [--rounds N]

Two models, each beside what it is converted to: ResNet50 as Keras exports it, which returns what
most models return, a row of scores; and the large module of the other benchmarks, whose signatures
return all endpoints, 57 MB an image: hardly a model has more to compare beside what it computes.

Each runs in the processes and on the batches of a parity run, in three ways that go by turns, round
by round, so that a busy spell of the machine hits all:

- bare: both sides compute all outputs once, and nobody fetches or looks at them;
- compared: the outputs come to this process, which compares them, as on all but the first of many
  batches;
- first: as on the first two batches of a signature: all further ways to call it too, and a third
  process that runs the reference again, with other threads.

What is measured is the time from the first batch to the last, in processes that have run before.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from cases import CASES, Case, make_missing
from processes import console, talk

import bridge
from bridge._parity.crew import Crew
from bridge._parity.feed.inputs import Batch
from bridge._parity.lanes import CANDIDATE, REFERENCE, plan
from bridge._parity.options import ParityOptions
from bridge._parity.outputs import WAYS_BATCHES, Asked, OutputComparer, Outputs, values_for
from bridge._parity.runners.protocol import Lane, RunnerError
from bridge._parity.structure import compare_structure
from bridge._surfaces.read import read_surface
from bridge._surfaces.surface import Call, Pair

SIZE = 8
BATCHES = 6
LIMIT = 0.10


@dataclass(frozen=True)
class Compared:
    """What is compared.

    Attributes:
      case: name of the model.
      signature: of the module.
      what: what the signature returns.
    """

    case: str
    signature: str
    what: str


ALL = (
    Compared("keras-export", "default", "a row of scores"),
    Compared("resnet", "image_feature_vector", "all endpoints, 57 MB an image"),
)


NAMES = {one.case for one in ALL}


def batches(pair: Pair, count: int, first: int) -> Iterator[Batch]:
    (name,) = pair.reference.inputs
    rng = np.random.default_rng(0)
    for index in range(first, first + count):
        images = rng.uniform(0, 1, (SIZE, 224, 224, 3)).astype(np.float32)
        yield Batch("noise", index, {name: images})


class Bare(OutputComparer):
    """Asks for what a comparison asks for, and looks at nothing; what is computed stays there."""

    def __post_init__(self) -> None:
        super().__post_init__()
        unseen: dict[int, Call] = {}

        def without_outputs(call: Call) -> Call:
            return unseen.setdefault(id(call), replace(call, outputs={}))

        self.routes = [
            replace(route, first=without_outputs(route.first), second=without_outputs(route.second))
            for route in self.routes
        ]

    def _run(self, asked: Asked, batch: Batch, lane: Lane, call: Call) -> Future[Outputs]:
        key = lane, id(call)
        if key not in asked:
            asked[key] = self.crew.run(lane, call, values_for(self.pair, batch, lane))
        return asked[key]

    def _compare(self, _: Batch, asked: Asked) -> None:
        for future in asked.values():
            found = future.result()
            if isinstance(found, RunnerError):
                raise found


@dataclass
class Round:
    """Seconds that each way took."""

    bare: float
    compared: float
    first: float


def seconds(comparer: OutputComparer, pair: Pair, count: int = BATCHES, first: int = 2) -> float:
    start = time.monotonic()
    comparer.run(batches(pair, count, first))
    return time.monotonic() - start


def measure(case: Case, signature: str, rounds: int) -> list[Round]:
    with tempfile.TemporaryDirectory() as work:
        converted = Path(work) / "converted"
        convert = getattr(bridge, case.command.replace("-", "_"))
        convert(case.path, converted, verify=False)
        surfaces = read_surface(case.path), read_surface(converted)
        pairs = compare_structure(*surfaces).pairs
        pair = next(p for p in pairs if signature in (p.reference.signature, p.candidate.signature))
        options = ParityOptions()
        with_noise = plan(*surfaces, options, Path(sys.executable), None)
        without = replace(with_noise, again={})
        found = []
        with Crew(with_noise.lanes(), 600, Path(work), {REFERENCE: {}, CANDIDATE: {}}) as crew:
            bare = Bare(pair, without, crew, options)
            compared = OutputComparer(pair, without, crew, options)
            whole = OutputComparer(pair, with_noise, crew, options)
            for one in (bare, compared, whole):
                one.run(batches(pair, 2, 0))
            for _ in range(rounds):
                found.append(
                    Round(
                        seconds(bare, pair),
                        seconds(compared, pair),
                        seconds(whole, pair, WAYS_BATCHES, 0),
                    )
                )
                talk.print(
                    f"bare {found[-1].bare:.2f} s, compared {found[-1].compared:.2f} s, "
                    f"first two {found[-1].first:.2f} s"
                )
        return found


def show(case: Case, one: Compared, found: list[Round]) -> None:
    bare, compared = (
        statistics.median(getattr(each, way) for each in found) for way in ("bare", "compared")
    )
    console.print(
        f"{case.title}, which returns {one.what}: {SIZE * BATCHES} images a round, median of "
        f"{len(found)} rounds, {bare:.2f} s to run both models, {compared:.2f} s with comparing"
    )
    overhead = statistics.median(each.compared / each.bare - 1 for each in found)
    mark = "✓" if overhead <= LIMIT else "✗"
    console.print(f"{mark} comparing costs {overhead:+.1%}, at most {LIMIT:.0%} is wanted")
    times = statistics.median(each.first / each.compared for each in found) * BATCHES / WAYS_BATCHES
    console.print(
        f"  each of the first {WAYS_BATCHES} batches of the run, with noise and all ways to call "
        f"the models, takes {times:.1f} times as long"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (5)")
    args = parser.parse_args()
    there = {case.name: case for case in make_missing(c for c in CASES if c.name in NAMES)}
    for one in ALL:
        if one.case in there:
            case = there[one.case]
            show(case, one, measure(case, one.signature, args.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
