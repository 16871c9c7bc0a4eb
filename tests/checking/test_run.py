"""What can be checked, which clauses are judged, and what bad input leads to."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bridge
from bridge._check.rules import RULES
from tests.attacks.edit import copy_module
from tests.conftest import TESTDATA

MODULE = TESTDATA / "modules" / "toy_image_resource"


def test_every_clause_is_judged_once_in_order() -> None:
    report = bridge.check(MODULE)
    assert [clause.id for clause in report.clauses] == [rule.id for rule in RULES]
    assert [clause.id for clause in report.clauses][:11] == [f"IMG{n:02}" for n in range(1, 12)]
    assert report.path == str(MODULE)


def test_only_the_wanted_clauses_are_judged_in_their_order() -> None:
    report = bridge.check(MODULE, only=["update-ops-empty", "img05"])
    assert [clause.id for clause in report.clauses] == ["IMG05", "update-ops-empty"]


def test_a_clause_that_is_not_there_is_refused_with_all_that_are() -> None:
    with pytest.raises(bridge.UsageError, match="no clause 'IMG12'") as caught:
        bridge.check(MODULE, only=["IMG12"])
    assert all(rule.id in str(caught.value.hint) for rule in RULES)
    with pytest.raises(TypeError, match=r"not one string"):
        bridge.check(MODULE, only="IMG05")


def test_a_clause_is_refused_before_the_model_is_opened(tmp_path: Path) -> None:
    with pytest.raises(bridge.UsageError, match="no clause"):
        bridge.check(tmp_path / "absent", only=[""])


def test_an_archive_is_judged_as_what_is_in_it(tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "module"), "gztar", MODULE)
    found, expected = bridge.check(archive), bridge.check(MODULE)
    assert found.clauses == expected.clauses
    assert found.path == archive


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(bridge.SourceNotFoundError):
        bridge.check(tmp_path / "absent")
    with pytest.raises(bridge.WrongKindError, match="neither a TF1 Hub module nor a SavedModel"):
        bridge.check(tmp_path)
    (tmp_path / "saved_model.pbtxt").touch()
    with pytest.raises(bridge.WrongKindError) as caught:
        bridge.check(tmp_path)
    assert "saved_model.pbtxt is not read" in str(caught.value.hint)
    module = copy_module("toy_image_resource", tmp_path)
    (module / "tfhub_module.pb").unlink()
    with pytest.raises(bridge.WrongKindError, match="a TF1 SavedModel"):
        bridge.check(module)
    (module / "saved_model.pb").write_bytes(b"\xff" * 40)
    with pytest.raises(bridge.MalformedError):
        bridge.check(module)


def test_checking_imports_no_tensorflow() -> None:
    code = (
        "import sys, bridge; bridge.check(sys.argv[1]);"
        "print(sorted({'tensorflow', 'tensorflow_hub', 'keras', 'tf_keras'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(MODULE)],
        cwd=TESTDATA.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
