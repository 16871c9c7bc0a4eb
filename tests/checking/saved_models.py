"""Small SavedModels, each with one fault, or near one.

TensorFlow 2 is imported where they are made.

`MODELS` has them by name; each function makes an object and the signatures to save it with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Finish = Callable[[Any, Any], Any]
"""Makes the output of the features and of `training`."""

MODELS: dict[str, Callable[[], Any]] = {}

IMAGES = (None, 8, 8, 3)


def model(make: Callable[[], Any]) -> Callable[[], Any]:
    """Adds a model to MODELS."""
    MODELS[make.__name__] = make
    return make


def save(name: str, path: Path) -> None:
    """Saves one of them."""
    import tensorflow as tf

    made = MODELS[name]()
    obj, signatures = made if isinstance(made, tuple) else (made, None)
    tf.saved_model.save(obj, str(path), signatures=signatures)


def _features(features: Any, training: Any) -> Any:
    del training
    return features


def _reusable(
    finish: Finish = _features,
    shape: tuple[int | None, ...] = IMAGES,
    *,
    modes: tuple[bool, ...] = (False, True),
    default: bool = False,
    updates: bool = True,
    trained: bool = True,
    data_format: str = "NHWC",
) -> Any:
    """Returns an object with all that users of reusable SavedModels read.

    Its net is a convolution, a norm by statistics, an inner dropout, one more convolution, the mean
    over the image, and what comes last.

    Args:
      finish: what comes last.
      shape: of the images.
      modes: the values of `training` that it is traced with.
      default: of `training`.
      updates: whether training moves the statistics.
      trained: whether it lists trainable variables.
      data_format: of the convolutions.
    """
    import tensorflow as tf

    obj = tf.train.Checkpoint()
    kernel = tf.Variable(tf.ones([3, 3, 3, 5]), name="kernel")
    mean = tf.Variable(tf.zeros([5, 1, 1] if data_format == "NCHW" else [5]), False, name="mean")
    space = [2, 3] if data_format == "NCHW" else [1, 2]

    def call(images: Any, training: bool = default) -> Any:
        if data_format == "NCHW":
            images = tf.transpose(images, [0, 3, 1, 2])
        net = tf.nn.conv2d(images, kernel, 1, "SAME", data_format)
        if training:
            average = tf.reduce_mean(net, [0, *space], keepdims=data_format == "NCHW")
            average = tf.reshape(average, mean.shape)
            if updates:
                mean.assign(0.9 * mean + 0.1 * average)
            net = tf.nn.dropout(net - average, 0.5)
        else:
            net -= mean
        net = tf.nn.conv2d(net, tf.ones([1, 1, 5, 4]), 1, "SAME", data_format)
        return finish(tf.reduce_mean(net, space), training)

    obj.__call__ = tf.function(call, autograph=False)
    for training in modes:
        obj.__call__.get_concrete_function(tf.TensorSpec(shape), training=training)
    obj.state = [kernel, mean]  # whatever it lists
    obj.variables = [kernel, mean]
    obj.trainable_variables = [kernel] if trained else []
    obj.regularization_losses = []
    return obj


@model
def good() -> Any:
    return _reusable()


@model
def any_size() -> Any:
    return _reusable(shape=(None, None, None, 3))


@model
def fixed_batch() -> Any:
    return _reusable(shape=(2, 8, 8, 3))


@model
def channels_first() -> Any:
    return _reusable(data_format="NCHW")


@model
def dropped_out() -> Any:
    import tensorflow as tf

    def finish(features: Any, training: bool) -> Any:
        return tf.nn.relu(tf.nn.dropout(features, 0.5)) if training else features

    return _reusable(finish)


@model
def dropped_out_with_a_fixed_seed() -> Any:
    import tensorflow as tf

    def finish(features: Any, training: bool) -> Any:
        noise = tf.random.stateless_uniform(tf.shape(features), [1, 2])
        return tf.where(noise > 0.5, features, 0.0) if training else features

    return _reusable(finish)


@model
def dropped_out_in_a_function() -> Any:
    import tensorflow as tf

    drop = tf.function(lambda features: tf.nn.dropout(features, 0.5))
    return _reusable(lambda features, training: drop(features) if training else features)


@model
def dropped_out_before_a_function() -> Any:
    import tensorflow as tf

    relu = tf.function(tf.nn.relu)
    return _reusable(
        lambda features, training: relu(tf.nn.dropout(features, 0.5)) if training else features
    )


def _in_a_branch(place: int) -> Any:
    """Returns an object with a dropout in one of the branches of a conditional."""
    import tensorflow as tf

    def finish(features: Any, training: bool) -> Any:
        if not training:
            return features
        branches = [lambda: tf.identity(features), lambda: tf.identity(features)]
        branches[place] = lambda: tf.nn.dropout(features, 0.5)
        return tf.cond(tf.reduce_mean(features) > 0.5, *branches)

    return _reusable(finish)


@model
def dropped_out_in_a_branch() -> Any:
    return _in_a_branch(0)


@model
def dropped_out_in_the_other_branch() -> Any:
    return _in_a_branch(1)


@model
def dropped_out_in_a_loop() -> Any:
    import tensorflow as tf

    def finish(features: Any, training: bool) -> Any:
        if not training:
            return features
        rounds = tf.while_loop(
            lambda i, x: i < 3, lambda i, x: (i + 1, tf.nn.dropout(x, 0.5)), [0, features]
        )
        return rounds[1]

    return _reusable(finish)


def _by_tensor(fixed: bool) -> Any:
    """Returns an object whose `training` is a tensor that decides about a dropout on the output."""
    import tensorflow as tf

    obj = tf.train.Checkpoint()
    kernel = tf.Variable(tf.ones([3, 3, 3, 5]), name="kernel")

    def call(images: Any, training: Any = False) -> Any:
        net = tf.reduce_mean(tf.nn.conv2d(images, kernel, 1, "SAME"), [1, 2])
        flag = tf.constant(False) if fixed else training
        return tf.cond(flag, lambda: tf.nn.dropout(net, 0.5), lambda: tf.identity(net))

    obj.__call__ = tf.function(call, autograph=False)
    obj.__call__.get_concrete_function(tf.TensorSpec(IMAGES), training=tf.TensorSpec([], tf.bool))
    obj.variables = obj.trainable_variables = [kernel]
    return obj


@model
def dropped_out_by_a_tensor() -> Any:
    return _by_tensor(fixed=False)


@model
def never_dropped_out() -> Any:
    return _by_tensor(fixed=True)


@model
def dictionary() -> Any:
    return _reusable(lambda features, training: {"vector": features, "twice": features * 2})


@model
def second_argument() -> Any:
    import tensorflow as tf

    obj = tf.train.Checkpoint()
    obj.__call__ = tf.function(
        lambda scale, pictures: scale * tf.reduce_mean(pictures, [1, 2]),
        input_signature=[tf.TensorSpec([]), tf.TensorSpec(IMAGES)],
    )
    return obj


@model
def serving_only() -> Any:
    import tensorflow as tf

    obj = _reusable()
    call = obj.__call__.get_concrete_function(tf.TensorSpec(IMAGES), training=False)
    del obj.__call__
    return obj, {"serving_default": call}


def _with_signature(name: str, finish: Finish) -> tuple[Any, Mapping[str, Any]]:
    """Returns a reusable object, and a signature that finishes what it gives."""
    obj = _reusable()
    return obj, _signature_of(obj, name, finish)


def _signature_of(obj: Any, name: str, finish: Finish) -> Mapping[str, Any]:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec(IMAGES, name="images")])  # type: ignore[untyped-decorator]
    def signature(images: Any) -> Any:
        return {"default": finish(obj.__call__(images), False)}

    return {name: signature}


@model
def named() -> Any:
    return _with_signature("image_feature_vector", _features)


@model
def named_and_dropped_out() -> Any:
    """The name is that of inference; nobody but `default` says what training gives."""
    obj = dropped_out()
    return obj, _signature_of(obj, "image_feature_vector", _features)


@model
def named_otherwise() -> Any:
    return _with_signature("image_feature_vector", lambda features, training: features * 2)


@model
def probabilities() -> Any:
    import tensorflow as tf

    return _with_signature("image_classification", lambda logits, _: tf.nn.softmax(logits))


@model
def still_statistics() -> Any:
    return _reusable(updates=False)


@model
def nothing_to_train() -> Any:
    return _reusable(trained=False)


@model
def trains_by_default() -> Any:
    return _reusable(default=True)


@model
def only_trains() -> Any:
    return _reusable(modes=(True,))


@model
def unlisted() -> Any:
    obj = _reusable()
    obj.variables = [obj.state[0]]
    obj.trainable_variables = [obj.state[0], *_strangers()]
    return obj


def _strangers() -> list[Any]:
    """Returns a variable that is not trainable."""
    import tensorflow as tf

    return [tf.Variable(1.0, trainable=False, name="stranger")]


@model
def losses() -> Any:
    import tensorflow as tf

    obj = _reusable()
    scalar = tf.function(lambda: tf.constant(1.0), input_signature=[])
    vector = tf.function(lambda: tf.ones([3]), input_signature=[])
    given = tf.function(lambda x: x, input_signature=[tf.TensorSpec([])])
    for function in (scalar, vector, given):
        function.get_concrete_function()
    obj.regularization_losses = [scalar, vector, given]
    return obj


@model
def text() -> Any:
    import tensorflow as tf

    obj = tf.train.Checkpoint()
    obj.__call__ = tf.function(
        tf.strings.length, input_signature=[tf.TensorSpec([None], tf.string)]
    )
    return obj
