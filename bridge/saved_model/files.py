"""Puts a SavedModel on disk: `saved_model.pb`, a checkpoint with its object graph, and assets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bridge.bundle import StringTensor, TensorSource
from bridge.model import Model
from bridge.output import write_model_files
from bridge.proto import tf_pb
from bridge.saved_model.objects import OBJECT_GRAPH_KEY, checkpoint_key


def write_files(
    directory: Path,
    saved_model: tf_pb.SavedModel,
    checkpoint_graph: bytes,
    model: Model,
    *,
    link: bool,
    progress: Callable[[int], None] | None,
) -> None:
    """Writes a SavedModel.

    Args:
      directory: an existing, empty directory.
      saved_model: the content of `saved_model.pb`.
      checkpoint_graph: the TrackableObjectGraph of the checkpoint.
      model: gives the variables and the assets.
      link: hard-link data shards instead of copying them.
      progress: called with the number of checkpoint bytes done so far.

    Raises:
      MalformedError: the bytes of a variable do not match their checksum.
      SourceNotFoundError: a file of the source can't be read.
      OSError: a file can't be written.
    """
    write_model_files(
        directory,
        saved_model,
        model,
        {
            checkpoint_key(v.name): TensorSource(v.dtype, v.shape, v.data)
            for v in model.variables.values()
        },
        {OBJECT_GRAPH_KEY: StringTensor((checkpoint_graph,))},
        link=link,
        progress=progress,
    )
