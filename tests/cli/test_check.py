"""`hubbridge check`: what it prints, and where."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path

import pytest

import bridge
from bridge.cli import main
from bridge.cli._check_lines import check_lines
from bridge.cli._terminal import Style
from bridge.cli.check import check as command
from tests.attacks.edit import copy_module, saved_model
from tests.cli.helpers import MODULES, hubbridge

Capture = pytest.CaptureFixture[str]

DIGITS = MODULES / "digits"


@pytest.fixture
def renamed(tmp_path: Path) -> Path:
    """A module whose image input is called otherwise, by a name that is no friend of terminals."""
    module = copy_module("digits", tmp_path)
    with saved_model(module) as message:
        for meta_graph in message.meta_graphs:
            for signature in meta_graph.signature_def.values():
                signature.inputs["\x1b[2Jpictures"].CopyFrom(signature.inputs["images"])
                del signature.inputs["images"]
    return module


def _flat(text: str) -> str:
    """Returns the text without the tree and its line breaks."""
    return " ".join(line.strip("│├└─ ") for line in text.splitlines())


def test_the_lines_are_data(capsys: Capture) -> None:
    assert main(["check", str(DIGITS)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith("Checked ")
    assert lines[-1] == "no clause broken, 13 hold"
    for text in (
        "✓ IMG01 holds: `default` is the same as the signature of a task (the same as image_cl",
        "✓ IMG05 holds: no dropout acts on feature vectors (image_feature_vector in {}, {train})",
        "✓ update-ops-empty holds: training moves the moving averages (6 moving averages)",
        "· reusable-saved-model does not apply: it is a TF1 Hub module",
    ):
        assert text in _flat(out)


def test_a_broken_clause_exits_1_and_says_how_to_mend_it(renamed: Path, capsys: Capture) -> None:
    assert main(["check", str(renamed), "--only", "IMG07"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    lines = _flat(out)
    assert "✗ IMG07 broken; wanted: the image input is called `images`" in lines
    assert (
        "'\\x1b[2Jpictures' of default, image_classification, image_feature_vector in {}, {train}:"
    ) in lines
    assert "to mend it, call it `images` in hub.add_signature(" in lines
    assert lines.endswith("1 clause broken")


def test_a_model_to_which_nothing_applies_exits_0_and_says_so(capsys: Capture) -> None:
    assert main(["check", str(MODULES / "text_vocab")]) == 0
    out, _ = capsys.readouterr()
    assert out.endswith("nothing to judge: no clause applies to this model\n")
    assert out.count("does not apply") == 14


def test_json_is_the_report_and_nothing_else(renamed: Path, capsys: Capture) -> None:
    assert main(["check", str(renamed), "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out) == bridge.check(renamed).to_dict()
    assert err == ""


def test_clauses_are_chosen_by_commas_and_by_repetition(capsys: Capture) -> None:
    options = ["--only", "IMG05, img02", "--only", "IMG10", "--json"]
    assert main(["check", str(DIGITS), *options]) == 0
    out, _ = capsys.readouterr()
    assert [clause["id"] for clause in json.loads(out)["clauses"]] == ["IMG02", "IMG05", "IMG10"]


def test_one_clause_that_holds_is_spoken_of_as_one(capsys: Capture) -> None:
    assert main(["check", str(DIGITS), "--only", "IMG02"]) == 0
    assert capsys.readouterr().out.endswith("\nno clause broken, 1 holds\n")


def test_an_unknown_clause_is_an_error_with_a_list(capsys: Capture) -> None:
    assert main(["check", str(DIGITS), "--only", "IMG05,IMG99"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0] == "error: there is no clause 'IMG99'"
    assert "IMG01, IMG02" in err


def test_bad_input_is_one_line_and_a_hint(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 40)
    for path, code in ((tmp_path / "absent", 2), (tmp_path, 4)):
        assert main(["check", str(path)]) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: ")


def test_it_fits_60_columns_without_colour_and_in_ascii(renamed: Path) -> None:
    report = bridge.check(renamed)
    for unicode in (True, False):
        text = check_lines(report, Style(60, unicode, False))
        assert "\x1b" not in text
        assert text.isascii() or unicode
        # A name that is longer than a line stays whole.
        long_ones = [line for line in text.splitlines() if len(line) > 60]
        assert not [line for line in long_ones if " " in line.strip("│├└─|`- ")], long_ones
    assert "\x1b[1;31m" in check_lines(report, Style(60, True, True))


def test_what_was_found_in_many_places_is_cut() -> None:
    report = bridge.check(DIGITS, only=["IMG06"])
    (clause,) = report.clauses
    breaches = tuple(
        bridge.Breach("it is odd", "make it even", "{}", "default", name=f"input{number}")
        for number in range(9)
    )
    broken = replace(clause, status=bridge.ClauseStatus.BROKEN, breaches=breaches)
    text = check_lines(replace(report, clauses=(broken,), remarks=("One more.",)), Style(100))
    assert "'input5' of default in {}; and 3 more: it is odd" in _flat(text)
    assert "'input6'" not in text
    assert "One more." in text


def test_it_runs_in_a_process_of_its_own() -> None:
    done = hubbridge("check", DIGITS, COLUMNS="60")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines()[2:])) <= 60


def test_the_command_has_the_options_of_the_function() -> None:
    function = set(inspect.signature(bridge.check).parameters)
    assert set(inspect.signature(command).parameters) == function | {"as_json"}
