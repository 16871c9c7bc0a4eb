"""SavedModels that the real TensorFlow 2 saves, and what it computes with them.

A builder saves one and returns the calls that the module made of it must answer the same. What is
common to all is that they are tiny.
"""

from __future__ import annotations

import collections
import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]

TRAIN = ("train",)


@dataclass(frozen=True)
class Call:
    """What a signature of the module is asked, and what it must answer.

    Attributes:
      inputs: arrays by input.
      outputs: what TensorFlow 2 gave.
      tags: the graph variant.
      signature: the signature.
      gradients: by variable of the module, those of the sum of `output * projected(output)`.
    """

    inputs: Mapping[str, Any]
    outputs: Arrays
    tags: tuple[str, ...] = ()
    signature: str = "default"
    gradients: Arrays = field(default_factory=dict)


Build = Callable[[Path], list[Call]]

SOURCES: dict[str, Build] = {}


def source(build: Build) -> Build:
    """Adds a builder to SOURCES, which makes the same however often it is called."""

    @functools.wraps(build)
    def afresh(path: Path) -> list[Call]:
        for name in ("keras", "tf_keras"):
            if name in sys.modules:  # else it has not numbered any name yet
                sys.modules[name].backend.clear_session()
        return build(path)

    SOURCES[build.__name__] = afresh
    return build


def projected(output: NDArray[Any]) -> NDArray[Any]:
    """Returns what an output is multiplied with before gradients are taken."""
    return np.cos(np.arange(output.size, dtype=np.float32)).reshape(output.shape)


def answer(value: Any) -> Arrays:
    """Returns what a function gave, by the names that a module gives it."""
    import tensorflow as tf

    if not isinstance(value, Mapping):
        value = {"default": value}
    arrays: Arrays = {}
    for name, tensor in value.items():
        if isinstance(tensor, tf.SparseTensor):
            for part in ("indices", "values", "dense_shape"):
                arrays[f"{name}|{part}"] = getattr(tensor, part).numpy()
        elif isinstance(tensor, tf.RaggedTensor):
            arrays[f"{name}|values"] = tensor.flat_values.numpy()
            for depth, splits in enumerate(tensor.nested_row_splits):
                arrays[f"{name}|row_splits_{depth}"] = splits.numpy()
        else:
            array = np.asarray(tensor)
            arrays[name] = array.astype("S") if array.dtype == object else array
    return arrays


def graded(
    call: Callable[[], Any],
    variables: Mapping[str, Any],
    inputs: Mapping[str, Any],
    tags: tuple[str, ...] = (),
) -> Call:
    """Returns a call with its gradients."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        value = call()
        outputs = value if isinstance(value, Mapping) else {"default": value}
        loss = tf.add_n(
            [tf.reduce_sum(tensor * projected(tensor.numpy())) for tensor in outputs.values()]
        )
    gradients = tape.gradient(loss, dict(variables))
    arrays = {
        name: tf.convert_to_tensor(gradient).numpy()
        for name, gradient in gradients.items()
        if gradient is not None
    }
    return Call(inputs, answer(outputs), tags, gradients=arrays)


def numbers(*shape: int, start: int = 0) -> NDArray[Any]:
    """Returns float32 numbers around 0, always the same."""
    return np.sin(np.arange(start, start + int(np.prod(shape)), dtype=np.float32)).reshape(shape)


def _weights(rows: int = 3, columns: int = 4, name: str = "weights") -> Any:
    import tensorflow as tf

    return tf.Variable(numbers(rows, columns), name=name)


# -- how `training` is given -----------------------------------------------------------------------


def _averaging() -> Any:
    """Returns a class with a layer that keeps a moving average."""
    import tensorflow as tf

    class Averaging(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = _weights()
            self.mean = tf.Variable(numbers(4, start=20), trainable=False, name="mean")

        def compute(self, x: Any, training: Any) -> Any:
            y = tf.matmul(x, self.weights)
            if training:
                batch_mean = tf.reduce_mean(y, 0)
                self.mean.assign_add(0.1 * (batch_mean - self.mean))
                return tf.tanh(y - batch_mean)
            return tf.tanh(y - self.mean)

    return Averaging


def _averaging_calls(obj: Any, call: Callable[[Any, bool], Any]) -> list[Call]:
    inputs = {"x": numbers(5, 3)}
    before = obj.mean.numpy()
    calls = []
    for training in (False, True):
        tags = TRAIN if training else ()
        calls.append(
            graded(lambda t=training: call(inputs["x"], t), {"weights": obj.weights}, inputs, tags)
        )
        obj.mean.assign(before)
    return calls


@source
def training_positional(path: Path) -> list[Call]:
    import tensorflow as tf

    class Model(_averaging()):
        @tf.function
        def __call__(self, x: Any, training: bool = False) -> Any:
            return self.compute(x, training)

    obj = Model()
    for training in (False, True):
        obj.__call__.get_concrete_function(tf.TensorSpec([None, 3], name="x"), training)
    tf.saved_model.save(obj, str(path))
    return _averaging_calls(obj, obj)


@source
def training_keyword(path: Path) -> list[Call]:
    import tensorflow as tf

    class Model(_averaging()):
        @tf.function
        def __call__(self, x: Any, training: bool = False) -> Any:
            return self.compute(x, training)

    obj = Model()
    for training in (False, True):
        obj.__call__.get_concrete_function(tf.TensorSpec([None, 3], name="x"), training=training)
    tf.saved_model.save(obj, str(path))
    return _averaging_calls(obj, lambda x, training: obj(x, training=training))


@source
def training_keyword_only(path: Path) -> list[Call]:
    import tensorflow as tf

    class Model(_averaging()):
        @tf.function
        def __call__(self, x: Any, *, training: bool = False) -> Any:
            return self.compute(x, training)

    obj = Model()
    for training in (False, True):
        obj.__call__.get_concrete_function(tf.TensorSpec([None, 3], name="x"), training=training)
    tf.saved_model.save(obj, str(path))
    return _averaging_calls(obj, lambda x, training: obj(x, training=training))


@source
def training_tensor(path: Path) -> list[Call]:
    import tensorflow as tf

    class Model(_averaging()):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 3], name="x"),
                tf.TensorSpec([], tf.bool, name="training"),
            ]
        )
        def __call__(self, x: Any, training: Any) -> Any:
            return self.compute(x, training)

    obj = Model()
    tf.saved_model.save(obj, str(path))
    return _averaging_calls(obj, lambda x, training: obj(x, tf.constant(training)))


@source
def training_first(path: Path) -> list[Call]:
    """`training` stands before the input, and a state that nothing initializes follows it."""
    import tensorflow as tf

    class Model(_averaging()):
        @tf.function
        def __call__(self, training: bool, x: Any, state: Any = None) -> Any:
            return self.compute(x, training)

    obj = Model()
    for training in (False, True):
        obj.__call__.get_concrete_function(training, tf.TensorSpec([None, 3], name="x"))
    tf.saved_model.save(obj, str(path))
    return _averaging_calls(obj, lambda x, training: obj(training, x))


@source
def training_absent(path: Path) -> list[Call]:
    import tensorflow as tf

    class Model(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = _weights()

        @tf.function(input_signature=[tf.TensorSpec([None, 3])])
        def __call__(self, x: Any) -> Any:
            return tf.matmul(x, self.weights)

    obj = Model()
    tf.saved_model.save(obj, str(path))
    inputs = {"x": numbers(2, 3)}
    return [graded(lambda: obj(inputs["x"]), {"weights": obj.weights}, inputs)]


# -- traces, structures and types ------------------------------------------------------------------


def _saved(path: Path, function: Callable[..., Any], *traces: Any, **more: Any) -> Any:
    """Saves an object whose `__call__` is a function, traced for tuples of arguments."""
    import tensorflow as tf

    obj = tf.Module()
    for name, value in more.pop("attributes", {}).items():
        setattr(obj, name, value)
    obj.__call__ = tf.function(function, autograph=more.pop("autograph", True))
    for trace in traces:
        obj.__call__.get_concrete_function(*trace)
    tf.saved_model.save(obj, str(path), **more)
    return obj


@source
def several_traces(path: Path) -> list[Call]:
    import tensorflow as tf

    specs = [
        tf.TensorSpec([2, 3], name="x"),
        tf.TensorSpec([None, 3], name="x"),
        tf.TensorSpec([None, 3], tf.float64, name="x"),
        tf.TensorSpec([5, 3], tf.int32, name="x"),
    ]
    obj = _saved(path, lambda x: x * 2, *([spec] for spec in specs))
    x = numbers(4, 3)
    return [Call({"x": x}, answer(obj.__call__(x)))]


@source
def python_arguments(path: Path) -> list[Call]:
    import tensorflow as tf

    def double(x: Any, scale: float = 2.0, mode: str = "a", bias: Any = None) -> Any:
        return x * scale + len(mode) + (0 if bias is None else bias)

    spec = tf.TensorSpec([None], name="x")
    obj = _saved(path, double, [spec, 5.0, "bbb"], [spec, 2.0, "a"], [spec, 2.0, "a", spec])
    x = numbers(3)
    return [Call({"x": x}, answer(obj.__call__(x)))]


@source
def dictionaries(path: Path) -> list[Call]:
    import tensorflow as tf

    spec = {
        "left": tf.TensorSpec([None, 2]),
        "right": {"deep": tf.TensorSpec([2], tf.float32, name="other")},
    }
    obj = _saved(
        path,
        lambda both: {"sum": both["left"] + both["right"]["deep"], "in": {"left": both["left"]}},
        [spec],
    )
    left, deep = numbers(3, 2), numbers(2, start=9)
    value = obj.__call__({"left": left, "right": {"deep": deep}})
    outputs = {"sum": value["sum"].numpy(), "in/left": value["in"]["left"].numpy()}
    return [Call({"left": left, "right/deep": deep}, outputs)]


@source
def sequences(path: Path) -> list[Call]:
    import tensorflow as tf

    pair = collections.namedtuple("pair", ["first", "second"])
    spec = tf.TensorSpec([None])
    named = tf.TensorSpec([None], name="own")

    def mixed(several: Any, couple: Any, *rest: Any) -> Any:
        total = several[0] + several[1] + couple.first * couple.second
        return total, [several[0], (rest[0],)], pair(couple.first, rest[0] + 1)

    obj = _saved(path, mixed, [[spec, named], pair(spec, spec), spec])
    arrays = [numbers(3, start=i) for i in range(5)]
    value = obj.__call__(
        [tf.constant(a) for a in arrays[:2]],
        pair(*map(tf.constant, arrays[2:4])),
        tf.constant(arrays[4]),
    )
    inputs = dict(zip(("several_0", "own", "first", "second", "rest_0"), arrays, strict=True))
    outputs = {
        "output_0": value[0],
        "output_1_0": value[1][0],
        "output_1_1_0": value[1][1][0],
        "2/first": value[2].first,
        "2/second": value[2].second,
    }
    return [Call(inputs, answer(outputs))]


@source
def equal_keys(path: Path) -> list[Call]:
    import tensorflow as tf

    spec = {"x": tf.TensorSpec([None])}
    obj = _saved(path, lambda a, b: {"x": a["x"] - b["x"]}, [spec, spec])
    a, b = numbers(3), numbers(3, start=5)
    outputs = answer(obj.__call__({"x": a}, {"x": b}))
    return [Call({"x": a, "x_1": b}, {**outputs, "default": outputs["x"]})]


@source
def one_output_in_a_dictionary(path: Path) -> list[Call]:
    import tensorflow as tf

    obj = _saved(path, lambda x: {"features": x + 1}, [tf.TensorSpec([None], name="x")])
    x = numbers(3)
    outputs = answer(obj.__call__(x))
    return [Call({"x": x}, {**outputs, "default": outputs["features"]})]


@source
def sparse(path: Path) -> list[Call]:
    import tensorflow as tf

    def double(x: Any, y: Any) -> Any:
        return {"sparse": tf.sparse.map_values(tf.multiply, x, 2.0), "dense": y + 1}

    obj = _saved(path, double, [tf.SparseTensorSpec([None, 3]), tf.TensorSpec([2])])
    parts = {
        "indices": np.array([[0, 1], [1, 2]], np.int64),
        "values": numbers(2),
        "dense_shape": np.array([2, 3], np.int64),
    }
    y = numbers(2, start=7)
    outputs = answer(obj.__call__(tf.SparseTensor(**parts), y))
    return [Call({**{f"x|{name}": part for name, part in parts.items()}, "y": y}, outputs)]


@source
def ragged(path: Path) -> list[Call]:
    import tensorflow as tf

    spec = tf.RaggedTensorSpec([None, None, None], tf.float32, ragged_rank=2)
    obj = _saved(path, lambda x: {"x": x * 2.0, "sum": tf.reduce_sum(x)}, [spec])
    splits = [np.array([0, 2, 3], np.int64), np.array([0, 1, 1, 3], np.int64)]
    values = numbers(3)
    outputs = answer(obj.__call__(tf.RaggedTensor.from_nested_row_splits(values, splits)))
    inputs = {"x|values": values, "x|row_splits_0": splits[0], "x|row_splits_1": splits[1]}
    return [Call(inputs, outputs)]


@source
def shapes(path: Path) -> list[Call]:
    import tensorflow as tf

    specs = [
        tf.TensorSpec([], name="scalar"),
        tf.TensorSpec([None, 3, None], name="partly"),
        tf.TensorSpec(None, name="unknown"),
    ]
    obj = _saved(path, lambda a, b, c: {"product": a * b, "size": tf.size(c), "same": c}, specs)
    arrays = [np.float32(3), numbers(2, 3, 1), numbers(2, 2)]
    outputs = answer(obj.__call__(*map(tf.constant, arrays)))
    return [Call(dict(zip(("scalar", "partly", "unknown"), arrays, strict=True)), outputs)]


@source
def lost_shapes(path: Path) -> list[Call]:
    import tensorflow as tf

    def function(x: Any) -> Any:
        y = tf.numpy_function(np.copy, [x], tf.float32) if x is None else tf.identity(x)
        total = tf.zeros_like(y)
        for _ in tf.range(3):
            total += y
        total.set_shape([None, 3])
        return total

    obj = _saved(path, function, [tf.TensorSpec(None, name="x")])
    x = numbers(4, 3)
    return [Call({"x": x}, answer(obj.__call__(tf.constant(x))))]


@source
def dtypes(path: Path) -> list[Call]:
    import tensorflow as tf

    values = {
        "string": np.array([b"a", b"bcd"]),
        "int64": np.array([1, -5]),
        "int8": np.array([1, -5], np.int8),
        "uint8": np.array([1, 250], np.uint8),
        "bool": np.array([True, False]),
        "half": numbers(2).astype(np.float16),
        "double": numbers(2).astype(np.float64),
        "complex64": numbers(2).astype(np.complex64) * 1j,
    }
    variables = {
        name: tf.Variable(value, name=name, trainable=False) for name, value in values.items()
    }
    variables["bfloat16"] = tf.Variable(
        tf.cast(numbers(2), tf.bfloat16), name="bfloat16", trainable=False
    )

    def function(x: Any) -> Any:
        read = {name: tf.identity(variable) for name, variable in variables.items()}
        return {**read, "x": x}

    obj = _saved(path, function, [tf.TensorSpec([1], name="x")], attributes={"held": variables})
    x = numbers(1)
    outputs = {name: np.asarray(value) for name, value in obj.__call__(x).items()}
    outputs["bfloat16"] = outputs["bfloat16"].astype(np.float32)
    return [Call({"x": x}, answer(outputs))]


@source
def endpoints(path: Path) -> list[Call]:
    import tensorflow as tf

    class Model(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = _weights()

        @tf.function
        def __call__(self, x: Any, training: bool = False, return_endpoints: bool = False) -> Any:
            hidden = tf.matmul(x, self.weights)
            output = tf.nn.relu(hidden) * (2.0 if training else 1.0)
            return {"default": output, "hidden": hidden} if return_endpoints else output

    obj = Model()
    for training in (False, True):
        for wanted in (False, True):
            obj.__call__.get_concrete_function(
                tf.TensorSpec([None, 3], name="x"), training, return_endpoints=wanted
            )
    tf.saved_model.save(obj, str(path))
    x = numbers(2, 3)
    return [
        Call({"x": x}, answer(obj(x, t, return_endpoints=True)), tags)
        for t, tags in ((False, ()), (True, TRAIN))
    ]


# -- variables -------------------------------------------------------------------------------------


@source
def names_of_variables(path: Path) -> list[Call]:
    """Names that are absent, the same, a node's, an argument's, or none in TensorFlow 1.15."""
    import tensorflow as tf

    class Model(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unnamed = tf.Variable(1.0)
            self.same = [tf.Variable(float(i), name="same") for i in (2, 3)]
            self.dotted = tf.Variable(4.0, name="a.dotted-name/Read")
            self.node = tf.Variable(5.0, name="StatefulPartitionedCall")
            self.mode = tf.Variable(6.0, name="training")
            self.argument = tf.Variable(7.0, name="x")
            self.inner = tf.Variable(8.0, name="same/inner")
            self.greater = tf.Variable(9.0, name="greater>than")

        @tf.function(
            input_signature=[tf.TensorSpec([], name="x"), tf.TensorSpec([], tf.bool, "training")]
        )
        def __call__(self, x: Any, training: Any) -> Any:
            found = [self.unnamed, *self.same, self.dotted, self.node, self.mode, self.argument]
            found += [self.inner, self.greater]
            return x + tf.add_n([v * 3.0**i for i, v in enumerate(found)])

    obj = Model()
    tf.saved_model.save(obj, str(path))
    return [
        Call({"x": np.float32(1)}, answer(obj(1.0, tf.constant(t))), tags)
        for t, tags in ((False, ()), (True, TRAIN))
    ]


@source
def listed_variables(path: Path) -> list[Call]:
    """One that the list has and no function reads, one the other way round, and one of neither."""
    import tensorflow as tf

    class Model(tf.__internal__.tracking.AutoTrackable):
        def __init__(self) -> None:
            self.weights = _weights()
            self.idle = tf.Variable(numbers(2), name="idle", trainable=False)
            self.forgotten = tf.Variable(numbers(5), name="forgotten")
            self.unlisted = tf.Variable(2.0, name="unlisted")
            self.variables = [self.weights, self.idle]
            self.trainable_variables = [self.weights]

        @tf.function(input_signature=[tf.TensorSpec([None, 3], name="x")])
        def __call__(self, x: Any) -> Any:
            return tf.matmul(x, self.weights) * self.unlisted

    obj = Model()
    tf.saved_model.save(obj, str(path))
    inputs = {"x": numbers(2, 3)}
    return [graded(lambda: obj(inputs["x"]), {"weights": obj.weights}, inputs)]


@source
def regularization(path: Path) -> list[Call]:
    import tensorflow as tf

    class Model(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = _weights()
            self.regularization_losses = [
                tf.function(lambda: 0.5 * tf.reduce_sum(self.weights**2), input_signature=[]),
                tf.function(lambda: tf.reduce_sum(tf.abs(self.weights)), input_signature=[]),
            ]

        @tf.function
        def __call__(self, x: Any, training: bool = False) -> Any:
            return tf.matmul(x, self.weights) * (3.0 if training else 2.0)

    obj = Model()
    for training in (False, True):
        obj.__call__.get_concrete_function(tf.TensorSpec([None, 3], name="x"), training=training)
    tf.saved_model.save(obj, str(path))
    inputs = {"x": numbers(2, 3)}
    return [
        graded(lambda t=t: obj(inputs["x"], training=t), {"weights": obj.weights}, inputs, tags)
        for t, tags in ((False, ()), (True, TRAIN))
    ]


@source
def several_shards(path: Path) -> list[Call]:
    import tensorflow as tf

    held = {f"v{i}": tf.Variable(numbers(10, start=i), name=f"v{i}") for i in range(4)}
    options = tf.saved_model.SaveOptions(
        experimental_sharding_callback=tf.train.experimental.MaxShardSizePolicy(80)
    )
    obj = _saved(
        path,
        lambda x: x * tf.add_n([v * v for v in held.values()]),
        [tf.TensorSpec([10], name="x")],
        attributes={"held": held},
        options=options,
    )
    inputs = {"x": numbers(10, start=3)}
    return [graded(lambda: obj.__call__(inputs["x"]), held, inputs)]


@source
def constants(path: Path) -> list[Call]:
    import tensorflow as tf

    big = tf.constant(numbers(300, 2))
    words = tf.constant([b"a", b"b"])
    obj = _saved(
        path,
        lambda x: {"big": x + big, "words": words},
        [tf.TensorSpec([2], name="x")],
        attributes={"big": big, "words": words},
    )
    x = numbers(2)
    return [Call({"x": x}, answer(obj.__call__(x)))]


# -- assets and tables -----------------------------------------------------------------------------


def _vocabulary(path: Path, words: str = "b a c") -> str:
    file = path.with_suffix(".txt")
    file.write_text(words.replace(" ", "\n") + "\n")
    return str(file)


def _file_table(vocabulary: Any, default: int = -1) -> Any:
    import tensorflow as tf

    index = tf.lookup.TextFileIndex
    return tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            vocabulary, tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER
        ),
        default,
    )


@source
def tables(path: Path) -> list[Call]:
    """From a file and from tensors, two of the same content, and two that share a file."""
    import tensorflow as tf

    vocabulary = _vocabulary(path)
    other = _vocabulary(path.with_name(path.name + "-other"), "x a")
    pairs = tf.lookup.KeyValueTensorInitializer(["a", "b"], [1.5, 2.5])
    held = {
        "one": _file_table(vocabulary),
        "same": _file_table(vocabulary),
        "default": _file_table(vocabulary, -7),
        "other": _file_table(other),
        "pairs": tf.lookup.StaticHashTable(pairs, 0.5),
        "pairs_again": tf.lookup.StaticHashTable(pairs, 0.5),
    }
    obj = _saved(
        path,
        lambda x: {name: table.lookup(x) for name, table in held.items()},
        [tf.TensorSpec([None], tf.string, name="x")],
        attributes={"held": held},
    )
    x = np.array([b"a", b"b", b"zzz"])
    return [Call({"x": x}, answer(obj.__call__(tf.constant(x))))]


@source
def shared_asset(path: Path) -> list[Call]:
    import tensorflow as tf

    asset = tf.saved_model.Asset(_vocabulary(path))
    held = {"one": _file_table(asset), "two": _file_table(asset, -9)}
    obj = _saved(
        path,
        lambda x: {
            "text": tf.strings.length(asset.asset_path) * 0,
            **{name: table.lookup(x) for name, table in held.items()},
        },
        [tf.TensorSpec([None], tf.string, name="x")],
        attributes={"held": held, "asset": asset},
    )
    x = np.array([b"a", b"b", b"zzz"])
    return [Call({"x": x}, answer(obj.__call__(tf.constant(x))))]


# -- functions -------------------------------------------------------------------------------------


@source
def nested_functions(path: Path) -> list[Call]:
    import tensorflow as tf

    class Model(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = _weights(4, 4)
            self.count = tf.Variable(0.0, trainable=False, name="count")

        @tf.function
        def inner(self, x: Any) -> Any:
            self.count.assign_add(1.0)
            return tf.tanh(tf.matmul(x, self.weights))

        @tf.function
        def outer(self, x: Any) -> Any:
            return self.inner(self.inner(x)) + self.inner(x)

        @tf.function(input_signature=[tf.TensorSpec([None, 4], name="x")])
        def __call__(self, x: Any) -> Any:
            return self.outer(x) * self.outer(x + 1)

    obj = Model()
    tf.saved_model.save(obj, str(path))
    inputs = {"x": numbers(2, 4)}
    return [graded(lambda: obj(inputs["x"]), {"weights": obj.weights}, inputs)]


@source
def control_flow(path: Path) -> list[Call]:
    import tensorflow as tf

    class Model(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = _weights(4, 4)

        @tf.function
        def step(self, x: Any) -> Any:
            return tf.tanh(tf.matmul(x, self.weights))

        @tf.function
        def twice(self, x: Any) -> Any:
            return self.step(self.step(x))

        @tf.function(input_signature=[tf.TensorSpec([None, 4], name="x")])
        def __call__(self, x: Any) -> Any:
            if tf.reduce_sum(x) > 0:
                y = self.twice(x)
            else:
                y = self.step(x) - 1.0
            if tf.reduce_max(x) > 5:
                y = y + tf.sin(y) if tf.reduce_max(x) > 6 else y * 2.0
            total = tf.zeros_like(y)
            for i in tf.range(3):
                total += self.step(y) * tf.cast(i, tf.float32)
            return total

    obj = Model()
    tf.saved_model.save(obj, str(path))
    arrays = (numbers(2, 4), -numbers(2, 4), numbers(2, 4) + 6, numbers(2, 4) * 9)
    return [graded(lambda x=x: obj(x), {"weights": obj.weights}, {"x": x}) for x in arrays]


@source
def odd_scopes(path: Path) -> list[Call]:
    """Nodes have names that TensorFlow 1.15 does not take, in branches too."""
    import tensorflow as tf

    def function(x: Any) -> Any:
        with tf.name_scope("a>b"):
            y = tf.nn.relu(x)
            if tf.reduce_sum(y) > 1:
                with tf.name_scope("c>d"):
                    y = tf.nn.softmax(y)
            return y

    obj = _saved(path, function, [tf.TensorSpec([None], name="x")])
    return [
        Call({"x": x}, answer(obj.__call__(x)))
        for x in (numbers(3), numbers(3) - 5, numbers(3) + 5)
    ]


@source
def conditional_gradients(path: Path) -> list[Call]:
    import tensorflow as tf

    class Model(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = _weights(4, 4)

        @tf.function
        def step(self, x: Any) -> Any:
            return tf.tanh(tf.matmul(x, self.weights))

        @tf.function(input_signature=[tf.TensorSpec([None, 4], name="x")])
        def __call__(self, x: Any) -> Any:
            return self.step(self.step(x)) if tf.reduce_sum(x) > 0 else self.step(x) - 1.0

    obj = Model()
    tf.saved_model.save(obj, str(path))
    weights = {"weights": obj.weights}
    return [graded(lambda x=x: obj(x), weights, {"x": x}) for x in (numbers(2, 4), -numbers(2, 4))]


# -- signatures ------------------------------------------------------------------------------------


@source
def one_signature(path: Path) -> list[Call]:
    import tensorflow as tf

    obj = tf.Module()
    obj.weights = _weights()
    serve = tf.function(
        lambda x: {"y": tf.matmul(x, obj.weights)},
        input_signature=[tf.TensorSpec([None, 3], name="x")],
    )
    tf.saved_model.save(obj, str(path), signatures={"only": serve})
    x = numbers(2, 3)
    outputs = answer(serve(x))
    return [
        Call({"x": x}, {**outputs, "default": outputs["y"]}),
        Call({"x": x}, outputs, signature="only"),
    ]


@source
def several_signatures(path: Path) -> list[Call]:
    import tensorflow as tf

    obj = tf.Module()
    obj.weights = _weights()
    spec = tf.TensorSpec([None, 3], name="x")
    functions = {
        "serving_default": tf.function(lambda x: {"a": x + 1, "b": x}, input_signature=[spec]),
        "product": tf.function(
            lambda x: {"default": tf.matmul(x, obj.weights)}, input_signature=[spec]
        ),
        "two": tf.function(
            lambda x, y: {"sum": x + y},
            input_signature=[spec, tf.TensorSpec([3], name="y")],
        ),
    }
    tf.saved_model.save(obj, str(path), signatures=functions)
    x, y = numbers(2, 3), numbers(3, start=4)
    served = answer(functions["serving_default"](x))
    return [
        Call({"x": x}, served),
        Call({"x": x}, served, signature="serving_default"),
        Call({"x": x}, answer(functions["product"](x)), signature="product"),
        Call({"x": x, "y": y}, answer(functions["two"](x, y)), signature="two"),
    ]


@source
def no_default(path: Path) -> list[Call]:
    import tensorflow as tf

    obj = tf.Module()
    spec = tf.TensorSpec([None], name="x")
    functions = {
        "more": tf.function(lambda x: {"y": x + 1}, input_signature=[spec]),
        "less": tf.function(lambda x: {"y": x - 1}, input_signature=[spec]),
    }
    tf.saved_model.save(obj, str(path), signatures=functions)
    x = numbers(2)
    return [Call({"x": x}, answer(f(x)), signature=name) for name, f in functions.items()]


@source
def call_and_signatures(path: Path) -> list[Call]:
    import tensorflow as tf

    obj = _saved(
        path,
        lambda x: x * 2,
        [tf.TensorSpec([None], name="x")],
        signatures={
            "extra": tf.function(
                lambda x: {"y": x * 3}, input_signature=[tf.TensorSpec([None], name="x")]
            )
        },
    )
    x = numbers(2)
    return [
        Call({"x": x}, answer(obj.__call__(x))),
        Call({"x": x}, {"y": x * 3}, signature="extra"),
    ]


@source
def signature_with_an_input_called_training(path: Path) -> list[Call]:
    import tensorflow as tf

    obj = tf.Module()
    serve = tf.function(
        lambda x, training: {"y": x * training},
        input_signature=[tf.TensorSpec([None], name="x"), tf.TensorSpec([], name="training")],
    )
    tf.saved_model.save(obj, str(path), signatures=serve)
    x = numbers(2)
    outputs = answer(serve(x, 3.0))
    return [Call({"x": x, "training": np.float32(3)}, {**outputs, "default": outputs["y"]})]


# -- Keras -----------------------------------------------------------------------------------------


def _image_model(keras: Any, **last: Any) -> Any:
    layers = keras.layers
    images = x = keras.Input((8, 8, 3), name="picture")
    x = layers.Conv2D(4, 3, name="conv", kernel_regularizer=keras.regularizers.l2(0.01))(x)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(5, name="head", **last)(x)
    model = keras.Model(images, x)
    for i, variable in enumerate(model.weights):
        start = numbers(*variable.shape, start=i)
        variable.assign(np.abs(start) + 0.5 if "variance" in variable.name else start)
    return model


def _picture() -> NDArray[Any]:
    return (numbers(2, 8, 8, 3) + 1) / 2


def _keras_calls(model: Any, trained: bool) -> list[Call]:
    inputs = {"images": _picture()}
    before = [variable.numpy() for variable in model.weights]
    calls = []
    for training in (False, True) if trained else (False,):
        outputs = answer(model(inputs["images"], training=training))
        if not trained:
            outputs["output_0"] = outputs["default"]
        calls.append(Call(inputs, outputs, TRAIN if training else ()))
        for variable, value in zip(model.weights, before, strict=True):
            variable.assign(value)
    return calls


@source
def keras_save(path: Path) -> list[Call]:
    import keras
    import tensorflow as tf

    model = _image_model(keras)
    tf.saved_model.save(model, str(path))
    return _keras_calls(model, trained=False)


@source
def keras_export(path: Path) -> list[Call]:
    import keras

    model = _image_model(keras)
    model.export(str(path), verbose=False)
    return _keras_calls(model, trained=False)


@source
def keras_compiled(path: Path) -> list[Call]:
    """Compiled and trained: there are variables of optimizer and metrics."""
    import keras
    import tensorflow as tf

    model = _image_model(keras)
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(_picture(), numbers(2, 5), verbose=0)
    tf.saved_model.save(model, str(path))
    return _keras_calls(model, trained=False)


@source
def tf_keras_save(path: Path) -> list[Call]:
    import tensorflow as tf
    import tf_keras

    model = _image_model(tf_keras)
    tf.saved_model.save(model, str(path))
    return _keras_calls(model, trained=True)


@source
def tf_keras_export(path: Path) -> list[Call]:
    import tf_keras

    model = _image_model(tf_keras)
    model.export(str(path))
    return _keras_calls(model, trained=False)


@source
def tf_keras_compiled(path: Path) -> list[Call]:
    import tf_keras

    model = _image_model(tf_keras)
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(_picture(), numbers(2, 5), verbose=0)
    model.save(str(path), save_format="tf")
    return _keras_calls(model, trained=True)


@source
def keras_many(path: Path) -> list[Call]:
    """Several inputs and outputs, by name."""
    import keras
    import tensorflow as tf

    left = keras.Input((3,), name="left")
    right = keras.Input((2,), name="right")
    both = keras.layers.Concatenate()([left, right])
    model = keras.Model(
        {"left": left, "right": right},
        {"small": keras.layers.Dense(2, name="a")(both), "large": keras.layers.Dense(4)(both)},
    )
    tf.saved_model.save(model, str(path))
    inputs = {"left": numbers(2, 3), "right": numbers(2, 2)}
    # Keras names them so in the signature.
    flat = {"inputs": inputs["left"], "inputs_1": inputs["right"]}
    return [Call(flat, answer(model(inputs)))]


@source
def keras_export_many(path: Path) -> list[Call]:
    """Several inputs and outputs, in lists."""
    import keras

    left = keras.Input((3,), name="left")
    right = keras.Input((2,), name="right")
    both = keras.layers.Concatenate()([left, right])
    model = keras.Model(
        [left, right],
        [keras.layers.Dense(2, name="a")(both), keras.layers.Dense(4, name="b")(both)],
    )
    model.export(str(path), verbose=False)
    inputs = {"left": numbers(2, 3), "right": numbers(2, 2)}
    outputs = model(list(inputs.values()))
    return [Call(inputs, answer({f"output_{i}": value for i, value in enumerate(outputs)}))]


def _subclassed(keras: Any) -> Any:
    class Subclassed(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.first = keras.layers.Dense(4, activation="relu")
            self.drop = keras.layers.Dropout(0.5)
            self.last = keras.layers.Dense(2)

        def call(self, x: Any, training: bool = False) -> Any:
            return self.last(self.drop(self.first(x), training=training))

    model = Subclassed()
    model(numbers(2, 3))
    return model


@source
def keras_subclassed(path: Path) -> list[Call]:
    import keras

    model = _subclassed(keras)
    model.export(str(path), verbose=False)
    x = numbers(2, 3)
    outputs = answer(model(x))
    return [Call({"args_0": x}, {**outputs, "output_0": outputs["default"]})]


@source
def tf_keras_subclassed(path: Path) -> list[Call]:
    import tensorflow as tf
    import tf_keras

    model = _subclassed(tf_keras)
    model.predict(numbers(2, 3), verbose=0)
    tf.saved_model.save(model, str(path))
    x = numbers(2, 3)
    return [Call({"input_1": x}, answer(model(x)))]
