"""The page of a parity report, also as a browser shows it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bridge._parity.results import (
    Comparison,
    InputSet,
    ParityReport,
    PhotoRow,
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


def test_nan_stands_out_and_no_rtol_is_needed() -> None:
    report = reports.report()
    report.comparisons = [reports.with_nan("broken"), reports.comparison("fine")]
    page = Page(render(report))
    assert "0 → 3 / 1 → 0" in page.words
    assert "none would do" in page.words
    assert [f["class"] for _, f in page.tags if "misplaced" in (f.get("class") or "")] == [
        "n misplaced"
    ]


def test_a_part_of_the_structure_says_each_thing_once() -> None:
    report = reports.report()
    report.structure = [
        StructureCheck("variant", "{train}", Status.PASS, variant="{train}"),
        StructureCheck("signature", "sig", Status.PASS, variant="{train}", signature="sig"),
    ]
    words = Page(render(report)).words
    assert words.count("{train}") == 2
    assert words.count("sig") == words.count("signature") + 1


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


def _headings(report: ParityReport) -> list[str]:
    section = render(report).split('<section id="charts">')[1].split("</section>")[0]
    return [" ".join(h.split()) for h in re.findall(r"<h3>(.*?)</h3>", section, re.DOTALL)]


def test_no_two_charts_have_the_same_heading() -> None:
    report = reports.report()
    ways = ("__call__(training=False)", "signatures['default']")
    report.comparisons = [
        *(reports.failure("x", through=("default", way)) for way in ways),
        *(reports.failure("x", signature="s", through=(way, "s")) for way in ways),
        reports.failure("x", through=("default", "default")),
    ]
    found = [heading.replace("&#39;", "'") for heading in _headings(report)]
    runtimes = f"{reports.TF1} → {reports.TF2} on cpu"
    assert found == [
        *(
            f"output 'x' of signature 'default', variant {{}}, {runtimes}, called as {w}"
            for w in ways
        ),
        *(f"output 'x' of signature 's', variant {{}}, {runtimes}, called as {w}" for w in ways),
        f"output 'x' of signature 'default', variant {{}}, {runtimes}",
        f"all outputs, {runtimes}",
    ]
    failures = Page(render(report)).words.split("Failures")[1].split("Errors")[0]
    assert failures.count("on cpu") == len(report.comparisons)


# -- photos -----------------------------------------------------------------------------------


@pytest.fixture
def album(tmp_path: Path) -> tuple[str, ...]:
    """Five photos, each of another grey, by names relative to a directory."""
    for number in range(5):
        Image.new("L", (600, 300), 50 * number).save(tmp_path / f"{number}.png")
    return tuple(f"{number}.png" for number in range(5))


def _photographed(
    album: tuple[str, ...], *seen: tuple[str, Sequence[PhotoRow]], **changes: object
) -> ParityReport:
    """A report whose outputs differ on rows of two batches of photos, of one and of four."""
    report = reports.report()
    shapes = ({"images": (1, 8, 8, 3)}, {"images": (4, 8, 8, 3)})
    report.inputs = [InputSet("photos", "{}", "default", shapes, album)]
    report.comparisons = [
        reports.comparison(
            name, difference=reports.difference(photos=tuple(rows)), limit=1e-5, **changes
        )
        for name, rows in seen
    ]
    return report


def _shown(report: ParityReport, images: Path | None = None) -> list[list[str]]:
    """The files of each album."""
    return [[photo.file for photo in album.photos] for album in photos.albums(report, images)]


def test_each_signature_shows_the_photos_that_differ_most(album, tmp_path: Path) -> None:
    rows = [PhotoRow(1, 2, 4e-6, (3, 3)), PhotoRow(0, 0, 2e-6, (1, 7))]
    report = _photographed(album, ("default", rows), ("other", [PhotoRow(1, 2, 1e-6)]))
    (found,) = photos.albums(report, tmp_path)
    assert (found.variant, found.signature) == ("{}", "default")
    assert [photo.file for photo in found.photos] == ["3.png", "0.png"]
    assert all(photo.source.startswith("data:image/jpeg;base64,") for photo in found.photos)
    assert [seen.row.output for seen in found.photos[0].outputs] == ["default", "other"]
    words = Page(render(report, tmp_path)).words
    assert "3.png default: max_abs 4.0e-6, limit 1.0e-5, top-1 3 other: max_abs 1.0e-6" in words
    assert "0.png default: max_abs 2.0e-6, limit 1.0e-5, top-1 1 became 7" in words


def test_a_photo_is_shown_though_the_worst_value_lies_elsewhere(album, tmp_path: Path) -> None:
    report = _photographed(album, ("default", [PhotoRow(0, 0, 2e-6)]))
    row = report.comparisons[0]
    worst = Worst("noise", 0, (0, 0), 1.0, 2.0)
    report.comparisons = [replace(row, difference=replace(row.difference, worst=worst))]
    assert _shown(report, tmp_path) == [["0.png"]]


def test_of_two_runtimes_the_one_that_differs_more_is_shown(album) -> None:
    report = _photographed(
        album, ("default", [PhotoRow(0, 0, 2e-6)]), ("default", [PhotoRow(0, 0, 3e-6)])
    )
    (found,) = photos.albums(report, None)
    assert [seen.photo.max_abs for seen in found.photos[0].outputs] == [3e-6]


def test_the_signature_that_is_closest_to_its_limit_comes_first(album) -> None:
    report = _photographed(album, ("default", [PhotoRow(0, 0, 2e-6)]))
    (row,) = report.comparisons
    nearer = reports.difference(photos=(PhotoRow(1, 0, 1e-6), PhotoRow(1, 1, float("inf"))))
    report.comparisons.append(replace(row, signature="other", difference=nearer))
    report.inputs.append(replace(report.inputs[0], signature="other"))
    assert [album.signature for album in photos.albums(report, None)] == ["other", "default"]
    assert _shown(report)[0] == ["2.png", "1.png"]
    assert "2.png default: NaN or Inf on one side only" in Page(render(report)).words


def test_a_few_photos_of_a_few_signatures_are_shown(album) -> None:
    rows = [PhotoRow(0, 0, 1e-6), *(PhotoRow(1, row, 1e-6) for row in range(4))]
    report = _photographed(album, ("default", rows))
    row, given = report.comparisons[0], report.inputs[0]
    names = [f"s{number}" for number in range(30)]
    report.comparisons = [replace(row, signature=name) for name in names]
    report.inputs = [replace(given, signature=name) for name in names]
    found = _shown(report)
    assert len(found) == 12
    assert {len(files) for files in found} == {4}


@pytest.mark.parametrize(
    "change",
    [
        {"files": ("0.png", "1.png")},
        {"name": "noise"},
        {"signature": "other"},
        {"variant": "{train}"},
        {"shapes": ()},
    ],
)
def test_no_photo_is_guessed(change, album, tmp_path: Path) -> None:
    report = _photographed(album, ("default", [PhotoRow(1, 2, 1e-6)]))
    report.inputs = [replace(report.inputs[0], **change)]
    assert photos.albums(report, tmp_path) == []
    assert 'id="photos"' not in render(report, tmp_path)


@pytest.mark.parametrize("row", [PhotoRow(1, 4, 1.0), PhotoRow(2, 0, 1.0)])
def test_a_row_that_is_no_photo_shows_none(row: PhotoRow, album, tmp_path: Path) -> None:
    assert photos.albums(_photographed(album, ("default", [row])), tmp_path) == []


def test_a_photo_that_is_gone_or_broken_is_named(album, tmp_path: Path) -> None:
    (tmp_path / "0.png").unlink()
    (tmp_path / "1.png").write_bytes(b"no image")
    rows = [PhotoRow(0, 0, 2e-6), PhotoRow(1, 0, 1e-6)]
    report = _photographed(album, ("default", rows))
    (found,) = photos.albums(report, tmp_path)
    assert [photo.source for photo in found.photos] == ["", ""]
    assert "0.png" in Page(render(report, tmp_path)).words


def test_what_could_not_be_compared_stands_beside_what_passed() -> None:
    report = reports.report()
    reason = "2 of 9 batches could not be compared: the model refused them"
    report.comparisons = [reports.comparison("fine", reason=reason)]
    page = render(report)
    assert f'<p class="reason">{reason}</p>' in page


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
