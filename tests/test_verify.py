"""Conversions that prove themselves before DEST appears."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bridge
from bridge import verify
from bridge._parity.results import Status, StructureCheck
from bridge._surfaces.hub_module import variables_by_update_op
from bridge.cli import main
from bridge.errors import Where
from bridge.hub_module.writer import HubModuleWriter
from bridge.report import Report
from bridge.saved_model.writer import SavedModelWriter
from tests.parity import reports
from tests.parity.models import scale_weight
from tests.saved_model.images import image_model

pytestmark = pytest.mark.tf2


def test_what_is_verified_says_so(module_dir: Callable[[str], Path], tmp_path: Path) -> None:
    there = bridge.to_saved_model(module_dir("rnn"), tmp_path / "rnn", verify=True)
    back = bridge.to_hub_module(tmp_path / "rnn", tmp_path / "module", verify=True)
    for report in (there, back):
        assert report.verification is not None
        assert report.verification.verdict == "pass"
        assert report.verification.compared > 3
        assert report.verification.not_compared == 0
        assert len(report.verification.runtimes) >= 2
        # The two times are told apart: that of the conversion is without that of the proof.
        assert report.seconds < report.verification.seconds
    assert sorted(path.name for path in tmp_path.iterdir()) == ["module", "rnn"]


def test_what_is_not_the_same_does_not_appear(
    module_dir: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(monkeypatch, SavedModelWriter, "/.ATTRIBUTES/VARIABLE_VALUE")
    dest = tmp_path / "rnn"
    assert main(["to-saved-model", str(module_dir("rnn")), str(dest), "--verify"]) == 1
    said = capsys.readouterr().err
    assert "error: the conversion was not verified" in said
    assert "--no-verify" in said
    assert not dest.exists()
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["rnn.parity.html", "rnn.parity.json"]
    found = json.loads((tmp_path / "rnn.parity.json").read_text())
    assert found["verdict"] == "fail"
    assert found["candidate"]["path"] == str(dest)
    page = html.unescape((tmp_path / "rnn.parity.html").read_text(encoding="utf-8"))
    lines = re.findall(r'<pre id="command">(.*?)</pre>', page, re.DOTALL)[0].splitlines()
    monkeypatch.undo()
    bridge.to_saved_model(module_dir("rnn"), dest)
    # Nobody has looked at this one.
    assert len(list(tmp_path.iterdir())) == 3
    shutil.rmtree(dest)
    assert lines[0].startswith("#")
    convert, again = (shlex.split(line) for line in lines[1:])
    assert main([*convert[1:], "--quiet"]) == 0
    assert again[:2] == ["hubbridge", "parity"]
    assert again[-1] == str(dest)
    spoil(monkeypatch, HubModuleWriter, "")
    with pytest.raises(bridge.VerificationError, match="not verified"):
        bridge.to_hub_module(dest, tmp_path / "module", verify=True)
    assert not (tmp_path / "module").exists()


def test_a_failure_that_was_mended_leaves_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("x.parity.html", "x.parity.json", "x.parity.txt", "y.parity.html")
    for name in names:
        (tmp_path / name).write_text("fail")
    monkeypatch.setattr("bridge._parity.run.parity", lambda *_, **__: reports.passing())
    report = Report("s", "d", "to-saved-model")
    verify.verify_conversion(tmp_path, tmp_path, tmp_path / "x", report)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.parity.txt", "y.parity.html"]
    (tmp_path / "x.parity.html").mkdir()
    verify.verify_conversion(tmp_path, tmp_path, tmp_path / "x", report)
    assert (tmp_path / "x.parity.html").is_dir()


def test_a_report_that_cannot_be_written_leaves_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge._parity.run.parity", lambda *_, **__: reports.failing())
    for name in ("x.parity.html", "x.parity.json"):
        (tmp_path / name).mkdir()
    with pytest.raises(bridge.VerificationError, match="was not verified") as caught:
        verify.verify_conversion(
            tmp_path, tmp_path, tmp_path / "x", Report("s", "d", "to-saved-model")
        )
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("no report could be written beside DEST; --no-verify")
    (tmp_path / "x.parity.json").rmdir()
    with pytest.raises(bridge.VerificationError, match="was not verified") as caught:
        verify.verify_conversion(
            tmp_path, tmp_path, tmp_path / "x", Report("s", "d", "to-saved-model")
        )
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(f"{tmp_path / 'x.parity.json'} has the whole comparison")


def test_an_interpreter_that_is_none_is_a_usage_error(
    module_dir: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HUBBRIDGE_TF1_PYTHON", str(tmp_path / "none"))
    command = ["to-saved-model", str(module_dir("rnn")), str(tmp_path / "dest")]
    assert main([*command, "--verify"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "HUBBRIDGE_TF1_PYTHON" in said
    assert "--no-verify writes DEST without" in said
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_cannot_be_verified(
    module_dir: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["to-saved-model", str(module_dir("rnn")), str(tmp_path / "dest"), "--dry-run"]
    assert main([*command, "--verify"]) == 2
    assert "--verify does not go with --dry-run" in capsys.readouterr().err


def spoil(monkeypatch: pytest.MonkeyPatch, writer: Any, suffix: str) -> None:
    """Lets a writer write a wrong weight."""
    write = writer.write

    def wrong(self: Any, directory: Path) -> None:
        write(self, directory)
        name = next(n for n, v in self._model.variables.items() if v.trainable)
        scale_weight(directory, f"{name}{suffix}", 1.01)

    monkeypatch.setattr(writer, "write", wrong)


def test_verification_is_on_where_tensorflow_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUBBRIDGE_VERIFY", raising=False)
    assert verify.should_verify(None)
    assert not verify.should_verify(False)
    monkeypatch.setenv("HUBBRIDGE_VERIFY", "0")
    assert not verify.should_verify(None)
    assert verify.should_verify(True)
    monkeypatch.setattr(verify.importlib.util, "find_spec", lambda _: None)
    assert not verify.should_verify(None)
    monkeypatch.delenv("HUBBRIDGE_VERIFY")
    assert not verify.should_verify(None)
    with pytest.raises(bridge.MissingExtraError, match="needs TensorFlow"):
        verify.should_verify(True)
    monkeypatch.setenv("HUBBRIDGE_VERIFY", "1")
    assert not verify.should_verify(False)
    with pytest.raises(bridge.MissingExtraError, match="needs TensorFlow"):
        verify.should_verify(None)
    # Images can't be made without Pillow, so that TensorFlow alone is not enough.
    monkeypatch.setattr(verify.importlib.util, "find_spec", lambda name: name != "PIL" or None)
    with pytest.raises(bridge.MissingExtraError, match="needs Pillow"):
        verify.should_verify(None)
    assert "Pillow" in verify.why_not()
    monkeypatch.setenv("HUBBRIDGE_VERIFY", "maybe")
    with pytest.raises(bridge.UsageError, match="'maybe'"):
        verify.should_verify(None)


def test_what_could_not_be_verified_says_so(
    module_dir: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(verify.importlib.util, "find_spec", lambda _: None)
    module = module_dir("rnn")
    assert bridge.to_saved_model(module, tmp_path / "off").not_verified == ""
    monkeypatch.delenv("HUBBRIDGE_VERIFY")
    report = bridge.to_saved_model(module, tmp_path / "rnn")
    assert report.verification is None
    assert "hubbridge[parity]" in report.not_verified
    assert bridge.to_saved_model(module, tmp_path / "x", verify=False).not_verified == ""
    assert bridge.to_saved_model(module, tmp_path / "y", dry_run=True).not_verified == ""
    assert main(["to-saved-model", str(module), str(tmp_path / "again")]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "not verified" in said
    assert "pip install 'hubbridge[parity]'" in said


def test_what_could_not_be_compared_may_be_fed_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge._parity.run.parity", lambda *_, **__: reports.inconclusive())
    report = Report("s", "d", "to-saved-model")
    with pytest.raises(bridge.VerificationError) as caught:
        verify.verify_conversion(tmp_path, tmp_path, tmp_path / "x", report)
    assert "hubbridge parity SOURCE DEST --inputs FILE.npz" in str(caught.value.hint)


def test_by_default_a_conversion_is_verified(
    module_dir: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HUBBRIDGE_VERIFY")
    report = bridge.to_saved_model(module_dir("no_variables"), tmp_path / "out")
    assert report.verification is not None
    assert report.verification.compared > 0
    assert report.not_verified == ""


def test_logits_are_not_what_the_source_returns(
    module_dir: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(bridge.UsageError, match="--logits"):
        bridge.to_hub_module(module_dir("rnn"), tmp_path / "x", logits=True, verify=True)
    classifier = image_model().write(tmp_path / "classifier")
    monkeypatch.delenv("HUBBRIDGE_VERIFY")
    report = bridge.to_hub_module(classifier, tmp_path / "logits", logits=True)
    assert report.verification is None
    assert "--logits" in report.not_verified


# -- what the conversion names as not kept ---------------------------------------------------------


def losses(reference: int, candidate: int, variant: str = "{train}") -> StructureCheck:
    texts = str(reference), str(candidate)
    return StructureCheck(
        "regularization_loss", "count", Status.FAIL, *texts, reason="they differ", variant=variant
    )


def test_only_the_losses_that_are_named_are_excused() -> None:
    report = Report("source", "dest", "to-saved-model")
    place = Where(variant="{train}")
    report.drop("regularization_loss", "loss_2", "it depends on the input 'x'", place)
    (excused,) = verify._with_excuses([losses(3, 2)], report, Path("source"))
    assert excused.status is Status.NOT_COMPARABLE
    assert "it depends on the input 'x'" in excused.reason
    for other in (losses(3, 1), losses(2, 3), losses(3, 2, "{}")):
        assert verify._with_excuses([other], report, Path("source")) == [other]


def test_only_the_updates_of_named_ops_are_excused(module_dir: Callable[[str], Path]) -> None:
    module = module_dir("toy_image_resource")
    ops = variables_by_update_op(module)
    (mean,) = (name for (_, name), found in ops.items() if found == {"Toy/bn1/moving_mean"})
    report = Report("source", "dest", "to-saved-model")
    report.drop("update_op", mean, "no call runs it", Where(variant="{train}"))
    checks = [
        StructureCheck(
            "update_op", name, Status.FAIL, "updated", "not updated", "lost", variant="{train}"
        )
        for name in ("Toy/bn1/moving_mean", "Toy/bn1/moving_variance")
    ]
    first, second = verify._with_excuses(checks, report, module)
    assert first.status is Status.NOT_COMPARABLE
    assert "no call runs it" in first.reason
    assert second == checks[1]
