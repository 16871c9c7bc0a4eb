"""Writes docs/networks.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.networks.catalog import FORMATS as ALL_FORMATS
from tests.networks.catalog import NETWORKS
from tests.networks.compare import (
    BATCHES,
    FALL,
    GRADIENT_RULE,
    LOSS_RULE,
    NOISE_FACTOR,
    OUTPUT_RULE,
    SMALL_GRADIENT,
    STATE_RULE,
    STEP_RULE,
    STEPS,
    Result,
    Trace,
    gradient_rule,
)

HEAD = """\
# Real networks

One network per family of Keras Applications, and a vision transformer with MultiHeadAttention, in
each format they can be saved in. Each was converted by `hubbridge to-hub-module` and ran in the
real TensorFlow 1.15 through `hub.Module`, against its source in TensorFlow 2.

    make test-networks

makes this page anew, in under an hour on two cores; it is not edited by hand.
"""

FORMATS = """\
## Formats

| format | how it was saved | traces |
| --- | --- | --- |
| `keras3-export` | `model.export(path)` of Keras 3 | inference |
| `keras3-save` | `tf.saved_model.save(model, path)` with a Keras 3 model | inference |
| `reusable` | a `tf.Module` written by hand around a Keras 3 model | inference, training |
| `tf_keras-save` | `tf.saved_model.save(model, path)` with a tf_keras model | inference, training |
| `tf_keras-export` | `model.export(path)` of tf_keras | inference |
"""

COLUMNS = (
    "format",
    "output",
    "gradient",
    "training output",
    "training gradient",
    "moving averages",
    "losses",
    "trains",
    "conversion",
)


def number(value: float, rule: float) -> str:
    """A difference; one that breaks its rule is set in bold."""
    text = "0" if value == 0 else f"{value:.0e}".replace("e-0", "e-")
    return text if value <= rule else f"**{text}**"


def gradient(trace: Trace, result: Result, mode: str) -> str:
    """The difference of the gradients, and of most of them where TensorFlow 2 is as far off."""
    again = f" ({trace.batches})" if trace.batches > 1 else ""
    typical = ""
    if trace.gradient > GRADIENT_RULE:
        typical = f", median {number(trace.typical, GRADIENT_RULE)}"
    return number(trace.gradient, gradient_rule(result, mode)) + again + typical


def trains(result: Result) -> str:
    """Whether it trains, and how the loss fell."""
    if not result.losses:
        return "no"
    falls = any("loss does not fall" in problem for problem in result.problems)
    how = "" if result.training else ", as inference"
    return f"{'**no**' if falls else 'yes'}{how} ({result.losses[0]:.1f} → {result.losses[-1]:.1f})"


def row(result: Result) -> list[str]:
    """The cells of one format."""
    cells = [f"`{result.format}`"]
    if (trace := result.inference) is None:
        return [*cells, *["**failed**"] * 2, *["—"] * 4, "**no**", "—"]
    cells += [number(trace.output, OUTPUT_RULE), gradient(trace, result, "inference")]
    if (trace := result.training) is None:
        cells += ["—"] * 4
    else:
        cells += [
            number(trace.output, OUTPUT_RULE),
            gradient(trace, result, "training") + (" ¹" if result.random else ""),
            number(trace.state, STATE_RULE) if trace.updated else "none",
            f"{trace.regularizers}: {number(trace.regularization, LOSS_RULE)}"
            if trace.regularizers
            else "none",
        ]
    cells += [trains(result), f"{result.seconds:.1f} s, {result.megabytes:.0f} MB"]
    return cells


def noise_row(name: str, noise: Mapping[str, Trace]) -> list[str]:
    """The cells that say how far TensorFlow 2 is from itself."""
    cells = [f"*TF 2 itself, {name}*"]
    infinite = float("inf")
    for mode in ("inference", "training"):
        trace = noise[mode]
        cells += [number(trace.output, infinite), number(trace.gradient, infinite)]
    state = noise["training"]
    return [*cells, number(state.state, infinite) if state.updated else "none", "", "", ""]


def markdown(results: Sequence[Result], versions: Sequence[str]) -> str:
    """The whole page."""
    lines = [HEAD, "## Results", "", *[f"- {version}" for version in versions], ""]
    good = sum(not result.problems for result in results)
    lines += [f"{good} of {len(results)} hold all rules below.", ""]
    found = {(result.network, result.format) for result in results}
    missing = [f"{n} {f}" for n in NETWORKS for f in ALL_FORMATS if (n, f) not in found]
    if missing:
        lines += [f"Not in this run, {len(missing)} of the sweep: {', '.join(missing)}.", ""]
    for name, network in NETWORKS.items():
        mine = [result for result in results if result.network == name]
        if not mine:
            continue
        lines += [f"### {name}, {network.size} × {network.size}", ""]
        lines += [f"| {' | '.join(COLUMNS)} |", "| --- " + "| ---: " * 6 + "| --- | ---: |"]
        lines += [f"| {' | '.join(row(result))} |" for result in mine]
        seen = set()
        for result in mine:
            keras = "tf_keras" if result.format.startswith("tf_keras") else "Keras 3"
            if result.noise and keras not in seen:
                seen.add(keras)
                lines.append(f"| {' | '.join(noise_row(keras, result.noise))} |")
        lines.append("")
        for result in mine:
            for problem in result.problems:
                text = " ".join(problem.split())[:400]
                lines.append(f"- ✗ `{result.format}`: {text}")
        if any(result.problems for result in mine):
            lines.append("")
    return "\n".join([*lines, FORMATS, rules()])


def rules() -> str:
    """What the columns mean, and when a row is good."""
    return f"""\
## What the columns mean

Each number is the largest difference, relative to the largest value of the same array. Bold is
one that breaks its rule.

- **output**: `hub.Module(path)` against the source's inference. Rule: {OUTPUT_RULE:.0e}, for a
  batch and for one image.
- **gradient**: of a fixed random projection of the output, by each trainable variable, against
  GradientTape; the worst of all variables. Rule: {GRADIENT_RULE:.0e}. Which variables have a
  gradient must agree. Gradients that should be zero (of a bias before batch norm, of the bias of
  attention's keys) are rounding noise on both sides; so no gradient is compared more closely than
  relative to {SMALL_GRADIENT:.0%} of the network's largest. A ReLU whose input is within rounding
  of zero, or max pooling with two inputs within rounding of one another, may pass its gradient on
  one side and not on the other, which changes gradients by up to percents; so a gradient that
  breaks its rule is computed again with other images, on at most {BATCHES} batches. A number in
  parentheses says how many it took. A wrong conversion would be wrong for all of them. Where
  TensorFlow 2 itself breaks the rule (the row below), the worst gradient may be {NOISE_FACTOR}
  times as far off as it is, and the median over all variables, then shown too, must hold the rule.
- **training output**, **training gradient**: the same of `hub.Module(path, trainable=True,
  tags={{"train"}})` against `training=True`.
- **moving averages**: after one run of UPDATE_OPS, against after one call with `training=True`.
  Rule: {STATE_RULE:.0e}, and {STEP_RULE:.0e} of what the call added. A forward pass alone must
  change nothing.
- **losses**: how many regularization losses there are, and their difference. Rule:
  {LOSS_RULE:.0e}.
- **trains**: {STEPS} steps of Adam in TensorFlow 1.15 with UPDATE_OPS and regularization losses,
  on one batch. The loss must fall by {1 - FALL:.0%}, and every variable with a gradient must
  change. *As inference*: the source has no training trace, so the moving averages stay as they
  are.
- **conversion**: wall time, and size of the source.
- ***TF 2 itself***: how far TensorFlow 2 is from itself with other kernels and threads: oneDNN in
  all threads against Eigen in one. TensorFlow 1.15 can't be expected to be closer.

¹ The network drops activations or blocks in training, which no two releases do alike. What is
compared, and whose loss must fall, is the same network with the same weights, saved with all rates
zero. The network itself is trained too: its output in training must differ from that one's, and
every variable with a gradient must change.

All weights are random, from a fixed seed, but not those of a fresh network: scales, offsets and
moving averages are such that each layer matters and each image gives other probabilities;
`tests/networks/build.py` says how. Variables are matched by their bytes, so all values are
compared too.
"""
