"""docs/report.md against what is reported."""

from __future__ import annotations

import json
import re
from dataclasses import fields

import bridge
from bridge.report import (
    SCHEMA,
    SCHEMA_VERSION,
    CallableReport,
    Counts,
    Note,
    Report,
    SignatureReport,
    VariableReport,
)
from tests.conftest import TESTDATA

ROOT = TESTDATA.parent
DOCUMENT = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
MODULE = "testdata/modules/unused_variable"


def _section(title: str) -> str:
    return DOCUMENT.split(f"{title}\n", 1)[1].split("\n#", 1)[0]


def _first_column(text: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


def _names(kind: type) -> list[str]:
    return [field.name for field in fields(kind)]


def test_every_field_is_described_in_order() -> None:
    assert _first_column(_section("## Fields")) == ["schema", "schema_version", *_names(Report)]
    assert _first_column(_section("### `kept`")) == _names(Counts)
    assert _first_column(_section("### `callables[]`")) == _names(CallableReport)
    assert _first_column(_section("### `signatures[]`")) == _names(SignatureReport)
    assert _first_column(_section("### `variables[]`")) == _names(VariableReport)
    notes = _first_column(_section("### Notes: `not_kept[]` and `remarks[]`"))
    assert notes[: len(_names(Note))] == _names(Note)


def test_every_kind_of_note_is_described() -> None:
    code = "\n".join(
        path.read_text(encoding="utf-8") for path in sorted((ROOT / "bridge").rglob("*.py"))
    )
    for method, title in (("drop", "Kinds of `not_kept`:"), ("remark", "Kinds of `remarks`:")):
        used = re.findall(rf'report\.{method}\(\s*"(\w+)"', code)
        described = _first_column(_section(title).split("\n\n")[0])
        assert described == sorted(set(used))


def test_the_example_is_what_the_module_gives() -> None:
    example = json.loads(DOCUMENT.split("```json\n")[1].split("```")[0])
    report = bridge.to_saved_model(ROOT / MODULE, ROOT / "saved_model", dry_run=True).to_dict()
    for unlike in ("source", "destination", "seconds", "passes"):
        assert type(example[unlike]) is type(report[unlike]) or unlike == "destination"
        del example[unlike], report[unlike]
    # `passes` and the number of functions are how it is done, not what is done.
    del example["kept"]["functions"], report["kept"]["functions"]
    assert example == report


def test_the_schema_is_named() -> None:
    assert f"`schema` is `{SCHEMA}`, `schema_version` is {SCHEMA_VERSION}" in DOCUMENT
    report = Report("source", None, "to-saved-model").to_dict()
    assert list(report)[:2] == ["schema", "schema_version"]
    assert json.loads(json.dumps(report)) == report
