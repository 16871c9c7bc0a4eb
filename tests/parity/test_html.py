"""The page of a parity report, also as a browser shows it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bridge._parity.results import (
    Comparison,
    InputSet,
    ParityReport,
    Side,
    Status,
    StructureCheck,
    Worst,
)
from tests.parity import reports

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")
Image = pytest.importorskip("PIL.Image")

from bridge._parity.html import charts, photos, render  # noqa: E402 (it needs those)

MADE = (reports.passing, reports.failing, reports.inconclusive)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VOID = {"meta", "link", "br", "img", "path", "use"}

Browse = Callable[..., tuple[str, str]]


# -- as text ----------------------------------------------------------------------------------


class Page(HTMLParser):
    """Checks that tags match, and gathers what stands in the page."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.words = ""
        self.links: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        assert self.open == []
        self.words = " ".join(self.words.split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        names = ("href", "src", "xlink:href", "srcset", "action")
        self.links += [value or "" for name, value in attrs if name in names]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words += data


@pytest.mark.parametrize("made", MADE)
def test_the_page_is_well_formed_and_loads_nothing(made) -> None:
    html = render(made())
    page = Page(html)
    assert all(link.startswith(("#", "data:")) for link in page.links), page.links
    assert not re.search(r"@import|url\((?!#)", html)


@pytest.mark.parametrize("made", MADE)
def test_everything_that_was_found_is_told(made) -> None:
    report = made()
    page = Page(render(report))
    words = page.words
    assert report.decided_by in words
    assert report.rule in words
    for row in (*report.comparisons, *report.training):
        assert row.output in words
        assert row.reason in words
    for check in report.structure:
        assert check.name in words
        assert check.reason in words
    for remark in report.remarks:
        assert remark in words
    for runtime in report.runtimes:
        assert runtime.name in words
        assert all(value in words for value in runtime.settings.values())
    statuses = {row.status for row in (*report.comparisons, *report.training)}
    classes = {fields.get("class") for tag, fields in page.tags if tag == "tr"}
    assert {status.value.replace(" ", "-") for status in statuses} <= classes


def test_failures_stand_first_in_their_table() -> None:
    report = reports.report()
    report.comparisons = [
        reports.comparison("equal", difference=reports.Difference()),
        reports.comparison("close", difference=reports.difference(5e-5)),
        reports.comparison("far"),
        reports.comparison("random", Status.NOT_COMPARABLE, difference=None),
        reports.failure("wrong"),
    ]
    names = re.findall(r'<td class="name"><b>(\w+)</b>', render(report))
    assert names == ["wrong", "random", "close", "far", "equal"]


def test_a_strangers_names_stay_text() -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&$x_{1}$"
    report = reports.passing()
    report.reference = Side(evil, evil, evil)
    report.decided_by = report.rule = evil
    report.remarks = [evil]
    report.options = {"images": evil, evil: evil}
    report.structure = [StructureCheck(evil, evil, Status.FAIL, evil, evil, evil, evil, evil)]
    fields = dict.fromkeys(("variant", "signature", "reference_runtime", "reason", "kind"), evil)
    report.comparisons = [
        reports.failure(evil, **fields, through=(evil, evil)),
        reports.comparison(evil, Status.NOT_COMPARABLE, **fields),
    ]
    report.inputs = [InputSet(evil, evil, evil, ({evil: (1,)},), (evil,))]
    report.bisections = [reports.Bisection(evil, evil, evil, evil, repro=evil, reason=evil)]
    page = Page(render(report))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 1
    assert "img" not in tags
    assert evil in page.words


def test_the_command_repeats_the_run() -> None:
    words = Page(render(reports.failing())).words
    assert (
        "hubbridge parity --device all --images 'my photos/' --train --bisect "
        "testdata/modules/digits 'out/digits saved'"
    ) in words


# -- charts -----------------------------------------------------------------------------------


def _bars(histogram: dict[str, int]) -> tuple[list[str], list[str]]:
    """Returns what stands below the bars, and above them."""
    row = reports.comparison("x", difference=reports.difference(histogram=histogram))
    svg = charts.error_histogram([row])
    assert svg is not None
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    at = next(number for number, text in enumerate(texts) if "max|a|" in text)
    return texts[:at], texts[at + 2 :]


def test_a_histogram_has_a_bar_for_each_decade_and_for_what_is_equal() -> None:
    below, above = _bars({"equal": 2_500, "-3": 7, "-1": 12_000_000, "0": 3, "inf": 1})
    assert below == ["equal", "1e-3", "1e-2", "1e-1", "1e0", "inf"]
    assert above == ["2.5k", "7", "12M", "3", "1"]


def test_tiny_errors_share_a_bar() -> None:
    assert _bars({"-300": 1, "-12": 2, "-10": 4}) == (["equal", "1e-10"], ["7"])


def test_there_are_no_charts_where_nothing_was_measured_or_all_is_equal() -> None:
    equal = reports.Difference(values=5, histogram={"equal": 5})
    rows = [reports.skipped("x"), reports.comparison("y", difference=equal)]
    assert charts.error_histogram(rows) is None
    assert charts.error_against_magnitude(rows) is None


def test_charts_take_the_colours_of_the_page() -> None:
    for chart in (charts.error_histogram, charts.error_against_magnitude):
        svg = chart([reports.failure("x")])
        assert svg is not None
        assert set(re.findall(r"var\((--\w+)\)", svg)) >= {"--ink", "--bars", "--line"}
        assert "#0102" not in svg
        assert not re.search(r"<style|xmlns|<\?xml|<!--", svg)


# -- photos -----------------------------------------------------------------------------------


@pytest.fixture
def album(tmp_path: Path) -> tuple[str, ...]:
    """Five photos, each of another grey, by names relative to a directory."""
    for number in range(5):
        Image.new("L", (600, 300), 50 * number).save(tmp_path / f"{number}.png")
    return tuple(f"{number}.png" for number in range(5))


def _photographed(album: tuple[str, ...], *worst: tuple[int, int]) -> ParityReport:
    """A report whose outputs differ most at these batches and rows of the photos."""
    report = reports.report()
    shapes = ({"images": (1, 8, 8, 3)}, {"images": (4, 8, 8, 3)})
    report.inputs = [InputSet("photos", "{}", "default", shapes, album)]
    report.comparisons = [
        reports.comparison(
            f"o{batch}{row}",
            difference=reports.difference(
                1e-6 / (1 + number), worst=Worst("photos", batch, (row, 3), 1.0, 2.0)
            ),
        )
        for number, (batch, row) in enumerate(worst)
    ]
    return report


def test_the_photos_that_differ_most_are_found(album, tmp_path: Path) -> None:
    report = _photographed(album, (1, 2), (0, 0), (1, 2))
    found = photos.worst_photos(report, tmp_path)
    assert [(photo.file, photo.row.output) for photo in found] == [
        ("3.png", "o12"),
        ("0.png", "o00"),
    ]
    assert all(photo.source.startswith("data:image/jpeg;base64,") for photo in found)


def test_the_least_headroom_comes_first_and_a_failure_before_it(album, tmp_path: Path) -> None:
    report = _photographed(album, (0, 0), (1, 0))
    report.comparisons[1] = replace(
        report.comparisons[1],
        status=Status.FAIL,
        difference=replace(report.comparisons[1].difference, headroom=0.5),
    )
    assert [photo.file for photo in photos.worst_photos(report, tmp_path)] == ["1.png", "0.png"]


@pytest.mark.parametrize(
    "change",
    [
        {"files": ("0.png", "1.png")},
        {"name": "noise"},
        {"signature": "other"},
        {"shapes": ()},
    ],
)
def test_no_photo_is_guessed(change, album, tmp_path: Path) -> None:
    report = _photographed(album, (1, 2))
    report.inputs = [replace(report.inputs[0], **change)]
    assert photos.worst_photos(report, tmp_path) == []


def test_a_worst_value_elsewhere_shows_no_photo(album, tmp_path: Path) -> None:
    report = _photographed(album, (1, 4), (2, 0))
    noise = Worst("noise", 0, (0, 0), 1.0, 2.0)
    report.comparisons.append(reports.comparison("n", difference=reports.difference(worst=noise)))
    assert photos.worst_photos(report, tmp_path) == []


def test_a_photo_that_is_gone_or_broken_is_named(album, tmp_path: Path) -> None:
    (tmp_path / "0.png").unlink()
    (tmp_path / "1.png").write_bytes(b"no image")
    report = _photographed(album, (0, 0), (1, 0))
    assert [photo.source for photo in photos.worst_photos(report, tmp_path)] == ["", ""]
    assert "0.png" in Page(render(report, tmp_path)).words


# -- in a browser -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Browse:
    """Opens a page in headless Chromium; returns the page as it became, and the browser's log."""
    names = (os.environ["HUBBRIDGE_CHROMIUM"],) if "HUBBRIDGE_CHROMIUM" in os.environ else BROWSERS
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        lack = "no Chromium here; HUBBRIDGE_CHROMIUM names one"
        if os.environ.get("HUBBRIDGE_REQUIRE_BROWSER") == "1":
            pytest.fail(lack)
        pytest.skip(lack)

    def run(html: str, *options: str) -> tuple[str, str]:
        folder = tmp_path_factory.mktemp("browser")
        page = folder / "page.html"
        page.write_text(html, encoding="utf-8")
        done = subprocess.run(
            [
                browser,
                *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic"),
                *("--no-first-run", "--disable-background-networking", "--disable-sync"),
                *("--disable-component-update", "--enable-logging=stderr", "--dump-dom"),
                f"--user-data-dir={folder / 'profile'}",
                *options,
                page.as_uri(),
            ],
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout, "\n".join(re.findall(r".*CONSOLE.*", done.stderr))

    return run


def _sees(dom: str, row: Comparison) -> bool:
    return f"<b>{row.output}</b>" in dom


@pytest.mark.parametrize("made", MADE)
def test_a_browser_shows_it_without_errors(made, browse: Browse) -> None:
    report = made()
    dom, console = browse(render(report))
    assert console == ""
    assert f'<span id="verdict">{report.verdict.value}</span>' in dom
    assert all(_sees(dom, row) for row in (*report.comparisons, *report.training))
    # The script has run: heads of columns can be clicked.
    assert '<button type="button">status</button>' in dom


def test_a_browser_tells_errors(browse: Browse) -> None:
    html = render(reports.passing())
    assert "CONSOLE" in browse(html.replace("</main>", "<script>nothing()</script></main>"))[1]
    assert (
        "Content Security Policy"
        in browse(html.replace("</main>", '<img src="https://example.invalid/x.png"></main>'))[1]
    )


def test_a_click_sorts(browse: Browse) -> None:
    report = reports.report()
    report.comparisons = [
        reports.comparison("small", difference=reports.difference(1e-9)),
        reports.comparison("equal", difference=reports.Difference()),
        reports.comparison("random", Status.NOT_COMPARABLE, difference=None),
        reports.comparison("large", difference=reports.difference(1e-6)),
    ]
    html = render(report)

    def after(clicks: int) -> list[str]:
        click = "document.querySelectorAll('th button')[2].click();" * clicks
        dom, console = browse(html.replace("</body>", f"<script>{click}</script></body>"))
        assert console == ""
        return re.findall(r'<td class="name"><b>(\w+)</b>', dom)

    assert after(1) == ["large", "small", "equal", "random"]
    assert after(2) == ["equal", "small", "large", "random"]


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_nothing_sticks_out_of_the_screen(width: int, browse: Browse) -> None:
    # Windows have a smallest width, frames have none.
    report = reports.failing()
    report.comparisons.append(reports.failure("x" * 200))
    inner = render(report).replace("&", "&amp;").replace('"', "&quot;")
    script = (
        "onload = () => { const page = frames[0].document.documentElement;"
        " document.title = `${page.scrollWidth} of ${page.clientWidth}`; }"
    )
    dom, _ = browse(
        f'<title></title><iframe style="border:0;width:{width}px;height:900px" srcdoc="{inner}">'
        f"</iframe><script>{script}</script>",
        "--window-size=1400,1000",
        "--hide-scrollbars",
    )
    assert re.search(r"<title>(.*)</title>", dom)[1] == f"{width} of {width}"  # type: ignore[index]
