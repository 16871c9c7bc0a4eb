"""Modules as feature columns, in what TensorFlow still has for these."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.errors import UsageError
from tests.clients.converted import assert_close
from tests.conftest import TESTDATA, Golden

pytestmark = pytest.mark.tf2

TEXT = str(TESTDATA / "modules" / "text_vocab")
IMAGE = str(TESTDATA / "modules" / "toy_image_resource")


@pytest.fixture(scope="module")
def recorded(golden: Callable[[str], Golden]) -> dict[str, Golden]:
    return {name: golden(name) for name in ("text_vocab", "toy_image_resource")}


def texts_and_images(recorded: dict[str, Golden]) -> tuple[dict[str, Any], Any]:
    """Features as a data set has them, and the concatenated vectors of the old client."""
    text, image = recorded["text_vocab"], recorded["toy_image_resource"]
    (strings,), (pixels,) = (one.under("|default|in").values() for one in (text, image))
    count = min(len(strings), len(pixels))
    features = {"text": strings[:count, None].astype(object), "image": pixels[:count]}
    vectors = [one.arrays["|default|out|default"][:count] for one in (image, text)]
    return features, np.concatenate(vectors, axis=1)


def columns(**options: Any) -> list[Any]:
    from bridge import hub

    return [
        hub.text_embedding_column("text", TEXT, **options),
        hub.image_embedding_column("image", IMAGE),
    ]


@pytest.mark.parametrize("trainable", [False, True])
def test_input_layer_gives_what_the_old_client_computed(
    recorded: dict[str, Golden], trainable: bool
) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    features, wanted = texts_and_images(recorded)
    with tf.Graph().as_default():
        tensors = {key: tf.constant(value) for key, value in features.items()}
        of_column: dict[Any, Any] = {}
        both = columns(trainable=trainable)
        output = v1.feature_column.input_layer(tensors, both, cols_to_vars=of_column)
        names = [variable.op.name for variable in v1.trainable_variables()]
        assert names == (
            ["input_layer/text_hub_module_embedding/module/Text/embedding"] if trainable else []
        )
        assert len(of_column[both[0]]) == 1
        assert len(of_column[both[1]]) > 1
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), v1.tables_initializer()])
            assert_close(session.run(output), wanted, "input_layer")


def test_columns_are_made_where_shapes_are_those_of_tensorflow_1() -> None:
    import tensorflow as tf

    tf.compat.v1.disable_v2_tensorshape()
    try:
        assert len(columns()) == 2
    finally:
        tf.compat.v1.enable_v2_tensorshape()


def test_a_linear_model_trains_the_text_module() -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default():
        features = {"text": tf.constant([["the cat"], ["mat"]])}
        logits = v1.feature_column.linear_model(features, columns(trainable=True)[:1])
        loss = tf.reduce_mean((logits - [[1.0], [-1.0]]) ** 2)
        step = v1.train.GradientDescentOptimizer(0.5).minimize(loss)
        embeddings = next(v for v in v1.trainable_variables() if "hub_module" in v.op.name)
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), v1.tables_initializer()])
            before, start = session.run([embeddings, loss])
            for _ in range(20):
                session.run(step)
            after, end = session.run([embeddings, loss])
    assert end < start / 2
    assert (before != after).any()


@pytest.mark.parametrize("trainable", [False, True])
def test_dense_features_of_tf_keras_gives_the_same_and_holds_the_variables(
    recorded: dict[str, Golden], trainable: bool
) -> None:
    import tf_keras

    features, wanted = texts_and_images(recorded)
    layer = tf_keras.layers.DenseFeatures(columns(trainable=trainable))
    assert_close(layer(features).numpy(), wanted, "DenseFeatures")
    assert len(layer.trainable_weights) == int(trainable)
    assert len(layer.weights) > 10


def test_a_keras_model_of_columns_trains_saves_and_is_made_again(tmp_path: Path) -> None:
    import tensorflow as tf
    import tf_keras

    from bridge import hub
    from bridge.hub.feature_columns import TextEmbeddingColumn

    column = hub.text_embedding_column("text", TEXT, trainable=True)
    inputs = {"text": tf_keras.Input([1], dtype=tf.string, name="text")}
    layer = tf_keras.layers.DenseFeatures([column])
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(1)(layer(inputs)))
    model.compile(tf_keras.optimizers.SGD(0.1), "mse")
    features = {"text": tf.constant([["the cat"], ["mat"]])}
    (embeddings,) = (v.numpy() for v in layer.trainable_weights)
    losses = model.fit(features, np.array([[1.0], [-1.0]]), epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 2
    assert (layer.trainable_weights[0].numpy() != embeddings).any()
    wanted = model(features)
    tf.saved_model.save(model, str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_allclose(loaded(features), wanted, rtol=1e-6)
    model.save_weights(str(tmp_path / "weights"))
    scope = {"TextEmbeddingColumn": TextEmbeddingColumn}
    config = layer.get_config()
    again = tf_keras.layers.DenseFeatures.from_config(config, custom_objects=scope)
    assert again._feature_columns == [column]
    assert hash(again._feature_columns[0]) == hash(column)
    other = tf_keras.Model(inputs, tf_keras.layers.Dense(1)(again(inputs)))
    other.load_weights(str(tmp_path / "weights"))
    np.testing.assert_allclose(other(features), wanted, rtol=1e-6)


def test_a_column_can_be_the_key(recorded: dict[str, Golden]) -> None:
    import tensorflow as tf
    import tf_keras

    from bridge import hub

    features, wanted = texts_and_images(recorded)
    pixels = tf.feature_column.numeric_column("image", shape=[16, 16, 3])
    column = hub.image_embedding_column(pixels, IMAGE)
    layer = tf_keras.layers.DenseFeatures([column])
    assert_close(layer({"image": features["image"]}).numpy(), wanted[:, :8], "DenseFeatures")
    assert column.name == "image_hub_module_embedding"
    assert column.parse_example_spec == pixels.parse_example_spec


def test_examples_are_parsed_as_the_columns_say(recorded: dict[str, Golden]) -> None:
    import tensorflow as tf

    from bridge import hub

    both = columns()
    spec = tf.feature_column.make_parse_example_spec(both)
    assert spec == tf.compat.v1.feature_column.make_parse_example_spec(both)
    assert spec["text"] == tf.io.FixedLenFeature([1], tf.string)
    assert spec["image"] == tf.io.FixedLenFeature([16, 16, 3], tf.float32)
    larger = hub.image_embedding_column("image", IMAGE, image_size=[32, 24])
    assert larger.parse_example_spec["image"].shape == [32, 24, 3]
    assert hub.get_expected_image_size(larger.module_spec) == [16, 16]
    assert [column.variable_shape.as_list() for column in both] == [[6], [8]]


def test_a_module_that_does_not_fit_is_refused() -> None:
    from bridge import hub

    for make, said in (
        (lambda: hub.text_embedding_column("x", IMAGE), "not one vector of strings"),
        (lambda: hub.image_embedding_column("x", TEXT), "not the one float32 input 'images'"),
        (lambda: hub.image_embedding_column("x", IMAGE, [16]), "not the height and width"),
        (lambda: hub.text_embedding_column("x", MULTI), "no output 'default'"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            make()
        assert isinstance(caught.value, UsageError)


MULTI = str(TESTDATA / "modules" / "multi_input")


def test_a_column_of_a_spec_has_no_configuration() -> None:
    from bridge import hub

    column = hub.text_embedding_column("x", hub.load_module_spec(TEXT))
    with pytest.raises(NotImplementedError, match="by its path"):
        column.get_config()
