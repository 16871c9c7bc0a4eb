"""Single ops that TensorFlow 1.15 lacks or differentiates otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bridge.errors import UnsupportedError
from bridge.passes.older_ops import OlderOps
from tests.clients.tf1 import Tf1Client
from tests.passes.flat_graphs import check_equal, flatten, in_tf1

pytestmark = pytest.mark.tf2

IDS = np.array([[1, 2, 2], [0, 7, 1]], np.int32)


def array(*shape: int, low: float = -1.0) -> np.ndarray:
    return np.random.default_rng(9).uniform(low, 1.0, size=shape).astype(np.float32)


def _cases() -> dict[str, tuple[str, Callable[..., Any], tuple[np.ndarray, ...]]]:
    """Returns op, function and inputs by name; TensorFlow is imported when a function runs."""

    class Lazy:
        def __getattr__(self, name: str) -> Any:
            import tensorflow as tf

            return getattr(tf, name)

    tf: Any = Lazy()
    square, pair = array(2, 4, 4), (array(3, 4, low=0.1), array(3, 4))
    return {
        "a product": (
            "BatchMatMulV3",
            lambda x: tf.raw_ops.BatchMatMulV3(x=x, y=x, Tout=tf.float32, adj_y=True),
            (square,),
        ),
        "a product of integers": (
            "BatchMatMulV3",
            lambda i: tf.raw_ops.BatchMatMulV3(
                x=tf.cast(i, tf.int8), y=tf.cast(i, tf.uint8), Tout=tf.int32, adj_x=True
            ),
            (IDS,),
        ),
        "a diagonal matrix": ("MatrixDiagV3", lambda x: tf.linalg.diag(x[:, 0]), (square,)),
        "a diagonal": ("MatrixDiagPartV3", tf_call("linalg.diag_part"), (square,)),
        "another diagonal": (
            "MatrixSetDiagV3",
            lambda x: tf.linalg.set_diag(x, x[:, 0] * 2.0),
            (square,),
        ),
        "a logarithm": ("Xlog1py", tf_call("math.xlog1py"), pair),
        "a logarithm, broadcast": ("Xlog1py", lambda x, y: tf.math.xlog1py(x, y[:1]), pair),
        "a logarithm of what is no number": (
            "Xlog1py",
            lambda x, y: tf.math.xlog1py(x * tf.constant([0.0, 0.0, 1.0, 1.0]), y - [1, 9, 0, 0]),
            pair,
        ),
        "a clip": (
            "ClipByValue",
            lambda x: tf.raw_ops.ClipByValue(t=x, clip_value_min=-0.3, clip_value_max=0.4),
            (array(5, 7),),
        ),
        "a norm": ("EuclideanNorm", lambda x: tf.math.reduce_euclidean_norm(x, 1), (square,)),
        "a norm that keeps its axes": (
            "EuclideanNorm",
            lambda x: tf.math.reduce_euclidean_norm(x, [0, 2], keepdims=True),
            (square,),
        ),
        "an angle, broadcast": ("Atan2", lambda x, y: tf.math.atan2(x, y[:1]), pair),
        "a gather behind the batch": (
            "GatherV2",
            lambda x, i: tf.gather(x, tf.minimum(i, 3), axis=3, batch_dims=1),
            (array(2, 2, 3, 4, 2), IDS),
        ),
        "a gather of single elements behind the batch": (
            "GatherV2",
            lambda x, i: tf.gather(x, tf.minimum(i[:, 0], 3), axis=-1, batch_dims=1),
            (array(2, 2, 4), IDS),
        ),
        "counts": (
            "DenseBincount",
            lambda i: tf.math.bincount(i, minlength=4, maxlength=4, axis=-1),
            (IDS,),
        ),
        "counts of one row": (
            "DenseBincount",
            lambda i: tf.raw_ops.DenseBincount(input=i, size=4, weights=tf.zeros([0])),
            (IDS[0],),
        ),
        "counts of weights": (
            "DenseBincount",
            lambda i, w: tf.math.bincount(i, w, minlength=9, maxlength=9, axis=-1),
            (IDS, array(2, 3)),
        ),
        "what occurs": (
            "DenseBincount",
            lambda i: tf.math.bincount(i, minlength=4, maxlength=4, axis=-1, binary_output=True),
            (IDS,),
        ),
        "a mean of segments": ("SparseSegmentMean", segments("mean"), (array(4, 3),)),
        "a sum of segments": ("SparseSegmentSum", segments("sum"), (array(4, 3),)),
        "a weighted mean of segments": ("SparseSegmentSqrtN", segments("sqrt_n"), (array(4, 3),)),
        "a sum of some segments": (
            "SparseSegmentSumWithNumSegments",
            segments("sum", num_segments=5),
            (array(4, 3),),
        ),
        "an update of a slice": (
            "TensorStridedSliceUpdate",
            lambda x, y: tf.raw_ops.TensorStridedSliceUpdate(
                input=x * 2.0 + 1.0, begin=[1, 0], end=[0, 3], strides=[1, 2], value=y, end_mask=1
            ),
            (array(4, 3), array(3, 2)),
        ),
        "an update of a row": (
            "TensorStridedSliceUpdate",
            lambda x, y: tf.raw_ops.TensorStridedSliceUpdate(
                input=tf.cast(x * 9.0, tf.int64) + 1,
                begin=np.int64([-1]),
                end=np.int64([0]),
                strides=np.int64([1]),
                value=tf.cast(y * 9.0, tf.int64),
                shrink_axis_mask=1,
            ),
            (array(4, 3), array(3)),
        ),
    }


def segments(kind: str, **options: Any) -> Callable[..., Any]:
    def call(x: Any) -> Any:
        import tensorflow as tf

        ids = tf.constant([0, 0, 2, 2, 2], tf.int64)
        function = getattr(tf.sparse, f"segment_{kind}")
        return function(x, tf.constant([3, 0, 1, 1, 2]), ids, **options)

    return call


def tf_call(path: str) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        import tensorflow as tf

        function: Any = tf
        for name in path.split("."):
            function = getattr(function, name)
        return function(*args)

    return call


CASES = _cases()


@pytest.mark.parametrize("name", CASES)
def test_an_op_gives_the_same_numbers_and_gradients(tf1: Tf1Client, name: str) -> None:
    op, function, inputs = CASES[name]
    flat = flatten(function, *inputs)
    assert op in flat.ops()
    flat.rewrite(OlderOps())
    assert flat.report.passes["older-ops"] == 1
    # Products of integers have none, nor has counting in TensorFlow 2.
    floats = any(tensor.dtype.is_floating for tensor in flat.inputs)
    check_equal(
        tf1, flat, gradients=floats and op != "DenseBincount" and name != "an update of a row"
    )


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
@pytest.mark.parametrize("mode", ["multi_hot", "count", "one_hot"])
def test_category_encoding(tf1: Tf1Client, package: str, mode: str) -> None:
    layers = pytest.importorskip(package).layers
    layer = layers.CategoryEncoding(8, output_mode=mode)
    inputs = IDS[:, :1] if mode == "one_hot" else IDS
    flat = flatten(layer, inputs).rewrite(OlderOps())
    assert "DenseBincount" not in flat.ops()
    check_equal(tf1, flat, gradients=False)


def test_several_diagonals_are_left_to_the_check_of_the_release() -> None:
    import tensorflow as tf

    for k in (1, (-1, 1)):
        flat = flatten(lambda x, k=k: tf.linalg.diag_part(x, k=k), array(2, 4, 4))
        assert "MatrixDiagPartV3" in flat.rewrite(OlderOps()).ops()


def test_equal_shapes_need_no_broadcast() -> None:
    import tensorflow as tf

    x = array(3, 4)
    flat = flatten(tf.math.atan2, x, x, specs=[tf.TensorSpec([3, 4])] * 2).rewrite(OlderOps())
    assert flat.report.passes["older-ops"] == 0


def test_a_gather_of_unknown_rank_is_refused_by_name() -> None:
    import tensorflow as tf

    flat = flatten(
        lambda x, i: tf.raw_ops.GatherV2(params=x, indices=i, axis=2, batch_dims=1),
        array(2, 3, 4),
        IDS,
        specs=[tf.TensorSpec(None), tf.TensorSpec([2, 3], tf.int32)],
    )
    with pytest.raises(UnsupportedError, match=r"wrong gradient .*node 'GatherV2'"):
        flat.rewrite(OlderOps())


def test_a_choice_by_device_takes_what_is_for_cpus(tf1: Tf1Client) -> None:
    import tensorflow as tf

    flat = flatten(
        lambda x: tf.cast(tf.raw_ops.DeviceIndex(device_names=["GPU", "CPU"]), tf.float32) + x,
        array(2),
    )
    outputs, _ = in_tf1(tf1, flat.rewrite(OlderOps()))
    np.testing.assert_array_equal(outputs[0], flat.inputs[0].numpy() + 1)
