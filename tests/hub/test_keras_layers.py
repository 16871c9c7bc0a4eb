"""An eager module in models of Keras 3 and of tf_keras."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.hub.eager import TOY, images, make, names, values

pytestmark = pytest.mark.tf2


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_a_functional_model_trains_it_with_its_losses_and_updates(package: str) -> None:
    keras = importlib.import_module(package)
    module = make(TOY, trainable=True, tags={"train"})
    inputs = keras.Input([16, 16, 3])
    features = module(inputs)
    keras.Model(inputs, [features, make(TOY)(inputs)])  # two of one name
    endpoints = module({"images": inputs}, signature="image_feature_vector", as_dict=True)
    assert features.shape[1:] == endpoints["default"].shape[1:] == (8,)
    model = keras.Model(inputs, keras.layers.Dense(3)(features))
    assert len(model.weights) == len(module.variables) + 2
    assert len(model.trainable_weights) == len(module.trainable_variables) + 2
    x, y, before = images(8), np.arange(8) % 3, values(module)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model(x, training=True)
    np.testing.assert_allclose(sum(model.losses), sum(module.losses), rtol=1e-5)
    model.fit(x, y, verbose=0)
    moved = {name for name, value in values(module).items() if (value != before[name]).any()}
    assert moved >= {name for name in before if "moving_" in name or "kernel" in name}
    # The classifier is no part of what `default` computes, and its bias has no regularizer.
    assert set(before) - moved <= {"Toy/logits/bias", "Toy/logits/biases"}


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_a_layer_of_ones_own_holds_it(package: str) -> None:
    keras = importlib.import_module(package)
    module = make(TOY, trainable=True)

    class Features(keras.layers.Layer):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.features = module.as_layer(keras)

        def call(self, inputs: Any) -> Any:
            return self.features(inputs, signature="image_classification")

    layer = Features()
    np.testing.assert_allclose(
        np.asarray(layer(images())), module(images(), signature="image_classification"), rtol=1e-6
    )
    assert len(layer.trainable_weights) == len(module.trainable_variables) > 0
    assert len(layer.weights) == len(module.variables)
    assert len(layer.losses) == len(module.losses) > 0
    assert module.as_layer(keras) is layer.features
    assert keras is not importlib.import_module("keras") or module.as_layer() is layer.features
    with pytest.raises(NotImplementedError, match="configuration"):
        layer.features.get_config()
    with pytest.raises(TypeError, match="is no Keras"):
        module.as_layer(np)


def test_a_layer_of_tf_keras_holds_the_module_itself() -> None:
    import tf_keras

    class Features(tf_keras.layers.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.module = make(TOY, trainable=True)

        def call(self, inputs: Any) -> Any:
            return self.module(inputs)

    layer = Features()
    layer(images())
    assert names(layer.trainable_weights) == names(layer.module.trainable_variables)
    assert names(layer.weights) == names(layer.module.variables)


def test_keras_layer_of_tensorflow_hub_takes_it() -> None:
    from bridge import hub

    module = make(TOY, trainable=True, tags={"train"})
    layer = hub.KerasLayer(module, trainable=True, arguments={"signature": "image_classification"})
    before = values(module)
    assert layer(images()).shape == [2, 5]
    assert names(layer.trainable_weights) == names(module.trainable_variables)
    assert len(layer.losses) == 3
    assert any((value != before[name]).any() for name, value in values(module).items())


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_a_model_with_it_keeps_weights_and_can_be_exported(package: str, tmp_path: Path) -> None:
    import tensorflow as tf

    keras = importlib.import_module(package)
    texts = tf.constant(["the cat", "sat"])

    def build() -> Any:
        inputs = keras.Input([], dtype="string")
        module = make("text_vocab", trainable=True)
        return keras.Model(inputs, module(inputs)), module

    model, module = build()
    for variable in module.variables:
        variable.assign(variable * 2.0)
    wanted = np.asarray(model(texts))
    other, untouched = build()
    assert (np.asarray(other(texts)) != wanted).any()
    model.save_weights(tmp_path / "all.weights.h5")
    other.load_weights(tmp_path / "all.weights.h5")
    np.testing.assert_array_equal(untouched.variables[0], module.variables[0])
    np.testing.assert_array_equal(np.asarray(other(texts)), wanted)
    model.export(str(tmp_path / "exported"))
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_array_equal(loaded.serve(texts), wanted)
