"""Random ops draw in TensorFlow 1.15 as they do in TensorFlow 2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bridge.errors import UnsupportedError
from bridge.passes import Pass
from bridge.passes.merge_equal import MergeEqual
from bridge.passes.prune import Prune
from bridge.passes.random_ops import RandomOps
from bridge.passes.separate_updates import SeparateUpdates
from tests.clients.tf1 import Tf1Client
from tests.passes.flat_graphs import FlatFunction, check_equal, in_tf1
from tests.passes.stateful import call_in_tf1, check_calls, rewritten

pytestmark = pytest.mark.tf2

X = np.ones([40, 50], np.float32)


def passes() -> list[Pass]:
    return [MergeEqual(), RandomOps(), SeparateUpdates(), Prune()]


def drawn(flat: FlatFunction) -> bool:
    return "RandomUniformInt" in flat.ops()


def test_a_seed_of_the_user_gives_the_same_numbers(tf1: Tf1Client) -> None:
    import tensorflow as tf

    def call(x: Any, seed: Any) -> Any:
        stateless = tf.random
        return (
            x + stateless.stateless_uniform([40, 50], [1, 2]),
            stateless.stateless_normal([7], seed),
            stateless.stateless_truncated_normal([7], tf.cast(seed, tf.int64), stddev=3.0),
            stateless.stateless_uniform([9], seed, minval=-4, maxval=90, dtype=tf.int32),
            stateless.stateless_uniform([9], seed, maxval=1 << 40, dtype=tf.int64),
            stateless.stateless_uniform([2, 3], seed, dtype=tf.float64),
        )

    seed = np.array([-5, (1 << 31) - 1], np.int32)
    specs = [tf.TensorSpec([40, 50]), tf.TensorSpec([2], tf.int32)]
    flat = rewritten(call, X, seed, passes=passes(), specs=specs)
    assert not drawn(flat)
    check_equal(tf1, flat, gradients=False, tolerance=0)


def test_a_seed_in_a_variable_that_nothing_writes_stays(tf1: Tf1Client) -> None:
    import tensorflow as tf

    state = tf.Variable([3, 4], dtype=tf.int64, trainable=False)
    flat = rewritten(lambda x: x * tf.random.stateless_uniform([50], state), X, passes=passes())
    check_equal(tf1, flat, gradients=False, tolerance=0)


def keras_dropout(tf: Any) -> Callable[..., Any]:
    import keras

    layer = keras.layers.Dropout(0.3)
    layer.build([None, 50])
    return lambda x: layer(x, training=True)


def keras_noise(tf: Any) -> Callable[..., Any]:
    import keras

    layer = keras.layers.GaussianDropout(0.3)
    layer.build([None, 50])
    return lambda x: layer(x, training=True)


def tf_keras_dropout(tf: Any) -> Callable[..., Any]:
    import tf_keras

    layer = tf_keras.layers.Dropout(0.3, rng_type="stateful")
    layer.build([None, 50])
    return lambda x: layer(x, training=True)


def generator(tf: Any) -> Callable[..., Any]:
    source = tf.random.Generator.from_seed(1)
    return lambda x: tf.where(source.uniform(tf.shape(x)) < 0.7, x / 0.7, 0.0)


@pytest.mark.parametrize("make", [keras_dropout, tf_keras_dropout, generator])
def test_dropout_drops_anew_in_each_run_and_needs_no_state(
    tf1: Tf1Client, make: Callable[[Any], Callable[..., Any]]
) -> None:
    import tensorflow as tf

    flat = rewritten(make(tf), X, passes=passes())
    assert not flat.variables
    assert not flat.variant.update_ops
    (first,), _ = call_in_tf1(tf1, flat, 0)
    (second,), _ = call_in_tf1(tf1, flat, 0)
    for output in (first, second):
        values, counts = np.unique(output, return_counts=True)
        np.testing.assert_allclose(values, [0.0, 1 / 0.7], rtol=1e-6)
        assert 0.24 < counts[0] / output.size < 0.36  # 6 standard deviations
    assert 0.3 < np.mean(first != second) < 0.54
    assert {note.kind for note in flat.report.not_kept} == {"variable"}
    assert all(note.kind == "random_op" for note in flat.report.remarks)
    assert flat.report.remarks


def test_noise_has_the_same_distribution(tf1: Tf1Client) -> None:
    import tensorflow as tf

    flat = rewritten(keras_noise(tf), X, passes=passes())
    (output,), _ = call_in_tf1(tf1, flat, 0)
    assert abs(output.mean() - 1.0) < 0.09
    assert abs(output.std() / np.sqrt(0.3 / 0.7) - 1.0) < 0.1


def test_each_op_draws_for_itself(tf1: Tf1Client) -> None:
    import tensorflow as tf

    source = tf.random.Generator.from_seed(1)
    flat = rewritten(
        lambda x: (x * source.uniform([50]), x * source.uniform([50])), X, passes=passes()
    )
    first, second = in_tf1(tf1, flat)[0]
    assert np.mean(first == second) < 0.01


def test_ops_that_share_a_seed_draw_the_same(tf1: Tf1Client) -> None:
    import tensorflow as tf

    state = tf.Variable([3, 4], dtype=tf.int64, trainable=False)

    def call(x: Any) -> Any:
        seed = state.read_value()
        state.assign_add([0, 1])
        first = tf.random.stateless_uniform([50], seed)
        second = tf.random.stateless_uniform([25], seed, minval=1.0, maxval=2.0)
        return x * first, second, tf.random.stateless_uniform([25], seed + 1)

    flat = rewritten(call, X, passes=passes())
    first, second, third = in_tf1(tf1, flat)[0]
    np.testing.assert_allclose(first[0, :25] + 1.0, second, rtol=1e-5)
    assert np.mean(np.abs(second - 1.0 - third) < 1e-5) < 0.05


def test_state_that_is_also_given_is_kept_and_moved_on_by_an_update_op(tf1: Tf1Client) -> None:
    import tensorflow as tf

    state = tf.Variable([3, 4], dtype=tf.int64, trainable=False)

    def call(x: Any) -> Any:
        seed = state.read_value()
        state.assign_add([0, 1])
        return x * 0.0 * tf.random.stateless_uniform([50], seed), seed

    check_calls(tf1, rewritten(call, X, passes=passes()))


def test_random_ops_in_a_body_draw_anew(tf1: Tf1Client) -> None:
    import tensorflow as tf

    source = tf.random.Generator.from_seed(1)

    def call(x: Any) -> Any:
        for _ in tf.range(3):
            x = tf.concat(
                [x, source.uniform([40, 50]), tf.random.stateless_uniform([40, 2], [5, 6])], 1
            )
            x = x[:, -104:]
        return x

    specs = [tf.TensorSpec([40, 104])]
    flat = rewritten(call, np.ones([40, 104], np.float32), passes=passes(), specs=specs)
    (output,) = in_tf1(tf1, flat)[0]
    assert np.mean(output[:, :50] == output[:, 52:102]) < 0.01
    expected = tf.random.stateless_uniform([40, 2], [5, 6]).numpy()
    np.testing.assert_array_equal(output[:, 50:52], expected)
    np.testing.assert_array_equal(output[:, 102:], expected)
    (remark,) = flat.report.remarks
    assert remark.kind == "random_op"
    assert flat.graph.nodes[remark.name].op == "VarHandleOp"  # and no argument of the body


def test_an_algorithm_that_1_15_does_not_have_is_refused() -> None:
    import tensorflow as tf

    def call(x: Any, seed: Any) -> Any:
        key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)
        return x * tf.raw_ops.StatelessRandomUniformV2(shape=[50], key=key, counter=counter, alg=2)

    specs = [tf.TensorSpec([40, 50]), tf.TensorSpec([2], tf.int32)]
    with pytest.raises(UnsupportedError, match="another algorithm than Philox"):
        rewritten(call, X, np.array([1, 2], np.int32), passes=passes(), specs=specs)


def test_a_key_of_the_users_own_is_refused() -> None:
    import tensorflow as tf

    def call(x: Any, key: Any) -> Any:
        key = tf.cast(key, tf.uint64)
        draw = tf.raw_ops.StatelessRandomUniformV2
        return x * draw(shape=[50], key=key[:1], counter=key, alg=1)

    specs = [tf.TensorSpec([40, 50]), tf.TensorSpec([2], tf.int32)]
    with pytest.raises(UnsupportedError, match="gets a key that"):
        rewritten(call, X, np.array([1, 2], np.int32), passes=passes(), specs=specs)


def test_integers_of_all_bits_are_refused_where_the_seed_is_given() -> None:
    import tensorflow as tf

    def call(x: Any, seed: Any) -> Any:
        return tf.random.stateless_uniform([50], seed, None, None, tf.int32)

    specs = [tf.TensorSpec([40, 50]), tf.TensorSpec([2], tf.int32)]
    with pytest.raises(UnsupportedError, match="no form in TensorFlow 1"):
        rewritten(call, X, np.array([1, 2], np.int32), passes=passes(), specs=specs)
