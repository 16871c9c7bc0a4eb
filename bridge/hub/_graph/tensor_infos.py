"""The plain tensors that a signature's inputs and outputs are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bridge.hub._tf import tf
from bridge.hub.info import decode_type_spec


def component_names(info: Any) -> list[str]:
    """Returns the names of a TensorInfo's plain tensors, in the order of `tf.nest.flatten`."""
    encoding = info.WhichOneof("encoding")
    if encoding == "coo_sparse":
        sparse = info.coo_sparse
        return [
            sparse.indices_tensor_name,
            sparse.values_tensor_name,
            sparse.dense_shape_tensor_name,
        ]
    if encoding == "composite_tensor":
        return [component.name for component in info.composite_tensor.components]
    return [info.name]


def input_tensors(infos: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns by name of a module's tensor what is given in its place.

    Args:
      infos: the TensorInfo of each input.
      inputs: the dense, sparse or ragged tensor for each.
    """
    result: dict[str, Any] = {}
    for key, info in infos.items():
        parts = tf.nest.flatten(inputs[key], expand_composites=True)
        result.update(zip(component_names(info), parts, strict=True))
    return result


def output_tensors(infos: Mapping[str, Any], tensor: Callable[[str], Any]) -> dict[str, Any]:
    """Returns each output as the dense, sparse or ragged tensor that it is.

    Args:
      infos: the TensorInfo of each output.
      tensor: gives the plain tensor for a name in the module.
    """
    return {key: _tensor(key, info, tensor) for key, info in sorted(infos.items())}


def _tensor(key: str, info: Any, tensor: Callable[[str], Any]) -> Any:
    parts = [tensor(name) for name in component_names(info)]
    encoding = info.WhichOneof("encoding")
    if encoding == "coo_sparse":
        return tf.SparseTensor(*parts)
    if encoding == "composite_tensor":
        return tf.nest.pack_sequence_as(decode_type_spec(key, info), parts, expand_composites=True)
    return parts[0]
