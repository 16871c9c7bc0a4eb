"""What a parity run found, as a tree for people. The whole story is in the JSON form."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from bridge._parity.results import (
    Bisection,
    Comparison,
    ParityReport,
    Side,
    Status,
    StructureCheck,
    Verdict,
)
from bridge._parity.rule import ALL, describe_check
from bridge._parity.text import called, factor, lane, misplaced, number
from bridge.cli._summary import count, plural
from bridge.cli._terminal import Style, plain
from bridge.cli._tree import Mark, Node, glue, render, wrap

_MAX_FAILED = 20
"""Of the failures of one place, so many are shown; and of the signatures of one."""

_MAX_PASSED = 4
"""Of what passed, so many are shown, the closest calls first."""

_MAX_NAMES = 6

_Item = TypeVar("_Item")
_Key = TypeVar("_Key", bound=Hashable)


def parity_summary(report: ParityReport, style: Style, hints: Iterable[str] = ()) -> str:
    """Returns the text that ends a parity run.

    Args:
      report: what was found.
      style: what the terminal can show.
      hints: what to do next, one sentence each; they come last.
    """
    seconds = report.seconds.get("total")
    took = "" if seconds is None else f" in {seconds:.1f} s"
    head = f"Compared {_side(report.reference)} with {_side(report.candidate)}{took}"
    tree = Node("parity", heading=True)
    _add_structure(tree, report.structure)
    _add_lanes(tree, report)
    _add_bisections(tree, report.bisections)
    if report.remarks:
        node = tree.add("remarks", heading=True)
        for remark in report.remarks:
            node.add(remark)
    lines = [*wrap(head, style.width + 2, style), render(tree, style).rstrip("\n")]
    lines += _verdict(report, style)
    for hint in hints:
        lines.append(f"{style.cyan('hint:')} {plain(hint)}")
    return "\n".join(lines) + "\n"


def _side(side: Side) -> str:
    producer = f", TensorFlow {side.producer}" if side.producer else ""
    return f"{side.path} ({side.format}{producer})"


def _verdict(report: ParityReport, style: Style) -> list[str]:
    paint = {Verdict.PASS: style.green, Verdict.FAIL: style.red}.get(report.verdict, style.yellow)
    lines = [paint(f"verdict: {report.verdict.value}")]
    if report.decided_by:
        lines += [f"  {line}" for line in wrap(report.decided_by, style.width, style)]
    return lines


# -- structure --------------------------------------------------------------------------------


def _add_structure(tree: Node, checks: Sequence[StructureCheck]) -> None:
    if not checks:
        return
    node = tree.add("structure", heading=True)
    failed = [check for check in checks if check.status is Status.FAIL]
    for check in failed[:_MAX_FAILED]:
        child = node.add(describe_check(check), mark=Mark.FAIL)
        child.add(check.reason or f"{check.reference} became {check.candidate}")
    _add_more(node, len(failed) - _MAX_FAILED)
    for check in checks:
        if check.status not in (Status.FAIL, Status.PASS):
            because = _because(check.status, check.reason)
            node.add(f"{describe_check(check)}, {because}", mark=Mark.OPEN)
    passed = [check for check in checks if check.status is Status.PASS]
    if passed:
        groups = _grouped(passed, lambda check: check.check)
        node.add(", ".join(glue(_counted(*group)) for group in groups), mark=Mark.PASS)


def _counted(check: str, group: Sequence[StructureCheck]) -> str:
    said = {
        "image_size": "the image size",
        "regularization_loss": "the number of regularization losses",
        "trainable": "which variables are trainable",
        "update_op": "which variables update ops change",
    }
    return said.get(check) or count(len(group), _what(check))


def _what(check: str) -> str:
    return check.replace("_", " ")


# -- outputs ----------------------------------------------------------------------------------


def _add_lanes(tree: Node, report: ParityReport) -> None:
    """Adds a node for each pair of runtimes and devices; those with failures come first."""
    lanes = [(lane(rows[0]), rows) for _, rows in _grouped(report.comparisons, _lane)]
    lanes += [(f"training, {lane(rows[0])}", rows) for _, rows in _grouped(report.training, _lane)]
    for title, rows in _failures_first(lanes):
        node = tree.add(title, heading=True)
        reasons = {(row.status, row.reason) for row in rows}
        if len(reasons) == 1 and rows[0].status is Status.SKIPPED:
            # Nothing ran here: what it would have been is the same as elsewhere.
            node.add(f"{count(len(rows), 'row')} {_because(*reasons.pop())}", mark=Mark.OPEN)
            continue
        groups = _failures_first(_grouped(rows, _signature))
        for _, group in groups[:_MAX_FAILED]:
            child = node.add(_signature_text(group[0]))
            for kind, same in _failures_first(_grouped(group, lambda row: row.kind)):
                _add_rows(child, kind, same)
        _add_others(node, [group for _, group in groups[_MAX_FAILED:]])


def _lane(row: Comparison) -> tuple[str, ...]:
    return (row.reference_runtime, row.reference_device, row.candidate_runtime, row.device)


def _signature(row: Comparison) -> tuple[str, ...]:
    return (row.variant, row.signature, *row.through)


def _signature_text(row: Comparison) -> str:
    text = f"signature {row.signature} of variant {row.variant}"
    how = called(row)
    # It may be longer than a line, so it may be broken.
    return f"{text}, called as {how}" if how else text


def _add_others(node: Node, groups: Sequence[Sequence[Comparison]]) -> None:
    """Adds one line for the signatures that are too many to be shown."""
    if not groups:
        return
    found = Counter(row.status for group in groups for row in group)
    mark = Mark.FAIL if found[Status.FAIL] else Mark.OPEN
    if set(found) == {Status.PASS}:
        mark = Mark.PASS
    what = ", ".join(f"{found[status]:,} {status.value}" for status in Status if found[status])
    node.add(f"… and {len(groups):,} more signatures ({what}), see --json", mark=mark)


def _add_rows(node: Node, kind: str, rows: Sequence[Comparison]) -> None:
    failed = [row for row in rows if row.status is Status.FAIL]
    for row in failed[:_MAX_FAILED]:
        child = node.add(f"{_row(row)}{_figures(row)}", mark=Mark.FAIL)
        if row.reason:
            child.add(row.reason)
    _add_more(node, len(failed) - _MAX_FAILED)
    for status in (Status.SKIPPED, Status.NOT_COMPARABLE):
        rest = [row for row in rows if row.status is status]
        for reason, same in _grouped(rest, lambda row: row.reason):
            names = _fold([_row(row) for row in same])
            node.add(f"{names}, {_because(status, reason)}", mark=Mark.OPEN)
    passed = [row for row in rows if row.status is Status.PASS]
    for reason, same in _grouped(passed, lambda row: row.reason):
        # What passed has a reason where not every batch could be compared.
        _add_passed(node.add(reason, mark=Mark.OPEN) if reason else node, kind, same)


def _add_passed(node: Node, kind: str, passed: Sequence[Comparison]) -> None:
    equal = [row for row in passed if row.difference and row.difference.max_abs == 0]
    close = sorted((row for row in passed if row not in equal), key=_headroom)
    # One line is not worth a line that says that it is left out.
    shown = _MAX_PASSED if len(close) > _MAX_PASSED + 1 else len(close)
    for row in close[:shown]:
        node.add(f"{_row(row)}{_figures(row)}", mark=Mark.PASS)
    if len(close) > shown:
        what = count(len(close) - shown, _what(kind))
        node.add(f"{what} more, all with more headroom", mark=Mark.PASS)
    if equal:
        loudest = max(equal, key=lambda row: row.noise or 0)
        names = _fold([_row(row) for row in equal])
        node.add(f"{names}{_figures(loudest)}", mark=Mark.PASS)


def _headroom(row: Comparison) -> float:
    return row.difference.headroom if row.difference else math.inf


def _row(row: Comparison) -> str:
    if row.kind == "output":
        return row.output
    if row.output == ALL:
        return plural(_what(row.kind))
    return f"{_what(row.kind)} {row.output}"


def _figures(row: Comparison) -> str:
    """Returns `: max_abs 3.1e-7, headroom 320×, noise 0`, as far as there are any.

    What failed has those that break the rule: `: NaN 0 → 16`, or none where none does.
    """
    figures = []
    if row.status is Status.FAIL:
        figures += misplaced(row)
        if row.difference is None or not row.difference.max_abs > row.limit:
            return _listed(figures)
        figures.append(f"max_abs {number(row.difference.max_abs)}")
        figures.append(f"limit {number(row.limit)}")
    elif row.difference is not None and row.difference.max_abs == 0:
        figures.append("equal")
    elif row.difference is not None:
        figures.append(f"max_abs {number(row.difference.max_abs)}")
        figures.append(f"headroom {factor(row.difference.headroom)}")
    if row.noise is not None:
        figures.append(f"noise {number(row.noise)}")
    return _listed(figures)


def _listed(figures: Sequence[str]) -> str:
    return f": {', '.join(map(glue, figures))}" if figures else ""


# -- bisection --------------------------------------------------------------------------------


def _add_bisections(tree: Node, bisections: Sequence[Bisection]) -> None:
    if not bisections:
        return
    node = tree.add("first node that differs", heading=True)
    for one in bisections:
        place = f"signature {one.signature} of variant {one.variant}"
        if one.node is None:
            node.add(f"{place}: none was found", mark=Mark.OPEN).add(one.reason)
            continue
        child = node.add(f"{place}: {one.node} ({one.op})", mark=Mark.FAIL)
        child.add(
            f"its output differs by {number(one.difference)}, {number(one.limit)} is allowed"
            + (
                "; it differs on its own too, fed what the reference feeds it"
                if one.confirmed
                else "; not confirmed on the node alone"
            )
        )
        if one.reason:
            child.add(one.reason)
        if one.reference or one.candidate:
            child.add(f"reference {_values(one.reference)}, candidate {_values(one.candidate)}")
        if one.repro is not None:
            child.add(f"python {shlex.quote(one.repro)} shows it")


def _values(values: Sequence[float]) -> str:
    return glue("[" + ", ".join(f"{value:.6g}" for value in values[:_MAX_NAMES]) + "]")


# -- lists ------------------------------------------------------------------------------------


def _because(status: Status, reason: str) -> str:
    return f"{status.value}: {reason}" if reason else status.value


def _fold(names: Sequence[str]) -> str:
    if len(names) <= _MAX_NAMES + 1:
        return ", ".join(names)
    return ", ".join(names[:_MAX_NAMES]) + f" and {len(names) - _MAX_NAMES:,} more"


def _add_more(node: Node, left_out: int) -> None:
    if left_out > 0:
        node.add(f"… and {left_out:,} more fail, see --json", mark=Mark.FAIL)


def _grouped(
    items: Iterable[_Item], key: Callable[[_Item], _Key]
) -> list[tuple[_Key, list[_Item]]]:
    groups: dict[_Key, list[_Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.items())


def _failures_first(
    groups: list[tuple[_Key, list[Comparison]]],
) -> list[tuple[_Key, list[Comparison]]]:
    def failed(group: tuple[_Key, list[Comparison]]) -> bool:
        return any(row.status is Status.FAIL for row in group[1])

    return sorted(groups, key=lambda group: not failed(group))
