"""The report as JUnit XML, which build servers show."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from xml.etree import ElementTree

from bridge._parity.results import Comparison, ParityReport, Status, StructureCheck, Verdict
from bridge._parity.rule import describe_check, describe_row
from bridge._parity.text import misplaced

# What XML 1.0 has no form for, not even an escaped one (its production 2, Char).
_NO_CHARACTER = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(report: ParityReport) -> str:
    """Returns the report as JUnit XML.

    There are test suites for structure, outputs and training; one without checks is left out. Each
    check is a test case; what was skipped or is not comparable counts as skipped. The suite
    `verdict` has one test case that says what the run came to, so that a run which compared nothing
    does not look like a success.
    """
    root = ElementTree.Element("testsuites", name="hubbridge parity")
    _suite(root, "structure", (_check_case(check) for check in report.structure))
    _suite(root, "outputs", (_row_case(row) for row in report.comparisons))
    _suite(root, "training", (_row_case(row) for row in report.training))
    _suite(root, "verdict", [_verdict_case(report)])
    for count in ("tests", "failures", "skipped"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in root)))
    root.set("errors", "0")
    root.set("time", f"{report.seconds.get('total', 0.0):.3f}")
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _suite(root: ElementTree.Element, name: str, cases: Iterable[ElementTree.Element]) -> None:
    found = list(cases)
    if not found:
        return
    suite = ElementTree.SubElement(root, "testsuite", name=f"parity.{name}")
    suite.extend(found)
    suite.set("tests", str(len(found)))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))
    suite.set("errors", "0")


def _check_case(check: StructureCheck) -> ElementTree.Element:
    details = f"reference: {check.reference}\ncandidate: {check.candidate}"
    return _case("structure", describe_check(check), check.status, check.reason, details)


def _row_case(row: Comparison) -> ElementTree.Element:
    # The same output may be compared in several runtimes, and called in several ways.
    name = f"{describe_row(row)}: {_side(row, 0)} against {_side(row, 1)}"
    lines = [f"allowed: {row.limit:.6g} (rtol {row.tolerance[0]:g}, atol {row.tolerance[1]:g})"]
    if (found := row.difference) is not None:
        lines.append(f"max|a-b|: {found.max_abs:.6g}, largest |a|: {found.largest:.6g}")
        if counts := misplaced(row):
            lines.append(f"from the reference to the candidate: {', '.join(counts)}")
        if math.isfinite(found.needed_rtol):
            lines.append(f"would have passed with rtol {found.needed_rtol:.6g}")
        else:
            lines.append("would have passed with no rtol")
        if (worst := found.worst) is not None:
            lines.append(
                f"worst at {worst.place}: "
                f"{worst.reference!r} in the reference, {worst.candidate!r} in the candidate"
            )
    return _case(row.kind, name, row.status, row.reason, "\n".join(lines))


def _side(row: Comparison, side: int) -> str:
    runtime = (row.reference_runtime, row.candidate_runtime)[side]
    return f"{runtime} by {row.through[side]}" if row.through[side] else runtime


def _verdict_case(report: ParityReport) -> ElementTree.Element:
    passed = report.verdict is Verdict.PASS
    status = Status.PASS if passed else Status.FAIL
    reason = f"{report.verdict.value}: {report.decided_by}"
    return _case("verdict", "the verdict of the run", status, reason, f"The rule: {report.rule}.")


def _case(kind: str, name: str, status: Status, reason: str, details: str) -> ElementTree.Element:
    case = ElementTree.Element("testcase", name=_clean(name), classname=f"parity.{kind}")
    if status is Status.FAIL:
        failure = ElementTree.SubElement(case, "failure", message=_clean(reason or "it differs"))
        failure.text = _clean(details)
    elif status is not Status.PASS:
        why = f"{status.value}: {reason}" if reason else status.value
        ElementTree.SubElement(case, "skipped", message=_clean(why))
    return case


def _clean(text: str) -> str:
    """Returns text with what XML can't hold written as Python escapes it."""
    return _NO_CHARACTER.sub(lambda found: ascii(found[0])[1:-1], text)
