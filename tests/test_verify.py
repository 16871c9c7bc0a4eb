"""Conversions that prove themselves before DEST appears."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bridge
from bridge import verify
from bridge.cli import main
from bridge.hub_module.writer import HubModuleWriter
from bridge.saved_model.writer import SavedModelWriter
from tests.parity.models import scale_weight

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
    monkeypatch.undo()
    bridge.to_saved_model(module_dir("rnn"), dest)
    spoil(monkeypatch, HubModuleWriter, "")
    with pytest.raises(bridge.VerificationError, match="not verified"):
        bridge.to_hub_module(dest, tmp_path / "module", verify=True)
    assert not (tmp_path / "module").exists()


def spoil(monkeypatch: pytest.MonkeyPatch, writer: Any, suffix: str) -> None:
    """Lets a writer write a wrong weight."""
    write = writer.write

    def wrong(self: Any, directory: Path) -> None:
        write(self, directory)
        name = next(n for n, v in self._model.variables.items() if v.trainable)
        scale_weight(directory, f"{name}{suffix}", 1.01)

    monkeypatch.setattr(writer, "write", wrong)


def test_verification_is_on_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUBBRIDGE_VERIFY", raising=False)
    assert not verify.should_verify(None)
    assert verify.should_verify(True)
    monkeypatch.setenv("HUBBRIDGE_VERIFY", "1")
    assert verify.should_verify(None)
    assert not verify.should_verify(False)
    monkeypatch.setattr(verify.importlib.util, "find_spec", lambda _: None)
    for wanted in (None, True):
        with pytest.raises(bridge.MissingExtraError, match="needs TensorFlow"):
            verify.should_verify(wanted)


def test_logits_are_not_what_the_source_returns(
    module_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(bridge.UsageError, match="--logits"):
        bridge.to_hub_module(module_dir("rnn"), tmp_path / "x", logits=True, verify=True)
