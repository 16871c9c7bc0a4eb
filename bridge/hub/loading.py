"""Loads a ModuleSpec from disk, from an archive or from a URL."""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from bridge.attrs import strings_tensor_attr
from bridge.errors import HubBridgeError, Where, WrongKindError
from bridge.graph import parse_tensor
from bridge.hub._tf import tf
from bridge.hub.errors import ArgumentValueError, WrongKindSpecError, of_old_type
from bridge.hub.spec import ModuleSpec
from bridge.hub_module import read_hub_module
from bridge.hub_module.names import SAVED_MODEL_ASSETS
from bridge.layout import ASSETS, SAVED_MODEL, VARIABLES
from bridge.proto import tf_pb
from bridge.proto_file import read_proto
from bridge.report import Report
from bridge.source import open_source, source_name

_Result = TypeVar("_Result")

_UNPACKED = contextlib.ExitStack()
"""Archives stay unpacked: graphs hold the paths of assets, and sessions initialize late."""

_OWNER = os.getpid()


@atexit.register
def _remove_unpacked() -> None:
    if os.getpid() == _OWNER:  # else a fork would take away what its parent still needs
        _UNPACKED.close()


def as_module_spec(spec: object) -> ModuleSpec:
    """Returns a spec as it is, and loads one from a path or handle.

    Raises:
      ValueError: it is neither, or the module is broken.
      tf.errors.OpError: there is no module.
    """
    if isinstance(spec, ModuleSpec):
        return spec
    if isinstance(spec, str | os.PathLike):
        return load_module_spec(spec)
    raise ArgumentValueError(
        f"a module is given by a ModuleSpec, or by a path or URL, not by {type(spec).__name__}"
    )


def load_module_spec(path: str | os.PathLike[str]) -> ModuleSpec:
    """Loads the spec of a TF1 Hub module.

    Args:
      path: a directory, a .tar.gz, .tgz, .tar or .zip file, or a URL, which
        `tensorflow_hub.resolve` downloads. An archive is unpacked until the process ends.

    Raises:
      ValueError: the module is broken, is none, or needs something that is not known.
      tf.errors.NotFoundError: there is nothing, or a file can't be read.
    """
    return open_module(path, _read_module)


def open_module(
    path: str | os.PathLike[str], read: Callable[[Path], _Result], keep: bool = True
) -> _Result:
    """Opens a path or handle, and returns what is read of its directory.

    Args:
      path: as `load_module_spec` takes it.
      read: called with the directory.
      keep: whether an unpacked archive must stay until the process ends.

    Raises:
      HubBridgeError: what `open_source` and `read` raise, of the old library's types too.
    """
    try:
        with contextlib.ExitStack() as stack:
            result = read(stack.enter_context(open_source(source_name(path))))
            if keep:
                _UNPACKED.push(stack.pop_all())
            return result
    except HubBridgeError as error:
        raise of_old_type(error) from error


def read_meta_graphs(saved_model: tf_pb.SavedModel, directory: Path) -> list[Any]:
    """Returns TensorFlow's MetaGraphDefs of a SavedModel, with the absolute paths of its assets.

    The paths stand in the Const nodes that the collection `saved_model_assets` speaks of, which
    goes.

    Args:
      saved_model: what the directory's `saved_model.pb` holds; it is changed.
      directory: the directory.
    """
    for meta_graph in saved_model.meta_graphs:
        _resolve_assets(meta_graph, directory.absolute() / ASSETS)
    return [
        tf.compat.v1.MetaGraphDef.FromString(one.SerializeToString())
        for one in saved_model.meta_graphs
    ]


def checkpoint_of(directory: Path) -> str | None:
    """Returns the prefix of a SavedModel's checkpoint, if it has one."""
    prefix = directory.absolute() / VARIABLES / VARIABLES
    return str(prefix) if prefix.with_name(f"{VARIABLES}.index").is_file() else None


def holds_objects(saved_model: tf_pb.SavedModel) -> bool:
    """True for a SavedModel of TensorFlow 2, which has an object graph."""
    return any(meta_graph.HasField("object_graph_def") for meta_graph in saved_model.meta_graphs)


def refuse_saved_model(directory: Path) -> NoReturn:
    """Says what to do with a TF2 SavedModel where a TF1 format is wanted.

    Raises:
      ValueError: always.
    """
    raise WrongKindSpecError(
        "a TF2 SavedModel, not a TF1 Hub module",
        where=Where(directory),
        hint="make a module of it with `hubbridge to-hub-module SAVED_MODEL MODULE`, or use it as "
        "it is: hub.load(...) or hub.KerasLayer(...)",
    )


def _read_module(directory: Path) -> ModuleSpec:
    # For what it refuses; the graphs themselves must be TensorFlow's.
    try:
        read_hub_module(directory, Report(str(directory), None, "load"))
    except WrongKindError:
        path = directory / SAVED_MODEL
        if path.is_file() and holds_objects(read_proto(tf_pb.SavedModel, path)):
            refuse_saved_model(directory)
        raise
    return ModuleSpec(
        read_meta_graphs(read_proto(tf_pb.SavedModel, directory / SAVED_MODEL), directory),
        checkpoint=checkpoint_of(directory),
        directory=str(directory.absolute()),
    )


def _resolve_assets(meta_graph: tf_pb.MetaGraphDef, assets: Path) -> None:
    if SAVED_MODEL_ASSETS not in meta_graph.collection_def:
        return
    paths: dict[str, Path] = {}
    for packed in meta_graph.collection_def[SAVED_MODEL_ASSETS].any_list.value:
        asset = tf_pb.AssetFileDef.FromString(packed.value)
        paths[parse_tensor(asset.tensor_info.name).node] = assets / asset.filename
    for node in meta_graph.graph_def.node:
        if node.name in paths:
            node.attr["value"].CopyFrom(strings_tensor_attr(os.fsencode(paths[node.name])))
    del meta_graph.collection_def[SAVED_MODEL_ASSETS]
