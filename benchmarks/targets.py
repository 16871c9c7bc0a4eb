"""What figures should be."""

from __future__ import annotations

from dataclasses import dataclass

from contestants import COPY, CP, LINK, RUNTIME
from rounds import Results


@dataclass(frozen=True)
class Target:
    """What a figure should be; the text says it with the figures in it."""

    text: str
    reached: bool


def toy(results: Results) -> list[Target]:
    seconds = results[COPY].median
    return [Target(f"under 0.3 s: {seconds:.2f} s", seconds < 0.3)]


def beside_tensorflow(results: Results) -> list[Target]:
    factor = results[RUNTIME].median / results[COPY].median
    return [Target(f"at least 15 × as fast as TensorFlow: {factor:.1f} ×", factor >= 15)]


def beside_cp(results: Results) -> list[Target]:
    limit = results[CP].median + 0.6
    seconds = results[COPY].median
    return [Target(f"within cp + 0.6 s = {limit:.2f} s: {seconds:.2f} s", seconds <= limit)]


def big(results: Results) -> list[Target]:
    limit = 1.5 * results[CP].median + 0.5
    seconds, memory = results[COPY].median, max(results[COPY].peak, results[LINK].peak)
    return [
        Target(f"within 1.5 × cp + 0.5 s = {limit:.2f} s: {seconds:.2f} s", seconds <= limit),
        Target(f"under 100 MB of memory: {memory / 1e6:.0f} MB", memory < 100e6),
    ]
