"""Describes a variant in a MetaGraphDef: its signatures, and its collections.

The meaning of the collections is that of tensorflow_hub 0.12, native_module.py and
saved_model_lib.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bridge.graph import parse_tensor
from bridge.hub_module.names import (
    ASSET_FILEPATHS,
    COND_CONTEXT,
    GLOBAL_VARIABLES,
    MODEL_VARIABLES,
    REGULARIZATION_LOSSES,
    SAVED_MODEL_ASSETS,
    TABLE_INITIALIZERS,
    TRAINABLE_VARIABLES,
    UPDATE_OPS,
    WHILE_CONTEXT,
)
from bridge.layout import ATTACHMENTS
from bridge.model import Endpoint, Variant
from bridge.proto import hub_pb, tf_pb
from bridge.tensor_info import tensor_info

_ANY_ASSET = "type.googleapis.com/tensorflow.AssetFileDef"


def describe_variant(
    meta_graph: tf_pb.MetaGraphDef, variant: Variant, definitions: Mapping[str, bytes]
) -> None:
    """Fills in all that a module says of a variant beside its nodes.

    Args:
      meta_graph: takes it.
      variant: the variant.
      definitions: serialized VariableDefs of all variables, by name.
    """
    meta_graph.meta_info_def.tags.extend(sorted(variant.tags))
    _add_variables(meta_graph, variant, definitions)
    _add_nodes(meta_graph, TABLE_INITIALIZERS, variant.table_initializers)
    _add_nodes(meta_graph, UPDATE_OPS, dict.fromkeys(variant.update_ops.values()))
    losses = map(_full_name, variant.regularization_losses)
    _add_nodes(meta_graph, REGULARIZATION_LOSSES, losses)
    _add_contexts(meta_graph, COND_CONTEXT, variant.cond_contexts)
    _add_contexts(meta_graph, WHILE_CONTEXT, variant.while_contexts)
    _add_assets(meta_graph, variant)
    _add_attachments(meta_graph, variant)
    for name, signature in variant.signatures.items():
        proto = meta_graph.signature_def[name]
        for key, endpoint in signature.inputs.items():
            proto.inputs[key].CopyFrom(_tensor_info(endpoint))
        for key, endpoint in signature.outputs.items():
            proto.outputs[key].CopyFrom(_tensor_info(endpoint))


def _full_name(tensor: str) -> str:
    """Returns the name of a tensor as Python's TensorFlow wants it, with its index always."""
    node, output = parse_tensor(tensor)
    return f"{node}:{output}"


def _tensor_info(endpoint: Endpoint) -> tf_pb.TensorInfo:
    return tensor_info(endpoint, [_full_name(part.name) for part in endpoint.components])


def _add_nodes(meta_graph: tf_pb.MetaGraphDef, key: str, names: Iterable[str]) -> None:
    """Adds a list of nodes, or of tensors; the client has none that is empty."""
    if listed := list(names):
        meta_graph.collection_def[key].node_list.value.extend(listed)


def _add_variables(
    meta_graph: tf_pb.MetaGraphDef, variant: Variant, definitions: Mapping[str, bytes]
) -> None:
    for key, names in (
        (GLOBAL_VARIABLES, list(definitions)),
        (TRAINABLE_VARIABLES, variant.trainable_variables),
        (MODEL_VARIABLES, variant.model_variables),
    ):
        if names:
            values = meta_graph.collection_def[key].bytes_list.value
            values.extend(definitions[name] for name in names)


def _add_contexts(
    meta_graph: tf_pb.MetaGraphDef,
    key: str,
    contexts: Iterable[tf_pb.CondContextDef | tf_pb.WhileContextDef],
) -> None:
    for context in contexts:
        values = meta_graph.collection_def[key].bytes_list.value
        values.append(context.SerializeToString(deterministic=True))


def _add_assets(meta_graph: tf_pb.MetaGraphDef, variant: Variant) -> None:
    _add_nodes(meta_graph, ASSET_FILEPATHS, map(_full_name, variant.assets))
    for node, filename in sorted(variant.assets.items()):
        asset = tf_pb.AssetFileDef(filename=filename)
        asset.tensor_info.name = _full_name(node)
        packed = meta_graph.collection_def[SAVED_MODEL_ASSETS].any_list.value.add()
        packed.type_url = _ANY_ASSET
        packed.value = asset.SerializeToString(deterministic=True)


def _add_attachments(meta_graph: tf_pb.MetaGraphDef, variant: Variant) -> None:
    for key, value in variant.attachments.items():
        attachment = hub_pb.ModuleAttachment(key=key, value=value)
        values = meta_graph.collection_def[ATTACHMENTS].bytes_list.value
        values.append(attachment.SerializeToString(deterministic=True))
