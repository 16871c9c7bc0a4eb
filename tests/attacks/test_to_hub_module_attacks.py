"""Every abuse of a SavedModel ends with one clear error, the right exit code, and no DEST."""

from __future__ import annotations

import inspect
import time
from pathlib import Path

import pytest

import bridge
from bridge.cli import main
from tests.attacks import saved_models
from tests.attacks.saved_models import ATTACKS, Attack

SECONDS = 20
"""No abuse may take longer, on however busy a machine; most take a hundredth of a second."""


@pytest.fixture(params=ATTACKS, ids=lambda attack: attack.name)
def attack(request: pytest.FixtureRequest) -> Attack:
    return request.param


def test_an_attack_is_refused_and_nothing_is_written(
    attack: Attack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "source").mkdir()
    source = attack.build(tmp_path / "source")
    before = _tree(tmp_path)
    started = time.monotonic()
    with pytest.raises(attack.error) as caught:
        bridge.to_hub_module(source, tmp_path / "out")
    assert time.monotonic() - started < SECONDS
    assert type(caught.value) is attack.error
    said = f"{caught.value} {caught.value.hint}"
    assert not [word for word in attack.words if word not in said], said
    assert _tree(tmp_path) == before

    code = main(["to-hub-module", str(source), str(tmp_path / "out"), "--json"])
    out, err = capsys.readouterr()
    assert code == attack.error.exit_code
    assert out == ""
    lines = err.splitlines()
    assert lines[0].startswith("error: ")
    assert [line[:6] for line in lines[1:]] in ([], ["hint: "])
    assert _tree(tmp_path) == before


def test_every_builder_is_tried() -> None:
    functions = {
        name
        for name, value in vars(saved_models).items()
        if inspect.isfunction(value)
        and value.__module__ == saved_models.__name__
        and name[0] != "_"
    }
    assert functions == {attack.name for attack in ATTACKS}


def _tree(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*")}
