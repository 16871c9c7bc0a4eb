"""The module API that tensorflow-hub 0.16 removed, on today's TensorFlow.

`from bridge import hub` takes the place of `import tensorflow_hub as hub` in code that was written
for TF1 Hub modules. Nothing else of hubbridge depends on this package, which needs TensorFlow.
"""

from typing import TYPE_CHECKING, Any

from bridge.hub.create import add_signature, attach_message, create_module_spec
from bridge.hub.estimator import LatestModuleExporter, register_module_for_export
from bridge.hub.evaluate import eval_function_for_module
from bridge.hub.feature_columns import image_embedding_column, text_embedding_column
from bridge.hub.from_saved_model import create_module_spec_from_saved_model
from bridge.hub.images import (
    ImageModuleInfo,
    attach_image_module_info,
    get_expected_image_size,
    get_image_module_info,
    get_num_image_channels,
)
from bridge.hub.loading import load_module_spec
from bridge.hub.module import Module
from bridge.hub.resolving import HANDED_THROUGH
from bridge.hub.spec import ModuleSpec

if TYPE_CHECKING:
    from tensorflow_hub import KerasLayer, load, resolve

__all__ = [
    "ImageModuleInfo",
    "KerasLayer",
    "LatestModuleExporter",
    "Module",
    "ModuleSpec",
    "add_signature",
    "attach_image_module_info",
    "attach_message",
    "create_module_spec",
    "create_module_spec_from_saved_model",
    "eval_function_for_module",
    "get_expected_image_size",
    "get_image_module_info",
    "get_num_image_channels",
    "image_embedding_column",
    "load",
    "load_module_spec",
    "register_module_for_export",
    "resolve",
    "text_embedding_column",
]


def __getattr__(name: str) -> Any:
    """Returns what is tensorflow-hub's own, which is imported when it is asked for."""
    if name not in HANDED_THROUGH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bridge.hub import resolving

    return getattr(resolving, name)
