"""Batch norms of TensorFlow 2 in TensorFlow 1.15: averages, layouts, gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bridge.passes.batch_norm_average import BatchNormAverage
from bridge.passes.batch_norm_layout import BatchNormLayout
from tests.clients.tf1 import Tf1Client
from tests.passes.flat_graphs import FlatFunction, check_equal, flatten

pytestmark = pytest.mark.tf2

CHANNELS = {"NHWC": -1, "NCHW": 1, "NDHWC": -1, "NCDHW": 1}
PASSES = (BatchNormAverage(), BatchNormLayout())


def batch_norm(
    layout: str = "NHWC",
    *,
    training: bool = True,
    factor: float = 1.0,
    shape: tuple[int, ...] = (3, 4, 5, 6),
    known: bool = True,
    useless: bool = False,
) -> FlatFunction:
    """Returns a FusedBatchNormV3, and what follows from all its outputs."""
    import tensorflow as tf

    random = np.random.default_rng(5)
    channels = shape[CHANNELS[layout]]
    scale, offset, mean, variance = (
        tf.Variable(random.uniform(0.5, 1.5, channels).astype(np.float32), trainable=trainable)
        for trainable in (True, True, training, training)
    )
    nothing = training and factor == 1 and not useless

    def function(x: tf.Tensor) -> list[tf.Tensor]:
        norm = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=scale,
            offset=offset,
            mean=tf.zeros([0]) if nothing else mean,
            variance=tf.zeros([0]) if nothing else variance,
            is_training=training,
            exponential_avg_factor=factor,
            data_format=layout,
            epsilon=1e-3,
        )
        return [norm.y, norm.batch_mean * 2.0, norm.batch_variance]

    x = random.normal(2.0, 3.0, size=shape).astype(np.float32)
    return flatten(function, x, specs=[tf.TensorSpec(x.shape if known else [None] * x.ndim)])


def factors(flat: FlatFunction) -> list[float]:
    return [
        flat.graph.attr(node, "exponential_avg_factor").f
        for node in flat.graph.nodes.values()
        if node.op == "FusedBatchNormV3"
    ]


@pytest.mark.parametrize("factor", [0.01, 0.1, 0.5, 0.0])
def test_averages_are_computed_with_the_old_ones(tf1: Tf1Client, factor: float) -> None:
    flat = batch_norm(factor=factor)
    assert factors(flat) == [pytest.approx(factor)]
    check_equal(tf1, flat.rewrite(*PASSES))
    assert factors(flat) == [1.0]


def test_the_averages_of_inference_are_those_that_it_got(tf1: Tf1Client) -> None:
    check_equal(tf1, batch_norm(training=False).rewrite(*PASSES))


def test_averages_that_nothing_uses_become_empty(tf1: Tf1Client) -> None:
    flat = batch_norm(useless=True)
    check_equal(tf1, flat.rewrite(*PASSES))
    assert flat.report.passes["batch-norm-average"] == 1


def test_what_has_no_average_stays() -> None:
    flat = batch_norm()
    before = [node.SerializeToString(deterministic=True) for node in flat.graph.nodes.values()]
    flat.rewrite(*PASSES)
    assert set(flat.report.passes.values()) == {0}
    after = [node.SerializeToString(deterministic=True) for node in flat.graph.nodes.values()]
    assert before == after


def test_an_average_may_start_from_another_one(tf1: Tf1Client) -> None:
    """A layer that is applied twice hands its averages on."""
    import tensorflow as tf

    ones = tf.ones([6])

    def function(x: tf.Tensor) -> list[tf.Tensor]:
        mean, variance, result = ones * 0.3, ones * 0.7, []
        for _ in range(3):
            x, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=x + 1.0,
                scale=ones * 2.0,
                offset=ones,
                mean=mean,
                variance=variance,
                exponential_avg_factor=0.1,
            )
            result += [x, mean, variance]
        return result

    x = np.random.default_rng(6).normal(size=(2, 3, 4, 6)).astype(np.float32)
    flat = flatten(function, x)
    assert len(factors(flat)) == 3
    check_equal(tf1, flat.rewrite(*PASSES))
    assert factors(flat) == [1.0] * 3


@pytest.mark.parametrize("known", [True, False], ids=["known size", "unknown size"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("layout", ["NCHW", "NDHWC", "NCDHW"])
def test_layouts(tf1: Tf1Client, layout: str, training: bool, known: bool) -> None:
    shape = (3, 4, 2, 5, 6)[: len(layout)]
    factor = 0.1 if training else 1.0
    flat = batch_norm(layout, training=training, factor=factor, shape=shape, known=known)
    check_equal(tf1, flat.rewrite(*PASSES))


LAYERS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "BatchNormalization": ({}, (4, 3, 5, 6)),
    "BatchNormalization of channels first": ({"axis": 1}, (4, 3, 5, 6)),
    "BatchNormalization of volumes": ({}, (3, 2, 3, 4, 5)),
    "BatchNormalization without scale": ({"scale": False, "center": False}, (4, 3, 5, 6)),
    "LayerNormalization": ({}, (4, 3, 6)),
    "LayerNormalization of vectors": ({}, (4, 6)),
}


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_tf_keras(tf1: Tf1Client, name: str, training: bool) -> None:
    tf_keras = pytest.importorskip("tf_keras")
    options, shape = LAYERS[name]
    layer = getattr(tf_keras.layers, name.partition(" ")[0])(**options)
    x = np.random.default_rng(7).normal(1.0, 2.0, size=shape).astype(np.float32)
    layer(x)
    start = [weight.numpy() for weight in layer.weights]

    def function(x: Any) -> list[Any]:
        y = layer(x, training=training)
        # Reads come after the assignments that the layer makes.
        return [y, *(weight.read_value() for weight in layer.non_trainable_weights)]

    flat = flatten(function, x)
    assert any(node.op == "FusedBatchNormV3" for node in flat.graph.nodes.values())
    flat.rewrite(*PASSES)

    def from_the_start(x: Any) -> list[Any]:
        for weight, value in zip(layer.weights, start, strict=True):
            weight.assign(value)
        return function(x)

    flat.function = from_the_start
    check_equal(tf1, flat)
