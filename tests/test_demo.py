"""The demo is what people see first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.tf1 import find_tf1_python

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.tf2
@pytest.mark.slow
def test_the_demo_converts_classifies_fine_tunes_and_converts_back():
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
    has_tf1 = find_tf1_python() is not None
    assert ("which runs both" in done.stdout) == has_tf1
    # Images, what the modules have in common, and the verdict.
    assert done.stdout.count("✓") == 16 + has_tf1
    assert "verdict: pass" in done.stdout
    assert ("hub.Module" in done.stdout.split("5. Prove", 1)[1]) == has_tf1
    assert (ROOT / "build" / "demo" / "parity.html").stat().st_size > 10_000
    assert "Try next" in done.stdout
    assert done.stderr == ""  # TensorFlow's chatter would spoil it
