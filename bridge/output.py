"""Puts a model on disk: what the directories of both formats hold."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from bridge.bundle import BytesTensor, Entry, StringTensor, TensorSource, write_bundle
from bridge.bundle.files import open_plain_file
from bridge.layout import ASSETS, ASSETS_EXTRA, SAVED_MODEL, VARIABLES
from bridge.model import Model
from bridge.proto import tf_pb


def write_model_files(
    directory: Path,
    saved_model: tf_pb.SavedModel,
    model: Model,
    tensors: Mapping[str, TensorSource | Entry],
    extras: Mapping[str, StringTensor | BytesTensor] | None = None,
    *,
    link: bool,
    progress: Callable[[int], None] | None,
) -> None:
    """Writes `saved_model.pb`, a checkpoint below `variables/`, and the assets.

    Args:
      directory: an existing, empty directory.
      saved_model: the content of `saved_model.pb`.
      model: gives the data shards and the assets.
      tensors: what the checkpoint holds of the data shards, by key.
      extras: further small tensors of the checkpoint, by key. Without tensors and extras there is
        no checkpoint.
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
    if tensors or extras:
        write_bundle(
            variables, VARIABLES, model.shards, tensors, extras, link=link, progress=progress
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
