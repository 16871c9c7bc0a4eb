"""How the terminal and the page print what a parity run found."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from bridge._parity.options import ParityOptions, as_json
from bridge._parity.results import Comparison, ParityReport


def number(value: float) -> str:
    """Returns `3.1e-7`, `0`, `0.012`, `1.25`, `nan`."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if 1e-3 <= abs(value) < 1e4:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}e{int(exponent)}"


def factor(value: float) -> str:
    """Returns `320×`, `1.1×`, `0.08×`, `inf×`."""
    return f"{value:,.0f}×" if 10 <= value < 1e6 else f"{number(value)}×"


def lane(row: Comparison) -> str:
    """Says what ran a comparison, and where."""
    reference = row.reference_runtime or "reference"
    candidate = row.candidate_runtime or "candidate"
    if row.reference_device == row.device:
        return f"{reference} → {candidate} on {row.device}"
    return f"{reference} on {row.reference_device} → {candidate} on {row.device}"


def called(row: Comparison) -> str:
    """Says how a signature was called; empty where its name says that."""
    return " → ".join(dict.fromkeys(way for way in row.through if way not in ("", row.signature)))


def misplaced(row: Comparison) -> list[str]:
    """Says how many NaN and Inf became how many: `NaN 0 → 16`; nothing where they are as many."""
    if row.difference is None:
        return []
    counts = (("NaN", row.difference.nan), ("Inf", row.difference.inf))
    return [f"{name} {a:,} → {b:,}" for name, (a, b) in counts if a != b]


def conversion_line(direction: str, source: str, destination: str) -> str:
    """Returns the command that makes a conversion which does not pass its verification."""
    return _command(["hubbridge", direction, "--no-verify"], source, destination)


def command_line(report: ParityReport) -> str:
    """Returns the command that repeats a run, as a POSIX shell reads it."""
    words = ["hubbridge", "parity"]
    for name, default in as_json(ParityOptions()).items():
        value = report.options.get(name, default)
        if name == "overrides":
            for output, tolerance in value.items():
                limits = f"{tolerance['rtol']!r},{tolerance['atol']!r}"
                words += ["--tolerance", f"{output}={limits}"]
        elif value is True:
            words.append(_option(name))
        elif value != default:
            words += [_option(name), str(value)]
    return _command(words, report.reference.path, report.candidate.path)


def _command(words: Sequence[str], *paths: str) -> str:
    # A path that starts like an option is one all the same.
    return shlex.join([*words, *(["--"] if any(p.startswith("-") for p in paths) else []), *paths])


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
