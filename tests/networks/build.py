"""Builds the networks, with weights under which every layer matters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.networks.catalog import Network

SEED = 20260723


def images(network: Network, count: int, seed: int = SEED) -> NDArray[np.float32]:
    """Seeded images that differ in brightness, contrast, colour and at every scale.

    No two neighbouring pixels are equal, as they would be where values are clipped: in flat places
    it is rounding that decides which of equal values max pooling takes, and passes its gradient to.
    """
    rng = np.random.default_rng(seed)
    size = network.size
    result = np.zeros((count, size, size, 3))
    for scale in (2, 4, 8, 16, size):
        coarse = rng.normal(size=(count, scale, scale, 3))
        index = np.arange(size) * scale // size
        result += coarse[:, index][:, :, index]
    result *= rng.uniform(0.2, 0.8, (count, 1, 1, 1))
    result += rng.uniform(-1, 1, (count, 1, 1, 3))
    return (network.pixels / (1 + np.exp(-result))).astype(np.float32)


def build(keras: Any, network: Network) -> Any:
    """Builds a network with seeded weights.

    Args:
      keras: the module `keras` or `tf_keras`.
      network: the network.
    """
    keras.utils.set_random_seed(SEED)
    shape = (network.size, network.size, 3)
    if network.name == "ViT":
        from tests.networks.vit import vision_transformer

        model = vision_transformer(keras, shape)
    else:
        model = getattr(keras.applications, network.name)(weights=None, input_shape=shape)
    enliven(model, images(network, 16, SEED + 1))
    return model


def leaves(model: Any) -> list[Any]:
    """All layers that have no layers themselves, in order."""
    return [
        layer
        for layer in model._flatten_layers(include_self=False, recursive=True)
        if not list(layer._flatten_layers(include_self=False, recursive=True))
    ]


def enliven(model: Any, calibration: NDArray[np.float32]) -> None:
    """Makes weights that are not those of a fresh network.

    A fresh network is a poor test: scales are one, offsets are zero, batch norm does nothing in
    inference, and probabilities are all alike. Here all of these are random, and the moving
    statistics are near those of the network's own activations. So that the network's own rounding
    does not hide what is tested, it must not be chaotic, nor have many activations at the kink of
    ReLU, which rounding puts on either side, to the harm of gradients: hence batch norm maps
    most activations to positive numbers.
    """
    rng = np.random.default_rng(SEED)
    for layer in leaves(model):
        kind = type(layer).__name__
        batch_norm = kind == "BatchNormalization"
        for variable in layer.weights:
            name = variable.name.split("/")[-1].split(":")[0]
            if name == "gamma" or kind == "LayerScale":
                # ConvNeXt starts its layer scale at 1e-6, which switches all blocks off.
                center = 0.3 if batch_norm or kind == "LayerScale" else 1.0
                variable.assign(center * (1 + 0.2 * rng.standard_normal(variable.shape)))
            elif name == "beta":
                # Three standard deviations above zero, where there is batch norm.
                center = (1.0 if layer.scale else 3.0) if batch_norm else 0.0
                variable.assign(center + 0.1 * rng.standard_normal(variable.shape))
            elif name == "bias":
                variable.assign(0.1 * rng.standard_normal(variable.shape))
            elif kind == "Normalization" and name in ("mean", "variance"):
                variable.assign(rng.uniform(0.2, 0.4, variable.shape))
        if kind == "Normalization":
            layer.finalize_state()
    _calibrate(model, calibration, rng)
    _spread(model, calibration)


def _calibrate(model: Any, calibration: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Sets the moving statistics to those of some images, and then moves them a little."""
    norms = [layer for layer in leaves(model) if type(layer).__name__ == "BatchNormalization"]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(calibration, training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
        mean, variance = np.array(layer.moving_mean), np.array(layer.moving_variance)
        noise = 0.1 * rng.standard_normal(mean.shape)
        layer.moving_mean.assign(mean + noise * np.sqrt(variance))
        layer.moving_variance.assign(variance * np.exp(0.2 * rng.standard_normal(mean.shape)))


def _spread(model: Any, calibration: NDArray[np.float32]) -> None:
    """Scales the last layer so that the logits of an image have a standard deviation of two."""
    last = [layer for layer in leaves(model) if hasattr(layer, "kernel")][-1]
    # Small ones first: no probability must round to zero.
    kernel = 1e-3 * np.array(last.kernel)
    last.kernel.assign(kernel)
    last.bias.assign(np.zeros(last.bias.shape))
    logits = np.log(np.array(model(calibration, training=False)))
    last.kernel.assign(2 / logits.std(axis=1).mean() * kernel)
    last.bias.assign(0.1 * np.random.default_rng(SEED).standard_normal(last.bias.shape))
