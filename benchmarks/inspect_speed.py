"""Measures `hubbridge inspect` beside `saved_model_cli show --all`, which looks at the same files.

    python benchmarks/inspect_speed.py [--rounds N]

Every run is a fresh process; the files are in the page cache. Both go by turns, round by round, so
that a busy spell of the machine hits both. The models are those of the other benchmarks.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cases import CASES, WORK, make_missing, say_skipped
from contestants import Contestant
from processes import console
from rich.table import Table
from rounds import Results, bench

INSPECT = "hubbridge inspect"
LOOK_ONLY = "--no-conversion"
CLI = "saved_model_cli"
LIMIT = 0.5
CLI_ROUNDS = 2  # It takes its time, and varies less.


def inspect(*options: str) -> Contestant:
    program = [sys.executable, "-m", "bridge", "inspect"]
    name = " ".join([INSPECT, *options])
    return Contestant(name, lambda source, _: [*program, str(source), *options])


def saved_model_cli(source: Path, _: Path) -> list[str]:
    script = Path(sys.executable).with_name("saved_model_cli")
    return [str(script), "show", "--all", "--dir", str(source)]


CONTESTANTS = (
    inspect(),
    inspect(LOOK_ONLY),
    Contestant(CLI, saved_model_cli, CLI_ROUNDS),
)


def size(path: Path) -> str:
    total = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return f"{total / 1e6:,.1f} MB"


def add_rows(table: Table, title: str, path: Path, results: Results) -> None:
    for number, (name, samples) in enumerate(results.items()):
        table.add_row(
            f"{title}, {size(path)}" if number == 0 else "",
            name.removeprefix("hubbridge "),
            f"{samples.median:.2f} s",
            f"{min(samples.seconds):.2f}-{max(samples.seconds):.2f}",
            f"{samples.peak / 1e6:.0f} MB",
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of each (5)")
    args = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    cases = make_missing(CASES)
    table = Table("model", "hubbridge", "wall", "range", "memory", title="What is in a model")
    slowest = 0.0
    for case in cases:
        results = bench(case.name, case.path, WORK / "out", CONTESTANTS, args.rounds)
        add_rows(table, case.title, case.path, results)
        slowest = max(slowest, results[f"{INSPECT} {LOOK_ONLY}"].median)
    if len(cases) < len(CASES):
        say_skipped(case for case in CASES if case not in cases)
    console.print(table)
    mark = "✓" if slowest <= LIMIT else "✗"
    console.print(
        f"{mark} the slowest look, without trying the conversion: {slowest:.2f} s, at most "
        f"{LIMIT} s is wanted"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
