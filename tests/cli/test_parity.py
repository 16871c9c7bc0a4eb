"""`hubbridge parity`: what it asks for, what it writes and prints. Nothing is run."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from bridge import _api
from bridge._parity import text
from bridge._parity.options import ParityOptions, as_json
from bridge._parity.results import ParityReport
from bridge._parity.rule import Tolerance
from bridge.cli import _progress as progress_module
from bridge.cli import main
from bridge.errors import UsageError
from tests.cli.helpers import MODULES, ROOT
from tests.parity import reports

Capture = pytest.CaptureFixture[str]


class Fake:
    """Stands for `bridge.parity`: gives a report, and remembers what it was asked."""

    def __init__(self) -> None:
        self.report = reports.passing()
        self.asked: dict[str, Any] | None = None

    def __call__(self, reference: str, candidate: str, **options: Any) -> ParityReport:
        self.asked = {"reference": reference, "candidate": candidate, **options}
        return self.report


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    monkeypatch.setattr(_api, "parity", made)
    return made


def _without_page_makers(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize(
    ("made", "code"), [(reports.passing, 0), (reports.failing, 1), (reports.inconclusive, 1)]
)
def test_the_exit_code_is_the_verdict(made, code: int, fake: Fake, capsys: Capture) -> None:
    fake.report = made()
    assert main(["parity", "a", "b"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert f"\nverdict: {fake.report.verdict.value}\n" in err


def test_options_arrive_as_they_are_given(fake: Fake, tmp_path: Path) -> None:
    arguments = [
        *("parity", "ref", "cand", "--device", "all", "--require-gpu", "--tf1-python", "py"),
        *("--images", "photos", "--inputs", "in.npz", "--samples", "3", "--batch-size", "2"),
        *("--seed", "7", "--rtol", "1e-3", "--atol", "1e-6", "--train", "--bisect"),
        *("--tolerance", "logits=1e-2", "--tolerance", "a=b/c=1e-3,1e-5", "--time-limit", "9.5"),
        *("--quiet", "--json", str(tmp_path / "x.json")),
    ]
    assert main(arguments) == 0
    assert fake.asked == {
        "reference": "ref",
        "candidate": "cand",
        "device": "all",
        "require_gpu": True,
        "tf1_python": "py",
        "images": "photos",
        "inputs": "in.npz",
        "samples": 3,
        "batch_size": 2,
        "seed": 7,
        "rtol": 1e-3,
        "atol": 1e-6,
        "tolerances": {"logits": (1e-2, 0.0), "a=b/c": (1e-3, 1e-5)},
        "train": True,
        "bisect": True,
        "time_limit": 9.5,
        "artifacts": None,
        "progress": None,
    }


def test_the_document_lists_every_option(capsys: Capture) -> None:
    assert main(["parity", "--help"]) == 0
    offered = set(re.findall(r"^ +(?:-\w, )?(--[\w-]+)", capsys.readouterr().out, re.MULTILINE))
    table = (ROOT / "docs" / "parity.md").read_text(encoding="utf-8").split("## The rule")[0]
    rows = "".join(re.findall(r"^\| `--.*?\|(?= )", table, re.MULTILINE))
    assert set(re.findall(r"--[\w-]+", rows)) == offered - {"--help"}


def test_the_defaults_are_those_of_the_options(fake: Fake) -> None:
    assert main(["parity", "a", "b", "-q"]) == 0
    assert fake.asked is not None
    for name, default in as_json(ParityOptions()).items():
        assert fake.asked["tolerances" if name == "overrides" else name] == default


def test_what_is_found_beside_the_report_is_written_there(fake: Fake, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert main(["parity", "a", "b", "-q", "--report", str(tmp_path / "x.html")]) == 0
    assert fake.asked is not None
    assert fake.asked["artifacts"] == tmp_path / "x.bisect"


def test_all_reports_are_written_where_the_verdict_is_fail(
    fake: Fake, tmp_path: Path, capsys: Capture
) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    fake.report = reports.failing()
    paths = [tmp_path / name for name in ("x.html", "x.json", "x.xml")]
    options = zip(("--report", "--json", "--junit"), map(str, paths), strict=True)
    assert main(["parity", "a", "b", *(word for pair in options for word in pair)]) == 1
    assert paths[0].read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert json.loads(paths[1].read_text(encoding="utf-8")) == fake.report.to_dict()
    assert ElementTree.parse(paths[2]).getroot().tag == "testsuites"
    hints = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hint")]
    assert hints == [
        "hint: --bisect looks for the first node that differs",
        f"hint: the whole report is in {paths[0]}",
    ]


def test_no_node_is_looked_for_where_no_values_differ(fake: Fake, capsys: Capture) -> None:
    fake.report.comparisons = [reports.failure("x", difference=None, reason="it took too long")]
    assert main(["parity", "a", "b"]) == 0
    assert "--bisect" not in capsys.readouterr().err


def test_json_to_stdout_is_the_report_and_nothing_else(fake: Fake, capsys: Capture) -> None:
    assert main(["parity", "a", "b", "--json", "-"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == fake.report.to_dict()
    assert "verdict: pass" in err
    assert main(["parity", "a", "b", "--json", "-", "--quiet"]) == 0
    assert capsys.readouterr() == (out, "")


@pytest.mark.parametrize("option", ["--report", "--json", "--junit"])
@pytest.mark.parametrize("where", ["absent/x", "."])
def test_a_file_that_cannot_be_written_fails_before_anything_runs(
    option: str, where: str, fake: Fake, tmp_path: Path, capsys: Capture
) -> None:
    if option == "--report":
        pytest.importorskip("matplotlib")
        pytest.importorskip("jinja2")
    assert main(["parity", "a", "b", option, str(tmp_path / where)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / where}")
    assert fake.asked is None


@pytest.mark.parametrize("exists", [False, True])
def test_a_file_that_may_not_be_written_fails_before_anything_runs(
    exists: bool, fake: Fake, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write everywhere, so that permissions are no use in a test.
    def denied(path: Path, **_: Any) -> None:
        raise PermissionError(errno.EACCES, "permission denied")

    path = tmp_path / "x.json"
    if exists:
        path.write_text("old", encoding="utf-8")
    monkeypatch.setattr(Path, "touch", denied)
    monkeypatch.setattr("bridge.cli.parity.os.access", lambda asked, mode: asked != path)
    assert main(["parity", "a", "b", "--json", str(path)]) == 2
    assert f"error: {path} can't be written: permission denied" in capsys.readouterr().err
    assert fake.asked is None


def test_a_name_that_is_too_long_fails_before_anything_runs(
    fake: Fake, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["parity", "a", "b", "--json", str(tmp_path / ("x" * 300))]) == 2
    assert "can't be written: File name too long" in capsys.readouterr().err
    assert fake.asked is None


def test_looking_whether_a_file_can_be_written_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> ParityReport:
        raise UsageError("something else is wrong")

    monkeypatch.setattr(_api, "parity", failing)
    (tmp_path / "old.xml").write_text("old", encoding="utf-8")
    options = ["--json", str(tmp_path / "new.json"), "--junit", str(tmp_path / "old.xml")]
    assert main(["parity", "a", "b", *options]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["old.xml"]
    assert (tmp_path / "old.xml").read_text(encoding="utf-8") == "old"


def test_a_write_that_fails_after_all_is_told(fake: Fake, capsys: Capture) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    assert main(["parity", "a", "b", "--json", "/dev/full"]) == 2
    assert "error: /dev/full can't be written: No space left" in capsys.readouterr().err


def test_a_write_that_fails_after_all_costs_neither_the_verdict_nor_other_reports(
    fake: Fake, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.report = reports.failing()
    data, page, xml = (tmp_path / f"x.{kind}" for kind in ("json", "html", "xml"))
    opened = Path.open

    def full(path: Path, *args: Any, **kwargs: Any) -> Any:
        file = opened(path, *args, **kwargs)
        if path in (data, xml):
            file.write("cut")
            monkeypatch.setattr(file, "flush", lambda: os.write(-1, b""), raising=False)
        return file

    monkeypatch.setattr(Path, "open", full)
    options = ["--json", str(data), "--junit", str(xml), "--report", str(page)]
    assert main(["parity", "a", "b", *options]) == 2
    said = capsys.readouterr().err
    assert "verdict: fail" in said.lower()
    assert f"the whole report is in {page}" not in said
    assert f"error: {data} can't be written: " in said
    assert f"{xml} can't be written: " in said
    assert page.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [path.name for path in tmp_path.iterdir()] == ["x.html"]


def test_without_stderr_the_verdict_is_the_exit_code(
    fake: Fake, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["parity", "a", "b"]) == 0
    fake.report = reports.failing()
    assert main(["parity", "a", "b", "--json", "-"]) == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "fail"


def test_a_disk_that_is_full_is_no_bug(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> ParityReport:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("bridge._parity.run.parity", full)
    assert main(["parity", "a", "b"]) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error == "error: the models can't be run: No space left on device"
    assert "TMPDIR" in hint


def test_two_reports_do_not_go_to_one_file(fake: Fake, tmp_path: Path, capsys: Capture) -> None:
    path = str(tmp_path / "x")
    other = str(tmp_path / "." / ".." / tmp_path.name / "x")
    for second in (path, other):
        assert main(["parity", "a", "b", "--json", path, "--junit", second]) == 2
        assert "two reports can't go to one file" in capsys.readouterr().err
    assert fake.asked is None


def test_a_page_that_cannot_be_made_fails_before_anything_runs(
    fake: Fake, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_page_makers(monkeypatch, "jinja2")
    assert main(["parity", "a", "b", "--report", str(tmp_path / "x.html")]) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: an HTML report needs jinja2")
    assert hint == "hint: pip install 'hubbridge[parity]'"
    assert fake.asked is None


def test_nothing_else_needs_what_makes_the_page(
    fake: Fake, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_page_makers(monkeypatch, "jinja2", "matplotlib", "PIL")
    assert main(["parity", "a", "b", "--json", "-"]) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--device", "tpu"],
        ["--tolerance", "logits"],
        ["--tolerance", "logits=nan"],
        ["--tolerance", "a=1", "--tolerance", "a=2"],
        ["--samples", "x"],
    ],
)
def test_what_does_not_fit_is_a_usage_error(
    arguments: list[str], fake: Fake, capsys: Capture
) -> None:
    assert main(["parity", "a", "b", *arguments]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert fake.asked is None


# -- bad input, and models that must not run -------------------------------------------------------


def _bad_inputs(folder: Path) -> None:
    from PIL import Image

    for name in ("empty", "cut", "texts"):
        (folder / name).mkdir()
    image = Image.effect_noise((64, 64), 50).convert("RGB")
    image.save(folder / "cut" / "a.png")
    image.save(folder / "cut" / "b.jpg")
    (folder / "cut" / "b.jpg").write_bytes((folder / "cut" / "b.jpg").read_bytes()[:-100])
    (folder / "texts" / "a.jpg").write_text("no photo", encoding="utf-8")
    (folder / "text.npz").write_text("no arrays", encoding="utf-8")
    images = np.zeros((1, 8, 8, 3), np.float32)
    np.savez(folder / "name.npz", pictures=images)
    np.savez(folder / "dtype.npz", images=images.astype(np.float64))
    np.savez(folder / "shape.npz", images=images[0])
    np.savez(folder / "none.npz")


@pytest.mark.tf2
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--images absent", "there is no directory absent"),
        ("--images name.npz", "there is no directory name.npz"),
        ("--images empty", "there is no image in empty"),
        ("--images cut", "can't read the image cut/b.jpg"),
        ("--images texts", "can't read the image texts/a.jpg"),
        ("--inputs absent.npz", "there is no file absent.npz"),
        ("--inputs empty", "there is no file empty"),
        ("--inputs text.npz", "can't read text.npz as a .npz file"),
        ("--inputs none.npz", "none.npz has no array"),
        ("--inputs name.npz", "name.npz has an array 'pictures', which is no input"),
        ("--inputs dtype.npz", "array 'images' of dtype.npz is float64 instead of float32"),
        ("--inputs shape.npz", "array 'images' of shape.npz has shape [8, 8, 3]"),
        ("--tf1-python absent", "--tf1-python: "),
        ("--tf1-python empty", "--tf1-python: "),
        ("--tf1-python text.npz", "--tf1-python: "),
        ("--tolerance nothing=1", "a tolerance is given for 'nothing'"),
        ("--samples 0", "samples is 0"),
    ],
)
def test_bad_input_is_found_before_a_model_runs(
    arguments: str,
    message: str,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(*_: Any) -> None:
        raise AssertionError("something ran")

    monkeypatch.setattr("bridge._parity.run.Crew", run)
    monkeypatch.delenv("HUBBRIDGE_TF1_PYTHON", raising=False)
    monkeypatch.chdir(tmp_path)
    _bad_inputs(tmp_path)
    module = str(MODULES / "toy_image_ref")
    assert main(["parity", module, module, *arguments.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")


def test_the_command_that_a_report_gives_asks_for_the_same_run(fake: Fake) -> None:
    options = ParityOptions(
        device="all",
        require_gpu=True,
        samples=3,
        rtol=1e-3,
        atol=1e-7,
        overrides={"a b": Tolerance(1e-2, 1e-6), "c": Tolerance(0.5)},
        train=True,
        bisect=True,
        time_limit=9.0,
    )
    report = reports.report(options)
    words = shlex.split(text.command_line(report))
    assert words[0] == "hubbridge"
    assert main([*words[1:], "-q"]) == 0
    asked = fake.asked
    assert asked is not None
    assert asked.pop("tolerances") == {"a b": (1e-2, 1e-6), "c": (0.5, 0.0)}
    assert (asked["reference"], asked["candidate"]) == (
        "testdata/modules/digits",
        "out/digits saved",
    )
    expected = as_json(options)
    del expected["overrides"]
    assert {name: asked[name] for name in expected} == expected


def test_a_path_like_an_option_is_repeated_as_a_path(fake: Fake) -> None:
    report = reports.report()
    report.candidate = type(report.candidate)("-b", "TF2 SavedModel")
    words = text.command_line(report).split()
    assert main([*words[1:2], "-q", *words[2:]]) == 0
    assert fake.asked is not None
    assert fake.asked["candidate"] == "-b"


class _Terminal:
    encoding = "utf-8"

    def __init__(self) -> None:
        self.written = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.written += text
        return len(text)

    def flush(self) -> None:
        pass


def test_a_long_run_shows_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "PATIENCE", 0)
    monkeypatch.setenv("TERM", "xterm")
    stream = _Terminal()
    with progress_module.running(stream) as update:  # type: ignore[arg-type]
        assert update is not None
        update("[bold]default\x1b of {}", 1, 9)
        update("train", 3, 5)
    assert "1/9" in stream.written
    assert "[bold]default\\x1b of {}" in stream.written
    assert "3/5" in stream.written


def test_a_short_run_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = _Terminal()
    with progress_module.running(stream) as update:  # type: ignore[arg-type]
        assert update is not None
        update("default", 1, 9)
    assert stream.written == ""
    with progress_module.running(stream, quiet=True) as update:  # type: ignore[arg-type]
        assert update is None
