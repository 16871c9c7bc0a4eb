"""What is read of SavedModels of the real TensorFlow 2, and that it can be called as is said."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge._parity.results import Status
from bridge._parity.structure import compare_structure
from bridge._surfaces.read import read_surface
from bridge._surfaces.surface import Call, Computation, Served
from bridge.convert import ToHubModuleOptions, to_hub_module
from bridge.model import TRAIN, Encoding
from tests.saved_model import sources
from tests.saved_model.sources import SOURCES, numbers

pytestmark = pytest.mark.tf2

FURTHER = {
    "conditional_gradients": {"step(x: float32[?, 4])"},
    "control_flow": {"step(x: float32[?, 4])", "twice(x: float32[?, 4])"},
    "nested_functions": {"inner(x: float32[?, 4])", "outer(x: float32[?, 4])"},
    "python_arguments": {
        "__call__(x: float32[?], bias=None, mode='bbb', scale=5.0)",
        "__call__(x: float32[?], x_1: float32[?], mode='a', scale=2.0)",
    },
    "several_traces": {"__call__(x: float64[?, 3])", "__call__(x: int32[5, 3])"},
}
"""What the sources offer that no signature of a module is."""

LACKS = {
    f"the candidate can't be used so: it has no {what}"
    for what in ("`__call__`", "serving signature")
}


def _fill(template: Any, tensors: dict[str, Any]) -> Any:
    if isinstance(template, list):
        return [_fill(item, tensors) for item in template]
    if "input" in template:
        return tensors[template["input"]]
    if "value" in template:
        return template["value"]
    if "dict" in template:
        return {key: _fill(item, tensors) for key, item in template["dict"].items()}
    if "tuple" in template:
        return tuple(_fill(item, tensors) for item in template["tuple"])
    kind = collections.namedtuple(template["named_tuple"], [name for name, _ in template["fields"]])
    return kind(*(_fill(item, tensors) for _, item in template["fields"]))


def _tensors(computation: Computation, inputs: dict[str, Any]) -> dict[str, Any]:
    """Returns the inputs by name: composite ones as such, and their parts."""
    import tensorflow as tf

    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    for name, endpoint in computation.inputs.items():
        if endpoint.encoding is Encoding.SPARSE:
            parts = [tensors[f"{name}|{p}"] for p in ("indices", "values", "dense_shape")]
            tensors[name] = tf.SparseTensor(*parts)
        elif endpoint.encoding is Encoding.COMPOSITE:
            splits = [tensors[k] for k in sorted(tensors) if k.startswith(f"{name}|row_splits")]
            values = tensors[f"{name}|values"]
            tensors[name] = tf.RaggedTensor.from_nested_row_splits(values, splits)
    return tensors


def run(loaded: Any, call: Call, tensors: dict[str, Any]) -> dict[str, Any]:
    """Does what a call says; returns the outputs by name."""
    target = loaded.signatures[call.name] if call.kind == "signature" else loaded
    if call.kind == "callable":
        for name in call.name.split("."):
            target = getattr(target, name)
    args = [_fill(template, tensors) for template in call.args]
    result = target(*args, **{name: _fill(t, tensors) for name, t in call.kwargs.items()})
    outputs = {}
    for name, path in call.outputs.items():
        found = result
        for step in path:
            found = found[step]
        outputs[name] = found
    return outputs


@pytest.mark.parametrize("name", SOURCES)
def test_a_module_has_the_structure_of_its_source_and_calls_give_what_is_said(
    name: str, tmp_path: Path
) -> None:
    import tensorflow as tf

    path, module = tmp_path / "source", tmp_path / "module"
    answers = SOURCES[name](path)
    to_hub_module(path, module, ToHubModuleOptions(verify=False))
    ours, theirs = read_surface(path), read_surface(module)
    for reference, candidate in ((ours, theirs), (theirs, ours)):
        checks = compare_structure(reference, candidate).checks
        others = [c for c in checks if c.status is not Status.PASS]
        # What is no signature is named, and nothing else.
        assert {c.status for c in others} <= {Status.NOT_COMPARABLE}
        assert {c.check for c in others} <= {"callable", "signature"}
        if reference is ours:
            assert {c.name for c in others} == FURTHER.get(name, set())
        else:
            # Somebody's own SavedModel may be made to be called only, or to be served only.
            assert {c.reason for c in others} <= LACKS
            assert {c.name for c in others} <= {"default"}
    assert {key: served for key, served in ours.served.items() if served != Served()} == {}
    pairs = compare_structure(theirs, ours).pairs
    assert len(pairs) == len(theirs.computations)
    for answer in answers:
        (pair,) = (
            p
            for p in pairs
            if (p.reference.variant, p.reference.signature)
            == (frozenset(answer.tags), answer.signature)
        )
        inputs = {
            "|".join([pair.inputs[key.partition("|")[0]], *key.split("|")[1:]]): value
            for key, value in answer.inputs.items()
        }
        tensors = _tensors(pair.candidate, inputs)
        for call in pair.candidate.calls:
            loaded = tf.saved_model.load(str(path))
            found = sources.answer(run(loaded, call, tensors))
            assert found
            for key, value in found.items():
                wanted = answer.outputs[key]
                if wanted.dtype.kind in "Sb":
                    np.testing.assert_array_equal(value, wanted, err_msg=call.label)
                else:
                    bound = 1e-5 * np.max(np.abs(wanted), initial=0)
                    same = value.astype(wanted.dtype)
                    np.testing.assert_allclose(same, wanted, 0, bound, err_msg=call.label)


def _save_random(path: Path, draw: Any, **held: Any) -> None:
    import tensorflow as tf

    obj = tf.Module()
    obj.weights = tf.Variable(numbers(2), name="weights")
    for key, value in held.items():
        setattr(obj, key, value)

    def function(x: Any, training: bool = False) -> Any:
        return x * obj.weights + draw() if training else x * obj.weights

    obj.__call__ = tf.function(function)
    for training in (False, True):
        spec = tf.TensorSpec([None, 2], name="x")
        obj.__call__.get_concrete_function(spec, training=training)
    tf.saved_model.save(obj, str(path))


def test_the_state_of_random_ops_is_told_from_other_variables(tmp_path: Path) -> None:
    import tensorflow as tf

    generator = tf.random.Generator.from_seed(3)
    count = tf.Variable([0, 0], name="count", trainable=False, dtype=tf.int32)

    def draw() -> Any:
        seed = count.assign_add([1, 1])
        return generator.normal([2]) + tf.random.stateless_uniform([2], seed)

    _save_random(tmp_path / "source", draw, generator=generator, count=count)
    surface = read_surface(tmp_path / "source")
    assert surface.random_states == {"StateVar", "count"}
    assert surface.updated[TRAIN] == {"StateVar", "count"}

    def shown() -> Any:
        return draw() + tf.cast(count, tf.float32)

    _save_random(tmp_path / "other", shown, generator=generator, count=count)
    assert read_surface(tmp_path / "other").random_states == {"StateVar"}


def test_only_the_branch_that_runs_updates(tmp_path: Path) -> None:
    SOURCES["training_tensor"](tmp_path / "source")
    surface = read_surface(tmp_path / "source")
    assert surface.updated == {frozenset(): frozenset(), TRAIN: frozenset(["mean"])}
