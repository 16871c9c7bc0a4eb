"""Puts a SavedModel on disk: `saved_model.pb`, a checkpoint below `variables/`, and assets."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from bridge.bundle import StringTensor, TensorSource, write_bundle
from bridge.bundle.files import open_plain_file
from bridge.layout import ASSETS, ASSETS_EXTRA, SAVED_MODEL, VARIABLES
from bridge.model import Model
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
    (directory / SAVED_MODEL).write_bytes(saved_model.SerializeToString(deterministic=True))
    variables = directory / VARIABLES
    variables.mkdir()
    write_bundle(
        variables,
        VARIABLES,
        model.shards,
        {
            checkpoint_key(v.name): TensorSource(v.dtype, v.shape, v.data)
            for v in model.variables.values()
        },
        {OBJECT_GRAPH_KEY: StringTensor((checkpoint_graph,))},
        link=link,
        progress=progress,
    )
    (directory / ASSETS).mkdir()
    for asset in model.assets.values():
        _copy(asset.source, directory / ASSETS / asset.filename)
    extra = model.source / ASSETS_EXTRA
    for folder, _, files in os.walk(extra):
        for file in files:
            source = Path(folder, file)
            _copy(source, directory / ASSETS_EXTRA / source.relative_to(extra))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with open_plain_file(source) as opened, target.open("xb") as written:
        shutil.copyfileobj(opened, written, 1 << 20)
