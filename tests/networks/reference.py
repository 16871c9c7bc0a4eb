"""Computes with a SavedModel, in TensorFlow 2, what its module must compute in TensorFlow 1.15.

    python -m tests.networks.reference SAVED_MODEL NETWORK SUFFIX [BATCH]

computes with a batch of images and writes SAVED_MODELSUFFIX.npz. Its keys are `images`, `targets`
and `projection`; `digest|V`, the digest of a variable's bytes; `inference|output`,
`inference|single` (of the first image alone), `inference|gradient|V`; where there is a training
trace `training|output`, `training|gradient|V`, `training|after|V` (variables that one call with
training=True changes) and `regularization`. `V` is the variable's name behind a number that makes
it unique.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from numpy.typing import NDArray

from tests.networks.build import SEED, images
from tests.networks.catalog import NETWORKS, Network
from tests.networks.digests import digest

BATCH = 4

Arrays = dict[str, NDArray[Any]]


def reference(directory: Path, network: Network, batch_number: int = 0) -> Arrays:
    """Computes everything."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(directory))
    batch = images(network, BATCH, SEED + 100 * batch_number)
    arrays: Arrays = {"images": batch}
    if hasattr(loaded, "__call__"):  # noqa: B004 - of the SavedModel, not of its class

        def inference(x: Any) -> Any:
            return loaded(x, training=False)
    else:
        signature = loaded.signatures["serving_default"]
        (key,) = signature.structured_input_signature[1]

        def inference(x: Any) -> Any:
            (output,) = signature(**{key: x}).values()
            return output

    output, gradients, variables = differentiate(inference, batch, arrays)
    arrays["inference|output"] = output
    arrays["inference|single"] = inference(tf.constant(batch[:1])).numpy()
    names = name_all(loaded, variables)
    for name, variable in names.items():
        arrays[f"digest|{name}"] = np.array(digest(variable.numpy()))
    for name, gradient in by_name(names, variables, gradients).items():
        arrays[f"inference|gradient|{name}"] = gradient
    if hasattr(loaded, "__call__"):  # noqa: B004

        def training(x: Any) -> Any:
            return loaded(x, training=True)

        before = {name: variable.numpy() for name, variable in names.items()}
        output, gradients, variables = differentiate(training, batch, arrays)
        arrays["training|output"] = output
        for name, gradient in by_name(names, variables, gradients).items():
            arrays[f"training|gradient|{name}"] = gradient
        for name, variable in names.items():
            if (after := variable.numpy()).tobytes() != before[name].tobytes():
                arrays[f"training|after|{name}"] = after
        losses = [loss().numpy() for loss in loaded.regularization_losses]
        arrays["regularization"] = np.array(losses, np.float32)
    return arrays


def differentiate(
    function: Callable[[Any], Any], batch: NDArray[Any], arrays: Arrays
) -> tuple[NDArray[Any], list[Any], list[Any]]:
    """Calls a function once; returns its output, the gradients and the variables they are by."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        output = function(tf.constant(batch))
        if "projection" not in arrays:
            rng = np.random.default_rng(1)
            # The outputs are probabilities: these make the scalar one of the size of a logit.
            arrays["projection"] = rng.standard_normal(output.shape).astype(np.float32)
            arrays["targets"] = np.eye(output.shape[1], dtype=np.float32)[: len(batch)]
        scalar = tf.reduce_sum(output * arrays["projection"])
    variables = list(tape.watched_variables())
    return output.numpy(), tape.gradient(scalar, variables), variables


def name_all(loaded: Any, watched: list[Any]) -> dict[str, Any]:
    """Gives each variable a unique name."""
    variables = list(getattr(loaded, "variables", ())) or watched
    known = {id(variable) for variable in variables}
    variables += [variable for variable in watched if id(variable) not in known]
    return {f"{i:04d} {variable.name}": variable for i, variable in enumerate(variables)}


def by_name(names: dict[str, Any], variables: list[Any], gradients: list[Any]) -> Arrays:
    """Returns the gradients that there are, by the variable's name."""
    import tensorflow as tf

    found = {id(variable): name for name, variable in names.items()}
    return {
        found[id(variable)]: tf.convert_to_tensor(gradient).numpy()
        for variable, gradient in zip(variables, gradients, strict=True)
        if gradient is not None
    }


def write_reference(
    directory: Path, network: Network, suffix: str = "", batch_number: int = 0
) -> None:
    """Computes everything with a SavedModel and writes it to an .npz file beside it."""
    arrays = reference(directory, network, batch_number)
    np.savez(directory.with_name(f"{directory.name}{suffix}.npz"), **arrays)


if __name__ == "__main__":
    write_reference(Path(sys.argv[1]), NETWORKS[sys.argv[2]], sys.argv[3], *map(int, sys.argv[4:]))
