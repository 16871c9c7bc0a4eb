"""What a parity run is asked to do."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bridge._parity.rule import Tolerance
from bridge.errors import SourceNotFoundError, UsageError

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
    rtol: float | None = None
    atol: float = 0.0
    overrides: Mapping[str, Tolerance] = field(default_factory=dict)
    train: bool = False
    bisect: bool = False
    time_limit: float = 600.0

    def __post_init__(self) -> None:
        """Checks what needs no model.

        Raises:
          UsageError: an option that does not fit.
          SourceNotFoundError: a path that is not there.
        """
        if self.device not in DEVICES:
            raise UsageError(
                f"{self.device!r} is no device", hint=f"it is one of {', '.join(DEVICES)}"
            )
        if self.require_gpu and self.device == "cpu":
            raise UsageError(
                "a GPU is required, but only the CPU is asked for", hint="add --device gpu or all"
            )
        for name, number in (("samples", self.samples), ("batch_size", self.batch_size)):
            if number < 1:
                raise UsageError(f"{name} is {number}, at least 1 is needed")
        if self.seed < 0:
            raise UsageError(f"seed is {self.seed}, it can't be negative")
        if not 0 < self.time_limit <= threading.TIMEOUT_MAX:
            raise UsageError(
                f"time_limit is {self.time_limit}, it must be positive and at most "
                f"{threading.TIMEOUT_MAX:.0f}"
            )
        limits = [("rtol", self.rtol or 0.0), ("atol", self.atol)]
        for name, tolerance in self.overrides.items():
            limits += [(f"rtol of {name}", tolerance.rtol), (f"atol of {name}", tolerance.atol)]
        for name, limit in limits:
            if not (math.isfinite(limit) and limit >= 0):
                raise UsageError(f"{name} is {limit}, a number that is not negative is needed")
        if self.images is not None and not self.images.is_dir():
            raise SourceNotFoundError(
                f"there is no directory {self.images}",
                hint="images are a directory of JPEG and PNG files",
            )
        if self.inputs is not None and not self.inputs.is_file():
            raise SourceNotFoundError(
                f"there is no file {self.inputs}", hint="inputs are arrays that np.savez wrote"
            )


def optional_path(path: str | os.PathLike[str] | None) -> Path | None:
    """Returns a path, if one is given."""
    return None if path is None else Path(path)


def as_json(options: ParityOptions) -> dict[str, Any]:
    """Returns the options as JSON has them."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(options).items()
    }
