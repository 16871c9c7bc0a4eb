"""Python values that traces were given, in the tree and in JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import bridge
from bridge.cli._inspect_tree import inspect_tree
from bridge.cli._terminal import Style
from tests.saved_model.handmade import FLOAT, Handmade, Value, scaled, spec

SHOWN = {
    "nan": (Value(float64_value=float("nan")), {"float": "nan"}),
    "inf": (Value(float64_value=float("inf")), {"float": "inf"}),
    "-inf": (Value(float64_value=float("-inf")), {"float": "-inf"}),
    "'nan'": (Value(string_value="nan"), "nan"),
    "2.5": (Value(float64_value=2.5), 2.5),
    "7": (Value(int64_value=7), 7),
    "True": (Value(bool_value=True), True),
    "None": (Value(), None),
}


@pytest.fixture
def report(tmp_path: Path) -> bridge.InspectReport:
    model = Handmade()
    traces = [
        model.trace(scaled(f"f{i}", 2.0), [spec("x", FLOAT, (3,)), value])
        for i, (value, _) in enumerate(SHOWN.values())
    ]
    model.method("__call__", traces, ["x", "by"])
    return bridge.inspect(model.write(tmp_path / "model"))


def test_json_is_strict_and_tells_a_nan_from_the_word(report: bridge.InspectReport) -> None:
    (call,) = json.loads(json.dumps(report.to_dict(), allow_nan=False))["callables"]
    assert [trace["values"]["by"] for trace in call["traces"]] == [one for _, one in SHOWN.values()]


def test_the_tree_shows_them_as_python_does(report: bridge.InspectReport) -> None:
    text = " ".join(inspect_tree(report, Style(width=100)).replace("│", " ").split())
    assert "with by=" + " or ".join(SHOWN) in text
    assert f"without {len(SHOWN) - 1} traces" in text
