"""What a runner says and does when its process does not do what it should."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from bridge._parity.crew import Crew
from bridge._parity.runners import process
from bridge._parity.runners.fork_server import ForkServer
from bridge._parity.runners.process import RunnerProcess
from bridge._parity.runners.protocol import Lane, NoGpuError, RunnerError
from bridge._parity.runners.subprocesses import environment
from bridge._parity.runners.tf1 import find_tf1_python
from bridge._surfaces.surface import SAVED_MODEL, Call
from bridge.errors import UsageError

THIS = Path(sys.executable)
CALL = Call("callable", "__call__", kwargs={"training": {"value": True}})
OTHER = Call("signature", "serving_default")
X = {"x": np.zeros(3, np.float32)}

STUB = """
import json, os, signal, subprocess, sys, time

def reply(**fields):
    print(json.dumps(fields), flush=True)

for line in sys.stdin:
    request = json.loads(line)
    if request["op"] == "hello":
        reply(tensorflow="2.99.0", tensorflow_hub="", python="3", devices=[], settings={{}})
    elif request["op"] == "load":
        reply()
    elif request["call"]["kind"] == "callable":
        {what}
    else:
        open(request["outputs_file"], "wb").close()
        reply(outputs={{}}, placed={{}})
"""


@pytest.fixture
def make(tmp_path):
    """Returns a function that makes a runner whose worker, asked to call, does something else."""
    runners = []

    def make(what: str = "pass", *, time_limit: float = 60, **lane) -> RunnerProcess:
        number = len(runners)
        script = tmp_path / f"stub{number}.py"
        script.write_text(STUB.format(what=what), encoding="utf-8")
        lane = {"side": "candidate", "model": tmp_path, "format": SAVED_MODEL, **lane}
        lane = Lane(**{"runtime": "tf2", "python": THIS, **lane})
        runners.append(RunnerProcess(lane, time_limit, tmp_path / f"{number}", script=script))
        return runners[-1]

    yield make
    for runner in runners:
        runner.close()


def error_of(runner, call=CALL) -> RunnerError:
    with pytest.raises(RunnerError) as caught:
        runner.run(call, X)
    return caught.value


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(condition, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_a_crash_says_who_died_of_what_and_when(make):
    crash = 'print("no such kernel", file=sys.stderr); os.kill(os.getpid(), signal.SIGSEGV)'
    error = error_of(make(crash))
    assert str(error) == (
        "the candidate's TF 2.99.0 process ended by SIGSEGV while running __call__(training=True); "
        "its last words: no such kernel"
    )
    assert error.fatal


def test_the_stack_is_not_among_the_last_words(make):
    frames = "*** Check failure stack trace: ***\\n" + "    @     0x7f00  (unknown)\\n" * 9
    error = error_of(make(f'print("check failed\\n{frames}", file=sys.stderr); sys.exit(3)'))
    assert str(error).endswith("; its last words: check failed")


def test_what_imports_tensorflow_is_not_waited_for_when_it_is_wanted_no_more():
    start = time.monotonic()
    with pytest.raises(InterruptedError):
        ForkServer(THIS, {}, lambda: time.monotonic() < start + 0.1)
    assert time.monotonic() - start < 3


def test_an_exit_says_its_status(make):
    assert "TF 2.99.0 process ended with status 3 while running" in str(
        error_of(make("sys.exit(3)"))
    )


def test_a_hang_is_ended_with_its_children_in_time(make, tmp_path):
    note = tmp_path / "child"
    child = 'child = subprocess.Popen(["sleep", "600"])'
    runner = make(f"{child}; open({str(note)!r}, 'w').write(str(child.pid)); time.sleep(600)",
                  time_limit=2)  # fmt: skip
    start = time.monotonic()
    error = error_of(runner)
    assert time.monotonic() - start < 20
    assert "took more than 2 s, and was ended, while running __call__" in str(error)
    assert error.fatal
    assert wait_until(lambda: not is_alive(int(note.read_text())))


def test_what_hung_is_not_tried_again_and_the_rest_is(make):
    runner = make("time.sleep(600)", time_limit=2)
    first = error_of(runner)
    start = time.monotonic()
    assert error_of(runner) is first
    assert time.monotonic() - start < 1
    assert runner.run(OTHER, X) == {}


def test_an_answer_that_is_none_is_an_error(make):
    error = error_of(make('print("hello", flush=True)'))
    assert "gave an answer that is none while running" in str(error)
    assert error.fatal


def test_what_the_model_refuses_is_no_fault_of_the_process(make):
    runner = make('reply(error="ValueError: too small")')
    error = error_of(runner)
    assert str(error).endswith(
        "failed while running __call__(training=True): ValueError: too small"
    )
    assert not error.fatal
    assert runner.run(OTHER, X) == {}


def test_closing_from_another_thread_ends_the_request(make):
    runner = make("time.sleep(600)")
    timer = threading.Timer(1, runner.close)
    timer.start()
    assert "process was closed while running" in str(error_of(runner))
    assert "was closed" in str(error_of(runner, OTHER))


def test_an_interrupt_ends_the_process(make, monkeypatch):
    runner = make()
    runner.run(OTHER, X)
    pid = runner._process.pid

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(process, "exchange", interrupt)
    with pytest.raises(KeyboardInterrupt):
        runner.run(OTHER, X)
    assert wait_until(lambda: not is_alive(pid))


def test_the_process_ends_with_its_owner(make, tmp_path):
    make()
    owner = tmp_path / "owner.py"
    owner.write_text(
        textwrap.dedent(f"""
        from pathlib import Path
        from bridge._parity.runners.process import RunnerProcess
        from bridge._parity.runners.protocol import Lane
        lane = Lane("candidate", Path("."), {SAVED_MODEL!r}, "tf2", Path({sys.executable!r}))
        runner = RunnerProcess(lane, 60, Path({str(tmp_path / "w")!r}),
                               script=Path({str(tmp_path / "stub0.py")!r}))
        runner.runtime()
        print(runner._process.pid)
    """)
    )
    root = Path(__file__).resolve().parents[2]
    found = subprocess.run([THIS, owner], cwd=root, env=os.environ | {"PYTHONPATH": str(root)},
                           stdout=subprocess.PIPE, check=True)  # fmt: skip
    assert wait_until(lambda: not is_alive(int(found.stdout)))


def test_two_runners_work_at_once(make):
    slow = "time.sleep(2); open(request['outputs_file'], 'wb'); reply(outputs={}, placed={})"
    runners = [make(slow), make(slow)]
    for runner in runners:
        runner.runtime()
    start = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(runner.run, CALL, X) for runner in runners]
    assert [future.result() for future in found] == [{}, {}]
    assert time.monotonic() - start < 3.8


def test_no_file_is_left_by_a_request(make, tmp_path):
    runner = make()
    runner.run(OTHER, X)
    assert [path.name for path in (tmp_path / "0").iterdir()] == ["stderr.txt"]


def test_a_python_that_is_not_there_is_an_error(make, tmp_path):
    error = error_of(make(python=tmp_path / "python"))
    assert str(error) == f"{tmp_path / 'python'} can't be run: No such file or directory"
    assert error.fatal


@pytest.fixture
def real(tmp_path, monkeypatch):
    """Returns a function that makes a runner with the real worker and a TensorFlow of straw."""
    runners = []

    def make(text: str, runtime: str = "tf2") -> RunnerProcess:
        (tmp_path / "tensorflow.py").write_text(text, encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        lane = Lane("reference", tmp_path, SAVED_MODEL, runtime, THIS)
        runners.append(RunnerProcess(lane, 60, tmp_path / "work"))
        return runners[-1]

    yield make
    for runner in runners:
        runner.close()


@pytest.mark.parametrize(
    ("text", "runtime", "why"),
    [
        ("raise ImportError('no module')", "tf2",
         "tensorflow can't be imported: ImportError: no module"),
        ("raise TypeError('descriptors\\n\\nof old')", "tf2",
         "tensorflow can't be imported: TypeError: descriptors of old"),
        ("__version__ = '2.11.1'", "tf2",
         "this is TensorFlow 2.11.1, where at least 2.16 is needed"),
        ("__version__ = '1.15.5'", "tf2",
         "this is TensorFlow 1.15.5, where at least 2.16 is needed"),
    ],
)  # fmt: skip
def test_a_tensorflow_that_does_not_do_is_an_error(real, text, runtime, why):
    with pytest.raises(RunnerError) as caught:
        real(text, runtime).runtime()
    assert str(caught.value) == (
        f"the reference's TensorFlow process ({THIS}) failed while starting: {why}"
    )
    assert caught.value.fatal


def test_a_gpu_lane_without_a_gpu_says_so(make):
    script = STUB.format(what="pass").replace(
        'elif request["op"] == "load":\n        reply()',
        'elif request["op"] == "load":\n        reply(error="no GPU", fatal=True, no_gpu=True)',
    )
    runner = make(device="gpu")
    runner._script.write_text(script, encoding="utf-8")
    with pytest.raises(NoGpuError, match="no GPU"):
        runner.runtime()


def test_the_environment_is_without_settings_of_another_tensorflow(monkeypatch, tmp_path):
    for key, value in {
        "TF2_BEHAVIOR": "1",
        "TF_XLA_FLAGS": "--tf_xla_auto_jit=2",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "PYTHONPATH": "/nowhere",
        "CUDA_VISIBLE_DEVICES": "3",
    }.items():
        monkeypatch.setenv(key, value)
    lane = Lane("reference", tmp_path, SAVED_MODEL, "tf1", tmp_path / "python")
    found = environment(lane)
    assert not {"TF2_BEHAVIOR", "TF_XLA_FLAGS", "PYTHONPATH"} & found.keys()
    assert found["TF_ENABLE_ONEDNN_OPTS"] == "0"
    assert found["CUDA_VISIBLE_DEVICES"] == ""
    on_gpu = Lane("reference", tmp_path, SAVED_MODEL, "tf2", THIS, "gpu", tf32=True)
    assert environment(on_gpu)["CUDA_VISIBLE_DEVICES"] == "3"
    assert environment(on_gpu)["PYTHONPATH"] == "/nowhere"
    assert "NVIDIA_TF32_OVERRIDE" not in environment(on_gpu)


# -- the interpreter of TensorFlow 1 --------------------------------------------------------------


def test_without_an_interpreter_there_is_no_tensorflow_1(monkeypatch):
    monkeypatch.delenv("HUBBRIDGE_TF1_PYTHON", raising=False)
    assert find_tf1_python(None) is None


def test_the_option_goes_before_the_environment(monkeypatch, tf1_python, tmp_path):
    monkeypatch.setenv("HUBBRIDGE_TF1_PYTHON", str(tmp_path / "nowhere"))
    assert find_tf1_python(tf1_python) == tf1_python
    monkeypatch.setenv("HUBBRIDGE_TF1_PYTHON", str(tf1_python))
    assert find_tf1_python(None) == tf1_python


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "can't be run: No such file or directory"),
        ("#!/bin/sh\nexit 1\n", "is no Python"),
        ("#!/bin/sh\nexec cat /dev/null\n", "is no Python"),
        (f'#!/bin/sh\nexec {sys.executable} -S "$@"\n', "has no tensorflow and no tensorflow_hub"),
    ],
)
def test_an_interpreter_that_does_not_do_is_a_usage_error(tmp_path, text, why):
    python = tmp_path / "python"
    if text:
        python.write_text(text)
        python.chmod(0o755)
    with pytest.raises(UsageError) as caught:
        find_tf1_python(python)
    assert str(caught.value) == f"--tf1-python: {python} {why}"
    assert "TensorFlow 1.15" in caught.value.hint


def test_a_failure_that_is_kept_holds_nothing_of_what_was_there_when_it_came(tmp_path):
    lane = Lane("reference", tmp_path, SAVED_MODEL, "tf2", THIS)

    def failing():
        outputs = np.zeros(3)
        raise RunnerError(f"{outputs.size} outputs are there")

    with Crew([], 1, tmp_path, {}) as crew:
        error = crew._timed(lane, failing)
    assert isinstance(error, RunnerError)
    assert error.__traceback__ is None
