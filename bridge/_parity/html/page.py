"""Makes the page: puts a report into its template."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge import __version__
from bridge._parity.html.charts import error_against_magnitude, error_histogram
from bridge._parity.html.photos import albums
from bridge._parity.results import Comparison, ParityReport, Runtime, Status, StructureCheck
from bridge._parity.rule import describe_check, describe_compared
from bridge._parity.text import called, command_line, factor, lane, misplaced, number
from bridge.errors import MissingExtraError

if TYPE_CHECKING:
    from jinja2 import Template

_NEEDED = ("jinja2", "matplotlib", "PIL")
_MAX_CHARTS = 12
_MAX_FILES = 20
_ORDER = (Status.FAIL, Status.NOT_COMPARABLE, Status.SKIPPED, Status.PASS)


@dataclass(frozen=True)
class Chart:
    """A chart and what it shows.

    Attributes:
      title: of what.
      histogram: SVG, how many values differ by how much.
      magnitude: SVG, the error against the value.
    """

    title: str
    histogram: str | None
    magnitude: str | None


@dataclass(frozen=True)
class Group:
    """Comparisons that the same two runtimes made.

    Attributes:
      title: which.
      rows: failures first.
      counts: how many there are of each status.
    """

    title: str
    rows: Sequence[Comparison]
    counts: str

    @property
    def measured(self) -> bool:
        """Whether there are any figures."""
        return any(row.difference is not None for row in self.rows)


def require() -> None:
    """Finds out whether the page can be made.

    Raises:
      MissingExtraError: a package is not installed.
    """
    for name in _NEEDED:
        try:
            import_module(name)
        except ImportError as error:
            raise MissingExtraError(
                f"an HTML report needs {name}, which can't be imported: {error}",
                hint="pip install 'hubbridge[parity]'",
            ) from error


def render(report: ParityReport, images: Path | None = None, *, before: str = "") -> str:
    """Returns the page.

    Args:
      report: what it tells.
      images: the directory that relative names of photos start from; the current one by default.
      before: lines for a shell that make what the run can be repeated with.

    Raises:
      MissingExtraError: a package is not installed.
    """
    require()
    rows = [*report.comparisons, *report.training]
    return _template().render(
        report=report,
        version=__version__,
        tallies=_tallies(report),
        failed_checks=[check for check in report.structure if check.status is Status.FAIL],
        failed_rows=[row for row in rows if row.status is Status.FAIL],
        open_rows=_open(rows),
        charts=_charts(report),
        outputs=_groups(report.comparisons),
        training=_groups(report.training),
        checks=_checks(report.structure),
        albums=albums(report, images),
        runtimes=_settings(report.runtimes),
        command=before + command_line(report),
        options=json.dumps(report.to_dict()["options"], indent=2, ensure_ascii=False),
        max_files=_MAX_FILES,
    )


def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": number,
        "factor": factor,
        "lane": lane,
        "called": called,
        "describe_check": describe_check,
        "describe_compared": describe_compared,
        "misplaced": misplaced,
        "plain": lambda text: str(text).replace("_", " "),
    }
    folder = files("bridge._parity.html")
    environment.globals["inf"] = math.inf
    environment.globals |= {
        name: folder.joinpath(file).read_text(encoding="utf-8")
        for name, file in (("style", "page.css"), ("script", "page.js"))
    }
    return environment.from_string(folder.joinpath("page.html").read_text(encoding="utf-8"))


def _tallies(report: ParityReport) -> list[tuple[str, Counter[Status]]]:
    parts = (
        ("outputs", report.comparisons),
        ("structure checks", report.structure),
        ("training checks", report.training),
    )
    return [(title, Counter(one.status for one in items)) for title, items in parts if items]


def _groups(rows: Sequence[Comparison]) -> list[Group]:
    lanes: dict[str, list[Comparison]] = {}
    for row in rows:
        lanes.setdefault(lane(row), []).append(row)
    groups = []
    for title, group in lanes.items():
        found = Counter(row.status for row in group)
        counts = ", ".join(
            f"{found[status]:,} {status.value}" for status in _ORDER if found[status]
        )
        groups.append(Group(title, sorted(group, key=_urgency), counts))
    return sorted(groups, key=lambda group: _ORDER.index(group.rows[0].status))


def _urgency(row: Comparison) -> tuple[int, float]:
    headroom = math.inf if row.difference is None else row.difference.headroom
    return _ORDER.index(row.status), headroom


def _open(rows: Sequence[Comparison]) -> list[tuple[Comparison, list[Comparison]]]:
    """What was not compared, by where and why."""
    groups: dict[tuple[str, ...], list[Comparison]] = {}
    for row in rows:
        if row.status in (Status.SKIPPED, Status.NOT_COMPARABLE):
            key = (row.status.value, row.reason, lane(row), row.kind, row.variant, row.signature)
            groups.setdefault(key, []).append(row)
    return [(group[0], group) for group in groups.values()]


def _checks(checks: Sequence[StructureCheck]) -> list[tuple[str, list[StructureCheck]]]:
    groups: dict[str, list[StructureCheck]] = {}
    for check in checks:
        groups.setdefault(check.check, []).append(check)
    return list(groups.items())


def _charts(report: ParityReport) -> list[Chart]:
    """One of each failure, and one of all that the same two runtimes made."""
    of = [
        (f"{describe_compared(row)}, {_ran(row)}", [row])
        for row in report.comparisons
        if row.status is Status.FAIL and row.difference is not None
    ][:_MAX_CHARTS]
    of += [
        (f"all outputs, {group.title}", list(group.rows)) for group in _groups(report.comparisons)
    ]
    charts = (
        Chart(title, error_histogram(rows), error_against_magnitude(rows)) for title, rows in of
    )
    return [chart for chart in charts if chart.histogram or chart.magnitude]


def _ran(row: Comparison) -> str:
    how = called(row)
    return f"{lane(row)}, called as {how}" if how else lane(row)


def _settings(runtimes: Sequence[Runtime]) -> list[tuple[str, list[Any]]]:
    """The table of runtimes on its side: a line for each fact."""
    facts: list[tuple[str, list[Any]]] = [
        ("side", [one.side for one in runtimes]),
        ("device", [one.device for one in runtimes]),
        ("TensorFlow", [one.tensorflow for one in runtimes]),
        ("TensorFlow Hub", [one.tensorflow_hub or "not used" for one in runtimes]),
        ("Python", [one.python for one in runtimes]),
        ("devices seen", [", ".join(one.devices) or "none" for one in runtimes]),
    ]
    keys = dict.fromkeys(key for one in runtimes for key in one.settings)
    return facts + [(key, [one.settings.get(key, "") for one in runtimes]) for key in keys]
