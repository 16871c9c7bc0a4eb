"""Reads a TF1 Hub module directory into a Model.

The format is that of tensorflow_hub 0.12 (native_module.py, saved_model_lib.py): a ModuleDef, a
SavedModel with one MetaGraphDef per graph variant, one checkpoint, and asset files.
"""

from __future__ import annotations

from pathlib import Path

from bridge.assets import find_assets
from bridge.errors import MalformedError, UnsupportedError, Where, WrongKindError
from bridge.hub_module.meta_graph import VariantSource, read_meta_graph
from bridge.hub_module.names import MODULE_DEF
from bridge.hub_module.variables import read_variables
from bridge.layout import ASSETS, ASSETS_EXTRA, SAVED_MODEL, VARIABLES
from bridge.model import Asset, Model, Tags, format_tags
from bridge.proto import hub_pb, tf_pb
from bridge.proto_file import read_proto
from bridge.report import Report

_KNOWN_ENTRIES = frozenset({MODULE_DEF, SAVED_MODEL, ASSETS, ASSETS_EXTRA, VARIABLES})


def read_hub_module(directory: Path, report: Report) -> Model:
    """Reads a module.

    Args:
      directory: where it lies.
      report: takes what the model can't hold.

    Returns:
      The model. It refers to the files of the directory, which must stay until it is written.

    Raises:
      WrongKindError: the directory holds no TF1 Hub module.
      MalformedError: it holds a broken one.
      UnsupportedError: a format, feature, collection or op that is not known.
      UnsafeError: a link, or a name that leaves the module.
    """
    _check_module_def(directory)
    path = directory / SAVED_MODEL
    saved_model = read_proto(tf_pb.SavedModel, path)
    if not saved_model.meta_graphs:
        raise MalformedError("it holds no graph", where=Where(path))
    sources: dict[Tags, VariantSource] = {}
    for meta_graph in saved_model.meta_graphs:
        source = read_meta_graph(meta_graph, path, report)
        tags = source.variant.tags
        if tags in sources:
            raise MalformedError(f"two graphs have the tags {format_tags(tags)}", where=Where(path))
        sources[tags] = source
    variables, shards = read_variables(directory / VARIABLES / VARIABLES, sources, report)
    newest = max(saved_model.meta_graphs, key=lambda graph: graph.graph_def.versions.producer)
    model = Model(
        source=directory,
        variants={tags: source.variant for tags, source in sources.items()},
        variables=variables,
        assets=_read_assets(directory, sources),
        shards=shards,
        versions=newest.graph_def.versions,
        producer=newest.meta_info_def.tensorflow_version,
    )
    _report_leftovers(directory, shards, report)
    return model


def _check_module_def(directory: Path) -> None:
    path = directory / MODULE_DEF
    if not path.is_file():
        raise _wrong_kind(directory)
    definition = read_proto(hub_pb.ModuleDef, path)
    if definition.format != hub_pb.ModuleDef.FORMAT_V3:
        raise UnsupportedError(
            f"module format {definition.format} is not known, only FORMAT_V3 "
            f"({hub_pb.ModuleDef.FORMAT_V3}) is",
            where=Where(path),
            hint="check that the file is whole; the old tensorflow-hub can't read it either",
        )
    if definition.required_features:
        names = ", ".join(repr(feature) for feature in definition.required_features)
        raise UnsupportedError(
            f"the module requires features that are not known: {names}", where=Where(path)
        )


def _wrong_kind(directory: Path) -> WrongKindError:
    """Says what the directory holds instead of a TF1 Hub module."""
    path = directory / SAVED_MODEL
    if path.is_file():
        saved_model = read_proto(tf_pb.SavedModel, path)
        if any(meta_graph.HasField("object_graph_def") for meta_graph in saved_model.meta_graphs):
            return WrongKindError(
                f"a TF2 SavedModel, not a TF1 Hub module: there is no {MODULE_DEF}",
                where=Where(directory),
                hint="TF2 loads it as it is: tf.saved_model.load(...) or hub.KerasLayer(...)",
            )
        return WrongKindError(
            f"a TF1 SavedModel, not a TF1 Hub module: there is no {MODULE_DEF}",
            where=Where(directory),
            hint="turn it into a module first with hub.create_module_spec_from_saved_model",
        )
    return WrongKindError(
        f"no TF1 Hub module: there is no {MODULE_DEF}",
        where=Where(directory),
        hint="give the directory that holds tfhub_module.pb and saved_model.pb",
    )


# -- files ----------------------------------------------------------------------------------------


def _read_assets(directory: Path, sources: dict[Tags, VariantSource]) -> dict[str, Asset]:
    """Returns every file below assets/, after checking that those the graphs need are there."""
    assets = find_assets(directory)
    for source in sources.values():
        for node, name in source.variant.assets.items():
            if name not in assets:
                raise MalformedError(
                    f"the asset file {ASSETS}/{name} is missing",
                    where=source.variant.graph.at(node),
                )
    return assets


def _report_leftovers(directory: Path, shards: list[Path], report: Report) -> None:
    for path in sorted(directory.iterdir()):
        if path.name not in _KNOWN_ENTRIES:
            report.drop("file", path.name, "no part of the module format")
    known = {"variables.index", *(shard.name for shard in shards)}
    folder = directory / VARIABLES
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name not in known:
            report.drop("file", f"{VARIABLES}/{path.name}", "no part of the module's checkpoint")
