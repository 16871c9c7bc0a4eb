"""What the processes of a run are called."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import pytest

from bridge._parity import crew as crew_module
from bridge._parity.crew import Crew
from bridge._parity.lanes import GPU, REFERENCE
from bridge._parity.runners.process import RunnerProcess
from bridge._parity.runners.protocol import Lane
from bridge._surfaces.surface import HUB_MODULE

WITHOUT_GPU = """
import json, sys

for line in sys.stdin:
    if json.loads(line)["op"] == "hello":
        reply = {"tensorflow": "2.99.0", "tensorflow_hub": "", "python": "3", "devices": []}
        print(json.dumps({**reply, "settings": {}}), flush=True)
    else:
        print(json.dumps({"error": "no GPU", "fatal": True, "no_gpu": True}), flush=True)
"""


def test_what_has_no_gpu_goes_by_its_release_and_what_never_ran_by_its_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WITHOUT_GPU, encoding="utf-8")
    stub = functools.partial(RunnerProcess, script=script)
    monkeypatch.setattr(crew_module, "RunnerProcess", stub)
    lanes = [
        Lane(REFERENCE, tmp_path, HUB_MODULE, "tf2", python, GPU)
        for python in (Path(sys.executable), tmp_path / "absent")
    ]
    with Crew(lanes, 60.0, tmp_path / "work", {REFERENCE: {}}) as crew:
        assert crew.without_gpu() == {lanes[0]}
        assert crew.described(lanes[0]) is None
        assert crew.name(lanes[0]) == "TF 2.99.0 v1 session"
        assert crew.name(lanes[1]) == f"TensorFlow of {tmp_path / 'absent'}"
