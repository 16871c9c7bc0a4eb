"""The environment of the processes that run models, and their end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
from pathlib import Path
from typing import IO, Protocol

from bridge._parity.runners.protocol import Lane

_KEPT = frozenset({"TF_ENABLE_ONEDNN_OPTS", "TF_FORCE_GPU_ALLOW_GROWTH", "TF_GPU_ALLOCATOR"})
"""Variables of the environment that the user sets for a TensorFlow of any release."""

_LAST_LINES = 5
_LAST_WORDS = 400

_STACK = re.compile(r"\s*(@ +0x|\*\*\* )")
"""What is printed of the stack when a check of TensorFlow fails, after what tells why."""


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


def exchange(process: Process, line: str, time_limit: float) -> tuple[str, bool]:
    """Sends a line to a process, and ends it if it takes too long to answer.

    Returns:
      The answer, empty where there is none, and whether it took more than the seconds allowed.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    late = threading.Event()

    def give_up() -> None:
        late.set()
        end(process)

    timer = threading.Timer(time_limit, give_up)
    timer.daemon = True
    timer.start()
    try:
        with contextlib.suppress(BrokenPipeError):
            print(line, file=process.stdin, flush=True)
            return process.stdout.readline(), late.is_set()
        return "", late.is_set()
    finally:
        timer.cancel()


def ending(status: int) -> str:
    """Says how a process ended that had no reason to, by its status."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"ended by {name}" + (", perhaps for want of memory," if name == "SIGKILL" else "")


def last_words(stderr: Path) -> str:
    """Returns the end of what a process said on stderr, as the rest of a sentence.

    Args:
      stderr: the file that it went to.
    """
    with contextlib.suppress(OSError):
        text = stderr.read_text("utf-8", "replace")
        lines = [line for line in text.split("\n") if not _STACK.match(line)]
        words = " ".join(" ".join(lines[-_LAST_LINES:]).split())[-_LAST_WORDS:].strip()
        if words:
            return f"; its last words: {words}"
    return ""
