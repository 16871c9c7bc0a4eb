"""Describes what a MetaGraphDef says of its graph: signatures and collections."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bridge._inspect.endpoints import endpoints_of
from bridge._inspect.results import AttachmentInfo, SignatureInfo, VariantInfo
from bridge.collection_def import messages, node_list, parse_message
from bridge.errors import Where
from bridge.hub_module.names import REGULARIZATION_LOSSES, SAVED_MODEL_ASSETS, UPDATE_OPS
from bridge.layout import ATTACHMENTS
from bridge.model import format_tags
from bridge.passes.image_conventions import IMAGE_MODULE_INFO
from bridge.proto import hub_pb, tf_pb

_INTERNAL = frozenset({"__saved_model_init_op", "__saved_model_train_op"})
"""Signatures in which loaders look up a node (python/saved_model/constants.py)."""

_MAX_TEXT = 200
"""So many characters are shown of an attached text."""


def describe_variant(meta_graph: tf_pb.MetaGraphDef, path: Path) -> VariantInfo:
    """Describes one graph.

    Raises:
      MalformedError: a signature or a collection is broken.
    """
    where = where_of(meta_graph, path)
    graph_def = meta_graph.graph_def
    return VariantInfo(
        name=format_tags(meta_graph.meta_info_def.tags),
        tags=sorted(meta_graph.meta_info_def.tags),
        nodes=len(graph_def.node),
        functions=len(graph_def.library.function),
        signatures=[
            _signature(name, meta_graph.signature_def[name], where)
            for name in sorted(meta_graph.signature_def)
            if name not in _INTERNAL
        ],
        update_ops=node_list(meta_graph, UPDATE_OPS, where),
        regularization_losses=node_list(meta_graph, REGULARIZATION_LOSSES, where),
    )


def where_of(meta_graph: tf_pb.MetaGraphDef, path: Path) -> Where:
    """Returns the place that errors name."""
    return Where(path, format_tags(meta_graph.meta_info_def.tags))


def _signature(name: str, proto: tf_pb.SignatureDef, where: Where) -> SignatureInfo:
    place = Where(where.path, where.variant, name)
    return SignatureInfo(
        name,
        proto.method_name,
        endpoints_of(proto.inputs, place),
        endpoints_of(proto.outputs, place),
    )


# -- collections ------------------------------------------------------------------------------


def assets_of(meta_graph: tf_pb.MetaGraphDef, path: Path) -> dict[str, str]:
    """Returns the asset file that each tensor of a graph names, by the name of its node."""
    where = where_of(meta_graph, path)
    found = list(messages(tf_pb.AssetFileDef, meta_graph, SAVED_MODEL_ASSETS, where, packed=True))
    found += meta_graph.asset_file_def
    return {node_of(asset.tensor_info.name): asset.filename for asset in found}


def node_of(tensor: str) -> str:
    """Returns the node that makes a tensor, whatever stands for its index."""
    return tensor.removeprefix("^").partition(":")[0]


# -- attachments ------------------------------------------------------------------------------


def describe_attachments(
    meta_graphs: Sequence[tf_pb.MetaGraphDef], path: Path
) -> list[AttachmentInfo]:
    """Describes what is attached to the variants; a message that several have, once.

    Raises:
      MalformedError: an attachment is broken.
    """
    variants: dict[tuple[str, bytes], list[str]] = {}
    for meta_graph in meta_graphs:
        where = where_of(meta_graph, path)
        for collection in sorted(meta_graph.collection_def):
            # A SavedModel that was a module has one for each subobject that is a variant.
            name, _, suffix = collection.partition("/")
            if name != ATTACHMENTS:
                continue
            for one in attachments_of(meta_graph, collection, where):
                label = suffix or where.variant or ""
                variants.setdefault((one.key, one.value), []).append(label)
    return [
        _attachment(key, value, labels, Where(path))
        for (key, value), labels in sorted(variants.items())
    ]


def attachments_of(
    meta_graph: tf_pb.MetaGraphDef, collection: str, where: Where
) -> Iterator[hub_pb.ModuleAttachment]:
    """Yields what is attached to a graph by a collection; of those of one key the last counts.

    Raises:
      MalformedError: an attachment is broken.
    """
    return messages(hub_pb.ModuleAttachment, meta_graph, collection, where)


def _attachment(key: str, value: bytes, variants: list[str], where: Where) -> AttachmentInfo:
    message: dict[str, Any] | None = None
    text = None
    if key == IMAGE_MODULE_INFO:
        info = parse_message(hub_pb.ImageModuleInfo, value, f"attachment {key!r}", where)
        size = info.default_image_size
        has_size = info.HasField("default_image_size")
        message = {
            "default_image_size": {"height": size.height, "width": size.width} if has_size else None
        }
    else:
        text = _text(value)
    return AttachmentInfo(key, list(dict.fromkeys(variants)), len(value), message, text)


def _text(value: bytes) -> str | None:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    if not text or not all(c.isprintable() or c.isspace() for c in text):
        return None
    return textwrap.shorten(text, _MAX_TEXT, placeholder=" …") or None
