"""Writes small image modules with the real TensorFlow 1.15, each with one fault, or near one.

Runs in the TF 1.15 interpreter: python broken_modules.py OUT_DIR. The names are those of `MODULES`.
What the client says of each stands in OUT_DIR/client.json: `size`, the expected size of images,
null where it raises an error, `called`, whether module(images) works, and `fits`, whether it takes
images of the expected size.
"""

import json
import pathlib
import sys

import tensorflow as tf
import tensorflow_hub as hub

FEATURES = "image_feature_vector"
CLASSES = "image_classification"
INFERENCE_AND_TRAINING = ((set(), {"training": False}), ({"train"}, {"training": True}))
SIZE = (8, 8)


def _images(shape=(None, 8, 8, 3), dtype=tf.float32):
    return tf.placeholder(dtype, list(shape))


def _net(images, training=False, trainable=True, data_format="channels_last"):
    """Returns a convolution with batch norm and an inner dropout, and its mean: a vector."""
    net = tf.layers.conv2d(images, 4, 3, name="conv", trainable=trainable, data_format=data_format)
    axis = -1 if data_format == "channels_last" else 1
    net = tf.layers.batch_normalization(
        net, axis=axis, training=training, name="bn", trainable=trainable
    )
    net = tf.layers.dropout(tf.nn.relu(net), 0.5, training=training)
    net = tf.layers.conv2d(net, 5, 1, name="top", trainable=trainable, data_format=data_format)
    spatial = [1, 2] if data_format == "channels_last" else [2, 3]
    return net, tf.reduce_mean(net, spatial)


def _add(images, outputs, names=(FEATURES, None), key="images"):
    for name in names:
        hub.add_signature(name, {key: images}, outputs)


def _plain(**net):
    def module_fn(training):
        images = _images()
        _add(images, _net(images, training, **net)[1])

    return module_fn


def good(training):
    images = _images()
    spatial, features = _net(images, training)
    _add(images, {"default": features, "Net/top": spatial})


def default_in_other_tensors(training):
    """The same mapping, from another placeholder and in nodes and seeds of its own."""
    tf.set_random_seed(7)
    for name in (FEATURES, None):
        with tf.variable_scope("", reuse=tf.AUTO_REUSE):
            images = _images()
            _add(images, _net(images, training)[1], [name])


def default_differs(training):
    images = _images()
    features = _net(images, training)[1]
    _add(images, features, [FEATURES])
    _add(images, tf.nn.relu(features) if training else features, [None])


def default_of_other_weights(training):
    """The same net with variables of its own; references, whose ops say no name."""
    images = _images()
    for name, scope in ((FEATURES, "One"), (None, "Other")):
        with tf.variable_scope(scope, use_resource=False):
            _add(images, _net(images, training)[1], [name])


def default_only(training):
    images = _images()
    _add(images, _net(images, training)[1], [None])


def named_only(training):
    images = _images()
    _add(images, _net(images, training)[1], [FEATURES])


def features_not_pooled(training):
    images = _images()
    _add(images, _net(images, training)[0])


def features_of_unknown_number(training):
    images = _images()
    features = _net(images, training)[1]
    _add(images, tf.cast(tf.reshape(features, [-1, tf.shape(images)[1] - 3]), tf.float64))


def features_of_another_key(training):
    images = _images()
    features = _net(images, training)[1]
    _add(images, {"vector": features}, [FEATURES])
    _add(images, features, [None])


def probabilities(training):
    images = _images()
    _add(images, tf.nn.softmax(_net(images, training)[1]), [CLASSES, None])


def logits(training):
    images = _images()
    _add(images, _net(images, training)[1], [CLASSES, None])


def probabilities_reshaped(training):
    """As tf.contrib.slim.softmax makes them, and with a dimension to squeeze."""
    images = _images()
    logits = tf.reshape(_net(images, training)[1], [-1, 1, 5])
    _add(images, tf.reshape(tf.squeeze(tf.nn.softmax(logits), [1]), [-1, 5]), [CLASSES, None])


def logarithms_of_probabilities(training):
    images = _images()
    _add(images, tf.nn.log_softmax(_net(images, training)[1]), [CLASSES, None])


def key_without_prefix(training):
    images = _images()
    spatial, features = _net(images, training)
    _add(images, {"default": features, "top": spatial, "scores": features})


def dropped_out(training):
    images = _images()
    features = tf.layers.dropout(_net(images, training)[1], 0.4, training=training, name="last")
    _add(images, tf.identity(tf.reshape(tf.nn.relu(features), [-1, 5])))


def dropped_out_in_cond(training):
    images = _images()
    features = _net(images, training)[1]
    dropped = tf.cond(
        tf.reduce_mean(images) > 0.5,
        lambda: tf.nn.dropout(features, rate=0.4) if training else features,
        lambda: tf.identity(features),
    )
    _add(images, dropped)


def dropped_out_behind_a_flag(training):
    """The flag is no input of the signature, so that the dropout never acts."""
    images = _images()
    features = _net(images, training)[1]
    flag = tf.placeholder_with_default(False, [])
    _add(images, tf.cond(flag, lambda: tf.nn.dropout(features, rate=0.4), lambda: features))


def weights_behind_dropout(training):
    images = _images()
    features = tf.layers.dropout(_net(images, training)[1], 0.4, training=training)
    _add(images, tf.layers.dense(features, 3, name="last"))


def scaled_behind_dropout(training):
    images = _images()
    features = tf.layers.dropout(_net(images, training)[1], 0.4, training=training)
    _add(images, features * tf.get_variable("scale", [5]))


def dropped_out_before_much(training):
    """What follows the dropout is no layer: a single number, places, rounding."""
    images = _images()
    features = tf.layers.dropout(_net(images, training)[1], 0.4, training=training)
    features = tf.math.erfc((features - tf.zeros([5])) * [2.0])
    features = tf.quantization.fake_quant_with_min_max_args(features)
    _add(images, tf.pad(tf.gather(features, [0, 2, 4], axis=1), [[0, 0], [1, 1]]))


def bytes_as_images(training):
    images = _images(dtype=tf.uint8)
    _add(images, _net(tf.image.convert_image_dtype(images, tf.float32), training)[1])


def grey(training):
    images = _images((None, 8, 8, 1))
    _add(images, _net(images, training)[1])


def other_name(training):
    images = _images()
    _add(images, _net(images, training)[1], key="pictures")


def fixed_batch(training):
    images = _images((2, 8, 8, 3) if training else (None, 8, 8, 3))
    _add(images, _net(images, training)[1])


def any_size(training):
    images = _images((None, None, None, 3))
    _add(images, _net(images, training)[1])


def any_size_attached(training):
    any_size(training)
    info = hub.ImageModuleInfo()
    info.default_image_size.height, info.default_image_size.width = SIZE
    hub.attach_image_module_info(info)


def any_size_attached_without_one(training):
    any_size(training)
    hub.attach_image_module_info(hub.ImageModuleInfo())


def other_size_attached(training):
    images = _images()
    _add(images, _net(images, training)[1])
    info = hub.ImageModuleInfo()
    info.default_image_size.height, info.default_image_size.width = 16, 16
    hub.attach_image_module_info(info)


def images_channels_first(training):
    images = _images((None, 3, 8, 8))
    _add(images, _net(tf.transpose(images, [0, 2, 3, 1]), training)[1])


def ops_channels_first(training):
    images = _images()
    first = tf.transpose(images, [0, 3, 1, 2])
    _add(images, _net(first, training, data_format="channels_first")[1])


def two_inputs(training):
    images = _images()
    scale = tf.placeholder(tf.float32, [])
    for name in (FEATURES, None):
        inputs = {"images": images, "scale": scale}
        hub.add_signature(name, inputs, _net_once(images, training) * scale)


def two_inputs_and_grey(training):
    images = _images((None, 8, 8, 1))
    scale = tf.placeholder(tf.float32, [])
    for name in (FEATURES, None):
        inputs = {"pixels": images, "scale": scale}
        hub.add_signature(name, inputs, _net_once(images, training) * scale)


def no_default_output(training):
    images = _images()
    _add(images, {"vector": _net(images, training)[1]}, [None])


def empty_updates(training):
    images = _images()
    _add(images, _net(images, training)[1])
    tf.get_default_graph().clear_collection(tf.GraphKeys.UPDATE_OPS)


def updates_in_the_forward_pass(training):
    """As tf.contrib.slim.batch_norm does with updates_collections=None."""
    images = _images()
    features = _net(images, training)[1]
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        _add(images, tf.identity(features))
    tf.get_default_graph().clear_collection(tf.GraphKeys.UPDATE_OPS)


def _net_once(images, training):
    with tf.variable_scope("", reuse=tf.AUTO_REUSE):
        return _net(images, training)[1]


MODULES = {
    function.__name__: function
    for function in (
        good,
        default_in_other_tensors,
        default_differs,
        default_of_other_weights,
        default_only,
        named_only,
        features_not_pooled,
        features_of_unknown_number,
        features_of_another_key,
        probabilities,
        probabilities_reshaped,
        logarithms_of_probabilities,
        logits,
        key_without_prefix,
        dropped_out,
        dropped_out_in_cond,
        dropped_out_behind_a_flag,
        weights_behind_dropout,
        scaled_behind_dropout,
        dropped_out_before_much,
        bytes_as_images,
        grey,
        other_name,
        fixed_batch,
        any_size,
        any_size_attached,
        any_size_attached_without_one,
        other_size_attached,
        images_channels_first,
        ops_channels_first,
        two_inputs,
        two_inputs_and_grey,
        no_default_output,
        empty_updates,
        updates_in_the_forward_pass,
    )
}
MODULES["nothing_to_train"] = _plain(trainable=False)


def _asked(question):
    """Returns the answer, or None where the client refuses to give one."""
    try:
        return question()
    except (KeyError, TypeError, ValueError):
        return None


def _client(spec):
    """Returns what the client says of the variant without tags."""
    name = None if "default" in spec.get_signature_names() else spec.get_signature_names()[0]
    infos = spec.get_input_info_dict(name)
    info = infos["images"] if "images" in infos else next(iter(infos.values()))
    with tf.Graph().as_default():
        module = hub.Module(spec)
        shape = info.get_shape().as_list()
        images = tf.placeholder(info.dtype, shape)
        size = _asked(lambda: hub.get_expected_image_size(spec, name))
        sized = tf.placeholder(info.dtype, shape[:1] + (size or shape[1:3]) + shape[3:])
        return {
            "size": size,
            "called": _asked(lambda: module(images)) is not None,
            "fits": _asked(lambda: module(sized)) is not None,
        }


def main():
    """Writes all of them."""
    tf.logging.set_verbosity(tf.logging.ERROR)
    facts = {}
    for name, module_fn in MODULES.items():
        spec = hub.create_module_spec(module_fn, INFERENCE_AND_TRAINING)
        with tf.Graph().as_default(), tf.Session() as session:
            module = hub.Module(spec)
            session.run(tf.global_variables_initializer())
            module.export(f"{sys.argv[1]}/{name}", session)
        facts[name] = _client(hub.load_module_spec(f"{sys.argv[1]}/{name}"))
    pathlib.Path(sys.argv[1], "client.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
