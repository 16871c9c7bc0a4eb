"""Whatever a model holds: it is read, or refused by an error that says why, and soon."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

import bridge
from bridge._surfaces.read import read_surface
from tests.attacks import builders, saved_models
from tests.attacks.edit import copy_module

SECONDS = 120
"""For the worst, on however busy a machine; most take a hundredth of a second."""


def read(path: Path) -> None:
    started = time.monotonic()
    with contextlib.suppress(bridge.HubBridgeError):
        read_surface(path)
    assert time.monotonic() - started < SECONDS


@pytest.mark.parametrize("attack", saved_models.ATTACKS, ids=lambda attack: attack.name)
def test_a_saved_model_is_read_or_refused(attack: saved_models.Attack, tmp_path: Path) -> None:
    read(attack.build(tmp_path))


@pytest.mark.parametrize("attack", builders.ATTACKS, ids=lambda attack: attack.name)
def test_a_module_is_read_or_refused(attack: builders.Attack, tmp_path: Path) -> None:
    module = copy_module(attack.module, tmp_path)
    read(attack.build(module) or module)
