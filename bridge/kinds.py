"""Which kind of model a directory holds."""

from __future__ import annotations

import os
from pathlib import Path

from bridge.errors import UnsupportedError, Where, WrongKindError
from bridge.hub_module.names import MODULE_DEF
from bridge.layout import SAVED_MODEL
from bridge.proto import tf_pb
from bridge.proto_file import read_proto

_TEXT_FORM = "saved_model.pbtxt"


def is_hub_module(directory: Path) -> bool:
    """True for a TF1 Hub module, False for any other SavedModel.

    Raises:
      WrongKindError: it is neither.
    """
    if os.path.lexists(directory / MODULE_DEF):
        return True
    if os.path.lexists(directory / SAVED_MODEL):
        return False
    raise WrongKindError(
        f"neither a TF1 Hub module nor a SavedModel: there is no {SAVED_MODEL}",
        where=Where(directory),
        hint=(
            f"{_TEXT_FORM} is not read: load the model with TensorFlow and save it again"
            if os.path.lexists(directory / _TEXT_FORM)
            else f"give the directory that holds {SAVED_MODEL}"
        ),
    )


def read_model_with_objects(directory: Path) -> tf_pb.MetaGraphDef:
    """Reads the one model of a TF2 SavedModel.

    Raises:
      WrongKindError: it is a TF1 SavedModel, which has no objects.
      UnsupportedError: it holds several models.
      MalformedError: it is broken.
    """
    saved_model = read_proto(tf_pb.SavedModel, directory / SAVED_MODEL)
    found = [graph for graph in saved_model.meta_graphs if graph.HasField("object_graph_def")]
    if not found:
        raise WrongKindError(
            "a TF1 SavedModel, neither a TF1 Hub module nor a TF2 SavedModel: it has no "
            f"{MODULE_DEF} and no objects",
            where=Where(directory),
            hint="turn it into a module first with hub.create_module_spec_from_saved_model",
        )
    if len(found) > 1:
        where = Where(directory / SAVED_MODEL)
        raise UnsupportedError(f"it holds {len(found)} models, one is expected", where=where)
    return found[0]
