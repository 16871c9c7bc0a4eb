"""hubbridge converts TF1 Hub modules to TF2 SavedModels and back, without running TensorFlow.

Each command of the command line is one function here, of the same name and with the same options:

    report = bridge.to_saved_model("module/", "saved_model/")
    report = bridge.to_hub_module("saved_model/", "module/")
    report = bridge.parity("module/", "saved_model/")

Conversions do not need TensorFlow, nor does importing this package; `parity` runs it in processes
of its own.
"""

from bridge._api import parity, to_hub_module, to_saved_model
from bridge._parity.results import (
    Bisection,
    Comparison,
    Difference,
    InputSet,
    ParityReport,
    Runtime,
    Side,
    Status,
    StructureCheck,
    Verdict,
    Worst,
)
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
    VerificationError,
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
    Verification,
)

__version__ = "0.1.0"

__all__ = [
    "Bisection",
    "CallableReport",
    "Comparison",
    "Counts",
    "DestinationError",
    "Difference",
    "HubBridgeError",
    "InputSet",
    "MalformedError",
    "MissingExtraError",
    "Note",
    "ParityReport",
    "RefusedError",
    "Report",
    "Runtime",
    "Side",
    "SignatureReport",
    "SourceNotFoundError",
    "Status",
    "StructureCheck",
    "UnsafeError",
    "UnsupportedError",
    "UsageError",
    "VariableReport",
    "Verdict",
    "Verification",
    "VerificationError",
    "Where",
    "Worst",
    "WrongKindError",
    "__version__",
    "parity",
    "to_hub_module",
    "to_saved_model",
]
