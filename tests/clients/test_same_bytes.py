"""The same source gives the same bytes, in every process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import bridge
from tests.conftest import TESTDATA

CONVERT = "import bridge, sys; bridge.to_hub_module(*sys.argv[1:])"


@pytest.mark.parametrize("name", ["control_flow_resource", "rnn", "toy_image_ref"])
def test_the_way_back_does_not_depend_on_the_order_of_sets(name: str, tmp_path: Path) -> None:
    bridge.to_saved_model(TESTDATA / "modules" / name, tmp_path / "saved_model")
    found = set()
    for seed in ("1", "2", "3"):
        module = tmp_path / seed
        subprocess.run(
            [sys.executable, "-c", CONVERT, str(tmp_path / "saved_model"), str(module)],
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        )
        found.add(hashlib.sha256((module / "saved_model.pb").read_bytes()).hexdigest())
    assert len(found) == 1
