"""Measures contestants, round by round."""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from contestants import Contestant
from processes import ROOT, run_quietly, talk

MEASURE = ROOT / "benchmarks" / "measure.py"


@dataclass
class Samples:
    """What was measured of one contestant: seconds, seconds of CPU time, bytes."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    floor: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def peak(self) -> int:
        return max(self.memory)


Results = dict[str, Samples]
"""By the name of the contestant."""


def bench(
    name: str, source: Path, dest: Path, contestants: Sequence[Contestant], rounds: int
) -> Results:
    """Measures all contestants with one model.

    Args:
      name: what to call the model meanwhile.
      source: the model.
      dest: what the contestants make; deleted before and after every run.
      contestants: the contestants.
      rounds: how many rounds count.
    """
    results: Results = {contestant.name: Samples() for contestant in contestants}
    with talk.status("") as status:
        for contestant, counts in turns(contestants, rounds):
            status.update(f"{name}: {contestant.name}")
            shutil.rmtree(dest, ignore_errors=True)
            command = contestant.command(source, dest)
            measure(command, results[contestant.name] if counts else Samples())
    shutil.rmtree(dest, ignore_errors=True)
    return results


def turns(contestants: Sequence[Contestant], rounds: int) -> Iterator[tuple[Contestant, bool]]:
    """Yields whose turn it is, and whether it counts: one round does not, to warm the caches."""
    for number in range(-1, rounds):
        for contestant in contestants:
            if number < contestant.rounds:
                yield contestant, number >= 0


def measure(command: list[str], samples: Samples) -> None:
    """Runs a command in a fresh process and adds a sample."""
    # The shell forks: a process that it starts does not inherit the peak memory of this one.
    launcher = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-I", "-S", str(MEASURE)]
    figures = json.loads(run_quietly([*launcher, *command]))
    samples.seconds.append(figures["seconds"])
    samples.cpu.append(figures["cpu"])
    samples.memory.append(figures["memory"])
    samples.floor = max(samples.floor, figures["floor"])
