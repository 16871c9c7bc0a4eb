"""Regularization losses: what they are, and which variables they are made of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bridge
from bridge import Status, Verdict
from bridge._parity.runners.process import RunnerProcess
from bridge._parity.runners.protocol import Lane
from bridge._surfaces.read import read_surface
from bridge._surfaces.surface import HUB_MODULE, SAVED_MODEL

FEW = {"samples": 1, "batch_size": 2}

MODULES = """
import sys
import numpy as np
import tensorflow.compat.v1 as tf
import tensorflow_hub as hub

tf.disable_eager_execution()
DIRECTORY = sys.argv[1]


def export(name, function):
    spec = hub.create_module_spec(function)
    with tf.Graph().as_default(), tf.Session() as session:
        module = hub.Module(spec)
        session.run(tf.global_variables_initializer())
        module.export(DIRECTORY + "/" + name, session)


def variable(name, value, **options):
    return tf.get_variable(name, initializer=tf.constant(value, tf.float32), **options)


def regularize(scale, *variables):
    for one in variables:
        tf.add_to_collection(tf.GraphKeys.REGULARIZATION_LOSSES, scale * tf.nn.l2_loss(one))


def model(of="a", of_zero="zero", scale=.1, slope=1.):
    def build():
        ones = tf.ones([4, 4])  # one tensor for both
        found = {name: tf.get_variable(name, initializer=ones) for name in ("a", "b")}
        # Neither is moved by training.
        found.update((name, variable(name, np.zeros(4))) for name in ("zero", "other_zero"))
        x = tf.placeholder(tf.float32, [None, 4])
        y = tf.matmul(tf.sin(tf.matmul(x, found["a"])), found["b"])
        hub.add_signature("default", {"x": x}, {"default": y})
        fixed = variable("fixed", np.ones(4), trainable=False)
        regularize(scale, found[of], found[of_zero], fixed)
        images = tf.placeholder(tf.string, [None])
        w = variable("w", np.arange(12).reshape(3, 4))

        def features(image):
            pixels = tf.image.decode_jpeg(image, channels=3)
            return tf.reduce_mean(tf.image.convert_image_dtype(pixels, tf.float32), [0, 1])

        y = tf.matmul(tf.map_fn(features, images, dtype=tf.float32), w)
        y = slope * y + tf.stop_gradient(y - slope * y)
        hub.add_signature("images", {"images": images}, {"default": y})
    return build


def drawing(scale):
    def build():
        w = variable("w", np.arange(16).reshape(4, 4))
        x = tf.placeholder(tf.float32, [None, 4])
        ids = tf.cast(tf.abs(x[:1]), tf.int64)
        drawn = tf.random.log_uniform_candidate_sampler(ids, 4, 2, True, 10).sampled_candidates
        hub.add_signature("default", {"x": x}, {"default": tf.matmul(x, w), "drawn": drawn})
        regularize(scale, w)
    return build


export("right", model())
export("of another", model(of="b"))
export("of another zero", model(of_zero="other_zero"))
export("slope", model(slope=3.))
export("drawing", drawing(.1))
export("drawing more", drawing(.2))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tf1_python: Path) -> Path:
    """A directory of modules, and as `NAME saved` what some are converted to."""
    directory = tmp_path_factory.mktemp("losses")
    script = directory / "export.py"
    script.write_text(MODULES)
    subprocess.run([tf1_python, script, directory], check=True, capture_output=True)
    for name in ("right", "of another", "of another zero"):
        bridge.to_saved_model(directory / name, directory / f"{name} saved", verify=False)
    return directory


def rows(report: bridge.ParityReport, status: Status) -> set[tuple[str, str, str]]:
    """Returns what has a status: runtime of the reference, kind, name."""
    return {
        (row.reference_runtime.split()[1][0], row.kind, row.output)
        for row in report.training
        if row.status is status
    }


@pytest.mark.tf2
@pytest.mark.parametrize(
    ("name", "form", "runtime"),
    [
        ("right", HUB_MODULE, "tf1"),
        ("right", HUB_MODULE, "tf2"),
        ("right saved", SAVED_MODEL, "tf2"),
    ],
)
def test_gradients_of_losses_are_those_at_moved_variables(
    made: Path, tf1_python: Path, tmp_path: Path, name: str, form: str, runtime: str
) -> None:
    python = tf1_python if runtime == "tf1" else Path(sys.executable)
    runner = RunnerProcess(Lane("reference", made / name, form, runtime, python), 300, tmp_path)
    computation = next(
        c for c in read_surface(made / name).computations if c.signature == "default"
    )
    call = computation.calls[0]
    x = {"x": np.ones((2, 4), np.float32)}
    try:
        before = runner.losses(call)
        np.testing.assert_allclose(before, [0.8, 0.0, 0.2], rtol=1e-6)
        for _ in range(2):
            found = runner.loss_gradients(call)
            starts = {"a": 1.0, "zero": 0.0, "fixed": 1.0}
            assert {key for key, gradient in found.items() if np.any(gradient)} == starts.keys()
            for key, start in starts.items():
                count = found[key].size
                away = 1.5 + np.cos(0.37 * np.arange(count) + 1)
                np.testing.assert_allclose(found[key].ravel(), 0.1 * (start + away), rtol=1e-5)
            moved = runner.train(call, x, (1,), 0.5).variables[1]
            assert not np.array_equal(moved["a"], moved["b"])
            assert not np.any(moved["zero"])
        # Neither training nor this leaves anything behind.
        assert runner.losses(call) == before
    finally:
        runner.close()


@pytest.mark.tf2
def test_losses_of_a_conversion_are_made_of_the_same_variables(made, tf1_python):
    report = bridge.parity(
        made / "right", made / "right saved", train=True, tf1_python=tf1_python, **FEW
    )
    assert report.verdict is Verdict.PASS, report.decided_by
    assert rows(report, Status.PASS) >= {
        (release, kind, name)
        for release in "12"
        for kind, name in (
            ("regularization_loss", "all"),
            ("regularization_gradient", "a"),
            ("regularization_gradient", "zero"),
            ("regularization_gradient", "fixed"),
        )
    }


@pytest.mark.tf2
@pytest.mark.parametrize(
    ("fault", "names"),
    [("of another", {"a", "b"}), ("of another zero", {"zero", "other_zero"})],
)
def test_a_loss_of_another_variable_of_the_same_value_fails(made, tf1_python, fault, names):
    report = bridge.parity(
        made / "right", made / f"{fault} saved", train=True, tf1_python=tf1_python, **FEW
    )
    assert report.verdict is Verdict.FAIL
    assert rows(report, Status.FAIL) == {
        (release, "regularization_gradient", name) for release in "12" for name in names
    }
    report = bridge.parity(made / "right", made / fault, train=True, **FEW)
    assert rows(report, Status.FAIL) == {("2", "regularization_gradient", name) for name in names}


@pytest.mark.tf2
def test_losses_are_compared_where_nothing_pins_what_is_drawn(made, tf1_python):
    report = bridge.parity(
        made / "drawing", made / "drawing more", train=True, tf1_python=tf1_python, **FEW
    )
    assert rows(report, Status.FAIL) == {
        (release, kind, name)
        for release in "12"
        for kind, name in (("regularization_loss", "all"), ("regularization_gradient", "w"))
    }
    assert rows(report, Status.NOT_COMPARABLE) == {(r, "gradient", "all") for r in "12"}


@pytest.mark.tf2
def test_what_refuses_words_is_trained_on_what_it_takes(made):
    report = bridge.parity(made / "right", made / "slope", train=True, **FEW)
    assert report.verdict is Verdict.FAIL
    failed = [row for row in report.training if row.status is Status.FAIL]
    assert {row.signature for row in failed} == {"images"}
    (gradient,) = (row for row in failed if row.kind == "gradient")
    assert gradient.output == "w"
    assert "PNG images" in gradient.reason
