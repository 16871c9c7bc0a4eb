"""The pytest plugin of hubbridge, which pytest finds by its entry point."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from bridge._parity.results import ParityReport


@pytest.fixture(scope="session")
def parity() -> Callable[..., ParityReport]:
    """`bridge.testing.assert_parity`: fails unless two models agree."""
    from bridge.testing import assert_parity

    return assert_parity
