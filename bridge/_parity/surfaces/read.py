"""Reads what a user sees of a model, whatever its format, without TensorFlow."""

from __future__ import annotations

from pathlib import Path

from bridge._parity.surfaces.hub_module import read_module_surface
from bridge._parity.surfaces.saved_model import read_saved_model_surface
from bridge._parity.surfaces.surface import Surface
from bridge.errors import Where, WrongKindError
from bridge.hub_module.names import MODULE_DEF
from bridge.kinds import is_hub_module
from bridge.layout import SAVED_MODEL
from bridge.proto import tf_pb
from bridge.proto_file import read_proto


def read_surface(path: Path) -> Surface:
    """Reads a TF1 Hub module or a SavedModel from its files alone.

    Args:
      path: the directory that holds it.

    Raises:
      WrongKindError: the directory holds neither.
      MalformedError: the model is broken.
      UnsupportedError: the model has something that is not known.
      UnsafeError: a link, or a name that leaves the model.
    """
    if is_hub_module(path):
        return read_module_surface(path)
    saved_model = read_proto(tf_pb.SavedModel, path / SAVED_MODEL)
    if not any(graph.HasField("object_graph_def") for graph in saved_model.meta_graphs):
        raise WrongKindError(
            "a TF1 SavedModel, neither a TF1 Hub module nor a TF2 SavedModel: it has no "
            f"{MODULE_DEF} and no objects",
            where=Where(path),
            hint="turn it into a module first with hub.create_module_spec_from_saved_model",
        )
    return read_saved_model_surface(path, saved_model)
