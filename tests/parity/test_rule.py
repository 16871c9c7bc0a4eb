"""Tolerances, and what a run comes to."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from bridge._parity.options import ParityOptions
from bridge._parity.results import Comparison, Difference, Status, StructureCheck, Verdict
from bridge._parity.rule import (
    ACROSS_RTOL,
    NOISE_FACTOR,
    SAME_RUNTIME_RTOL,
    Breach,
    BreachKind,
    Tolerance,
    check_overrides,
    decide,
    parse_override,
    proves_nothing,
    tolerance_for,
)
from bridge.errors import UsageError


def check(status=Status.PASS, **changes) -> StructureCheck:
    return StructureCheck(
        **{"check": "variable", "name": "dense/kernel", "status": status, **changes}
    )


def row(status=Status.PASS, *, headroom=5.0, **changes) -> Comparison:
    fields = {
        "kind": "output",
        "reference_runtime": "TF 1.15.5",
        "candidate_runtime": "TF 2.21.0",
        "device": "cpu",
        "reference_device": "cpu",
        "variant": "{}",
        "signature": "default",
        "output": "default",
        "status": status,
        "difference": Difference(values=1, max_abs=2e-7, headroom=headroom),
        **changes,
    }
    return Comparison(**fields)


# -- tolerances -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "tolerance"),
    [
        ("logits=1e-4", "logits", Tolerance(1e-4)),
        ("default/logits=1e-4,1e-6", "default/logits", Tolerance(1e-4, 1e-6)),
        ("InceptionV3/Mixed_5c=0", "InceptionV3/Mixed_5c", Tolerance(0.0)),
        ("a=b=0.5, 2", "a=b", Tolerance(0.5, 2.0)),
    ],
)
def test_an_override_names_an_output_and_its_tolerance(text, name, tolerance):
    assert parse_override(text) == (name, tolerance)


@pytest.mark.parametrize(
    "text", ["", "x", "=1", "x=", "x=-1", "x=nan", "x=inf", "x=1,2,3", "x=1,", "x=one", " =1"]
)
def test_an_override_that_reads_otherwise_is_refused(text):
    with pytest.raises(UsageError):
        parse_override(text)


def test_the_default_tolerance_is_wider_across_releases_and_devices():
    options = ParityOptions()
    same = tolerance_for(options, "default", "x", across=False)
    across = tolerance_for(options, "default", "x", across=True)
    assert (same, across) == (Tolerance(SAME_RUNTIME_RTOL), Tolerance(ACROSS_RTOL))


def test_an_override_of_one_signature_comes_before_that_of_all_and_that_before_the_run():
    one, every, run = Tolerance(1.0), Tolerance(2.0), Tolerance(3.0, 4.0)
    options = ParityOptions(rtol=3.0, atol=4.0, overrides={"default/x": one, "x": every})
    for signature, output, expected in (
        ("default", "x", one),
        ("other", "x", every),
        ("default", "y", run),
    ):
        assert tolerance_for(options, signature, output, across=True) == expected


def test_an_override_of_nothing_is_refused():
    outputs = [("default", "x"), ("other", "y")]
    check_overrides({"x": Tolerance(1), "other/y": Tolerance(1)}, outputs)
    for name in ("z", "other/x", "default"):
        with pytest.raises(UsageError, match=f"'{name}', which is no output"):
            check_overrides({name: Tolerance(1)}, outputs)


# -- the verdict ------------------------------------------------------------------------------

FAILED = {"status": Status.FAIL, "reason": "max|a-b| is 1 at [0]"}
NO_GPU = {"status": Status.SKIPPED, "reason": "no GPU visible", "device": "gpu", "difference": None}
RANDOM = {"status": Status.NOT_COMPARABLE, "reason": "random ops act", "difference": None}
GRADIENT = {"kind": "gradient", "output": "dense/kernel"}


@pytest.mark.parametrize(
    ("structure", "comparisons", "training", "require_gpu", "verdict", "says"),
    [
        ([], [row()], [], False, Verdict.PASS, "the output compared passed; closest"),
        ([check()], [row(), row(headroom=2.0)], [], False, Verdict.PASS, "2 times below"),
        ([], [row(headroom=math.inf)], [], False, Verdict.PASS, "the output compared is equal"),
        ([], [row(), row(**RANDOM), row(**NO_GPU)], [], False, Verdict.PASS, "the output"),
        ([], [row()], [row(**GRADIENT, **RANDOM)], False, Verdict.PASS, "the output"),
        ([check(**FAILED)], [row()], [], False, Verdict.FAIL, "variable 'dense/kernel'"),
        ([], [row(), row(output="b", **FAILED)], [], False, Verdict.FAIL, "output 'b' of"),
        ([], [row()], [row(**GRADIENT, **FAILED)], False, Verdict.FAIL, "gradient 'dense/k"),
        ([check(**FAILED)], [row(**FAILED)], [], False, Verdict.FAIL, "variable"),
        ([], [], [], False, Verdict.INCONCLUSIVE, "no output could be compared"),
        ([check()], [row(**RANDOM)], [], False, Verdict.INCONCLUSIVE, "random ops act"),
        ([], [row(**NO_GPU)], [], False, Verdict.INCONCLUSIVE, "no GPU visible"),
        ([], [], [row(**GRADIENT)], False, Verdict.INCONCLUSIVE, "no output"),
        ([], [row(), row(**NO_GPU)], [], True, Verdict.FAIL, "no GPU visible, and a GPU is req"),
        ([], [row()], [], True, Verdict.FAIL, "nothing was compared on a GPU"),
        ([], [row(), row(device="gpu", **RANDOM)], [], True, Verdict.FAIL, "nothing was comp"),
        ([], [row(), row(device="gpu")], [], True, Verdict.PASS, "all 2 outputs compared"),
    ],
)
def test_the_verdict_and_what_decided(structure, comparisons, training, require_gpu, verdict, says):
    found, sentence = decide(structure, comparisons, training, require_gpu=require_gpu)
    assert found is verdict
    assert says in sentence


def test_a_signature_of_which_nothing_was_compared_keeps_the_run_from_passing():
    compared = row(signature="default")
    reason = {"reason": "nothing pins RandomUniform", "difference": None}
    unseen = [
        row(Status.NOT_COMPARABLE, signature="sampled", output=output, **reason)
        for output in ("a", "b")
    ]
    verdict, sentence = decide([], [compared, *unseen])
    assert verdict is Verdict.INCONCLUSIVE
    assert sentence == (
        "no output of signature 'sampled', variant {}, could be compared: nothing pins "
        "RandomUniform"
    )
    # The same signature of another variant is another.
    other = row(Status.NOT_COMPARABLE, variant="{train}", **reason)
    verdict, sentence = decide([], [compared, other])
    assert verdict is Verdict.INCONCLUSIVE
    assert "'default', variant {train}" in sentence
    # One output is enough, on one device too; and a failure stays one.
    assert decide([], [*unseen, row(signature="sampled", output="c")])[0] is Verdict.PASS
    skipped = row(**{**NO_GPU, "signature": "sampled"})
    assert decide([], [compared, skipped])[0] is Verdict.PASS
    assert decide([], [compared, skipped, *unseen])[0] is Verdict.INCONCLUSIVE
    assert decide([], [row(**FAILED), *unseen])[0] is Verdict.FAIL


def test_an_output_that_broke_the_rule_in_every_batch_keeps_the_run_from_passing():
    unsteady = row(Status.NOT_COMPARABLE, output="b", reason="it is unsteady", excused=True)
    verdict, sentence = decide([], [row(), unsteady])
    assert verdict is Verdict.INCONCLUSIVE
    assert sentence == (
        "output 'b' of signature 'default', variant {}, on cpu broke the rule in every batch, "
        "which proves nothing: it is unsteady"
    )


def test_a_pass_says_what_it_is_without():
    other = row(Status.NOT_COMPARABLE, output="b", reason="random")
    _, sentence = decide([], [row(), other])
    assert sentence.endswith("; 1 could not be compared")
    _, sentence = decide([], [row(), row(**NO_GPU)], [replace(other, kind="gradient")])
    assert sentence.endswith("; 1 could not be compared; 1 was skipped")
    _, sentence = decide([], [row(), row(**NO_GPU), row(**NO_GPU)])
    assert sentence.endswith("; 2 were skipped")


FAR = Breach(BreachKind.FAR, 1e-3, 1e-5)


@pytest.mark.parametrize(
    ("breach", "noise", "excused"),
    [
        (FAR, None, False),
        (FAR, Breach(BreachKind.FAR, 2e-4, 1e-5), True),
        (FAR, Breach(BreachKind.FAR, 1e-3 / NOISE_FACTOR / 1.01, 1e-5), False),
        (FAR, Breach(BreachKind.MISPLACED), False),
        (Breach(BreachKind.MISPLACED), Breach(BreachKind.FAR, 1.0, 1e-5), False),
        (Breach(BreachKind.MISPLACED, count=9), Breach(BreachKind.MISPLACED, count=1), True),
        (Breach(BreachKind.MISPLACED, count=11), Breach(BreachKind.MISPLACED, count=1), False),
        (Breach(BreachKind.UNEQUAL, 2, count=9), Breach(BreachKind.UNEQUAL, 1, count=1), True),
        (Breach(BreachKind.UNEQUAL, 2, count=11), Breach(BreachKind.UNEQUAL, 1, count=1), False),
        (Breach(BreachKind.UNEQUAL, 11, count=1), Breach(BreachKind.UNEQUAL, 1, count=1), False),
        (Breach(BreachKind.FORM), Breach(BreachKind.FORM), False),
    ],
)
def test_only_noise_of_the_same_kind_and_size_excuses_a_breach(breach, noise, excused):
    assert proves_nothing(breach, noise) is excused


def test_the_first_failure_is_named_with_its_place():
    _, sentence = decide([], [row(), row(**FAILED), row(output="b", **FAILED)])
    assert sentence == (
        "output 'default' of signature 'default', variant {}, on cpu: max|a-b| is 1 at [0]"
    )
    _, sentence = decide([check(variant="{train}", signature="s", **FAILED)], [])
    assert sentence == (
        "variable 'dense/kernel' of signature 's', variant {train}: max|a-b| is 1 at [0]"
    )
