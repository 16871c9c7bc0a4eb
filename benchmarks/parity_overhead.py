"""Measures what comparing costs beside running: `hubbridge parity` on many images.

    python benchmarks/parity_overhead.py [--rounds N]

Both models run in the processes and on the batches of a parity run, in three ways that go by turns,
round by round, so that a busy spell of the machine hits all:

- bare: each request computes all outputs, and nobody fetches or looks at them;
- compared: the outputs come to this process, which compares them;
- with noise: a third process runs the reference again on the first batches, with other threads.

The module is the large one of the other benchmarks, made with TensorFlow 1.15. Its signature
returns all its endpoints, 57 MB for an image, from two of the three ways to call it: no signature
has more to compare beside what it computes. What is measured is the time from the first batch to
the last, in processes that have run before.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from cases import CASES, make_missing
from processes import console, talk

import bridge
from bridge._parity.crew import Crew
from bridge._parity.feed.inputs import Batch
from bridge._parity.lanes import CANDIDATE, REFERENCE, plan
from bridge._parity.options import ParityOptions
from bridge._parity.outputs import NOISE_BATCHES, Asked, OutputComparer, Outputs, values_for
from bridge._parity.runners.protocol import Lane, RunnerError
from bridge._parity.surfaces.read import read_surface
from bridge._parity.surfaces.structure import compare_structure
from bridge._parity.surfaces.surface import Call, Pair

MODULE = "resnet"
SIGNATURE = "image_feature_vector"
SIZE = 8
BATCHES = 6
LIMIT = 0.10


def batches(pair: Pair, count: int) -> Iterator[Batch]:
    (name,) = pair.reference.inputs
    rng = np.random.default_rng(0)
    for index in range(count):
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
    with_noise: float


def seconds(comparer: OutputComparer, pair: Pair) -> float:
    start = time.monotonic()
    comparer.run(batches(pair, BATCHES))
    return time.monotonic() - start


def measure(module: Path, rounds: int) -> list[Round]:
    with tempfile.TemporaryDirectory() as work:
        saved_model = Path(work) / "saved_model"
        bridge.to_saved_model(module, saved_model, verify=False)
        surfaces = read_surface(module), read_surface(saved_model)
        pairs = compare_structure(*surfaces).pairs
        pair = next(p for p in pairs if p.reference.signature == SIGNATURE)
        options = ParityOptions()
        with_noise = plan(*surfaces, options, Path(sys.executable), None)
        without = replace(with_noise, again={})
        found = []
        with Crew(with_noise.lanes(), 600, Path(work), {REFERENCE: {}, CANDIDATE: {}}) as crew:
            ways = (
                Bare(pair, without, crew, options),
                OutputComparer(pair, without, crew, options),
                OutputComparer(pair, with_noise, crew, options),
            )
            for way in ways:
                way.run(batches(pair, 2))
            for _ in range(rounds):
                found.append(Round(*(seconds(way, pair) for way in ways)))
                talk.print(
                    f"bare {found[-1].bare:.2f} s, compared {found[-1].compared:.2f} s, "
                    f"with noise {found[-1].with_noise:.2f} s"
                )
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (5)")
    args = parser.parse_args()
    case = next(case for case in CASES if case.name == MODULE)
    if not make_missing([case]):
        return 0
    found = measure(case.path, args.rounds)
    bare, compared, with_noise = (
        statistics.median(getattr(one, field.name) for one in found) for field in fields(Round)
    )
    console.print(
        f"parity of {case.title}, {SIZE * BATCHES} images a round, median of {args.rounds} rounds: "
        f"{bare:.2f} s to run both models, {compared:.2f} s to compare them too, "
        f"{with_noise:.2f} s with the noise of {NOISE_BATCHES} of {BATCHES} batches"
    )
    overhead = statistics.median(one.compared / one.bare - 1 for one in found)
    mark = "✓" if overhead <= LIMIT else "✗"
    console.print(f"{mark} comparing costs {overhead:+.1%}, at most {LIMIT:.0%} is wanted")
    noise = statistics.median((one.with_noise - one.compared) / one.bare for one in found)
    console.print(
        f"  the noise costs {noise:+.1%}: the reference runs {NOISE_BATCHES} times more, however "
        f"many batches there are"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
