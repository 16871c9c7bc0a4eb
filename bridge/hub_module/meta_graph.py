"""Reads one MetaGraphDef of a TF1 Hub module into a Variant.

The meaning of the collections is that of tensorflow_hub 0.12, native_module.py and
saved_model_lib.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from google.protobuf.message import DecodeError

from bridge.dtypes import base_dtype, dtype_name
from bridge.errors import MalformedError, UnsafeError, UnsupportedError, Where
from bridge.graph import Graph, parse_tensor
from bridge.model import Component, Encoding, Endpoint, Signature, Variant, format_tags
from bridge.model import shape_from_proto as read_shape
from bridge.opsets import OpTable
from bridge.proto import hub_pb, tf_pb
from bridge.validate import check_graph

GLOBAL_VARIABLES = "variables"
TRAINABLE_VARIABLES = "trainable_variables"
MODEL_VARIABLES = "model_variables"
ATTACHMENTS = "hub_module_attachments"
SAVED_MODEL_ASSETS = "saved_model_assets"

SUPPORTED_COLLECTIONS = frozenset(
    {
        GLOBAL_VARIABLES,
        TRAINABLE_VARIABLES,
        MODEL_VARIABLES,
        "table_initializer",
        "update_ops",
        "regularization_losses",
        "asset_filepaths",
        SAVED_MODEL_ASSETS,
        "cond_context",
        "while_context",
        ATTACHMENTS,
    }
)
"""What a module may hold; the old client refuses any other (native_module.py)."""


@dataclass
class VariantSource:
    """A variant as read, and what only the whole module can resolve.

    Attributes:
      variant: the variant.
      declared: VariableDef by op name, from the collection `variables`.
    """

    variant: Variant
    declared: dict[str, tf_pb.VariableDef] = field(default_factory=dict)


def read_meta_graph(meta_graph: tf_pb.MetaGraphDef, path: Path) -> VariantSource:
    """Reads one graph variant.

    Args:
      meta_graph: the variant; its nodes are taken over, not copied.
      path: the file it comes from, for error messages.

    Raises:
      UnsupportedError: a collection that modules can't have.
      MalformedError: something refers to a node that is not there, or breaks its own format.
      UnsafeError: an asset name that leaves `assets/`.
    """
    tags = frozenset(meta_graph.meta_info_def.tags)
    where = Where(path, format_tags(tags))
    _check_collections(meta_graph, where)
    graph_def = meta_graph.graph_def
    graph = Graph(
        graph_def.node,
        OpTable(meta_graph.meta_info_def.stripped_op_list.op),
        graph_def.library.function,
        graph_def.library.gradient,
        where,
    )
    check_graph(graph)
    variant = Variant(tags, graph)
    for name in sorted(meta_graph.signature_def):
        variant.signatures[name] = _read_signature(name, meta_graph.signature_def[name], graph)
    declared = _variable_defs(meta_graph, GLOBAL_VARIABLES, graph)
    trainable = _variable_defs(meta_graph, TRAINABLE_VARIABLES, graph)
    model_variables = _variable_defs(meta_graph, MODEL_VARIABLES, graph)
    for name in (*trainable, *model_variables):
        if name not in declared:
            raise MalformedError(
                "a trainable or model variable is not in `variables`", where=graph.at(name)
            )
    variant.trainable_variables = list(trainable)
    variant.model_variables = list(model_variables)
    variant.update_ops = _node_list(meta_graph, "update_ops", graph)
    variant.table_initializers = _node_list(meta_graph, "table_initializer", graph)
    variant.regularization_losses = _losses(meta_graph, graph)
    variant.assets = _read_assets(meta_graph, graph)
    variant.attachments = _read_attachments(meta_graph, where)
    return VariantSource(variant, declared)


def _check_collections(meta_graph: tf_pb.MetaGraphDef, where: Where) -> None:
    for key in sorted(meta_graph.collection_def):
        if key not in SUPPORTED_COLLECTIONS:
            raise UnsupportedError(
                f"the graph has the collection {key!r}, which TF1 Hub modules can't have",
                where=where,
                hint="export the module again with "
                f"hub.create_module_spec(..., drop_collections=[{key!r}])",
            )


def _names(meta_graph: tf_pb.MetaGraphDef, key: str, graph: Graph) -> list[str]:
    """Returns the node or tensor names of a node list, each once, and checks that they exist."""
    if key not in meta_graph.collection_def:
        return []
    collection = meta_graph.collection_def[key]
    if collection.WhichOneof("kind") != "node_list":
        raise MalformedError(f"collection {key!r} is no list of nodes", where=graph.where)
    names = list(dict.fromkeys(collection.node_list.value))
    for name in names:
        graph.node(parse_tensor(name).node)
    return names


def _node_list(meta_graph: tf_pb.MetaGraphDef, key: str, graph: Graph) -> list[str]:
    names = (parse_tensor(name).node for name in _names(meta_graph, key, graph))
    return list(dict.fromkeys(names))


def _losses(meta_graph: tf_pb.MetaGraphDef, graph: Graph) -> list[str]:
    tensors = [parse_tensor(name) for name in _names(meta_graph, "regularization_losses", graph)]
    for tensor in tensors:
        if tensor.is_control:
            raise MalformedError(
                "a regularization loss is a control edge, no tensor", where=graph.at(tensor.node)
            )
        graph.output(tensor)
    return [str(tensor) for tensor in tensors]


def _variable_defs(
    meta_graph: tf_pb.MetaGraphDef, key: str, graph: Graph
) -> dict[str, tf_pb.VariableDef]:
    """Reads a collection of VariableDefs, by the name of the variable's op."""
    if key not in meta_graph.collection_def:
        return {}
    collection = meta_graph.collection_def[key]
    if collection.WhichOneof("kind") != "bytes_list":
        raise MalformedError(f"collection {key!r} is no list of variables", where=graph.where)
    result: dict[str, tf_pb.VariableDef] = {}
    for value in collection.bytes_list.value:
        try:
            definition = tf_pb.VariableDef.FromString(value)
        except DecodeError as error:
            raise MalformedError(
                f"collection {key!r} holds a broken VariableDef", where=graph.where
            ) from error
        name = parse_tensor(definition.variable_name).node
        graph.node(name)
        result[name] = definition
    return result


# -- signatures ----------------------------------------------------------------------------


def _read_signature(name: str, proto: tf_pb.SignatureDef, graph: Graph) -> Signature:
    return Signature(
        name,
        {key: _read_endpoint(proto.inputs[key], name, key, graph) for key in sorted(proto.inputs)},
        {
            key: _read_endpoint(proto.outputs[key], name, key, graph)
            for key in sorted(proto.outputs)
        },
    )


def _read_endpoint(info: tf_pb.TensorInfo, signature: str, key: str, graph: Graph) -> Endpoint:
    where = graph.at(None, signature)
    shape = read_shape(info.tensor_shape)
    encoding = info.WhichOneof("encoding")
    if encoding == "name":
        component = _component(info, signature, key, graph)
        return Endpoint(Encoding.DENSE, info.dtype, shape, (component,))
    if encoding == "coo_sparse":
        rank = None if shape is None else len(shape)
        sparse = info.coo_sparse
        components: tuple[Component, ...] = (
            Component(_checked(sparse.indices_tensor_name, tf_pb.DT_INT64, key, where, graph),
                      tf_pb.DT_INT64, (None, rank)),
            Component(_checked(sparse.values_tensor_name, info.dtype, key, where, graph),
                      info.dtype, (None,)),
            Component(_checked(sparse.dense_shape_tensor_name, tf_pb.DT_INT64, key, where, graph),
                      tf_pb.DT_INT64, (rank,)),
        )  # fmt: skip
        return Endpoint(Encoding.SPARSE, info.dtype, shape, components)
    if encoding == "composite_tensor":
        components = tuple(
            _component(component, signature, key, graph)
            for component in info.composite_tensor.components
        )
        dtype = info.dtype or (components[0].dtype if components else tf_pb.DT_INVALID)
        return Endpoint(
            Encoding.COMPOSITE, dtype, shape, components, info.composite_tensor.type_spec
        )
    raise MalformedError(f"{key!r} of the signature names no tensor", where=where)


def _component(info: tf_pb.TensorInfo, signature: str, key: str, graph: Graph) -> Component:
    where = graph.at(None, signature)
    if info.WhichOneof("encoding") != "name":
        raise UnsupportedError(f"{key!r} nests composite tensors", where=where)
    name = _checked(info.name, info.dtype, key, where, graph)
    return Component(name, info.dtype, read_shape(info.tensor_shape))


def _checked(name: str, dtype: int, key: str, where: Where, graph: Graph) -> str:
    """Returns the tensor's name in its short form, after checking that it is there and of dtype."""
    tensor = parse_tensor(name)
    if tensor.is_control:
        raise MalformedError(f"{key!r} names the control edge {name!r}, no tensor", where=where)
    found = base_dtype(graph.output(tensor).dtype)
    if found != dtype:
        raise MalformedError(
            f"{key!r} is said to be {dtype_name(dtype)}, tensor {name!r} is {dtype_name(found)}",
            where=where,
        )
    return str(tensor)


# -- assets and attachments ------------------------------------------------------------------


def _read_assets(meta_graph: tf_pb.MetaGraphDef, graph: Graph) -> dict[str, str]:
    """Returns the asset file by the name of the Const node that holds its path."""
    result: dict[str, str] = {}
    if SAVED_MODEL_ASSETS in meta_graph.collection_def:
        for packed in meta_graph.collection_def[SAVED_MODEL_ASSETS].any_list.value:
            try:
                asset = tf_pb.AssetFileDef.FromString(packed.value)
            except DecodeError as error:
                raise MalformedError("a broken AssetFileDef", where=graph.where) from error
            node = graph.node(parse_tensor(asset.tensor_info.name).node)
            _check_asset_node(node, graph)
            result[node.name] = check_asset_name(asset.filename, graph.where)
    for name in _node_list(meta_graph, "asset_filepaths", graph):
        if name not in result:
            raise MalformedError(
                "the node is in `asset_filepaths` without a file in `saved_model_assets`",
                where=graph.at(name),
            )
    return result


def _check_asset_node(node: tf_pb.NodeDef, graph: Graph) -> None:
    if node.op != "Const" or node.attr["dtype"].type != tf_pb.DT_STRING:
        raise MalformedError("an asset's path must be a string Const", where=graph.at(node.name))
    if len(node.attr["value"].tensor.string_val) != 1:
        raise MalformedError("an asset's path must be a scalar", where=graph.at(node.name))


def check_asset_name(name: str, where: Where) -> str:
    """Returns an asset's file name if it stays inside `assets/`.

    Raises:
      UnsafeError: it does not.
    """
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise UnsafeError(f"asset name {name!r} leaves assets/", where=where)
    return str(path)


def _read_attachments(meta_graph: tf_pb.MetaGraphDef, where: Where) -> dict[str, bytes]:
    if ATTACHMENTS not in meta_graph.collection_def:
        return {}
    collection = meta_graph.collection_def[ATTACHMENTS]
    if collection.WhichOneof("kind") != "bytes_list":
        raise MalformedError(f"collection {ATTACHMENTS!r} is no list of bytes", where=where)
    result: dict[str, bytes] = {}
    for value in collection.bytes_list.value:
        try:
            attachment = hub_pb.ModuleAttachment.FromString(value)
        except DecodeError as error:
            raise MalformedError("a broken ModuleAttachment", where=where) from error
        result[attachment.key] = attachment.value
    return result
