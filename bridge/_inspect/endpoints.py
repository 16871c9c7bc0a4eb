"""Describes tensors: of signatures as TensorInfos say, of callables as their traces say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bridge._inspect.results import EndpointInfo
from bridge.dtypes import base_dtype, dtype_name
from bridge.errors import MalformedError, Where
from bridge.model import Encoding, Shape, shape_from_proto
from bridge.proto import tf_pb
from bridge.saved_model.traces import Leaf

_RAGGED = tf_pb.TypeSpecProto.RAGGED_TENSOR_SPEC


def endpoints_of(infos: Mapping[str, tf_pb.TensorInfo], where: Where) -> list[EndpointInfo]:
    """Describes the inputs or outputs of a signature.

    Raises:
      MalformedError: one of them names no tensor.
    """
    return [_endpoint(key, infos[key], where) for key in sorted(infos)]


def _endpoint(key: str, info: tf_pb.TensorInfo, where: Where) -> EndpointInfo:
    encoding, shape, dtype = info.WhichOneof("encoding"), info.tensor_shape, info.dtype
    if encoding is None:
        raise MalformedError(f"{key!r} of the signature names no tensor", where=where)
    kind = {"name": Encoding.DENSE, "coo_sparse": Encoding.SPARSE}.get(
        encoding, Encoding.COMPOSITE
    ).value
    if encoding == "composite_tensor":
        spec, parts = info.composite_tensor.type_spec, info.composite_tensor.components
        # TensorFlow 1.15 leaves both out: the parts and the type say it.
        dtype = dtype or (parts[0].dtype if parts else dtype)
        if spec.type_spec_class == _RAGGED:
            kind = "ragged"
            shape = next(_shapes(spec), shape)
    return EndpointInfo(key, kind, dtype_name(base_dtype(dtype)), as_list(shape_from_proto(shape)))


def _shapes(spec: tf_pb.TypeSpecProto) -> Iterator[tf_pb.TensorShapeProto]:
    for value in spec.type_state.tuple_value.values:
        if value.HasField("tensor_shape_value"):
            yield value.tensor_shape_value


def leaf_of(leaf: Leaf) -> EndpointInfo:
    """Describes an argument or a result of a trace."""
    end = leaf.endpoint
    ragged = end.type_spec is not None and end.type_spec.type_spec_class == _RAGGED
    kind = "ragged" if ragged else end.encoding.value
    return EndpointInfo(leaf.key, kind, dtype_name(end.dtype), as_list(end.shape), leaf.argument)


def as_list(shape: Shape) -> list[int | None] | None:
    """Returns a shape as JSON has it."""
    return None if shape is None else list(shape)
