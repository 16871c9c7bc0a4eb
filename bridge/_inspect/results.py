"""What `bridge.inspect` returns; docs/inspect.md describes the JSON form."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from bridge.report import Counts, Note

SCHEMA = "hubbridge/inspect-report"
SCHEMA_VERSION = 1

HUB_MODULE = "hub-module"
TF1_SAVED_MODEL = "tf1-saved-model"
TF2_SAVED_MODEL = "tf2-saved-model"
MODULE_FORMAT = "FORMAT_V3"  # tensorflow_hub 0.12 knows no other


@dataclass(frozen=True)
class EndpointInfo:
    """A named input or output.

    Attributes:
      name: its name.
      encoding: `dense`, `sparse`, `ragged` or `composite`.
      dtype: dtype of the values.
      shape: static shape, with None for an unknown dimension; None for an unknown rank.
      argument: of a callable's input, the Python argument that it is, or is in.
    """

    name: str
    encoding: str
    dtype: str
    shape: list[int | None] | None
    argument: str = ""


@dataclass(frozen=True)
class SignatureInfo:
    """A signature of a variant.

    Attributes:
      name: its name.
      method: the `method_name` that TensorFlow Serving looks at; modules have none.
      inputs: by name, sorted.
      outputs: by name, sorted.
    """

    name: str
    method: str
    inputs: list[EndpointInfo]
    outputs: list[EndpointInfo]


@dataclass(frozen=True)
class VariantInfo:
    """A graph with its set of tags.

    Attributes:
      name: the tags as people write them, such as `{train}`.
      tags: sorted.
      nodes: how many the graph has, without those of functions.
      functions: how many its library has.
      signatures: sorted by name.
      update_ops: names of the nodes in the collection `update_ops`.
      regularization_losses: names of the tensors in the collection of this name.
    """

    name: str
    tags: list[str]
    nodes: int
    functions: int
    signatures: list[SignatureInfo]
    update_ops: list[str]
    regularization_losses: list[str]


@dataclass(frozen=True)
class TraceInfo:
    """A concrete function: what a callable runs for one kind of arguments.

    Attributes:
      function: its name in the library.
      training: what the argument `training` is: `True`, `False`, `tensor`; None where there is no
        such argument.
      inputs: its tensors, in the order of the arguments.
      values: its other arguments, values of Python, by name.
      outputs: its tensors.
      captures: how many variables, tables, assets and constants it is bound to.
      problem: why its arguments or results can't be described; None where they can.
    """

    function: str
    training: str | None
    inputs: list[EndpointInfo]
    values: dict[str, bool | int | float | str | None]
    outputs: list[EndpointInfo]
    captures: int
    problem: str | None = None


@dataclass(frozen=True)
class CallableInfo:
    """What the object that tf.saved_model.load gives can be called for.

    Attributes:
      name: attributes that lead to it, joined by dots; `__call__` is the object itself.
      arguments: names of its positional arguments.
      traces: what was traced of it.
    """

    name: str
    arguments: list[str]
    traces: list[TraceInfo]


@dataclass(frozen=True)
class ImageSize:
    """The size that images are expected to have.

    Attributes:
      height: in pixels.
      width: in pixels.
      found_in: `image_module_info`, or the input whose static shape says it.
    """

    height: int
    width: int
    found_in: str


@dataclass(frozen=True)
class VariableInfo:
    """A variable; the parts of a partitioned one are one.

    Attributes:
      name: its name.
      path: attributes that lead to it from the root; empty where there are no objects.
      dtype: its dtype.
      shape: its shape, with None for an unknown dimension; None for an unknown rank.
      bytes: how many its value has.
      trainable: whether it is.
      kind: `resource` or `reference`.
      parts: how many it is partitioned into; 1 for a variable in one piece.
      stored: whether the checkpoint has a value for it.
    """

    name: str
    path: str
    dtype: str
    shape: list[int | None] | None
    bytes: int
    trainable: bool
    kind: str
    parts: int
    stored: bool


@dataclass(frozen=True)
class VariablesInfo:
    """All variables.

    Attributes:
      count: how many there are.
      bytes: of all values.
      trainable: how many are trainable.
      trainable_bytes: of their values.
      reference: how many are reference variables.
      resource: how many are resource variables.
      partitioned: how many are partitioned.
      not_stored: how many the checkpoint has no value for.
      items: the variables, sorted by name.
    """

    count: int = 0
    bytes: int = 0
    trainable: int = 0
    trainable_bytes: int = 0
    reference: int = 0
    resource: int = 0
    partitioned: int = 0
    not_stored: int = 0
    items: list[VariableInfo] = field(default_factory=list)

    @classmethod
    def of(cls, items: list[VariableInfo]) -> VariablesInfo:
        """Counts variables."""
        return cls(
            count=len(items),
            bytes=sum(one.bytes for one in items),
            trainable=sum(one.trainable for one in items),
            trainable_bytes=sum(one.bytes for one in items if one.trainable),
            reference=sum(one.kind == "reference" for one in items),
            resource=sum(one.kind == "resource" for one in items),
            partitioned=sum(one.parts > 1 for one in items),
            not_stored=sum(not one.stored for one in items),
            items=sorted(items, key=lambda one: one.name),
        )


@dataclass(frozen=True)
class TableInfo:
    """A lookup table.

    Attributes:
      name: name of its node, or the attributes that lead to it.
      variant: tags of the variant that has it; None where objects say what there is.
      op: the op that makes it.
      key_dtype: dtype of its keys.
      value_dtype: dtype of its values.
      asset: the asset file that fills it; None where none does.
    """

    name: str
    variant: str | None
    op: str
    key_dtype: str
    value_dtype: str
    asset: str | None


@dataclass(frozen=True)
class AssetInfo:
    """A file below `assets/`.

    Attributes:
      name: its path there.
      bytes: its size; None where the model speaks of it, but it is not there.
    """

    name: str
    bytes: int | None


@dataclass(frozen=True)
class AttachmentInfo:
    """An attached message.

    Attributes:
      key: its key.
      variants: tags of the variants that have it.
      bytes: its size.
      message: its fields, where the key says what message it is.
      text: its start, where it is text and no known message.
    """

    key: str
    variants: list[str]
    bytes: int
    message: dict[str, Any] | None
    text: str | None


@dataclass(frozen=True)
class OpInfo:
    """An op, and how often it stands in all graphs and functions.

    Attributes:
      op: its name.
      count: how many nodes there are of it.
      since: the oldest release on file that has it, of which it may be older; None where none has.
    """

    op: str
    count: int
    since: str | None


@dataclass(frozen=True)
class ReleaseInfo:
    """Which TensorFlow releases know all ops, attributes and types.

    Attributes:
      oldest: the oldest one, such as `1.15`.
      or_older: whether older ones may, too: nothing is known of what was before it.
      newest: the last one, where a newer release has dropped an op; else None.
      demanded_by: what the release before the oldest one lacks.
      unknown_ops: ops that no release has; they are not taken into account.
    """

    oldest: str
    or_older: bool
    newest: str | None
    demanded_by: list[str]
    unknown_ops: list[str]


@dataclass(frozen=True)
class Obstacle:
    """What stops a conversion.

    Attributes:
      kind: class of the error that the conversion gives.
      message: what is in the way.
      file: the file, from the model's directory on.
      variant: tags of the variant.
      signature: name of the signature.
      node: name of the node.
      hint: what to do.
    """

    kind: str
    message: str
    file: str | None
    variant: str | None
    signature: str | None
    node: str | None
    hint: str | None


@dataclass(frozen=True)
class ConversionInfo:
    """What came of trying a conversion without writing anything.

    Attributes:
      direction: `to-saved-model` or `to-hub-module`.
      possible: whether it goes through.
      obstacles: what stops it.
      kept: what the result would have; None where there is none.
      not_kept: each thing that the result would not have.
      remarks: what would behave otherwise than one may expect.
    """

    direction: str
    possible: bool
    obstacles: list[Obstacle]
    kept: Counts | None
    not_kept: list[Note]
    remarks: list[Note]


@dataclass
class InspectReport:
    """What is in a model.

    Attributes:
      source: what was inspected, as given.
      format: `hub-module`, `tf1-saved-model` or `tf2-saved-model`.
      bytes: of all its files.
      producer: the TensorFlow release that wrote it, as it says; empty where it does not.
      graph_version: version of the graph's producer.
      module_format: the format that a module says it has; None of a SavedModel.
      required_features: what a module says that its readers must know.
      was_module: whether it is a SavedModel that hubbridge made of a module.
      variants: in the order of the file.
      callables: what can be called; TF2 SavedModels only.
      more_callables: how many further functions belong to parts of the model.
      image_size: the expected size of images; None where the model does not say.
      variables: all variables.
      tables: the lookup tables.
      assets: the files that belong to it, sorted by name.
      attachments: the attached messages, sorted by key.
      regularization_losses: names of the functions that give them; TF2 SavedModels only.
      ops: sorted by name.
      release: which TensorFlow releases know the ops: of a module or TF1 SavedModel all, of a TF2
        SavedModel those of its functions, of which objects are made.
      graph_release: of a TF2 SavedModel, which releases know all ops of its graph, too, which v1
        loaders and TensorFlow Serving run; else None.
      conversion: whether it can be converted; None where that was not asked.
      seconds: wall time.
    """

    source: str
    format: str
    bytes: int
    producer: str
    graph_version: int
    module_format: str | None
    required_features: list[str]
    was_module: bool
    variants: list[VariantInfo]
    callables: list[CallableInfo]
    more_callables: int
    image_size: ImageSize | None
    variables: VariablesInfo
    tables: list[TableInfo]
    assets: list[AssetInfo]
    attachments: list[AttachmentInfo]
    regularization_losses: list[str]
    ops: list[OpInfo]
    release: ReleaseInfo
    graph_release: ReleaseInfo | None
    conversion: ConversionInfo | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form, as docs/inspect.md describes it."""
        found = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **asdict(self)}
        for one in found["callables"]:
            for trace in one["traces"]:
                trace["values"] = {name: _as_json(v) for name, v in trace["values"].items()}
        return found


def _as_json(value: Any) -> Any:
    """Returns a value of Python as strict JSON, which has no numbers that are not finite."""
    is_odd = isinstance(value, float) and not math.isfinite(value)
    return {"float": repr(value)} if is_odd else value
