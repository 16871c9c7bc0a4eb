"""The models that are checked: real ones with planted faults, each made once."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.checking import saved_models
from tests.clients.tf1 import tf1_environ

SCRIPT = Path(__file__).resolve().with_name("broken_modules.py")


@pytest.fixture(scope="session")
def broken_modules(tf1_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The modules of broken_modules.py, exported by the real TensorFlow 1.15."""
    directory = tmp_path_factory.mktemp("broken_modules")
    done = subprocess.run(
        [str(tf1_python), str(SCRIPT), str(directory)],
        env=tf1_environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return directory


@pytest.fixture(scope="session")
def made_saved_models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns a function from a name in saved_models.py to that SavedModel."""
    directory = tmp_path_factory.mktemp("saved_models")

    def made(name: str) -> Path:
        path = directory / name
        if not path.exists():
            saved_models.save(name, path)
        return path

    return made
