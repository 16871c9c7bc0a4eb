"""Compares a module in TensorFlow 1.15 with what TensorFlow 2 computed with its source."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.clients.tf1 import Tf1Client, Training
from tests.networks.digests import digest

Arrays = Mapping[str, NDArray[Any]]

# The rules, relative to the largest value of the array.
OUTPUT_RULE = 1e-5
GRADIENT_RULE = 1e-4
STATE_RULE = 1e-5
# What a call with training=True adds to a moving average is little, so it has a rule of its own.
STEP_RULE = 1e-2
LOSS_RULE = 1e-5
# A gradient that should be zero is rounding noise, relative to the others: that of a bias before
# batch norm, or of the bias of attention's keys. No gradient is compared more closely than
# relative to this part of the largest gradient of the network.
SMALL_GRADIENT = 1e-2

# A ReLU whose input is within rounding of zero passes its gradient on one side and not on the
# other, and so does max pooling with two inputs within rounding of one another. That changes
# gradients by up to percents, between two ways of TensorFlow 2 too, and no tolerance that allows it
# would be any good. So a gradient that breaks its rule is computed again with other images, until
# as many batches were tried. A wrong conversion is wrong for all of them. Some networks have so
# many inputs of max pooling that there is always such a pair, and TensorFlow 2 itself breaks the
# rule. There the worst gradient may be a few times as far off as TensorFlow 2 is from itself (one
# pair more or less decides), and the median of all gradients must hold the rule still.
BATCHES = 4
NOISE_FACTOR = 4

STEPS = 5
# In inference batch norm does not hold the activations where they are.
LEARNING_RATES = {"inference": 2e-5, "training": 1e-4}
# A loss that falls less than this in all steps has not been trained.
FALL = 0.95


@dataclass
class Trace:
    """How far the module is from its source, in inference or in training.

    Attributes:
      output: largest difference of an output.
      gradient: largest difference of a gradient.
      gradient_of: the variable of that gradient.
      typical: the median of the differences of all gradients.
      gradients: how many gradients were compared.
      batches: how many batches of images were tried.
      state: largest difference of a moving average after the update ops.
      updated: how many moving averages were compared.
      regularization: largest difference of a regularization loss.
      regularizers: how many regularization losses were compared.
    """

    output: float = 0.0
    gradient: float = 0.0
    gradient_of: str = ""
    typical: float = 0.0
    gradients: int = 0
    batches: int = 1
    state: float = 0.0
    updated: int = 0
    regularization: float = 0.0
    regularizers: int = 0


@dataclass
class Result:
    """What came of one network in one format.

    Attributes:
      network: the network.
      format: the format.
      problems: each rule that does not hold, and any error.
      inference: the trace without training.
      training: the one with it, where the source has one; without dropout.
      random: whether the module's training drops something.
      losses: the loss before each step of training in TensorFlow 1.15, and after the last one.
      noise: what TensorFlow 2 differs by from itself, `inference` and `training`.
      seconds: how long the conversion took.
      megabytes: size of the source.
    """

    network: str
    format: str
    problems: list[str] = field(default_factory=list)
    inference: Trace | None = None
    training: Trace | None = None
    random: bool = False
    losses: list[float] = field(default_factory=list)
    noise: dict[str, Trace] = field(default_factory=dict)
    seconds: float = 0.0
    megabytes: float = 0.0

    def check(self, what: str, value: float, rule: float) -> None:
        """Notes a difference that is larger than its rule, or no number."""
        if not value <= rule:
            self.problems.append(f"{what}: {value:.1e}, more than {rule:.0e}")

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON has it."""
        return asdict(self)


def difference(found: NDArray[Any], wanted: NDArray[Any], scale: float | None = None) -> float:
    """Returns the largest difference, relative to the largest wanted value."""
    if found.shape != wanted.shape:
        return float("inf")
    if wanted.size == 0:
        return 0.0
    scale = float(np.abs(wanted).max()) if scale is None else scale
    worst = float(np.abs(found.astype(np.float64) - wanted).max())
    return worst / scale if scale else worst


def under(arrays: Arrays, prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays whose name starts with `prefix|`, by the rest of it."""
    start = f"{prefix}|"
    return {name.removeprefix(start): arrays[name] for name in arrays if name.startswith(start)}


def compare_gradients(trace: Trace, found: Arrays, wanted: Arrays) -> None:
    """Compares gradients that have the same names."""
    largest = max((float(np.abs(array).max()) for array in wanted.values()), default=0.0)
    trace.gradient, trace.gradient_of = 0.0, ""
    differences = []
    for name, array in wanted.items():
        scale = max(float(np.abs(array).max()), SMALL_GRADIENT * largest)
        worst = difference(found[name], array, scale)
        differences.append(worst)
        if not worst <= trace.gradient:
            trace.gradient, trace.gradient_of = worst, name
    trace.typical = float(np.median(differences)) if differences else 0.0
    trace.gradients = len(wanted)


def noise(first: Arrays, second: Arrays, mode: str) -> Trace:
    """What TensorFlow 2 differs by from itself."""
    trace = Trace(output=difference(second[f"{mode}|output"], first[f"{mode}|output"]))
    name = f"{mode}|gradient"
    compare_gradients(trace, under(second, name), under(first, name))
    after = under(first, f"{mode}|after")
    found = under(second, f"{mode}|after")
    floats = [name for name, array in after.items() if array.dtype.kind == "f"]
    trace.state = max((difference(found[name], after[name]) for name in floats), default=0.0)
    trace.updated = len(floats)
    return trace


class Names:
    """The variables of a source and of its module, matched by their bytes."""

    def __init__(self, digests: Arrays, start: Arrays) -> None:
        self._of_module: dict[str, list[str]] = {}
        for name, array in start.items():
            self._of_module.setdefault(digest(array), []).append(name)
        self._digests = {name: str(value) for name, value in digests.items()}

    def missing(self) -> list[str]:
        """Variables of the source without one of the same value in the module."""
        return [n for n, value in self._digests.items() if value not in self._of_module]

    def rename(self, arrays: Arrays, result: Result, what: str) -> dict[str, NDArray[Any]]:
        """Returns arrays by the name in the module."""
        renamed = {}
        for name, array in arrays.items():
            names = self._of_module.get(self._digests[name], [])
            if len(names) == 1:
                renamed[names[0]] = array
            else:
                result.problems.append(f"{what} of {name}: {len(names)} variables of its value")
        return renamed


@dataclass(frozen=True)
class Pair:
    """A source and its module.

    Attributes:
      client: TensorFlow 1.15.
      source: the SavedModel.
      module: the module.
      recompute: computes with the source again, on the batch of a number.
    """

    client: Tf1Client
    source: Path
    module: Path
    recompute: Callable[[Path, int], Arrays]

    def run(
        self, reference: Arrays, tags: tuple[str, ...], *, gradients: bool, steps: int
    ) -> Training:
        """Computes and trains in TensorFlow 1.15."""
        return self.client.hub_train(
            self.module,
            {"images": reference["images"]},
            {"default": reference["targets"]},
            steps=steps,
            learning_rate=LEARNING_RATES["training" if tags else "inference"],
            optimizer="adam",
            loss="cross_entropy",
            projections={"default": reference["projection"]} if gradients else {},
            tags=tags,
        )

    def again(self, batch: int, mode: str) -> tuple[dict[str, NDArray[Any]], Arrays]:
        """Computes gradients with another batch.

        Returns:
          Those of the module by name in the module, and the reference.
        """
        reference = self.recompute(self.source, batch)
        gradients = self.client.hub_gradients(
            self.module,
            {"images": reference["images"]},
            {"default": reference["projection"]},
            tags=("train",) if mode == "training" else (),
        )
        return {n: array for n, array in gradients.items() if array is not None}, reference


def compare_trace(
    found: Training, reference: Arrays, mode: str, result: Result, pair: Pair | None = None
) -> Trace:
    """Compares one trace.

    Args:
      found: what TensorFlow 1.15 computed.
      reference: what TensorFlow 2 computed.
      mode: `inference` or `training`.
      result: takes the problems.
      pair: where both can compute again.
    """
    names = Names(under(reference, "digest"), found.start)
    trace = Trace()
    trace.output = difference(found.outputs["default"], reference[f"{mode}|output"])
    result.check(f"{mode} output", trace.output, OUTPUT_RULE)
    wanted = names.rename(under(reference, f"{mode}|gradient"), result, "gradient")
    given = {name: array for name, array in found.gradients.items() if array is not None}
    for name in sorted(wanted.keys() ^ given.keys()):
        where = "no gradient" if name in wanted else "a gradient that the source has not"
        result.problems.append(f"{mode}: {name} has {where}")
    both = sorted(wanted.keys() & given.keys())
    if not both:
        result.problems.append(f"{mode}: no gradient at all")
    compare_gradients(trace, given, {name: wanted[name] for name in both})
    allowed = gradient_rule(result, mode)
    while pair and not trace.gradient <= allowed and trace.batches < BATCHES:
        given, other = pair.again(trace.batches, mode)
        wanted = names.rename(under(other, f"{mode}|gradient"), result, "gradient")
        trace.batches += 1
        compare_gradients(trace, given, {name: wanted[name] for name in both})
    check_gradients(trace, mode, result)
    if found.forward:
        result.problems.append(f"{mode}: a forward pass changes {sorted(found.forward)}")
    compare_state(trace, found, reference, mode, names, result)
    if mode == "training":
        losses = np.sort(reference["regularization"])
        trace.regularization = difference(np.sort(found.regularization), losses)
        trace.regularizers = losses.size
        result.check(f"{mode} regularization", trace.regularization, LOSS_RULE)
    return trace


def gradient_rule(result: Result, mode: str) -> float:
    """How far off the worst gradient may be."""
    own = result.noise[mode].gradient if mode in result.noise else 0.0
    return GRADIENT_RULE if own <= GRADIENT_RULE else NOISE_FACTOR * own


def check_gradients(trace: Trace, mode: str, result: Result) -> None:
    """Notes gradients that are farther off than rounding explains."""
    worst = f"{mode} gradient of {trace.gradient_of}"
    result.check(worst, trace.gradient, gradient_rule(result, mode))
    result.check(f"{mode} median gradient", trace.typical, GRADIENT_RULE)


def compare_state(
    trace: Trace,
    found: Training,
    reference: Arrays,
    mode: str,
    names: Names,
    result: Result,
) -> None:
    """Compares what update ops do. States of random generators need not change alike."""
    after = under(reference, f"{mode}|after")
    floats = {name: array for name, array in after.items() if array.dtype.kind == "f"}
    wanted = names.rename(floats, result, "update")
    given = {name: array for name, array in found.update.items() if array.dtype.kind == "f"}
    for name in sorted(wanted.keys() ^ given.keys()):
        where = "not updated" if name in wanted else "updated, but not by the source"
        result.problems.append(f"{mode}: {name} is {where}")
    for name in sorted(wanted.keys() & given.keys()):
        start = found.start[name]
        trace.state = max(trace.state, difference(given[name], wanted[name]))
        step = difference(given[name] - start, wanted[name] - start)
        result.check(f"{mode} update of {name} by itself", step, STEP_RULE)
    trace.updated = len(wanted)
    result.check(f"{mode} state", trace.state, STATE_RULE)


def check_losses(found: Training, with_gradient: Collection[str], result: Result) -> None:
    """Checks that training lowers the loss, and changes all that has a gradient."""
    result.losses = found.losses
    if not found.losses[-1] <= FALL * found.losses[0]:
        result.problems.append(f"the loss does not fall: {found.losses}")
    check_trained(found, with_gradient, result)


def check_trained(found: Training, with_gradient: Collection[str], result: Result) -> None:
    """Checks that training changes all that has a gradient, and gives numbers."""
    if not np.isfinite(found.losses).all():
        result.problems.append(f"the loss is no number: {found.losses}")
    if still := sorted(set(with_gradient) - set(found.trained)):
        result.problems.append(f"training does not change {still}")


def gradient_names(found: Training) -> list[str]:
    """The variables that have a gradient."""
    return [name for name, array in found.gradients.items() if array is not None]


def is_told(name: str, not_kept: set[str]) -> bool:
    """Whether the conversion report names a variable, maybe with a number at its end."""
    plain = name.split(" ", 1)[1].removesuffix(":0")
    return any(told == plain or told.startswith(f"{plain}_") for told in not_kept)


def compare(
    result: Result,
    pair: Pair,
    reference: Arrays,
    still: tuple[Pair, Arrays] | None,
    not_kept: set[str],
) -> None:
    """Compares a module with its source, and notes what is wrong.

    Args:
      result: takes what was seen.
      pair: the source and its module.
      reference: what `tests.networks.reference` computed with the source.
      still: the same of the same network without dropout, where it has dropout.
      not_kept: names of what the conversion report says was not kept.
    """
    images = reference["images"][:1]
    single = pair.client.hub_apply(pair.module, {"images": images})["default"]
    trains = "training|output" in reference
    found = pair.run(reference, (), gradients=True, steps=0 if trains else STEPS)
    result.check(
        "output of one image", difference(single, reference["inference|single"]), OUTPUT_RULE
    )
    for name in Names(under(reference, "digest"), found.start).missing():
        if not is_told(name, not_kept):
            result.problems.append(f"variable {name} is gone, and the report does not say so")
    result.inference = compare_trace(found, reference, "inference", result, pair)
    if not trains:
        check_losses(found, gradient_names(found), result)
        return
    trained = pair.run(reference, ("train",), gradients=still is None, steps=STEPS)
    if still is None:
        check_losses(trained, gradient_names(trained), result)
        result.training = compare_trace(trained, reference, "training", result, pair)
        return
    result.random = True
    twin, wanted = still
    without = twin.run(wanted, ("train",), gradients=True, steps=STEPS)
    # What is dropped in each step moves the loss more than a few steps do.
    check_losses(without, gradient_names(without), result)
    check_trained(trained, gradient_names(without), result)
    result.training = compare_trace(without, wanted, "training", result, twin)
    if difference(trained.outputs["default"], without.outputs["default"]) < 1e-3:
        result.problems.append("training drops nothing")
    if trained.updates < without.updates:
        result.problems.append(f"{trained.updates} update ops, {without.updates} without dropout")
    if trained.forward:
        result.problems.append(f"training: a forward pass changes {sorted(trained.forward)}")
