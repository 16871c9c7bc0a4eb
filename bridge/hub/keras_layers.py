"""Eager modules in models of Keras 3 and of tf_keras.

Keras 3 tracks variables of its own kind only, and the inputs of its functional models are no
tensors. So a module is wrapped into a layer whose weights are the module's variables.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from bridge.hub._tf import tf
from bridge.hub.errors import ArgumentTypeError, UnsupportedSpecError

if TYPE_CHECKING:
    from bridge.hub.eager_module import EagerModule


def symbolic_family(inputs: Any) -> Any:
    """Returns the package, `keras` or `tf_keras`, whose functional model the inputs belong to.

    Returns None where they are tensors, arrays or the like.
    """
    leaves = tf.nest.flatten(inputs)
    for name in ("keras", "tf_keras"):
        # Who has such an input has imported its package.
        family = sys.modules.get(name)
        if family is not None and any(_is_symbolic(family, leaf) for leaf in leaves):
            return family
    return None


def _is_symbolic(family: Any, value: Any) -> bool:
    try:
        return bool(family.backend.is_keras_tensor(value))
    except (AttributeError, ValueError):  # tf_keras refuses what is no tensor at all
        return False


def layer_class(family: Any) -> Any:
    """Returns the base class of a package's layers.

    Args:
      family: the package `keras`, with TensorFlow as its backend, or `tf_keras`.

    Raises:
      TypeError: it is no Keras.
      ValueError: Keras runs on something else than TensorFlow.
    """
    if not hasattr(family, "layers"):
        raise ArgumentTypeError(
            f"{family!r} is no Keras", hint="give the package `keras` or `tf_keras`"
        )
    if family.backend.backend() != "tensorflow":
        raise UnsupportedSpecError(
            f"Keras runs on {family.backend.backend()}, and modules run on TensorFlow",
            hint="set the environment variable KERAS_BACKEND=tensorflow",
        )
    return family.layers.Layer


def as_layer(module: EagerModule, family: Any) -> Any:
    """Returns a new layer that calls a module.

    Args:
      module: the module.
      family: as `layer_class` takes it.
    """
    base: Any = layer_class(family)

    def own(variable: Any) -> Any:
        if family.__version__.startswith("2."):
            return variable
        # A variable of Keras around the very same tf.Variable, as TFSMLayer has them.
        return family.Variable(
            variable,
            trainable=variable.trainable,
            dtype=variable.dtype.name,
            name=variable.name.split(":")[0].replace("/", "_"),
            autocast=False,
        )

    class ModuleLayer(base):  # type: ignore[misc]
        """A module as a layer; what it is called with, and gives, is the module's."""

        def __init__(self) -> None:
            super().__init__(trainable=module.trainable)
            self.module = module
            # As weights of the layer itself, or `.weights.h5` would be written without them.
            self.module_variables = [own(variable) for variable in module.variables]
            self.built = True

        def call(
            self, inputs: Any, signature: str | None = None, as_dict: bool | None = None
        ) -> Any:
            """Calls the module, and adds its regularization losses."""
            for loss in module.losses if self.trainable else ():
                self.add_loss(loss)
            return module(inputs, signature=signature, as_dict=as_dict)

        def get_config(self) -> dict[str, Any]:
            """Refuses: what the module is can't be said in a configuration."""
            raise NotImplementedError(
                "a layer made of a hub.Module can't be saved as a configuration; save the weights, "
                "or a SavedModel with model.export(path)"
            )

    return ModuleLayer()
