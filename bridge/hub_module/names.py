"""Names that the format of TF1 Hub modules gives to its file and its collections.

Source: tensorflow_hub 0.12, native_module.py and saved_model_lib.py, and GraphKeys in
tensorflow/python/framework/ops.py.
"""

from __future__ import annotations

from bridge.layout import ATTACHMENTS

MODULE_DEF = "tfhub_module.pb"
"""The file of the ModuleDef message, which makes a SavedModel a module."""

GLOBAL_VARIABLES = "variables"
TRAINABLE_VARIABLES = "trainable_variables"
MODEL_VARIABLES = "model_variables"
TABLE_INITIALIZERS = "table_initializer"
UPDATE_OPS = "update_ops"
REGULARIZATION_LOSSES = "regularization_losses"
ASSET_FILEPATHS = "asset_filepaths"
SAVED_MODEL_ASSETS = "saved_model_assets"
COND_CONTEXT = "cond_context"
WHILE_CONTEXT = "while_context"

SUPPORTED_COLLECTIONS = frozenset(
    {
        GLOBAL_VARIABLES,
        TRAINABLE_VARIABLES,
        MODEL_VARIABLES,
        TABLE_INITIALIZERS,
        UPDATE_OPS,
        REGULARIZATION_LOSSES,
        ASSET_FILEPATHS,
        SAVED_MODEL_ASSETS,
        COND_CONTEXT,
        WHILE_CONTEXT,
        ATTACHMENTS,
    }
)
"""What a module may hold; the old client refuses any other (native_module.py)."""
