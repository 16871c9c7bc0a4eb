"""The tree that ends a parity run."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from bridge._parity.results import Difference, ParityReport, Runtime, Status, StructureCheck
from bridge.cli._parity_tree import parity_summary
from bridge.cli._terminal import Style
from tests.parity import reports

WIDE = Style(width=100)


def _with(*rows, training=()) -> ParityReport:
    report = reports.report()
    report.comparisons = list(rows)
    report.training = list(training)
    return report


def _lines(report: ParityReport, style: Style = WIDE) -> list[str]:
    return [line.lstrip("│├└─ ") for line in parity_summary(report, style, ["do it"]).splitlines()]


def test_each_output_has_a_tick_or_a_cross_and_its_figures() -> None:
    lines = _lines(_with(reports.comparison("good"), reports.failure("bad")))
    assert "✓ good: max_abs 1.0e-6, headroom 1,000×, noise 3.0e-7" in lines
    assert "✗ bad: max_abs 0.012, limit 0.001, noise 3.0e-7" in lines
    assert "max|a-b| is 0.012, the rule allows 0.001" in lines


def test_what_fails_shows_the_figures_that_break_the_rule() -> None:
    nan = reports.with_nan("a")
    assert nan.difference is not None
    equal = replace(nan.difference, max_abs=0.0)
    far = replace(nan.difference, max_abs=0.5, inf=(2, 2))
    shapes = reports.difference(nan=(3, 3), max_abs=0.0, headroom=0.0, needed_rtol=float("inf"))
    rows = [
        replace(nan, difference=equal),
        replace(nan, output="b", difference=far),
        replace(nan, output="c", difference=shapes, reason="its shape is [2] instead of [3]"),
    ]
    marked = [line for line in _lines(_with(*rows)) if line[:1] == "✗"]
    assert marked == [
        "✗ a: NaN 0 → 3, Inf 1 → 0",
        "✗ b: NaN 0 → 3, max_abs 0.5, limit 0.001, noise 3.0e-7",
        "✗ c",
    ]


def test_all_gradients_or_losses_are_named_as_such() -> None:
    rows = [
        reports.failure("all", kind="gradient", difference=None),
        reports.failure("all", kind="regularization_loss"),
        reports.failure("all"),
    ]
    lines = _lines(_with(rows[2], training=rows[:2]))
    marked = [line.split(":")[0] for line in lines if line[:1] == "✗"]
    assert marked == ["✗ all", "✗ gradients", "✗ regularization losses"]


def test_a_long_way_of_calling_is_broken() -> None:
    through = ("default", "__call__(training=False, return_endpoints=True)")
    report = _with(reports.comparison("x", through=through))
    text = parity_summary(report, Style(width=50))
    assert max(map(len, text.splitlines())) <= 50
    assert "called as __call__(training=False, return_endpoints=True)" in " ".join(
        _lines(report, Style(width=50))
    )


def test_the_verdict_comes_after_the_tree_and_hints_last() -> None:
    report = reports.failing()
    lines = _lines(report)
    at = lines.index("verdict: fail")
    assert " ".join(lines[at + 1 : -1]) == report.decided_by
    assert lines[-1] == "hint: do it"


def test_failures_come_first_at_every_level() -> None:
    gpu = {"device": "gpu", "reference_device": "gpu"}
    report = _with(
        reports.comparison("a"),
        reports.comparison("b", signature="other", **gpu),
        reports.comparison("c", **gpu),
        reports.failure("d", **gpu),
        training=[reports.failure("e", kind="gradient")],
    )
    lines = _lines(report)
    marked = [line.split(":")[0] for line in lines if line[:1] in "✓✗"]
    assert marked == ["✗ d", "✓ c", "✓ b", "✗ gradient e", "✓ a"]


def test_what_was_not_compared_is_told_and_has_no_tick() -> None:
    report = _with(
        reports.comparison("out"),
        reports.comparison("drop", Status.NOT_COMPARABLE, reason="random", difference=None),
        reports.skipped("out"),
        reports.skipped("logits"),
    )
    lines = _lines(report)
    assert "· drop, not comparable: random" in lines
    assert "· 2 rows skipped: no GPU visible" in lines
    assert sum(line.startswith("✓") for line in lines) == 1


def test_what_passed_stands_below_the_reason_why_not_every_batch_was_compared() -> None:
    reason = "2 of 9 batches could not be compared: the model refused them"
    rows = [
        reports.comparison("out"),
        reports.comparison("logits", reason=reason),
        reports.comparison("equal", reason=reason, difference=Difference(values=9)),
    ]
    text = parity_summary(_with(*rows), WIDE, []).splitlines()
    at = next(number for number, line in enumerate(text) if reason in line)
    assert text[at].lstrip("│├└─ ") == f"· {reason}"
    below = [line for line in text[at:] if "✓" in line]
    assert [line.split("✓ ")[1].split(":")[0] for line in below] == ["logits", "equal"]
    assert all(line.index("✓") > text[at].index("·") for line in below)
    assert "✓ out" in "".join(text[:at])


def test_rows_of_a_group_that_were_skipped_for_one_reason_share_a_line() -> None:
    names = [f"o{number}" for number in range(9)]
    report = _with(reports.comparison("x"), *(reports.skipped(n, device="cpu") for n in names))
    # They stand in the group of what ran, under a call of their own.
    report.comparisons = [replace(row, through=("", "")) for row in report.comparisons]
    assert "· o0, o1, o2, o3, o4, o5 and 3 more, skipped: no GPU visible" in _lines(report)


def test_many_that_pass_are_summed_up_the_closest_calls_first() -> None:
    rows = [
        reports.comparison(f"o{number}", difference=reports.difference(1e-9 * (number + 1)))
        for number in range(30)
    ]
    lines = [line for line in _lines(_with(*rows)) if line[:1] == "✓"]
    assert [line.split(":")[0] for line in lines[:-1]] == ["✓ o29", "✓ o28", "✓ o27", "✓ o26"]
    assert lines[-1] == "✓ 26 outputs more, all with more headroom"


def test_outputs_that_are_equal_share_a_line_with_the_largest_noise() -> None:
    rows = [
        reports.comparison(f"o{number}", difference=Difference(values=9), noise=number * 1e-7)
        for number in range(9)
    ]
    lines = [line for line in _lines(_with(*rows)) if line[:1] == "✓"]
    assert lines == ["✓ o0, o1, o2, o3, o4, o5 and 3 more: equal, noise 8.0e-7"]


def test_many_failures_are_counted_to_the_last() -> None:
    rows = [reports.failure(f"o{number}") for number in range(25)]
    lines = [line for line in _lines(_with(*rows)) if line[:1] == "✗"]
    assert len(lines) == 21
    assert lines[-1] == "✗ … and 5 more fail, see --json"


def test_many_signatures_are_summed_up_with_their_failures() -> None:
    rows = [reports.failure("o", signature=f"s{number}") for number in range(22)]
    rows.append(reports.comparison("o", signature="last"))
    lines = _lines(_with(*rows))
    assert "✗ … and 3 more signatures (1 pass, 2 fail), see --json" in lines


def test_structure_is_counted_where_it_passes_and_named_where_it_fails() -> None:
    report = reports.report()
    report.structure = reports.structure(
        [
            StructureCheck(
                "output", "x", Status.FAIL, reason="it is gone", variant="{}", signature="s"
            ),
            StructureCheck("trainable", "w", Status.PASS),
            StructureCheck("update_op", "w", Status.PASS, variant="{}"),
            StructureCheck("image_size", "images", Status.PASS),
            StructureCheck("regularization_loss", "count", Status.PASS, "3", "3", variant="{}"),
            StructureCheck("regularization_loss", "count", Status.FAIL, "3", "2", variant="{a}"),
            StructureCheck("asset", "vocab", Status.NOT_COMPARABLE, reason="known"),
        ]
    )
    lines = _lines(report)
    at = lines.index("✗ output 'x' of signature 's', variant {}")
    assert lines[at + 1] == "it is gone"
    assert "· asset 'vocab', not comparable: known" in lines
    assert "✗ the number of regularization losses of variant {a}" in lines
    counts = (
        "which variables are trainable, which variables update ops change, the image size, "
        "the number of regularization losses, 2 variants, 2 signatures"
    )
    assert f"✓ {counts}, 14 variables" in " ".join(lines)


def test_what_bisecting_found_is_told() -> None:
    lines = _lines(reports.failing())
    assert "python out/bisect_default.py shows it" in lines
    assert "reference [0.5, nan, -1.25], candidate [0.5, 0.25, -1.26]" in lines
    assert "· signature default of variant {train}: none was found" in lines


@pytest.mark.parametrize("made", [reports.passing, reports.failing, reports.inconclusive])
def test_it_can_be_read_in_plain_ascii(made) -> None:
    text = parity_summary(made(), Style(width=80, unicode=False))
    assert text.isascii()
    assert "|-- " in text or "`-- " in text
    signs = set(re.findall(r"-- (ok|FAIL|~) ", text))
    assert (
        signs
        == {
            reports.passing: {"ok"},
            reports.failing: {"ok", "FAIL", "~"},
            reports.inconclusive: {"ok", "~"},
        }[made]
    )


def test_it_fits_narrow_terminals_but_for_names() -> None:
    text = parity_summary(reports.failing(), Style(width=40))
    long = [line for line in text.splitlines() if len(line) > 40]
    # One word after the lines of the tree: a name that can't be broken.
    assert all(len(line.strip("│├└─✗ ").split()) == 1 for line in long), long


def test_colour_marks_results_and_nothing_else_changes() -> None:
    plain = parity_summary(reports.failing(), WIDE)
    coloured = parity_summary(reports.failing(), replace(WIDE, colour=True))
    assert "\x1b[1;31m✗\x1b[0m" in coloured
    assert "\x1b[1;32m✓\x1b[0m" in coloured
    assert "\x1b[1;33m·\x1b[0m" in coloured
    assert "\x1b[1;31mverdict: fail\x1b[0m" in coloured
    assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == plain


def test_a_strangers_names_are_made_harmless() -> None:
    row = reports.failure("\x1b[31mred", reason="\rgone", signature="\x07")
    report = _with(row)
    report.runtimes = [Runtime("\x1b[0m", "reference", "cpu", "2", "", "3")]
    text = parity_summary(report, WIDE)
    assert "\\x1b[31mred" in text
    assert not set(text) & {"\x1b", "\r", "\x07"}
