"""Makes image modules of real size from the nets of `tensorflow.contrib.slim`; none is checked in.

Runs in the TF 1.15 interpreter:

    CUDA_VISIBLE_DEVICES= python testdata/make_slim.py OUT_DIR inception_v3 resnet_v2_50 vgg_16 big

It writes the modules `OUT_DIR/<name>/` and what the legacy client computes from them,
`OUT_DIR/<name>.npz`, with keys as in `README.md`. The weights are random, from the nets' own
initializers with a seed; `big` is VGG-16 with the 21843 classes of ImageNet-21k, 0.9 GB.
"""

import argparse
import collections
import os
import shutil

import golden
import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
import values
from image_fns import INFERENCE_AND_TRAINING, add_image_signatures, attach_image_size
from tensorflow.contrib import slim
from tensorflow.contrib.slim import nets

GRAPH_SEED = 11
CALIBRATION_BATCH = 3
SMALL_ENDPOINT = 60000  # Endpoints of at most so many numbers are recorded.

Net = collections.namedtuple(
    "Net", "function arg_scope prefix classes default features batch decay"
)
Net.__doc__ = """A net.

Attributes:
    function: slim's function, called as `function(images, classes, is_training=...)`.
    arg_scope: slim's function that makes the net's arg scope.
    prefix: The name of the architecture, which all endpoints begin with.
    classes: The number of classes.
    default: The signature that is the default one.
    features: A function of the endpoints that returns the feature vector, not dropped out.
    batch: How many images the goldens have.
    decay: The decay of batch norm's moving averages; None without batch norm.
"""


def _inception_features(endpoints):
    """Returns the mean of the last mixed block; `PreLogits` would be dropped out."""
    return tf.reduce_mean(endpoints["Mixed_7c"], axis=[1, 2])


def _resnet_features(endpoints):
    """Returns what goes into the logits, which is no endpoint itself."""
    del endpoints
    pooled = tf.get_default_graph().get_tensor_by_name("resnet_v2_50/pool5:0")
    return tf.squeeze(pooled, [1, 2])


def _vgg_features(endpoints):
    """Returns the last hidden layer, before its dropout."""
    return tf.squeeze(endpoints["vgg_16/fc7"], [1, 2])


_VGG = Net(
    nets.vgg.vgg_16,
    nets.vgg.vgg_arg_scope,
    "vgg_16",
    1001,
    "image_classification",
    _vgg_features,
    1,
    None,
)
NETS = collections.OrderedDict(
    inception_v3=Net(
        nets.inception.inception_v3,
        nets.inception.inception_v3_arg_scope,
        "InceptionV3",
        1001,
        "image_feature_vector",
        _inception_features,
        2,
        0.9997,
    ),
    resnet_v2_50=Net(
        nets.resnet_v2.resnet_v2_50,
        nets.resnet_utils.resnet_arg_scope,
        "resnet_v2_50",
        1001,
        "image_feature_vector",
        _resnet_features,
        2,
        0.997,
    ),
    vgg_16=_VGG,
    big=_VGG._replace(classes=21843),
)


def _prefixed(endpoints, prefix):
    """Returns the endpoints under keys that begin with the name of the architecture."""
    return {
        key if key.startswith(prefix + "/") else f"{prefix}/{key}": endpoint
        for key, endpoint in endpoints.items()
    }


def _drop_slim_collections():
    """Empties the collections that the legacy client refuses."""
    for key in tf.get_default_graph().get_all_collection_keys():
        if key == "moving_vars" or key.endswith("_end_points"):
            del tf.get_collection_ref(key)[:]


def _image_size(net):
    """Returns height and width of the net's images, which are squares."""
    return getattr(net.function, "default_image_size", 224)


def net_spec(net):
    """Returns the module of a net: reference variables, images in [0, 1]."""

    def module_fn(is_training):
        tf.set_random_seed(GRAPH_SEED)
        size = _image_size(net)
        images = tf.placeholder(tf.float32, [None, size, size, 3], name="images")
        net_scope = slim.arg_scope(net.arg_scope())
        initializer_scope = slim.arg_scope(
            [slim.conv2d], weights_initializer=slim.variance_scaling_initializer()
        )
        with tf.variable_scope("", use_resource=False), net_scope, initializer_scope:
            logits, endpoints = net.function(
                images * 2.0 - 1.0, net.classes, is_training=is_training
            )
        if logits.shape.ndims == 4:
            logits = tf.squeeze(logits, [1, 2])
        features = net.features(endpoints)
        _drop_slim_collections()
        endpoints = _prefixed(endpoints, net.prefix)
        add_image_signatures(images, features, logits, endpoints, net.default)
        attach_image_size(size, size)

    return hub.create_module_spec(module_fn, INFERENCE_AND_TRAINING)


def _calibrate(session, module, net):
    """Sets the moving averages of batch norm to the statistics of some images.

    One run of the update ops moves them by the share `1 - decay` of the way; the rest is
    extrapolated. Without this, activations would grow from layer to layer.

    Args:
        session: The `tf.Session`.
        module: The `hub.Module` of the variant {"train"}.
        net: The `Net`.
    """
    size = _image_size(net)
    shape = [CALIBRATION_BATCH, size, size, 3]
    module({"images": tf.constant(values.dense_input("calibration", tf.float32, shape))})
    update_ops = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    averages = [var for var in module.variables if "/moving_" in var.op.name]
    before = session.run(averages)
    session.run(update_ops)
    for variable, old, new in zip(averages, before, session.run(averages)):
        variable.load(old + (new - old) / (1.0 - net.decay), session)


def export_net(net, path):
    """Exports a net: weights from its initializers, vectors (batch norm, biases) seeded."""
    shutil.rmtree(path, ignore_errors=True)
    with tf.Graph().as_default(), tf.Session(config=golden.session_config()) as session:
        module = hub.Module(net_spec(net), trainable=True, tags={"train"}, name=golden.SCOPE[:-1])
        session.run(tf.global_variables_initializer())
        vectors = [variable for variable in module.variables if variable.shape.ndims < 2]
        values.assign_variables(session, vectors, golden.SCOPE)
        if net.decay:
            _calibrate(session, module, net)
        module.export(path, session)


def _recorded(outputs):
    """Returns `default` and the outputs that are small enough to be recorded."""
    return {
        key: value
        for key, value in outputs.items()
        if key == "default" or value.size <= SMALL_ENDPOINT
    }


def record_inference(net, path):
    """Returns what the legacy client computes without tags, and the regularization losses."""
    arrays = {}
    size = _image_size(net)
    inputs = values.dense_input("images", tf.float32, [net.batch, size, size, 3])
    with tf.Graph().as_default(), tf.Session(config=golden.session_config()) as session:
        module = hub.Module(path, trainable=True, name=golden.SCOPE[:-1])
        images = tf.placeholder(tf.float32, [None, size, size, 3])
        signatures = ("image_feature_vector", "image_classification")
        outputs = {
            name: module({"images": images}, signature=name, as_dict=True) for name in signatures
        }
        outputs["default"] = module({"images": images}, as_dict=True)
        losses = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
        session.run(tf.global_variables_initializer())
        for index, value in enumerate(session.run(losses)):
            golden.put(arrays, f"|reg|{index}", value)
        for name, signature_outputs in sorted(outputs.items()):
            results = session.run(signature_outputs, {images: inputs})
            for key, value in sorted(_recorded(results).items()):
                golden.put(arrays, f"|{name}|out|{key}", value)
            golden.put(arrays, f"|{name}|in|images", inputs)
    return arrays


def main():
    """Makes the modules that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("out_dir")
    parser.add_argument("names", nargs="+", choices=list(NETS), metavar="name")
    args = parser.parse_args()
    tf.logging.set_verbosity(tf.logging.ERROR)
    for name in args.names:
        path = os.path.join(os.path.abspath(args.out_dir), name)
        export_net(NETS[name], path)
        arrays = record_inference(NETS[name], path)
        np.savez_compressed(f"{path}.npz", **arrays)
        print(f"{name}: {len(arrays)} arrays")


if __name__ == "__main__":
    main()
