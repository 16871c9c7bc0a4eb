"""Measures hubbridge beside `cp -r`, and beside the same conversion through TensorFlow.

    python benchmarks/run.py [--only toy,resnet,keras-big] [--rounds N] [--markdown FILE]

Every run is a fresh process; DEST is deleted in between; nothing is synced to the disk, and the
source is in the page cache. The contestants take turns, round by round, so that a busy spell of the
machine hits them all; what is shown is the median of the rounds. An untimed round goes first.

The large models are made with TensorFlow 1.15 and with Keras on the first run, and kept below
build/bench.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cases import CASES, WORK, check, make_missing, say_skipped
from contestants import CONTESTANTS, RUNTIME_ROUNDS, TO_SAVED_MODEL
from machine import machine
from processes import console, talk
from rounds import bench
from tables import markdown, show, summaries, write_markdown


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    names = [case.name for case in CASES]
    parser.add_argument("--only", default=",".join(names), help="comma-separated parts to run")
    parser.add_argument("--rounds", type=int, default=7, help="timed runs of each (7)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="put the tables into it")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="put short tables into it")
    parser.add_argument("--no-compare", action="store_true", help="do not compare the results")
    args = parser.parse_args()
    args.only = args.only.split(",")
    if unknown := set(args.only) - set(names):
        parser.error(f"--only knows {', '.join(names)}, not {', '.join(sorted(unknown))}")
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    return args


def main() -> int:
    args = parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    wanted = [case for case in CASES if case.name in args.only]
    cases = make_missing(wanted)
    rounds = f"Median of {args.rounds} rounds"
    if any(case.command == TO_SAVED_MODEL for case in cases):
        rounds += f", {min(args.rounds, RUNTIME_ROUNDS)} through TensorFlow"
    about = [*machine(WORK), f"{rounds}; fresh processes, warm page cache, nothing synced"]
    console.print("\n".join(about), "\n")
    parts = ["\n".join(f"- {line}" for line in about)]
    measured = {}
    for case in cases:
        if not args.no_compare:
            with talk.status(f"{case.name}: comparing what the results compute"):
                check(case)
        contestants = CONTESTANTS[case.command]
        results = bench(case.name, case.path, WORK / "out", contestants, args.rounds)
        show(case, results)
        measured[case] = results
        parts.append(markdown(case, results))
    if len(cases) < len(wanted):
        say_skipped(case for case in wanted if case not in cases)
    if args.markdown:
        write_markdown(args.markdown, parts)
    if args.readme:
        write_markdown(args.readme, summaries(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
