"""The environment of the processes that run models, and their end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import IO, Protocol

from bridge._parity.runners.protocol import Lane

_KEPT = frozenset({"TF_ENABLE_ONEDNN_OPTS", "TF_FORCE_GPU_ALLOW_GROWTH", "TF_GPU_ALLOCATOR"})
"""Variables of the environment that the user sets for a TensorFlow of any release."""


def environment(lane: Lane) -> dict[str, str]:
    """Returns the environment of a lane's process.

    It is without what other settings of this process, or its own TensorFlow, put there:
    TF2_BEHAVIOR would make another client of TensorFlow 1.15.
    """
    dropped: tuple[str, ...] = ("TF",)
    if lane.python.absolute() != Path(sys.executable).absolute():
        dropped += ("PYTHON",)
    environ = {
        key: value
        for key, value in os.environ.items()
        if key in _KEPT or not key.startswith(dropped)
    }
    environ |= {
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONIOENCODING": "utf-8",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    if not lane.device.startswith("gpu"):
        environ["CUDA_VISIBLE_DEVICES"] = ""
    if not lane.tf32:
        environ["NVIDIA_TF32_OVERRIDE"] = "0"
    if lane.runtime == "tf1":
        # Later releases have a function for it.
        environ |= {"TF_DETERMINISTIC_OPS": "1", "TF_CUDNN_DETERMINISTIC": "1"}
    return environ


class Process(Protocol):
    """What a runner needs of a process; that of `subprocess` has it."""

    pid: int
    stdin: IO[str] | None
    stdout: IO[str] | None

    def wait(self) -> int:
        """Waits for its end; returns its status, negative where a signal ended it."""
        ...


def end(process: Process) -> int:
    """Kills a process and its children; returns the status."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        # start_new_session made it the leader of a group.
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def ending(status: int) -> str:
    """Says how a process ended that had no reason to, by its status."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"ended by {name}" + (", perhaps for want of memory," if name == "SIGKILL" else "")
