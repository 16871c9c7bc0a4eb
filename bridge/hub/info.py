"""What is known of a signature's inputs and outputs without building their graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bridge.hub._tf import tf
from bridge.hub.errors import MalformedSpecError, UnsupportedSpecError


@dataclass(frozen=True)
class ParsedTensorInfo:
    """An input or output of a signature, which answers like a tensor.

    Attributes:
      type_spec: the `tf.TypeSpec`: a TensorSpec, a SparseTensorSpec, or that of another composite
        tensor.
    """

    type_spec: Any

    @property
    def dtype(self) -> Any:
        """The `tf.DType` of the elements."""
        return self.type_spec.dtype

    def get_shape(self) -> Any:
        """Returns the static `tf.TensorShape`; of a sparse tensor, that of the dense one."""
        return self.type_spec.shape

    @property
    def is_sparse(self) -> bool:
        """Whether it is a sparse tensor."""
        return isinstance(self.type_spec, tf.SparseTensorSpec)

    @property
    def is_composite(self) -> bool:
        """Whether it is made of several tensors, as sparse and ragged ones are."""
        return not isinstance(self.type_spec, tf.TensorSpec)

    @property
    def is_supported_type(self) -> bool:
        """Whether a module can take or give it: a dense, sparse or ragged tensor."""
        return isinstance(self.type_spec, (tf.TensorSpec, tf.SparseTensorSpec, tf.RaggedTensorSpec))

    def __repr__(self) -> str:
        if self.is_composite and not self.is_sparse:
            return f"<hub.ParsedTensorInfo type_spec={self.type_spec}>"
        return (
            f"<hub.ParsedTensorInfo shape={self.get_shape()} dtype={self.dtype.name} "
            f"is_sparse={self.is_sparse}>"
        )


def parse_tensor_infos(infos: Mapping[str, Any]) -> dict[str, ParsedTensorInfo]:
    """Returns what TensorInfo messages say, by the same names.

    Raises:
      MalformedSpecError: one names no tensor.
      UnsupportedSpecError: one is a composite tensor that this TensorFlow does not know.
    """
    return {name: ParsedTensorInfo(_type_spec(name, info)) for name, info in infos.items()}


def _type_spec(name: str, info: Any) -> Any:
    encoding = info.WhichOneof("encoding")
    if encoding == "composite_tensor":
        return decode_type_spec(name, info)
    if encoding not in ("name", "coo_sparse"):
        raise MalformedSpecError(f"{name!r} of the signature names no tensor")
    dtype, shape = tf.dtypes.as_dtype(info.dtype), tf.TensorShape(info.tensor_shape)
    return tf.TensorSpec(shape, dtype) if encoding == "name" else tf.SparseTensorSpec(shape, dtype)


def decode_type_spec(name: str, info: Any) -> Any:
    """Returns the TypeSpec of a TensorInfo of a composite tensor.

    Raises:
      UnsupportedSpecError: this TensorFlow does not know the type.
    """
    # No public function of TensorFlow reads a TypeSpecProto.
    from tensorflow.core.protobuf import struct_pb2
    from tensorflow.python.saved_model import nested_structure_coder

    value = struct_pb2.StructuredValue(type_spec_value=info.composite_tensor.type_spec)
    try:
        return nested_structure_coder.decode_proto(value)
    except (ValueError, TypeError, nested_structure_coder.NotEncodableError) as error:
        raise UnsupportedSpecError(
            f"{name!r} of the signature is a composite tensor that this TensorFlow does not know: "
            f"{error}"
        ) from error


def make_tensor_infos(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Returns TensorInfo messages that say what tensors are, by the same names.

    Args:
      tensors: dense, sparse or ragged tensors.
    """
    return {name: _tensor_info(tensor) for name, tensor in tensors.items()}


def _tensor_info(tensor: Any) -> Any:
    # TensorFlow's own function says of each call that it is deprecated.
    info = tf.compat.v1.TensorInfo(
        dtype=tensor.dtype.as_datatype_enum, tensor_shape=tensor.shape.as_proto()
    )
    if isinstance(tensor, tf.SparseTensor):
        info.coo_sparse.values_tensor_name = tensor.values.name
        info.coo_sparse.indices_tensor_name = tensor.indices.name
        info.coo_sparse.dense_shape_tensor_name = tensor.dense_shape.name
    elif isinstance(tensor, tf.RaggedTensor):
        from tensorflow.python.saved_model import nested_structure_coder

        spec = nested_structure_coder.encode_structure(tf.type_spec_from_value(tensor))
        info = tf.compat.v1.TensorInfo()
        info.composite_tensor.type_spec.CopyFrom(spec.type_spec_value)
        for part in tf.nest.flatten(tensor, expand_composites=True):
            info.composite_tensor.components.add().CopyFrom(_tensor_info(part))
    else:
        info.name = tensor.name
    return info
