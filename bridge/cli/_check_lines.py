"""What a check found, as lines for people. The whole story is in the JSON form."""

from __future__ import annotations

from collections.abc import Iterable

from bridge._check.results import Breach, CheckReport, ClauseResult, ClauseStatus
from bridge.cli._summary import count
from bridge.cli._terminal import Style
from bridge.cli._tree import Mark, Node, glue, render, wrap

_MARKS = {
    ClauseStatus.HOLDS: Mark.PASS,
    ClauseStatus.BROKEN: Mark.FAIL,
    ClauseStatus.DOES_NOT_APPLY: Mark.OPEN,
}

_MAX_PLACES = 6
"""Of the places of one breach, so many are shown."""


def check_lines(report: CheckReport, style: Style) -> str:
    """Returns the text that a check prints.

    Args:
      report: what was found.
      style: what the terminal can show.
    """
    producer = f", TensorFlow {report.producer}" if report.producer else ""
    tree = Node(f"Checked {report.path} ({report.format}{producer})", heading=True)
    for clause in report.clauses:
        _add(tree, clause)
    if report.remarks:
        node = tree.add("remarks", heading=True)
        for remark in report.remarks:
            node.add(remark)
    return "".join([render(tree, style), *(f"{line}\n" for line in _verdict(report, style))])


def _add(tree: Node, clause: ClauseResult) -> None:
    text = f"{clause.id} {glue(clause.status.value)}"
    if clause.status is ClauseStatus.DOES_NOT_APPLY:
        text += f": {clause.reason}"
    elif clause.status is ClauseStatus.BROKEN:
        # The title is what does not hold: nobody shall read it as what was found.
        text += f"; wanted: {clause.title}"
    else:
        text += f": {clause.title} ({clause.reason})"
    child = tree.add(text, mark=_MARKS[clause.status])
    groups: dict[tuple[str, str], list[Breach]] = {}
    for breach in clause.breaches:
        groups.setdefault((breach.found, breach.mend), []).append(breach)
    for (found, mend), breaches in groups.items():
        child.add(": ".join(part for part in (_places(breaches), found) if part))
        child.add(f"to mend it, {mend}")


def _places(breaches: Iterable[Breach]) -> str:
    """Returns where the same was found: `'images' of default in {}, {train}`."""
    variants: dict[tuple[str | None, str | None], list[str]] = {}
    for breach in breaches:
        signature = breach.signature or breach.called
        labels = variants.setdefault((breach.name, signature), [])
        if breach.variant is not None and breach.variant not in labels:
            labels.append(breach.variant)
    signatures: dict[tuple[str | None, str], list[str]] = {}
    for (name, signature), labels in variants.items():
        found = signatures.setdefault((name, ", ".join(labels)), [])
        if signature is not None:
            found.append(signature)
    places = [_place(name, found, labels) for (name, labels), found in signatures.items()]
    shown = [place for place in places if place]
    more = len(shown) - _MAX_PLACES
    return "; ".join(shown[:_MAX_PLACES]) + (f"; and {more:,} more" if more > 0 else "")


def _place(name: str | None, signatures: list[str], variants: str) -> str:
    of = " of " if name is not None and signatures else ""
    where = ("" if name is None else repr(name)) + of + ", ".join(signatures)
    if not variants:
        return where
    return f"{where} in {variants}" if where else f"in {variants}"


def _verdict(report: CheckReport, style: Style) -> list[str]:
    broken = len(report.broken)
    if broken:
        return [style.red(f"{count(broken, 'clause')} broken")]
    if not report.applies:
        return wrap("nothing to judge: no clause applies to this model", style.width + 2, style)
    holding = sum(clause.status is ClauseStatus.HOLDS for clause in report.clauses)
    return [style.green(f"no clause broken, {holding} {'holds' if holding == 1 else 'hold'}")]
