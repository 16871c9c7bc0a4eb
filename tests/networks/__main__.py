"""The whole sweep: `make test-networks`.

    python -m tests.networks [--only NAME,NAME] [--formats FORMAT,FORMAT] [--markdown FILE] [--keep]

Results are kept below build/networks, so that a sweep that was interrupted goes on where it was;
they count as long as the code is the same.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import bridge
from tests.clients.tf1 import Tf1Client, find_tf1_python
from tests.networks.catalog import FORMATS, NETWORKS
from tests.networks.compare import Result
from tests.networks.sweep import ROOT, sweep
from tests.networks.table import markdown

WORK = ROOT / "build" / "networks"


def talk(text: str) -> None:
    """Tells the user."""
    print(text, file=sys.stderr, flush=True)


def versions(python: Path) -> list[str]:
    """What was tested with what."""
    with Tf1Client(python) as client:
        old = client.ping()
    new = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "tf_keras")}
    return [
        f"TensorFlow {old['tensorflow']}, tensorflow-hub {old['tensorflow_hub']}, "
        f"Python {old['python']}, in one thread on the CPU",
        f"TensorFlow {new['tensorflow']}, Keras {new['keras']}, tf_keras {new['tf_keras']}, "
        f"Python {platform.python_version()}, the same",
        f"hubbridge {bridge.__version__}",
    ]


def say(result: Result) -> None:
    """Prints a line about a result."""
    traces = [trace for trace in (result.inference, result.training) if trace]
    facts = "  ".join(f"output {t.output:.0e} gradient {t.gradient:.0e}" for t in traces)
    print(f"{'✗' if result.problems else '✓'} {result.network} {result.format}  {facts}")
    for problem in result.problems[:5]:
        print(f"    {' '.join(problem.split())[:300]}")
    sys.stdout.flush()


def names(text: str, known: Sequence[str]) -> list[str]:
    """Splits a list of names, in the order of all known ones."""
    given = set(text.split(",")) if text else set(known)
    if unknown := sorted(given - set(known)):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
    return [name for name in known if name in given]


def main() -> int:
    """Runs the sweep; returns 1 where a rule is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="networks, separated by commas")
    parser.add_argument("--formats", default="", help="formats, separated by commas")
    parser.add_argument("--markdown", type=Path, help="where to write the table")
    parser.add_argument("--keep", action="store_true", help="keep what TensorFlow 2 made")
    arguments = parser.parse_args()
    python = find_tf1_python()
    if python is None:
        talk("error: no TensorFlow 1.15: `python tools/tf1_env.py` installs it")
        return 2
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    networks = [NETWORKS[name] for name in names(arguments.only, list(NETWORKS))]
    formats = names(arguments.formats, FORMATS)
    start = time.monotonic()
    results = []
    for result in sweep(python, networks, formats, WORK, talk, keep=arguments.keep):
        say(result)
        results.append(result)
    if arguments.markdown:
        arguments.markdown.write_text(markdown(results, versions(python)), encoding="utf-8")
    bad = sum(bool(result.problems) for result in results)
    talk(f"{len(results) - bad} of {len(results)} good, {time.monotonic() - start:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
