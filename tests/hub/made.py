"""Modules that bridge.hub creates on today's TensorFlow, and what today's TensorFlow makes of them.

Each `*_net` is a module_fn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

INFERENCE_AND_TRAINING = [(set(), {"training": False}), ({"train"}, {"training": True})]


@contextmanager
def v1_control_flow() -> Iterator[None]:
    """Lets TensorFlow build Switch and Merge, as programs of TensorFlow 1 do."""
    import tensorflow as tf

    tf.compat.v1.disable_control_flow_v2()
    try:
        yield
    finally:
        tf.compat.v1.enable_control_flow_v2()


def image_net(training: bool = False) -> None:
    """Layers of tf_keras, the common image signatures, a size and a list of labels."""
    import tensorflow as tf
    import tf_keras
    from google.protobuf import struct_pb2

    from bridge import hub

    images = tf.compat.v1.placeholder(tf.float32, [None, 8, 8, 3])
    regularizer = tf_keras.regularizers.L2(0.1)
    conv = tf_keras.layers.Conv2D(4, 3, use_bias=False, kernel_regularizer=regularizer)
    norm = tf_keras.layers.BatchNormalization(momentum=0.8, name="norm")
    net = norm(conv(images), training=training)
    for loss in conv.losses:
        tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.REGULARIZATION_LOSSES, loss)
    for update in norm.updates:
        tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.UPDATE_OPS, update)
    features = tf.reduce_mean(tf.nn.relu(net), [1, 2])
    hub.add_signature("image_feature_vector", {"images": images}, {"default": features})
    logits = tf_keras.layers.Dense(3, name="logits")(features)
    hub.add_signature(inputs={"images": images}, outputs={"default": logits, "norm": net})
    info = hub.ImageModuleInfo()
    info.default_image_size.height, info.default_image_size.width = 8, 6
    hub.attach_image_module_info(info)
    hub.attach_message("labels", struct_pb2.Struct())  # the last one counts
    hub.attach_message("labels", struct_pb2.ListValue(values=[{"string_value": "cat"}]))


def flow_net() -> None:
    """A loop and a conditional in it, with a variable; a counter that counts batches."""
    import tensorflow as tf

    from bridge import hub

    v1 = tf.compat.v1
    features = v1.placeholder(tf.float32, [None, 3])
    kernel = v1.get_variable("kernel", [3, 3])
    count = v1.get_variable(
        "count", [], trainable=False, initializer=v1.initializers.zeros(), dtype=tf.float32
    )
    v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, v1.assign_add(count, 1.0))
    v1.add_to_collection(v1.GraphKeys.REGULARIZATION_LOSSES, tf.reduce_sum(kernel**2))

    row = kernel[0]  # TensorFlow 1.15 has no gradient for variables in a conditional in a loop

    def step(i: Any, net: Any) -> Any:
        net = tf.matmul(net, kernel)
        return i + 1, tf.cond(tf.equal(i % 2, 0), lambda: net + row, lambda: net * 0.5)

    _, net = v1.while_loop(lambda i, _: i < 3, step, [0, features])
    hub.add_signature(inputs={"features": features}, outputs=tf.identity(net, name="net"))


def reference_net() -> None:
    """The same with reference variables, as `module_fn` may ask for them."""
    import tensorflow as tf

    with tf.compat.v1.variable_scope("", use_resource=False):
        flow_net()


def parts_net() -> None:
    """Partitioned variables."""
    import tensorflow as tf

    from bridge import hub

    v1 = tf.compat.v1
    rows = v1.placeholder(tf.float32, [None, 7])
    with v1.variable_scope("parts", partitioner=v1.fixed_size_partitioner(3)):
        kernel = v1.get_variable("kernel", [7, 4])
    bias = v1.get_variable("bias", [4], initializer=v1.initializers.random_normal())
    net = tf.matmul(rows, tf.convert_to_tensor(kernel)) + bias
    hub.add_signature(inputs={"rows": rows}, outputs=net)


def newer_net() -> None:
    """Ops that today's TensorFlow has otherwise than TensorFlow 1.15, and a function."""
    import tensorflow as tf

    from bridge import hub

    features = tf.compat.v1.placeholder(tf.float32, [None, 3])
    kernel = tf.compat.v1.get_variable("kernel", [3, 3])
    called = tf.function(lambda x: x + 1.0)(features)
    net = tf.einsum("ij,jk->ik", called, kernel)
    net = tf.math.xlog1py(net, tf.nn.silu(net) ** 2)
    noise = tf.random.stateless_uniform([3], [1, 2])  # its op is a newer one
    hub.add_signature(inputs={"features": features}, outputs=net + noise)


class Reference(NamedTuple):
    """What today's TensorFlow computes with the graph that module_fn built.

    Attributes:
      outputs: of the signature `default`, by name.
      gradients: of the sum of the output `default`, by name of the trainable variable.
      regularization: the regularization losses.
      update: the variables that the update ops changed, after they ran once.
    """

    outputs: dict[str, NDArray[Any]]
    gradients: dict[str, NDArray[Any]]
    regularization: list[float]
    update: dict[str, NDArray[Any]]


def reference(
    spec: Any, module: Path, inputs: Mapping[str, NDArray[Any]], tags: frozenset[str] = frozenset()
) -> Reference:
    """Runs the graph of a spec with the values of the module that was made of it."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        meta_graph = spec._meta_graph(tags)
        for node in meta_graph.graph_def.node:
            node.attr.pop("_gradient_op_type", None)  # a closure over tensors of the first graph
        v1.train.import_meta_graph(meta_graph)
        signature = meta_graph.signature_def["default"]

        def tensors(infos: Any) -> dict[str, Any]:
            return {key: graph.get_tensor_by_name(info.name) for key, info in infos.items()}

        outputs = tensors(signature.outputs)
        feeds = {tensor: inputs[key] for key, tensor in tensors(signature.inputs).items()}
        variables = {one.op.name: one for one in v1.global_variables()}
        trainable = v1.trainable_variables()
        gradients = v1.gradients(tf.reduce_sum(outputs["default"]), trainable)
        saver = v1.train.Saver()
        with v1.Session() as session:
            saver.restore(session, str(module / "variables" / "variables"))
            values = {
                variable.op.name: session.run(gradient, feeds)
                for variable, gradient in zip(trainable, gradients, strict=True)
            }
            result = session.run(outputs, feeds)
            losses = session.run(v1.get_collection(v1.GraphKeys.REGULARIZATION_LOSSES))
            before = session.run(variables)
            session.run(v1.get_collection(v1.GraphKeys.UPDATE_OPS), feeds)
            after = session.run(variables)
    update = {key: after[key] for key in after if not np.array_equal(after[key], before[key])}
    return Reference(result, values, losses, update)
