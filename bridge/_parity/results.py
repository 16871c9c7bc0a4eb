"""What a parity run found. docs/parity.md describes the JSON form."""

from __future__ import annotations

import enum
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA = "hubbridge/parity-report"
SCHEMA_VERSION = 1


class Status(str, enum.Enum):
    """What became of one check; a member is its own text in JSON."""

    PASS = "pass"
    FAIL = "fail"
    SKIPPED = "skipped"
    """It was asked for and could not be run, such as a GPU row without a GPU."""
    NOT_COMPARABLE = "not comparable"
    """The two sides can't be expected to agree, such as where unpinned random ops act."""


class Verdict(str, enum.Enum):
    """What a build does with the run."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    """Nothing failed, and nothing of a signature, or of all, could be compared."""


@dataclass(frozen=True)
class Side:
    """One of the two models.

    Attributes:
      path: as the user gave it.
      format: `TF1 Hub module` or `TF2 SavedModel`.
      producer: the TensorFlow release that wrote it, as it says.
    """

    path: str
    format: str
    producer: str = ""


@dataclass(frozen=True)
class Runtime:
    """What ran one of the sides.

    Attributes:
      name: its short name, such as `TF 1.15.5 hub.Module`; comparisons refer to it.
      side: `reference` or `candidate`.
      device: `cpu` or `gpu`.
      tensorflow: release.
      tensorflow_hub: release; empty where the runtime does not use it.
      python: release.
      devices: names of the devices that TensorFlow saw, as it gives them.
      settings: what decides about the numbers: threads, oneDNN, TF32, determinism, seed.
    """

    name: str
    side: str
    device: str
    tensorflow: str
    tensorflow_hub: str
    python: str
    devices: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StructureCheck:
    """One thing that can be seen without running anything.

    Attributes:
      check: what was looked at: `variant`, `signature`, `input`, `output`, `variable`,
        `trainable`, `variable_list`, `regularization_loss`, `update_op`, `asset`, `table`,
        `attachment`, `image_size`, `callable`, `served`.
      name: its name.
      status: pass or fail; not comparable where a conversion names it as not kept, of a callable
        that a module can't have, and of a table that can't be read.
      reference: what the reference has, as text.
      candidate: what the candidate has.
      reason: why it failed, one sentence; empty where it passed.
      variant: tags of the variant, as `format_tags` prints them; None where it is the model's.
      signature: name of the signature; None where it belongs to none.
    """

    check: str
    name: str
    status: Status
    reference: str = ""
    candidate: str = ""
    reason: str = ""
    variant: str | None = None
    signature: str | None = None


@dataclass(frozen=True)
class Worst:
    """Where two outputs differ most.

    Attributes:
      inputs: name of the input set, such as `noise` or `photos`; empty where the values depend on
        none, as regularization losses do.
      batch: index of the batch within the input set.
      index: position within the output.
      reference: the value there.
      candidate: the other one.
    """

    inputs: str
    batch: int
    index: tuple[int, ...]
    reference: float | int | str
    candidate: float | int | str

    @property
    def place(self) -> str:
        """The position in words, with the batch that it is in."""
        of = f" of batch {self.batch} of {self.inputs}" if self.inputs else ""
        return f"{list(self.index)}{of}"


@dataclass(frozen=True)
class PhotoRow:
    """A photo on which an output differs.

    Attributes:
      batch: index of the batch within the set of photos.
      row: of the batch.
      max_abs: the largest |a - b| of the values that belong to the photo; infinite where NaN or
        Inf stands on one side only.
      top1: the best class of the reference and that of the candidate; None where the output is no
        matrix of scores.
    """

    batch: int
    row: int
    max_abs: float
    top1: tuple[int, int] | None = None


@dataclass(frozen=True)
class Difference:
    """How far apart two outputs are, over all batches.

    Medians and percentiles are read from a histogram whose bins are a 32nd of a decade wide.

    Attributes:
      values: how many values were compared.
      max_abs, mean_abs, median_abs, p99_abs: of |a - b|.
      max_rel, mean_rel, median_rel, p99_rel: of |a - b| / |a|, where a is not zero.
      max_ulp: the largest distance in units in the last place of the output's dtype.
      cosine: the smallest cosine of the angle between the two outputs of a batch.
      largest: max|a|.
      nan: how many values are NaN, in the reference and in the candidate.
      inf: how many are infinite, likewise.
      worst: the place of max_abs; None where all values are equal.
      top1, top5: the share of rows whose best class, or set of five best classes, is the same;
        None where the output is no matrix of scores.
      needed_rtol: the smallest `rtol`, with the `atol` given, that would have let it pass; infinite
        where no tolerance would.
      headroom: tolerance / max_abs; infinite where the outputs are equal.
      histogram: counts of |a - b| / max|a| by decade: key `-7` is [1e-7, 1e-6), `0` is [1, 10);
        `equal` is for zero, `inf` for what is infinite.
      photos: of a main output, the few photos that it differs most on, the farthest first; none
        where it is equal on all, or has no row for each photo.
    """

    values: int = 0
    max_abs: float = 0.0
    mean_abs: float = 0.0
    median_abs: float = 0.0
    p99_abs: float = 0.0
    max_rel: float = 0.0
    mean_rel: float = 0.0
    median_rel: float = 0.0
    p99_rel: float = 0.0
    max_ulp: int = 0
    cosine: float = 1.0
    largest: float = 0.0
    nan: tuple[int, int] = (0, 0)
    inf: tuple[int, int] = (0, 0)
    worst: Worst | None = None
    top1: float | None = None
    top5: float | None = None
    needed_rtol: float = 0.0
    headroom: float = float("inf")
    histogram: dict[str, int] = field(default_factory=dict)
    magnitudes: tuple[tuple[float, float, int], ...] = ()
    """(log10|a|, log10|a - b|, count) of a coarse two-dimensional histogram, for the report."""
    photos: tuple[PhotoRow, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """One output of one signature, compared over all inputs.

    Attributes:
      kind: `output`; in training `gradient`, `variable`, `regularization_loss` or
        `regularization_gradient`.
      reference_runtime: name of what ran the reference.
      candidate_runtime: name of what ran the candidate.
      device: `cpu` or `gpu`: where the candidate ran.
      reference_device: where the reference ran.
      variant: tags of the variant.
      signature: name of the signature.
      output: name of the output, or of the variable.
      status: what became of it.
      through: how each side was called, such as `__call__` or `serving_default`.
      reason: why it failed or was not compared, one sentence; also which batches could not be
        compared, where others were.
      tolerance: the rtol and atol that applied.
      limit: the absolute difference that they allow for the batch that decided.
      difference: the numbers; None where nothing was compared.
      noise: max|a - b| of the reference against itself, run again and with other threads; None
        where that was not run.
      batches: how many batches of inputs were compared; in training 0.
      excused: whether it broke the rule in every batch, as the reference does against itself.
    """

    kind: str
    reference_runtime: str
    candidate_runtime: str
    device: str
    reference_device: str
    variant: str
    signature: str
    output: str
    status: Status
    through: tuple[str, str] = ("", "")
    reason: str = ""
    tolerance: tuple[float, float] = (0.0, 0.0)
    limit: float = 0.0
    difference: Difference | None = None
    noise: float | None = None
    batches: int = 0
    excused: bool = False


@dataclass(frozen=True)
class InputSet:
    """What one signature was fed.

    Attributes:
      name: `noise`, `zeros`, `ones`, `smooth`, `photos`, `values` or `file`.
      variant, signature: whose inputs they are.
      shapes: shape of each input, by name, per batch.
      files: the files they were read from; of `photos` one for each row of the batches, in order.
    """

    name: str
    variant: str
    signature: str
    shapes: tuple[dict[str, tuple[int, ...]], ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bisection:
    """The first node whose output differs while its inputs agree.

    Attributes:
      variant, signature: where it was looked for.
      node: its name; None where none was found.
      op: its op.
      confirmed: whether the node alone, fed what the reference feeds it, differs too.
      difference: max|a - b| of its first output that differs.
      limit: what is allowed there.
      reference, candidate: a few values around the worst place, on each side.
      repro: path of the script that shows it.
      reason: why none was found, or what is special about the node.
    """

    variant: str
    signature: str
    node: str | None
    op: str = ""
    confirmed: bool = False
    difference: float = 0.0
    limit: float = 0.0
    reference: tuple[float, ...] = ()
    candidate: tuple[float, ...] = ()
    repro: str | None = None
    reason: str = ""


@dataclass
class ParityReport:
    """The result of a parity run.

    Attributes:
      reference, candidate: the two models.
      verdict: what a build does with it.
      decided_by: the check that decided, as one sentence.
      rule: the rule, in words.
      options: the options of the run, as JSON has them.
      runtimes: what ran.
      structure: what could be seen without running.
      inputs: what was fed.
      comparisons: one for each output, pair of runtimes and device.
      training: likewise gradients, regularization losses and variables after steps of training.
      bisections: what `--bisect` found.
      remarks: what else a reader must know, one sentence each.
      seconds: wall time, by part: `total`, `reference`, `candidate`, `compare`.
    """

    reference: Side
    candidate: Side
    verdict: Verdict = Verdict.INCONCLUSIVE
    decided_by: str = ""
    rule: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    runtimes: list[Runtime] = field(default_factory=list)
    structure: list[StructureCheck] = field(default_factory=list)
    inputs: list[InputSet] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    training: list[Comparison] = field(default_factory=list)
    bisections: list[Bisection] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form, as docs/parity.md describes it: strict JSON, without NaN."""
        result: dict[str, Any] = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION}
        result |= _plain(asdict(self))
        for entry in (*result["comparisons"], *result["training"]):
            # The number that everybody looks for stands in the entry itself.
            difference = entry["difference"]
            entry["max_abs"] = difference["max_abs"] if difference else None
        return result


_VALUES = ("reference", "candidate")
"""Fields that hold values of a model where they hold numbers: NaN is a fact there, not a lack."""


def _plain(value: Any, *, name: str = "") -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        if math.isfinite(number):
            return number
        return _named(number) if name in _VALUES else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item, name=str(key)) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_plain(item, name=name) for item in value]
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _named(number: float) -> str:
    if math.isnan(number):
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"
