"""Creates a ModuleSpec from a SavedModel of TensorFlow 1."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from bridge.assets import find_assets
from bridge.errors import Where
from bridge.hub.create import check_collections
from bridge.hub.errors import MalformedSpecError
from bridge.hub.loading import (
    checkpoint_of,
    holds_objects,
    open_module,
    read_meta_graphs,
    refuse_saved_model,
)
from bridge.hub.spec import ModuleSpec
from bridge.hub_module.meta_graph import read_meta_graph
from bridge.layout import ASSETS, SAVED_MODEL
from bridge.model import Tags, Variant, format_tags
from bridge.proto import tf_pb
from bridge.proto_file import read_proto
from bridge.report import Report

# Sessions of a module are initialized by its collections (tensorflow/python/saved_model/
# constants.py; GLOBAL_STEP is of training only).
_INIT_COLLECTIONS = frozenset({"global_step", "legacy_init_op", "saved_model_main_op"})
_INIT_SIGNATURES = frozenset({"__saved_model_init_op", "__saved_model_train_op"})


def create_module_spec_from_saved_model(
    saved_model_path: str | os.PathLike[str], drop_collections: Iterable[str] | None = None
) -> ModuleSpec:
    """Creates a spec from a SavedModel of TensorFlow 1.

    Its Saver and its init ops are left aside: a user of the module restores the variables of the
    graph's collections and runs the table initializers. The variants have the tags of the
    SavedModel, mostly {"serve"}, and its signatures, mostly `serving_default`.

    Args:
      saved_model_path: directory, archive or URL of the SavedModel.
      drop_collections: collections to leave out, beside those of the global step and of init ops.

    Raises:
      ValueError: the SavedModel has collections that a module can't hold, is broken, or is one of
        TensorFlow 2.
      tf.errors.NotFoundError: there is none.
    """
    given = {drop_collections} if isinstance(drop_collections, str) else set(drop_collections or ())
    dropped = _INIT_COLLECTIONS | given
    return open_module(saved_model_path, lambda directory: _read(directory, dropped))


def _read(directory: Path, dropped: Iterable[str]) -> ModuleSpec:
    path = directory / SAVED_MODEL
    saved_model = read_proto(tf_pb.SavedModel, path)
    if holds_objects(saved_model):
        refuse_saved_model(directory)
    if not saved_model.meta_graphs:
        raise MalformedSpecError("it holds no graph", where=Where(path))
    seen: set[Tags] = set()
    for meta_graph in saved_model.meta_graphs:
        tags = frozenset(meta_graph.meta_info_def.tags)
        where = Where(path, format_tags(tags))
        if tags in seen:
            raise MalformedSpecError("two graphs have the same tags", where=where)
        seen.add(tags)
        for key in dropped:
            meta_graph.collection_def.pop(key, None)
        for name in _INIT_SIGNATURES:
            meta_graph.signature_def.pop(name, None)
        check_collections(meta_graph, where)
        _check_assets(read_meta_graph(meta_graph, path, _report(directory)).variant, directory)
    return ModuleSpec(
        read_meta_graphs(saved_model, directory),
        checkpoint=checkpoint_of(directory),
        directory=str(directory.absolute()),
    )


def _check_assets(variant: Variant, directory: Path) -> None:
    files = find_assets(directory)
    for node, name in variant.assets.items():
        if name not in files:
            raise MalformedSpecError(
                f"the asset file {ASSETS}/{name} is missing", where=variant.graph.at(node)
            )


def _report(directory: Path) -> Report:
    return Report(str(directory), None, "load")
