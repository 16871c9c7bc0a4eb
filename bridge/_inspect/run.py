"""Looks into a model: reads its files, and describes what is in them."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from bridge._inspect.image_size import find_image_size
from bridge._inspect.meta_graphs import assets_of, describe_attachments, describe_variant
from bridge._inspect.objects import Objects
from bridge._inspect.ops import OpCounter
from bridge._inspect.results import (
    HUB_MODULE,
    TF1_SAVED_MODEL,
    TF2_SAVED_MODEL,
    AssetInfo,
    CallableInfo,
    InspectReport,
    TableInfo,
    VariableInfo,
    VariablesInfo,
)
from bridge._inspect.v1_state import read_v1_tables, read_v1_variables
from bridge.assets import find_assets
from bridge.bundle import BundleIndex, read_index
from bridge.bundle.files import index_name
from bridge.errors import MalformedError, SourceNotFoundError, Where
from bridge.hub_module.names import MODULE_DEF
from bridge.kinds import is_hub_module
from bridge.layout import SAVED_MODEL, VARIABLES
from bridge.proto import hub_pb, tf_pb
from bridge.proto_file import read_proto
from bridge.saved_model.record import RECORD
from bridge.source import open_source, source_name


def inspect(source: str | os.PathLike[str], *, conversion: bool = True) -> InspectReport:
    """Does what `bridge.inspect` says."""
    started = time.monotonic()
    name = source_name(source)
    try:
        with open_source(name) as directory:
            return _inspect(directory, name, started, conversion)
    except OSError as error:  # such as a directory that may be listed, but not entered
        place = error.filename or name
        raise SourceNotFoundError(f"{place} can't be read: {error.strerror}") from error


def _inspect(directory: Path, source: str, started: float, conversion: bool) -> InspectReport:
    format, meta_graphs, definition = _read(directory)
    path = directory / SAVED_MODEL
    seen = _see(format, meta_graphs, directory)
    newest = max(meta_graphs, key=lambda graph: graph.graph_def.versions.producer)
    variants = [describe_variant(meta_graph, path) for meta_graph in meta_graphs]
    attachments = describe_attachments(meta_graphs, path)
    counter = OpCounter(meta_graphs)
    has_objects = format == TF2_SAVED_MODEL
    report = InspectReport(
        source=source,
        format=format,
        bytes=_size(directory),
        producer=newest.meta_info_def.tensorflow_version,
        graph_version=newest.graph_def.versions.producer,
        module_format=None if definition is None else _module_format(definition),
        required_features=[] if definition is None else list(definition.required_features),
        was_module=any(RECORD in meta_graph.collection_def for meta_graph in meta_graphs),
        variants=variants,
        callables=seen.callables,
        more_callables=seen.more_callables,
        image_size=find_image_size(
            meta_graphs, variants, seen.callables, path, is_module=format == HUB_MODULE
        ),
        variables=VariablesInfo.of(seen.variables),
        tables=seen.tables,
        assets=_assets(directory, meta_graphs),
        attachments=attachments,
        regularization_losses=seen.losses,
        ops=counter.ops,
        release=counter.of_objects() if has_objects else counter.of_graphs(),
        graph_release=counter.of_graphs() if has_objects else None,
        conversion=None,
        seconds=0.0,
    )
    if conversion:
        from bridge._inspect.conversion import try_conversion

        del meta_graphs, newest  # the conversion reads them again
        report.conversion = try_conversion(directory, format, [one.op for one in report.ops])
    report.seconds = time.monotonic() - started
    return report


# -- reading ----------------------------------------------------------------------------------


def _read(
    directory: Path,
) -> tuple[str, list[tf_pb.MetaGraphDef], hub_pb.ModuleDef | None]:
    """Returns the format of a model, its graphs, and what makes it a module.

    Raises:
      WrongKindError: the directory holds no model.
      MalformedError: a file is broken.
    """
    path = directory / SAVED_MODEL
    definition = None
    if is_hub_module(directory):
        definition = read_proto(hub_pb.ModuleDef, directory / MODULE_DEF)
    meta_graphs = list(read_proto(tf_pb.SavedModel, path).meta_graphs)
    if not meta_graphs:
        raise MalformedError("it holds no graph", where=Where(path))
    if definition is not None:
        return HUB_MODULE, meta_graphs, definition
    has_objects = any(meta_graph.HasField("object_graph_def") for meta_graph in meta_graphs)
    return TF2_SAVED_MODEL if has_objects else TF1_SAVED_MODEL, meta_graphs, None


def _module_format(definition: hub_pb.ModuleDef) -> str:
    """Returns the name of a module's format; its number where it has none."""
    try:
        return hub_pb.ModuleDef.Format.Name(definition.format)
    except ValueError:
        return str(definition.format)


def _read_checkpoint(directory: Path) -> BundleIndex | None:
    prefix = directory / VARIABLES / VARIABLES
    exists = os.path.lexists(prefix.with_name(index_name(prefix.name)))
    return read_index(prefix) if exists else None


@dataclass(frozen=True)
class _Seen:
    """What graphs and objects say in different ways."""

    variables: list[VariableInfo]
    tables: list[TableInfo]
    callables: list[CallableInfo]
    more_callables: int = 0
    losses: list[str] = field(default_factory=list)


def _see(format: str, meta_graphs: list[tf_pb.MetaGraphDef], directory: Path) -> _Seen:
    path = directory / SAVED_MODEL
    index = _read_checkpoint(directory)
    if format != TF2_SAVED_MODEL:
        return _Seen(
            read_v1_variables(meta_graphs, index, path), read_v1_tables(meta_graphs, path), []
        )
    # TensorFlow loads the objects of the first graph that has some.
    found = next(graph for graph in meta_graphs if graph.HasField("object_graph_def"))
    objects = Objects(found, path)
    callables, more = objects.callables()
    losses = objects.regularization_losses()
    return _Seen(objects.variables(index), objects.tables(), callables, more, losses)


# -- files ------------------------------------------------------------------------------------


def _size(directory: Path) -> int:
    return sum(
        Path(folder, file).lstat().st_size
        for folder, _, files in os.walk(directory)
        for file in files
    )


def _assets(directory: Path, meta_graphs: list[tf_pb.MetaGraphDef]) -> list[AssetInfo]:
    named = {n for graph in meta_graphs for n in assets_of(graph, directory / SAVED_MODEL).values()}
    sizes = {name: asset.size for name, asset in find_assets(directory).items()}
    return [AssetInfo(name, sizes.get(name)) for name in sorted(named | sizes.keys())]
