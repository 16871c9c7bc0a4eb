"""What all tests share: the real TensorFlow 1.15 client, test modules and their goldens."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before anything imports TensorFlow: results are those of the CPU, everywhere.
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# Tests compare conversions themselves; those of verification ask for it.
os.environ["HUBBRIDGE_VERIFY"] = "0"

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.clients.tf1 import Tf1Client, find_tf1_python

TESTDATA = Path(__file__).resolve().parent.parent / "testdata"

NO_TF1 = (
    "no TensorFlow 1.15 here: `python tools/tf1_env.py` installs it into .venv-tf1 "
    "or says what it lacks; HUBBRIDGE_TF1_PYTHON names another interpreter"
)
NO_TF2 = "no TensorFlow 2 here: pip install 'hubbridge[parity]'"


@dataclass(frozen=True)
class Golden:
    """What the real TensorFlow 1.15 computed with a module of testdata/modules.

    Attributes:
      arrays: the .npz, by key; testdata/README.md lists the keys.
      facts: the .json.
    """

    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any]

    def under(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Returns the arrays whose key starts with `prefix|`, by the rest of the key.

        `golden.under("train|default|in")` are the inputs of signature `default` of variant
        `{"train"}`, `golden.under("|default|out")` the outputs of the variant without tags, and
        `golden.under("var")` the variables.
        """
        start = f"{prefix}|"
        return {
            key.removeprefix(start): array
            for key, array in self.arrays.items()
            if key.startswith(start)
        }


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests that use the TF1 client, and skips tests of TensorFlow 2 where it is missing."""
    has_tf2 = importlib.util.find_spec("tensorflow") is not None
    for item in items:
        if "tf1_python" in getattr(item, "fixturenames", ()):
            item.add_marker("tf1")
        if not has_tf2 and item.get_closest_marker("tf2"):
            item.add_marker(pytest.mark.skip(reason=NO_TF2))


@pytest.fixture(scope="session")
def tf1_python() -> Path:
    """A Python with TensorFlow 1.15. Without one the test is skipped.

    With HUBBRIDGE_REQUIRE_TF1=1 it fails instead, so that CI can't pass by skipping.
    """
    python = find_tf1_python()
    if python is None:
        stop = pytest.fail if os.environ.get("HUBBRIDGE_REQUIRE_TF1") == "1" else pytest.skip
        stop(NO_TF1)
    return python


@pytest.fixture(scope="session")
def tf1(tf1_python: Path) -> Iterator[Tf1Client]:
    """A running TensorFlow 1.15 client, shared by all tests."""
    with Tf1Client(tf1_python) as client:
        yield client


@pytest.fixture(scope="session")
def testdata() -> Path:
    """The directory testdata/."""
    return TESTDATA


@pytest.fixture(scope="session")
def module_dir() -> Callable[[str], Path]:
    """Returns a function from a name to the directory of that test module."""

    def directory(name: str) -> Path:
        path = TESTDATA / "modules" / name
        assert path.is_dir(), f"{path} is missing: `make testdata` makes it"
        return path

    return directory


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Golden]:
    """Returns a function from a name to the goldens of that test module."""

    def load(name: str) -> Golden:
        prefix = TESTDATA / "golden" / name
        with np.load(prefix.with_suffix(".npz")) as arrays:
            return Golden(
                dict(arrays), json.loads(prefix.with_suffix(".json").read_text(encoding="utf-8"))
            )

    return load
