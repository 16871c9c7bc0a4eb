"""A ModuleSpec as the Model that hubbridge's passes and writers work on."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from bridge.errors import UnsupportedError, Where
from bridge.graph import parse_tensor
from bridge.hub.errors import CallRuntimeError, MissingModuleError
from bridge.hub.spec import ModuleSpec
from bridge.hub_module.meta_graph import VariantSource, read_meta_graph
from bridge.hub_module.names import ASSET_FILEPATHS, SAVED_MODEL_ASSETS
from bridge.hub_module.variables import read_variables
from bridge.layout import SAVED_MODEL
from bridge.model import Asset, Model, Tags
from bridge.proto import tf_pb
from bridge.report import Report

_IN_MEMORY = Path("module_fn")
"""What errors name as the place of a spec that lies nowhere."""


class SpecSource:
    """The variants of a spec, whose variables have no values yet.

    Attributes:
      variants: by tags.
      meta_graphs: MetaGraphDefs of the variants, by tags.
    """

    def __init__(self, spec: ModuleSpec, report: Report):
        """Reads the variants.

        Raises:
          HubBridgeError: a variant is broken, as `read_meta_graph` says.
          MissingModuleError: there is no file at the path of an asset.
        """
        self._directory = spec._directory
        self._report = report
        self._assets = _Assets()
        self.variants: dict[Tags, VariantSource] = {}
        self.meta_graphs: dict[Tags, tf_pb.MetaGraphDef] = {}
        path = Path(spec._directory, SAVED_MODEL) if spec._directory else _IN_MEMORY
        for tags in spec.get_tags():
            serialized = spec._meta_graph(tags).SerializeToString()
            meta_graph = tf_pb.MetaGraphDef.FromString(serialized)
            self._assets.add(meta_graph, path)
            self.meta_graphs[tags] = meta_graph
            self.variants[tags] = read_meta_graph(meta_graph, path, report)

    def model(self, checkpoint: Path) -> Model:
        """Returns the model, with the variables' values in a checkpoint.

        Args:
          checkpoint: its prefix; it need not be there if there are no variables.

        Raises:
          RuntimeError: the checkpoint lacks a variable of a variant.
          HubBridgeError: the checkpoint does not fit.
        """
        found = dict(self.variants)
        variables, shards = read_variables(checkpoint, found, self._report)
        for tags, source in self.variants.items():
            if tags not in found:
                reason = next(
                    note.reason for note in self._report.not_kept if note.kind == "variant"
                )
                raise CallRuntimeError(
                    f"not all variables of the variant have values: {reason}",
                    where=source.variant.graph.where,
                    hint="export the module from a graph variant that has all the variables",
                )
        newest = max(self.meta_graphs.values(), key=lambda one: one.graph_def.versions.producer)
        return Model(
            source=Path(self._directory) if self._directory else checkpoint.parent,
            variants={tags: source.variant for tags, source in found.items()},
            variables=variables,
            assets=self._assets.by_name,
            shards=shards,
            versions=newest.graph_def.versions,
            producer=newest.meta_info_def.tensorflow_version,
        )


class _Assets:
    """Gives assets names, as they may come from anywhere.

    Attributes:
      by_name: the assets.
    """

    def __init__(self) -> None:
        self.by_name: dict[str, Asset] = {}
        self._names: dict[str, str] = {}

    def add(self, meta_graph: tf_pb.MetaGraphDef, where: Path) -> None:
        """Lists the assets of a variant as modules on disk do."""
        if ASSET_FILEPATHS not in meta_graph.collection_def:
            return
        nodes = {node.name: node for node in meta_graph.graph_def.node}
        listed = meta_graph.collection_def[ASSET_FILEPATHS].node_list.value
        for name in dict.fromkeys(parse_tensor(tensor).node for tensor in listed):
            if name not in nodes:
                continue  # the reader of the variant says so
            path = os.fsdecode(next(iter(nodes[name].attr["value"].tensor.string_val), b""))
            asset = tf_pb.AssetFileDef(filename=self._name(path, Where(where, node=name)))
            asset.tensor_info.name = f"{name}:0"
            packed = meta_graph.collection_def[SAVED_MODEL_ASSETS].any_list.value.add()
            packed.value = asset.SerializeToString(deterministic=True)

    def _name(self, path: str, where: Where) -> str:
        """Returns the name of the asset at a path, which others of the same name have not."""
        if path in self._names:
            return self._names[path]
        if "://" in path:
            raise UnsupportedError(
                f"the asset {path!r} lies on no local disk", where=where, hint="copy it there"
            )
        name = Path(path).name
        suffix = 0
        while name in self.by_name:
            suffix += 1
            plain = PurePosixPath(Path(path).name)
            name = f"{plain.stem}_{suffix}{plain.suffix}"
        source = Path(path).resolve()
        if not source.is_file():
            raise MissingModuleError(f"there is no asset {path!r}", where=where)
        self.by_name[name] = Asset(name, source, source.stat().st_size)
        self._names[path] = name
        return name
