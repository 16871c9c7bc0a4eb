"""Reads one MetaGraphDef of a TF1 Hub module into a Variant.

The meaning of the collections is that of tensorflow_hub 0.12, native_module.py and
saved_model_lib.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import DecodeError

from bridge.assets import check_asset_name
from bridge.collection_def import messages, node_list
from bridge.dtypes import base_dtype, dtype_name
from bridge.errors import MalformedError, UnsupportedError, Where
from bridge.graph import Graph, parse_tensor
from bridge.hub_module.names import (
    ASSET_FILEPATHS,
    COND_CONTEXT,
    GLOBAL_VARIABLES,
    MODEL_VARIABLES,
    REGULARIZATION_LOSSES,
    SAVED_MODEL_ASSETS,
    SUPPORTED_COLLECTIONS,
    TABLE_INITIALIZERS,
    TRAINABLE_VARIABLES,
    UPDATE_OPS,
    WHILE_CONTEXT,
)
from bridge.layout import ATTACHMENTS
from bridge.model import Component, Encoding, Endpoint, Signature, Variant, format_tags
from bridge.model import shape_from_proto as read_shape
from bridge.opsets import OpTable
from bridge.proto import hub_pb, tf_pb
from bridge.report import Report
from bridge.validate import check_graph


@dataclass
class VariantSource:
    """A variant as read, and what only the whole module can resolve.

    Attributes:
      variant: the variant.
      declared: VariableDef by op name, from the collection `variables`.
    """

    variant: Variant
    declared: dict[str, tf_pb.VariableDef] = field(default_factory=dict)


def read_meta_graph(meta_graph: tf_pb.MetaGraphDef, path: Path, report: Report) -> VariantSource:
    """Reads one graph variant.

    Args:
      meta_graph: the variant; its nodes are taken over, not copied.
      path: the file it comes from, for error messages.
      report: takes what the variant can't hold.

    Raises:
      UnsupportedError: a collection that modules can't have.
      MalformedError: something refers to a node that is not there, or breaks its own format.
      UnsafeError: an asset name that leaves `assets/`.
    """
    tags = frozenset(meta_graph.meta_info_def.tags)
    where = Where(path, format_tags(tags))
    if "" in tags:
        raise MalformedError("one of the tags is empty", where=where)
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
    variant.update_ops = {name: name for name in _node_list(meta_graph, UPDATE_OPS, graph)}
    variant.table_initializers = _node_list(meta_graph, TABLE_INITIALIZERS, graph)
    variant.regularization_losses = _losses(meta_graph, graph)
    variant.undifferentiated = _undifferentiated_exits(meta_graph, where)
    variant.assets = _read_assets(meta_graph, graph)
    variant.attachments = _read_attachments(meta_graph, where, report)
    return VariantSource(variant, declared)


def _undifferentiated_exits(meta_graph: tf_pb.MetaGraphDef, where: Where) -> set[str]:
    """Returns the Exit nodes of loops with `back_prop=False`, nested ones too.

    That a loop stops gradients is said nowhere but in its context, which only Python reads
    (python/ops/while_loop.py).
    """
    waiting: list[tf_pb.ControlFlowContextDef] = []
    for key, kind in ((WHILE_CONTEXT, "while_ctxt"), (COND_CONTEXT, "cond_ctxt")):
        if key not in meta_graph.collection_def:
            continue
        for value in meta_graph.collection_def[key].bytes_list.value:
            context = tf_pb.ControlFlowContextDef()
            try:
                getattr(context, kind).MergeFromString(value)
            except DecodeError as error:
                raise MalformedError(f"collection {key!r} is broken", where=where) from error
            waiting.append(context)
    exits: set[str] = set()
    while waiting:
        context = waiting.pop()
        loop = context.while_ctxt
        if context.HasField("while_ctxt") and not loop.back_prop:
            exits.update(parse_tensor(name).node for name in loop.loop_exit_names)
        waiting.extend(loop.nested_contexts)
        waiting.extend(context.cond_ctxt.nested_contexts)
    return exits


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
    """Returns the node or tensor names of a node list, after checking that they exist."""
    names = node_list(meta_graph, key, graph.where)
    for name in names:
        graph.node(parse_tensor(name).node)
    return names


def _node_list(meta_graph: tf_pb.MetaGraphDef, key: str, graph: Graph) -> list[str]:
    """Returns the nodes of a node list, each once: none can run twice in one step."""
    names = (parse_tensor(name).node for name in _names(meta_graph, key, graph))
    return list(dict.fromkeys(names))


def _losses(meta_graph: tf_pb.MetaGraphDef, graph: Graph) -> list[str]:
    """Returns the regularization losses as often as they stand there: TF1 adds them all up."""
    tensors = [parse_tensor(name) for name in _names(meta_graph, REGULARIZATION_LOSSES, graph)]
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
    result: dict[str, tf_pb.VariableDef] = {}
    for definition in messages(tf_pb.VariableDef, meta_graph, key, graph.where):
        name = parse_tensor(definition.variable_name).node
        graph.node(name)
        result[name] = definition
    return result


# -- signatures ----------------------------------------------------------------------------


_MAX_NESTING = 16
"""A type may be nested so deep: protobuf has a limit of its own, for all that is written."""


def _read_signature(name: str, proto: tf_pb.SignatureDef, graph: Graph) -> Signature:
    signature = Signature(
        name,
        {key: _read_endpoint(proto.inputs[key], name, key, graph) for key in sorted(proto.inputs)},
        {
            key: _read_endpoint(proto.outputs[key], name, key, graph)
            for key in sorted(proto.outputs)
        },
    )
    for tensor in signature.input_tensors():
        node = graph.node(parse_tensor(tensor).node)
        op_def = graph.op_def(node)
        if op_def.is_stateful and not op_def.input_arg:
            raise MalformedError(
                f"op {node.op} holds state, and can't be an input",
                where=graph.at(node.name, name),
            )
    return signature


def _read_endpoint(info: tf_pb.TensorInfo, signature: str, key: str, graph: Graph) -> Endpoint:
    where = graph.at(None, signature)
    shape = read_shape(info.tensor_shape)
    encoding = info.WhichOneof("encoding")
    if encoding == "name":
        component = _component(info, signature, key, graph)
        return Endpoint(Encoding.DENSE, component.dtype, shape, (component,))
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
        _check_type_spec(info.composite_tensor, key, where)
        dtype = info.dtype or (components[0].dtype if components else tf_pb.DT_INVALID)
        return Endpoint(
            Encoding.COMPOSITE, dtype, shape, components, info.composite_tensor.type_spec
        )
    raise MalformedError(f"{key!r} of the signature names no tensor", where=where)


def _check_type_spec(composite: tf_pb.TensorInfo.CompositeTensor, key: str, where: Where) -> None:
    spec = composite.type_spec
    if not composite.HasField("type_spec"):
        raise MalformedError(f"{key!r} is a composite tensor of no type", where=where)
    # TensorFlow 1.15 did not write the number yet.
    if spec.num_flat_components not in (0, len(composite.components)):
        raise MalformedError(
            f"the type of {key!r} has {spec.num_flat_components} components, the signature "
            f"{len(composite.components)}",
            where=where,
        )
    level = [spec.type_state]
    for _ in range(_MAX_NESTING):
        level = [inner for value in level for inner in _inner_values(value)]
    if level:
        raise MalformedError(
            f"the type of {key!r} is nested deeper than {_MAX_NESTING} levels", where=where
        )


def _inner_values(value: tf_pb.StructuredValue) -> Iterator[tf_pb.StructuredValue]:
    yield from value.list_value.values
    yield from value.tuple_value.values
    yield from (pair.value for pair in value.named_tuple_value.values)
    yield from value.dict_value.fields.values()
    if value.HasField("type_spec_value"):
        yield value.type_spec_value.type_state


def _component(info: tf_pb.TensorInfo, signature: str, key: str, graph: Graph) -> Component:
    where = graph.at(None, signature)
    if info.WhichOneof("encoding") != "name":
        raise UnsupportedError(f"{key!r} nests composite tensors", where=where)
    # A tensor that is the reference of a variable is given as the value that it stands for.
    dtype = base_dtype(info.dtype)
    name = _checked(info.name, dtype, key, where, graph)
    return Component(name, dtype, read_shape(info.tensor_shape))


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
    for asset in messages(
        tf_pb.AssetFileDef, meta_graph, SAVED_MODEL_ASSETS, graph.where, packed=True
    ):
        node = graph.node(parse_tensor(asset.tensor_info.name).node)
        _check_asset_node(node, graph)
        result[node.name] = check_asset_name(asset.filename, graph.where)
    for name in _node_list(meta_graph, ASSET_FILEPATHS, graph):
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


def _read_attachments(
    meta_graph: tf_pb.MetaGraphDef, where: Where, report: Report
) -> dict[str, bytes]:
    result: dict[str, bytes] = {}
    for attachment in messages(hub_pb.ModuleAttachment, meta_graph, ATTACHMENTS, where):
        if attachment.key in result:
            report.drop(
                "attachment",
                attachment.key,
                "another attachment of this key stands behind it, and the old client gives that",
                where,
            )
        result[attachment.key] = attachment.value
    return result
