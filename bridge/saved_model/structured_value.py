"""StructuredValues: how a SavedModel writes down Python arguments and results.

Source: tensorflow/core/protobuf/struct.proto and python/saved_model/nested_structure_coder.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bridge.model import Component, Encoding, Endpoint, Shape, shape_to_proto
from bridge.proto import tf_pb

Value = tf_pb.StructuredValue


def none() -> Value:
    """None."""
    return Value(none_value=tf_pb.NoneValue())


def boolean(value: bool) -> Value:
    """A Python bool."""
    return Value(bool_value=value)


def string(value: str) -> Value:
    """A Python str."""
    return Value(string_value=value)


def sequence(values: Sequence[Value]) -> Value:
    """A list."""
    return Value(list_value=tf_pb.ListValue(values=values))


def tuple_of(values: Sequence[Value]) -> Value:
    """A tuple."""
    return Value(tuple_value=tf_pb.TupleValue(values=values))


def mapping(values: Mapping[str, Value]) -> Value:
    """A dict with string keys."""
    result = Value(dict_value=tf_pb.DictValue())
    for key in sorted(values):
        result.dict_value.fields[key].CopyFrom(values[key])
    return result


def tensor_spec(name: str, dtype: int, shape: Shape) -> Value:
    """A tf.TensorSpec."""
    spec = tf_pb.TensorSpecProto(name=name, shape=shape_to_proto(shape))
    spec.dtype = dtype  # type: ignore[assignment]
    return Value(tensor_spec_value=spec)


def endpoint_spec(name: str, endpoint: Endpoint) -> Value:
    """The type of a signature's input or output: tf.TensorSpec, tf.SparseTensorSpec or another."""
    if endpoint.encoding is Encoding.DENSE:
        return tensor_spec(name, endpoint.dtype, endpoint.shape)
    if endpoint.encoding is Encoding.COMPOSITE and endpoint.type_spec is not None:
        return Value(type_spec_value=endpoint.type_spec)
    dtype = Value()
    dtype.tensor_dtype_value = endpoint.dtype  # type: ignore[assignment]
    spec = tf_pb.TypeSpecProto(
        type_spec_class=tf_pb.TypeSpecProto.SPARSE_TENSOR_SPEC,
        type_spec_class_name="SparseTensorSpec",
        num_flat_components=len(endpoint.components),
        type_state=tuple_of([Value(tensor_shape_value=shape_to_proto(endpoint.shape)), dtype]),
    )
    return Value(type_spec_value=spec)


@dataclass(frozen=True)
class Part:
    """One plain tensor among the inputs or outputs of a function.

    Attributes:
      name: the endpoint's key, with the name of the part behind it if there are several; no two
        parts of one function have the same.
      key: the endpoint's key.
      component: the tensor.
    """

    name: str
    key: str
    component: Component


def parts_of(endpoints: Mapping[str, Endpoint]) -> list[Part]:
    """Returns the plain tensors of endpoints, by sorted key, which is TensorFlow's order."""
    parts: list[Part] = []
    taken = {key for key, end in endpoints.items() if end.encoding is Encoding.DENSE}
    for key in sorted(endpoints):
        endpoint = endpoints[key]
        for position, component in enumerate(endpoint.components):
            name = key
            if endpoint.encoding is not Encoding.DENSE:
                name = f"{key}_{_part_name(endpoint, position)}"
                while name in taken:
                    name += "_"
                taken.add(name)
            parts.append(Part(name, key, component))
    return parts


def _part_name(endpoint: Endpoint, position: int) -> str:
    if endpoint.encoding is Encoding.SPARSE:
        return ("indices", "values", "dense_shape")[position]
    return str(position)


def function_spec(
    args: Sequence[str],
    defaults: Sequence[Value] = (),
    *,
    kwonlyargs: Sequence[str] = (),
    no_arguments: bool = False,
) -> tf_pb.FunctionSpec:
    """The signature of a Python function.

    Args:
      args: names of its positional arguments.
      defaults: defaults of the last of them.
      kwonlyargs: names of its keyword-only arguments.
      no_arguments: true for a function that TensorFlow traced with `input_signature=()`.
    """
    fields = {
        "args": sequence([string(arg) for arg in args]),
        "varargs": none(),
        "varkw": none(),
        "defaults": tuple_of(list(defaults)) if defaults else none(),
        "kwonlyargs": sequence([string(arg) for arg in kwonlyargs]),
        "kwonlydefaults": none(),
        "annotations": mapping({}),
    }
    fullargspec = Value(
        named_tuple_value=tf_pb.NamedTupleValue(
            name="FullArgSpec",
            values=[tf_pb.PairValue(key=key, value=value) for key, value in fields.items()],
        )
    )
    return tf_pb.FunctionSpec(
        fullargspec=fullargspec, input_signature=tuple_of([]) if no_arguments else none()
    )
