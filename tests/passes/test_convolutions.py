"""Convolutions and pools that TensorFlow 1.15 has no CPU kernel for, by others that it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bridge.passes import Pass
from bridge.passes.dilated_convolution import DilatedConvolution
from bridge.passes.explicit_padding import ExplicitPadding
from bridge.passes.grouped_convolution import GroupedConvolution
from tests.clients.tf1 import Tf1Client
from tests.passes.flat_graphs import FlatFunction, assert_close, check_equal, flatten, in_tf1

pytestmark = pytest.mark.tf2

PASSES: tuple[Pass, ...] = (GroupedConvolution(), DilatedConvolution(), ExplicitPadding())

PADDED = [[0, 0], [1, 2], [2, 1], [0, 0]]


def array(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def variable(*shape: int) -> Any:
    import tensorflow as tf

    return tf.Variable(array(*shape))


def convolution(
    op: str, kernel: tuple[int, ...], image: tuple[int, ...] = (2, 8, 9, 6), **options: Any
) -> FlatFunction:
    """Returns a raw op on a variable as its filter."""
    import tensorflow as tf

    filters = variable(*kernel)
    rank = len(kernel) - 2
    options = {"padding": "SAME", "strides": [1] * (rank + 2), **options}
    return flatten(
        lambda x: getattr(tf.raw_ops, op)(input=x, filter=filters, **options), array(*image)
    )


def transposed(
    kernel: tuple[int, ...], image: tuple[int, ...], sizes: list[int], **options: Any
) -> FlatFunction:
    """Returns a transposed convolution whose batch is unknown."""
    import tensorflow as tf

    filters = variable(*kernel)
    op = "Conv2DBackpropInput" if len(kernel) == 4 else "Conv3DBackpropInputV2"

    def function(x: tf.Tensor) -> tf.Tensor:
        shape = [tf.shape(x)[0], *sizes]
        y = getattr(tf.raw_ops, op)(
            input_sizes=shape, filter=filters, out_backprop=x, **{"padding": "SAME", **options}
        )
        return tf.ensure_shape(y, [None, *sizes])

    return flatten(function, array(*image))


def dilations(flat: FlatFunction) -> set[int]:
    nodes = [node for node in flat.graph.nodes.values() if "dilations" in node.attr]
    return {size for node in nodes for size in node.attr["dilations"].list.i}


# -- groups --------------------------------------------------------------------------------


def test_groups_are_split_and_concatenated(tf1: Tf1Client) -> None:
    flat = convolution("Conv2D", (3, 3, 3, 4)).rewrite(*PASSES)
    assert {"Split", "ConcatV2"} < flat.ops()
    check_equal(tf1, flat)


def test_groups_of_one_channel_are_a_depthwise_convolution(tf1: Tf1Client) -> None:
    flat = convolution("Conv2D", (3, 3, 1, 12), strides=[1, 2, 2, 1]).rewrite(*PASSES)
    assert "DepthwiseConv2dNative" in flat.ops()
    assert not flat.ops() & {"Conv2D", "Split"}
    check_equal(tf1, flat)


def test_a_depthwise_convolution_needs_equal_strides(tf1: Tf1Client) -> None:
    flat = convolution("Conv2D", (3, 3, 1, 12), strides=[1, 2, 1, 1]).rewrite(*PASSES)
    assert "DepthwiseConv2dNative" not in flat.ops()
    check_equal(tf1, flat)


def test_groups_keep_strides_and_explicit_paddings(tf1: Tf1Client) -> None:
    options = {"padding": "EXPLICIT", "explicit_paddings": np.ravel(PADDED).tolist()}
    split = convolution("Conv2D", (3, 3, 3, 4), strides=[1, 2, 2, 1], **options)
    depthwise = convolution("Conv2D", (3, 3, 1, 6), **options)
    for flat in (split, depthwise):
        # TensorFlow 2 has no gradient here.
        check_equal(tf1, flat.rewrite(*PASSES), gradients=False)


def test_groups_of_a_transposed_convolution(tf1: Tf1Client) -> None:
    flat = transposed((3, 3, 2, 6), (2, 4, 5, 6), [8, 10, 6], strides=[1, 2, 2, 1])
    # TensorFlow 2 has no gradient here.
    check_equal(tf1, flat.rewrite(*PASSES), gradients=False)
    assert "Split" in flat.ops()


def test_a_convolution_without_groups_stays() -> None:
    for flat in (
        convolution("Conv2D", (3, 3, 6, 4)),
        convolution("DepthwiseConv2dNative", (3, 3, 6, 2)),
        transposed((3, 3, 6, 4), (2, 4, 5, 4), [8, 10, 6], strides=[1, 2, 2, 1]),
    ):
        before = [node.SerializeToString(deterministic=True) for node in flat.graph.nodes.values()]
        flat.rewrite(*PASSES)
        after = [node.SerializeToString(deterministic=True) for node in flat.graph.nodes.values()]
        assert before == after
        assert set(flat.report.passes.values()) == {0}


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("groups", [2, 4])
def test_layers_with_groups(tf1: Tf1Client, package: str, rank: int, groups: int) -> None:
    layers = pytest.importorskip(package).layers
    layer = getattr(layers, f"Conv{rank}D")(8, 3, groups=groups)
    x = array(2, *[6] * rank, 4)
    layer(x)
    check_equal(tf1, flatten(layer, x).rewrite(*PASSES))


# -- dilations -----------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False], ids=["known size", "unknown size"])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    ("op", "kernel"),
    [("Conv2D", (3, 2, 6, 4)), ("Conv2D", (3, 2, 3, 4)), ("Conv2D", (2, 3, 1, 6))],
    ids=["plain", "groups", "depthwise"],
)
def test_a_dilated_convolution(
    tf1: Tf1Client, op: str, kernel: tuple[int, ...], padding: str, known: bool
) -> None:
    import tensorflow as tf

    filters, groups = variable(*kernel), 6 // kernel[2]

    def function(x: tf.Tensor) -> tf.Tensor:
        # The gradient that TensorFlow 2 has for dilations and groups at once is none of a CPU.
        parts = zip(tf.split(x, groups, -1), tf.split(filters, groups, -1), strict=True)
        return tf.concat(
            [tf.nn.convolution(a, b, padding=padding, dilations=[2, 3]) for a, b in parts], -1
        )

    image = array(2, 8, 9, 6)
    spec = [tf.TensorSpec(image.shape if known else [None, None, None, 6])]
    options = {"strides": [1, 1, 1, 1], "padding": padding, "dilations": [1, 2, 3, 1]}
    flat = flatten(
        lambda x: getattr(tf.raw_ops, op)(input=x, filter=filters, **options), image, specs=spec
    )
    flat.rewrite(*PASSES)
    assert dilations(flat) <= {1}
    assert "SpaceToBatchND" in flat.ops()
    flat.function = function
    check_equal(tf1, flat)


def test_dilations_and_explicit_paddings(tf1: Tf1Client) -> None:
    options = {"padding": "EXPLICIT", "explicit_paddings": np.ravel(PADDED).tolist()}
    flat = convolution("Conv2D", (3, 3, 6, 4), dilations=[1, 2, 2, 1], **options)
    check_equal(tf1, flat.rewrite(*PASSES), gradients=False)  # TensorFlow 2 has none here
    assert dilations(flat) <= {1}


def test_dilations_and_strides(tf1: Tf1Client) -> None:
    flat = convolution("Conv2D", (3, 2, 6, 4), dilations=[1, 2, 3, 1], strides=[1, 2, 2, 1])
    check_equal(tf1, flat.rewrite(*PASSES))
    assert dilations(flat) <= {1}


def test_a_dilated_convolution_of_volumes(tf1: Tf1Client) -> None:
    image = (2, 5, 6, 7, 2)
    flat = convolution("Conv3D", (2, 3, 2, 2, 4), image, dilations=[1, 2, 1, 3, 1])
    flat.rewrite(*PASSES)
    assert dilations(flat) <= {1}
    outputs, _ = in_tf1(tf1, flat)
    (filters,) = flat.variables.values()
    import tensorflow as tf

    expected = tf.nn.convolution(flat.inputs[0], filters, padding="SAME", dilations=[2, 1, 3])
    assert_close(outputs[0], expected.numpy(), 1e-5)


def test_a_dilated_depthwise_convolution(tf1: Tf1Client) -> None:
    import tensorflow as tf

    flat = convolution("DepthwiseConv2dNative", (3, 3, 6, 2), dilations=[1, 2, 2, 1])
    flat.rewrite(*PASSES)
    (filters,) = flat.variables.values()
    # What TensorFlow 2 computes as gradient of the raw op is that of one without dilations.
    flat.function = lambda x: tf.nn.depthwise_conv2d(
        x, filters, [1, 1, 1, 1], "SAME", dilations=[2, 2]
    )
    check_equal(tf1, flat)


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_dilated_transposed_layers(tf1: Tf1Client, package: str, rank: int, padding: str) -> None:
    layers = pytest.importorskip(package).layers
    layer = getattr(layers, f"Conv{rank}DTranspose")(4, 2, dilation_rate=2, padding=padding)
    x = array(2, *[5] * rank, 3)
    layer(x)
    flat = flatten(layer, x)
    assert package == "tf_keras" or dilations(flat) == {1, 2}
    check_equal(tf1, flat.rewrite(*PASSES))
    assert dilations(flat) <= {1}


# -- explicit paddings -----------------------------------------------------------------------


def padded(op: str) -> Callable[[Any], Any]:
    import tensorflow as tf

    kernel = variable(3, 3, 6, 2)
    return {
        "depthwise": lambda x: tf.nn.depthwise_conv2d(x, kernel, [1, 2, 2, 1], PADDED),
        "max pool": lambda x: tf.nn.max_pool2d(x, 3, 2, PADDED),
    }[op]


@pytest.mark.parametrize("op", ["depthwise", "max pool"])
def test_explicit_paddings(tf1: Tf1Client, op: str) -> None:
    # A pool that saw zeros beyond the edge would differ where all numbers are negative.
    flat = flatten(padded(op), -np.abs(array(2, 8, 9, 6)))
    check_equal(tf1, flat.rewrite(*PASSES))
    assert flat.report.passes["explicit-padding"] == 1
