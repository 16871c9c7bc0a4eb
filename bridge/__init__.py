"""hubbridge converts TF1 Hub modules to TF2 SavedModels and back, without running TensorFlow.

Each command of the command line is one function here, of the same name and with the same options:

    report = bridge.to_saved_model("module/", "saved_model/")
    report = bridge.to_hub_module("saved_model/", "module/")
    report = bridge.parity("module/", "saved_model/")
    report = bridge.inspect("module/")
    report = bridge.check("module/")

Conversions do not need TensorFlow, nor does importing this package; `parity` runs it in processes
of its own.
"""

from bridge._api import check, inspect, parity, to_hub_module, to_saved_model
from bridge._check.results import Breach, CheckReport, ClauseResult, ClauseStatus
from bridge._inspect.results import (
    AssetInfo,
    AttachmentInfo,
    CallableInfo,
    ConversionInfo,
    EndpointInfo,
    ImageSize,
    InspectReport,
    Obstacle,
    OpInfo,
    ReleaseInfo,
    SignatureInfo,
    TableInfo,
    TraceInfo,
    VariableInfo,
    VariablesInfo,
    VariantInfo,
)
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
    "AssetInfo",
    "AttachmentInfo",
    "Bisection",
    "Breach",
    "CallableInfo",
    "CallableReport",
    "CheckReport",
    "ClauseResult",
    "ClauseStatus",
    "Comparison",
    "ConversionInfo",
    "Counts",
    "DestinationError",
    "Difference",
    "EndpointInfo",
    "HubBridgeError",
    "ImageSize",
    "InputSet",
    "InspectReport",
    "MalformedError",
    "MissingExtraError",
    "Note",
    "Obstacle",
    "OpInfo",
    "ParityReport",
    "RefusedError",
    "ReleaseInfo",
    "Report",
    "Runtime",
    "Side",
    "SignatureInfo",
    "SignatureReport",
    "SourceNotFoundError",
    "Status",
    "StructureCheck",
    "TableInfo",
    "TraceInfo",
    "UnsafeError",
    "UnsupportedError",
    "UsageError",
    "VariableInfo",
    "VariableReport",
    "VariablesInfo",
    "VariantInfo",
    "Verdict",
    "Verification",
    "VerificationError",
    "Where",
    "Worst",
    "WrongKindError",
    "__version__",
    "check",
    "inspect",
    "parity",
    "to_hub_module",
    "to_saved_model",
]
