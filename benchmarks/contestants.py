"""The ways to make DEST from SOURCE that are measured."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from processes import ROOT

CP = "cp -r"
COPY = "hubbridge"
LINK = "hubbridge --link"
RUNTIME = "TensorFlow"

TO_SAVED_MODEL = "to-saved-model"
TO_HUB_MODULE = "to-hub-module"

RUNTIME_ROUNDS = 3  # It takes its time, and varies less.


@dataclass(frozen=True)
class Contestant:
    """One way to make DEST from SOURCE.

    Attributes:
      name: what the tables call it.
      command: makes its command line.
      rounds: how often it runs, at most.
    """

    name: str
    command: Callable[[Path, Path], list[str]]
    rounds: int = sys.maxsize


def cp(source: Path, dest: Path) -> list[str]:
    return ["cp", "-r", str(source), str(dest)]


def hubbridge(command: str, *options: str) -> Callable[[Path, Path], list[str]]:
    # The console script of this environment, or what it does, where hubbridge is not installed.
    script = Path(sys.executable).with_name("hubbridge")
    program = [str(script)] if script.exists() else [sys.executable, "-m", "bridge"]
    return lambda source, dest: [*program, command, str(source), str(dest), *options]


def through_tensorflow(source: Path, dest: Path) -> list[str]:
    script = ROOT / "benchmarks" / "through_tensorflow.py"
    return [sys.executable, str(script), str(source), str(dest)]


def without_runtime(command: str) -> tuple[Contestant, ...]:
    """Returns what is measured in both directions."""
    return (
        Contestant(CP, cp),
        Contestant(COPY, hubbridge(command, "--no-verify")),
        Contestant(LINK, hubbridge(command, "--no-verify", "--link")),
    )


CONTESTANTS: Mapping[str, tuple[Contestant, ...]] = {
    TO_SAVED_MODEL: (
        *without_runtime(TO_SAVED_MODEL),
        Contestant(RUNTIME, through_tensorflow, RUNTIME_ROUNDS),
    ),
    # No TensorFlow makes a module of a TF2 SavedModel: 2 has no exporter, 1.15 can't read it.
    TO_HUB_MODULE: without_runtime(TO_HUB_MODULE),
}
"""By the command of hubbridge that is measured."""
