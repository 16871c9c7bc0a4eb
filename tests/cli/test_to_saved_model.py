"""`hubbridge to-saved-model`: what it prints, and where."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bridge
from bridge.cli import _progress as progress_module
from bridge.cli import main
from tests.attacks.builders import reads_a_file, runs_python, table_from_any_file, writes_a_file
from tests.attacks.edit import copy_module
from tests.cli.helpers import MODULES, ROOT, hubbridge

Capture = pytest.CaptureFixture[str]


def test_the_summary_is_talk_and_ends_with_the_next_step(tmp_path: Path, capsys: Capture) -> None:
    dest = tmp_path / "out"
    assert main(["to-saved-model", str(MODULES / "digits"), str(dest)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.split()[0] == "Converted"
    assert "14 variables (13.9 KiB)" in err
    assert err.splitlines()[-1] == f'hint: obj = tf.saved_model.load("{dest}")'


def test_json_is_the_report_and_nothing_else(tmp_path: Path, capsys: Capture) -> None:
    arguments = ["to-saved-model", str(MODULES / "digits"), str(tmp_path / "out"), "--json"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    expected = bridge.to_saved_model(MODULES / "digits", tmp_path / "other").to_dict()
    printed = json.loads(out)
    for report in (printed, expected):
        del report["seconds"], report["destination"]
    assert printed == expected
    assert err == ""


def test_quiet_prints_nothing(tmp_path: Path, capsys: Capture) -> None:
    assert main(["to-saved-model", str(MODULES / "digits"), str(tmp_path / "out"), "-q"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_dry_run_says_and_does_so(tmp_path: Path, capsys: Capture) -> None:
    arguments = ["to-saved-model", str(MODULES / "digits"), str(tmp_path / "out"), "--dry-run"]
    assert main(arguments) == 0
    err = capsys.readouterr().err
    assert "nothing was written" in err.replace("\n", " ")
    assert "14 variables" in err
    assert err.splitlines()[-1] == "hint: leave --dry-run out to write it"
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["destination"] is None
    assert list(tmp_path.iterdir()) == []


def test_overwrite_and_link_reach_the_function(tmp_path: Path) -> None:
    source = copy_module("digits", tmp_path)
    dest = tmp_path / "out"
    dest.mkdir()
    assert main(["to-saved-model", str(source), str(dest)]) == 2
    assert main(["to-saved-model", str(source), str(dest), "--overwrite", "--link", "-q"]) == 0
    data = source / "variables" / "variables.data-00000-of-00001"
    assert data.stat().st_nlink == 2


@pytest.mark.parametrize("tags", ["de", "de,", " de "])
def test_variant_takes_tags(tags: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _options(monkeypatch, "--variant", tags)["variant"] == {"de"}


def test_variant_takes_several_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _options(monkeypatch, "--variant", "de,train")["variant"] == {"de", "train"}
    assert _options(monkeypatch)["variant"] is None


def test_allow_op_may_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    options = _options(monkeypatch, "--allow-op", "ReadFile", "--allow-op", "PyFunc")
    assert list(options["allow_ops"]) == ["ReadFile", "PyFunc"]  # type: ignore[call-overload]


def _options(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, object]:
    given: dict[str, object] = {}

    def record(source: str, dest: str, **options: object) -> None:
        given.update(options)

    with monkeypatch.context() as patch:
        patch.setattr(bridge, "to_saved_model", record)
        assert main(["to-saved-model", "source", "dest", "--quiet", *arguments]) == 0
    return given


@pytest.mark.parametrize(
    ("build", "op"),
    [
        (reads_a_file, "ReadFile"),
        (writes_a_file, "WriteFile"),
        (runs_python, "PyFunc"),
        (table_from_any_file, "InitializeTableFromTextFileV2"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_an_unsafe_op_is_refused_until_it_is_allowed(
    build: object, op: str, tmp_path: Path, capsys: Capture
) -> None:
    module = copy_module("text_vocab", tmp_path)
    build(module)  # type: ignore[operator]
    arguments = ["to-saved-model", str(module), str(tmp_path / "out"), "-q"]
    assert main(arguments) == 4
    assert f"--allow-op {op}" in capsys.readouterr().err
    assert main([*arguments, "--allow-op", op]) == 0
    assert (tmp_path / "out" / "saved_model.pb").is_file()


# -- terminals ------------------------------------------------------------------------------------

NAMES = sorted(path.name for path in MODULES.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_the_summary_of_every_module_fits_into_60_columns(
    name: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.chdir(tmp_path)
    if main(["to-saved-model", str(MODULES / name), "out"]):
        pytest.skip(capsys.readouterr().err)
    lines = capsys.readouterr().err.splitlines()
    # What has no space in it is not broken: it could not be copied any more.
    long = [line for line in lines if len(line) > 60 and " " in line.strip("│├└─ ")]
    assert [line for line in long if str(MODULES) not in line] == []


def test_ascii_is_enough(tmp_path: Path) -> None:
    done = hubbridge(
        "to-saved-model", MODULES / "toy_image_ref", tmp_path / "out", PYTHONIOENCODING="ascii"
    )
    assert done.returncode == 0
    assert done.stderr.isascii()
    assert "|-- kept" in done.stderr
    assert "\\u" not in done.stderr


@pytest.mark.parametrize(
    ("environment", "colour"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
    ids=["plain", "NO_COLOR", "dumb"],
)
def test_a_terminal_gets_colour_unless_it_is_not_wanted(
    environment: dict[str, str], colour: bool, tmp_path: Path
) -> None:
    text = _in_terminal(tmp_path / "out", {"TERM": "xterm", **environment})
    assert ("\x1b[" in text) is colour
    assert "14 variables" in text


def test_a_pipe_gets_no_colour(tmp_path: Path) -> None:
    done = hubbridge("to-saved-model", MODULES / "digits", tmp_path / "out", TERM="xterm")
    assert "\x1b" not in done.stderr


def _in_terminal(dest: Path, environment: dict[str, str]) -> str:
    clean = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "bridge", "to-saved-model", MODULES / "digits", dest],
        cwd=ROOT,
        env={**clean, "PYTHONIOENCODING": "utf-8", **environment},
        stderr=follower,
    ) as process:
        os.close(follower)
        chunks = []
        while True:
            try:
                chunk = os.read(leader, 4096)
            except OSError:  # how Linux says that the other end is closed
                break
            if not chunk:
                break
            chunks.append(chunk)
    os.close(leader)
    assert process.returncode == 0
    return b"".join(chunks).decode()


# -- progress -------------------------------------------------------------------------------------


class Terminal:
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def __init__(self, tty: bool = True):
        self.tty = tty
        self.text = ""

    def isatty(self) -> bool:
        return self.tty

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


@pytest.mark.parametrize(("seconds", "shown"), [(0.5, False), (1.5, True)])
def test_work_of_over_a_second_shows_a_bar(
    seconds: float, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    now = time.monotonic()
    stream = Terminal()
    with progress_module.converting(stream) as progress:  # type: ignore[arg-type]
        update = progress.copying
        assert update is not None
        monkeypatch.setattr(progress_module.time, "monotonic", lambda: now + seconds)
        update(1 << 20, 4 << 20)
        update(2 << 20, 4 << 20)
    assert bool(stream.text) is shown
    assert not shown or "4.0 MiB" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.text)


@pytest.mark.parametrize(
    ("stream", "quiet", "term"),
    [
        (Terminal(tty=False), False, "xterm"),
        (Terminal(), True, "xterm"),
        (Terminal(), False, "dumb"),
    ],
    ids=["pipe", "quiet", "dumb"],
)
def test_no_bar_where_nobody_wants_one(
    stream: Terminal, quiet: bool, term: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    with progress_module.converting(stream, quiet=quiet) as progress:  # type: ignore[arg-type]
        assert progress.copying is None


def test_the_copy_is_told_how_far_it_is(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    report = bridge.to_saved_model(
        MODULES / "digits",
        tmp_path / "out",
        progress=lambda done, total: told.append((done, total)),
    )
    assert told[-1] == (report.kept.variable_bytes,) * 2
