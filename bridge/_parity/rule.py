"""The rule: when an output agrees with its reference, and what a whole run comes to.

An output passes when NaN, +Inf and -Inf stand in the same places on both sides and, everywhere
else, max|a - b| ≤ atol + rtol · max|a|, where a is the reference, and the maxima go over all values
of the output in one batch of inputs. Integers, booleans and strings must be equal.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge._parity.results import Comparison, Status, StructureCheck, Verdict
from bridge.errors import UsageError

if TYPE_CHECKING:
    from bridge._parity.options import ParityOptions

SAME_RUNTIME_RTOL = 1e-5
"""Default `rtol` on one device, in one release of TensorFlow."""

ACROSS_RTOL = 1e-4
"""Default `rtol` across devices or releases, which sum in another order."""

GRADIENT_FACTOR = 10
"""How many times as far off as outputs gradients may be."""

SMALL_GRADIENT = 1e-2
"""The part of the largest gradient of a model below which none is compared more closely."""

NOISE_FACTOR = 10
"""How many times as far off as the reference is from itself what noise explains may be."""

ALL = "all"
"""Stands for a name where an entry of training is about all gradients, losses or variables."""

RULE = (
    "an output passes when NaN and Inf stand in the same places on both sides and, elsewhere, "
    "max|a-b| ≤ atol + rtol · max|a|, a being the reference; integers, booleans and strings must "
    "be equal"
)


@dataclass(frozen=True)
class Tolerance:
    """How far an output may be from its reference.

    Attributes:
      rtol: allowed part of the reference's largest absolute value.
      atol: what is allowed whatever that value is.
    """

    rtol: float
    atol: float = 0.0

    def limit(self, largest: float) -> float:
        """The allowed absolute difference where the reference's largest value is `largest`."""
        return self.atol + self.rtol * largest


class BreachKind(enum.IntEnum):
    """How a batch can break the rule, the gravest last."""

    FAR = 1
    """Floating-point values are farther apart than allowed."""
    UNEQUAL = 2
    """Integers, booleans or strings are not equal."""
    MISPLACED = 3
    """NaN or Inf stands on one side only."""
    FORM = 4
    """The dtype, the shape or the kind of tensor is another."""


@dataclass(frozen=True)
class Breach:
    """How one output of one batch breaks the rule.

    Attributes:
      kind: how.
      max_abs: how far the values are apart.
      limit: how far they may be.
      count: how many are not equal, or out of place.
    """

    kind: BreachKind
    max_abs: float = 0.0
    limit: float = 0.0
    count: int = 0

    @property
    def rank(self) -> tuple[BreachKind, float]:
        """Is greater the graver it is."""
        ratio = self.max_abs / self.limit if self.limit else math.inf if self.max_abs else 0.0
        return self.kind, ratio


def proves_nothing(breach: Breach, noise: Breach | None) -> bool:
    """Whether a batch that breaks the rule says nothing of the candidate.

    That is where the reference, run again on the same batch with other thread settings, breaks it
    in the same way against itself. No model whose reference is steady is excused so, nor what no
    noise explains: another form, NaN where only numbers came and went, values that are more than
    NOISE_FACTOR times as far off as the reference is from itself, or so many times as many.

    Args:
      breach: what the candidate did.
      noise: what the reference did against itself; None where it kept the rule.
    """
    if noise is None or noise.kind is not breach.kind or breach.kind is BreachKind.FORM:
        return False
    return (
        breach.max_abs <= NOISE_FACTOR * noise.max_abs
        and breach.count <= NOISE_FACTOR * noise.count
    )


def unsteady(noise: Breach) -> str:
    """Says how the reference breaks the rule against itself."""
    if noise.kind is BreachKind.FAR:
        return (
            f"the reference differs from itself by {noise.max_abs:.4g}, more than the limit "
            f"{noise.limit:.4g}"
        )
    if noise.kind is BreachKind.UNEQUAL:
        return "the reference differs from itself, in values that must be equal"
    return "the reference differs from itself, in the places of NaN and Inf"


# -- tolerances -------------------------------------------------------------------------------


def parse_override(text: str) -> tuple[str, Tolerance]:
    """Reads an override: `OUTPUT=RTOL` or `OUTPUT=RTOL,ATOL`.

    OUTPUT is the name of an output, which may have slashes and equals signs, alone or after its
    signature: `default`, `image_classification/default`, `InceptionV3/Mixed_5c`.

    Raises:
      UsageError: where it reads otherwise.
    """
    name, equals, numbers = text.rpartition("=")
    parts = numbers.split(",")
    if not equals or not name.strip() or len(parts) > 2:
        raise UsageError(
            f"can't read the tolerance {text!r}",
            hint="write OUTPUT=RTOL or OUTPUT=RTOL,ATOL, such as logits=1e-4",
        )
    values = []
    for part in parts:
        try:
            value = float(part)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            raise UsageError(
                f"{part.strip()!r} in {text!r} is no tolerance",
                hint="write numbers that are not negative, such as 1e-4",
            )
        values.append(value)
    return name.strip(), Tolerance(*values)


def tolerance_for(
    options: ParityOptions, signature: str, output: str, *, across: bool
) -> Tolerance:
    """Returns the tolerance of one output: an override, that of the run, or the default.

    Args:
      options: of the run.
      signature: name of the signature; an override of `signature/output` comes before `output`.
      output: name of the output.
      across: whether the two sides ran on different devices or releases.
    """
    for name in (f"{signature}/{output}", output):
        if name in options.overrides:
            return options.overrides[name]
    return _run_tolerance(options, across)


def training_tolerance(
    options: ParityOptions, kind: str, *, across: bool, largest: float = 0.0, drift: float = 0.0
) -> Tolerance:
    """Returns the tolerance of a gradient, a regularization loss or a trained variable.

    Gradients add up the rounding of the way there and back, so they may be ten times as far off as
    outputs. One that should be zero, such as by a bias before batch norm, is nothing but rounding:
    so none is compared more closely than relative to a hundredth of the model's largest. A variable
    that was zero is nothing but what gradients made it, and may be as far off as they may.

    Args:
      options: of the run.
      kind: `gradient`, `regularization_loss` or `variable`.
      across: whether the two sides ran on different devices or releases.
      largest: the largest value of all gradients of the reference.
      drift: how far apart gradients within their tolerance may have moved a variable.
    """
    tolerance = _run_tolerance(options, across)
    if kind != "gradient":
        return Tolerance(tolerance.rtol, tolerance.atol + drift)
    rtol = GRADIENT_FACTOR * tolerance.rtol
    return Tolerance(rtol, tolerance.atol + rtol * SMALL_GRADIENT * largest)


def _run_tolerance(options: ParityOptions, across: bool) -> Tolerance:
    default = ACROSS_RTOL if across else SAME_RUNTIME_RTOL
    return Tolerance(default if options.rtol is None else options.rtol, options.atol)


def check_overrides(overrides: Mapping[str, Tolerance], outputs: Iterable[tuple[str, str]]) -> None:
    """Checks that every override is of an output that is there.

    Args:
      overrides: by the name that the user gave.
      outputs: (signature, output) of all that are compared.

    Raises:
      UsageError: an override that would have no effect.
    """
    known = {name for signature, output in outputs for name in (output, f"{signature}/{output}")}
    for name in overrides:
        if name not in known:
            raise UsageError(
                f"a tolerance is given for {name!r}, which is no output",
                hint="the outputs are " + ", ".join(sorted(known)) if known else None,
            )


# -- the verdict ------------------------------------------------------------------------------


def decide(
    structure: Sequence[StructureCheck],
    comparisons: Sequence[Comparison],
    training: Sequence[Comparison] = (),
    *,
    require_gpu: bool = False,
) -> tuple[Verdict, str]:
    """Returns the verdict of a run, and a sentence that names the check that decided.

    The first failure decides: of the structure, then of outputs, then of training. A run passes
    when nothing failed and, of each signature that was run, at least one output was compared and
    passed; what was skipped or is not comparable never counts as passed. Nor does a run pass where
    an output broke the rule in every batch, even if the reference is as far from itself.

    Args:
      structure: what could be seen without running.
      comparisons: of outputs.
      training: of gradients, losses and variables.
      require_gpu: whether it takes a GPU, and all of its rows run.
    """
    for check in structure:
        if check.status is Status.FAIL:
            return Verdict.FAIL, f"{describe_check(check)}: {check.reason or 'it differs'}"
    rows = (*comparisons, *training)
    for row in rows:
        if row.status is Status.FAIL:
            return Verdict.FAIL, f"{describe_row(row)}: {row.reason or 'it differs'}"
    if require_gpu:
        on_gpu = [row for row in rows if "gpu" in (row.device, row.reference_device)]
        for row in on_gpu:
            if row.status is Status.SKIPPED:
                reason = row.reason or "it was skipped"
                return Verdict.FAIL, f"{describe_row(row)}: {reason}, and a GPU is required"
        if not any(row.status is Status.PASS for row in on_gpu):
            return Verdict.FAIL, "nothing was compared on a GPU, and a GPU is required"
    passed = [row for row in comparisons if row.status is Status.PASS and row.kind == "output"]
    if not passed:
        reasons = [row.reason for row in rows if row.reason]
        return Verdict.INCONCLUSIVE, "no output could be compared" + (
            f": {reasons[0]}" if reasons else ""
        )
    excused = next((row for row in rows if row.excused), None)
    if excused is not None:
        return Verdict.INCONCLUSIVE, (
            f"{describe_row(excused)} broke the rule in every batch, which proves nothing: "
            f"{excused.reason}"
        )
    unseen = _never_compared(comparisons)
    if unseen is not None:
        return Verdict.INCONCLUSIVE, (
            f"no output of signature {unseen.signature!r}, variant {unseen.variant}, could be "
            f"compared" + (f": {unseen.reason}" if unseen.reason else "")
        )
    closest = min(passed, key=_headroom)
    difference = closest.difference
    rest = _not_run(rows)
    what = "the output" if len(passed) == 1 else f"all {len(passed)} outputs"
    # An equal output has endless headroom; where even the closest to its limit has, all are equal.
    if difference is None or math.isinf(difference.headroom):
        verb = "is" if len(passed) == 1 else "are"
        return Verdict.PASS, f"{what} compared {verb} equal, such as {describe_row(closest)}{rest}"
    return Verdict.PASS, (
        f"{what} compared passed; closest to its limit is {describe_row(closest)}, where max|a-b| "
        f"is {difference.max_abs:.3g}, {difference.headroom:.3g} times below what is allowed{rest}"
    )


def _not_run(rows: Iterable[Comparison]) -> str:
    """Says what a run that passes has not compared."""
    left = [row.status for row in rows]
    parts = (
        (Status.NOT_COMPARABLE, "could not be compared"),
        (Status.SKIPPED, f"{'was' if left.count(Status.SKIPPED) == 1 else 'were'} skipped"),
    )
    return "".join(f"; {left.count(status)} {what}" for status, what in parts if status in left)


def _never_compared(comparisons: Iterable[Comparison]) -> Comparison | None:
    """Returns a row of the first signature that was run and of which no output passed.

    What was skipped was not run: a signature that was compared elsewhere has been compared.
    """
    rows: dict[tuple[str, str], list[Comparison]] = {}
    for row in comparisons:
        if row.status is not Status.SKIPPED:
            rows.setdefault((row.variant, row.signature), []).append(row)
    return next(
        (
            group[0]
            for group in rows.values()
            if all(row.status is Status.NOT_COMPARABLE for row in group)
        ),
        None,
    )


def describe_check(check: StructureCheck) -> str:
    """Names a structure check: `output 'default' of signature 'default', variant {}`."""
    if check.check == "variant":
        return f"variant {check.name}"
    what = {
        "image_size": "the image size",
        "regularization_loss": "the number of regularization losses",
        "trainable": f"the trainable flag of variable {check.name!r}",
        "update_op": f"the update of variable {check.name!r}",
    }.get(check.check, f"{check.check.replace('_', ' ')} {check.name!r}")
    place = [
        # A signature is not in itself.
        f"signature {check.signature!r}"
        if check.signature is not None and check.check != "signature"
        else "",
        f"variant {check.variant}" if check.variant is not None else "",
    ]
    inside = ", ".join(part for part in place if part)
    return f"{what} of {inside}" if inside else what


def describe_row(row: Comparison) -> str:
    """Names a comparison: `output 'default' of signature 'default', variant {}, on cpu`."""
    devices = " against ".join(dict.fromkeys((row.reference_device, row.device)))
    return f"{describe_compared(row)}, on {devices}"


def describe_compared(row: Comparison) -> str:
    """Names what was compared: `output 'default' of signature 'default', variant {}`."""
    kind = row.kind.replace("_", " ")
    if row.output == ALL and row.kind != "output":
        what = f"the {kind}{'es' if kind.endswith('s') else 's'}"
    else:
        what = f"{kind} {row.output!r}"
    return f"{what} of signature {row.signature!r}, variant {row.variant}"


def _headroom(row: Comparison) -> float:
    return math.inf if row.difference is None else row.difference.headroom
