"""Runs processes, and talks about them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent

console = Console(highlight=False, soft_wrap=True)
talk = Console(highlight=False, stderr=True)


def environ() -> dict[str, str]:
    """Returns the environment of a contestant: the same for all, with bytecode as installed."""
    unwanted = ("PYTHONDONTWRITEBYTECODE", "PYTHONPROFILEIMPORTTIME", "PYTHONDEVMODE")
    kept = {key: value for key, value in os.environ.items() if key not in unwanted}
    return kept | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}


def run_quietly(command: list[str]) -> str:
    """Runs a command and returns its output; shows what it said only if it fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environ())
    if done.returncode:
        talk.print(done.stderr, markup=False)
        sys.exit(f"error: {' '.join(command)} exited with {done.returncode}")
    return done.stdout
