"""Values come through unchanged, and SavedModels are called and trained as Call and Runner say."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from bridge._parity.runners import worker_values
from bridge._parity.runners.process import RunnerProcess
from bridge._parity.runners.protocol import Lane, RunnerError
from bridge._parity.runners.segments import Segments
from bridge._parity.runners.worker_values import TransportError, read_values, writable, write_values
from bridge._surfaces.read import read_surface
from bridge._surfaces.surface import SAVED_MODEL, Call

MORE = {"bfloat16": ml_dtypes.bfloat16}
TEXTS = np.array([[b"a\0b", b"end\0\0"], [b"", "ü".encode()]], object)
ARRAYS = {
    "float": np.array([[1.5, -0.0], [np.nan, np.inf]], np.float32),
    "double": np.array(np.pi),
    "half": np.array([1.25, 65504], np.float16),
    "bfloat16": np.array([1.0, -3.140625, np.nan], ml_dtypes.bfloat16),
    "bool": np.array([True, False]),
    "uint8": np.arange(256, dtype=np.uint8).reshape(2, 128),
    "int64": np.array([2**63 - 1, -(2**63)]),
    "complex": np.array([1 - 2j], np.complex64),
    "qint8": np.array([[-128, 127]], np.int8).view([("qint8", "i1")]),
    "quint16": np.array(40000, np.uint16).view([("quint16", "u2")]),
    "empty": np.zeros((0, 3), np.int32),
    "texts": TEXTS,
    "text": np.array(b"one\0", object),
    "no texts": np.zeros((0,), object),
    "a name / of its own": np.zeros(1, np.float32),
    "file": np.ones(2, np.float32),
}


def same(found, wanted) -> bool:
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return False
    if wanted.dtype == object:
        return found.tolist() == wanted.tolist()
    return found.tobytes() == wanted.tobytes()


def write(path, values, known=None):
    return write_values(partial(writable, str(path)), values, known)


def through_a_file(path, values):
    path.touch()
    header = write(path, values)
    return read_values(np.fromfile(path, np.uint8), header, MORE)


def test_every_dtype_comes_through_a_file_bit_for_bit(tmp_path):
    found = through_a_file(tmp_path / "x", ARRAYS)
    assert found.keys() == ARRAYS.keys()
    assert not [name for name, array in ARRAYS.items() if not same(found[name], array)]


def test_sparse_and_ragged_values_keep_their_parts(tmp_path):
    ragged = {"values": ARRAYS["float"], "row_splits_0": np.array([0, 2, 2])}
    found = through_a_file(tmp_path / "x", {"r": ragged, "d": ARRAYS["half"]})
    assert found["r"].keys() == ragged.keys()
    assert same(found["r"]["row_splits_0"], ragged["row_splits_0"])
    assert same(found["d"], ARRAYS["half"])


def test_fixed_strings_and_foreign_byte_order_are_made_plain(tmp_path):
    values = {"s": np.array([b"ab", b"c"]), "u": np.array(["ü"]), "n": np.array([1, 2], ">i4")}
    found = through_a_file(tmp_path / "x", values)
    assert found["s"].tolist() == [b"ab", b"c"]
    assert found["u"].tolist() == ["ü".encode()]
    assert same(found["n"], np.array([1, 2], np.int32))


def test_an_array_is_taken_as_it_lies(tmp_path):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1)[::2]
    assert same(through_a_file(tmp_path / "x", {"x": array})["x"], array.copy())


@pytest.mark.parametrize(
    "array",
    [np.array(["2020-01-01"], "M8[D]"), np.zeros(1, [("a", "i1")]), np.array([1, None], object)],
)
def test_what_is_no_tensor_is_refused(tmp_path, array):
    with pytest.raises(TransportError, match="'odd'"):
        write(tmp_path / "x", {"odd": array})


# -- what the runner has already ------------------------------------------------------------------


def written(tmp_path, values, known=None):
    """The header of values that are written where some are known, which are written first."""
    names = [str(tmp_path / "known"), str(tmp_path / "new")]
    header = write(names[0], known)
    return write(names[1], values, {"file": names[0], "header": header})


def test_numbers_that_are_known_are_not_written_again(tmp_path):
    ragged = {"values": ARRAYS["float"], "row_splits_0": np.array([0, 2, 2])}
    values = {**ARRAYS, "r": ragged}
    header = written(tmp_path, values, values)
    assert {n for n, parts in header.items() if parts is not None} == {"texts", "text", "no texts"}
    assert (tmp_path / "new").stat().st_size < 400


def changes():
    """Arrays that look like others, and are not the same bit for bit."""
    zeros = np.zeros(70_001, np.float32)
    for place in (0, 40_000, 70_000):
        other = zeros.copy()
        other[place] = 1e-45
        yield f"one bit at {place}", zeros, other
    yield "sign of zero", zeros, -zeros
    yield "shape", zeros, zeros.reshape(1, -1)
    yield "dtype", zeros, zeros.view(np.int32)
    yield "length", zeros, zeros[1:]
    yield "parts", {"values": zeros}, {"values": zeros, "row_splits_0": np.array([0])}
    yield "a part", {"values": zeros}, {"values": -zeros}
    yield "a dense one", {"values": zeros}, zeros
    yield "other bits of NaN", np.float32([np.nan]), -np.float32([np.nan])


@pytest.mark.parametrize(("what", "known", "new"), list(changes()))
def test_whatever_is_not_the_same_bit_for_bit_is_written(what, known, new, tmp_path):
    assert written(tmp_path, {"x": new}, {"x": known})["x"] is not None
    assert written(tmp_path, {"x": new}, {"x": new}) == {"x": None}


def test_a_known_file_is_read_as_it_is_now(tmp_path):
    x, y = np.zeros(9, np.float32), np.ones(9, np.float32)
    known = str(tmp_path / "known")
    for first, second in ((x, y), (y, x)):
        header = {"file": known, "header": write(known, {"x": first})}
        assert write(tmp_path / "new", {"x": first}, header) == {"x": None}
        assert write(tmp_path / "new", {"x": second}, header)["x"] is not None
    # Another file of that name and size is another file.
    Path(known).rename(tmp_path / "old")
    header = {"file": known, "header": write(known, {"x": x})}
    write(tmp_path / "old", {"x": y})
    assert write(tmp_path / "new", {"x": x}, header) == {"x": None}


def test_few_files_stay_mapped(tmp_path):
    x = {"x": np.zeros(9, np.float32)}
    for number in range(20):
        known = str(tmp_path / str(number))
        header = {"file": known, "header": write(known, x)}
        assert write(tmp_path / "new", x, header) == {"x": None}
    assert len(worker_values._maps) <= worker_values.MAPPED


def test_a_file_is_written_over_and_what_was_behind_is_not_seen(tmp_path):
    through_a_file(tmp_path / "x", {"x": np.arange(1000)})
    assert through_a_file(tmp_path / "x", {"x": np.arange(3)})["x"].tolist() == [0, 1, 2]


def test_what_is_known_may_be_empty_and_its_file_too(tmp_path):
    nothing = {"x": np.zeros((0, 3), np.float32)}
    header = written(tmp_path, nothing, nothing)
    assert through_a_file(tmp_path / "again", nothing)["x"].shape == (0, 3)
    assert header.keys() == {"x"}


@pytest.mark.parametrize("has_memfd", [True, False])
def test_a_segment_is_used_again_when_nobody_shows_it_any_more(tmp_path, monkeypatch, has_memfd):
    if not has_memfd:  # as in a Python that was built with an old C library, or for macOS
        monkeypatch.delattr(os, "memfd_create", raising=False)
    segments = Segments(tmp_path)

    def through(number):
        segment = segments.take()
        Path(segment.path).write_bytes(bytes([number]) * 8)
        return segment, segments.read(segment, 8)

    first, shown = through(1)
    part = shown[2:4].view(np.uint16)
    del shown
    second, other = through(2)
    assert second is not first
    assert (part[0], other[0]) == (0x0101, 2)
    with pytest.raises(ValueError, match="read-only"):
        other[0] = 3
    del part
    assert through(3)[0] is first
    with pytest.raises(TransportError, match="of 9 bytes there are 8"):
        segments.read(first, 9)
    assert other[0] == 2
    segments.close()
    assert other[0] == 2
    del other
    assert list(tmp_path.iterdir()) == []


# -- through TensorFlow ---------------------------------------------------------------------------

MANY = Path(__file__).with_name("many_models.py")
RAGGED = {
    "values": np.array([b"a\0", b"", b"c"], object),
    "row_splits_0": np.array([0, 1, 2], np.int64),
    "row_splits_1": np.array([0, 2, 3], np.int64),
}
SPARSE = {
    "indices": np.array([[0, 1], [2, 0]], np.int64),
    "values": np.array([0.5, -2], np.float32),
    "dense_shape": np.array([3, 4], np.int64),
}
RATE = 0.25


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A directory of SavedModels."""
    import keras
    import tensorflow as tf

    class Echo(tf.Module):
        @tf.function
        def __call__(self, plain, structured):
            pair = structured["pair"]
            return {"plain": plain, "rest": [pair[0], structured["ragged"]]}

    class Line(tf.Module):
        def __init__(self):
            super().__init__()
            self.w = tf.Variable([[1.0, -2.0], [0.5, 3.0], [0.25, 1.0]], name="w")
            self.fixed = tf.Variable([10.0, 20.0], name="fixed", trainable=False)
            self.count = tf.Variable(0, dtype=tf.int64, name="count", trainable=False)
            self.regularization_losses = [tf.function(self.loss, input_signature=())]

        def loss(self):
            return tf.reduce_sum(self.w**2)

        @tf.function(input_signature=[tf.TensorSpec([None, 3]), tf.TensorSpec([], tf.bool)])
        def __call__(self, x, training):
            y = x @ self.w + self.fixed
            if training:
                self.count.assign_add(1)
                self.fixed.assign(self.fixed + 1.0)
            return {"y": y, "rows": tf.shape(x)[0], "count": self.count.read_value()}

    class Twins(tf.Module):
        def __init__(self):
            super().__init__()
            self.a = tf.Variable([2.0] * 3, name="w")
            self.b = tf.Variable([5.0] * 3, name="w")

        @tf.function(input_signature=[tf.TensorSpec([None, 3])])
        def __call__(self, x):
            return x * self.a + self.b

    directory = tmp_path_factory.mktemp("models")
    echo, line = Echo(), Line()
    specs = [tf.TensorSpec(a.shape, a.dtype, k) for k, a in list(ARRAYS.items())[:10]]
    inner = {
        "pair": (tf.SparseTensorSpec([None, 4]), None),
        "ragged": tf.RaggedTensorSpec([None, None, None], tf.string, 2),
    }
    for spec in (specs, [tf.TensorSpec([2, 2], tf.string), tf.TensorSpec([], tf.string)]):
        echo.__call__.get_concrete_function(spec, inner)
    tf.saved_model.save(echo, str(directory / "echo"))
    tf.saved_model.save(line, str(directory / "line"))
    tf.saved_model.save(Twins(), str(directory / "twins"))
    net = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(2)])
    net.build((None, 4))
    net.export(str(directory / "keras"), verbose=False)
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    np.savez(directory / "keras.npz", x=x, y=net(x).numpy())
    return directory


@pytest.fixture(scope="module")
def runner(models, tmp_path_factory):
    lane = Lane("candidate", models, SAVED_MODEL, "tf2", Path(sys.executable), "cpu:1")
    work = tmp_path_factory.mktemp("work")
    runner = RunnerProcess(lane, 300, work, script=MANY)
    yield runner
    runner.close()


def leaves(*names):
    return [{"input": name} for name in names]


@pytest.mark.tf2
@pytest.mark.parametrize("names", [list(ARRAYS)[:10], ["texts", "text"]])
def test_values_travel_through_tensorflow_unchanged(runner, names):
    inner = {"pair": {"tuple": [{"input": "s"}, {"value": None}]}, "ragged": {"input": "r"}}
    paths = {name: ("plain", i) for i, name in enumerate(names)}
    call = Call(
        "callable",
        "echo:__call__",
        args=(leaves(*names),),
        kwargs={"structured": {"dict": inner}},
        outputs={**paths, "s": ("rest", 0), "r": ("rest", 1)},
    )
    found = runner.run(call, {**{n: ARRAYS[n] for n in names}, "s": SPARSE, "r": RAGGED})
    assert not [name for name in names if not same(found[name], ARRAYS[name])]
    for name, parts in (("s", SPARSE), ("r", RAGGED)):
        assert found[name].keys() == parts.keys()
        assert all(same(found[name][part], array) for part, array in parts.items())


@pytest.mark.tf2
def test_an_output_that_another_runner_returned_becomes_the_same_object(runner):
    call = replace(line(False), outputs={"y": ("y",), "rows": ("rows",)})
    x = {"x": np.float32([[1, 2, 3], [4, 5, 6]])}
    first = runner.run(call, x)
    names = {"y": "y", "rows": "rows"}
    again = runner.run(call, x, first, names)
    assert again["y"] is first["y"]
    assert again["rows"] is first["rows"]
    # What lies elsewhere can't be known by this result.
    assert again.header == {}
    third = runner.run(call, x, again, names)
    assert third["y"] is not first["y"]
    assert same(third["y"], first["y"])
    changed = runner.run(call, {"x": x["x"] + 1}, first, names)
    assert changed["y"] is not first["y"]
    assert changed["rows"] is first["rows"]
    assert changed["y"].tolist() != first["y"].tolist()
    crossed = runner.run(call, x, first, {"y": "rows", "rows": "y"})
    assert same(crossed["y"], first["y"])
    assert crossed["y"] is not first["y"]


def line(training):
    outputs = {name: (name,) for name in ("y", "rows", "count")}
    args = (*leaves("x"), {"value": training})
    return Call("callable", "line:__call__", args=args, outputs=outputs)


X = {"x": np.array([[1, 2, 3], [-1, 0.5, 4]], np.float32)}
W = np.array([[1.0, -2.0], [0.5, 3.0], [0.25, 1.0]])
PROJECTION = np.cos(0.37 * np.arange(4) + 1).reshape(2, 2)


@pytest.mark.tf2
def test_what_a_call_changes_is_undone(runner):
    for _ in range(2):
        found = runner.run(line(True), X)
        np.testing.assert_allclose(found["y"], X["x"] @ W + [10, 20], rtol=1e-6)
        assert found["count"] == 1
    assert runner.run(line(False), X)["count"] == 0


@pytest.mark.tf2
def test_training_does_what_the_runner_says(runner):
    result = runner.train(line(True), X, (1, 3), RATE)
    gradient = X["x"].T @ PROJECTION / 4
    assert result.gradients.keys() == {"w"}
    np.testing.assert_allclose(result.gradients["w"], gradient, rtol=1e-5)
    np.testing.assert_allclose(runner.losses(line(True)), [np.sum(W**2)], rtol=1e-6)
    assert result.variables.keys() == {1, 3}
    for steps, variables in result.variables.items():
        assert variables.keys() == {"w", "fixed", "count"}
        np.testing.assert_allclose(variables["w"], W - steps * RATE * gradient, rtol=1e-5)
        np.testing.assert_array_equal(variables["fixed"], [10 + steps, 20 + steps])
        assert variables["count"] == steps
    again = runner.train(line(False), X, (), RATE)
    np.testing.assert_array_equal(again.gradients["w"], result.gradients["w"])


@pytest.mark.tf2
def test_a_keras_export_gives_what_keras_gave(runner, models):
    saved = np.load(models / "keras.npz")
    ran = set()
    for computation in read_surface(models / "keras").computations:
        (name,) = computation.inputs
        for call in computation.calls:
            found = runner.run(replace(call, name=f"keras:{call.name}"), {name: saved["x"]})
            assert found
            for output in found.values():
                np.testing.assert_allclose(output, saved["y"], rtol=1e-5, atol=1e-6)
            ran.add(call.name)
    assert ran >= {"serve", "serving_default"}


@pytest.mark.tf2
def test_variables_of_one_name_are_told_apart(runner, models, monkeypatch):
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel.FromString((models / "twins/saved_model.pb").read_bytes())
    nodes = proto.meta_graphs[0].object_graph_def.nodes
    a, b = (child.node_id for name in "ab" for child in nodes[0].children
            if child.local_name == name)  # fmt: skip
    call = Call("callable", "twins:__call__", args=tuple(leaves("x")), outputs={"y": ()})
    wanted = {a: np.full(3, 2.0), b: np.full(3, 5.0)}
    for names, shown in (
        ({}, {f"w#{a}": a, f"w#{b}": b}),
        ({a: "first/w", b: "second/w"}, {"first/w": a, "second/w": b}),
    ):
        monkeypatch.setattr(runner, "_names", names)
        variables = runner.train(call, X, (1,), 0.0).variables[1]
        assert variables.keys() == shown.keys()
        for name, number in shown.items():
            np.testing.assert_array_equal(variables[name], wanted[number])


@pytest.mark.tf2
def test_a_lane_on_a_logical_device_runs_there(runner):
    runner.run(line(False), X)
    runtime = runner.runtime()
    assert runtime.devices == ("/device:CPU:0", "/device:CPU:1")
    assert runtime.device == "cpu:1"
    ran_on = runtime.settings["ran_on"]
    assert "/device:CPU:1" in ran_on
    assert "/device:CPU:0" not in ran_on


@pytest.mark.tf2
def test_an_input_of_another_dtype_is_refused(runner):
    with pytest.raises(RunnerError, match="failed while running"):
        runner.run(line(False), {"x": X["x"].astype(np.float64)})
