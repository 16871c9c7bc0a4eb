"""Makes values for inputs of which only dtype and shape are known."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge._parity.feed.strings import WORDS
from bridge._parity.runners.protocol import Value
from bridge.dtypes import dtype_name
from bridge.errors import MissingExtraError, UnsupportedError
from bridge.model import Encoding, Endpoint, Shape
from bridge.proto import tf_pb

Array = NDArray[Any]

_NUMPY: Mapping[int, type[np.generic]] = {
    tf_pb.DT_FLOAT: np.float32,
    tf_pb.DT_DOUBLE: np.float64,
    tf_pb.DT_HALF: np.float16,
    # numpy itself has no type for it: values are made, and stand in files, as float32.
    tf_pb.DT_BFLOAT16: np.float32,
    tf_pb.DT_INT8: np.int8,
    tf_pb.DT_INT16: np.int16,
    tf_pb.DT_INT32: np.int32,
    tf_pb.DT_INT64: np.int64,
    tf_pb.DT_UINT8: np.uint8,
    tf_pb.DT_UINT16: np.uint16,
    tf_pb.DT_UINT32: np.uint32,
    tf_pb.DT_UINT64: np.uint64,
    tf_pb.DT_COMPLEX64: np.complex64,
    tf_pb.DT_COMPLEX128: np.complex128,
    tf_pb.DT_BOOL: np.bool_,
    tf_pb.DT_STRING: np.object_,
}

_EDGES = (0.0, -0.0, 1.0, -1.0, 1e-6, -1e-6, 6.0, -6.0)
"""Floats at which functions often change their course, and none where they overflow."""

FEW = 2
"""Integers are below it, unless something else is asked for: it is a truth value, a segment, or in
a vocabulary, however small that is."""

MANY = 100
"""Integers that may be sizes or numbers of steps are below it, whatever is asked for: memory and
time of a model may grow with them."""

_SIZES = 4
"""As many integers in a shape that is known may be sizes."""


@dataclass(frozen=True)
class Choice:
    """What integers and strings are drawn from.

    Attributes:
      bound: integers are below it, as far as their dtype goes.
      least: integers are not below it.
      between: floats are spread evenly between these; where None, they stand around zero.
      strings: the strings.
      integers: where there are any that the dtype holds, integers are drawn from these.
    """

    bound: int = FEW
    least: int = 0
    between: tuple[float, float] | None = None
    strings: Sequence[bytes] = WORDS
    integers: Sequence[int] = ()


PLAIN = Choice()


def generator(seed: int, *parts: str | int) -> np.random.Generator:
    """Returns the source of random numbers for one purpose. No other is used.

    Args:
      seed: of the run.
      *parts: what tells the purpose from others, such as a set, a batch and an input.
    """
    text = "|".join(str(part) for part in parts)
    return np.random.default_rng([seed, zlib.crc32(text.encode())])


@dataclass(frozen=True)
class Part:
    """A plain array that is, or is a part of, the value of an input.

    Attributes:
      dtype: DataType number.
      shape: static shape.
    """

    dtype: int
    shape: Shape

    @property
    def numpy(self) -> type[np.generic] | None:
        """The type of its array; None where there is none. Strings are bytes objects."""
        return numpy_type(self.dtype)


def numpy_type(dtype: int) -> type[np.generic] | None:
    """Returns the type of the arrays of a DataType; None where there is none."""
    return _NUMPY.get(dtype)


def parts(name: str, endpoint: Endpoint) -> dict[str, Part]:
    """Returns the arrays that make up the value of an input.

    They are named as protocol.py says; the only one of a dense tensor has an empty name.

    Args:
      name: of the input, for the error.
      endpoint: the input.

    Raises:
      UnsupportedError: a composite tensor that is not ragged, or a dtype without values.
    """
    if endpoint.dtype not in _NUMPY:
        raise _unsupported(name, dtype_name(endpoint.dtype))
    shape, rank = endpoint.shape, None if endpoint.shape is None else len(endpoint.shape)
    if endpoint.encoding is Encoding.DENSE:
        return {"": Part(endpoint.dtype, shape)}
    if endpoint.encoding is Encoding.SPARSE:
        return {
            "indices": Part(tf_pb.DT_INT64, (None, rank)),
            "values": Part(endpoint.dtype, (None,)),
            "dense_shape": Part(tf_pb.DT_INT64, (rank,)),
        }
    spec = endpoint.type_spec
    if spec is None or spec.type_spec_class != tf_pb.TypeSpecProto.RAGGED_TENSOR_SPEC:
        raise _unsupported(name, (spec.type_spec_class_name if spec else "") or "composite tensor")
    # RaggedTensorSpec._serialize in python/ops/ragged/ragged_tensor.py: shape, dtype, ragged rank
    # and the dtype of the row splits.
    state = spec.type_state.tuple_value.values
    ragged_rank = state[2].int64_value
    splits = state[3].tensor_dtype_value if len(state) > 3 else tf_pb.DT_INT64
    inner = None if shape is None else (None, *shape[ragged_rank + 1 :])
    result = {"values": Part(endpoint.dtype, inner)}
    for axis in range(ragged_rank):
        result[f"row_splits_{axis}"] = Part(splits, (None,))
    return result


def _unsupported(name: str, what: str) -> UnsupportedError:
    return UnsupportedError(
        f"input {name!r} is of {what}, of which no values can be fed",
        hint="what can be fed are numbers, truth values and strings, dense, sparse or ragged",
    )


def sized(shape: Shape, sizes: Sequence[int]) -> tuple[int, ...]:
    """Returns a shape whose unknown dimensions are filled in.

    Args:
      shape: static shape; of unknown rank, it becomes a vector.
      sizes: what an unknown dimension is, by axis; further ones are like the last.
    """
    if shape is None:
        return (sizes[0],)
    return tuple(
        sizes[min(axis, len(sizes) - 1)] if size is None else size
        for axis, size in enumerate(shape)
    )


def is_integer(dtype: int) -> bool:
    """Whether a DataType is one of integers."""
    kind = numpy_type(dtype)
    return kind is not None and issubclass(kind, np.integer)


def is_float(dtype: int) -> bool:
    """Whether a DataType is one of real floating-point numbers."""
    kind = numpy_type(dtype)
    return kind is not None and issubclass(kind, np.floating)


def may_be_sizes(shape: Shape) -> bool:
    """Whether integers of this static shape may be sizes: one by itself, or a short vector."""
    return (
        shape is not None and len(shape) < 2 and all(n is not None and n <= _SIZES for n in shape)
    )


def make(
    name: str,
    endpoint: Endpoint,
    sizes: Sequence[int],
    rng: np.random.Generator,
    layout: np.random.Generator,
    choice: Choice = PLAIN,
) -> Value:
    """Returns a value for an input.

    Args:
      name: of the input, for the error.
      endpoint: the input.
      sizes: what its unknown dimensions are, as `sized` takes them.
      rng: source of random numbers.
      layout: likewise, for the places of values in sparse tensors and the lengths of ragged rows.
      choice: what integers and strings are drawn from.

    Raises:
      UnsupportedError: as `parts` raises it.
    """
    wanted = parts(name, endpoint)
    if endpoint.encoding is Encoding.DENSE:
        return _dense(wanted[""], sized(endpoint.shape, sizes), rng, choice)
    if endpoint.encoding is Encoding.SPARSE:
        shape = (None, None) if endpoint.shape is None else endpoint.shape
        return _sparse(wanted["values"], sized(shape, sizes), rng, layout, choice)
    return _ragged(endpoint.shape, wanted, sizes, rng, layout, choice)


def shape_of(value: Value) -> tuple[int, ...]:
    """Returns the shape of a value; of a ragged one, -1 for each dimension after the first."""
    if not isinstance(value, Mapping):
        return tuple(np.shape(value))
    if "dense_shape" in value:
        return tuple(int(size) for size in value["dense_shape"])
    ragged_rank = len(value) - 1
    rows = len(value["row_splits_0"]) - 1 if ragged_rank else len(value["values"])
    return (rows, *(-1,) * ragged_rank, *np.shape(value["values"])[1:])


def as_bytes(array: Array) -> Array:
    """Returns strings as an array of bytes objects, of the same shape."""
    result = np.empty(array.size, object)
    result[:] = [
        item.encode() if isinstance(item, str) else bytes(item) for item in array.ravel().tolist()
    ]
    return result.reshape(array.shape)


def to_bfloat16(array: Array) -> Array:
    """Rounds floats to bfloat16.

    Raises:
      MissingExtraError: the package that has this type, and comes with TensorFlow, is missing.
    """
    try:
        import ml_dtypes
    except ImportError as error:
        raise MissingExtraError(
            "bfloat16 can't be fed without ml_dtypes", hint="pip install 'hubbridge[parity]'"
        ) from error
    result: Array = array.astype(ml_dtypes.bfloat16)
    return result


def _dense(part: Part, shape: tuple[int, ...], rng: np.random.Generator, choice: Choice) -> Array:
    dtype = part.numpy
    assert dtype is not None
    if dtype is np.object_:
        pool = np.array(choice.strings, object)
        return np.asarray(pool[rng.integers(len(pool), size=shape)], object).reshape(shape)
    if dtype is np.bool_:
        return rng.integers(2, size=shape).astype(dtype)
    if issubclass(dtype, np.integer):
        return _integers(part, shape, rng, choice).astype(dtype)
    if not shape:
        # A number by itself is often a rate or a probability.
        values = np.asarray(rng.uniform(0.1, 0.9))
    elif choice.between is not None:
        values = rng.uniform(*choice.between, shape)
    else:
        values = rng.standard_normal(shape)
        if issubclass(dtype, np.complexfloating):
            return (values + 1j * rng.standard_normal(shape)).astype(dtype)
        edges = min(len(_EDGES), values.size // 2)
        values.reshape(-1)[rng.choice(values.size, edges, replace=False)] = _EDGES[:edges]
    values = values.astype(dtype)
    return to_bfloat16(values) if part.dtype == tf_pb.DT_BFLOAT16 else values


def _integers(
    part: Part, shape: tuple[int, ...], rng: np.random.Generator, choice: Choice
) -> Array:
    if may_be_sizes(part.shape):
        return np.asarray(rng.integers(choice.least, min(choice.bound, MANY), size=shape))
    dtype = part.numpy
    assert dtype is not None
    limits = np.iinfo(np.dtype(dtype))
    pool = [number for number in choice.integers if limits.min <= number <= limits.max]
    if pool:
        return np.asarray(np.array(pool, dtype)[rng.integers(len(pool), size=shape)])
    return np.asarray(rng.integers(choice.least, min(choice.bound, limits.max + 1), size=shape))


def _sparse(
    part: Part,
    shape: tuple[int, ...],
    rng: np.random.Generator,
    layout: np.random.Generator,
    choice: Choice,
) -> dict[str, Array]:
    cells = math.prod(shape)
    count = min((cells + 1) // 2, 3 * shape[0] if shape else 1)
    # TensorFlow wants indices in row-major order, each once.
    flat = np.sort(layout.choice(cells, count, replace=False)) if cells else np.zeros(0, np.int64)
    indices = np.stack(np.unravel_index(flat, shape), axis=-1) if shape else np.zeros((count, 0))
    return {
        "indices": indices.astype(np.int64),
        "values": _dense(part, (count,), rng, choice),
        "dense_shape": np.array(shape, np.int64),
    }


def _ragged(
    shape: Shape,
    wanted: Mapping[str, Part],
    sizes: Sequence[int],
    rng: np.random.Generator,
    layout: np.random.Generator,
    choice: Choice,
) -> dict[str, Array]:
    ragged_rank = len(wanted) - 1
    static: tuple[int | None, ...] = (None,) * (ragged_rank + 1) if shape is None else shape
    result: dict[str, Array] = {}
    rows = sized(static[:1], sizes)[0]
    for axis in range(ragged_rank):
        fixed = static[axis + 1]
        # Rows are of all lengths, and some are empty.
        lengths = layout.integers(5, size=rows) if fixed is None else np.full(rows, fixed)
        splits = np.concatenate([[0], np.cumsum(lengths)])
        dtype = wanted[f"row_splits_{axis}"].numpy
        assert dtype is not None
        result[f"row_splits_{axis}"] = splits.astype(dtype)
        rows = int(splits[-1])
    inner = sized(static, sizes)[ragged_rank + 1 :]
    return {"values": _dense(wanted["values"], (rows, *inner), rng, choice), **result}
