"""Runs programs for TensorFlow 1 with today's, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Training all modules takes long. What it says of reference and resource variables, parts of
# variables, v1 control flow, sparse gradients and update ops, these say.
TRAINED = frozenset(
    {
        *("toy_train_nodropout_ref", "control_flow_resource", "partitioned_resource"),
        *("reduced_precision_ref", "rnn", "sparse_input", "multi_input"),
    }
)


def run_program(module: str, *arguments: str | Path) -> None:
    """Runs a module of the tests with this Python; fails with what it said if it fails."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
