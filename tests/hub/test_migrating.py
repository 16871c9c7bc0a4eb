"""docs/migrating.md works as printed: before in TensorFlow 1.15, after in today's TensorFlow."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.clients.tf1 import tf1_environ

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "migrating.md"
BLOCKS: list[tuple[str, str]] = re.findall(
    r"^```(\w+(?: \w+)?)\n(.*?)^```$",
    PAGE.read_text(encoding="utf-8"),
    flags=re.MULTILINE | re.DOTALL,
)
EVERYWHERE = "python everywhere"

LABELS = "[4 9 6 7 0 2 3 5 1 8 8 8]"
BEFORE = [
    f"convert: {LABELS} ['Digits/conv1', 'Digits/conv2', 'Digits/conv3', 'default']",
    f"drop in: {LABELS}",
    f"layer: {LABELS}",
]


def blocks(*kinds: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind in kinds]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / "testdata").symlink_to(ROOT / "testdata")
    return tmp_path


def run(python: str | Path, kind: str, clone: Path, environ: dict[str, str]) -> list[str]:
    """Runs what stands everywhere and the blocks of a kind; returns the lines they print."""
    done = subprocess.run(
        [str(python), "-W", "ignore", "-c", "\n\n".join(blocks(EVERYWHERE, f"python {kind}"))],
        check=False,
        cwd=clone,
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_before_runs_in_tensorflow_1(clone: Path, tf1_python: Path) -> None:
    assert run(tf1_python, "tf1", clone, tf1_environ()) == BEFORE


@pytest.mark.tf2
def test_after_prints_the_same_in_tensorflow_2(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone)
    session: dict[str, Any] = {"__name__": "__main__"}
    printed = io.StringIO()
    for kind, text in BLOCKS:
        if kind == "bash":
            command = text.replace("hubbridge", f"{sys.executable} -m bridge")
            environ = os.environ | {"PYTHONPATH": str(ROOT)}
            subprocess.run(["bash", "-euc", command], check=True, env=environ, capture_output=True)
        elif kind in (EVERYWHERE, "python tf2"):
            with contextlib.redirect_stdout(printed):
                exec(compile(text, PAGE.name, "exec"), session)
    assert printed.getvalue().splitlines() == [*BEFORE, BEFORE[-1]]


@pytest.mark.tf2
def test_after_prints_the_same_in_a_program_of_tensorflow_1(clone: Path) -> None:
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    assert run(sys.executable, "v1", clone, environ) == BEFORE[1:2]


def test_dropping_in_changes_the_first_lines_only() -> None:
    (after,) = blocks("python v1")
    before = next(text for text in blocks("python tf1") if "# begin" in text)
    assert before.split("# begin")[1] == after.split("# begin")[1]
    assert len(after.split("# begin")[0].splitlines()) == 4


def test_links_lead_somewhere() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for page, anchor in re.findall(r"\]\(([^)#]*)#([^)]+)\)", text):
        target = (PAGE.parent / page) if page else PAGE
        titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
        anchors = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
        assert anchor in anchors
    for page in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (PAGE.parent / page).exists()
