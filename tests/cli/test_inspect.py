"""`hubbridge inspect`: what it prints, and where."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import bridge
from bridge.cli import main
from bridge.cli._inspect_tree import inspect_tree
from bridge.cli._terminal import Style
from bridge.cli.inspect import inspect as command
from tests.attacks.edit import copy_module, meta_graph
from tests.cli.helpers import MODULES, ROOT, hubbridge

Capture = pytest.CaptureFixture[str]


def test_the_tree_is_data(capsys: Capture) -> None:
    assert main(["inspect", str(MODULES / "digits")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == str(MODULES / "digits")
    assert lines[1].startswith("├── TF1 Hub module, by TensorFlow 1.15.5, ")
    for text in (
        "{train}: 188 nodes, 6 update ops, 3 regularization losses",
        "image_feature_vector of {} and {train}",
        "takes images: float32[?, 16, 16, 3]",
        "16 x 16, as image_module_info says",
        "14 variables (13.9 KiB), 8 trainable (13.6 KiB), all reference",
        "Digits/conv3/weights float32[3, 3, 12, 16] 6.8 KiB",
        "310 nodes of 24 ops",
        "TensorFlow 1.14 and newer, by its ops",
        "✓ to-saved-model goes through",
    ):
        assert text in out


def test_the_example_of_the_docs_is_what_is_printed(capsys: Capture) -> None:
    document = (ROOT / "docs" / "inspect.md").read_text(encoding="utf-8")
    example = document.split("```text\n")[1].split("```")[0]
    report = replace(bridge.inspect(MODULES / "digits"), source="testdata/modules/digits")
    whole = inspect_tree(report, Style())
    parts = example.split("…\n")
    assert len(parts) == 3
    assert whole.startswith(parts[0])
    assert parts[1] in whole
    assert whole.endswith(parts[2])


def test_json_is_the_report_and_nothing_else(capsys: Capture) -> None:
    assert main(["inspect", str(MODULES / "digits"), "--json"]) == 0
    out, err = capsys.readouterr()
    expected = bridge.inspect(MODULES / "digits").to_dict()
    printed = json.loads(out)
    for report in (printed, expected):
        del report["seconds"]
    assert printed == expected
    assert err == ""


def test_long_lists_are_shown_on_demand(capsys: Capture) -> None:
    report = bridge.inspect(MODULES / "digits")
    names = [one.name for one in report.variables.items]
    ops = [one.op for one in report.ops]
    main(["inspect", str(MODULES / "digits")])
    short = capsys.readouterr().out
    assert sum(name in short for name in names) == 5
    assert "--variables lists all" in short
    assert "--ops lists all" in short
    main(["inspect", str(MODULES / "digits"), "--variables", "--ops"])
    long = capsys.readouterr().out
    assert all(name in long for name in names)
    assert all(f" {op}, since " in long for op in ops)
    assert "lists all" not in long


def test_the_conversion_is_left_out_on_demand(capsys: Capture) -> None:
    assert main(["inspect", str(MODULES / "digits"), "--no-conversion"]) == 0
    assert "converts" not in capsys.readouterr().out


def test_an_obstacle_is_shown_with_its_place_and_hint(tmp_path: Path, capsys: Capture) -> None:
    module = copy_module("text_vocab", tmp_path)
    with meta_graph(module) as graph:
        graph.collection_def["queue_runners"].node_list.value.append("x")
    assert main(["inspect", str(module)]) == 0
    out = capsys.readouterr().out
    assert "✗ to-saved-model does not go through" in out
    assert "the graph has the collection 'queue_runners'" in out
    assert "variant {}" in out
    assert "hint: export the module again" in out


def test_what_every_kind_of_module_has_is_shown(capsys: Capture) -> None:
    shown = {}
    for name in ("text_vocab", "sparse_input", "partitioned", "ragged_input", "no_variables"):
        main(["inspect", str(MODULES / name)])
        shown[name] = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "string → int64, HashTableV2, from vocabulary.txt" in shown["text_vocab"]
    assert "vocabulary.txt (40 B)" in shown["text_vocab"]
    assert "sparse int64[?, ?]" in shown["sparse_input"]
    assert "ragged int64[?, ?]" in shown["ragged_input"]
    assert "3 parts" in shown["partitioned"]
    assert "no variables" in shown["no_variables"]


def test_callables_are_shown_with_their_traces(tmp_path: Path) -> None:
    bridge.to_saved_model(MODULES / "digits", tmp_path / "out")
    text = inspect_tree(bridge.inspect(tmp_path / "out"), Style(width=100))
    assert "made of a TF1 Hub module by hubbridge" in text
    shown = text.replace("│", " ").split("── callables")[1]
    called = "obj(images, training, return_endpoints) or obj.default(images, training, "
    assert called in " ".join(shown.split())
    assert "with training=False or True, return_endpoints=True" in shown
    assert "3 regularization losses" in shown
    assert "✓ to-hub-module goes through" in text


@pytest.mark.parametrize("name", ["digits", "assets_many", "partitioned_resource", "rnn"])
def test_it_is_readable_at_60_columns_without_colour_or_unicode(name: str) -> None:
    done = hubbridge("inspect", MODULES / name, COLUMNS="60", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout
    # A name or a tensor that is longer than a line stays whole.
    long = [line for line in done.stdout.splitlines()[1:] if len(line) > 60]
    assert all(len(line.replace("|", " ").split()) <= 5 for line in long), long


@pytest.mark.parametrize(
    ("arguments", "code"), [(["absent"], 2), ([], 2), ([str(MODULES / "digits" / "nothing")], 2)]
)
def test_errors_go_to_stderr(arguments: list[str], code: int, capsys: Capture) -> None:
    assert main(["inspect", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")


def test_a_broken_model_is_refused(tmp_path: Path, capsys: Capture) -> None:
    module = copy_module("digits", tmp_path)
    (module / "saved_model.pb").write_bytes(b"<html>")
    assert main(["inspect", str(module), "--json"]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0].startswith("error: it is truncated or no protobuf")


def test_the_command_takes_what_the_function_takes() -> None:
    options = set(inspect.signature(bridge.inspect).parameters)
    given = set(inspect.signature(command).parameters) - {"as_json", "variables", "ops"}
    assert given == options


def test_tensorflow_is_not_imported() -> None:
    code = (
        "import sys; from bridge.cli import main\n"
        f"assert main(['inspect', {str(MODULES / 'digits')!r}]) == 0\n"
        "heavy = {'tensorflow', 'tensorflow_hub', 'keras', 'numpy', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
