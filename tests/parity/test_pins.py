"""Pinned copies draw the same numbers in every TensorFlow, and say what still is random."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import bridge
from bridge._parity.random.pins import _ATTRS, _STATELESS, _attr_names, pin
from bridge._parity.random.random_ops import random_ops
from bridge._surfaces.surface import Call
from bridge.attrs import function_attr, ints_tensor_attr, type_attr
from bridge.convert import (
    ToHubModuleOptions,
    ToSavedModelOptions,
    to_hub_module,
    to_saved_model,
)
from bridge.errors import MalformedError
from bridge.opsets import CURRENT, load_opset
from bridge.proto import tf_pb
from tests.clients.converted import assert_close
from tests.clients.tf1 import Tf1Client

ModuleDir = Callable[[str], Path]

UNVERIFIED = ToSavedModelOptions(verify=False)

IMAGES = np.linspace(0, 1, 2 * 16 * 16 * 3, dtype=np.float32).reshape(2, 16, 16, 3) ** 2

# As many as have two random ops or more on the way to their outputs.
DROPPING = ("toy_image_resource", "toy_image_ref", "digits")


def trained_in_tf2(path: Path, signature: str, images: Any) -> dict[str, NDArray[Any]]:
    import tensorflow as tf

    root = tf.saved_model.load(str(path))
    called = root if signature == "default" else getattr(root, signature)
    outputs = called(tf.constant(images), training=True, return_endpoints=True)
    return {name: value.numpy() for name, value in outputs.items()}


# -- modules and what becomes of them --------------------------------------------------------------


@pytest.mark.tf2
@pytest.mark.parametrize("name", DROPPING)
def test_dropout_of_a_pinned_module_and_of_its_conversion_is_the_same(
    name: str, module_dir: ModuleDir, tmp_path: Path, tf1: Tf1Client
) -> None:
    to_saved_model(module_dir(name), tmp_path / "saved", UNVERIFIED)
    module = pin(module_dir(name), tmp_path / "a", 7)
    saved = pin(tmp_path / "saved", tmp_path / "b", 7)
    assert module.count >= 2
    assert saved.count >= 2
    assert not module.unpinned.ops
    assert not saved.unpinned.ops
    for signature in ("default", "image_classification"):
        wanted = tf1.hub_apply(module.path, {"images": IMAGES}, signature=signature, tags=["train"])
        found = trained_in_tf2(saved.path, signature, IMAGES)
        assert set(found) == set(wanted)
        for output, array in wanted.items():
            assert_close(found[output], array, f"{signature} {output}")
        inference = tf1.hub_apply(module.path, {"images": IMAGES}, signature=signature)
        assert not np.allclose(inference["default"], wanted["default"], rtol=1e-2)


@pytest.mark.tf2
def test_another_seed_draws_other_numbers(module_dir: ModuleDir, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    to_saved_model(module_dir("toy_image_resource"), saved, UNVERIFIED)
    drawn = [
        trained_in_tf2(pin(saved, tmp_path / str(seed), seed).path, "default", IMAGES)["default"]
        for seed in (0, -1, 1 << 40)
    ]
    assert not np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_the_copy_shares_its_checkpoint_and_is_no_module_any_more(
    module_dir: ModuleDir, tmp_path: Path
) -> None:
    saved = tmp_path / "saved"
    to_saved_model(module_dir("toy_image_resource"), saved, UNVERIFIED)
    (saved / "fingerprint.pb").write_bytes(b"of the original")
    before = (saved / "saved_model.pb").read_bytes()
    pinned = pin(saved, tmp_path / "pinned", 0).path
    shard = "variables/variables.data-00000-of-00002"
    assert (saved / shard).samefile(pinned / shard)
    assert not (pinned / "fingerprint.pb").exists()
    assert (saved / "saved_model.pb").read_bytes() == before
    copy = tf_pb.SavedModel.FromString((pinned / "saved_model.pb").read_bytes())
    assert "hubbridge_module" not in copy.meta_graphs[0].collection_def
    assert b"hubbridge_module" in before


# -- what Keras makes, and the modules made of it --------------------------------------------------


def dropping(keras: Any) -> Any:
    """A model with dropout of several kinds, and noise."""
    inputs = keras.Input((16, 16, 3), name="images")
    x = keras.layers.Conv2D(8, 3, activation="relu")(inputs)
    x = keras.layers.SpatialDropout2D(0.4)(x)
    x = keras.layers.GaussianNoise(0.3)(x)
    x = keras.layers.Dropout(0.5)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(5)(keras.layers.Dropout(0.3)(x)))


@pytest.mark.tf2
@pytest.mark.slow
@pytest.mark.parametrize("keras_name", ["keras", "tf_keras"])
def test_dropout_of_keras_and_of_the_module_made_of_it_is_the_same(
    keras_name: str, tmp_path: Path, tf1: Tf1Client
) -> None:
    import importlib

    import tensorflow as tf

    keras = importlib.import_module(keras_name)
    keras.utils.set_random_seed(1)
    model = dropping(keras)

    class Root(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            # Those of its seeds too.
            self.state = [v if keras_name == "tf_keras" else v.value for v in model.variables]

        @tf.function
        def __call__(self, images: Any, training: bool = False) -> Any:
            return model(images, training=training)

    root = Root()
    spec = tf.TensorSpec([None, 16, 16, 3], tf.float32, name="images")
    for training in (False, True):
        root.__call__.get_concrete_function(spec, training)
    tf.saved_model.save(root, str(tmp_path / "saved"))
    to_hub_module(tmp_path / "saved", tmp_path / "module", ToHubModuleOptions(verify=False))
    saved = pin(tmp_path / "saved", tmp_path / "a", 3)
    module = pin(tmp_path / "module", tmp_path / "b", 3)
    assert saved.count >= 4
    assert module.count >= 4
    assert not module.unpinned.ops
    assert not saved.unpinned.ops
    loaded = tf.saved_model.load(str(saved.path))
    wanted = loaded(tf.constant(IMAGES), True).numpy()
    assert np.array_equal(wanted, loaded(tf.constant(IMAGES), True).numpy())
    assert not np.allclose(wanted, model(IMAGES, training=False), rtol=1e-2)
    found = tf1.hub_apply(module.path, {"images": IMAGES}, tags=["train"])
    assert_close(found["default"], wanted, "default")


# -- graphs ----------------------------------------------------------------------------------------


def written(path: Path, graph_def: bytes) -> Path:
    """A SavedModel of nothing but a graph."""
    saved_model = tf_pb.SavedModel()
    saved_model.meta_graphs.add().graph_def.MergeFromString(graph_def)
    path.mkdir()
    (path / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    return path


def pinned_graph(path: Path, graph_def: bytes) -> tf_pb.GraphDef:
    copy = pin(written(path / "source", graph_def), path / "pinned", 5)
    assert not copy.unpinned.ops
    data = (copy.path / "saved_model.pb").read_bytes()
    return tf_pb.SavedModel.FromString(data).meta_graphs[0].graph_def


def run_in_tf2(graph_def: bytes, fetches: list[str]) -> list[NDArray[Any]]:
    import tensorflow as tf

    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(tf.compat.v1.GraphDef.FromString(graph_def), name="")
    config = tf.compat.v1.ConfigProto()
    # It would put right what stands in the wrong frame of a loop.
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    config.graph_options.optimizer_options.opt_level = -1
    with tf.compat.v1.Session(graph=graph, config=config) as session:
        return session.run(fetches)


def all_kinds(tf: Any) -> dict[str, Any]:
    """One of each op that is pinned, in the types that it has."""
    raw, shape = tf.raw_ops, tf.constant([3, 50])
    found = {}
    for dtype in (tf.float16, tf.float32, tf.float64):
        for op in ("RandomUniform", "RandomStandardNormal", "TruncatedNormal"):
            found[f"{op}_{dtype.name}"] = getattr(raw, op)(shape=shape, dtype=dtype)
    for dtype in (tf.int32, tf.int64):
        bounds = {"minval": tf.constant(-9, dtype), "maxval": tf.constant(1000, dtype)}
        found[f"RandomUniformInt_{dtype.name}"] = raw.RandomUniformInt(shape=shape, **bounds)
    found["Multinomial"] = raw.Multinomial(logits=tf.ones([2, 9]), num_samples=30)
    found["StatelessMultinomial"] = raw.StatelessMultinomial(
        logits=tf.ones([2, 9]),
        num_samples=30,
        seed=raw.RandomUniformInt(shape=[2], minval=0, maxval=9),
    )
    return found


@pytest.mark.tf2
def test_each_op_of_old_draws_the_same_in_both_releases(tmp_path: Path, tf1: Tf1Client) -> None:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        names = {name: tensor.name for name, tensor in all_kinds(tf).items()}
    pinned = pinned_graph(tmp_path, graph.as_graph_def().SerializeToString())
    fetches = list(names.values())
    in_tf1, _ = tf1.run_graph(pinned.SerializeToString(), {}, fetches)
    in_tf2 = run_in_tf2(pinned.SerializeToString(), fetches)
    for name, fetch, array in zip(names, fetches, in_tf2, strict=True):
        np.testing.assert_array_equal(in_tf1[fetch], array, name)
        assert len(np.unique(array)) > 5, name


@pytest.mark.tf2
def test_ops_of_today_draw_as_those_of_old(tmp_path: Path) -> None:
    import tensorflow as tf

    old, new = [], []

    @tf.function
    def function(generator: Any) -> Any:
        raw, shape = tf.raw_ops, tf.constant([40])
        key, counter = raw.StatelessRandomGetKeyCounter(
            seed=raw.RandomUniformInt(shape=[2], minval=0, maxval=9)
        )
        keyed = {"shape": shape, "key": key, "counter": counter, "alg": 1}
        stateful = {"resource": generator, "algorithm": tf.constant(1, tf.int64), "shape": shape}
        low, high = tf.constant(-7, tf.int64), tf.constant(7, tf.int64)
        limits = {"minval": tf.int64.min, "maxval": tf.int64.max}
        limits = {name: tf.constant(value, tf.int64) for name, value in limits.items()}
        for wanted, *others in (
            (
                raw.RandomUniform(shape=shape, dtype=tf.float32),
                raw.StatelessRandomUniformV2(**keyed),
                raw.StatefulUniform(**stateful, dtype=tf.float32),
            ),
            (
                raw.RandomStandardNormal(shape=shape, dtype=tf.float32),
                raw.StatelessRandomNormalV2(**keyed),
                raw.StatefulStandardNormalV2(**stateful, dtype=tf.float32),
            ),
            (
                raw.TruncatedNormal(shape=shape, dtype=tf.float32),
                raw.StatelessTruncatedNormalV2(**keyed),
                raw.StatefulTruncatedNormal(**stateful, dtype=tf.float32),
            ),
            (
                raw.RandomUniformInt(shape=shape, minval=low, maxval=high),
                raw.StatelessRandomUniformIntV2(**keyed, minval=low, maxval=high),
                raw.StatefulUniformInt(**stateful, minval=low, maxval=high),
            ),
            (
                raw.RandomUniformInt(shape=shape, **limits),
                raw.StatelessRandomUniformFullIntV2(**keyed, dtype=tf.int64),
                raw.StatefulUniformFullInt(**stateful, dtype=tf.int64),
                raw.StatelessRandomUniformFullInt(
                    shape=shape,
                    seed=raw.RandomUniformInt(shape=[2], minval=0, maxval=9),
                    dtype=tf.int64,
                ),
            ),
        ):
            old.extend([tf.identity(wanted)] * len(others))
            new.extend(map(tf.identity, others))
        unsigned = raw.StatelessRandomUniformFullIntV2(**keyed, dtype=tf.uint32)
        return [*old, *new, unsigned, raw.StatelessRandomGammaV3(**keyed, alpha=2.0)]

    root = tf.Module()
    root.state = tf.Variable([1, 2, 3], dtype=tf.int64)
    root.draw = tf.function(lambda: function(root.state.handle), input_signature=[])
    tf.saved_model.save(root, str(tmp_path / "saved"))
    assert random_ops(tmp_path / "saved").of(Call("callable", "draw"))
    pinned = pin(tmp_path / "saved", tmp_path / "pinned", 5)
    assert not pinned.unpinned.ops
    loaded = tf.saved_model.load(str(pinned.path))
    drawn = [array.numpy() for array in loaded.draw()]
    half = len(old)
    for before, after, tensor in zip(drawn[:half], drawn[half:], new, strict=False):
        np.testing.assert_array_equal(before, after, tensor.name)
    for first, second in zip(drawn, loaded.draw(), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.tf2
def test_a_pin_in_a_loop_of_old_belongs_to_the_loop(tmp_path: Path, tf1: Tf1Client) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    v1.disable_control_flow_v2()
    try:
        with tf.Graph().as_default() as graph:

            def body(i: Any, net: Any) -> Any:
                noise = v1.cond(i < 2, lambda: tf.random.uniform([4]), lambda: tf.zeros([4]))
                return i + 1, net + tf.random.normal(tf.shape(net)) + noise

            loop = v1.while_loop(lambda i, _: i < 5, body, [tf.constant(0), tf.zeros([4])])
            output = tf.identity(loop[1], name="output")
    finally:
        v1.enable_control_flow_v2()
    assert any(op.type == "Enter" for op in graph.get_operations())
    data = pinned_graph(tmp_path, graph.as_graph_def().SerializeToString()).SerializeToString()
    in_tf1, _ = tf1.run_graph(data, {}, [output.name])
    (in_tf2,) = run_in_tf2(data, [output.name])
    np.testing.assert_allclose(in_tf1[output.name], in_tf2, rtol=1e-6)
    assert np.abs(in_tf2).max() > 1


# -- what can't be pinned --------------------------------------------------------------------------


def test_every_op_that_is_replaced_has_what_its_counterpart_takes() -> None:
    ops = load_opset(CURRENT)
    for old_name, new_name in _STATELESS.items():
        old, new = ops[old_name], ops[new_name]
        inputs = {arg.name for arg in old.input_arg}
        assert {arg.name for arg in new.input_arg} - {"seed"} <= inputs
        assert [arg.name for arg in old.output_arg] == [arg.name for arg in new.output_arg]
        attrs = {attr.name for attr in old.attr}
        for key in _attr_names(new):
            assert len(attrs.intersection(_ATTRS[key])) == 1, (old_name, key)


@pytest.mark.tf2
def test_what_is_not_pinned_is_named_where_it_is_reached(tmp_path: Path) -> None:
    import tensorflow as tf

    class Root(tf.Module):  # type: ignore[misc]
        @tf.function
        def __call__(self, x: Any, training: bool = False) -> Any:
            if training:
                return self.shuffled(tf.nn.dropout(x, 0.5))
            return x + tf.random.stateless_uniform([4], [1, 2])

        @tf.function
        def shuffled(self, x: Any) -> Any:
            return tf.random.shuffle(x, name="mix")

    root = Root()
    spec = tf.TensorSpec([4], name="x")
    served = root.__call__.get_concrete_function(spec, False)
    root.__call__.get_concrete_function(spec, True)
    root.shuffled.get_concrete_function(spec)
    tf.saved_model.save(root, str(tmp_path / "saved"), signatures=served)

    def call(training: bool) -> Call:
        arguments = ({"input": "x"},)
        return Call("callable", "__call__", (), arguments, {"training": {"value": training}})

    found = random_ops(tmp_path / "saved")
    assert {op.op for op in found.of(call(True))} == {"RandomUniform", "RandomShuffle"}
    assert not found.of(call(False)), "the seed is a constant"
    assert not found.of(Call("signature", "serving_default"))
    with pytest.raises(MalformedError, match="no callable"):
        found.of(Call("callable", "absent"))
    pinned = pin(tmp_path / "saved", tmp_path / "pinned", 0).unpinned
    (op,) = pinned.of(call(True))
    assert (op.node, op.op) == ("mix", "RandomShuffle")
    assert [op.node for op in pinned.of(Call("callable", "shuffled"))] == ["mix"]
    assert not pinned.of(call(False))


def test_of_a_module_only_what_a_signature_needs_counts(
    module_dir: ModuleDir, tmp_path: Path
) -> None:
    found = random_ops(module_dir("toy_image_ref"))
    nodes = {
        (tags, name): {op.node.split("/")[1] for op in found.of(Call("module", name, tags))}
        for tags in ((), ("train",))
        for name in ("image_feature_vector", "image_classification")
    }
    assert nodes[(), "image_classification"] == set()
    assert nodes[("train",), "image_feature_vector"] == {"Dropout"}
    assert nodes[("train",), "image_classification"] == {"Dropout", "dropout_1"}


def test_update_ops_and_losses_count_in_training(tmp_path: Path) -> None:
    saved_model = tf_pb.SavedModel()
    meta_graph = saved_model.meta_graphs.add()
    nodes = meta_graph.graph_def.node
    const = nodes.add(name="c", op="Const")
    const.attr["dtype"].CopyFrom(type_attr(tf_pb.DT_INT32))
    const.attr["value"].CopyFrom(ints_tensor_attr(tf_pb.DT_INT32, [3]))
    shuffle = nodes.add(name="moved", op="RandomShuffle", input=["c"])
    shuffle.attr["T"].CopyFrom(type_attr(tf_pb.DT_INT32))
    meta_graph.signature_def["default"].outputs["default"].name = "c:0"
    meta_graph.collection_def["update_ops"].node_list.value.append("moved")
    path = tmp_path / "saved_model.pb"
    path.write_bytes(saved_model.SerializeToString())
    call = Call("module", "default")
    assert not random_ops(tmp_path).of(call)
    assert [op.node for op in random_ops(tmp_path).of(call, training=True)] == ["moved"]
    shuffle.input[:] = ["absent"]
    path.write_bytes(saved_model.SerializeToString())
    with pytest.raises(MalformedError, match="absent"):
        pin(tmp_path, tmp_path / "pinned", 0)


def test_a_random_op_in_a_function_counts_where_the_function_is_called(tmp_path: Path) -> None:
    saved_model = tf_pb.SavedModel()
    meta_graph = saved_model.meta_graphs.add()
    nodes = meta_graph.graph_def.node
    call = nodes.add(name="call", op="StatefulPartitionedCall")
    call.attr["f"].CopyFrom(function_attr("draw"))
    call.attr["Tin"].list.SetInParent()
    call.attr["Tout"].list.type.append(tf_pb.DT_INT64)
    meta_graph.signature_def["default"].outputs["default"].name = "call:0"
    function = meta_graph.graph_def.library.function.add()
    function.signature.name = "draw"
    output = function.signature.output_arg.add(name="out")
    output.type = tf_pb.DT_INT64
    node = function.node_def.add(name="ints", op="NonDeterministicInts", input=["shape:output:0"])
    node.attr["dtype"].CopyFrom(type_attr(tf_pb.DT_INT64))
    node.attr["shape_dtype"].CopyFrom(type_attr(tf_pb.DT_INT32))
    shape = function.node_def.add(name="shape", op="Const")
    shape.attr["dtype"].CopyFrom(type_attr(tf_pb.DT_INT32))
    shape.attr["value"].CopyFrom(ints_tensor_attr(tf_pb.DT_INT32, [3]))
    function.ret["out"] = "ints:output:0"
    (tmp_path / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    (op,) = random_ops(tmp_path).of(Call("module", "default"))
    assert str(op) == "NonDeterministicInts 'ints' of function draw"


# -- seeds that stay -------------------------------------------------------------------------------


def seeded(path: Path, constant: int) -> Path:
    """A SavedModel with ops whose seeds are known, are given, move, or do both."""
    import tensorflow as tf

    def draw(seed: Any, name: str) -> Any:
        return tf.raw_ops.StatelessRandomUniform(shape=[3], seed=seed, name=name)

    @tf.function
    def drawn(seed: Any) -> Any:
        return draw(seed, "inner")

    @tf.function
    def shared(seed: Any) -> Any:
        return draw(seed, "either")

    class Root(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.moving = tf.Variable([1, 2], dtype=tf.int64)
            self.captured = tf.constant([constant, 7], tf.int64)

        @tf.function
        def __call__(self, x: Any, seed: Any) -> Any:
            looped = tf.while_loop(
                lambda i, *_: i < 2,
                lambda i, s, t, y: (i + 1, s, t + 1, y + drawn(s) + draw(t, "moved_in_loop")),
                [0, seed, self.moving.read_value(), tf.zeros([3])],
            )
            branch = tf.cond(
                x[0] > -1e9,
                lambda: drawn(tf.constant([constant, 2], tf.int64)),
                lambda: draw(seed + 1, "branch"),
            )
            self.moving.assign_add([1, 1])
            return {
                "captured": draw(self.captured, "captured"),
                "settled": branch + draw(seed, "own") + x,
                "looped": looped[3],
                "either": shared(self.moving.read_value()),
                "other": shared(seed),
                "shuffled": tf.random.shuffle(tf.range(9), name="mix"),
            }

    root = Root()
    specs = tf.TensorSpec([3], name="x"), tf.TensorSpec([2], tf.int64, name="seed")
    served = root.__call__.get_concrete_function(*specs)
    tf.saved_model.save(root, str(path), signatures=served)
    return path


SEEDED = ("captured", "either", "looped", "other", "settled", "shuffled")


@pytest.mark.tf2
def test_a_seed_that_stays_is_no_random_op_and_is_not_pinned(tmp_path: Path) -> None:
    path = seeded(tmp_path / "saved", 3)
    paths = {name: (name,) for name in SEEDED}
    arguments = ({"input": "x"}, {"input": "seed"})
    call = Call("callable", "__call__", (), arguments, outputs=paths)
    served = Call("signature", "serving_default", outputs=paths)
    found = random_ops(path)
    assert {op.node for op in found.of(call)} == {"while/moved_in_loop", "either", "mix"}
    before = {
        output: {op.node for op in found.of(call, output=output)}
        for output in SEEDED
    }  # fmt: skip
    assert before == {
        "captured": set(),
        "either": {"either"},
        "looped": {"while/moved_in_loop"},
        "other": {"either"},
        "settled": set(),
        "shuffled": {"mix"},
    }
    pinned = pin(path, tmp_path / "pinned", 5)
    gone = {op.node for op in found.ops} - {op.node for op in pinned.unpinned.ops}
    assert gone == {"while/moved_in_loop"}
    for each in (call, served):
        left = {name: {op.node for op in pinned.unpinned.of(each, output=name)} for name in SEEDED}
        assert left == {**before, "looped": set()}
    (either,) = pinned.unpinned.of(call, output="either")
    assert "whose seed may move or not" in str(either)


@pytest.mark.tf2
def test_a_changed_seed_fails_although_another_output_can_not_be_compared(tmp_path: Path) -> None:
    report = bridge.parity(
        seeded(tmp_path / "saved", 3), seeded(tmp_path / "other", 4), samples=1, batch_size=2
    )
    found = {
        output: {row.status for row in report.comparisons if row.output == output}
        for output in SEEDED
    }
    assert found == {
        "captured": {bridge.Status.FAIL},
        "either": {bridge.Status.NOT_COMPARABLE},
        "looped": {bridge.Status.PASS},
        "other": {bridge.Status.NOT_COMPARABLE},
        "settled": {bridge.Status.FAIL},
        "shuffled": {bridge.Status.NOT_COMPARABLE},
    }
    assert report.remarks == ["values that update ops write are compared with --train only"]
    reasons = {row.output: row.reason for row in report.comparisons}
    assert "'mix'" in reasons["shuffled"]
    assert "'either'" in reasons["other"]


@pytest.mark.tf2
def test_a_seed_in_a_variable_moves_only_if_something_writes_it(tmp_path: Path) -> None:
    import tensorflow as tf

    def save(name: str, added: int, *, writes: bool = False) -> Path:
        class Root(tf.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.seed = tf.Variable([1, 2], trainable=False)

            @tf.function(input_signature=[tf.TensorSpec([3], name="x")])
            def __call__(self, x: Any) -> Any:
                return x + tf.random.stateless_normal([3], self.seed + added)

        root = Root()
        if writes:
            root.reseed = tf.function(lambda: root.seed.assign_add([1, 1]), input_signature=[])
        tf.saved_model.save(root, str(tmp_path / name), signatures=root.__call__)
        return tmp_path / name

    still = save("still", 0)
    assert not random_ops(still).ops
    assert random_ops(save("reseeded", 0, writes=True)).ops
    found = bridge.parity(still, save("other", 1), samples=1, batch_size=2)
    assert {row.status for row in found.comparisons} == {bridge.Status.FAIL}
    assert not found.remarks


@pytest.mark.parametrize("is_reference", [False, True])
def test_of_a_module_what_initializes_a_seed_does_not_make_it_move(
    is_reference: bool, tmp_path: Path
) -> None:
    saved_model = tf_pb.SavedModel()
    meta_graph = saved_model.meta_graphs.add()
    nodes = meta_graph.graph_def.node
    const = nodes.add(name="c", op="Const")
    const.attr["dtype"].CopyFrom(type_attr(tf_pb.DT_INT32))
    const.attr["value"].CopyFrom(ints_tensor_attr(tf_pb.DT_INT32, [3, 4]))
    variable = nodes.add(name="v", op="VariableV2" if is_reference else "VarHandleOp")
    variable.attr["dtype"].CopyFrom(type_attr(tf_pb.DT_INT32))
    variable.attr["shape"].shape.dim.add(size=2)
    for name in ("initial", "moved"):
        op = "Assign" if is_reference else "AssignVariableOp"
        assign = nodes.add(name=name, op=op, input=["v", "c"])
        assign.attr["T" if is_reference else "dtype"].CopyFrom(type_attr(tf_pb.DT_INT32))
    read = nodes.add(name="read", op="Identity" if is_reference else "ReadVariableOp", input=["v"])
    read.attr["T" if is_reference else "dtype"].CopyFrom(type_attr(tf_pb.DT_INT32))
    draw = nodes.add(name="draw", op="StatelessRandomUniform", input=["c", "read"])
    draw.attr["T"].CopyFrom(type_attr(tf_pb.DT_INT32))
    draw.attr["Tseed"].CopyFrom(type_attr(tf_pb.DT_INT32))
    draw.attr["dtype"].CopyFrom(type_attr(tf_pb.DT_FLOAT))
    meta_graph.signature_def["default"].outputs["default"].name = "draw:0"
    path = tmp_path / "saved_model.pb"
    path.write_bytes(saved_model.SerializeToString())
    assert not random_ops(tmp_path).ops
    meta_graph.collection_def["update_ops"].node_list.value.append("moved")
    path.write_bytes(saved_model.SerializeToString())
    assert [op.node for op in random_ops(tmp_path).ops] == ["draw"]
