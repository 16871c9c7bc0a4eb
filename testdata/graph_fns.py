"""Module functions with control flow, partitioned variables, unusual variants and dtypes."""

import tensorflow as tf
import tensorflow_hub as hub
from image_fns import INFERENCE_AND_TRAINING, attach_image_size
from tensorflow.contrib import slim


def no_variables_spec():
    """Returns an image module without variables that takes images of any size."""

    def module_fn():
        images = tf.placeholder(tf.float32, [None, None, None, 3])
        outputs = {
            "default": tf.reduce_mean(images, axis=[1, 2]),
            "Color/thumbnail": tf.image.resize_bilinear(images, [4, 4]),
        }
        hub.add_signature("image_feature_vector", {"images": images}, outputs)
        hub.add_signature(None, {"images": images}, outputs)
        attach_image_size(12, 10)

    return hub.create_module_spec(module_fn)


def partitioned_spec(use_resource):
    """Returns a module with partitioned variables beside a plain one.

    They are cut along the first dimension only: the legacy client cannot tell the parts of
    variables that are cut along another one ("duplicate offset").
    """

    def module_fn():
        ids = tf.placeholder(tf.int64, [None], name="ids")
        with tf.variable_scope("", use_resource=use_resource):
            with tf.variable_scope("Parts", partitioner=tf.fixed_size_partitioner(3)):
                embedding = tf.get_variable("embedding", [11, 4])
                net = tf.nn.embedding_lookup(embedding, ids, partition_strategy="div")
                kernel = tf.get_variable("kernel", [4, 5], regularizer=slim.l2_regularizer(0.01))
            bias = tf.get_variable("Parts/bias", [5])
            net = tf.matmul(net, tf.convert_to_tensor(kernel)) + bias
        hub.add_signature(inputs={"ids": ids}, outputs={"default": net})

    return hub.create_module_spec(module_fn)


def _vector_net(features, is_training):
    """Returns a dense layer, batch norm and a dense layer, without dropout."""
    with tf.variable_scope("Vector"):
        net = tf.layers.dense(features, 5, use_bias=False, name="hidden")
        net = tf.layers.batch_normalization(net, momentum=0.8, training=is_training, name="bn")
        return tf.layers.dense(tf.nn.relu(net), 3, name="top")


def own_tags_spec():
    """Returns a module for batches of 16, without a variant of no tags."""

    def module_fn(is_training):
        features = tf.placeholder(tf.float32, [16, 4])
        with tf.variable_scope("", use_resource=False):
            net = _vector_net(features, is_training)
        hub.add_signature(inputs={"features": features}, outputs=net)

    return hub.create_module_spec(
        module_fn, [({"bs16"}, {"is_training": False}), ({"bs16", "train"}, {"is_training": True})]
    )


def single_tag_spec():
    """Returns a module whose only variant has a tag."""

    def module_fn():
        features = tf.placeholder(tf.float32, [None, 4])
        net = _vector_net(features, is_training=False)
        hub.add_signature(inputs={"features": features}, outputs=net)

    return hub.create_module_spec(module_fn, [({"special"}, {})])


def _variant_net(images, is_training, fused):
    """Returns a small image net, its batch norm fused or not."""
    with tf.variable_scope("Variant"):
        net = tf.layers.conv2d(images, 4, 3, strides=2, use_bias=False, name="conv")
        net = tf.layers.batch_normalization(
            net, momentum=0.8, training=is_training, fused=fused, name="bn"
        )
        return tf.reduce_mean(tf.nn.relu6(net), axis=[1, 2])


def multi_variant_spec():
    """Returns an image module with a third variant: {"gpu"}, on a device and in other ops."""

    def module_fn(is_training, device, fused):
        images = tf.placeholder(tf.float32, [None, 8, 8, 3])
        with tf.device(device):
            net = _variant_net(images, is_training, fused)
        for name in ("image_feature_vector", None):
            hub.add_signature(name, {"images": images}, net)

    return hub.create_module_spec(
        module_fn,
        [
            (set(), {"is_training": False, "device": None, "fused": True}),
            ({"train"}, {"is_training": True, "device": None, "fused": True}),
            ({"gpu"}, {"is_training": False, "device": "/device:GPU:0", "fused": False}),
        ],
    )


def multi_input_spec():
    """Returns a module with two inputs whose `default` signature has no `default` output."""

    def module_fn():
        left = tf.placeholder(tf.float32, [None, 3])
        right = tf.placeholder(tf.float32, [None, 4])
        inputs = {"left": left, "right": right}
        with tf.variable_scope("Pair"):
            kernels = [tf.get_variable("left", [3, 5]), tf.get_variable("right", [4, 5])]
            terms = [tf.matmul(left, kernels[0]), tf.matmul(right, kernels[1])]
            outputs = {"sum": terms[0] + terms[1], "product": terms[0] * terms[1]}
            score = tf.layers.dense(outputs["product"], 1, name="score")
        hub.add_signature(inputs=inputs, outputs=outputs)
        hub.add_signature("scored", inputs, {"default": score, "sum": outputs["sum"]})

    return hub.create_module_spec(module_fn)


def no_default_signature_spec():
    """Returns a module with a named signature only."""

    def module_fn():
        features = tf.placeholder(tf.float32, [None, 4])
        net = tf.layers.dense(features, 3, activation=tf.nn.sigmoid, name="top")
        hub.add_signature("squash", {"features": features}, {"default": net})

    return hub.create_module_spec(module_fn)


def _branches(features, kernels):
    """Returns a tf.cond on the data, each branch with a variable of its own."""
    return tf.cond(
        tf.reduce_mean(features) > 0.5,
        lambda: tf.matmul(features, kernels[0]),
        lambda: tf.tanh(tf.matmul(features, kernels[1])),
    )


def _loop(net, kernels, scale, read_inside):
    """Returns a tf.while_loop of four rounds with a tf.cond inside of it.

    Args:
        net: The initial value.
        kernels: Two variables.
        scale: A third one.
        read_inside: Whether the two are read in the inner tf.cond, not before it. TF 1.15 cannot
            differentiate that if they are resource variables (it wants zeros of dtype resource).
    """

    def body(i, net):
        yes, no = kernels if read_inside else [tf.identity(kernel) for kernel in kernels]
        net = net * scale
        net = tf.cond(
            tf.equal(i % 2, 0),
            lambda: net + 0.25 * tf.matmul(net, no),
            lambda: tf.tanh(net) + yes[0],
        )
        return i + 1, net

    return tf.while_loop(lambda i, net: i < 4, body, [tf.constant(0), net])[1]


def control_flow_spec(use_resource):
    """Returns a module with Switch and Merge, Enter and Exit, and updates within a tf.cond.

    Signature `default` leaves the placeholder with default `training` alone, signature `flagged`
    has it as an input. `batch_weights` makes slim take its own old batch norm, whose updates are
    within the cond, as all of slim's were in early modules. With resource variables, signature
    `nested` is one that the legacy client itself runs but cannot differentiate.
    """

    def module_fn():
        features = tf.placeholder(tf.float32, [None, 4], name="features")
        training = tf.placeholder_with_default(False, [], name="training")
        with tf.variable_scope("Flow", use_resource=use_resource):
            kernels = [
                tf.get_variable(name, [4, 4], regularizer=slim.l2_regularizer(0.01))
                for name in ("yes", "no")
            ]
            scale = tf.get_variable("scale", [4])
            branch = _branches(features, kernels)
            loop = _loop(branch, kernels, scale, read_inside=not use_resource)
            if use_resource:
                nested = _loop(branch, kernels, scale, read_inside=True)
                hub.add_signature("nested", {"features": features}, {"default": nested})
            net = slim.batch_norm(
                loop,
                decay=0.8,
                scale=True,
                is_training=training,
                batch_weights=tf.ones_like(features[:, 0]),
            )
        outputs = {"default": net, "Flow/branch": branch, "Flow/loop": loop}
        hub.add_signature(inputs={"features": features}, outputs=outputs)
        hub.add_signature("flagged", {"features": features, "training": training}, outputs)

    return hub.create_module_spec(module_fn)


def rnn_spec():
    """Returns an LSTM by dynamic_rnn: a while loop with TensorArrays, reference variables."""

    def module_fn():
        sequence = tf.placeholder(tf.float32, [None, 7, 4])
        with tf.variable_scope("Rnn", use_resource=False):
            cell = tf.nn.rnn_cell.LSTMCell(5)
            outputs, state = tf.nn.dynamic_rnn(cell, sequence, dtype=tf.float32)
        hub.add_signature(
            inputs={"sequence": sequence},
            outputs={"default": state.h, "Rnn/outputs": outputs, "Rnn/cell": state.c},
        )

    return hub.create_module_spec(module_fn)


def unused_variable_spec():
    """Returns a module with a variable that no signature reaches, and with odd update ops.

    In the variant {"train"}, an update op depends on no input (a counter of calls), and the inputs
    of either signature reach only the batch norm updates of their own half. The client adds all of
    them to UPDATE_OPS for each application, whatever its signature.
    """

    def module_fn(is_training):
        features = tf.placeholder(tf.float32, [None, 4])
        others = tf.placeholder(tf.float32, [None, 4])
        with tf.variable_scope("", use_resource=False):
            tf.get_variable("unused", [3])
            calls = tf.get_variable(
                "calls", [], tf.int64, initializer=tf.zeros_initializer(), trainable=False
            )
            with tf.variable_scope("Half"):
                half = _vector_net(features, is_training)
            with tf.variable_scope("OtherHalf"):
                other_half = _vector_net(others, is_training)
        if is_training:
            tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, tf.assign_add(calls, 1))
        hub.add_signature(inputs={"features": features}, outputs=half)
        hub.add_signature("other", {"others": others}, other_half)
        hub.add_signature("both", {"features": features, "others": others}, half + other_half)

    return hub.create_module_spec(module_fn, INFERENCE_AND_TRAINING)


def _odd_variables():
    """Returns variables of many dtypes, by name; the scalar int64 one is trainable by accident."""
    rows = [
        ("half", tf.float16, [3, 2], True),
        ("double", tf.float64, [2], True),
        ("brain", tf.bfloat16, [2], True),
        ("frozen", tf.float32, [2], False),
        ("int32", tf.int32, [2], False),
        ("int64", tf.int64, [], True),
        ("uint8", tf.uint8, [4], False),
        ("bool", tf.bool, [3], False),
        ("string", tf.string, [2], False),
    ]
    result = {}
    for name, dtype, shape, trainable in rows:
        initial = [b"?"] * 2 if dtype == tf.string else tf.zeros(shape, dtype)
        result[name] = tf.get_variable(name, dtype=dtype, initializer=initial, trainable=trainable)
    return result


def reduced_precision_spec(use_resource):
    """Returns a module with variables of many dtypes, trainable and not."""

    def module_fn():
        features = tf.placeholder(tf.float32, [None, 3])
        with tf.variable_scope("Odd", use_resource=use_resource):
            odd = _odd_variables()
        half = tf.matmul(tf.cast(features, tf.float16), odd["half"])
        double = tf.cast(half, tf.float64) * odd["double"]
        net = tf.cast(double, tf.float32) * tf.cast(odd["brain"], tf.float32) + odd["frozen"]
        outputs = {
            "default": net,
            "half": half,
            "double": double,
            "counts": tf.cast(odd["int32"], tf.int64) + odd["int64"],
            "bytes": tf.identity(odd["uint8"]),
            "flags": tf.logical_not(odd["bool"]),
            "labels": tf.gather(odd["string"], tf.cast(features[:, 0] > 0.5, tf.int32)),
        }
        hub.add_signature(inputs={"features": features}, outputs=outputs)

    return hub.create_module_spec(module_fn)
