"""Module functions of the image modules: the nets, their signatures and attachments.

Each `*_spec` function returns a `hub.ModuleSpec`. Reference or resource variables are chosen with
`use_resource`; `hub.create_module_spec` itself would always choose resource variables.
"""

import collections

import tensorflow as tf
import tensorflow_hub as hub
from google.protobuf import struct_pb2
from tensorflow.contrib import slim

TOY_LABELS = ("circle", "square", "star", "moon", "wave")
INFERENCE_AND_TRAINING = (
    (set(), {"is_training": False}),
    ({"train"}, {"is_training": True}),
)


def attach_image_size(height, width):
    """Attaches an `ImageModuleInfo` with a default image size."""
    info = hub.ImageModuleInfo()
    info.default_image_size.height = height
    info.default_image_size.width = width
    hub.attach_image_module_info(info)


def _attach_labels(labels):
    """Attaches a message of our own, a list of strings."""
    message = struct_pb2.ListValue()
    message.extend(labels)
    hub.attach_message("toy_labels", message)


def add_image_signatures(images, features, logits, endpoints, default):
    """Adds the common image signatures and the equal `default` one.

    Args:
        images: The input placeholder.
        features: The feature vector.
        logits: The linear scores.
        endpoints: A dict of further outputs.
        default: The signature that `default` is the same as.
    """
    outputs = {
        "image_feature_vector": dict(endpoints, default=features),
        "image_classification": dict(endpoints, default=logits),
    }
    for name in sorted(outputs):
        hub.add_signature(name, {"images": images}, outputs[name])
    hub.add_signature(None, {"images": images}, outputs[default])


def _toy_net(images, is_training, dropout):
    """Builds the toy net, half with tf.layers and half with slim.

    Args:
        images: A float tensor `[batch, 16, 16, 3]`.
        is_training: Whether batch norm uses and updates statistics and dropout acts.
        dropout: Whether there is any dropout.

    Returns:
        A tuple `(features, logits, endpoints)`.
    """
    endpoints = collections.OrderedDict()
    regularizer = slim.l2_regularizer(0.01)
    small = tf.constant_initializer(0.1)  # All values are overwritten before the export.
    drops = is_training and dropout
    with tf.variable_scope("Toy"):
        net = tf.layers.conv2d(
            images,
            4,
            3,
            strides=2,
            padding="same",
            use_bias=False,
            kernel_regularizer=regularizer,
            name="conv1",
        )
        net = tf.layers.batch_normalization(
            net, momentum=0.9, epsilon=1e-3, training=is_training, name="bn1"
        )
        endpoints["Toy/conv1"] = net = tf.nn.relu(net)
        net = tf.layers.max_pooling2d(net, 2, 2)
        net = slim.conv2d(
            net,
            6,
            3,
            normalizer_fn=slim.batch_norm,
            normalizer_params={"is_training": is_training, "decay": 0.8, "scale": True},
            weights_initializer=small,
            weights_regularizer=regularizer,
            scope="block2",
        )
        endpoints["Toy/block2"] = net
        net = slim.dropout(net, keep_prob=0.7, is_training=drops)
        net = slim.conv2d(
            net, 8, 1, activation_fn=tf.nn.elu, weights_initializer=small, scope="block3"
        )
        endpoints["Toy/block3"] = net
        features = tf.reduce_mean(net, axis=[1, 2], name="features")
        net = tf.layers.dropout(features, rate=0.4, training=drops)
        logits = tf.layers.dense(
            net, 5, kernel_initializer=small, kernel_regularizer=regularizer, name="logits"
        )
    return features, logits, endpoints


def toy_spec(use_resource, dropout=True):
    """Returns the toy image module: features by default, with {"train"} variant."""

    def module_fn(is_training):
        with tf.variable_scope("", use_resource=use_resource):
            images = tf.placeholder(tf.float32, [None, 16, 16, 3])
            features, logits, endpoints = _toy_net(images, is_training, dropout)
        add_image_signatures(images, features, logits, endpoints, "image_feature_vector")
        attach_image_size(16, 16)
        _attach_labels(TOY_LABELS)

    return hub.create_module_spec(module_fn, INFERENCE_AND_TRAINING)


def _digits_net(images, is_training):
    """Builds the net for digits; returns `(features, logits, endpoints)`."""
    endpoints = collections.OrderedDict()
    normalizer_params = {"is_training": is_training, "decay": 0.9}
    net = images
    with tf.variable_scope("Digits"), slim.arg_scope(
        [slim.conv2d],
        normalizer_fn=slim.batch_norm,
        normalizer_params=normalizer_params,
        weights_regularizer=slim.l2_regularizer(1e-4),
    ):
        endpoints["Digits/conv1"] = net = slim.conv2d(net, 8, 3, stride=2, scope="conv1")
        endpoints["Digits/conv2"] = net = slim.conv2d(net, 12, 3, scope="conv2")
        net = slim.max_pool2d(net, 2, scope="pool2")
        net = slim.dropout(net, keep_prob=0.9, is_training=is_training)
        endpoints["Digits/conv3"] = net = slim.conv2d(net, 16, 3, scope="conv3")
        net = slim.max_pool2d(net, 2, scope="pool3")
        features = slim.flatten(net)
        net = slim.dropout(features, keep_prob=0.8, is_training=is_training)
        logits = slim.fully_connected(net, 10, activation_fn=None, scope="logits")
    return features, logits, endpoints


def digits_spec():
    """Returns the digits module, reference variables, classification by default."""

    def module_fn(is_training):
        tf.set_random_seed(7)
        with tf.variable_scope("", use_resource=False):
            images = tf.placeholder(tf.float32, [None, 16, 16, 3])
            features, logits, endpoints = _digits_net(images, is_training)
        add_image_signatures(images, features, logits, endpoints, "image_classification")
        attach_image_size(16, 16)

    return hub.create_module_spec(module_fn, INFERENCE_AND_TRAINING)
