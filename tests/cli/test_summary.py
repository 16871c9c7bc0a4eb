"""The summary tree: grouping, folding, wrapping."""

from __future__ import annotations

from bridge.cli._summary import count, plural, size, summary
from bridge.cli._terminal import Style
from bridge.cli._tree import Node, render
from bridge.errors import Where
from bridge.report import CallableReport, Report

WIDE = Style(width=100)


def _report() -> Report:
    return Report("module", "out", "to-saved-model", "1.15.5")


def test_notes_of_one_reason_stand_together() -> None:
    report = _report()
    for variant in ("{}", "{train}"):
        report.drop("collection", "model_variables", "TF2 has none", Where(variant=variant))
    for number in range(12):
        report.drop("checkpoint_entry", f"key{number}", "nobody has it")
    text = summary(report, "out", WIDE)
    assert "collection model_variables of variant {} and {train}\n" in text
    assert text.count("TF2 has none") == 1
    assert (
        "12 checkpoint entries key0, key1, key2, key3, key4, key5, … and 6 more, see --json" in text
    )


def test_the_root_comes_first_and_training_is_told_once_where_it_is_the_same() -> None:
    report = _report()
    training = {"False": "runs variant {}", "True": "runs variant {train}"}
    for name in ("a", "__call__", "b c"):
        report.callables.append(
            CallableReport(name, "s", ["x: float32[?, 4]"], ["o: int32[]"], training, [])
        )
    lines = summary(report, "out", WIDE).splitlines()
    calls = [line.split("── ")[1] for line in lines if "── " in line and "obj" in line]
    assert calls == [
        "obj(x, training=False)",
        "obj.a(x, training=False)",
        "getattr(obj, 'b c')(x, training=False)",
    ]
    assert sum("training=True runs" in line for line in lines) == 1


def test_several_inputs_are_shown_as_the_dictionary_they_are_given_in() -> None:
    report = _report()
    report.callables.append(
        CallableReport("__call__", "s", ["x: int32[]", "y: int32[]"], [], {"True": "runs"}, [])
    )
    assert "obj({x, y}, training=True)" in summary(report, "out", WIDE)


def test_a_strangers_names_are_made_harmless() -> None:
    report = _report()
    report.drop("file", "\x1b[31mred\r", "no part")
    assert "\\x1b[31mred\\r" in summary(report, "out", WIDE)


def test_dest_is_quoted_as_python_reads_it() -> None:
    assert 'tf.saved_model.load("a \\"b\\"")' in summary(_report(), 'a "b"', WIDE)


def test_a_name_is_never_broken() -> None:
    root = Node("root")
    root.add("gives " + "x" * 50)
    assert "x" * 50 in render(root, Style(width=30))


def test_wrapped_lines_keep_the_branches() -> None:
    root = Node("root")
    root.add("one two three four five six").add("leaf")
    root.add("last one two three four")
    assert render(root, Style(width=20)).splitlines() == [
        "root",
        "├── one two three",
        "│   │ four five six",
        "│   └── leaf",
        "└── last one two",
        "      three four",
    ]


def test_numbers_read_well() -> None:
    assert [size(n) for n in (0, 1023, 1024, 1536, 1 << 20, 5 << 40)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 KiB",
        "1.0 MiB",
        "5.0 TiB",
    ]
    assert [count(n, "table") for n in (1, 2, 1200)] == ["1 table", "2 tables", "1,200 tables"]
    assert [plural(w) for w in ("loss", "entry", "update op")] == [
        "losses",
        "entries",
        "update ops",
    ]
