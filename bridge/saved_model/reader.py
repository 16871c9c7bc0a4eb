"""Reads a TF2 SavedModel into a Model.

The graph of a variant holds one call for each signature: the functions stay functions until the
pass inline-calls.
"""

from __future__ import annotations

from pathlib import Path

from bridge.bundle import BundleIndex, read_index
from bridge.bundle.files import index_name
from bridge.call_graph import keep_called_functions
from bridge.errors import MalformedError, UnsupportedError, Where, WrongKindError
from bridge.graph import Graph
from bridge.hub_module.names import MODULE_DEF
from bridge.layout import ASSETS, ASSETS_EXTRA, SAVED_MODEL, VARIABLES
from bridge.model import TRAIN, Model, Tags, Variant, format_tags
from bridge.opsets import OpTable
from bridge.proto import tf_pb
from bridge.proto_file import read_proto
from bridge.report import Report
from bridge.saved_model.calls import VariantBuilder
from bridge.saved_model.choice import Choice, choose
from bridge.saved_model.object_tree import ObjectTree
from bridge.saved_model.record import RECORD, read_record
from bridge.saved_model.state_reader import SavedState, StateReader
from bridge.validate import check_graph

_KEPT = frozenset({SAVED_MODEL, VARIABLES, ASSETS, ASSETS_EXTRA, "fingerprint.pb"})
"""What the module has in its own form, or what is computed from it."""


def read_saved_model(directory: Path, report: Report) -> Model:
    """Reads a SavedModel.

    Args:
      directory: where it lies.
      report: told what the module can't have.

    Returns:
      The model; its variants are {} and, where the source was traced for training, {train}. It
      refers to the files of the directory, which must stay until it is written.

    Raises:
      WrongKindError: the directory holds no TF2 SavedModel.
      MalformedError: it holds a broken one.
      UnsupportedError: there is nothing to call, or a function needs something that no module has.
      UnsafeError: a link, or a name that leaves the model.
    """
    path = directory / SAVED_MODEL
    meta_graph = _read_meta_graph(directory, path)
    tree = ObjectTree(meta_graph.object_graph_def, path)
    index = _read_checkpoint(directory)
    if RECORD in meta_graph.collection_def:
        model = read_record(meta_graph, tree, index, directory, path, report)
    else:
        model = _read_objects(meta_graph, tree, index, directory, path, report)
    _report_leftovers(directory, model, report)
    return model


def _read_objects(
    meta_graph: tf_pb.MetaGraphDef,
    tree: ObjectTree,
    index: BundleIndex | None,
    directory: Path,
    path: Path,
    report: Report,
) -> Model:
    """Reads a SavedModel by what tf.saved_model.load would make of it."""
    library = _library(meta_graph, path)
    concrete = dict(meta_graph.object_graph_def.concrete_functions)
    choice = choose(tree, concrete, library, report)
    state = StateReader(tree, meta_graph, library, index, report).read(choice, directory)
    checked: set[str] = set()
    return Model(
        source=directory,
        variants={
            tags: _build_variant(tags, choice, state, meta_graph, path, checked)
            for tags in choice.signatures
        },
        variables=state.by_name(),
        assets=state.files,
        shards=list(index.shards) if index else [],
        versions=meta_graph.graph_def.versions,
        producer=meta_graph.meta_info_def.tensorflow_version,
    )


def _read_meta_graph(directory: Path, path: Path) -> tf_pb.MetaGraphDef:
    if (directory / MODULE_DEF).exists():
        raise WrongKindError(
            f"a TF1 Hub module, not a TF2 SavedModel: there is a {MODULE_DEF}",
            where=Where(directory),
            hint="hubbridge to-saved-model converts it the other way",
        )
    if not path.is_file():
        raise WrongKindError(
            f"no TF2 SavedModel: there is no {SAVED_MODEL}",
            where=Where(directory),
            hint="give the directory that holds saved_model.pb; Keras makes one with "
            "model.export(DIR)",
        )
    saved_model = read_proto(tf_pb.SavedModel, path)
    found = [graph for graph in saved_model.meta_graphs if graph.HasField("object_graph_def")]
    if not found:
        raise WrongKindError(
            "a TF1 SavedModel, not a TF2 one: it has no objects",
            where=Where(directory),
            hint="TF 1.15 makes a module of it with hub.create_module_spec_from_saved_model",
        )
    if len(found) > 1:
        raise UnsupportedError(f"it holds {len(found)} models, one is expected", where=Where(path))
    return found[0]


def _library(meta_graph: tf_pb.MetaGraphDef, path: Path) -> dict[str, tf_pb.FunctionDef]:
    library: dict[str, tf_pb.FunctionDef] = {}
    for function in meta_graph.graph_def.library.function:
        if function.signature.name in library:
            raise MalformedError(
                f"two functions are named {function.signature.name!r}", where=Where(path)
            )
        library[function.signature.name] = function
    return library


def _read_checkpoint(directory: Path) -> BundleIndex | None:
    prefix = directory / VARIABLES / VARIABLES
    return read_index(prefix) if prefix.with_name(index_name(prefix.name)).exists() else None


def _build_variant(
    tags: Tags,
    choice: Choice,
    state: SavedState,
    meta_graph: tf_pb.MetaGraphDef,
    path: Path,
    checked: set[str],
) -> Variant:
    graph = Graph(
        [],
        OpTable(meta_graph.meta_info_def.stripped_op_list.op),
        meta_graph.graph_def.library.function,
        where=Where(path, format_tags(tags)),
    )
    variant = Variant(tags, graph)
    builder = VariantBuilder(variant, state, training=tags == TRAIN)
    for name, trace in choice.signatures[tags].items():
        builder.add_signature(name, trace)
    for trace in choice.losses:
        builder.add_loss(trace)
    keep_called_functions(graph)
    check_graph(graph, checked)
    return variant


def _report_leftovers(directory: Path, model: Model, report: Report) -> None:
    for path in sorted(directory.iterdir()):
        if path.name not in _KEPT:
            report.drop("file", path.name, "no part of the module format")
    known = {"variables.index", *(shard.name for shard in model.shards)}
    folder = directory / VARIABLES
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name not in known:
            report.drop("file", f"{VARIABLES}/{path.name}", "no part of the model's checkpoint")
