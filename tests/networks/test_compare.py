"""The comparison itself notices whatever the sweep is there to notice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.clients.tf1 import Training
from tests.networks.compare import (
    FALL,
    Pair,
    Result,
    Trace,
    check_gradients,
    check_losses,
    compare_gradients,
    compare_trace,
    difference,
    is_told,
    under,
)
from tests.networks.digests import digest

RNG = np.random.default_rng(0)


def array(*shape: int) -> Any:
    return RNG.normal(size=shape).astype(np.float32)


KERNEL, MEAN, OUTPUT, GRADIENT = array(3, 3), array(3), array(2, 4), array(3, 3)


def reference() -> dict[str, Any]:
    return {
        "digest|0 kernel": np.array(digest(KERNEL)),
        "digest|1 mean": np.array(digest(MEAN)),
        "training|output": OUTPUT,
        "training|gradient|0 kernel": GRADIENT,
        "training|after|1 mean": MEAN * np.float32(0.99),
        "regularization": np.array([0.5, 0.25], np.float32),
    }


def training() -> Training:
    return Training(
        start={"layer/kernel": KERNEL, "layer/mean": MEAN},
        outputs={"default": OUTPUT},
        gradients={"layer/kernel": GRADIENT},
        regularization=np.array([0.25, 0.5], np.float32),
        forward={},
        update={"layer/mean": MEAN * np.float32(0.99)},
        losses=[2.0, 1.0],
        trained=["layer/kernel", "layer/mean"],
        updates=1,
    )


def problems(found: Training, wanted: dict[str, Any]) -> list[str]:
    result = Result("network", "format")
    compare_trace(found, wanted, "training", result)
    check_losses(found, ["layer/kernel"], result)
    return result.problems


def test_equal_traces_have_no_problem() -> None:
    assert problems(training(), reference()) == []


CHANGES: dict[str, tuple[Callable[[Training], Training], str]] = {
    "output": (lambda t: t._replace(outputs={"default": OUTPUT * (1 + 3e-5)}), "training output"),
    "not a number": (lambda t: t._replace(outputs={"default": OUTPUT * np.nan}), "output: nan"),
    "shape": (lambda t: t._replace(outputs={"default": OUTPUT[:1]}), "output: inf"),
    "gradient": (
        lambda t: t._replace(gradients={"layer/kernel": GRADIENT * (1 + 3e-4)}),
        "gradient of layer/kernel",
    ),
    "no gradient": (
        lambda t: t._replace(gradients={"layer/kernel": None}),
        "layer/kernel has no gradient",
    ),
    "other gradient": (
        lambda t: t._replace(gradients={"layer/kernel": GRADIENT, "layer/mean": MEAN}),
        "layer/mean has a gradient that the source has not",
    ),
    "forward": (lambda t: t._replace(forward={"layer/mean": MEAN}), "a forward pass changes"),
    "no update": (lambda t: t._replace(update={}), "layer/mean is not updated"),
    "step": (
        lambda t: t._replace(update={"layer/mean": MEAN * np.float32(0.989)}),
        "update of layer/mean by itself",
    ),
    "regularization": (
        lambda t: t._replace(regularization=np.array([0.25, 0.51], np.float32)),
        "training regularization",
    ),
    "loss is gone": (
        lambda t: t._replace(regularization=np.array([0.25], np.float32)),
        "training regularization: inf",
    ),
    "loss": (lambda t: t._replace(losses=[1.0, FALL + 0.01]), "the loss does not fall"),
    "loss no number": (lambda t: t._replace(losses=[1.0, float("nan")]), "does not fall"),
    "frozen": (lambda t: t._replace(trained=["layer/mean"]), "does not change ['layer/kernel']"),
    "value": (
        lambda t: t._replace(start={"layer/kernel": KERNEL * 2, "layer/mean": MEAN}),
        "gradient of 0 kernel: 0 variables of its value",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_differs_is_a_problem(change: str) -> None:
    apply, words = CHANGES[change]
    found = problems(apply(training()), reference())
    assert any(words in problem for problem in found), found


def test_a_difference_is_relative_to_the_largest_value() -> None:
    assert difference(np.array([4.0, 1.5]), np.array([4.0, 1.0])) == 0.125
    assert difference(np.array([0.5]), np.array([0.0])) == 0.5
    assert difference(np.zeros(0), np.zeros(0)) == 0.0
    assert under({"a|b": MEAN, "ab|c": MEAN}, "a").keys() == {"b"}


class Client:
    """Computes gradients again: wrong ones until as many batches were tried."""

    def __init__(self, good: int) -> None:
        self.asked = 0
        self.good = good

    def hub_gradients(self, *_: Any, **__: Any) -> dict[str, Any]:
        self.asked += 1
        return {"layer/kernel": GRADIENT * (1 if self.asked >= self.good else 1.001)}


@pytest.mark.parametrize(("good", "asked", "fails"), [(1, 1, False), (3, 3, False), (4, 3, True)])
def test_a_wrong_gradient_is_computed_again_on_three_more_batches(
    good: int, asked: int, fails: bool
) -> None:
    client: Any = Client(good)
    images = {"images": array(1), "projection": array(1)}
    pair = Pair(client, Path(), Path(), lambda source, batch: reference() | images)
    result = Result("network", "format")
    found = training()._replace(gradients={"layer/kernel": GRADIENT * np.float32(1.001)})
    trace = compare_trace(found, reference(), "training", result, pair)
    assert (client.asked, trace.batches) == (asked, asked + 1)
    assert bool(result.problems) == fails


@pytest.mark.parametrize(("own", "fails"), [(3e-4, False), (2e-4, True), (9e-5, True)])
def test_one_gradient_may_be_four_times_as_far_off_as_tensorflow_2_is_from_itself(
    own: float, fails: bool
) -> None:
    arrays = {"a": GRADIENT, "b": GRADIENT, "c": GRADIENT}
    trace = Trace()
    compare_gradients(trace, arrays | {"b": GRADIENT * np.float32(1.001)}, arrays)
    assert trace.gradient_of == "b"
    result = Result("network", "format", noise={"training": Trace(gradient=own)})
    check_gradients(trace, "training", result)
    assert bool(result.problems) == fails


def test_most_gradients_must_hold_the_rule_even_where_tensorflow_2_does_not() -> None:
    arrays = {"a": GRADIENT, "b": GRADIENT, "c": GRADIENT}
    trace = Trace()
    compare_gradients(trace, {name: a * np.float32(1.001) for name, a in arrays.items()}, arrays)
    result = Result("network", "format", noise={"training": Trace(gradient=1e-2)})
    check_gradients(trace, "training", result)
    assert [problem.split(":")[0] for problem in result.problems] == ["training median gradient"]


def test_a_variable_that_is_gone_must_be_told() -> None:
    assert is_told("0012 seed/state:0", {"seed/state_1"})
    assert is_told("0012 seed/state:0", {"seed/state"})
    assert not is_told("0012 seed/state:0", {"seed/stately", "state"})
