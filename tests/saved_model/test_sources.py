"""What TensorFlow 2 saved answers as a module, in the real client, as it does in TensorFlow 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import bridge
from bridge.report import Report
from tests.clients.tf1 import Tf1Client
from tests.saved_model.sources import SOURCES, Call, projected

pytestmark = pytest.mark.tf2


class Made(NamedTuple):
    """A SavedModel, what it answers, and the module that is made of it."""

    path: Path
    calls: list[Call]
    module: Path
    report: Report


class Sources:
    """Makes each SavedModel and its module once, when a test asks for it."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._made: dict[str, Made] = {}

    def __getitem__(self, name: str) -> Made:
        if name not in self._made:
            path, module = self._folder / name, self._folder / f"{name}-module"
            calls = SOURCES[name](path)
            report = bridge.to_hub_module(path, module)
            self._made[name] = Made(path, calls, module, report)
        return self._made[name]


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return Sources(tmp_path_factory.mktemp("sources"))


def assert_equal(found: NDArray, expected: NDArray, tolerance: float, what: str) -> None:
    assert (found.shape, found.dtype.kind) == (expected.shape, expected.dtype.kind), what
    if found.dtype.kind in "Sb":
        np.testing.assert_array_equal(found, expected, what)
    else:
        bound = tolerance * np.max(np.abs(expected), initial=0)
        np.testing.assert_allclose(found, expected, rtol=0, atol=bound, err_msg=what)


@pytest.mark.parametrize("name", SOURCES)
def test_the_client_computes_what_tensorflow_2_does(
    name: str, sources: Sources, tf1: Tf1Client
) -> None:
    made = sources[name]
    assert made.calls
    for call in made.calls:
        found = tf1.hub_apply(made.module, call.inputs, signature=call.signature, tags=call.tags)
        assert found.keys() == call.outputs.keys()
        for key, expected in call.outputs.items():
            what = f"{key} of {call.signature} {call.tags}"
            assert_equal(found[key], expected, 1e-5, what)


DIFFERENTIATED = (
    "training_positional",
    "training_tensor",
    "training_absent",
    "listed_variables",
    "regularization",
    "several_shards",
    "nested_functions",
    "conditional_gradients",
    "control_flow",
)


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_the_client_finds_the_gradients_that_tensorflow_2_does(
    name: str, sources: Sources, tf1: Tf1Client
) -> None:
    made = sources[name]
    for call in made.calls:
        assert call.gradients
        found = tf1.hub_gradients(
            made.module,
            call.inputs,
            {key: projected(output) for key, output in call.outputs.items()},
            tags=call.tags,
        )
        assert found.keys() == call.gradients.keys()
        for variable, expected in call.gradients.items():
            assert_equal(found[variable], expected, 1e-4, variable)


# -- training --------------------------------------------------------------------------------------

TRAINABLE = (
    "training_positional",
    "training_keyword",
    "training_keyword_only",
    "training_tensor",
    "training_first",
    "tf_keras_save",
)


@pytest.mark.parametrize("name", TRAINABLE)
def test_only_update_ops_move_the_averages(name: str, sources: Sources, tf1: Tf1Client) -> None:
    made = sources[name]
    call = next(call for call in made.calls if call.tags)
    training = tf1.hub_train(
        made.module,
        call.inputs,
        {"default": np.zeros_like(call.outputs["default"])},
        steps=3,
        tags=call.tags,
    )
    assert training.forward == {}
    averages = {n for n in training.start if n.rpartition("/")[2].startswith(("mean", "moving"))}
    assert averages == set(training.update)
    assert training.losses[-1] < training.losses[0]


def test_update_ops_do_what_a_call_in_training_does(sources: Sources, tf1: Tf1Client) -> None:
    made = sources["training_positional"]
    call = next(call for call in made.calls if call.tags)
    training = tf1.hub_train(
        made.module, call.inputs, {"default": call.outputs["default"]}, steps=0, tags=call.tags
    )
    mean, weights = training.start["mean"], training.start["weights"]
    wanted = mean + 0.1 * ((call.inputs["x"] @ weights).mean(0) - mean)
    np.testing.assert_allclose(training.update["mean"], wanted, rtol=1e-5)


def test_regularization_losses_are_those_of_the_source(sources: Sources, tf1: Tf1Client) -> None:
    made = sources["regularization"]
    for tags in ((), ("train",)):
        call = next(call for call in made.calls if call.tags == tags)
        training = tf1.hub_train(
            made.module, call.inputs, {"default": call.outputs["default"]}, steps=0, tags=tags
        )
        weights = training.start["weights"]
        wanted = [0.5 * np.sum(weights**2), np.sum(np.abs(weights))]
        np.testing.assert_allclose(training.regularization, wanted, rtol=1e-5)


# -- names, shapes and notes -----------------------------------------------------------------------


def variants_of(made: Made) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for signature in made.report.signatures:
        found.setdefault(signature.variant, set()).add(signature.name)
    return found


@pytest.mark.parametrize(
    ("name", "trains"),
    [(name, True) for name in TRAINABLE]
    + [
        (name, False)
        for name in (
            "training_absent",
            "several_traces",
            "keras_save",
            "keras_export",
            "no_default",
        )
    ],
)
def test_a_training_variant_exists_where_the_source_was_traced_for_training(
    name: str, trains: bool, sources: Sources
) -> None:
    variants = variants_of(sources[name])
    assert set(variants) == ({"{}", "{train}"} if trains else {"{}"})
    assert len(set(map(frozenset, variants.values()))) == 1


def test_variables_have_their_own_names_or_paths(sources: Sources) -> None:
    names = {v.source_path: v.name for v in sources["names_of_variables"].report.variables}
    assert names == {
        "unnamed": "Variable",
        "same/0": "same/0",
        "same/1": "same/1",
        "dotted": "a.dotted-name/Read",
        "node": "StatefulPartitionedCall",
        "mode": "training",
        "argument": "x",
        "inner": "same/inner",
        "greater": "greater_than",
    }


def test_equal_names_in_a_mere_list_are_numbered(sources: Sources) -> None:
    names = [v.name for v in sources["keras_subclassed"].report.variables]
    # Beside them is the state of a seed generator, whose name Keras counts up in each process.
    assert [name for name in names if name.startswith("subclassed")] == [
        "subclassed/kernel",
        "subclassed/bias",
        "subclassed/kernel_1",
        "subclassed/bias_1",
    ]


def test_a_variable_that_only_the_list_has_is_kept(sources: Sources) -> None:
    report = sources["listed_variables"].report
    assert [v.name for v in report.variables] == ["weights", "idle", "unlisted"]
    assert [(note.kind, note.name) for note in report.not_kept] == [("variable", "forgotten")]
    assert report.kept.trainable_variables == 1


@pytest.mark.parametrize("name", ["keras_compiled", "tf_keras_compiled"])
def test_variables_of_an_optimizer_are_left_out_by_name(name: str, sources: Sources) -> None:
    report = sources[name].report
    assert [v.name for v in report.variables] == [
        "conv/kernel",
        "conv/bias",
        "bn/gamma",
        "bn/beta",
        "bn/moving_mean",
        "bn/moving_variance",
        "head/kernel",
        "head/bias",
    ]
    left_out = [note.name.lower() for note in report.not_kept if note.kind == "variable"]
    assert len([name for name in left_out if "adam/" in name]) >= 12
    assert {note.reason for note in report.not_kept if note.kind == "variable"} == {
        "no function reads it, and it is none of the model's own"
    }


def test_only_one_copy_of_an_exported_variable_is_stored(sources: Sources) -> None:
    made = sources["keras_export"]
    shards = (made.module / "variables").glob("variables.data-*")
    assert sum(shard.stat().st_size for shard in shards) == made.report.kept.variable_bytes
    assert made.report.not_kept == []


def test_traces_that_no_signature_is_are_named(sources: Sources) -> None:
    notes = sources["several_traces"].report.not_kept
    assert [(note.kind, note.name) for note in notes] == [
        ("trace", "__call__(x: float32[2, 3])"),
        ("trace", "__call__(x: float64[?, 3])"),
        ("trace", "__call__(x: int32[5, 3])"),
    ]
    notes = sources["python_arguments"].report.not_kept
    assert [note.name for note in notes] == [
        "__call__(x: float32[?], bias=None, mode='bbb', scale=5.0)",
        "__call__(x: float32[?], x_1: float32[?], mode='a', scale=2.0)",
    ]


def test_static_shapes_are_those_of_the_source(sources: Sources, tf1: Tf1Client) -> None:
    wanted = {
        "lost_shapes": {"default": "default: float32[?, 3]"},
        "shapes": {"product": "product: float32[?, 3, ?]", "same": "same: float32<unknown>"},
    }
    for name, outputs in wanted.items():
        (signature,) = (s for s in sources[name].report.signatures if s.name == "default")
        assert set(outputs.values()) <= set(signature.outputs)
    made = sources["lost_shapes"]
    uses = tf1.hub_client(made.module, made.calls[0].inputs, image=False)
    assert uses.facts["infos"]["default"]["outputs"]["default"][-1] == [None, 3]


def test_one_module_may_be_used_in_many_ways(sources: Sources, tf1: Tf1Client) -> None:
    for name in ("tables", "training_positional", "keras_export"):
        made = sources[name]
        call = made.calls[0]
        uses = tf1.hub_client(made.module, call.inputs, image=name == "keras_export")
        for way, found in uses.outputs.items():
            for key, expected in call.outputs.items():
                assert_equal(found[key], expected, 1e-5, f"{name}, {way}")


def test_conversion_is_deterministic(sources: Sources, tmp_path: Path) -> None:
    for name in ("training_positional", "tables", "keras_export", "control_flow"):
        made, again = sources[name], tmp_path / name
        bridge.to_hub_module(made.path, again)
        files = [path for path in again.rglob("*") if path.is_file()]
        assert files
        for path in files:
            assert path.read_bytes() == (made.module / path.relative_to(again)).read_bytes()


# -- what TensorFlow 2 saves and no module has -----------------------------------------------------


def _open_shape(path: Path) -> None:
    import tensorflow as tf

    obj = tf.Module()
    obj.open = tf.Variable([1.0], shape=tf.TensorShape([None]), name="open")
    obj.__call__ = tf.function(lambda x: x * obj.open, input_signature=[tf.TensorSpec([None])])
    tf.saved_model.save(obj, str(path))


def _uninitialized(path: Path) -> None:
    import tensorflow as tf

    obj = tf.Module()
    obj.late = tf.Variable(1.0, shape=tf.TensorShape(None), name="late")
    obj.__call__ = tf.function(lambda x: x * obj.late, input_signature=[tf.TensorSpec([None])])
    tf.saved_model.save(obj, str(path))


def _mutable_table(path: Path) -> None:
    import tensorflow as tf

    obj = tf.Module()
    obj.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
    obj.table.insert(tf.constant(["a"]), tf.constant([1], tf.int64))
    spec = tf.TensorSpec([None], tf.string)
    obj.__call__ = tf.function(lambda x: obj.table.lookup(x) + 1, input_signature=[spec])
    tf.saved_model.save(obj, str(path))


def _dense_table(path: Path) -> None:
    import tensorflow as tf

    obj = tf.Module()
    obj.table = tf.lookup.experimental.DenseHashTable(tf.int64, tf.int64, -1, -1, -2)
    spec = tf.TensorSpec([None], tf.int64)
    obj.__call__ = tf.function(lambda x: obj.table.lookup(x) + 1, input_signature=[spec])
    tf.saved_model.save(obj, str(path))


def _python(path: Path) -> None:
    import tensorflow as tf

    obj = tf.Module()
    obj.__call__ = tf.function(
        lambda x: tf.numpy_function(np.copy, [x], tf.float32),
        input_signature=[tf.TensorSpec([None])],
    )
    tf.saved_model.save(obj, str(path))


def _sliced(path: Path) -> None:
    import tensorflow as tf

    obj = tf.Module()
    obj.wide = tf.Variable(np.ones(100, np.float32), name="wide")
    obj.__call__ = tf.function(lambda x: x * obj.wide, input_signature=[tf.TensorSpec([100])])
    options = tf.saved_model.SaveOptions(
        experimental_sharding_callback=tf.train.experimental.MaxShardSizePolicy(64)
    )
    tf.saved_model.save(obj, str(path), options=options)


def _untraced(path: Path) -> None:
    import tensorflow as tf

    obj = tf.Module()
    obj.weights = tf.Variable([1.0])
    obj.__call__ = tf.function(lambda x: x * obj.weights)
    tf.saved_model.save(obj, str(path))


@pytest.mark.parametrize(
    ("save", "words"),
    [
        (_open_shape, ("'open'", "[?]", "fixed shape")),
        (_uninitialized, ("'late'", "<unknown>", "fixed shape")),
        (_mutable_table, ("'table'", "MutableHashTable", "StaticHashTable")),
        (_dense_table, ("'table'", "MutableDenseHashTable", "StaticHashTable")),
        (_sliced, ("'wide'", "slices")),
        (_untraced, ("neither a `__call__`", "call it once")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_no_module_has_is_refused_by_name(
    save: Callable[[Path], None], words: tuple[str, ...], tmp_path: Path
) -> None:
    save(tmp_path / "model")
    with pytest.raises(bridge.UnsupportedError) as caught:
        bridge.to_hub_module(tmp_path / "model", tmp_path / "module")
    said = f"{caught.value} {caught.value.hint}"
    assert not [word for word in words if word not in said], said
    assert not (tmp_path / "module").exists()


def test_python_code_is_unsafe_before_its_effect_is_looked_at(tmp_path: Path) -> None:
    _python(tmp_path / "model")
    with pytest.raises(bridge.UnsafeError, match="PyFunc") as caught:
        bridge.to_hub_module(tmp_path / "model", tmp_path / "module")
    assert "--allow-op PyFunc" in str(caught.value.hint)
    with pytest.raises(bridge.UnsupportedError, match="PyFunc has an effect"):
        bridge.to_hub_module(tmp_path / "model", tmp_path / "module", allow_ops=["PyFunc"])
