"""The JSON form of a check, and docs/check.md against it and against the clauses."""

from __future__ import annotations

import json
import re
from dataclasses import fields

import pytest

import bridge
from bridge import Breach, CheckReport, ClauseResult, ClauseStatus
from bridge._check.results import SCHEMA, SCHEMA_VERSION
from bridge._check.rules import RULES
from tests.conftest import TESTDATA

DOCUMENT = (TESTDATA.parent / "docs" / "check.md").read_text(encoding="utf-8")


def _section(title: str) -> str:
    return DOCUMENT.split(f"\n{title}\n", 1)[1].split("\n#", 1)[0]


def _described(title: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", _section(title), re.MULTILINE)


@pytest.mark.parametrize(
    ("title", "kind", "more"),
    [
        ("### The report", CheckReport, ["schema", "schema_version"]),
        ("### `clauses[]`", ClauseResult, []),
        ("### `breaches[]`", Breach, []),
    ],
)
def test_every_field_is_described_in_order(title: str, kind: type, more: list[str]) -> None:
    assert _described(title) == more + [field.name for field in fields(kind)]


def test_the_schema_and_each_status_are_described() -> None:
    assert f"`schema` is `{SCHEMA}`, `schema_version` is {SCHEMA_VERSION}" in DOCUMENT
    for status in ClauseStatus:
        assert f"| `{status.value}` |" in DOCUMENT


def test_every_clause_is_described_in_order_with_what_is_looked_at_and_how_to_mend_it() -> None:
    clauses = DOCUMENT.split("\n## The clauses\n", 1)[1].split("\n## ", 1)[0]
    assert re.findall(r"^### (.+)$", clauses, re.MULTILINE) == [rule.id for rule in RULES]
    for rule in RULES:
        text = _section(f"### {rule.id}")
        assert "\n- Looked at" in text
        assert "\n- Mend: " in text


@pytest.mark.parametrize("name", ["toy_image_resource", "own_tags"])
def test_it_is_strict_json_of_plain_things(name: str) -> None:
    found = bridge.check(TESTDATA / "modules" / name).to_dict()
    assert list(found)[:2] == ["schema", "schema_version"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert {type(clause["status"]) for clause in found["clauses"]} == {str}
    assert all(clause["breaches"] == [] for clause in found["clauses"])


def test_breaches_are_plain_too() -> None:
    breach = Breach("it is odd", "make it even", "{}")
    clause = ClauseResult("IMG05", "title", ClauseStatus.BROKEN, "reason", (breach,))
    found = CheckReport("path", "TF1 Hub module", "1.15.5", (clause,), ("remark",)).to_dict()
    assert json.loads(json.dumps(found)) == found
    (row,) = found["clauses"]
    assert row["status"] == "broken"
    assert row["breaches"][0]["found"] == "it is odd"
    assert row["breaches"][0]["node"] is None
