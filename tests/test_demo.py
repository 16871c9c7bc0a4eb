"""The demo is what people see first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.tf2
@pytest.mark.slow
def test_the_demo_converts_classifies_and_fine_tunes():
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py")],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 of 12 right" in done.stdout
    assert done.stdout.count("✓") == 12
    assert "Try next" in done.stdout
    assert done.stderr == ""  # TensorFlow's chatter would spoil it
