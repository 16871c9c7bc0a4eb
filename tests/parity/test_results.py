"""The JSON form of a parity report, and docs/parity.md against it."""

from __future__ import annotations

import json
import math
import re
from dataclasses import fields, replace

import numpy as np
import pytest

from bridge._parity.options import ParityOptions
from bridge._parity.results import (
    SCHEMA,
    SCHEMA_VERSION,
    Bisection,
    Comparison,
    Difference,
    InputSet,
    ParityReport,
    PhotoRow,
    Runtime,
    Side,
    Status,
    StructureCheck,
    Verdict,
    Worst,
)
from tests.conftest import TESTDATA
from tests.parity import reports
from tests.parity.endpoints import image_pair, sets

DOCS = TESTDATA.parent / "docs"
DOCUMENT = (DOCS / "parity.md").read_text(encoding="utf-8")


def _section(title: str) -> str:
    return DOCUMENT.split(f"\n{title}\n", 1)[1].split("\n#", 1)[0]


def _described(title: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", _section(title), re.MULTILINE)


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("### `reference`, `candidate`", Side),
        ("### `options`", ParityOptions),
        ("### `runtimes[]`", Runtime),
        ("### `structure[]`", StructureCheck),
        ("### `inputs[]`", InputSet),
        ("### `difference`", Difference),
        ("### `worst`", Worst),
        ("### `photos[]`", PhotoRow),
        ("### `bisections[]`", Bisection),
    ],
)
def test_every_field_is_described_in_order(title: str, kind: type) -> None:
    assert _described(title) == [field.name for field in fields(kind)]


def test_the_fields_of_the_report_and_of_an_entry_are_described() -> None:
    names = [field.name for field in fields(ParityReport)]
    assert _described("### The report") == ["schema", "schema_version", *names]
    names = [field.name for field in fields(Comparison)]
    assert _described("### `comparisons[]`, `training[]`") == [*names, "max_abs"]


@pytest.mark.parametrize("name", ["parity.md", "ci.md"])
def test_prose_fits_a_screen(name: str) -> None:
    prose = re.sub(
        r"^```.*?^```",
        "",
        (DOCS / name).read_text(encoding="utf-8"),
        flags=re.MULTILINE | re.DOTALL,
    )
    lines = [line for line in prose.splitlines() if not line.startswith(("|", "    "))]
    assert [line for line in lines if len(line) > 110] == []


def test_the_sizes_of_batches_are_as_described() -> None:
    said = "8 samples in batches of 4 are batches of 1, 4 and 3 rows"
    assert said in " ".join(_section("## What is fed").split())
    made = sets(image_pair(), ParityOptions(samples=8, batch_size=4))
    rows = {name: [len(batch.values["images"]) for batch in made[name]] for name in made}
    assert rows["noise"] == rows["smooth"] == [1, 4, 3]
    assert rows["zeros"] == rows["ones"] == [4]
    assert sum(rows["photos"]) == len(reports.PHOTOS)
    assert set(rows["photos"][:-1]) == {4}


def test_each_status_and_verdict_is_described() -> None:
    words = " ".join(DOCUMENT.split())
    assert f"`schema` is `{SCHEMA}`, `schema_version` is {SCHEMA_VERSION}" in words
    for member in (*Status, *Verdict):
        assert f"`{member.value}`" in DOCUMENT


@pytest.mark.parametrize("name", ["passing", "failing", "inconclusive"])
def test_it_is_strict_json_of_plain_things(name: str) -> None:
    report = getattr(reports, name)().to_dict()
    assert list(report)[:2] == ["schema", "schema_version"]
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert type(report["verdict"]) is str
    assert {type(row["status"]) for row in report["comparisons"]} == {str}


def test_what_is_infinite_is_null_but_values_of_a_model_are_told() -> None:
    report = reports.report()
    report.comparisons = [reports.with_nan("x"), reports.comparison("y", difference=Difference())]
    broken, equal = report.to_dict()["comparisons"]
    assert broken["difference"]["needed_rtol"] is None
    assert broken["difference"]["cosine"] is None
    assert broken["difference"]["worst"]["reference"] == "-Infinity"
    assert broken["difference"]["worst"]["candidate"] == "NaN"
    assert equal["difference"]["headroom"] is None
    report.bisections = [
        Bisection("{}", "s", "n", difference=math.inf, reference=(math.inf, 1.0), candidate=(2.0,))
    ]
    (bisection,) = report.to_dict()["bisections"]
    assert bisection["difference"] is None
    assert bisection["reference"] == ["Infinity", 1.0]


def test_max_abs_stands_in_the_entry() -> None:
    report = reports.report()
    report.comparisons = [reports.comparison("x"), reports.skipped("x")]
    report.training = [reports.comparison("w", kind="gradient")]
    found = report.to_dict()
    assert [row["max_abs"] for row in found["comparisons"]] == [1e-6, None]
    assert [row["max_abs"] for row in found["training"]] == [1e-6]


def test_numbers_of_numpy_are_numbers() -> None:
    report = reports.report()
    row = reports.comparison("x", limit=np.float32(0.5))
    assert row.difference is not None
    row = replace(row, difference=replace(row.difference, max_ulp=np.int64(3)))
    report.comparisons = [row]
    (found,) = report.to_dict()["comparisons"]
    assert (type(found["limit"]), type(found["difference"]["max_ulp"])) == (float, int)


def test_what_has_no_json_form_is_no_silent_text() -> None:
    report = reports.report()
    report.options = {"images": TESTDATA}
    with pytest.raises(TypeError, match="no JSON form"):
        report.to_dict()
