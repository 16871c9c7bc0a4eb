"""Whole runs: two models in, a verdict out. The models really run, in every TensorFlow there is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bridge
from bridge import Status, Verdict
from bridge._parity import crew, lanes
from bridge._parity.runners.process import RunnerProcess
from bridge._surfaces.read import read_surface
from bridge.testing import assert_parity
from tests.conftest import TESTDATA
from tests.parity.models import Converted, copy, scale_weight, variant
from tests.saved_model.sources import SOURCES

pytestmark = pytest.mark.tf2

NAMES = sorted(path.name for path in (TESTDATA / "modules").iterdir() if path.is_dir())
FEW: dict[str, Any] = {"samples": 1, "batch_size": 2}

LOSSES = "toy_train_nodropout_resource"

CRASH = """
import os, signal, sys
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGSEGV)
"""


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return Converted(tmp_path_factory.mktemp("converted"))


def failures(report: bridge.ParityReport) -> set[str]:
    """What failed, `check name` of the structure and `kind name` of what ran."""
    checks = {f"{c.check} {c.name}" for c in report.structure if c.status is Status.FAIL}
    rows = (*report.comparisons, *report.training)
    return checks | {f"{row.kind} {row.output}" for row in rows if row.status is Status.FAIL}


@pytest.mark.parametrize("name", NAMES)
def test_every_module_is_its_saved_model_and_that_is_the_module_made_of_it(
    name: str, converted: Converted, tf1_python: Path
) -> None:
    module, saved_model = converted.module(name), converted.saved_model(name)
    for reference, candidate in ((module, saved_model), (saved_model, converted.back(name))):
        report = bridge.parity(reference, candidate, train=True, tf1_python=tf1_python, **FEW)
        assert report.verdict is Verdict.PASS, report.decided_by
        runtimes = {runtime.name for runtime in report.runtimes}
        assert "TF 1.15.5 hub.Module" in runtimes
        assert len(runtimes) == 3
        compared = [row for row in report.comparisons if row.status is Status.PASS]
        assert {row.status for row in report.comparisons} == {Status.PASS}
        for runtime in runtimes:
            assert any(runtime in (r.reference_runtime, r.candidate_runtime) for r in compared)


@pytest.mark.parametrize(
    "name",
    [
        "control_flow",
        "dictionaries",
        "keras_export",
        "keras_export_many",
        "keras_save",
        "regularization",
        "sequences",
        "sparse",
        "tables",
        "tf_keras_save",
        "training_tensor",
    ],
)
def test_what_users_save_is_the_module_made_of_it(
    name: str, tmp_path: Path, tf1_python: Path
) -> None:
    SOURCES[name](tmp_path / "source")
    bridge.to_hub_module(tmp_path / "source", tmp_path / "module")
    report = bridge.parity(
        tmp_path / "source", tmp_path / "module", train=True, tf1_python=tf1_python, **FEW
    )
    assert report.verdict is Verdict.PASS, report.decided_by
    assert {row.status for row in report.comparisons} == {Status.PASS}
    gradients = [row for row in report.training if row.kind == "gradient"]
    trainable = [
        c for c in report.structure if c.check == "trainable" and c.reference == "trainable"
    ]
    assert gradients or not trainable


def weight_of(saved_model: Path) -> str:
    """The name of a trainable variable."""
    variables = read_surface(saved_model).variables
    return next(name for name, variable in variables.items() if variable.trainable)


def key_of(name: str) -> str:
    """Its key in the checkpoint of a SavedModel."""
    return f"{name}/.ATTRIBUTES/VARIABLE_VALUE"


@pytest.fixture
def changed(converted: Converted, tmp_path: Path) -> Callable[[str, float], Path]:
    """Returns a function that copies the SavedModel of a module and scales one number of it."""

    def change(name: str, factor: float) -> Path:
        candidate = copy(converted.saved_model(name), tmp_path)
        scale_weight(candidate, key_of(weight_of(candidate)), factor)
        return candidate

    return change


def test_a_weight_that_is_a_thousandth_off_fails_and_is_found(
    converted: Converted, changed: Callable[[str, float], Path], tmp_path: Path
) -> None:
    candidate = changed("multi_variant", 1.001)
    name = weight_of(candidate)
    report = bridge.parity(
        converted.module("multi_variant"), candidate, bisect=True, artifacts=tmp_path, **FEW
    )
    assert report.verdict is Verdict.FAIL
    assert {f"variable {name}", "output default"} <= failures(report)
    assert name in str(report.bisections[0].node)
    assert report.bisections[0].repro is not None


def test_swapped_outputs_fail(converted: Converted, tmp_path: Path) -> None:
    module = converted.module("multi_input")
    candidate = copy(module, tmp_path)
    with variant(candidate) as graph:
        outputs = graph.signature_def["default"].outputs
        outputs["sum"].name, outputs["product"].name = outputs["product"].name, outputs["sum"].name
    report = bridge.parity(module, candidate, **FEW)
    assert report.verdict is Verdict.FAIL
    assert failures(report) == {"output sum", "output product"}


def test_a_regularization_loss_of_another_value_fails_without_training(
    converted: Converted, tmp_path: Path
) -> None:
    module, saved_model = (converted.module(LOSSES), converted.saved_model(LOSSES))
    report = bridge.parity(module, saved_model, **FEW)
    (row,) = report.training
    assert (row.kind, row.status, row.variant) == ("regularization_loss", Status.PASS, "{train}")
    candidate = copy(module, tmp_path)
    with variant(candidate, "train") as graph:
        scale = next(
            node
            for node in graph.graph_def.node
            if node.op == "Const" and node.name.endswith("l2_regularizer/scale")
        )
        scale.attr["value"].tensor.float_val[0] *= 1.1
    report = bridge.parity(module, candidate, **FEW)
    assert failures(report) == {"regularization_loss all"}
    assert report.verdict is Verdict.FAIL


def test_a_number_that_is_none_fails(
    converted: Converted, changed: Callable[[str, float], Path]
) -> None:
    candidate = changed("multi_variant", float("nan"))
    report = bridge.parity(converted.module("multi_variant"), candidate, **FEW)
    assert report.verdict is Verdict.FAIL
    # ReLU makes a finite number of it in some outputs.
    rows = [row for row in report.comparisons if "NaN" in row.reason]
    assert rows
    for row in rows:
        assert row.status is Status.FAIL
        assert row.difference is not None
        assert row.difference.nan[0] == 0 < row.difference.nan[1]


def test_what_ignores_rows_is_seen_even_with_few_samples(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("all", "first")]
    for path, rows in zip(paths, (None, 1), strict=True):
        save_rows(path, rows)
    assert bridge.parity(*paths, **FEW).verdict is Verdict.FAIL


def save_rows(path: Path, rows: int | None) -> None:
    """Saves a model that returns its input, of which it may repeat the first rows."""
    import tensorflow as tf

    def call(x: Any) -> Any:
        kept = x[:rows]
        return tf.repeat(kept, tf.shape(x)[0] // tf.shape(kept)[0], axis=0)

    model = tf.Module()
    model.__call__ = tf.function(call, input_signature=[tf.TensorSpec([None, 3])])
    tf.saved_model.save(model, str(path))


def test_inputs_that_only_one_side_takes_fail_the_structure(tmp_path: Path) -> None:
    import tensorflow as tf

    for name, function in (("one", lambda x: x), ("two", lambda x, y: x + y)):
        model = tf.Module()
        specs = [tf.TensorSpec([None, 3], name=key) for key in ("x", "y")]
        model.__call__ = tf.function(
            function, input_signature=specs[: function.__code__.co_argcount]
        )
        tf.saved_model.save(model, str(tmp_path / name))
    report = bridge.parity(tmp_path / "two", tmp_path / "one", **FEW)
    assert report.verdict is Verdict.FAIL
    assert "input y" in failures(report)


def test_a_crash_is_a_failure_with_a_name(
    converted: Converted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "crash.py"
    script.write_text(CRASH)
    monkeypatch.setattr(crew, "RunnerProcess", functools.partial(RunnerProcess, script=script))
    report = bridge.parity(
        converted.module("no_variables"), converted.saved_model("no_variables"), **FEW
    )
    assert report.verdict is Verdict.FAIL
    assert "SIGSEGV" in report.decided_by


def test_a_hang_is_a_failure_in_time(converted: Converted) -> None:
    report = bridge.parity(
        converted.module("no_variables"),
        converted.saved_model("no_variables"),
        time_limit=0.01,
        **FEW,
    )
    assert report.verdict is Verdict.FAIL
    assert "took more than 0.01 s" in report.decided_by
    assert report.seconds["total"] < 60


def test_devices_are_compared_with_one_another(
    converted: Converted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "GPU", "cpu:1")  # a logical device stands in for the GPU
    report = bridge.parity(
        converted.module("multi_variant"),
        converted.saved_model("multi_variant"),
        device="all",
        **FEW,
    )
    assert report.verdict is Verdict.PASS
    devices = {(row.reference_device, row.device) for row in report.comparisons}
    assert devices == {("cpu", "cpu"), ("cpu:1", "cpu:1"), ("cpu", "cpu:1")}
    across = [row for row in report.comparisons if row.device != row.reference_device]
    assert {row.tolerance[0] for row in across} == {1e-4}


def test_without_a_gpu_its_rows_are_skipped_and_may_fail_the_run(converted: Converted) -> None:
    paths = converted.module("no_variables"), converted.saved_model("no_variables")
    report = bridge.parity(*paths, device="all", **FEW)
    assert report.verdict is Verdict.PASS
    skipped = [row for row in report.comparisons if row.device == "gpu"]
    assert {(row.status, row.reason) for row in skipped} == {(Status.SKIPPED, "no GPU visible")}
    report = bridge.parity(*paths, device="gpu", require_gpu=True, **FEW)
    assert report.verdict is Verdict.FAIL
    assert "no GPU visible" in report.decided_by
    assert bridge.parity(*paths, device="gpu", **FEW).verdict is Verdict.INCONCLUSIVE


def test_the_same_seed_gives_the_same_report(converted: Converted) -> None:
    paths = converted.module("digits"), converted.saved_model("digits")
    first, second = (bridge.parity(*paths, **FEW).to_dict() for _ in range(2))
    for part in ("structure", "inputs", "verdict", "decided_by"):
        assert first[part] == second[part]
    pairs = zip(first["comparisons"], second["comparisons"], strict=True)
    assert all(one["max_abs"] == other["max_abs"] for one, other in pairs)


def test_assert_parity_fails_with_the_tree(
    converted: Converted, changed: Callable[[str, float], Path], parity: Any
) -> None:
    module = converted.module("rnn")
    assert assert_parity(module, converted.saved_model("rnn"), **FEW).verdict is Verdict.PASS
    with pytest.raises(AssertionError, match="verdict: fail"):
        parity(module, changed("rnn", 2.0), **FEW)
