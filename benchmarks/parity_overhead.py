"""Measures what comparing costs beside running: `hubbridge parity` on many images.

    python benchmarks/parity_overhead.py [--rounds N]

Both models run in the processes and on the batches of a parity run. Once what they return is thrown
away, once it is compared; both go by turns, round by round, so that a busy spell of the
machine hits both. The module is the large one of the other benchmarks, made with TensorFlow 1.15.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
from cases import CASES, make_missing
from processes import console

import bridge
from bridge._parity.crew import Crew
from bridge._parity.feed.inputs import Batch
from bridge._parity.lanes import CANDIDATE, REFERENCE, plan
from bridge._parity.options import ParityOptions
from bridge._parity.outputs import OutputComparer, values_for
from bridge._parity.runners.protocol import Lane
from bridge._parity.surfaces.read import read_surface
from bridge._parity.surfaces.structure import compare_structure
from bridge._parity.surfaces.surface import Pair

MODULE = "resnet"
SIGNATURE = "image_feature_vector"
SIZE = 8
BATCHES = 4
LIMIT = 0.10


def batches(pair: Pair, count: int) -> Iterator[Batch]:
    (name,) = pair.reference.inputs
    rng = np.random.default_rng(0)
    for index in range(count):
        images = rng.uniform(0, 1, (SIZE, 224, 224, 3)).astype(np.float32)
        yield Batch("noise", index, {name: images})


def run_only(comparer: OutputComparer, fed: Iterator[Batch]) -> None:
    """Runs what a comparison runs, and throws away what comes of it."""
    waiting: list[Future[object]] = []
    for batch in fed:
        asked: dict[tuple[Lane, int], Future[object]] = {}
        for route in comparer.routes:
            for lane, call in (
                (route.lanes.first, route.first),
                (route.lanes.second, route.second),
            ):
                if (lane, id(call)) not in asked:
                    values = values_for(comparer.pair, batch, lane)
                    asked[lane, id(call)] = comparer.crew.run(lane, call, values)
        for future in waiting:
            future.result()
        waiting = list(asked.values())
    for future in waiting:
        future.result()


def seconds(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def measure(module: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Returns the seconds of each round, without comparing and with it."""
    with tempfile.TemporaryDirectory() as work:
        saved_model = Path(work) / "saved_model"
        bridge.to_saved_model(module, saved_model, verify=False)
        surfaces = read_surface(module), read_surface(saved_model)
        pairs = compare_structure(*surfaces).pairs
        pair = next(p for p in pairs if p.reference.signature == SIGNATURE)
        options = ParityOptions()
        lanes = replace(plan(*surfaces, options, Path(sys.executable), None), again={})
        bare, compared = [], []
        with Crew(lanes.lanes(), 600, Path(work), {REFERENCE: {}, CANDIDATE: {}}) as crew:
            comparer = OutputComparer(pair, lanes, crew, options)
            run_only(comparer, batches(pair, 2))
            for _ in range(rounds):
                bare.append(seconds(lambda: run_only(comparer, batches(pair, BATCHES))))
                compared.append(seconds(lambda: comparer.run(batches(pair, BATCHES))))
        return bare, compared


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (5)")
    args = parser.parse_args()
    case = next(case for case in CASES if case.name == MODULE)
    if not make_missing([case]):
        return 0
    bare, compared = measure(case.path, args.rounds)
    overhead = statistics.median(b / a - 1 for a, b in zip(bare, compared, strict=True))
    console.print(
        f"parity of {case.title}, {SIZE * BATCHES} images a round, median of {args.rounds} rounds: "
        f"{statistics.median(bare):.2f} s to run both models, {statistics.median(compared):.2f} s "
        f"to compare them too"
    )
    mark = "✓" if overhead <= LIMIT else "✗"
    console.print(f"{mark} overhead {overhead:+.1%}, at most {LIMIT:.0%} is wanted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
