"""A vision transformer, small and plain, for Keras 3 and tf_keras."""

from __future__ import annotations

from typing import Any

PATCH = 8
WIDTH = 64
HEADS = 4
BLOCKS = 3
CLASSES = 100
DROP = 0.1


def vision_transformer(keras: Any, shape: tuple[int, int, int]) -> Any:
    """Builds the transformer, with a class token, as a functional model."""
    layers = keras.layers

    class Tokens(layers.Layer):  # type: ignore[misc]
        """Puts a class token before the patches and adds positions."""

        def build(self, input_shape: Any) -> None:
            _, count, width = input_shape
            self.token = self.add_weight(
                name="token", shape=(1, 1, width), initializer="random_normal"
            )
            self.positions = self.add_weight(
                name="positions", shape=(1, count + 1, width), initializer="random_normal"
            )
            super().build(input_shape)

        def call(self, patches: Any) -> Any:
            import tensorflow as tf

            token, positions = (
                tf.convert_to_tensor(variable) for variable in (self.token, self.positions)
            )
            batch = tf.shape(patches)[0]
            token = tf.broadcast_to(token, tf.stack([batch, 1, WIDTH]))
            return tf.concat([token, patches], axis=1) + positions

        def get_config(self) -> dict[str, Any]:
            return dict(super().get_config())

        def compute_output_shape(self, input_shape: Any) -> Any:
            batch, count, width = input_shape
            return batch, count + 1, width

    images = keras.Input(shape, name="images")
    patches = layers.Conv2D(WIDTH, PATCH, PATCH, name="patches")(images)
    count = (shape[0] // PATCH) * (shape[1] // PATCH)
    x = Tokens(name="tokens")(layers.Reshape((count, WIDTH), name="flat")(patches))
    x = layers.Dropout(DROP, name="embedding_dropout")(x)
    for block in range(BLOCKS):
        name = f"block_{block}"
        y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_attention_norm")(x)
        y = layers.MultiHeadAttention(HEADS, WIDTH // HEADS, dropout=DROP, name=f"{name}_mha")(y, y)
        x = layers.Add(name=f"{name}_attention_add")([x, y])
        y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_mlp_norm")(x)
        y = layers.Dense(2 * WIDTH, activation="gelu", name=f"{name}_mlp_1")(y)
        y = layers.Dropout(DROP, name=f"{name}_mlp_dropout")(y)
        y = layers.Dense(WIDTH, name=f"{name}_mlp_2")(y)
        x = layers.Add(name=f"{name}_mlp_add")([x, y])
    x = layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    x = layers.Lambda(lambda tokens: tokens[:, 0], output_shape=(WIDTH,), name="class_token")(x)
    return keras.Model(
        images, layers.Dense(CLASSES, activation="softmax", name="predictions")(x), name="ViT"
    )
