"""Charts as inline SVG, in the colours and the font of the page around them."""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bridge._parity.results import Comparison, Difference, Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# matplotlib knows no CSS variables: these colours, which it uses for nothing else, become them.
_INK, _LINE, _BARS, _LIMIT = "#010203", "#010204", "#010205", "#010206"
_VARIABLES = {_INK: "--ink", _LINE: "--line", _BARS: "--bars", _LIMIT: "--fail"}
_SIZE = (4.4, 2.8)
_FLOOR = -10
_EQUAL, _INFINITE = "equal", "inf"


def error_histogram(rows: Sequence[Comparison]) -> str | None:
    """How many values differ by how much, relative to the largest value of their output."""
    counts: Counter[str] = Counter()
    for difference in _measured(rows):
        for key, number in difference.histogram.items():
            # Errors below 1e-10 stand in one bin: they are less than float32 can tell.
            decade = key.removeprefix("-").isdecimal()
            counts[str(max(int(key), _FLOOR)) if decade else key] += number
    if set(counts) <= {_EQUAL}:
        # Where all is equal there are no errors to show.
        return None
    decades = [int(key) for key in counts if key not in (_EQUAL, _INFINITE)]
    keys = [_EQUAL]
    if decades:
        keys += map(str, range(min(decades), max(decades) + 1))
    if counts[_INFINITE]:
        keys.append(_INFINITE)
    labels = [key if key in (_EQUAL, _INFINITE) else f"1e{key}" for key in keys]
    values = [counts[key] for key in keys]
    from matplotlib.ticker import NullLocator

    figure, axes = _figure()
    bars = axes.bar(range(len(values)), values, color=_BARS, width=0.8)
    axes.bar_label(bars, [_short(value) for value in values], color=_INK, fontsize=9, padding=2)
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(0, max(values) * 4)
    axes.set_yticks([])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xticks(range(len(labels)), labels, fontsize=9)
    axes.set_xlabel("|a-b| / max|a|, from this to ten times as much")
    axes.set_ylabel("values, logarithmic")
    return _svg(figure, "How many values differ by how much")


def error_against_magnitude(rows: Sequence[Comparison]) -> str | None:
    """How the error of a value grows with the value."""
    counts: Counter[tuple[float, float]] = Counter()
    for difference in _measured(rows):
        for magnitude, error, number in difference.magnitudes:
            if math.isfinite(magnitude) and math.isfinite(error):
                counts[magnitude, error] += number
    if not counts:
        return None
    from matplotlib.ticker import NullLocator

    figure, axes = _figure()
    most = max(counts.values())
    axes.scatter(
        [10**x for x, _ in counts],
        [10**y for _, y in counts],
        # The area tells how many, by its logarithm: one value must be seen beside a million.
        s=[12 + 90 * math.log1p(number) / math.log1p(most) for number in counts.values()],
        color=_BARS,
        alpha=0.65,
        linewidths=0,
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_decade)
        axis.set_minor_locator(NullLocator())
    limits = [row.limit for row in rows if row.difference is not None and row.limit > 0]
    if limits:
        axes.axhline(min(limits), color=_LIMIT, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.annotate(
            "smallest limit" if len(set(limits)) > 1 else "limit",
            (0.99, min(limits)),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            fontsize=9,
            color=_LIMIT,
        )
    axes.set_xlabel("|a|, the reference's value")
    axes.set_ylabel("|a-b|")
    return _svg(figure, "Error against magnitude")


def _measured(rows: Sequence[Comparison]) -> list[Difference]:
    return [
        row.difference
        for row in rows
        if row.difference is not None and row.status in (Status.PASS, Status.FAIL)
    ]


def _short(number: int) -> str:
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(number) if number else ""


def _decade(value: float, _: float) -> str:
    return f"1e{round(math.log10(value))}" if value > 0 else ""


def _figure() -> tuple[Figure, Axes]:
    # Not pyplot: it keeps state, and looks for a display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_LINE)
    axes.tick_params(colors=_INK, which="both", labelsize=9)
    axes.xaxis.label.set(color=_INK, fontsize=10)
    axes.yaxis.label.set(color=_INK, fontsize=10)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=_LINE, linewidth=0.5)
    return figure, axes


def _svg(figure: Figure, title: str) -> str:
    from matplotlib import rc_context

    attributes = f'role="img" aria-label="{title}"'
    written = io.StringIO()
    # Text stays text: it can be read aloud and searched, and takes the font of the page.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "hubbridge"}):
        figure.savefig(
            written,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    text = written.getvalue()
    # What HTML needs not, and what would reach out of the picture: styles and ids of groups.
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r'<svg[^>]*?(viewBox="[^"]*")[^>]*>', rf"<svg \1 {attributes}>", text, count=1)
    text = re.sub(r"font-family: [^;\"]*; ?", "", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text
