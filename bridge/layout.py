"""Names that both formats share, for a TF1 Hub module is a SavedModel with a ModuleDef beside it.

Source: tensorflow/python/saved_model/constants.py and tensorflow_hub/saved_model_lib.py.
"""

from __future__ import annotations

SAVED_MODEL = "saved_model.pb"
"""The file of the SavedModel message."""

VARIABLES = "variables"
"""The directory of the checkpoint, and the start of the names of the checkpoint's files."""

ASSETS = "assets"
"""The directory of the files that graphs refer to."""

ASSETS_EXTRA = "assets.extra"
"""The directory of files that belong to the model, but that no graph refers to."""

ATTACHMENTS = "hub_module_attachments"
"""The collection of attached messages."""
