"""What a SavedModel that was a TF1 Hub module says of that module, so that it can be one again.

Objects and functions can't say all that a module has: its exact tags, which nodes are update ops,
the parts of partitioned variables, losses and update ops that no call runs. A collection of the
MetaGraphDef holds it, one VariantRecord for each variant: the variant as modules have it, but for
the nodes that the SavedModel's functions hold. Loaders of TensorFlow ignore the collection;
tf.saved_model.save does not write it again.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from pathlib import Path

from google.protobuf.message import DecodeError

from bridge.assets import find_assets
from bridge.bundle import BundleIndex
from bridge.call_graph import keep_called_functions
from bridge.errors import MalformedError, UnsupportedError, Where
from bridge.graph import Graph
from bridge.hub_module.description import describe_variant
from bridge.hub_module.meta_graph import VariantSource, read_meta_graph
from bridge.hub_module.variable_defs import describe_variable
from bridge.hub_module.variables import read_save_slice
from bridge.inline import Body as InlinedBody
from bridge.layout import ASSETS
from bridge.model import Asset, Model, Tags, Variable, Variant, format_tags, shape_from_proto
from bridge.ops import RESOURCE_VARIABLE
from bridge.opsets import OpTable
from bridge.proto import record_pb, tf_pb
from bridge.report import Report
from bridge.saved_model.bodies import Body
from bridge.saved_model.library import rename_calls
from bridge.saved_model.object_tree import ObjectTree, places_of_variables
from bridge.saved_model.state import State
from bridge.saved_model.structured_value import parts_of
from bridge.validate import check_graph

RECORD = "hubbridge_module"
"""The collection."""

VERSION = 1


def write_record(variant: Variant, model: Model, bodies: Iterable[Body], state: State) -> bytes:
    """Returns the record of a variant, for the collection.

    Args:
      variant: the variant; all passes have run.
      model: the whole module.
      bodies: the functions that were cut out of the variant.
      state: the SavedModel under construction.
    """
    record = record_pb.VariantRecord(version=VERSION)
    nodes_of_state = {c: node for node, c in state.variants[variant.label].captured.items()}
    held: set[str] = set()
    for body in bodies:
        arguments = [part.component.name for part in parts_of(body.inputs)]
        arguments += [nodes_of_state[capture] for capture in body.captures]
        record.bodies.add(function=body.name, arguments=arguments)
        held.update(node.name for node in state.library.functions[body.name].node_def)
    graph_def = record.meta_graph.graph_def
    graph_def.node.extend(n for name, n in variant.graph.nodes.items() if name not in held)
    for variable in model.variables.values():
        if variable.name not in variant.graph.nodes:  # declared, but nothing reads it
            graph_def.node.append(variable.handle())
    rename_calls(graph_def.node, state.variants[variant.label].renamed)
    definitions = {
        variable.name: _definition(variable, variant).SerializeToString(deterministic=True)
        for variable in model.variables.values()
        if variant.tags in variable.variants
    }
    describe_variant(record.meta_graph, variant, definitions)
    # As text: a v1 loader that imports under a name scope takes the values for names.
    return base64.b64encode(record.SerializeToString(deterministic=True))


def _definition(variable: Variable, variant: Variant) -> tf_pb.VariableDef:
    """What a VariableDef says beside the names of nodes that no SavedModel needs."""
    definition = tf_pb.VariableDef(
        variable_name=f"{variable.name}:0",
        is_resource=True,
        trainable=variable.name in variant.trainable_variables,
    )
    describe_variable(definition, variable)
    return definition


def read_record(
    meta_graph: tf_pb.MetaGraphDef,
    tree: ObjectTree,
    index: BundleIndex | None,
    directory: Path,
    path: Path,
    report: Report,
) -> Model:
    """Reads the module that a SavedModel was made from.

    Args:
      meta_graph: the SavedModel's, with the collection.
      tree: its objects.
      index: its checkpoint.
      directory: where it lies.
      path: its file, for error messages.
      report: takes what the model can't hold.

    Raises:
      MalformedError: the record does not fit the SavedModel.
      UnsupportedError: it was written by a newer version.
    """
    library = {f.signature.name: f for f in meta_graph.graph_def.library.function}
    sources: dict[Tags, VariantSource] = {}
    for data in meta_graph.collection_def[RECORD].bytes_list.value:
        try:
            record = record_pb.VariantRecord.FromString(base64.b64decode(data, validate=True))
        except (DecodeError, ValueError) as error:
            raise MalformedError(f"collection {RECORD!r} is broken", where=Where(path)) from error
        if record.version > VERSION:
            raise UnsupportedError(
                f"collection {RECORD!r} has version {record.version}, this one knows {VERSION}",
                where=Where(path),
                hint="install the latest hubbridge",
            )
        _complete(record, meta_graph, library, path)
        source = read_meta_graph(record.meta_graph, path, report)
        tags = source.variant.tags
        if tags in sources:
            raise MalformedError(
                f"collection {RECORD!r} has two variants {format_tags(tags)}", where=Where(path)
            )
        sources[tags] = source
    if not sources:
        raise MalformedError(f"collection {RECORD!r} has no variant", where=Where(path))
    return Model(
        source=directory,
        variants={tags: source.variant for tags, source in sources.items()},
        variables=_read_variables(sources, tree, index),
        assets=_read_assets(directory, sources),
        shards=list(index.shards) if index else [],
        versions=meta_graph.graph_def.versions,
        producer=meta_graph.meta_info_def.tensorflow_version,
        was_module=True,
    )


def _complete(
    record: record_pb.VariantRecord,
    meta_graph: tf_pb.MetaGraphDef,
    library: dict[str, tf_pb.FunctionDef],
    path: Path,
) -> None:
    """Puts the nodes of the functions back into the graph of the variant."""
    definition = record.meta_graph
    definition.meta_info_def.stripped_op_list.CopyFrom(meta_graph.meta_info_def.stripped_op_list)
    graph = Graph(
        definition.graph_def.node,
        OpTable(definition.meta_info_def.stripped_op_list.op),
        library.values(),
        where=Where(path),
    )
    check_graph(Graph([], graph.ops, library.values(), where=graph.where))
    for body in record.bodies:
        if body.function not in library:
            raise MalformedError(f"there is no function {body.function!r}", where=Where(path))
        for node in _nodes_of(graph, library[body.function], list(body.arguments)):
            known = graph.nodes.setdefault(node.name, node)
            if known is not node and known != node:
                raise MalformedError(
                    f"function {body.function!r} has another node of this name than the others",
                    where=graph.at(node.name),
                )
    keep_called_functions(graph)
    del definition.graph_def.node[:]
    definition.graph_def.node.extend(graph.nodes.values())
    definition.graph_def.library.function.extend(graph.functions.values())
    for gradient in meta_graph.graph_def.library.gradient:
        if gradient.function_name in graph.functions:
            definition.graph_def.library.gradient.append(gradient)


def _nodes_of(
    graph: Graph, function: tf_pb.FunctionDef, arguments: list[str]
) -> Iterator[tf_pb.NodeDef]:
    """Yields the nodes of a body as the graph had them."""
    names = [arg.name for arg in function.signature.input_arg]
    if len(names) != len(arguments):
        raise MalformedError(
            f"function {function.signature.name!r} has {len(names)} arguments, the record "
            f"{len(arguments)}",
            where=graph.where,
        )
    for node in InlinedBody(graph, function, dict(zip(names, arguments, strict=True))).nodes():
        node.attr.pop("_output_shapes", None)
        yield node


def _read_assets(directory: Path, sources: dict[Tags, VariantSource]) -> dict[str, Asset]:
    assets = find_assets(directory)
    for source in sources.values():
        for node, name in source.variant.assets.items():
            if name not in assets:
                raise MalformedError(
                    f"the asset file {ASSETS}/{name} is missing",
                    where=source.variant.graph.at(node),
                )
    return assets


def _read_variables(
    sources: dict[Tags, VariantSource], tree: ObjectTree, index: BundleIndex | None
) -> dict[str, Variable]:
    numbers = {tree.nodes[n].variable.name: n for n in tree.variables()}
    declared: dict[str, list[tuple[VariantSource, tf_pb.VariableDef]]] = {}
    for source in sources.values():
        for name, definition in source.declared.items():
            declared.setdefault(name, []).append((source, definition))
    missing = [name for name in declared if name not in numbers]
    if missing or (declared and index is None):
        raise MalformedError(
            f"variable {(missing or list(declared))[0]!r} of the module has no value here",
            where=tree.where,
        )
    wanted = [numbers[name] for name in declared]
    places = places_of_variables(tree, wanted, index) if index else {}
    variables: dict[str, Variable] = {}
    for name, users in sorted(declared.items()):
        entry = places[numbers[name]]
        source, definition = users[0]
        handle = source.variant.graph.node(name)
        declared_as = (handle.attr["dtype"].type, shape_from_proto(handle.attr["shape"].shape))
        same = declared_as == (entry.dtype, entry.shape)
        if handle.op != RESOURCE_VARIABLE or not same or entry.data is None:
            raise MalformedError(
                "the variable is another one in the module",
                where=source.variant.graph.at(name),
            )
        variables[name] = Variable(
            name=name,
            dtype=entry.dtype,
            shape=entry.shape,
            trainable=any(name in s.variant.trainable_variables for s, _ in users),
            data=entry.data,
            save_slice=read_save_slice(definition),
            synchronization=definition.synchronization,
            aggregation=definition.aggregation,
            variants={s.variant.tags for s, _ in users},
        )
    return variables
