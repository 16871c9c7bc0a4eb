"""Shows figures, on the terminal and in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from cases import Case
from contestants import CONTESTANTS, CP, RUNTIME
from processes import console
from rich.table import Table
from rounds import Results, Samples

HEADINGS = ("", "wall", "range", "CPU", "memory", "it ÷ cp")
BESIDE_RUNTIME = "TF ÷ it"


def headings(results: Results) -> tuple[str, ...]:
    return (*HEADINGS, BESIDE_RUNTIME) if RUNTIME in results else HEADINGS


def rows(results: Results) -> list[list[str]]:
    """Returns the cells of a model's table."""
    cells = []
    for name, samples in results.items():
        row = [
            name,
            f"{samples.median:.2f} s",
            f"{min(samples.seconds):.2f}-{max(samples.seconds):.2f}",
            f"{statistics.median(samples.cpu):.2f} s",
            memory_text(samples),
            "" if name == CP else ratio(samples, results[CP]),
        ]
        if RUNTIME in results:
            row.append("" if name in (CP, RUNTIME) else ratio(results[RUNTIME], samples))
        cells.append(row)
    return cells


def ratio(one: Samples, other: Samples) -> str:
    """Returns how many times as long one takes; says nothing where the other takes no time."""
    return f"{one.median / other.median:.1f}" if other.median > 0.02 else ""


def memory_text(samples: Samples) -> str:
    """Returns the peak memory; what is no more than the launcher has can't be told."""
    if samples.peak <= samples.floor * 1.05:
        return f"< {samples.floor / 1e6:.0f} MB"
    return f"{samples.peak / 1e6:,.0f} MB"


def title(case: Case) -> str:
    files = (file for file in case.path.rglob("*") if file.is_file())
    size = sum(file.stat().st_size for file in files)
    text = f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} KB"
    return f"{case.title}, {text}"


def show(case: Case, results: Results) -> None:
    """Prints what was measured of a model."""
    table = Table(
        title=title(case), title_justify="left", title_style="bold", box=None, pad_edge=False
    )
    for heading in headings(results):
        justify = "right" if heading else "left"
        table.add_column(heading, justify=justify, header_style="dim", no_wrap=True)
    for row in rows(results):
        table.add_row(*row)
    console.print(table)
    for target in case.targets(results):
        mark = "[green]✓[/]" if target.reached else "[red]✗[/]"
        console.print(f"{mark} {target.text}")
    console.print()


# -- Markdown --------------------------------------------------------------------------------------


def markdown(case: Case, results: Results) -> str:
    """Returns a section on a model."""
    names = headings(results)
    lines = [
        f"### {title(case)}",
        "",
        markdown_row(names),
        "| --- " + "| ---: " * (len(names) - 1) + "|",
        *map(markdown_row, rows(results)),
        "",
        *(f"- {'✓' if t.reached else '✗'} {t.text}" for t in case.targets(results)),
    ]
    return "\n".join(lines)


def markdown_row(cells: Sequence[str]) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def summaries(measured: Mapping[Case, Results]) -> list[str]:
    """Returns one table a direction of all models: wall time and peak memory."""
    tables = []
    for command, contestants in CONTESTANTS.items():
        cases = {case: results for case, results in measured.items() if case.command == command}
        if cases:
            names = [c.name if c.name == RUNTIME else f"`{c.name}`" for c in contestants]
            lines = [[f"`{command}`", *names], ["---"] * (len(names) + 1)]
            lines += [[title(case), *map(brief, rs.values())] for case, rs in cases.items()]
            tables.append("\n".join(map(markdown_row, lines)))
    return tables


def brief(samples: Samples) -> str:
    return f"{samples.median:.2f} s, {memory_text(samples)}"


def write_markdown(path: Path, parts: Sequence[str]) -> None:
    """Puts the parts between the markers in a file that may say more around them."""
    start, end = "<!-- begin: make bench -->", "<!-- end: make bench -->"
    text = path.read_text(encoding="utf-8") if path.exists() else f"{start}\n{end}\n"
    before, _, rest = text.partition(start)
    after = rest.partition(end)[2]
    body = "\n\n".join(parts)
    path.write_text(f"{before}{start}\n\n{body}\n\n{end}{after}", encoding="utf-8")
