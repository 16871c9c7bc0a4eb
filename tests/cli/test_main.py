"""The frame of the command line: errors, exit codes, help, pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import bridge
from bridge.cli import main
from tests.cli.helpers import MODULES, ROOT, hubbridge

Capture = pytest.CaptureFixture[str]


def test_version_is_data(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr() == (f"hubbridge {bridge.__version__}\n", "")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["to-saved-model", "--help"]])
def test_help_is_data(arguments: list[str], capsys: Capture) -> None:
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Usage: hubbridge")
    assert err == ""


def test_no_command_is_an_error_with_help(capsys: Capture) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "to-saved-model" in err


@pytest.mark.parametrize(
    ("arguments", "message", "command"),
    [
        (["to-saved-model"], "missing argument 'SOURCE'", "hubbridge to-saved-model"),
        (["to-saved-model", "a"], "missing argument 'DEST'", "hubbridge to-saved-model"),
        (["to-saved-model", "a", "b", "c"], "extra argument", "hubbridge to-saved-model"),
        (["to-saved-model", "a", "b", "--linc"], "--linc", "hubbridge to-saved-model"),
        (["to-saved-mode"], "no such command 'to-saved-mode'", "hubbridge"),
    ],
)
def test_usage_errors_have_the_tone_of_the_others(
    arguments: list[str], message: str, command: str, capsys: Capture
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    error, hint = err.splitlines()
    assert out == ""
    assert error.startswith("error: ")
    assert message in error
    assert hint == f"hint: see `{command} --help`"


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], list[str]]:
    """Lets the conversion end in an error; returns the command line that meets it."""

    def arrange(error: BaseException) -> list[str]:
        def fail(*arguments: object, **options: object) -> None:
            raise error

        monkeypatch.setattr(bridge, "to_saved_model", fail)
        return ["to-saved-model", "source", "dest"]

    return arrange


def test_an_error_is_printed_with_its_hint(
    failing: Callable[[BaseException], list[str]], capsys: Capture
) -> None:
    error = bridge.UnsafeError("op X runs code", where=bridge.Where(node="x"), hint="don't")
    assert main(failing(error)) == 4
    assert capsys.readouterr() == ("", "error: op X runs code (node 'x')\nhint: don't\n")


def test_a_bug_is_called_one(
    failing: Callable[[BaseException], list[str]], capsys: Capture
) -> None:
    assert main(failing(KeyError("conv"))) == 5
    error, hint = capsys.readouterr().err.splitlines()
    assert error == "error: internal error: KeyError: 'conv'"
    assert "HUBBRIDGE_TRACEBACK=1" in hint


def test_no_memory_is_no_bug(
    failing: Callable[[BaseException], list[str]], capsys: Capture
) -> None:
    assert main(failing(MemoryError())) == 5
    error, hint = capsys.readouterr().err.splitlines()
    assert error == "error: there is not enough memory"
    assert "--batch-size" in hint


def test_the_traceback_is_printed_on_demand(
    failing: Callable[[BaseException], list[str]],
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HUBBRIDGE_TRACEBACK", "1")
    assert main(failing(KeyError("conv"))) == 5
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_ctrl_c_ends_quietly_with_the_code_that_shells_give(
    failing: Callable[[BaseException], list[str]], capsys: Capture
) -> None:
    assert main(failing(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "")


def test_names_from_a_model_cannot_steer_the_terminal(
    failing: Callable[[BaseException], list[str]], capsys: Capture
) -> None:
    assert main(failing(bridge.MalformedError("\x1b[2Jnode\nerror: x\u202e"))) == 4
    assert capsys.readouterr().err == "error: \\x1b[2Jnode\\nerror: x\\u202e\n"


def test_a_source_that_is_absent_ends_the_process_with_2(tmp_path: Path) -> None:
    done = hubbridge("to-saved-model", tmp_path / "absent", tmp_path / "out")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="pipes are others there")
@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_pipe_makes_no_noise(closed: str, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, closed: write}
    done = subprocess.run(
        [sys.executable, "-m", "bridge", "to-saved-model", MODULES / "digits", tmp_path / "out"]
        + (["--json"] if closed == "stdout" else []),
        cwd=ROOT,
        check=False,
        **streams,
    )
    os.close(write)
    assert done.returncode == (141 if closed == "stdout" else 0)
    assert not done.stderr
    assert (tmp_path / "out" / "saved_model.pb").is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["inspect", str(MODULES / "digits"), "--no-conversion"],
        ["inspect", str(MODULES / "digits"), "--json"],
        ["check", str(MODULES / "digits"), "--json"],
        ["to-saved-model", str(MODULES / "digits"), "out", "--dry-run", "--json"],
    ],
    ids=lambda arguments: " ".join(Path(one).name for one in arguments),
)
def test_output_that_can_t_be_written_is_an_error_and_no_bug(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "bridge", *arguments],
            cwd=ROOT,
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 2
    (line,) = (one for one in done.stderr.splitlines() if one.startswith(("error", "Exception")))
    assert line == "error: stdout can't be written: No space left on device"


BUSY = """
import signal, sys, tempfile, time
import bridge.cli._app as app

def run(argv):
    with tempfile.TemporaryDirectory(dir="."):
        print("busy", flush=True)
        time.sleep(60)

# The tests may run under nohup themselves.
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[1] == "nohup" else signal.SIG_DFL)
app.run = run
from bridge.cli import main
sys.exit(main())
"""
"""A command that does nothing for long, with a directory of temporary files."""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGHUP")
@pytest.mark.parametrize(
    ("how", "sent", "code"),
    [
        ("plain", [signal.SIGTERM], 143),
        ("plain", [signal.SIGHUP], 129),
        ("plain", [signal.SIGHUP, signal.SIGHUP], 129),
        ("nohup", [signal.SIGHUP, signal.SIGTERM], 143),
    ],
)
def test_a_command_that_is_ended_leaves_nothing_behind(
    how: str, sent: list[signal.Signals], code: int, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BUSY, how],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "busy\n"
        assert len(list(tmp_path.iterdir())) == 1
        for number in sent:
            process.send_signal(number)
        assert process.wait(20) == code
    assert not list(tmp_path.iterdir())
