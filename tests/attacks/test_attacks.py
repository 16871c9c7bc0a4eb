"""Every abuse ends with one clear error, the right exit code, and nothing written."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import bridge
from bridge.cli import main
from tests.attacks import builders
from tests.attacks.builders import ATTACKS, Attack
from tests.attacks.edit import copy_module


@pytest.fixture(params=ATTACKS, ids=lambda attack: attack.name)
def attack(request: pytest.FixtureRequest) -> Attack:
    return request.param


@pytest.fixture
def source(attack: Attack, tmp_path: Path) -> Path:
    work = tmp_path / "source"
    work.mkdir()
    module = copy_module(attack.module, work)
    return attack.build(module) or module


def test_an_attack_is_refused_and_nothing_is_written(
    attack: Attack, source: Path, tmp_path: Path
) -> None:
    before = _tree(tmp_path)
    with pytest.raises(attack.error) as caught:
        bridge.to_saved_model(source, tmp_path / "dest" / "out")
    assert type(caught.value) is attack.error
    assert not [word for word in attack.words if word not in str(caught.value)], caught.value
    assert _tree(tmp_path) - {"dest"} == before


def test_the_command_line_says_so_in_one_line(
    attack: Attack, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["to-saved-model", str(source), str(tmp_path / "out"), "--json"])
    out, err = capsys.readouterr()
    assert code == attack.error.exit_code
    assert out == ""
    lines = err.splitlines()
    assert lines[0].startswith("error: ")
    assert [line[:6] for line in lines[1:]] in ([], ["hint: "])
    assert not (tmp_path / "out").exists()


def test_every_builder_is_tried() -> None:
    functions = {
        name
        for name, value in vars(builders).items()
        if inspect.isfunction(value) and value.__module__ == builders.__name__ and name[0] != "_"
    }
    assert functions == {attack.name for attack in ATTACKS}


def _tree(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*")}
