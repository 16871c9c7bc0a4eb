"""What `inspect` says of TF2 SavedModels, against what the real TensorFlow 2 loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bridge
from bridge._inspect.results import TF2_SAVED_MODEL
from tests.attacks.saved_models import result_of_an_unknown_class
from tests.cli.helpers import MODULES
from tests.clients.tf1 import Tf1Client, Tf1Error
from tests.saved_model.sources import SOURCES, numbers

pytestmark = pytest.mark.tf2

NAMES = (
    "tf_keras_save",
    "keras_export",
    "training_tensor",
    "training_keyword_only",
    "python_arguments",
    "several_signatures",
    "call_and_signatures",
    "listed_variables",
    "regularization",
    "tables",
    "sparse",
    "ragged",
    "shapes",
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of SavedModels, saved by the real TensorFlow 2."""
    directory = tmp_path_factory.mktemp("saved")
    for name in NAMES:
        SOURCES[name](directory / name)
    return directory


@pytest.fixture(scope="module")
def loaded(models: Path) -> dict[str, Any]:
    import tensorflow as tf

    return {name: tf.saved_model.load(str(models / name)) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_signatures_are_those_that_are_loaded(
    name: str, models: Path, loaded: dict[str, Any]
) -> None:
    report = bridge.inspect(models / name)
    assert report.format == TF2_SAVED_MODEL
    assert report.producer.startswith("2.")
    (variant,) = report.variants
    assert variant.name == "{serve}"
    real = loaded[name].signatures
    assert {one.name for one in variant.signatures} == set(real)
    for one in variant.signatures:
        wanted = real[one.name].structured_input_signature[1]
        assert {(e.name, e.dtype, _key(e.shape)) for e in one.inputs} == {
            (key, spec.dtype.name, _key(spec.shape)) for key, spec in wanted.items()
        }
        outputs = real[one.name].structured_outputs
        assert {(e.name, e.dtype, _key(e.shape)) for e in one.outputs} == {
            (key, spec.dtype.name, _key(spec.shape)) for key, spec in outputs.items()
        }


def _key(shape: Any) -> tuple[int | None, ...] | None:
    if hasattr(shape, "rank"):
        return None if shape.rank is None else tuple(shape.as_list())
    return None if shape is None else tuple(shape)


@pytest.mark.parametrize("name", NAMES)
def test_traces_are_those_that_are_loaded(name: str, models: Path, loaded: dict[str, Any]) -> None:
    import tensorflow as tf

    def specs(structure: Any) -> list[tuple[str, tuple[int | None, ...] | None]]:
        leaves = tf.nest.flatten(structure)
        return [(s.dtype.name, _key(s.shape)) for s in leaves if isinstance(s, tf.TypeSpec)]

    report = bridge.inspect(models / name)
    call = next((one for one in report.callables if one.name == "__call__"), None)
    assert (call is not None) == callable(loaded[name])
    if call is None:
        return
    real = loaded[name].__call__
    concrete = real.concrete_functions
    assert call.arguments == list(real.function_spec.fullargspec.args)
    assert len(call.traces) == len(concrete)
    for trace, function in zip(call.traces, concrete, strict=True):
        assert trace.problem is None
        assert trace.captures == len(function.captured_inputs)
        inputs = [(end.dtype, _key(end.shape)) for end in trace.inputs]
        assert inputs == specs(function.structured_input_signature)
        outputs = [(end.dtype, _key(end.shape)) for end in trace.outputs]
        assert outputs == specs(function.structured_outputs)


@pytest.mark.parametrize(
    ("name", "training"),
    [
        ("tf_keras_save", {"True", "False"}),
        ("training_tensor", {"tensor"}),
        ("training_keyword_only", {"True", "False"}),
        ("shapes", {None}),
    ],
)
def test_the_training_flag_is_told(name: str, training: set[str | None], models: Path) -> None:
    (call,) = [one for one in bridge.inspect(models / name).callables if one.name == "__call__"]
    assert {trace.training for trace in call.traces} == training


@pytest.mark.parametrize("name", NAMES)
def test_variables_are_those_that_are_loaded(
    name: str, models: Path, loaded: dict[str, Any]
) -> None:
    import tensorflow as tf

    real = _variables(loaded[name], tf)
    seen = bridge.inspect(models / name).variables
    assert seen.count == len(real)
    assert seen.resource == len(real)
    trained = getattr(loaded[name], "trainable_variables", real.values())
    assert seen.trainable == sum(one.trainable for one in trained)
    assert seen.bytes == sum(len(one.numpy().tobytes()) for one in real.values())
    assert not seen.not_stored
    assert sorted((one.dtype, tuple(one.shape or ())) for one in seen.items) == sorted(
        (one.dtype.name, tuple(one.shape)) for one in real.values()
    )


def _variables(root: Any, tf: Any) -> dict[int, Any]:
    """Returns what the loaded object lists, else all that it leads to, and what calls read."""
    found: list[Any] = list(getattr(root, "variables", ()))
    waiting, seen = [] if found else [root], set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, tf.Variable):
            found.append(one)
        waiting += getattr(one, "_self_unconditional_dependency_names", {}).values()
    if callable(root):
        found += [v for traced in root.__call__.concrete_functions for v in traced.variables]
    return {id(one): one for one in found}


def test_losses_tables_and_assets_are_told(models: Path, loaded: dict[str, Any]) -> None:
    report = bridge.inspect(models / "regularization")
    losses = loaded["regularization"].regularization_losses
    assert len(report.regularization_losses) == len(losses)
    assert len(losses) > 1
    tables = bridge.inspect(models / "tables")
    assert {table.asset for table in tables.tables} == {"tables.txt", "tables-other.txt", None}
    assert {table.op for table in tables.tables} == {"HashTableV2"}
    assert [asset.name for asset in tables.assets] == ["tables-other.txt", "tables.txt"]
    assert tables.more_callables == 0


def test_encodings_are_told(models: Path) -> None:
    for name in ("sparse", "ragged"):
        (call,) = [one for one in bridge.inspect(models / name).callables if one.name == "__call__"]
        ends = [end for trace in call.traces for end in (*trace.inputs, *trace.outputs)]
        assert name in {end.encoding for end in ends}


def test_nested_arguments_carry_their_names(models: Path) -> None:
    report = bridge.inspect(models / "tf_keras_save")
    call = report.callables[0]
    assert call.name == "__call__"
    ends = [(end.argument, end.name) for trace in call.traces for end in trace.inputs]
    assert set(ends) == {("inputs", "picture")}
    assert report.image_size == bridge.ImageSize(8, 8, "input 'picture' of __call__")
    assert report.more_callables > 0


@pytest.mark.parametrize(
    ("name", "signature", "since", "word"),
    [
        ("call_and_signatures", "extra", "1.13", None),
        ("several_signatures", "product", "2.15", "debug_name|DisableCopyOnRead"),
    ],
)
def test_the_real_old_release_loads_a_graph_that_it_is_said_to_know_and_no_other(
    name: str, signature: str, since: str, word: str | None, models: Path, tf1: Tf1Client
) -> None:
    release = bridge.inspect(models / name).graph_release
    assert release is not None
    assert release.oldest == since
    x = numbers(2) if name == "call_and_signatures" else numbers(2, 3)
    if word is None:
        answer = tf1.saved_model_signature(models / name, {"x": x}, signature=signature)
        assert answer["y"].tolist() == (x * 3).tolist()
    else:
        with pytest.raises(Tf1Error, match=word):
            tf1.saved_model_signature(models / name, {"x": x}, signature=signature)


@pytest.mark.parametrize("name", NAMES)
def test_each_can_be_converted(name: str, models: Path) -> None:
    conversion = bridge.inspect(models / name).conversion
    assert conversion is not None
    assert (conversion.direction, conversion.possible) == ("to-hub-module", True)
    assert conversion.obstacles == []


def test_a_module_that_became_a_saved_model_tells_the_same(tmp_path: Path) -> None:
    bridge.to_saved_model(MODULES / "digits", tmp_path / "out")
    module, made = bridge.inspect(MODULES / "digits"), bridge.inspect(tmp_path / "out")
    assert (made.format, made.was_module) == (TF2_SAVED_MODEL, True)
    assert made.image_size == module.image_size
    assert [one.message for one in made.attachments] == [one.message for one in module.attachments]
    seen, wanted = (
        [(v.name, v.dtype, v.shape, v.bytes, v.trainable) for v in report.variables.items]
        for report in (made, module)
    )
    assert seen == wanted
    assert {trace.training for trace in made.callables[0].traces} == {"True", "False"}


def test_what_cannot_be_described_is_told_and_the_rest_is_shown(tmp_path: Path) -> None:
    report = bridge.inspect(result_of_an_unknown_class(tmp_path))
    (trace,) = report.callables[0].traces
    assert trace.problem is not None
    assert "my.Own" in trace.problem
    assert report.ops
    assert report.conversion is not None
    assert not report.conversion.possible
