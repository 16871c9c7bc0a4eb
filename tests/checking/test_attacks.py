"""Whatever strangers do to a model, a check ends soon, with a report or one clear error."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import bridge
from tests.attacks import builders, saved_models
from tests.attacks.edit import copy_module

SECONDS = 20
"""No abuse may take longer, on however busy a machine; most take a hundredth of a second."""

READABLE = {
    "placeholder_that_nobody_feeds",
    "shard_that_is_garbled",
    "variable_outside_of_its_collection",
}
"""Malformed modules that a check can read: what is broken about them it does not look at."""


def _check(source: Path) -> bridge.CheckReport | None:
    """Returns the report, or None for an error that hubbridge raises on purpose."""
    started = time.monotonic()
    try:
        return bridge.check(source)
    except (bridge.UsageError, bridge.UnsupportedError, bridge.RefusedError):
        return None
    finally:
        assert time.monotonic() - started < SECONDS


@pytest.mark.parametrize("attack", builders.ATTACKS, ids=lambda attack: attack.name)
def test_an_abused_module_ends_well(attack: builders.Attack, tmp_path: Path) -> None:
    module = copy_module(attack.module, tmp_path)
    report = _check(attack.build(module) or module)
    if attack.error in (bridge.MalformedError, bridge.WrongKindError):
        assert report is None or attack.name in READABLE


@pytest.mark.parametrize("attack", saved_models.ATTACKS, ids=lambda attack: attack.name)
def test_an_abused_saved_model_ends_well(attack: saved_models.Attack, tmp_path: Path) -> None:
    _check(attack.build(tmp_path))
