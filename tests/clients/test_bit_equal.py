"""A converted module computes what the module computes in a v1 session, bit for bit.

Both sides are today's TensorFlow on the same machine, so nothing but the conversion can differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.clients.converted import MODULES, Case, cases, converted
from tests.clients.v1_session import V1Module, parts, v1_module
from tests.conftest import TESTDATA, Golden

pytestmark = pytest.mark.tf2


@pytest.fixture(autouse=True)
def no_graph_rewrites() -> Iterator[None]:
    """Turns Grappler off: it rewrites equal nets in otherwise cut graphs otherwise, by an ulp."""
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})


def differentiate(module: V1Module, case: Case, golden: Golden, inputs: Any) -> dict[str, Any]:
    """Gradients of the projected outputs in the session, by the variable's name."""
    import tensorflow as tf

    v1 = tf.compat.v1
    signature = module.meta_graph.signature_def[case.signature]
    projections = golden.under(f"{case.prefix}|proj")
    with module.graph.as_default():
        outputs = {
            name: module.graph.get_tensor_by_name(signature.outputs[name].name)
            for name in case.facts["grad_outputs"]
        }
        loss = tf.add_n(
            [
                tf.reduce_sum(tf.cast(o, tf.float32) * tf.cast(projections[n], tf.float32))
                for n, o in outputs.items()
            ]
        )
        variables = v1.trainable_variables()
        gradients = {
            variable.op.name: tf.convert_to_tensor(gradient)
            for variable, gradient in zip(variables, v1.gradients(loss, variables), strict=True)
            if gradient is not None
        }
        return module.session.run(gradients, module.feeds(case.signature, inputs))


def assert_equal(found: Any, wanted: Any, what: str) -> None:
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.dtype == wanted.dtype, what
    assert found.shape == wanted.shape, what
    if found.dtype == object:
        assert found.tolist() == wanted.tolist(), what
    else:
        worst = np.max(np.abs(found - wanted)) if found.dtype.kind == "f" and found.size else ""
        assert found.tobytes() == wanted.tobytes(), f"{what}: differs by {worst}"


@pytest.mark.parametrize("module", MODULES)
def test_outputs_and_gradients_equal_those_of_the_module_in_a_v1_session(
    module: str, tmp_path: Path, golden: Callable[[str], Golden]
) -> None:
    import tensorflow as tf

    recorded = golden(module)
    root = tf.saved_model.load(str(converted(module, tmp_path)))
    start = [(variable, variable.numpy()) for variable in root.variables]
    compared = 0
    for case in cases():
        if case.module != module or not case.facts["deterministic"]:
            continue
        function = case.callable_of(root, recorded)
        inputs = case.inputs(recorded)
        training = case.variant["key"] == "train"
        for variable, value in start:
            variable.assign(value)
        outputs = function(inputs, training=training, return_endpoints=True)
        for variable, value in start:
            variable.assign(value)
        with tf.GradientTape() as tape:
            again = function(inputs, training=training, return_endpoints=True)
            losses = [
                tf.reduce_sum(
                    tf.cast(again[name], tf.float32)
                    * tf.cast(recorded.arrays[f"{case.prefix}|proj|{name}"], tf.float32)
                )
                for name in case.facts.get("grad_outputs", ())
            ]
            loss = tf.add_n(losses) if losses else None
        with v1_module(TESTDATA / "modules" / module, case.variant["tags"]) as session:
            wanted = session.run(case.signature, inputs)
            assert sorted(outputs) == sorted(wanted)
            for name, arrays in wanted.items():
                for found, array in zip(parts(outputs[name]), arrays, strict=True):
                    assert_equal(found, array, f"{case} {name}")
                    compared += 1
            if loss is None:
                continue
            gradients = differentiate(session, case, recorded, inputs)
        variables = {v.name.removesuffix(":0"): v for v in root.trainable_variables}
        found_gradients = tape.gradient(loss, variables)
        for name, array in gradients.items():
            found = tf.convert_to_tensor(found_gradients[name]).numpy()
            if module.startswith(("control_flow", "rnn")):
                # The gradient of a While adds up in another order than that of a v1 loop.
                np.testing.assert_allclose(found, array, rtol=1e-5, atol=1e-6, err_msg=name)
            else:
                assert_equal(found, array, f"{case} gradient of {name}")
            compared += 1
    assert compared
