"""What `inspect` says of what is no model, or a broken one: one clear error, or what it can see."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

import bridge
from bridge.cli._inspect_tree import inspect_tree
from bridge.cli._terminal import Style
from tests.attacks import builders, saved_models
from tests.attacks.edit import copy_module, meta_graph, saved_model
from tests.cli.helpers import MODULES


def test_absent(tmp_path: Path) -> None:
    with pytest.raises(bridge.SourceNotFoundError, match="absent"):
        bridge.inspect(tmp_path / "absent")


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_no_path(path: str) -> None:
    with pytest.raises(bridge.UsageError, match="no path"):
        bridge.inspect(path)


def test_a_file_that_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    with pytest.raises(bridge.WrongKindError, match="no archive"):
        bridge.inspect(tmp_path / "file")


def test_an_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(bridge.WrongKindError, match=r"there is no saved_model\.pb") as caught:
        bridge.inspect(tmp_path)
    assert caught.value.hint == "give the directory that holds saved_model.pb"


def test_a_model_in_text_form(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pbtxt").write_text("meta_graphs {}")
    with pytest.raises(bridge.WrongKindError) as caught:
        bridge.inspect(tmp_path)
    assert caught.value.hint is not None
    assert "saved_model.pbtxt is not read" in caught.value.hint


def test_a_directory_of_versions(tmp_path: Path) -> None:
    shutil.copytree(MODULES / "digits", tmp_path / "3")
    with pytest.raises(bridge.WrongKindError) as caught:
        bridge.inspect(tmp_path)
    assert caught.value.hint == f"did you mean {tmp_path / '3'}?"


@pytest.mark.parametrize("kept", [1, 100, 5000])
def test_a_graph_that_is_cut_off(kept: int, tmp_path: Path) -> None:
    module = copy_module("digits", tmp_path)
    path = module / "saved_model.pb"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(bridge.MalformedError) as caught:
        bridge.inspect(module)
    assert caught.value.where.path == path
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(("owner", "function"), [(os, "open"), (Path, "lstat")])
def test_a_model_without_permission(
    owner: object, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    # Root may read everything, so that the system itself can't be asked to refuse.
    monkeypatch.setattr(owner, function, deny)
    with pytest.raises(bridge.SourceNotFoundError, match="Permission denied") as caught:
        bridge.inspect(MODULES / "digits")
    assert caught.value.exit_code == 2


def test_a_checkpoint_that_is_cut_off(tmp_path: Path) -> None:
    module = copy_module("digits", tmp_path)
    index = module / "variables" / "variables.index"
    index.write_bytes(index.read_bytes()[:-20])
    with pytest.raises(bridge.MalformedError) as caught:
        bridge.inspect(module)
    assert caught.value.where.path == index


def test_a_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    module = copy_module("digits", tmp_path)
    shutil.rmtree(module / "variables")
    report = bridge.inspect(module)
    assert report.variables.count == report.variables.not_stored == 14
    # What dtype and shape say is all that is known.
    assert report.variables.bytes == bridge.inspect(MODULES / "digits").variables.bytes
    assert report.conversion is not None
    assert not report.conversion.possible


def test_an_asset_that_is_not_there(tmp_path: Path) -> None:
    module = copy_module("text_vocab", tmp_path)
    (module / "assets" / "vocabulary.txt").unlink()
    assert bridge.inspect(module).assets == [bridge.AssetInfo("vocabulary.txt", None)]


def test_a_shape_of_more_bytes_than_there_are(tmp_path: Path) -> None:
    module = copy_module("digits", tmp_path)
    shutil.rmtree(module / "variables")
    with saved_model(module) as message:
        for graph in message.meta_graphs:
            for node in graph.graph_def.node:
                if node.op == "VariableV2":
                    node.attr["shape"].shape.ClearField("dim")
                    for _ in range(10_000):
                        node.attr["shape"].shape.dim.add(size=(1 << 62))
    report = bridge.inspect(module)
    assert {one.bytes for one in report.variables.items} == {(1 << 63) - 1}
    assert inspect_tree(report, Style())


def test_a_collection_of_another_kind(tmp_path: Path) -> None:
    module = copy_module("digits", tmp_path)
    with meta_graph(module) as graph:
        graph.collection_def["variables"].node_list.value.append("x")
    with pytest.raises(bridge.MalformedError, match="'variables' is no list of messages") as caught:
        bridge.inspect(module)
    assert caught.value.where.variant == "{}"


def test_names_of_a_stranger_reach_no_terminal(tmp_path: Path) -> None:
    module = copy_module("digits", tmp_path)
    evil = "\x1b]0;owned\x07[bold red]x[/]\r\n"
    with meta_graph(module) as graph:
        graph.signature_def[evil].CopyFrom(graph.signature_def["default"])
        graph.graph_def.node.add(name="evil", op=evil)
        graph.meta_info_def.tensorflow_version = evil
        graph.collection_def["update_ops"].node_list.value.append(evil)
    with saved_model(module) as message:
        message.meta_graphs[1].meta_info_def.tags.append(evil)
    report = bridge.inspect(module)
    assert json.loads(json.dumps(report.to_dict()))
    text = inspect_tree(report, Style(width=60), variables=True, ops=True)
    assert not [c for c in text if not c.isprintable() and c != "\n"]
    assert "\\x1b]0;owned" in text
    assert "[bold red]" in text


def _archived(source: Path, path: Path) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(source.rglob("*")):
                archive.write(file, file.relative_to(source))
    else:
        with tarfile.open(path, "w:gz") as tar:
            tar.add(source, arcname=".")
    return path


@pytest.mark.parametrize("name", ["module.tar.gz", "module.zip"])
def test_archives_say_what_the_directory_says(name: str, tmp_path: Path) -> None:
    wanted = bridge.inspect(MODULES / "text_vocab")
    archive = _archived(MODULES / "text_vocab", tmp_path / name)
    found = bridge.inspect(archive)
    assert found.source == str(archive)
    found.source, found.seconds = wanted.source, wanted.seconds
    assert found == wanted


def test_errors_in_an_archive_name_the_archive(tmp_path: Path) -> None:
    module = copy_module("text_vocab", tmp_path)
    (module / "saved_model.pb").write_bytes(b"<html>")
    archive = _archived(module, tmp_path / "module.tar.gz")
    with pytest.raises(bridge.MalformedError) as caught:
        bridge.inspect(archive)
    assert caught.value.where.path == archive / "saved_model.pb"


def test_obstacles_in_an_archive_name_no_directory_that_nobody_has_seen(tmp_path: Path) -> None:
    module = copy_module("text_vocab", tmp_path)
    (module / "assets" / "vocabulary.txt").unlink()
    report = bridge.inspect(_archived(module, tmp_path / "module.tar.gz"))
    assert report.conversion is not None
    (obstacle,) = report.conversion.obstacles
    assert obstacle.file == "saved_model.pb"
    assert "hubbridge-" not in json.dumps(report.to_dict())


# -- everything that was ever tried -----------------------------------------------------------


@pytest.mark.parametrize("attack", builders.ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_by_a_module_is_an_error_or_an_obstacle(
    attack: builders.Attack, tmp_path: Path
) -> None:
    module = copy_module(attack.module, tmp_path)
    _inspect(attack.build(module) or module, attack.error)


@pytest.mark.parametrize("attack", saved_models.ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_by_a_saved_model_is_an_error_or_an_obstacle(
    attack: saved_models.Attack, tmp_path: Path
) -> None:
    _inspect(attack.build(tmp_path), attack.error)


def _inspect(source: Path, error: type[bridge.HubBridgeError]) -> None:
    report = code = None
    try:
        report = bridge.inspect(source)
    except bridge.HubBridgeError as found:
        code = found.exit_code
    if report is None:
        assert code == error.exit_code
    else:
        assert inspect_tree(report, Style(), variables=True, ops=True)
        assert report.conversion is not None


@pytest.mark.parametrize("name", ["digits", "text_vocab", "partitioned"])
def test_garbled_bytes_are_an_error_or_are_seen(name: str, tmp_path: Path) -> None:
    module = copy_module(name, tmp_path)
    path = module / "saved_model.pb"
    whole, rng = path.read_bytes(), random.Random(0)
    seen = 0
    for _ in range(40):
        garbled = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            garbled[rng.randrange(len(garbled))] = rng.randrange(256)
        path.write_bytes(garbled)
        try:
            report = bridge.inspect(module, conversion=False)
        except bridge.HubBridgeError:
            continue
        assert inspect_tree(report, Style(), variables=True, ops=True)
        seen += 1
    assert seen
