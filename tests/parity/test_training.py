"""How two models train: what is trained, on which loss, and what of it proves nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bridge
from bridge import Status, Verdict
from bridge._parity.feed.inputs import Batch
from bridge._parity.lanes import CANDIDATE, REFERENCE, LanePair, Plan
from bridge._parity.options import ParityOptions
from bridge._parity.runners import worker_training
from bridge._parity.runners.protocol import Lane, RunnerError, TrainResult
from bridge._parity.training import RATE, STEPS, TrainingComparer
from bridge._parity.training_ways import TrainedPair
from bridge._surfaces.surface import HUB_MODULE, SAVED_MODEL, Call, Computation, Pair

OURS = Lane(REFERENCE, Path("a"), HUB_MODULE, "tf2", Path("python"))
AGAIN = replace(OURS, threads=1)
OURS_TF1 = replace(OURS, runtime="tf1")
THEIRS = Lane(CANDIDATE, Path("b"), SAVED_MODEL, "tf2", Path("python"))
THEIRS_TF1 = replace(THEIRS, runtime="tf1")

GRADIENT = np.array([1.0, -2.0], np.float32)
ZERO = np.array([4e-6, -4e-6], np.float32)
"""What should be zero, but for rounding."""

START = np.array([5.0, 5.0], np.float32)
FEW: dict[str, Any] = {"samples": 1, "batch_size": 2, "train": True}


# -- what proves nothing --------------------------------------------------------------------------


def result(zero: Any = ZERO, gradient: Any = GRADIENT, fixed: Any = START) -> TrainResult:
    gradients = {"w": gradient, "bias": zero}
    after = {
        steps: {
            "w": START - steps * RATE * gradient,
            "bias": -np.float32(steps * RATE) * zero,
            "fixed": fixed,
        }
        for steps in STEPS
    }
    return TrainResult(gradients, after)


def done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


class Script:
    """A crew whose lanes train as a test says, and as `result()` by default."""

    def __init__(self, says: dict[Lane, TrainResult | RunnerError]):
        self.says = says
        self.asked: list[Lane] = []

    def train(self, lane: Lane, *_: Any) -> Future[Any]:
        self.asked.append(lane)
        return done(self.says.get(lane, result()))

    def name(self, lane: Lane) -> str:
        return f"{lane.side} {lane.runtime}"


SAME = LanePair(OURS, THEIRS, across=False)
ACROSS = LanePair(OURS, THEIRS_TF1, across=True)
IN_TF1 = LanePair(OURS_TF1, THEIRS_TF1, across=False)


def train(script: Script, *lanes: LanePair) -> dict[tuple[str, str], bridge.Comparison]:
    """Returns the rows by what was compared, of the last pair of lanes."""
    return rows_of(script, [Batch("values", 0, {})], *lanes)


def rows_of(
    script: Script, batches: Sequence[Batch], *lanes: LanePair
) -> dict[tuple[str, str], bridge.Comparison]:
    one = Computation(frozenset(), "default", {}, {}, (Call("callable", "default"),))
    names = {name: name for name in ("w", "bias", "fixed")}
    pair = TrainedPair(
        Pair(one, one, {"number": "number"}, {}), one.calls[0], one.calls[0], names, {}
    )
    plan = Plan(lanes or (SAME,), {OURS: AGAIN})
    rows = TrainingComparer(pair, plan, script, ParityOptions()).run(batches)
    return {(row.kind, row.output): row for row in rows}


def failed(rows: dict[tuple[str, str], bridge.Comparison]) -> set[str]:
    return {f"{kind} {name}" for (kind, name), row in rows.items() if row.status is Status.FAIL}


NOT_ZERO = {"gradient bias", "variable bias after 1 step", "variable bias after 3 steps"}


def test_a_gradient_that_the_reference_does_not_give_again_proves_nothing():
    script = Script({THEIRS: result(ZERO + 9e-6), AGAIN: result(ZERO - 4e-6)})
    rows = train(script)
    assert not failed(rows)
    aside = {f"{k} {n}" for (k, n), row in rows.items() if row.status is Status.NOT_COMPARABLE}
    assert aside == NOT_ZERO
    for row in rows.values():
        assert row.excused is (row.status is Status.NOT_COMPARABLE)
    assert "the reference differs from itself by 4e-06" in rows["gradient", "bias"].reason
    assert script.asked.count(AGAIN) == 1


def test_the_reference_trains_again_only_where_something_fails():
    script = Script({})
    assert {row.status for row in train(script).values()} == {Status.PASS}
    assert AGAIN not in script.asked


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        (result(ZERO * 100), NOT_ZERO),
        (result(gradient=GRADIENT * np.float32(1.001)), {"gradient w"}),
        (result(fixed=START + 1e-3), {f"variable fixed after {n}" for n in ("1 step", "3 steps")}),
    ],
)
def test_a_fault_fails_beside_what_is_unsteady(wrong, names):
    unsteady = result(ZERO - 4e-6)
    assert failed(train(Script({THEIRS: wrong, AGAIN: unsteady}))) == names


def test_a_reference_that_is_steady_or_can_not_train_again_excuses_nothing():
    wrong = result(ZERO + 3e-6)
    assert failed(train(Script({THEIRS: wrong}))) == NOT_ZERO
    broken = RunnerError("it crashed", fatal=True)
    assert failed(train(Script({THEIRS: wrong, AGAIN: broken}))) == NOT_ZERO


def test_across_releases_the_reference_in_both_tells_how_steady_it_is():
    there = result(ZERO + 3e-5)
    script = Script({OURS_TF1: there, THEIRS_TF1: there})
    rows = train(script, SAME, IN_TF1, ACROSS)
    for what in ("gradient", "bias"), ("variable", "bias after 3 steps"):
        assert rows[what].status is Status.NOT_COMPARABLE
        assert not rows[what].excused  # it passed in each of them
    assert AGAIN not in script.asked
    # Where the reference was seen in one only, nothing says that it would be another there.
    assert "gradient bias" in failed(train(Script({THEIRS_TF1: there}), SAME, ACROSS))
    # In one release, what it does in the other excuses nothing.
    script = Script({OURS_TF1: there, THEIRS: there})
    assert "gradient bias" in failed(train(script, ACROSS, IN_TF1, SAME))


def test_what_started_at_zero_may_be_as_far_off_as_its_gradient():
    near = GRADIENT * np.float32(1 + 9e-5)
    says = {}
    for lane, value in ((OURS, GRADIENT), (THEIRS, near)):
        after = {steps: {"w": -np.float32(steps * RATE) * value} for steps in STEPS}
        says[lane] = TrainResult({"w": value}, after)
    says[AGAIN] = says[OURS]
    assert not failed(train(Script(says)))
    says[THEIRS] = replace(says[THEIRS], gradients={"w": GRADIENT}, variables={
        steps: {"w": values["w"] * np.float32(1.001)}
        for steps, values in says[OURS].variables.items()
    })  # fmt: skip
    assert failed(train(Script(says))) == {f"variable w after {n}" for n in ("1 step", "3 steps")}


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_gradient_that_is_no_number_hides_no_other(number):
    wild = np.array([number, 1.0], np.float32)
    script = Script({OURS: result(zero=wild), THEIRS: result(wild, GRADIENT * np.float32(2))})
    assert "gradient w" in failed(train(script))


# -- what it is trained on ------------------------------------------------------------------------


class Choosy(Script):
    """A crew whose reference takes some batches, and can't be trained on any that it says."""

    def __init__(self, takes: set[int], *, trains: bool = True):
        super().__init__({})
        self.takes = takes
        self.trains = trains
        self.fed: list[int] = []

    def train(self, lane: Lane, call: Call, values: Any, *_: Any) -> Future[Any]:
        if lane.side == CANDIDATE:
            return done(result())
        self.fed.append(values["number"])
        fine = self.trains and values["number"] in self.takes
        return done(result() if fine else RunnerError(f"no {values['number']}"))

    def run(self, lane: Lane, call: Call, values: Any) -> Future[Any]:
        return done({} if values["number"] in self.takes else RunnerError("no"))


BATCHES = [Batch("values", number, {"number": number}) for number in range(4)]
"""Batches that say which one they are."""


def test_a_model_is_trained_on_the_first_batch_that_the_reference_takes():
    crew = Choosy({2, 3})
    rows = rows_of(crew, BATCHES, SAME)
    assert crew.fed == [0, 1, 2]
    assert {row.status for row in rows.values()} == {Status.PASS}
    assert rows["gradient", "w"].difference


@pytest.mark.parametrize("nothing", [0.0, np.nan])
def test_a_batch_whose_gradients_tell_nothing_is_the_last_choice(nothing):
    class Untold(Choosy):
        def __init__(self, tells: set[int]):
            super().__init__({1, 2, 3})
            self.tells = tells

        def train(self, lane: Lane, call: Call, values: Any, *rest: Any) -> Future[Any]:
            found = super().train(lane, call, values, *rest).result()
            is_told = lane.side == CANDIDATE or values["number"] in self.tells
            flat = np.full(2, nothing, np.float32)
            return done(found if is_told or isinstance(found, RunnerError) else result(flat, flat))

    crew = Untold({2})
    rows = rows_of(crew, BATCHES, SAME)
    assert crew.fed == [0, 1, 2]
    assert not failed(rows)
    # Where no batch tells more, the first that is taken does; it says that the candidate differs.
    crew = Untold(set())
    rows = rows_of(crew, BATCHES, SAME)
    assert crew.fed[:4] == [0, 1, 2, 3]
    assert "batch 1 " in rows["gradient", "w"].reason


@pytest.mark.parametrize(
    ("crew", "fed", "reason"),
    [(Choosy(set()), [0, 1, 2, 3], "no 0"), (Choosy({1, 2}, trains=False), [0, 1], "no 1")],
    ids=["refused", "not differentiable"],
)
def test_what_can_not_be_trained_on_any_batch_says_so(crew, fed, reason):
    (row,) = rows_of(crew, BATCHES, SAME).values()
    assert (row.kind, row.status, row.reason) == ("gradient", Status.NOT_COMPARABLE, reason)
    assert crew.fed == fed


# -- the loss -------------------------------------------------------------------------------------


def test_a_complex_number_moves_against_its_gradient():
    value = np.array([1 + 2j], np.complex64)
    moved = worker_training.descend(value, np.array([10 - 20j], np.complex64), 0.1)
    assert moved.dtype == np.complex64
    np.testing.assert_allclose(moved, [4j], atol=1e-6)


FAULTS = ("", "gradient", "update", "complex", "scaled")


def save(path: Path, fault: str = "") -> Path:
    """Saves a model whose signatures train different variables."""
    import tensorflow as tf

    spec = tf.TensorSpec([None, 3], name="x")
    model = tf.Module()
    model.v = tf.Variable([1.0, 2.0, 3.0], name="v")
    model.w = tf.Variable([3.0, 2.0, 1.0], name="w")
    model.z = tf.Variable([1 + 2j, 2 - 1j, 3j], dtype=tf.complex64, name="z")
    model.n = tf.Variable(0.0, name="n", trainable=False)

    def main(x: Any) -> Any:
        return {"y": x * model.v}

    def more(x: Any) -> Any:
        w = tf.stop_gradient(model.w) if fault == "gradient" else model.w
        if fault == "scaled":
            w = 1.001 * w - 0.001 * tf.stop_gradient(w)
        model.n.assign_add(2.0 if fault == "update" else 1.0)
        return {"y": x * w}

    def waves(x: Any) -> Any:
        z = tf.complex(tf.math.real(model.z), tf.stop_gradient(tf.math.imag(model.z)))
        factor = z if fault == "complex" else tf.identity(model.z)
        return {"y": tf.complex(x, x) * factor}

    functions = {f.__name__: tf.function(f, input_signature=[spec]) for f in (main, more, waves)}
    model.waves = functions.pop("waves")  # none that is served
    signatures = {"serving_default": functions["main"], "more": functions["more"]}
    tf.saved_model.save(model, str(path), signatures=signatures)
    return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("trained")
    return {fault: save(directory / f"a{fault}", fault) for fault in FAULTS}


def faults(report: bridge.ParityReport) -> set[tuple[str, str]]:
    rows = (*report.comparisons, *report.training)
    return {(row.signature, row.output) for row in rows if row.status is Status.FAIL}


@pytest.mark.tf2
def test_a_model_trains_as_itself_in_all_its_signatures(saved):
    report = bridge.parity(saved[""], saved[""], **FEW)
    assert report.verdict is Verdict.PASS, report.decided_by
    gradients = {(r.signature, r.output) for r in report.training if r.kind == "gradient"}
    waves = "waves(x: float32[?, 3])"
    assert gradients >= {("default", "v"), ("more", "w"), (waves, "z")}


@pytest.mark.tf2
@pytest.mark.parametrize(
    ("fault", "signature", "name"),
    [
        ("gradient", "more", "w"),
        ("scaled", "more", "w"),
        ("update", "more", "n after 1 step"),
        ("complex", "waves(x: float32[?, 3])", "z"),
    ],
)
def test_a_fault_in_training_of_any_signature_fails(saved, fault, signature, name):
    report = bridge.parity(saved[""], saved[fault], **FEW)
    assert report.verdict is Verdict.FAIL
    assert (signature, name) in faults(report)
    assert {where for where, _ in faults(report)} == {signature}
    assert bridge.parity(saved[""], saved[fault], samples=1, batch_size=2).verdict is Verdict.PASS


MODULES = """
import sys
import tensorflow.compat.v1 as tf
import tensorflow_hub as hub

tf.disable_eager_execution()


def export(path, faulty):
    def normed(training):
        x = tf.placeholder(tf.float32, [None, 150, 150, 3])
        y = tf.layers.conv2d(x, 4, 3, kernel_initializer=tf.random_normal_initializer(0, .3, 1))
        y = tf.layers.batch_normalization(y, training=training, momentum=.8 if faulty else .9)
        y = tf.reduce_mean(tf.nn.relu6(y), [1, 2])
        hub.add_signature("default", {"images": x}, {"default": y})
        x = tf.placeholder(tf.float32, [None, 8])
        w = tf.get_variable("w", [8], initializer=tf.random_normal_initializer(seed=1))
        w = tf.stop_gradient(w) if faulty else tf.identity(w)
        y = tf.signal.fft(tf.complex(x, x)) * tf.cast(w, tf.complex64)
        hub.add_signature("waves", {"x": x}, {"y": y})

    forms = [(set(), {"training": False}), ({"train"}, {"training": True})]
    spec = hub.create_module_spec(normed, tags_and_args=forms)
    with tf.Graph().as_default():
        tf.set_random_seed(1)
        module = hub.Module(spec)
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            module.export(path, session)


export(sys.argv[1], False)
export(sys.argv[2], True)
"""


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory, tf1_python: Path) -> list[Path]:
    """Two modules of TensorFlow 1, the second with other training only, and one as SavedModel."""
    directory = tmp_path_factory.mktemp("modules")
    script = directory / "export.py"
    script.write_text(MODULES)
    paths = [directory / name for name in ("module", "faulty")]
    subprocess.run([tf1_python, script, *paths], check=True, capture_output=True)
    bridge.to_saved_model(paths[0], directory / "saved", verify=False)
    return [*paths, directory / "saved"]


@pytest.mark.tf2
def test_a_module_trains_as_its_saved_model_whatever_rounding_does(modules, tf1_python):
    module, faulty, saved_model = modules
    for candidate in (saved_model, module):
        report = bridge.parity(module, candidate, tf1_python=tf1_python, **FEW)
        assert report.verdict is Verdict.PASS, report.decided_by
        rows = [row for row in report.training if row.kind == "gradient"]
        assert {(r.variant, r.signature) for r in rows} == {
            ("{train}", name) for name in ("default", "waves")
        }
        assert all(row.status is Status.PASS for row in rows if row.signature == "waves")
    report = bridge.parity(faulty, saved_model, tf1_python=tf1_python, **FEW)
    assert {("waves", "w"), ("default", "batch_normalization/moving_mean after 1 step")} <= faults(
        report
    )


@pytest.mark.tf2
def test_an_output_that_the_candidate_alone_has_is_not_trained_on(tmp_path: Path) -> None:
    import tensorflow as tf

    def save(name: str, *, more: bool) -> Path:
        model = tf.Module()
        model.w = tf.Variable([1.0, 2.0, 3.0])

        def call(x: Any) -> Any:
            y = x * model.w
            return {"y": y, "more": tf.sin(y)} if more else {"y": y}

        model.__call__ = tf.function(call, input_signature=[tf.TensorSpec([None, 3], name="x")])
        tf.saved_model.save(model, str(tmp_path / name))
        return tmp_path / name

    few, many = save("few", more=False), save("many", more=True)
    report = bridge.parity(few, many, **FEW)
    assert report.verdict is Verdict.PASS, report.decided_by
    assert any(row.kind == "gradient" for row in report.training)
