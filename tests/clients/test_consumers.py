"""What people load SavedModels with takes a converted module."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.convert import ToSavedModelOptions, to_saved_model
from bridge.proto import hub_pb, tf_pb
from tests.attacks.edit import copy_module, meta_graph
from tests.clients.converted import assemble, assert_close, converted
from tests.clients.tf1 import Tf1Client
from tests.conftest import TESTDATA, Golden

pytestmark = pytest.mark.tf2

IMAGE_MODULES = ["toy_image_resource", "toy_image_ref"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("consumers")


@pytest.fixture
def path_of(directory: Path) -> Callable[[str], Path]:
    return lambda module: converted(module, directory)


def digits() -> tuple[Any, Any]:
    """Handwritten digits that the net has not seen, float32 RGB in [0, 1], and their labels."""
    with np.load(TESTDATA / "digits.npz") as data:
        images, labels = data["images"][4::5], data["labels"][4::5]
    large = images.repeat(2, axis=1).repeat(2, axis=2)[..., None]
    scaled = np.rint(large * 255.0 / 16.0).astype(np.float32) / np.float32(255.0)
    return scaled.repeat(3, axis=-1), labels.astype(np.int64)


def photos() -> Any:
    """The photos of testdata, as one batch for the toy modules."""
    import tensorflow as tf

    files = sorted((TESTDATA / "images" / "photos").glob("*.jp*g"))
    images = [tf.io.decode_jpeg(file.read_bytes(), channels=3) for file in files]
    resized = [
        tf.image.resize(tf.image.convert_image_dtype(i, tf.float32), [16, 16]) for i in images
    ]
    return tf.stack(resized)


def statistics(variables: Any) -> dict[str, Any]:
    return {v.name: v.numpy() for v in variables if "moving_" in v.name}


# -- objects ------------------------------------------------------------------------------------


def test_the_callable_takes_every_documented_form(path_of: Callable[[str], Path]) -> None:
    import tensorflow as tf

    obj = tf.saved_model.load(str(path_of("toy_image_ref")))
    images = photos()
    features = obj(images)
    assert features.shape == [len(images), 8]
    assert features.dtype == tf.float32
    for again in (
        obj(images, False),
        obj(images, False, False),
        obj(images=images),
        obj({"images": images}),
        obj(images.numpy()),
        obj(images, training=False, return_endpoints=False),
        obj(images, return_endpoints=True)["default"],
        obj.image_feature_vector(images),
        obj.default(images),
    ):
        np.testing.assert_array_equal(again, features)
    assert obj(images[:1]).shape == [1, 8]
    endpoints = obj(images, return_endpoints=True)
    assert sorted(endpoints) == ["Toy/block2", "Toy/block3", "Toy/conv1", "default"]
    assert obj.image_classification(images, training=True).shape == [len(images), 5]
    with pytest.raises(Exception, match="Could not find matching concrete function"):
        obj(images[..., :1])


def test_a_signature_without_default_returns_the_dictionary(
    path_of: Callable[[str], Path],
) -> None:
    import tensorflow as tf

    obj = tf.saved_model.load(str(path_of("multi_input")))
    spec = obj.signatures["serving_default"].structured_input_signature[1]
    inputs = {
        n: tf.ones([2 if d is None else d for d in s.shape], s.dtype) for n, s in spec.items()
    }
    assert sorted(obj(inputs)) == ["product", "sum"]
    assert obj(inputs=inputs).keys() == obj(inputs, return_endpoints=True).keys()
    assert isinstance(obj.scored(inputs), tf.Tensor)


def test_a_module_without_default_signature_has_no_call(path_of: Callable[[str], Path]) -> None:
    import tensorflow as tf

    obj = tf.saved_model.load(str(path_of("no_default_signature")))
    assert not callable(obj)
    assert sorted(obj.signatures) == ["squash"]
    assert callable(obj.squash)


def test_variants_of_their_own_are_subobjects(path_of: Callable[[str], Path]) -> None:
    import tensorflow as tf

    obj = tf.saved_model.load(str(path_of("own_tags")))
    assert not callable(obj)
    assert sorted(obj.signatures) == ["bs16/default", "bs16_train/default"]
    features = tf.ones([16, 4])
    assert obj.bs16(features).shape == [16, 3]
    before = statistics(obj.bs16_train.variables)
    obj.bs16_train(features)
    assert all((v == before[n]).all() for n, v in statistics(obj.variables).items())
    obj.bs16_train(features, training=True)
    assert all((v != before[n]).any() for n, v in statistics(obj.variables).items())
    only = tf.saved_model.load(str(path_of("single_tag")))
    assert callable(only)
    assert callable(only.special)


def test_variant_option_makes_one_variant_the_root(tmp_path: Path) -> None:
    import tensorflow as tf

    options = ToSavedModelOptions(variant=frozenset({"bs16"}))
    to_saved_model(TESTDATA / "modules" / "own_tags", tmp_path / "out", options)
    obj = tf.saved_model.load(str(tmp_path / "out"))
    features = tf.ones([16, 4])
    np.testing.assert_array_equal(obj(features), obj.bs16(features))
    assert sorted(obj.signatures) == ["default", "serving_default"]


def test_training_false_changes_nothing_and_training_true_moves_the_averages(
    path_of: Callable[[str], Path],
) -> None:
    import tensorflow as tf

    obj = tf.saved_model.load(str(path_of("toy_image_ref")))
    before = {v.name: v.numpy() for v in obj.variables}
    obj(photos())
    obj.image_classification(photos(), training=False)
    assert all((v.numpy() == before[v.name]).all() for v in obj.variables)
    first, second = obj(photos(), training=True), obj(photos(), training=True)
    assert (first != second).numpy().any(), "dropout acts"
    moved = {v.name for v in obj.variables if (v.numpy() != before[v.name]).any()}
    assert moved == set(statistics(obj.variables))


def test_gradients_reach_every_trainable_variable(path_of: Callable[[str], Path]) -> None:
    import tensorflow as tf

    obj = tf.saved_model.load(str(path_of("digits")))
    images, labels = digits()
    with tf.GradientTape() as tape:
        logits = obj(images, training=True)
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        )
        loss += tf.add_n([regularizer() for regularizer in obj.regularization_losses])
    gradients = tape.gradient(loss, list(obj.trainable_variables))
    assert all(gradient is not None for gradient in gradients)
    assert all(np.isfinite(tf.convert_to_tensor(gradient)).all() for gradient in gradients)


def test_the_trained_module_still_reads_digits(path_of: Callable[[str], Path]) -> None:
    import tensorflow as tf

    obj = tf.saved_model.load(str(path_of("digits")))
    images, labels = digits()
    assert np.mean(np.argmax(obj(images), axis=-1) == labels) > 0.97


@pytest.mark.parametrize("module", IMAGE_MODULES)
def test_hub_keras_layer_fine_tunes(module: str, path_of: Callable[[str], Path]) -> None:
    import tensorflow_hub as hub
    import tf_keras

    tf_keras.utils.set_random_seed(1)
    layer = hub.KerasLayer(str(path_of(module)), trainable=True)
    model = tf_keras.Sequential([layer, tf_keras.layers.Dense(10)])
    model.compile(
        tf_keras.optimizers.Adam(0.01),
        tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    images, labels = digits()
    model(images)
    assert len(layer.trainable_weights) == 10
    assert len(layer.losses) == 3
    before = statistics(layer.weights)
    history = model.fit(images, labels, epochs=8, batch_size=64, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert all((v != before[n]).any() for n, v in statistics(layer.weights).items())
    frozen = hub.KerasLayer(str(path_of(module)), trainable=False)
    frozen(images)
    assert frozen.trainable_weights == []


def test_hub_load_gives_the_same_object(path_of: Callable[[str], Path]) -> None:
    import tensorflow as tf
    import tensorflow_hub as hub

    path = str(path_of("toy_image_resource"))
    np.testing.assert_array_equal(hub.load(path)(photos()), tf.saved_model.load(path)(photos()))


@pytest.mark.parametrize(
    "module", ["toy_image_ref", "text_vocab", "assets_many", "partitioned", "control_flow_ref"]
)
def test_saving_again_and_loading_keeps_everything(
    module: str,
    path_of: Callable[[str], Path],
    tmp_path: Path,
    golden: Callable[[str], Golden],
) -> None:
    import tensorflow as tf

    recorded = golden(module)
    facts = recorded.facts["variants"][0]["signatures"]["default"]
    inputs = assemble(recorded.under("|default|in"), facts["inputs"])
    first = tf.saved_model.load(str(path_of(module)))
    tf.saved_model.save(first, str(tmp_path / "again"))
    again = tf.saved_model.load(str(tmp_path / "again"))
    assert sorted(v.name for v in again.variables) == sorted(v.name for v in first.variables)
    assert len(again.trainable_variables) == len(first.trainable_variables)
    assert len(again.regularization_losses) == len(first.regularization_losses)
    found = again(inputs, return_endpoints=True)
    for name, value in first(inputs, return_endpoints=True).items():
        np.testing.assert_array_equal(found[name], value)
    with tf.GradientTape() as tape:
        output = again(inputs, training=True)
    assert any(g is not None for g in tape.gradient(output, list(again.trainable_variables)))


def test_keras_3_takes_it_as_a_layer(path_of: Callable[[str], Path]) -> None:
    import keras
    import tensorflow as tf

    path = str(path_of("toy_image_ref"))
    layer = keras.layers.TFSMLayer(path, call_endpoint="image_classification")
    inputs = keras.Input([16, 16, 3])
    model = keras.Model(inputs, layer(inputs))
    obj = tf.saved_model.load(path)
    wanted = obj.image_classification(photos())
    np.testing.assert_allclose(model.predict(photos(), verbose=0), wanted, rtol=1e-5, atol=1e-6)
    called = keras.layers.TFSMLayer(path, call_endpoint="__call__")
    np.testing.assert_array_equal(called(photos()), obj(photos()))


def test_a_checkpoint_reader_finds_variables_by_name(path_of: Callable[[str], Path]) -> None:
    import tensorflow as tf

    path = path_of("toy_image_ref")
    obj = tf.saved_model.load(str(path))
    before = [variable.numpy() for variable in obj.variables]
    for variable in obj.variables:
        variable.assign(tf.zeros_like(variable))
    checkpoint = tf.train.Checkpoint(obj)
    checkpoint.read(str(path / "variables" / "variables")).assert_existing_objects_matched()
    for variable, value in zip(obj.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    names = {name for name, _ in tf.train.list_variables(str(path / "variables" / "variables"))}
    assert "Toy/conv1/kernel/.ATTRIBUTES/VARIABLE_VALUE" in names


def test_a_distribution_strategy_mirrors_it(path_of: Callable[[str], Path]) -> None:
    import tensorflow as tf

    path = str(path_of("toy_image_ref"))
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    with strategy.scope():
        obj = tf.saved_model.load(path)
    found = strategy.run(obj, (photos(),))
    np.testing.assert_allclose(found, tf.saved_model.load(path)(photos()), rtol=1e-6)


# -- graphs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["toy_image_ref", "text_vocab", "assets_many", "no_variables"])
def test_a_v1_session_serves_every_signature(
    module: str, path_of: Callable[[str], Path], golden: Callable[[str], Golden]
) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    recorded = golden(module)
    facts = recorded.facts["variants"][0]["signatures"]
    with tf.Graph().as_default(), v1.Session() as session:
        loaded = v1.saved_model.load(session, ["serve"], str(path_of(module)))
        names = {*facts, "serving_default", "__saved_model_init_op"}
        assert set(loaded.signature_def) == names
        for name in sorted(names - {"__saved_model_init_op"}):
            signature = loaded.signature_def[name]
            case = "default" if name == "serving_default" else facts[name]["same_as"] or name
            arrays = recorded.under(f"|{case}|in")
            feeds = {info.name: arrays[key].astype(object if arrays[key].dtype.kind == "S"
                     else arrays[key].dtype) for key, info in signature.inputs.items()}  # fmt: skip
            fetches = {key: info.name for key, info in signature.outputs.items()}
            wanted = recorded.under(f"|{case}|out")
            for key, array in session.run(fetches, feeds).items():
                assert_close(array, wanted[key], f"{name} {key}")
            for key, info in signature.inputs.items():
                shape = [d.size if d.size >= 0 else None for d in info.tensor_shape.dim]
                assert shape == facts[case]["inputs"][key]["shape"]


def test_the_graph_saves_and_restores_its_variables(
    path_of: Callable[[str], Path], tmp_path: Path
) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session() as session:
        loaded = v1.saved_model.load(session, ["serve"], str(path_of("toy_image_ref")))
        saver = v1.train.Saver(saver_def=loaded.saver_def)
        variable = graph.get_tensor_by_name("Toy/conv1/kernel/Read/ReadVariableOp:0")
        before = session.run(variable)
        saver.save(session, str(tmp_path / "saved"), write_meta_graph=False)
        assign = v1.raw_ops.AssignVariableOp(
            resource=graph.get_tensor_by_name("Toy/conv1/kernel:0"), value=np.zeros_like(before)
        )
        session.run(assign)
        assert not session.run(variable).any()
        saver.restore(session, str(tmp_path / "saved"))
        np.testing.assert_array_equal(session.run(variable), before)


def test_saved_model_cli_shows_and_runs_it(
    path_of: Callable[[str], Path], tmp_path: Path, golden: Callable[[str], Golden]
) -> None:
    cli = Path(sys.executable).with_name("saved_model_cli")
    path = str(path_of("digits"))
    shown = subprocess.run(
        [cli, "show", "--dir", path, "--all"], capture_output=True, text=True, check=True
    ).stdout
    assert "signature_def['image_classification']" in shown
    assert "Function Name: '__call__'" in shown
    recorded = golden("digits")
    np.save(tmp_path / "images.npy", recorded.arrays["|default|in|images"])
    (tmp_path / "Digits").mkdir()  # saved_model_cli makes a file of each output's name
    subprocess.run(
        [cli, "run", "--dir", path, "--tag_set", "serve", "--signature_def", "serving_default",
         "--inputs", f"images={tmp_path}/images.npy", "--outdir", str(tmp_path)],
        capture_output=True, check=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    found = np.load(tmp_path / "default.npy")
    assert_close(found, recorded.arrays["|default|out|default"], "default")


def test_tflite_converts_it(
    path_of: Callable[[str], Path], golden: Callable[[str], Golden]
) -> None:
    import tensorflow as tf

    recorded = golden("digits")
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(path_of("digits")), signature_keys=["image_classification"]
    )
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    run = interpreter.get_signature_runner("image_classification")
    found = run(images=recorded.arrays["|default|in|images"])["default"]
    assert_close(found, recorded.arrays["|default|out|default"], "default", rtol=1e-4)


@pytest.mark.parametrize("module", ["toy_image_ref", "text_vocab", "control_flow_resource"])
def test_tensorflow_1_15_loads_the_graph_and_the_object(
    module: str, tf1: Tf1Client, path_of: Callable[[str], Path], golden: Callable[[str], Golden]
) -> None:
    recorded = golden(module)
    inputs = recorded.under("|default|in")
    wanted = recorded.under("|default|out")
    found = tf1.saved_model_signature(path_of(module), inputs)
    for name, array in wanted.items():
        assert_close(found[name], array, name)
    loaded = tf1.saved_model_v2(path_of(module), inputs)
    for name, array in wanted.items():
        assert_close(loaded.outputs[name], array, name)
    assert [v.removesuffix(":0") for v in loaded.variables] == sorted(recorded.under("var"))


# -- files --------------------------------------------------------------------------------------


def test_the_output_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    program = "import sys, bridge.convert as c; c.to_saved_model(sys.argv[1], sys.argv[2])"
    for module in ("toy_image_ref", "assets_many", "control_flow_ref", "multi_variant"):
        source = str(TESTDATA / "modules" / module)
        for seed in ("1", "2"):
            dest = str(tmp_path / seed / module)
            subprocess.run(
                [sys.executable, "-c", program, source, dest],
                check=True,
                env={**os.environ, "PYTHONHASHSEED": seed},
            )
    files = [p.relative_to(tmp_path / "1") for p in (tmp_path / "1").rglob("*") if p.is_file()]
    assert files
    for file in files:
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes(), file


def test_attachments_are_in_the_collection_of_the_old_format(
    path_of: Callable[[str], Path], golden: Callable[[str], Golden]
) -> None:
    import base64

    data = (path_of("toy_image_ref") / "saved_model.pb").read_bytes()
    (message,) = tf_pb.SavedModel.FromString(data).meta_graphs
    values = message.collection_def["hub_module_attachments"].bytes_list.value
    found = {a.key: a.value for a in map(hub_pb.ModuleAttachment.FromString, values)}
    wanted = golden("toy_image_ref").facts["variants"][0]["attachments"]
    assert found == {key: base64.b64decode(value) for key, value in wanted.items()}
    info = hub_pb.ImageModuleInfo.FromString(found["image_module_info"])
    assert (info.default_image_size.height, info.default_image_size.width) == (16, 16)


def test_assets_of_one_base_name_stay_apart(path_of: Callable[[str], Path]) -> None:
    for name in ("words.txt", "words.txt0"):
        copied = path_of("assets_many") / "assets" / name
        assert copied.read_bytes() == (TESTDATA / "modules/assets_many/assets" / name).read_bytes()


def test_a_signature_that_reads_the_path_of_an_asset_works_in_tf2_and_in_a_v1_session(
    tmp_path: Path,
) -> None:
    import tensorflow as tf

    module, dest = copy_module("text_vocab", tmp_path), tmp_path / "out"
    with meta_graph(module) as message:
        (asset,) = message.collection_def["asset_filepaths"].node_list.value
        path_info = message.signature_def["default"].outputs["path"]
        path_info.name, path_info.dtype = asset, tf_pb.DT_STRING
        path_info.tensor_shape.SetInParent()
    to_saved_model(module, dest)

    (copied,) = (dest / "assets").iterdir()
    obj = tf.saved_model.load(str(dest))
    found = obj(tf.constant(["a b"]), return_endpoints=True)["path"].numpy()
    assert Path(found.decode()) == copied
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(dest))
        signature = meta.signature_def["serving_default"]
        feeds = {signature.inputs["text"].name: ["a b"]}
        assert Path(session.run(signature.outputs["path"].name, feeds).decode()) == copied


def test_sparse_and_ragged_serving_signatures_take_their_parts_by_keyword(
    path_of: Callable[[str], Path], golden: Callable[[str], Golden]
) -> None:
    import tensorflow as tf

    obj = tf.saved_model.load(str(path_of("sparse_input")))
    arrays = golden("sparse_input").under("|default|in")
    keywords = {key.replace("|", "_"): tf.constant(array) for key, array in arrays.items()}
    found = obj.signatures["serving_default"](**keywords)["default"]
    assert_close(found.numpy(), golden("sparse_input").arrays["|default|out|default"], "default")

    obj = tf.saved_model.load(str(path_of("ragged_input")))
    arrays = golden("ragged_input").under("|default|in")
    found = obj.signatures["serving_default"](
        ids_0=tf.constant(arrays["ids|values"]), ids_1=tf.constant(arrays["ids|row_splits_0"])
    )["default"]
    assert_close(found.numpy(), golden("ragged_input").arrays["|default|out|default"], "default")
