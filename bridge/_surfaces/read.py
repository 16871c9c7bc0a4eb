"""Reads what a user sees of a model, whatever its format, without TensorFlow."""

from __future__ import annotations

from pathlib import Path

from bridge._surfaces.hub_module import read_module_surface
from bridge._surfaces.saved_model import read_saved_model_surface
from bridge._surfaces.surface import Surface
from bridge.kinds import is_hub_module


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
    return read_saved_model_surface(path)
