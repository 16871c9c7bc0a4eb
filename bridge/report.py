"""What a conversion did: what was kept, and each thing that could not be, by name.

docs/report.md describes the JSON form.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from bridge.errors import Where

SCHEMA = "hubbridge/conversion-report"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Note:
    """One thing worth telling.

    Attributes:
      kind: what sort of thing it is, such as `update_op`.
      name: its name in the source.
      reason: what became of it and why, one sentence.
      variant: tags of its variant, where it belongs to one.
      signature: name of its signature, where it belongs to one.
      node: name of the graph node, where there is one.
    """

    kind: str
    name: str
    reason: str
    variant: str | None = None
    signature: str | None = None
    node: str | None = None


@dataclass
class CallableReport:
    """A callable of the result.

    Attributes:
      name: attribute path from the root, `__call__` for the root itself.
      signature: the module's signature it computes.
      inputs: its inputs, as `name: dtype[shape]`.
      outputs: its outputs, likewise.
      training: what `training=False` and `training=True` run, one sentence each.
      update_ops: the update ops that `training=True` runs.
    """

    name: str
    signature: str
    inputs: list[str]
    outputs: list[str]
    training: dict[str, str]
    update_ops: list[str]


@dataclass
class SignatureReport:
    """A signature of the resulting module.

    Attributes:
      name: its name.
      variant: tags of its variant.
      inputs: its inputs, as `name: dtype[shape]`.
      outputs: its outputs, likewise.
    """

    name: str
    variant: str
    inputs: list[str]
    outputs: list[str]


@dataclass(frozen=True)
class VariableReport:
    """Where a variable of the resulting module comes from.

    Attributes:
      name: its name in the module.
      source_name: the name that the source gives it; several may have the same.
      source_path: the attributes that lead to it from the source's object.
    """

    name: str
    source_name: str
    source_path: str


@dataclass
class Counts:
    """How much was kept."""

    variants: int = 0
    signatures: int = 0
    variables: int = 0
    variable_bytes: int = 0
    trainable_variables: int = 0
    reference_variables: int = 0
    partitioned_variables: int = 0
    update_ops: int = 0
    regularization_losses: int = 0
    tables: int = 0
    assets: int = 0
    asset_bytes: int = 0
    attachments: int = 0
    functions: int = 0


@dataclass(frozen=True)
class Verification:
    """What came of running the result beside its source.

    Attributes:
      verdict: `pass`; a conversion with another one has no result.
      decided_by: the check that decided, one sentence.
      runtimes: what ran each side.
      compared: how many outputs were compared, in all runtimes.
      not_compared: how many could not be.
      seconds: wall time.
    """

    verdict: str
    decided_by: str
    runtimes: list[str]
    compared: int
    not_compared: int
    seconds: float


@dataclass
class Report:
    """The result of a conversion.

    Attributes:
      source: what was converted, as given.
      destination: where it is; None after a dry run.
      direction: `to-saved-model` or `to-hub-module`.
      producer: the TensorFlow release that wrote the source, as it says.
      kept: counts and bytes.
      callables: what the SavedModel can be called for.
      serving_signatures: names of its serving signatures.
      signatures: the signatures of the module, of each variant.
      variables: the variables of the module.
      passes: how many places each pass changed, by the name of the pass, in order.
      not_kept: each thing of the source that the result does not have.
      remarks: what behaves otherwise than one may expect.
      seconds: wall time of the conversion.
      verification: how the result compares with its source; None where that was not verified.
      not_verified: why it was not, where nobody turned verification off; else empty.
    """

    source: str
    destination: str | None
    direction: str
    producer: str = ""
    kept: Counts = field(default_factory=Counts)
    callables: list[CallableReport] = field(default_factory=list)
    serving_signatures: list[str] = field(default_factory=list)
    signatures: list[SignatureReport] = field(default_factory=list)
    variables: list[VariableReport] = field(default_factory=list)
    passes: dict[str, int] = field(default_factory=dict)
    not_kept: list[Note] = field(default_factory=list)
    remarks: list[Note] = field(default_factory=list)
    seconds: float = 0.0
    verification: Verification | None = None
    not_verified: str = ""

    def drop(self, kind: str, name: str, reason: str, where: Where | None = None) -> None:
        """Records a thing of the source that the result does not have."""
        self.not_kept.append(_note(kind, name, reason, where))

    def remark(self, kind: str, name: str, reason: str, where: Where | None = None) -> None:
        """Records something that behaves otherwise than one may expect."""
        self.remarks.append(_note(kind, name, reason, where))

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form, as docs/report.md describes it."""
        return {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **asdict(self)}


def _note(kind: str, name: str, reason: str, where: Where | None) -> Note:
    where = where or Where()
    return Note(kind, name, reason, where.variant, where.signature, where.node)
