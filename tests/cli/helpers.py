"""Running the command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import TESTDATA

ROOT = TESTDATA.parent
MODULES = TESTDATA / "modules"


def hubbridge(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m bridge` and returns what it printed, and its exit code."""
    clean = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR", "TERM")}
    return subprocess.run(
        [sys.executable, "-m", "bridge", *map(str, arguments)],
        cwd=ROOT,
        env={**clean, "PYTHONIOENCODING": "utf-8", **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
