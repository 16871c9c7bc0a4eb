"""What a parity run is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bridge.parity.rule import Tolerance

DEVICES = ("cpu", "gpu", "all")


@dataclass(frozen=True)
class ParityOptions:
    """The options of `bridge.parity`, which says what each means."""

    device: str = "cpu"
    require_gpu: bool = False
    tf1_python: Path | None = None
    images: Path | None = None
    inputs: Path | None = None
    samples: int = 8
    batch_size: int = 4
    seed: int = 0
    tolerance: Tolerance | None = None
    overrides: Mapping[str, Tolerance] = field(default_factory=dict)
    train: bool = False
    bisect: bool = False
    time_limit: float = 600.0
