"""Test modules as eager modules, and what tests ask of them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from tests.conftest import TESTDATA

TOY = "toy_train_nodropout_resource"


def make(module: str, **options: Any) -> Any:
    """Makes an instance of a test module."""
    from bridge import hub

    return hub.Module(str(TESTDATA / "modules" / module), **options)


@cache
def shared(name: str, tags: tuple[str, ...] = (), trainable: bool = False) -> Any:
    """The same, once: for tests that change no variable."""
    return make(name, tags=set(tags), trainable=trainable)


def ordered_names(variables: Any) -> list[str]:
    return [variable.name.removesuffix(":0") for variable in variables]


def names(variables: Any) -> list[str]:
    return sorted(ordered_names(variables))


def values(module: Any) -> dict[str, Any]:
    return {variable.name.removesuffix(":0"): variable.numpy() for variable in module.variables}


def images(count: int = 2) -> Any:
    """A batch for the toy modules."""
    return np.random.default_rng(0).random([count, 16, 16, 3], np.float32)
