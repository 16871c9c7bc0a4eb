"""The interpreter with TensorFlow 1.x: where it is looked for, and what is none."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bridge._parity.lanes import plan
from bridge._parity.options import ParityOptions
from bridge._parity.runners.tf1 import find_tf1_python, idle
from bridge._surfaces.surface import HUB_MODULE, SAVED_MODEL, Surface
from bridge.errors import UsageError

FINE = {"python": [3, 7], "missing": [], "tensorflow": "1", "error": ""}


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def answering(path: Path, **facts) -> Path:
    """An interpreter that says this of itself."""
    return program(path, f"echo noise of a sitecustomize\necho '{json.dumps({**FINE, **facts})}'")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HUBBRIDGE_TF1_PYTHON", raising=False)
    return tmp_path


def test_a_relative_path_starts_at_the_current_directory(here, monkeypatch):
    answering(here / "py")
    (here / "bin").mkdir()
    answering(here / "bin" / "py3.7")
    assert find_tf1_python(Path("./py")) == here / "py"
    assert find_tf1_python(Path("bin/py3.7")) == here / "bin" / "py3.7"
    monkeypatch.setenv("HUBBRIDGE_TF1_PYTHON", "./py")
    assert find_tf1_python(None) == here / "py"


def test_a_name_is_looked_up_in_path(here, monkeypatch):
    (here / "bin").mkdir()
    (here / "py3.7").mkdir()
    answering(here / "bin" / "py3.7")
    monkeypatch.setenv("PATH", str(here / "bin"), prepend=":")
    assert find_tf1_python(Path("py3.7")) == here / "bin" / "py3.7"


def test_a_link_into_a_virtual_environment_stays_a_link(here):
    (here / "link").symlink_to(answering(here / "py"))
    assert find_tf1_python(here / "link") == here / "link"


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"tensorflow": "2.21.0"}, "has TensorFlow 2.21.0, no 1.x"),
        ({"tensorflow": "0.12.1"}, "has TensorFlow 0.12.1, no 1.x"),
        ({"missing": ["tensorflow_hub"]}, "has no tensorflow_hub"),
        ({"python": [2, 7]}, "is Python 2.7, and 3.7 at least is needed"),
        ({"python": [3, 6]}, "is Python 3.6, and 3.7 at least is needed"),
        ({"error": "ImportError: no"}, "can't import its TensorFlow: ImportError: no"),
    ],
)
def test_what_an_interpreter_lacks_is_named(here, monkeypatch, facts, why):
    python = answering(here / "py", **facts)
    with pytest.raises(UsageError) as caught:
        find_tf1_python(python)
    assert str(caught.value) == f"--tf1-python: {python} {why}"
    assert "TensorFlow 1.15" in caught.value.hint
    monkeypatch.setenv("HUBBRIDGE_TF1_PYTHON", "./py")
    with pytest.raises(UsageError) as caught:
        find_tf1_python(None)
    assert str(caught.value) == f"HUBBRIDGE_TF1_PYTHON: {python} {why}"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("absent", "can't be run: No such file or directory"),
        ("absent/python", "can't be run: No such file or directory"),
        ("folder", "is a directory, no Python"),
        ("file", "can't be run: Permission denied"),
        ("file/python", "can't be run: Not a directory"),
        ("cat", "is no Python"),
        ("silent", "is no Python"),
        ("words", "is no Python"),
        ("list", "is no Python"),
    ],
)
def test_what_is_no_interpreter_is_named(here, name, why):
    (here / "folder").mkdir()
    (here / "file").write_text("text", encoding="utf-8")
    program(here / "cat", 'exec cat "$@"')
    program(here / "silent", "exit 0")
    program(here / "words", "echo hello")
    program(here / "list", "echo '[1]'")
    with pytest.raises(UsageError) as caught:
        find_tf1_python(Path(name))
    assert str(caught.value) == f"--tf1-python: {here / name} {why}"


@pytest.mark.tf2
def test_a_python_with_tensorflow_2_is_none_with_tensorflow_1():
    import importlib.metadata

    release = importlib.metadata.version("tensorflow")
    with pytest.raises(UsageError, match=rf"has TensorFlow {release}, no 1\.x"):
        find_tf1_python(Path(sys.executable))


def test_the_real_one_is_found_without_importing_tensorflow(tf1_python, here):
    wrapper = program(here / "py", f'exec {tf1_python} -X importtime "$@" 2> imported')
    assert find_tf1_python(wrapper) == wrapper
    imported = (here / "imported").read_text(encoding="utf-8")
    assert "json" in imported
    assert "tensorflow_core" not in imported


def surfaces(first: str, second: str) -> tuple[Surface, Surface]:
    def made(name: str, kind: str) -> Surface:
        return Surface(Path(name), kind, "", (), {}, {}, {}, {}, 0, {}, None)

    return made("a", first), made("b", second)


@pytest.mark.parametrize(
    ("first", "second", "device", "runs"),
    [
        (HUB_MODULE, SAVED_MODEL, "cpu", True),
        (SAVED_MODEL, HUB_MODULE, "all", True),
        (SAVED_MODEL, SAVED_MODEL, "cpu", False),
        (HUB_MODULE, HUB_MODULE, "gpu", False),
    ],
)
def test_an_interpreter_that_runs_nothing_is_told(first, second, device, runs):
    python, this = Path("py"), Path(sys.executable)
    options = ParityOptions(device=device, tf1_python=python)
    lanes = plan(*surfaces(first, second), options, this, python).lanes()
    remarks = idle(options.tf1_python, lanes)
    assert len(remarks) == (not runs)
    assert all("--tf1-python: py ran nothing" in remark for remark in remarks)
    # The variable is set for all runs; this one may be of no concern to it.
    assert idle(None, lanes) == []
