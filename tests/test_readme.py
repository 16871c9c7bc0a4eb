"""What the README says works as printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.errors import HubBridgeError
from tests.clients.tf1 import tf1_environ

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+(?: tf1)?)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)

TF1 = "python tf1"
"""Marks Python that TensorFlow 1.15 runs; GitHub looks at the first word only."""

# Runs the blocks in order, as a reader would: commands in a shell, Python in one session.
READER = """\
import json, subprocess, sys
session = {"__name__": "__main__"}
for language, text in json.load(sys.stdin):
    print(f"--- {language}", text, sep="\\n", flush=True)
    if language == "bash":
        subprocess.run(["bash", "-euo", "pipefail", "-c", text], check=True)
    else:
        exec(compile(text, "README.md", "exec"), session)
"""


def make_clone(path: Path) -> Path:
    """Makes a directory with what the examples read, to keep what they write out of the project."""
    (path / "testdata").symlink_to(ROOT / "testdata")
    return path


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    return make_clone(tmp_path)


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose PATH has this Python's commands, `hubbridge` too if not installed."""
    scripts = Path(sys.executable).parent
    paths = [str(scripts), os.environ["PATH"]]
    if not (scripts / "hubbridge").exists():
        made = tmp_path_factory.mktemp("bin") / "hubbridge"
        made.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bridge "$@"\n')
        made.chmod(0o755)
        paths.insert(0, str(made.parent))
    return os.environ | {"PATH": os.pathsep.join(paths), "PYTHONPATH": str(ROOT)}


def read(python: str | Path, languages: set[str], clone: Path, environ: dict[str, str]) -> str:
    """Runs the blocks of some languages in one session; returns what they print."""
    blocks = [block for block in BLOCKS if block[0] in languages]
    done = subprocess.run(
        [str(python), "-W", "ignore", "-c", READER],
        check=False,
        cwd=clone,
        env=environ,
        input=json.dumps(blocks),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, environ: dict[str, str]) -> tuple[Path, str]:
    """A clone where all examples but those of TensorFlow 1.15 have run, and their output."""
    clone = make_clone(tmp_path_factory.mktemp("clone"))
    return clone, read(sys.executable, {"bash", "python"}, clone, environ)


@pytest.mark.tf2
@pytest.mark.slow
def test_the_examples_run_in_order(reader):
    clone, output = reader
    assert "\n[4 9 6 7 0 2 3 5 1 8 8 8]\n" in output
    made = {"digits", "digits-tuned", "serving/digits/1", "network", "trainable"}
    modules = {"module", "trainable-module", "digits-again", "digits-tuned-module"}
    assert all((clone / "build" / name / "saved_model.pb").is_file() for name in made | modules)
    assert all((clone / "build" / name / "tfhub_module.pb").is_file() for name in modules)


@pytest.mark.tf2
@pytest.mark.slow
def test_the_examples_for_tensorflow_1_run_in_order(reader, tf1_python):
    output = read(tf1_python, {TF1}, reader[0], tf1_environ())
    assert "\n[16, 16]\n" in output
    assert "\n[4 9 6 7 0 2 3 5 1 8 8 8]\n" in output
    before, after = map(float, re.findall(r"^loss (\S+) → (\S+)$", output, re.MULTILINE)[0])
    assert after < before / 2


def test_the_first_example_needs_no_tensorflow(clone, environ):
    language, text = BLOCKS[0]
    assert language == "bash"
    blocked = clone / "blocked"
    blocked.mkdir()
    (blocked / "tensorflow.py").write_text("raise ImportError('TensorFlow was imported')\n")
    environ["PYTHONPATH"] = os.pathsep.join([str(blocked), environ["PYTHONPATH"]])
    subprocess.run(["bash", "-euc", text], check=True, cwd=clone, env=environ)
    assert (clone / "build" / "digits" / "saved_model.pb").is_file()


def test_setup_commands_name_what_there_is():
    setup = "".join(text for language, text in BLOCKS if language == "sh")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", setup, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for extra in re.findall(r"\[(\w+)\]", setup):
        assert re.search(rf"^{extra} = \[", project, flags=re.MULTILINE), extra


@pytest.mark.parametrize("command", ["to-saved-model", "to-hub-module"])
def test_every_option_is_listed(command):
    done = subprocess.run(
        [sys.executable, "-m", "bridge", command, "--help"],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )
    options = set(re.findall(r"--[a-z-]+", done.stdout)) - {"--help"}
    listed = "".join(re.findall(r"^\| (`--.*?) \|", README, flags=re.MULTILINE))
    assert {option for option in options if f"`{option}" not in listed} == set()


def test_every_exit_code_is_listed():
    codes = {int(code) for code in re.findall(r"^\| (\d) \|", README, flags=re.MULTILINE)}
    assert codes == {0, *exit_codes(HubBridgeError)}


def exit_codes(error: type[HubBridgeError]) -> set[int]:
    return {error.exit_code}.union(*map(exit_codes, error.__subclasses__()))


@pytest.mark.parametrize("page", ["README.md", "docs/benchmarks.md", "docs/how-it-works.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    missing = [t for t in targets if not ((ROOT / page).parent / t).exists()]
    assert targets
    assert missing == []


@pytest.mark.parametrize("command", ["inspect", "check"])
def test_what_is_shown_of_looking_is_what_is_printed(command, environ):
    shown = re.search(
        rf"^hubbridge {command} (\S+)\n```\n\n```text\n(.*?)^```$",
        README,
        flags=re.MULTILINE | re.DOTALL,
    )
    done = subprocess.run(
        [sys.executable, "-m", "bridge", command, shown[1]],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environ | {"COLUMNS": "72"},
    )
    parts = shown[2].split("…\n")
    assert len(parts) > 1
    assert [part for part in parts if part not in done.stdout] == []
