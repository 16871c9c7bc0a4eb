"""Builders of attribute values, and of what a resource handle says about its variable.

AttrValue is a union (tensorflow/core/framework/attr_value.proto): each function here fills one of
its kinds, and is named after it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence

from bridge.model import Shape, shape_from_proto, shape_to_proto
from bridge.proto import tf_pb

_MAX_INTS = 1 << 16

HandleData = tuple[tf_pb.ResourceHandleProto.DtypeAndShape, ...]
"""What a resource handle points to: one dtype and shape for a variable, nothing if unknown."""


def type_attr(dtype: int) -> tf_pb.AttrValue:
    """An attribute of kind `type`."""
    return tf_pb.AttrValue(type=dtype)  # type: ignore[arg-type]  # DataType members are ints


def types_attr(dtypes: Iterable[int]) -> tf_pb.AttrValue:
    """An attribute of kind `list(type)`."""
    return tf_pb.AttrValue(list=tf_pb.AttrValue.ListValue(type=dtypes))  # type: ignore[arg-type]


def shape_attr(shape: Shape) -> tf_pb.AttrValue:
    """An attribute of kind `shape`."""
    return tf_pb.AttrValue(shape=shape_to_proto(shape))


def shapes_attr(shapes: Iterable[Shape]) -> tf_pb.AttrValue:
    """An attribute of kind `list(shape)`."""
    protos = [shape_to_proto(shape) for shape in shapes]
    return tf_pb.AttrValue(list=tf_pb.AttrValue.ListValue(shape=protos))


def string_attr(value: bytes | str) -> tf_pb.AttrValue:
    """An attribute of kind `string`; text is written as UTF-8."""
    return tf_pb.AttrValue(s=value.encode() if isinstance(value, str) else value)


def function_attr(name: str) -> tf_pb.AttrValue:
    """An attribute of kind `func`."""
    return tf_pb.AttrValue(func=tf_pb.NameAttrList(name=name))


def int_attr(value: int) -> tf_pb.AttrValue:
    """An attribute of kind `int`."""
    return tf_pb.AttrValue(i=value)


def bool_attr(value: bool) -> tf_pb.AttrValue:
    """An attribute of kind `bool`."""
    return tf_pb.AttrValue(b=value)


def bool_tensor_attr(value: bool) -> tf_pb.AttrValue:
    """An attribute of kind `tensor`: a bool scalar."""
    proto = tf_pb.TensorProto(dtype=tf_pb.DT_BOOL, bool_val=[value])
    proto.tensor_shape.SetInParent()
    return tf_pb.AttrValue(tensor=proto)


def float_tensor_attr(value: float) -> tf_pb.AttrValue:
    """An attribute of kind `tensor`: a float32 scalar."""
    proto = tf_pb.TensorProto(dtype=tf_pb.DT_FLOAT, float_val=[value])
    proto.tensor_shape.SetInParent()
    return tf_pb.AttrValue(tensor=proto)


def ints_tensor_attr(dtype: int, values: int | Sequence[int]) -> tf_pb.AttrValue:
    """An attribute of kind `tensor`: an int32 or int64 scalar, or vector."""
    numbers = [values] if isinstance(values, int) else list(values)
    proto = tf_pb.TensorProto(tensor_shape=_vector_shape(values, numbers))
    proto.dtype = dtype  # type: ignore[assignment]
    (proto.int64_val if dtype == tf_pb.DT_INT64 else proto.int_val).extend(numbers)
    return tf_pb.AttrValue(tensor=proto)


def ints_of(tensor: tf_pb.TensorProto) -> list[int] | None:
    """Returns the elements of an int32 or int64 tensor, flat; None for anything else.

    A tensor may leave out elements at its end that repeat the last one, or are all zero
    (tensorflow/core/framework/tensor.cc, FromProtoField). None too for one of many elements.
    """
    layout = {tf_pb.DT_INT32: "<i", tf_pb.DT_INT64: "<q"}.get(tensor.dtype)
    shape = shape_from_proto(tensor.tensor_shape)
    if layout is None or shape is None or None in shape:
        return None
    count = math.prod(size for size in shape if size is not None)
    if count > _MAX_INTS:
        return None
    if tensor.tensor_content:
        if len(tensor.tensor_content) != count * struct.calcsize(layout):
            return None
        return [number for (number,) in struct.iter_unpack(layout, tensor.tensor_content)]
    numbers = list(tensor.int_val if tensor.dtype == tf_pb.DT_INT32 else tensor.int64_val)
    return (numbers + (numbers[-1:] or [0]) * (count - len(numbers)))[:count]


def strings_tensor_attr(values: bytes | Sequence[bytes]) -> tf_pb.AttrValue:
    """An attribute of kind `tensor`: a string scalar, or vector."""
    texts = [values] if isinstance(values, bytes) else list(values)
    shape = _vector_shape(values, texts)
    proto = tf_pb.TensorProto(dtype=tf_pb.DT_STRING, tensor_shape=shape, string_val=texts)
    return tf_pb.AttrValue(tensor=proto)


def _vector_shape(given: object, values: Sequence[object]) -> tf_pb.TensorShapeProto:
    return shape_to_proto(() if isinstance(given, (int, bytes)) else (len(values),))


def variable_handle_data(dtype: int, shape: tf_pb.TensorShapeProto) -> HandleData:
    """What the handle of a variable points to."""
    data = tf_pb.ResourceHandleProto.DtypeAndShape(shape=shape)
    data.dtype = dtype  # type: ignore[assignment]
    return (data,)
