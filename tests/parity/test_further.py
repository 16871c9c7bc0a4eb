"""What a SavedModel offers besides its signatures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bridge
from bridge import Status, Verdict
from bridge._parity.structure import compare_structure
from bridge._surfaces.read import read_surface
from tests.parity.models import Converted

pytestmark = pytest.mark.tf2

FEW: dict[str, Any] = {"samples": 1, "batch_size": 2}

SCORE = "score(x: float32[?, 3])"
INNER = "part.inner(x: float32[?, 3])"
DOUBLE = "__call__(x: float64[?, 3])"
SERVED = "signatures['default'](x: float32[?, 3])"


def save(path: Path, *, factor: float = 2.0, score: bool = True, default: bool = True) -> Path:
    """Saves a model with callables that are no signatures, and a signature `default` of its own."""
    import tensorflow as tf

    spec = tf.TensorSpec([None, 3], name="x")
    model = tf.Module()
    model.weights = tf.Variable([1.0, 2.0, 3.0], name="weights")
    model.__call__ = tf.function(lambda x: x * tf.cast(model.weights, x.dtype))
    model.__call__.get_concrete_function(spec)
    model.__call__.get_concrete_function(tf.TensorSpec([None, 3], tf.float64, name="x"))
    model.part = tf.Module()
    model.part.inner = tf.function(lambda x: x - model.weights, input_signature=[spec])
    model._own = tf.function(lambda x: x, input_signature=[spec])
    if score:
        model.score = tf.function(lambda x: factor * x + model.weights, input_signature=[spec])
    other = tf.function(lambda x: {"y": x + model.weights}, input_signature=[spec])
    signatures = (
        {"default": other} if default else {"called": model.__call__.get_concrete_function(spec)}
    )
    tf.saved_model.save(model, str(path), signatures=signatures)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model") / "saved")


def test_another_saved_model_must_offer_it_and_compute_the_same(
    model: Path, tmp_path: Path
) -> None:
    assert [c.signature for c in read_surface(model).further] == [DOUBLE, INNER, SCORE, SERVED]
    report = bridge.parity(model, save(tmp_path / "other", factor=2.01), **FEW)
    found = {row.signature: row.status for row in report.comparisons}
    passed = dict.fromkeys(("default", DOUBLE, INNER, SERVED), Status.PASS)
    assert found == {**passed, SCORE: Status.FAIL}
    assert not report.remarks
    assert all(check.status is Status.PASS for check in report.structure)


def test_functions_in_lists_are_compared_by_their_index(tmp_path: Path) -> None:
    import tensorflow as tf

    def listing(path: Path, *factors: float) -> Path:
        spec = tf.TensorSpec([None, 3], name="x")
        model = tf.Module()
        model.weights = tf.Variable([1.0, 2.0, 3.0])
        model.__call__ = tf.function(lambda x: x + model.weights, input_signature=[spec])

        def head(factor: float) -> Any:
            return tf.function(lambda x: factor * x * model.weights, input_signature=[spec])

        model.heads = [head(factor) for factor in factors]
        model.nested = {"pair": (head(4.0), head(5.0))}
        tf.saved_model.save(model, str(path))
        return path

    reference = listing(tmp_path / "reference", 2.0, 3.0)
    report = bridge.parity(reference, listing(tmp_path / "candidate", 2.0, 3.1), **FEW)
    found = {row.signature.partition("(")[0]: row.status for row in report.comparisons}
    passed = ("default", "serving_default", "heads.0", "nested.pair.0", "nested.pair.1")
    assert found == {**dict.fromkeys(passed, Status.PASS), "heads.1": Status.FAIL}
    shorter = read_surface(listing(tmp_path / "shorter", 2.0))
    checks = compare_structure(read_surface(reference), shorter).checks
    assert [c.name.partition("(")[0] for c in checks if c.status is Status.FAIL] == ["heads.1"]


def two(tmp_path: Path, make: Any) -> tuple[Path, Path]:
    """Saves two models; `make` is told which, and what they multiply with."""
    import tensorflow as tf

    paths = tmp_path / "reference", tmp_path / "candidate"
    for is_other, path in enumerate(paths):
        model = tf.Module()
        model.w = tf.Variable([1.0, 2.0, 3.0])
        make(model, bool(is_other))
        tf.saved_model.save(model, str(path), signatures=getattr(model, "_served", None))
    return paths


def failing(reference: Path, candidate: Path) -> set[str]:
    """The checks and signatures that fail, of models that do not fail beside themselves."""
    for path in (reference, candidate):
        report = bridge.parity(path, path, **FEW)
        assert report.verdict is Verdict.PASS, report.decided_by
    report = bridge.parity(reference, candidate, **FEW)
    checks = {check.name for check in report.structure if check.status is Status.FAIL}
    rows = {row.signature for row in report.comparisons if row.status is Status.FAIL}
    return checks | rows


def times(model: Any, factor: float) -> Any:
    import tensorflow as tf

    spec = tf.TensorSpec([None, 3], name="x")
    return tf.function(lambda x: factor * x * model.w, input_signature=[spec])


def test_a_function_is_compared_by_each_name_that_it_has(tmp_path: Path) -> None:
    def make(model: Any, is_other: bool) -> None:
        model.__call__ = times(model, 2.0)
        model.predict = times(model, 3.0) if is_other else model.__call__
        model.again = times(model, 2.0)  # as good as the same function
        model.one = times(model, 5.0)
        model.two = times(model, 6.0) if is_other else model.one
        if not is_other:
            model.three = model.one
            model.four = model.__call__

    names = {f"{name}(x: float32[?, 3])" for name in ("predict", "two", "three", "four")}
    assert failing(*two(tmp_path, make)) == names


def test_functions_go_by_any_key_of_a_dictionary(tmp_path: Path) -> None:
    import tensorflow as tf

    def make(model: Any, is_other: bool) -> None:
        model.__call__ = times(model, 2.0)
        model.cast = tf.function(lambda x, to=tf.float64: tf.cast(x, to))
        model.cast.get_concrete_function(tf.TensorSpec([None, 3], name="x"))
        factors = {"de-DE": 4.0 if is_other else 3.0, "v1.5": 6.0 if is_other else 5.0, "en": 7.0}
        model.heads = {key: times(model, factor) for key, factor in factors.items()}

    found = failing(*two(tmp_path, make))
    assert found == {"heads.de-DE(x: float32[?, 3])", "heads.v1\\.5(x: float32[?, 3])"}


def test_a_truth_value_named_training_is_given_both_ways(tmp_path: Path) -> None:
    import tensorflow as tf

    specs = [tf.TensorSpec([None, 3], name="x"), tf.TensorSpec([], tf.bool, name="training")]

    def make(model: Any, is_other: bool) -> None:
        def modal(x: Any, training: Any) -> Any:
            return x * model.w * tf.where(training, 3.0 if is_other else 2.0, 1.0)

        model.__call__ = times(model, 2.0)
        model.embed = tf.function(modal, input_signature=specs)
        served = tf.function(lambda x, training: {"y": modal(x, training)}, input_signature=specs)
        model._served = {"modal": served}

    assert failing(*two(tmp_path, make)) == {
        "embed(x: float32[?, 3], training=True)",
        "signatures['modal'](x: float32[?, 3], training=True)",
    }


def test_what_the_candidate_lacks_fails_by_its_name(model: Path, tmp_path: Path) -> None:
    without = save(tmp_path / "without", score=False)
    checks = compare_structure(read_surface(model), read_surface(without)).checks
    (check,) = (c for c in checks if c.status is not Status.PASS)
    assert (check.check, check.name, check.status) == ("callable", SCORE, Status.FAIL)
    checks = compare_structure(read_surface(without), read_surface(model)).checks
    assert all(check.status is Status.PASS for check in checks)
    (check,) = (c for c in checks if c.name == SCORE)
    assert check.candidate == "it alone has it"


def test_a_module_has_no_place_for_it(model: Path, tmp_path: Path) -> None:
    """Nor for a signature `default` that is not what `__call__` computes."""
    report = bridge.to_hub_module(model, tmp_path / "module", verify=True)
    assert any(note.name == "default" for note in report.not_kept)
    found = bridge.parity(model, tmp_path / "module", **FEW)
    assert found.verdict is Verdict.PASS, found.decided_by
    listed = {c.name for c in found.structure if c.status is Status.NOT_COMPARABLE}
    assert listed == {DOUBLE, INNER, SCORE, SERVED}
    assert {row.signature for row in found.comparisons} == {"default"}


def test_nor_for_functions_that_nothing_serves(tmp_path: Path) -> None:
    """Not even where they take what the functions take that stand for signatures of a module."""
    import tensorflow as tf

    def save(path: Path, *served: str) -> Path:
        model = tf.Module()
        model.weights = tf.Variable([1.0, 2.0, 3.0], name="weights")

        def function(factor: float, *modes: bool) -> Any:
            def call(x: Any, training: bool = False, return_endpoints: bool = False) -> Any:
                default = (factor + training) * x * model.weights
                return {"default": default, "x": x} if return_endpoints else default

            traced = tf.function(call)
            spec = tf.TensorSpec([None, 3], name="x")
            for training in modes:
                for endpoints in (False, True):
                    traced.get_concrete_function(spec, training, endpoints)
            return traced

        model.__call__, model.score = function(1.0, False), function(2.0, False, True)
        spec = tf.TensorSpec([None, 3], name="x")
        functions = {name: getattr(model, name) for name in served}
        signatures = {
            name: function.get_concrete_function(spec, False, True)
            for name, function in functions.items()
        }
        tf.saved_model.save(model, str(path), signatures=signatures)
        return path

    saved = save(tmp_path / "saved")
    bridge.to_hub_module(saved, tmp_path / "module", verify=True)
    found = bridge.parity(saved, tmp_path / "module", **FEW)
    assert found.verdict is Verdict.PASS, found.decided_by
    listed = {(c.check, c.name) for c in found.structure if c.status is Status.NOT_COMPARABLE}
    assert listed == {("signature", "score"), ("variant", "{train}")}
    # What is served becomes a signature, which must be there then.
    served = save(tmp_path / "served", "score")
    bridge.to_hub_module(served, tmp_path / "whole", verify=True)
    surfaces = read_surface(served), read_surface(tmp_path / "module")
    failed = {c.name for c in compare_structure(*surfaces).checks if c.status is Status.FAIL}
    assert failed == {"score", "{train}"}


def test_a_signature_default_that_is_what_is_called_is_compared(tmp_path: Path) -> None:
    path = save(tmp_path / "saved", default=False)
    names = {c.signature for c in read_surface(path).further}
    assert names == {DOUBLE, INNER, SCORE}
    bridge.to_hub_module(path, tmp_path / "module")
    assert bridge.parity(path, tmp_path / "module", **FEW).verdict is Verdict.PASS


def test_what_serves_a_module_must_be_the_module(tmp_path: Path) -> None:
    import tensorflow as tf

    converted = Converted(tmp_path)
    loaded = tf.saved_model.load(str(converted.saved_model("rnn")))
    served = loaded.signatures["default"]
    specs = served.structured_input_signature[1]

    @tf.function(input_signature=[specs])
    def twice(inputs: Any) -> Any:
        return {name: 2 * value for name, value in served(**inputs).items()}

    candidate = tmp_path / "again"
    signatures = dict.fromkeys(("default", "serving_default"), twice)
    tf.saved_model.save(loaded, str(candidate), signatures=signatures)
    report = bridge.parity(converted.module("rnn"), candidate, **FEW)
    through = {(row.status, row.through[1]) for row in report.comparisons if row.variant == "{}"}
    # Both are one function, which is run once.
    assert (Status.FAIL, "signatures['serving_default']") in through
    assert {status for status, name in through if name.startswith("__call__")} == {Status.PASS}
    assert report.verdict is Verdict.FAIL
