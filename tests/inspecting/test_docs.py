"""The JSON form of a report, and docs/inspect.md against it."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

import bridge
from bridge._inspect import results
from tests.conftest import TESTDATA

DOCUMENT = (TESTDATA.parent / "docs" / "inspect.md").read_text(encoding="utf-8")


def _described(title: str) -> list[str]:
    section = DOCUMENT.split(f"\n{title}\n", 1)[1].split("\n#", 1)[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


TABLES = {
    "### `variants[]`": results.VariantInfo,
    "### `variants[].signatures[]`": results.SignatureInfo,
    "### `inputs[]`, `outputs[]`": results.EndpointInfo,
    "### `callables[]`": results.CallableInfo,
    "### `callables[].traces[]`": results.TraceInfo,
    "### `image_size`": results.ImageSize,
    "### `variables`": results.VariablesInfo,
    "### `variables.items[]`": results.VariableInfo,
    "### `tables[]`": results.TableInfo,
    "### `assets[]`": results.AssetInfo,
    "### `attachments[]`": results.AttachmentInfo,
    "### `ops[]`": results.OpInfo,
    "### `release`, `graph_release`": results.ReleaseInfo,
    "### `conversion`": results.ConversionInfo,
    "### `conversion.obstacles[]`": results.Obstacle,
}


@pytest.mark.parametrize(("title", "kind"), TABLES.items())
def test_every_field_is_described_in_order(title: str, kind: type) -> None:
    assert _described(title) == [field.name for field in fields(kind)]


def test_the_fields_of_the_report_are_described() -> None:
    names = [field.name for field in fields(results.InspectReport)]
    assert _described("### The report") == ["schema", "schema_version", *names]


def test_every_kind_of_entry_is_described() -> None:
    kinds = {
        value
        for value in vars(results).values()
        if isinstance(value, type) and value.__module__ == results.__name__
    }
    assert kinds == {*TABLES.values(), results.InspectReport}


def test_schema_formats_and_releases_are_described() -> None:
    version = results.SCHEMA_VERSION
    assert f"`schema` is `{results.SCHEMA}`, `schema_version` is {version}" in DOCUMENT
    for name in (results.HUB_MODULE, results.TF1_SAVED_MODEL, results.TF2_SAVED_MODEL):
        assert f"`{name}`" in DOCUMENT


@pytest.mark.parametrize("name", ["digits", "sparse_input", "ragged_input", "text_vocab"])
def test_it_is_strict_json_of_plain_things(name: str) -> None:
    report = bridge.inspect(Path(TESTDATA, "modules", name)).to_dict()
    assert list(report)[:2] == ["schema", "schema_version"]
    assert json.loads(json.dumps(report, allow_nan=False)) == report
