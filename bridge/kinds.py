"""Which kind of model a directory holds."""

from __future__ import annotations

import os
from pathlib import Path

from bridge.errors import Where, WrongKindError
from bridge.hub_module.names import MODULE_DEF
from bridge.layout import SAVED_MODEL

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
