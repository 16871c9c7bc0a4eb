"""Facts about TensorFlow's data types: names, and bytes per element in a checkpoint.

Source: tensorflow/core/framework/types.proto and types.cc (DataTypeSize).
"""

from __future__ import annotations

from bridge.proto import tf_pb

# Bytes per element of the types whose checkpoint form is a plain array.
_ELEMENT_BYTES = {
    tf_pb.DT_FLOAT: 4,
    tf_pb.DT_DOUBLE: 8,
    tf_pb.DT_INT32: 4,
    tf_pb.DT_UINT8: 1,
    tf_pb.DT_INT16: 2,
    tf_pb.DT_INT8: 1,
    tf_pb.DT_COMPLEX64: 8,
    tf_pb.DT_INT64: 8,
    tf_pb.DT_BOOL: 1,
    tf_pb.DT_QINT8: 1,
    tf_pb.DT_QUINT8: 1,
    tf_pb.DT_QINT32: 4,
    tf_pb.DT_BFLOAT16: 2,
    tf_pb.DT_QINT16: 2,
    tf_pb.DT_QUINT16: 2,
    tf_pb.DT_UINT16: 2,
    tf_pb.DT_COMPLEX128: 16,
    tf_pb.DT_HALF: 2,
    tf_pb.DT_UINT32: 4,
    tf_pb.DT_UINT64: 8,
}

FLOATS = frozenset({tf_pb.DT_HALF, tf_pb.DT_BFLOAT16, tf_pb.DT_FLOAT, tf_pb.DT_DOUBLE})
"""Real floating-point types."""

# DataType N and its reference form N + 100 (types.proto, DT_FLOAT_REF = 101 and on).
REF_OFFSET = 100

_NAMES = {"HALF": "float16", "FLOAT": "float32", "DOUBLE": "float64"}


def base_dtype(dtype: int) -> int:
    """Returns the non-reference form of a DataType number."""
    return dtype - REF_OFFSET if dtype > REF_OFFSET else dtype


def is_ref(dtype: int) -> bool:
    """True for the reference form of a type (`float_ref` and its like)."""
    return dtype > REF_OFFSET


def dtype_name(dtype: int) -> str:
    """Returns the name TensorFlow's Python API prints, such as `float32` or `float32_ref`."""
    base = base_dtype(dtype)
    try:
        enum_name = tf_pb.DataType.Name(base)[len("DT_") :]
    except ValueError:
        return f"dtype#{dtype}"
    name = _NAMES.get(enum_name, enum_name.lower())
    return f"{name}_ref" if is_ref(dtype) else name


def element_bytes(dtype: int) -> int | None:
    """Bytes of one element in a tensor bundle; None where the size varies (strings, variants)."""
    return _ELEMENT_BYTES.get(dtype)  # type: ignore[call-overload, no-any-return]
