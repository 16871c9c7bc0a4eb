"""hubbridge converts TF1 Hub modules to TF2 SavedModels and back, without running TensorFlow.

Each command of the command line is one function here, of the same name and with the same options:

    report = bridge.to_saved_model("module/", "saved_model/")
    report = bridge.to_hub_module("saved_model/", "module/")

None of them needs TensorFlow, nor does importing this package.
"""

from bridge._api import to_hub_module, to_saved_model
from bridge.errors import (
    DestinationError,
    HubBridgeError,
    MalformedError,
    MissingExtraError,
    RefusedError,
    SourceNotFoundError,
    UnsafeError,
    UnsupportedError,
    UsageError,
    Where,
    WrongKindError,
)
from bridge.report import (
    CallableReport,
    Counts,
    Note,
    Report,
    SignatureReport,
    VariableReport,
)

__version__ = "0.1.0"

__all__ = [
    "CallableReport",
    "Counts",
    "DestinationError",
    "HubBridgeError",
    "MalformedError",
    "MissingExtraError",
    "Note",
    "RefusedError",
    "Report",
    "SignatureReport",
    "SourceNotFoundError",
    "UnsafeError",
    "UnsupportedError",
    "UsageError",
    "VariableReport",
    "Where",
    "WrongKindError",
    "__version__",
    "to_hub_module",
    "to_saved_model",
]
