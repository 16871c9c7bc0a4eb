"""The converted modules compute what the real TensorFlow 1.15 client recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.clients.converted import (
    MODULES,
    Case,
    assert_close,
    cases,
    components,
    converted,
    variables_of,
    whole_arrays,
)
from tests.conftest import Golden

pytestmark = pytest.mark.tf2

LEARNING_RATE = 0.1
# The kernels of two TensorFlow releases add up in different orders. test_bit_equal.py shows that
# nothing else makes a difference: today's TensorFlow runs the module itself to the same bits.
ACROSS_RELEASES = 1e-4
CASES = cases()
# float16 and bfloat16 carry 11 and 8 bits.
# Moved by an update op that depends on no input. The old client ran it; a call does not, and the
# report says so.
NOT_OF_THE_INPUTS = {"calls"}
LOW_PRECISION = {"reduced_precision": 4e-3, "reduced_precision_ref": 4e-3}


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Returns a function from the name of a test module to its conversion, loaded afresh."""
    directory = tmp_path_factory.mktemp("converted")

    def loaded(module: str) -> Any:
        import tensorflow as tf

        return tf.saved_model.load(str(converted(module, directory)))

    return loaded


@pytest.fixture(scope="module")
def shared(load: Callable[[str], Any]) -> Callable[[str], Any]:
    """The same, loaded once: for tests that change no variable."""
    models: dict[str, Any] = {}

    def loaded(module: str) -> Any:
        if module not in models:
            models[module] = load(module)
        return models[module]

    return loaded


def by_name(variables: Any) -> dict[str, Any]:
    return {variable.name.removesuffix(":0"): variable for variable in variables}


def values(root: Any) -> dict[str, Any]:
    return {name: variable.numpy() for name, variable in by_name(root.variables).items()}


def loss_of(outputs: dict[str, Any], names: list[str], projections: dict[str, Any]) -> Any:
    import tensorflow as tf

    return tf.add_n(
        [
            tf.reduce_sum(tf.cast(outputs[n], tf.float32) * tf.cast(projections[n], tf.float32))
            for n in names
        ]
    )


@contextmanager
def unchanged(root: Any) -> Iterator[None]:
    """Puts the values of all variables back in the end, for other tests use the model too."""
    before = [(variable, variable.numpy()) for variable in root.variables]
    yield
    for variable, value in before:
        variable.assign(value)


@pytest.mark.parametrize("case", [c for c in CASES if c.facts["deterministic"]], ids=str)
def test_every_output_is_what_the_old_client_computed(
    case: Case, shared: Callable[[str], Any], golden: Callable[[str], Golden]
) -> None:
    recorded = golden(case.module)
    root = shared(case.module)
    function = case.callable_of(root, recorded)
    inputs = case.inputs(recorded)
    with unchanged(root):
        outputs = function(inputs, training=case.variant["key"] == "train", return_endpoints=True)
    wanted = recorded.under(f"{case.prefix}|out")
    found = {name + part: a for name, v in outputs.items() for part, a in components(v).items()}
    assert sorted(found) == sorted(wanted)
    for name, array in wanted.items():
        assert_close(found[name], array, name, LOW_PRECISION.get(case.module, 1e-5))
    for name, info in case.facts["outputs"].items():
        assert outputs[name].dtype.name == info["dtype"]


GRADIENTS = [c for c in CASES if c.facts.get("grad_outputs") and c.facts["deterministic"]]


@pytest.mark.parametrize("case", GRADIENTS, ids=str)
def test_every_gradient_is_what_the_old_client_computed(
    case: Case, shared: Callable[[str], Any], golden: Callable[[str], Golden]
) -> None:
    import tensorflow as tf

    recorded = golden(case.module)
    root = shared(case.module)
    function = case.callable_of(root, recorded)
    inputs = case.inputs(recorded)
    variables = by_name(case.owner(root, recorded).trainable_variables)
    with unchanged(root), tf.GradientTape() as tape:
        outputs = function(inputs, training=case.variant["key"] == "train", return_endpoints=True)
        loss = loss_of(outputs, case.facts["grad_outputs"], recorded.under(f"{case.prefix}|proj"))
    gradients = dict(zip(variables, tape.gradient(loss, list(variables.values())), strict=True))
    wanted = recorded.under(f"{case.prefix}|grad")
    found = whole_arrays(
        {n: tf.convert_to_tensor(g).numpy() for n, g in gradients.items() if g is not None},
        case.variant,
    )
    assert sorted(found) == sorted(wanted)
    for name, array in wanted.items():
        assert_close(found[name], array, name, LOW_PRECISION.get(case.module, ACROSS_RELEASES))


@pytest.mark.parametrize("case", [c for c in CASES if c.facts.get("after_updates")], ids=str)
def test_one_training_call_moves_the_statistics_as_the_update_ops_did(
    case: Case, load: Callable[[str], Any], golden: Callable[[str], Golden]
) -> None:
    recorded = golden(case.module)
    root = load(case.module)
    inputs = case.inputs(recorded)
    case.callable_of(root, recorded)(inputs, training=True)
    wanted = recorded.under("var") | recorded.under(f"{case.prefix}|after_updates")
    found = whole_arrays(values(root), case.variant)
    for name, array in wanted.items():
        if name in found and name not in NOT_OF_THE_INPUTS:
            assert_close(found[name], array, name)


@pytest.mark.parametrize("case", [c for c in CASES if c.facts.get("after_3_steps")], ids=str)
def test_three_training_steps_end_where_the_old_client_ended(
    case: Case, load: Callable[[str], Any], golden: Callable[[str], Golden]
) -> None:
    import tensorflow as tf

    recorded = golden(case.module)
    root = load(case.module)
    function = case.callable_of(root, recorded)
    inputs = case.inputs(recorded)
    projections = recorded.under(f"{case.prefix}|proj")
    trained = case.owner(root, recorded)
    variables = list(trained.trainable_variables)
    losses = trained.regularization_losses if case.variant["regularization_losses"] else []
    for _ in range(3):
        with tf.GradientTape() as tape:
            outputs = function(inputs, training=case.training(recorded), return_endpoints=True)
            loss = loss_of(outputs, case.facts["step_outputs"], projections)
            loss += sum(tf.cast(one(), tf.float32) for one in losses)
        gradients = tape.gradient(loss, variables)
        for variable, gradient in zip(variables, gradients, strict=True):
            if gradient is not None:
                step = tf.convert_to_tensor(gradient) * tf.cast(LEARNING_RATE, variable.dtype)
                variable.assign_sub(step)
    found = whole_arrays(values(root), case.variant)
    for name, array in recorded.under(f"{case.prefix}|after_3_steps").items():
        if name in NOT_OF_THE_INPUTS:
            continue
        assert_close(found[name], array, name, LOW_PRECISION.get(case.module, ACROSS_RELEASES))


@pytest.mark.parametrize("module", MODULES)
def test_variables_keep_name_value_dtype_shape_and_flag(
    module: str, shared: Callable[[str], Any], golden: Callable[[str], Golden]
) -> None:
    recorded = golden(module)
    root = shared(module)
    found = by_name(root.variables)
    variants = recorded.facts["variants"]
    facts = {name: f for variant in variants for name, f in variables_of(variant).items()}
    trainable = {
        name for variant in variants for name, f in variables_of(variant).items() if f["trainable"]
    }
    assert sorted(found) == sorted(facts)
    assert sorted(by_name(root.trainable_variables)) == sorted(trainable)
    for name, variable in found.items():
        assert variable.dtype.name == facts[name]["dtype"]
        assert list(variable.shape) == facts[name]["shape"]
        assert variable.trainable == (name in trainable)
    wholes: dict[str, Any] = {}
    for variant in variants:
        wholes |= whole_arrays(values(root), variant)
    for name, value in wholes.items():
        wanted = recorded.arrays[f"var|{name}"]
        plain = value.astype(bytes) if wanted.dtype.kind == "S" else value.astype(wanted.dtype)
        assert plain.tobytes() == wanted.tobytes() or plain.tolist() == wanted.tolist()


@pytest.mark.parametrize("module", MODULES)
def test_regularization_losses_are_those_of_the_training_variant(
    module: str, shared: Callable[[str], Any], golden: Callable[[str], Golden]
) -> None:
    recorded = golden(module)
    root = shared(module)
    keys = [variant["key"] for variant in recorded.facts["variants"]]
    owners = {key: root if key == "" else getattr(root, key, None) for key in keys}
    if "" in keys and "train" in keys:
        owners["train"], owners[""] = root, None
    for key, value in owners.items():
        if value is not None:
            wanted = [a for _, a in sorted(recorded.under(f"{key}|reg").items())]
            losses = [loss() for loss in value.regularization_losses]
            assert len(losses) == len(wanted)
            for found, array in zip(losses, wanted, strict=True):
                assert_close(found.numpy(), array, key)
