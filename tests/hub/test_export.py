"""What ModuleSpec.export writes, takes from checkpoints, and refuses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bridge
from bridge.bundle import read_index
from bridge.hub_module import read_hub_module
from bridge.report import Report
from tests.clients.records import inputs_of
from tests.clients.tf1 import Tf1Client
from tests.conftest import TESTDATA, Golden
from tests.hub import made
from tests.hub.made import v1_control_flow

pytestmark = pytest.mark.tf2

FEATURES = {"features": np.float32([[1, 2, 3], [4, 5, 6]])}
ROWS = {"rows": np.arange(14, dtype=np.float32).reshape(2, 7)}


def create(module_fn: Callable[..., object], *args: Any) -> Any:
    from bridge import hub

    return hub.create_module_spec(module_fn, *args)


def save(prefix: Path, **values: Any) -> str:
    """Writes a checkpoint with the values, whose names have `/` for `__`."""
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [
            tf.compat.v1.get_variable(name.replace("__", "/"), initializer=value)
            for name, value in values.items()
        ]
        session.run(tf.compat.v1.global_variables_initializer())
        return tf.compat.v1.train.Saver(variables).save(session, str(prefix))


def scale_net() -> None:
    """Multiplies by a variable of three."""
    import tensorflow as tf

    from bridge import hub

    features = tf.compat.v1.placeholder(tf.float32, [None, 3])
    kernel = tf.compat.v1.get_variable(
        "net/kernel", [3], initializer=tf.compat.v1.initializers.constant([2.0, 3.0, 4.0])
    )
    hub.add_signature(inputs={"features": features}, outputs=features * kernel)


# -- a module that is loaded and exported is the module that it was -----------------------------


@pytest.mark.parametrize(
    "name", ["control_flow_ref", "partitioned", "reduced_precision_ref", "own_tags", "text_vocab"]
)
def test_a_loaded_module_that_is_exported_again_is_the_same_to_the_bit(
    name: str, golden: Callable[[str], Golden], tf1: Tf1Client, tmp_path: Path
) -> None:
    from bridge import hub

    hub.load_module_spec(TESTDATA / "modules" / name).export(tmp_path / "module")
    wanted = golden(name)
    arrays, facts = tf1.hub_record(tmp_path / "module", inputs_of(wanted))
    # Reference variables stay references, loops keep their gradients.
    assert facts["variants"] == wanted.facts["variants"]
    assert arrays.keys() == wanted.arrays.keys()
    for key, array in wanted.arrays.items():
        np.testing.assert_array_equal(arrays[key], array, err_msg=key)


def test_files_beside_the_graphs_are_exported_too(tmp_path: Path) -> None:
    from bridge import hub

    hub.load_module_spec(TESTDATA / "modules" / "assets_many").export(tmp_path / "module")
    found = {path.name: path.read_bytes() for path in (tmp_path / "module" / "assets").rglob("*.*")}
    before = TESTDATA / "modules" / "assets_many" / "assets"
    assert found == {path.name: path.read_bytes() for path in before.rglob("*.*")}


# -- values -------------------------------------------------------------------------------------


def test_without_a_checkpoint_variables_have_what_their_initializers_give(
    tf1: Tf1Client, tmp_path: Path
) -> None:
    create(scale_net).export(str(tmp_path / "module"))
    found = tf1.hub_apply(tmp_path / "module", FEATURES)
    assert found["default"].tolist() == [[2, 6, 12], [8, 15, 24]]


def test_a_checkpoint_gives_the_values_by_the_names_that_it_has(
    tf1: Tf1Client, tmp_path: Path
) -> None:
    checkpoint = save(tmp_path / "model", tower__net__kernel=np.float32([5, 6, 7]), other=1)
    create(scale_net).export(
        tmp_path / "module", checkpoint_path=checkpoint, name_transform_fn="tower/{}".format
    )
    found = tf1.hub_apply(tmp_path / "module", FEATURES)
    assert found["default"].tolist() == [[5, 12, 21], [20, 30, 42]]
    assert list(read_index(tmp_path / "module" / "variables" / "variables").entries) == [
        "net/kernel"
    ]


def test_a_directory_stands_for_its_latest_checkpoint(tf1: Tf1Client, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for number in (1, 2):
        save(tmp_path / "run" / f"model-{number}", net__kernel=np.float32([number] * 3))
    create(scale_net).export(tmp_path / "module", checkpoint_path=tmp_path / "run")
    found = tf1.hub_apply(tmp_path / "module", FEATURES)
    assert found["default"].tolist() == (2 * FEATURES["features"]).tolist()


def test_partitioned_variables_are_cut_from_whole_ones(tf1: Tf1Client, tmp_path: Path) -> None:
    kernel = np.arange(28, dtype=np.float32).reshape(7, 4)
    checkpoint = save(tmp_path / "model", parts__kernel=kernel, bias=np.ones(4, np.float32))
    create(made.parts_net).export(tmp_path / "module", checkpoint_path=checkpoint)
    found = tf1.hub_apply(tmp_path / "module", ROWS)
    np.testing.assert_allclose(found["default"], ROWS["rows"] @ kernel + 1)
    entry = read_index(tmp_path / "module" / "variables" / "variables").entries["parts/kernel"]
    assert [part.shape for part in entry.slices] == [(3, 4), (2, 4), (2, 4)]


def test_it_works_where_a_program_of_tensorflow_1_has_its_own_graph(tmp_path: Path) -> None:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        spec = create(scale_net)
        checkpoint = save(tmp_path / "model", net__kernel=np.float32([5, 6, 7]))
        spec.export(tmp_path / "module", checkpoint_path=checkpoint)
        assert graph.get_operations() == []
    assert (tmp_path / "module" / "tfhub_module.pb").is_file()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"net__other": np.float32([1, 2, 3])}, r"has no 'net/kernel', the value of"),
        ({"net__kernel": np.float32([1, 2])}, r"is float32\[3\], 'net/kernel' .* float32\[2\]"),
        ({"net__kernel": np.float64([1, 2, 3])}, r"in the checkpoint is float64\[3\]"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    values: Any, message: str, tmp_path: Path
) -> None:
    checkpoint = save(tmp_path / "model", **values)
    with pytest.raises(ValueError, match=message) as refused:
        create(scale_net).export(tmp_path / "module", checkpoint_path=checkpoint)
    assert isinstance(refused.value, bridge.UsageError)
    assert not (tmp_path / "module").exists()


def test_a_checkpoint_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "nothing", tmp_path / "empty"):
        with pytest.raises(ValueError, match="the checkpoint can't be read"):
            create(scale_net).export(tmp_path / "module", checkpoint_path=path)


def test_what_follows_the_path_is_given_by_name(tmp_path: Path) -> None:
    spec = create(scale_net)
    with pytest.raises(TypeError, match="no second argument"):
        spec.export(tmp_path / "module", "model")
    with pytest.raises(ValueError, match="goes with a checkpoint_path"):
        spec.export(tmp_path / "module", name_transform_fn=str)


# -- what can't be a module of the old release --------------------------------------------------


def features_to(function: Callable[[Any], Any]) -> Any:
    """Returns the spec of a module that applies a function to features."""
    import tensorflow as tf

    from bridge import hub

    def module_fn() -> None:
        features = tf.compat.v1.placeholder(tf.float32, [None, 3], name="features")
        hub.add_signature(inputs={"features": features}, outputs=function(features))

    return create(module_fn)


def refused(spec: Any, path: Path) -> bridge.UnsupportedError:
    """Exports a module, and returns what it is refused with."""
    with pytest.raises(bridge.UnsupportedError) as error:
        spec.export(path)
    assert isinstance(error.value, ValueError)
    assert list(path.parent.iterdir()) == []
    return error.value


def test_an_op_that_the_old_release_lacks_is_named_with_its_node(tmp_path: Path) -> None:
    import tensorflow as tf

    spec = features_to(lambda x: tf.raw_ops.ApproxTopK(input=x, k=2, name="top")[0])
    error = refused(spec, tmp_path / "module")
    assert "no op 'ApproxTopK'" in str(error)
    assert (error.where.variant, error.where.node) == ("{}", "top")


def test_an_attribute_that_the_old_release_lacks_is_named_unless_it_says_nothing(
    tmp_path: Path,
) -> None:
    import tensorflow as tf

    words = tmp_path / "words.txt"
    words.write_text("cat\ndog\nbird\n")

    def looked_up(x: Any, offset: int) -> Any:
        table = tf.lookup.TextFileInitializer(
            str(words),
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            value_index_offset=offset,
        )
        return tf.lookup.StaticHashTable(table, "").lookup(tf.cast(x, tf.int64))

    features_to(lambda x: looked_up(x, 0)).export(tmp_path / "fine")
    with pytest.raises(bridge.UnsupportedError) as error:
        features_to(lambda x: looked_up(x, 1)).export(tmp_path / "module")
    assert "has no attribute 'offset' in TensorFlow 1.15, which here is 1" in str(error.value)
    assert not (tmp_path / "module").exists()


def test_python_in_the_graph_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    spec = features_to(lambda x: tf.numpy_function(lambda a: a, [x], tf.float32, name="mine"))
    assert "runs a Python function" in str(refused(spec, tmp_path / "module"))


def test_a_newer_op_that_only_initializes_a_variable_does_no_harm(
    tf1: Tf1Client, tmp_path: Path
) -> None:
    import tensorflow as tf

    def module_fn(x: Any) -> Any:
        value = tf.random.stateless_uniform([3], [1, 2])  # StatelessRandomUniformV2
        return x * tf.compat.v1.get_variable("v", initializer=lambda: value)

    features_to(module_fn).export(tmp_path / "module")
    assert (tf1.hub_apply(tmp_path / "module", FEATURES)["default"] < FEATURES["features"]).all()


def test_an_op_in_a_v1_loop_that_would_have_to_be_replaced_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    def loop(x: Any) -> Any:
        def step(i: Any, net: Any) -> Any:
            return i + 1, tf.einsum("ij,kj->ik", net, tf.ones([3, 3]))

        return tf.while_loop(lambda i, _: i < 3, step, [0, x])[1]

    with v1_control_flow():
        spec = features_to(loop)
    error = refused(spec, tmp_path / "module")
    assert str(error).startswith("op Einsum must be replaced for TensorFlow 1.15")
    assert error.where.node == "while/einsum/Einsum"
    features_to(loop).export(tmp_path / "module")


def test_a_gradient_of_python_is_left_out_with_a_warning(tmp_path: Path) -> None:
    import tensorflow as tf

    @tf.custom_gradient
    def function(x: Any) -> Any:
        return x * 2, lambda dy: dy * 5

    with pytest.warns(UserWarning, match="custom_gradient .* is left out"):
        features_to(function).export(tmp_path / "module")


# -- where it is written ------------------------------------------------------------------------


def test_an_empty_directory_is_taken_and_any_other_is_left_alone(tmp_path: Path) -> None:
    import tensorflow as tf

    spec = create(scale_net)
    (tmp_path / "empty").mkdir()
    spec.export(tmp_path / "empty")
    assert read_hub_module(tmp_path / "empty", Report("", None, "")).variables
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    for path in (full, full / "mine.txt"):
        with pytest.raises(tf.errors.AlreadyExistsError, match="exists and is") as occupied:
            spec.export(str(path))
        assert isinstance(occupied.value, bridge.DestinationError)
    with pytest.raises(RuntimeError, match="can't be written") as no_directory:
        spec.export(full / "mine.txt" / "module")
    assert isinstance(no_directory.value, bridge.DestinationError)
    assert [path.name for path in full.iterdir()] == ["mine.txt"]
    for path in ("", "gs://bucket/module"):
        with pytest.raises(ValueError, match=r"no path|no local disk"):
            spec.export(path)


def test_an_asset_that_is_gone_is_named(tmp_path: Path) -> None:
    import tensorflow as tf

    def text_net(x: Any) -> Any:
        tf.compat.v1.add_to_collection("asset_filepaths", tf.constant(str(tmp_path / "gone.txt")))
        return x + 1

    with pytest.raises(tf.errors.NotFoundError, match=r"there is no asset '.*gone\.txt'"):
        features_to(text_net).export(tmp_path / "module")


def test_a_variant_whose_variables_have_no_values_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    from bridge import hub
    from bridge.hub.export import write_module

    def module_fn(training: bool) -> None:
        scale_net()
        if training:
            tf.compat.v1.get_variable("steps", [])

    spec = hub.create_module_spec(module_fn, made.INFERENCE_AND_TRAINING)
    checkpoint = Path(save(tmp_path / "model", net__kernel=np.float32([5, 6, 7])))

    def save_variables(prefix: str) -> None:
        for path in checkpoint.parent.glob(f"{checkpoint.name}.*"):
            shutil.copy(path, f"{prefix}{path.name.removeprefix(checkpoint.name)}")

    with pytest.raises(RuntimeError, match=r"not all variables .* 'steps'") as lacking:
        write_module(spec, tmp_path / "module", save_variables)
    assert lacking.value.where.variant == "{train}"  # type: ignore[attr-defined]
    spec.export(tmp_path / "module")
    index = read_index(tmp_path / "module" / "variables" / "variables")
    assert sorted(index.entries) == ["net/kernel", "steps"]
