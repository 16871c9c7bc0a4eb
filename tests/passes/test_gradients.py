"""What could be trained in the old client can be trained after the conversion."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import bridge
from tests.clients.tf1 import Tf1Client, tf1_environ

pytestmark = pytest.mark.tf2

MODULE = """
import sys
import tensorflow as tf
import tensorflow_hub as hub
from tensorflow.python.framework.function import Defun

{body}

spec = hub.create_module_spec(module_fn)
with tf.Graph().as_default():
    module = hub.Module(spec)
    with tf.Session() as session:
        session.run([tf.global_variables_initializer(), tf.tables_initializer()])
        module.export(sys.argv[1], session)
"""

CASES = {
    "a call of a Defun": """
@Defun(tf.float32, noinline=True)
def square(x):
    return tf.square(x) + x

def module_fn():
    x = tf.placeholder(tf.float32, [None, 3])
    w = tf.get_variable("w", [3, 2])
    hub.add_signature(inputs={"x": x}, outputs={"default": square(tf.matmul(x, w))})
""",
    "Defuns that call one another": """
@Defun(tf.float32, tf.float32)
def both(x, y):
    return x * y, x - y

@Defun(tf.float32)
def outer(x):
    product, difference = both(x, tf.sin(x))
    return difference * 2.0, product

def module_fn():
    x = tf.placeholder(tf.float32, [None, 3])
    w = tf.get_variable("w", [3, 2])
    first, second = outer(tf.matmul(x, w))
    hub.add_signature(inputs={"x": x}, outputs={"default": first + 3.0 * second})
""",
    "an op without gradient before every variable": """
def module_fn():
    x = tf.placeholder(tf.float32, [None, 3])
    w = tf.get_variable("w", [12, 2])
    image = tf.image.resize_area(tf.reshape(x, [-1, 1, 1, 3]), [2, 2])
    output = tf.matmul(tf.reshape(image, [-1, 12]), w)
    hub.add_signature(inputs={"x": x}, outputs={"default": output, "image": image})
""",
    "a loop with back_prop=False": """
def module_fn():
    x = tf.placeholder(tf.float32, [None, 3])
    w = tf.get_variable("w", [3, 3])
    step = lambda i, a: (i + 1, tf.tanh(tf.matmul(a, w)))
    _, y = tf.while_loop(lambda i, a: i < 3, step, [0, x], back_prop=False)
    hub.add_signature(inputs={"x": x}, outputs={"default": tf.matmul(y, w)})
""",
    "a scatter_nd_update of a resource variable": """
def module_fn():
    x = tf.placeholder(tf.float32, [None, 3])
    w = tf.get_variable("w", [3, 3], use_resource=True)
    memory = tf.get_variable("memory", [2, 3], trainable=False, use_resource=True)
    update = tf.scatter_nd_update(memory, [[0]], tf.reduce_sum(x, 0, keepdims=True))
    tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
    hub.add_signature(inputs={"x": x}, outputs={"default": tf.matmul(x, w)})
""",
    "a tf.cond that assigns a reference": """
def module_fn():
    x = tf.placeholder(tf.float32, [None, 3])
    w = tf.get_variable("w", [3, 3], use_resource=False)
    c = tf.get_variable("c", [3], trainable=False, use_resource=False)
    mean = tf.reduce_mean(x, 0)
    update = tf.cond(tf.reduce_sum(x) > 0.0, lambda: tf.assign(c, mean), lambda: tf.assign(c, -c))
    tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
    hub.add_signature(inputs={"x": x}, outputs={"default": tf.matmul(x, w)})
""",
    "an output that is a variable's reference": """
def module_fn():
    x = tf.placeholder(tf.float32, [None, 3])
    w = tf.get_variable("w", [3, 3], use_resource=False)
    outputs = {"default": tf.matmul(x, w), "weights": w.op.outputs[0]}
    hub.add_signature(inputs={"x": x}, outputs=outputs)
""",
    "a slice of a reference that is assigned": """
def module_fn():
    x = tf.placeholder(tf.float32, [None, 3])
    w = tf.get_variable("w", [3, 3])
    c = tf.get_variable("c", [4, 3], trainable=False, use_resource=False)
    tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, c[1].assign(tf.reduce_mean(x, 0)))
    hub.add_signature(inputs={"x": x}, outputs={"default": tf.matmul(x, w)})
""",
}


@pytest.fixture
def export(tf1_python: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Returns a function that lets the genuine exporter write a module."""

    def run(body: str) -> Path:
        program = tmp_path / "export.py"
        program.write_text(MODULE.format(body=body), encoding="utf-8")
        command = [tf1_python, "-W", "ignore", program, tmp_path / "module"]
        subprocess.run(command, check=True, capture_output=True, env=tf1_environ())
        return tmp_path / "module"

    return run


@pytest.mark.parametrize("case", CASES)
def test_outputs_and_gradients_are_those_of_the_old_client(
    case: str, export: Callable[[str], Path], tf1: Tf1Client, tmp_path: Path
) -> None:
    import tensorflow as tf

    module = export(CASES[case])
    report = bridge.to_saved_model(module, tmp_path / "out")
    assert report.not_kept == []
    obj = tf.saved_model.load(str(tmp_path / "out"))
    inputs = {"x": np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]], np.float32)}
    wanted = tf1.hub_apply(module, inputs)
    found = obj(inputs, return_endpoints=True)
    assert sorted(found) == sorted(wanted)
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6, err_msg=name)
    projection = np.array([[1.0, -2.0, 3.0], [0.5, 0.25, 4.0]], np.float32)
    projection = projection[:, : wanted["default"].shape[1]]
    gradients = tf1.hub_gradients(module, inputs, {"default": projection})
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(obj(inputs) * projection)
    (variable,) = obj.trainable_variables
    gradient = tf.convert_to_tensor(tape.gradient(loss, variable))
    np.testing.assert_allclose(gradient, gradients["w"], rtol=1e-4, atol=1e-5)
    obj(inputs, training=True)  # the update ops, if there are any, run


def test_an_op_without_gradient_behind_a_variable_is_named(
    export: Callable[[str], Path], tmp_path: Path
) -> None:
    module = export(
        """
def module_fn():
    x = tf.placeholder(tf.float32, [None, 3])
    w = tf.get_variable("w", [3, 12])
    image = tf.reshape(tf.matmul(x, w), [-1, 2, 2, 3])
    hub.add_signature(inputs={"x": x}, outputs={"default": tf.image.resize_area(image, [4, 4])})
"""
    )
    (remark,) = bridge.to_saved_model(module, tmp_path / "out").remarks
    assert (remark.kind, remark.name) == ("gradient", "ResizeArea")


def test_the_gradient_function_of_a_defun_is_named(
    export: Callable[[str], Path], tmp_path: Path
) -> None:
    module = export(
        """
@Defun(tf.float32, tf.float32)
def backwards(x, dy):
    return dy * 10.0

@Defun(tf.float32, grad_func=backwards, func_name="forwards")
def forwards(x):
    return x + 1.0

def module_fn():
    x = tf.placeholder(tf.float32, [None, 3])
    w = tf.get_variable("w", [3, 3])
    hub.add_signature(inputs={"x": x}, outputs={"default": forwards(tf.matmul(x, w))})
"""
    )
    (note,) = bridge.to_saved_model(module, tmp_path / "out").not_kept
    assert note.kind == "custom_gradient"
    assert note.name.startswith("forwards")


def test_a_training_variant_without_values_is_left_out_and_named(
    tf1_python: Path, tmp_path: Path, export: Callable[[str], Path]
) -> None:
    import tensorflow as tf

    module = export(
        """
def net(training):
    x = tf.placeholder(tf.float32, [None, 3])
    w = tf.get_variable("w", [3, 3])
    if training:
        extra = tf.get_variable("extra", [])
        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, tf.assign(extra, tf.reduce_sum(x)))
    hub.add_signature(inputs={"x": x}, outputs={"default": tf.matmul(x, w)})

create = hub.create_module_spec
hub.create_module_spec = lambda fn: create(
    net, [(set(), {"training": False}), ({"train"}, {"training": True})])
module_fn = None
"""
    )
    report = bridge.to_saved_model(module, tmp_path / "out")
    (note,) = report.not_kept
    assert (note.kind, note.name) == ("variant", "{train}")
    assert tf.saved_model.load(str(tmp_path / "out"))(tf.ones([1, 3])).shape == [1, 3]
