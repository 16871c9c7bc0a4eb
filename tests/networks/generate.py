"""Saves a network in formats of one Keras, and computes with what it saved.

    python -m tests.networks.generate ResNet50 keras DIRECTORY keras3-export reusable

writes DIRECTORY/FORMAT and, where training is random, DIRECTORY/FORMAT-still: the same network with
the same weights whose training trace drops nothing, so that its gradients can be compared. Beside
each lies a .npz that `tests.networks.reference` describes.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from pathlib import Path
from typing import Any

from tests.networks.build import build, leaves
from tests.networks.catalog import NETWORKS, STILL, TRAINABLE_FORMATS
from tests.networks.reference import write_reference

# Small enough that the other loss, which lies between 1 and 10, is what training lowers.
DECAY = 1e-6


def reusable(model: Any) -> Any:
    """Makes a reusable SavedModel of a Keras 3 model by hand, with both traces."""
    import tensorflow as tf

    class Reusable(tf.Module):  # type: ignore[misc]
        """What the interface of reusable SavedModels asks for, and nothing of Keras."""

        # These hide properties of tf.Module, which a SavedModel would not keep.
        variables: Any = None
        trainable_variables: Any = None

        def __init__(self) -> None:
            super().__init__()
            self.variables = [variable.value for variable in model.variables]
            self.trainable_variables = [v.value for v in model.trainable_variables]
            self.regularization_losses = [
                tf.function(_decay(kernel.value), input_signature=[]) for kernel in kernels(model)
            ]

        @tf.function
        def __call__(self, images: Any, training: bool = False) -> Any:
            return model(images, training=training)

    module = Reusable()
    spec = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    for training in (False, True):
        module.__call__.get_concrete_function(spec, training)
    return module


def kernels(model: Any) -> list[Any]:
    """The kernels that are regularized: those of all plain convolutions and dense layers."""
    return [layer.kernel for layer in leaves(model) if type(layer).__name__ in ("Conv2D", "Dense")]


def _decay(kernel: Any) -> Any:
    """Returns a function that computes the regularization loss of a kernel."""
    import tensorflow as tf

    return lambda: DECAY * tf.nn.l2_loss(kernel)


def still(model: Any) -> None:
    """Switches off whatever is random in training."""
    for layer in leaves(model):
        for name in ("rate", "drop_path_rate"):
            if hasattr(layer, name):
                setattr(layer, name, 0.0)


def save(model: Any, format_: str, directory: Path) -> None:
    """Saves a model in one format."""
    import tensorflow as tf

    with contextlib.redirect_stdout(io.StringIO()):
        if format_ == "reusable":
            tf.saved_model.save(reusable(model), str(directory))
        elif format_.endswith("-save"):
            tf.saved_model.save(model, str(directory))
        else:
            model.export(str(directory))


def main(name: str, keras_name: str, directory: Path, formats: list[str]) -> None:
    """Builds a network, saves it and computes the references."""
    network = NETWORKS[name]
    keras: Any = importlib.import_module(keras_name)
    model = build(keras, network)
    if keras_name == "tf_keras":
        for kernel in kernels(model):
            model.add_loss(_decay(kernel))
    for format_ in formats:
        save(model, format_, directory / format_)
    saved = list(formats)
    if network.drops:
        still(model)
        for format_ in formats:
            if format_ in TRAINABLE_FORMATS:
                saved.append(format_ + STILL)
                save(model, format_, directory / saved[-1])
    del model
    keras.backend.clear_session()
    for format_ in saved:
        write_reference(directory / format_, network)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
