"""The report as build servers read it."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from bridge._parity.junit import junit
from bridge._parity.results import (
    Comparison,
    Difference,
    ParityReport,
    Side,
    Status,
    StructureCheck,
    Verdict,
    Worst,
)


def row(status, **changes) -> Comparison:
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
        **changes,
    }
    return Comparison(**fields)


def report(**changes) -> ParityReport:
    return ParityReport(Side("a", "TF1 Hub module"), Side("b", "TF2 SavedModel"), **changes)


def parsed(of: ParityReport) -> dict[str, ElementTree.Element]:
    root = ElementTree.fromstring(junit(of).encode())
    assert root.tag == "testsuites"
    suites = {suite.get("name").removeprefix("parity."): suite for suite in root}
    for suite in suites.values():
        assert int(suite.get("tests")) == len(suite.findall("testcase"))
        assert int(suite.get("failures")) == len(suite.findall("testcase/failure"))
        assert int(suite.get("skipped")) == len(suite.findall("testcase/skipped"))
    for count in ("tests", "failures", "skipped"):
        assert int(root.get(count)) == sum(int(suite.get(count)) for suite in suites.values())
    return suites


def test_there_is_a_case_for_every_check():
    worst = Worst("noise", 2, (0, 3), 1.0, float("nan"))
    suites = parsed(
        report(
            verdict=Verdict.FAIL,
            decided_by="output 'default': too far",
            structure=[
                StructureCheck("variable", "w", Status.PASS),
                StructureCheck("output", "x", Status.FAIL, "[?, 2]", "[?, 3]", "shapes differ"),
            ],
            comparisons=[
                row(Status.PASS),
                row(Status.FAIL, reason="too far", difference=Difference(max_abs=2.0, worst=worst)),
                row(Status.SKIPPED, reason="no GPU visible", device="gpu"),
                row(Status.NOT_COMPARABLE, reason="random ops act"),
            ],
            training=[row(Status.PASS, kind="gradient", output="w")],
        )
    )
    assert list(suites) == ["structure", "outputs", "training", "verdict"]
    failure = suites["structure"].find("testcase/failure")
    assert failure.get("message") == "shapes differ"
    assert failure.text == "reference: [?, 2]\ncandidate: [?, 3]"
    skipped = [e.get("message") for e in suites["outputs"].findall("testcase/skipped")]
    assert skipped == ["skipped: no GPU visible", "not comparable: random ops act"]
    text = suites["outputs"].find("testcase/failure").text
    assert "max|a-b|: 2" in text
    assert "worst at [0, 3] of batch 2 of noise: 1.0 in the reference, nan in the" in text
    message = suites["verdict"].find("testcase/failure").get("message")
    assert message == "fail: output 'default': too far"


def test_ways_to_call_an_output_are_told_apart():
    rows = [row(Status.PASS, through=("default", way)) for way in ("__call__", "named")]
    cases = parsed(report(comparisons=rows))["outputs"].findall("testcase")
    assert cases[0].get("name").endswith("TF 1.15.5 by default against TF 2.21.0 by __call__")
    assert len({case.get("name") for case in cases}) == 2


def test_nan_is_counted_and_no_rtol_would_do():
    found = Difference(values=20, nan=(0, 16), inf=(1, 1), needed_rtol=float("inf"))
    suites = parsed(report(comparisons=[row(Status.FAIL, reason="NaN", difference=found)]))
    lines = suites["outputs"].find("testcase/failure").text.splitlines()
    assert "from the reference to the candidate: NaN 0 → 16" in lines
    assert "would have passed with no rtol" in lines


@pytest.mark.parametrize(
    ("check", "name"),
    [
        (
            StructureCheck("signature", "s", Status.PASS, variant="{}", signature="s"),
            "signature 's' of variant {}",
        ),
        (StructureCheck("variant", "{train}", Status.PASS, variant="{train}"), "variant {train}"),
        (StructureCheck("variable", "w", Status.PASS), "variable 'w'"),
        (StructureCheck("trainable", "w", Status.PASS), "the trainable flag of variable 'w'"),
        (
            StructureCheck("update_op", "w", Status.PASS, variant="{train}"),
            "the update of variable 'w' of variant {train}",
        ),
        (
            StructureCheck("regularization_loss", "count", Status.PASS, variant="{}"),
            "the number of regularization losses of variant {}",
        ),
        (StructureCheck("image_size", "images", Status.PASS), "the image size"),
        (
            StructureCheck("input", "x", Status.PASS, variant="{}", signature="s"),
            "input 'x' of signature 's', variant {}",
        ),
    ],
)
def test_a_check_of_the_structure_says_each_thing_once(check, name):
    (case,) = parsed(report(structure=[check]))["structure"].findall("testcase")
    assert case.get("name") == name


def test_all_losses_and_gradients_are_named_as_such():
    rows = [row(Status.PASS, kind=kind, output="all") for kind in ("gradient", "output")]
    rows.append(row(Status.PASS, kind="regularization_loss", output="all"))
    cases = parsed(report(training=rows))["training"].findall("testcase")
    assert [case.get("name").split(" of ")[0] for case in cases] == [
        "the gradients",
        "output 'all'",
        "the regularization losses",
    ]


def test_a_run_that_compared_nothing_is_no_success():
    suites = parsed(report(decided_by="no output could be compared"))
    assert list(suites) == ["verdict"]
    message = suites["verdict"].find("testcase/failure").get("message")
    assert message == "inconclusive: no output could be compared"


def test_a_run_that_passed_has_no_failure():
    assert "<failure" not in junit(report(verdict=Verdict.PASS, comparisons=[row(Status.PASS)]))


@pytest.mark.parametrize("text", ["a\x00b", "\x1b[31m", "\ud800", "\uffff", "<&\"'>", "é🙂\n\t"])
def test_any_text_gives_a_document_that_can_be_read(text):
    suites = parsed(report(comparisons=[row(Status.FAIL, output=text, reason=text)]))
    assert suites["outputs"].find("testcase/failure") is not None
