"""`hubbridge to-hub-module`: what it prints, and where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import bridge
from bridge.cli import main
from tests.cli.helpers import MODULES, hubbridge
from tests.saved_model.handmade import Handmade, doubling
from tests.saved_model.images import image_model

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    model = image_model((None, None, None, 3))
    model.variable("layer/kernel", [1.0, 2.0, 3.0], attribute="layer")
    return model.write(tmp_path / "source")


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_the_summary_is_talk_and_ends_with_the_next_step(
    source: Path, dest: Path, capsys: Capture
) -> None:
    assert main(["to-hub-module", str(source), str(dest), "--image-size", "6x7"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.split()[0] == "Converted"
    text = " ".join(err.split())
    assert "1 variable (12 B)" in text
    assert "default of variant {}" in text
    assert "1 attachment" in text
    assert err.splitlines()[-1] == f'hint: in TensorFlow 1, module = hub.Module("{dest}")'


def test_json_is_the_report_and_nothing_else(source: Path, dest: Path, capsys: Capture) -> None:
    assert main(["to-hub-module", str(source), str(dest), "--json"]) == 0
    out, err = capsys.readouterr()
    expected = bridge.to_hub_module(source, dest.with_name("other")).to_dict()
    printed = json.loads(out)
    for report in (printed, expected):
        del report["seconds"], report["destination"]
    assert printed == expected
    assert printed["direction"] == "to-hub-module"
    assert [v["name"] for v in printed["variables"]] == ["layer/kernel"]
    assert err == ""


@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["", "dry run"])
def test_quiet_prints_nothing(more: list[str], source: Path, dest: Path, capsys: Capture) -> None:
    assert main(["to-hub-module", str(source), str(dest), "-q", *more]) == 0
    assert capsys.readouterr() == ("", "")
    assert dest.exists() is not bool(more)


def test_quiet_and_json_print_the_report(source: Path, dest: Path, capsys: Capture) -> None:
    assert main(["to-hub-module", str(source), str(dest), "-q", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["kept"]["variables"] == 1
    assert err == ""


def test_a_dry_run_says_and_does_so(source: Path, dest: Path, capsys: Capture) -> None:
    arguments = ["to-hub-module", str(source), str(dest), "--dry-run"]
    assert main(arguments) == 0
    err = capsys.readouterr().err
    assert "nothing was written" in err.replace("\n", " ")
    assert str(dest) in err  # on a line of its own if it is long
    assert "would hold" in err
    assert err.splitlines()[-1] == "hint: leave --dry-run out to write it"
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["destination"] is None
    assert [path.name for path in dest.parent.iterdir()] == ["source"]


def test_what_is_not_kept_stands_in_the_summary(dest: Path, capsys: Capture) -> None:
    model = doubling()
    model.variable("momentum")
    optimizer = model.objects.add_object()
    model.objects.link(0, "optimizer", optimizer)
    for name in ("momentum", "rate"):
        model.objects.link(optimizer, name, model.variable(name))
    source = model.write(dest.with_name("source"))
    (source / "keras_metadata.pb").touch()
    assert main(["to-hub-module", str(source), str(dest)]) == 0
    text = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "not kept" in text
    assert "2 variables momentum, rate" in text
    assert "file keras_metadata.pb" in text


# -- options ---------------------------------------------------------------------------------------


def _options(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, Any]:
    given: dict[str, Any] = {}

    def record(source: str, dest: str, **options: object) -> None:
        given.update(options)

    with monkeypatch.context() as patch:
        patch.setattr(bridge, "to_hub_module", record)
        assert main(["to-hub-module", "source", "dest", "--quiet", *arguments]) == 0
    del given["progress"], given["verify_progress"]
    return {**given, "allow_ops": list(given["allow_ops"])}


def test_every_option_reaches_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _options(monkeypatch) == {
        "overwrite": False,
        "link": False,
        "dry_run": False,
        "verify": None,
        "tf": "1.15",
        "task": None,
        "inputs": {},
        "image_size": None,
        "logits": False,
        "allow_ops": [],
    }
    assert _options(
        monkeypatch,
        *("--overwrite", "--link", "--dry-run", "--no-verify", "--logits", "--tf", "1.14"),
        *("--task", "image_classification", "--image-size", "224x299"),
        *("--input", "images=x", "--input", "scale=y=z"),
        *("--allow-op", "ReadFile", "--allow-op", "PyFunc"),
    ) == {
        "overwrite": True,
        "link": True,
        "dry_run": True,
        "verify": False,
        "tf": "1.14",
        "task": "image_classification",
        "inputs": {"images": "x", "scale": "y=z"},
        "image_size": (224, 299),
        "logits": True,
        "allow_ops": ["ReadFile", "PyFunc"],
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--input", "images"], "--input images: NEW=NAME is expected"),
        (["--input", "=x"], "--input =x: NEW=NAME"),
        (["--input", "images="], "--input images=: NEW=NAME"),
        (["--input", "a=x", "--input", "a=y"], "'a' is given twice"),
        (["--input", "a=picture", "--input", "b=picture"], "both 'a' and 'b'"),
        (["--input", "images=absent"], "has no input 'absent'"),
        (["--image-size", "224"], "--image-size 224: HEIGHTxWIDTH"),
        (["--image-size", "0x9"], "--image-size 0x9"),
        (["--image-size", "-1x9"], "--image-size -1x9"),
        (["--image-size", "9x9x9"], "--image-size 9x9x9"),
        (["--image-size", "9999999x9"], "--image-size 9999999x9"),
        (["--image-size", "٣x٣"], "--image-size"),
        (["--task", "image_generation"], "no task 'image_generation'"),
        (["--tf", "0.9"], "0.9"),
        (["--unknown"], "--unknown"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_make_no_sense_are_usage_errors(
    arguments: list[str], said: str, source: Path, dest: Path, capsys: Capture
) -> None:
    assert main(["to-hub-module", str(source), str(dest), *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.splitlines()[0].startswith("error: ")
    assert not dest.exists()


def test_both_arguments_are_needed(capsys: Capture) -> None:
    assert main(["to-hub-module", "source"]) == 2
    assert "hint: see `hubbridge to-hub-module --help`" in capsys.readouterr().err


def test_help_names_every_option(capsys: Capture) -> None:
    assert main(["to-hub-module", "--help"]) == 0
    text = capsys.readouterr().out
    for option in (
        *("--tf", "--task", "--input", "--image-size", "--logits", "--overwrite", "--link"),
        *("--dry-run", "--json", "--allow-op", "--quiet"),
    ):
        assert option in text


def test_overwrite_and_link_do_what_they_say(source: Path, dest: Path) -> None:
    dest.mkdir()
    arguments = ["to-hub-module", str(source), str(dest), "-q"]
    assert main(arguments) == 2
    assert main([*arguments, "--overwrite", "--link"]) == 0
    assert (dest / "tfhub_module.pb").is_file()


# -- exit codes ------------------------------------------------------------------------------------


def test_exit_codes(source: Path, dest: Path, capsys: Capture) -> None:
    nothing = Handmade().write(dest.with_name("nothing"))
    for code, given in ((2, "absent"), (3, nothing), (4, MODULES / "digits"), (0, source)):
        assert main(["to-hub-module", str(given), str(dest), "-q"]) == code
        assert dest.exists() is (code == 0)
        out, err = capsys.readouterr()
        assert out == ""
        assert ("hint: " in err) is (code != 0)


# -- terminals -------------------------------------------------------------------------------------


def _modules() -> list[str]:
    return sorted(path.name for path in MODULES.iterdir())


@pytest.mark.parametrize("name", _modules())
def test_the_summary_of_every_module_fits_into_60_columns(
    name: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge.to_saved_model(MODULES / name, tmp_path / "model")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.chdir(tmp_path)
    assert main(["to-hub-module", "model", "out"]) == 0
    lines = capsys.readouterr().err.splitlines()
    # What has no space in it is not broken: it could not be copied any more.
    assert [line for line in lines if len(line) > 60 and " " in line.strip("│├└─ ")] == []


def test_ascii_is_enough(source: Path, dest: Path) -> None:
    done = hubbridge("to-hub-module", source, dest, PYTHONIOENCODING="ascii", TERM="xterm")
    assert done.returncode == 0
    assert done.stdout == ""
    assert done.stderr.isascii()
    assert "|-- kept" in done.stderr
    assert "\x1b" not in done.stderr


def test_tensorflow_is_not_imported(source: Path, dest: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from bridge.cli import main; "
        f"assert main(['to-hub-module', {str(source)!r}, {str(dest)!r}, '-q']) == 0; "
        "print([m for m in ('tensorflow', 'tensorflow_hub', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
