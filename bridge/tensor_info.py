"""Writes the inputs and outputs of signatures as TensorInfos, and as text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bridge.dtypes import dtype_name
from bridge.model import Encoding, Endpoint, format_shape, shape_to_proto
from bridge.proto import tf_pb


def tensor_info(endpoint: Endpoint, names: Sequence[str]) -> tf_pb.TensorInfo:
    """Returns the TensorInfo of an input or output.

    Args:
      endpoint: the input or output.
      names: the tensors that it is made of, `node:index`, in the order of `endpoint.components`.
    """
    info = tf_pb.TensorInfo(tensor_shape=shape_to_proto(endpoint.shape))
    info.dtype = endpoint.dtype  # type: ignore[assignment]
    if endpoint.encoding is Encoding.DENSE:
        info.name = names[0]
    elif endpoint.encoding is Encoding.SPARSE:
        sparse = info.coo_sparse
        sparse.indices_tensor_name, sparse.values_tensor_name = names[0], names[1]
        sparse.dense_shape_tensor_name = names[2]
    else:
        if endpoint.type_spec is not None:
            info.composite_tensor.type_spec.CopyFrom(endpoint.type_spec)
        for component, name in zip(endpoint.components, names, strict=True):
            part = info.composite_tensor.components.add(
                name=name, tensor_shape=shape_to_proto(component.shape)
            )
            part.dtype = component.dtype  # type: ignore[assignment]
    return info


def describe(endpoints: Mapping[str, Endpoint]) -> list[str]:
    """Returns inputs or outputs as people write them: `images: float32[?, 224, 224, 3]`."""
    result = []
    for key, endpoint in endpoints.items():
        kind = "" if endpoint.encoding is Encoding.DENSE else f"{endpoint.encoding.value} "
        result.append(f"{key}: {kind}{dtype_name(endpoint.dtype)}{format_shape(endpoint.shape)}")
    return result
