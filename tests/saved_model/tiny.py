"""Tiny TF1 Hub modules, made of protos: for cases that no genuine exporter test module has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from bridge.attrs import function_attr, type_attr, types_attr
from bridge.proto import hub_pb, tf_pb


def constant(name: str, value: float) -> tf_pb.NodeDef:
    """A float32 scalar."""
    node = tf_pb.NodeDef(name=name, op="Const")
    node.attr["dtype"].type = tf_pb.DT_FLOAT
    node.attr["value"].tensor.CopyFrom(
        tf_pb.TensorProto(
            dtype=tf_pb.DT_FLOAT, tensor_shape=tf_pb.TensorShapeProto(), float_val=[value]
        )
    )
    return node


def placeholder(name: str, dtype: int = tf_pb.DT_FLOAT) -> tf_pb.NodeDef:
    """An input of unknown shape."""
    node = tf_pb.NodeDef(name=name, op="Placeholder")
    node.attr["dtype"].CopyFrom(type_attr(dtype))
    return node


def plus(name: str, left: str, right: str) -> tf_pb.NodeDef:
    """A sum."""
    node = tf_pb.NodeDef(name=name, op="Add", input=[left, right])
    node.attr["T"].type = tf_pb.DT_FLOAT
    return node


def call(name: str, argument: str, function: str) -> tf_pb.NodeDef:
    """A call of a function from float to float."""
    node = tf_pb.NodeDef(name=name, op="PartitionedCall", input=[argument])
    node.attr["f"].CopyFrom(function_attr(function))
    node.attr["Tin"].CopyFrom(types_attr([tf_pb.DT_FLOAT]))
    node.attr["Tout"].CopyFrom(types_attr([tf_pb.DT_FLOAT]))
    return node


def info(tensor: str, dtype: int = tf_pb.DT_FLOAT) -> tf_pb.TensorInfo:
    """An input or output of a signature, of unknown shape."""
    result = tf_pb.TensorInfo(name=tensor)
    result.dtype = dtype  # type: ignore[assignment]
    result.tensor_shape.unknown_rank = True
    return result


def variant(
    tags: Iterable[str],
    nodes: Iterable[tf_pb.NodeDef],
    signatures: Mapping[str, tuple[Mapping[str, object], Mapping[str, object]]],
    losses: Iterable[str] = (),
) -> tf_pb.MetaGraphDef:
    """A graph variant.

    Args:
      tags: its tags.
      nodes: its graph.
      signatures: by name, inputs and outputs: names of float tensors, or TensorInfos.
      losses: names of tensors in REGULARIZATION_LOSSES.
    """
    result = tf_pb.MetaGraphDef(graph_def=tf_pb.GraphDef(node=nodes))
    result.meta_info_def.tags.extend(tags)
    for name, (inputs, outputs) in signatures.items():
        signature = result.signature_def[name]
        for target, tensors in ((signature.inputs, inputs), (signature.outputs, outputs)):
            for key, tensor in tensors.items():
                target[key].CopyFrom(info(tensor) if isinstance(tensor, str) else tensor)
    if losses:
        result.collection_def["regularization_losses"].node_list.value.extend(losses)
    return result


def write(directory: Path, *variants: tf_pb.MetaGraphDef) -> Path:
    """Writes a module without variables."""
    directory.mkdir(parents=True)
    module = hub_pb.ModuleDef(format=hub_pb.ModuleDef.FORMAT_V3)
    (directory / "tfhub_module.pb").write_bytes(module.SerializeToString())
    saved_model = tf_pb.SavedModel(saved_model_schema_version=1, meta_graphs=variants)
    (directory / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    return directory


def adding(tags: Iterable[str], value: float, **more: object) -> tf_pb.MetaGraphDef:
    """A variant whose signature `default` adds a number to `x`."""
    nodes = [placeholder("x"), constant("c", value), plus("y", "x", "c")]
    return variant(tags, nodes, {"default": ({"x": "x:0"}, {"default": "y:0"})}, **more)  # type: ignore[arg-type]
