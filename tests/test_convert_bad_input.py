"""Whatever is wrong with SOURCE or DEST: one clear error, no DEST, nothing left beside it."""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bridge
from bridge import (
    DestinationError,
    HubBridgeError,
    RefusedError,
    UnsupportedError,
    UsageError,
    source,
)
from bridge.cli import main
from bridge.saved_model import SavedModelWriter
from tests.conftest import TESTDATA

MODULES = TESTDATA / "modules"
FILES = ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001")
SMALL = ("text_vocab", "toy_image_ref", "control_flow_resource")


@pytest.fixture
def digits(module_dir: Callable[[str], Path]) -> Path:
    return module_dir("digits")


@pytest.fixture
def module(digits: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(digits, tmp_path / "module"))


# -- broken files -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_a_truncated_graph_is_refused_at_every_length(name: str, tmp_path: Path) -> None:
    module = Path(shutil.copytree(MODULES / name, tmp_path / "module"))
    data = (module / "saved_model.pb").read_bytes()
    lengths = {0, 1, 2, 3, 10, len(data) - 1, *range(0, len(data), len(data) // 25 + 1)}
    for length in sorted(lengths):
        (module / "saved_model.pb").write_bytes(data[:length])
        _refused_or_converted(module, tmp_path / "out", may_succeed=False)


@pytest.mark.parametrize("file", FILES[1:])
def test_a_truncated_checkpoint_is_refused_at_every_length(file: str, tmp_path: Path) -> None:
    module = Path(shutil.copytree(MODULES / "toy_image_ref", tmp_path / "module"))
    data = (module / file).read_bytes()
    for length in range(0, len(data), len(data) // 25 + 1):
        (module / file).write_bytes(data[:length])
        _refused_or_converted(module, tmp_path / "out", may_succeed=False)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", SMALL)
def test_garbled_bytes_never_crash(file: str, name: str, tmp_path: Path) -> None:
    module = Path(shutil.copytree(MODULES / name, tmp_path / "module"))
    original = (module / file).read_bytes()

    @settings(
        max_examples=30,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 1 << 32), st.integers(1, 6))
    def check(seed: int, flips: int) -> None:
        data = bytearray(original)
        choice = random.Random(seed)
        for _ in range(flips):
            data[choice.randrange(len(data))] = choice.randrange(256)
        (module / file).write_bytes(data)
        _refused_or_converted(module, tmp_path / "out")

    check()


def test_every_byte_of_the_checkpoint_is_covered_by_a_checksum(tmp_path: Path) -> None:
    module = Path(shutil.copytree(MODULES / "text_vocab", tmp_path / "module"))
    for file in FILES[1:]:
        data = bytearray((module / file).read_bytes())
        for position in range(0, len(data), 11):
            data[position] ^= 0x10
            (module / file).write_bytes(data)
            _refused_or_converted(module, tmp_path / "out", may_succeed=False)
            data[position] ^= 0x10
        (module / file).write_bytes(data)


def _refused_or_converted(module: Path, out: Path, *, may_succeed: bool = True) -> None:
    try:
        bridge.to_saved_model(module, out)
    except (UnsupportedError, RefusedError):
        assert not out.exists()
    else:
        assert may_succeed
        shutil.rmtree(out)
    assert sorted(path.name for path in out.parent.iterdir()) == ["module"]


def test_a_file_that_cannot_be_read_is_named(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open = os.open

    def deny(path: Path, *args: int) -> int:
        if Path(path).name == "saved_model.pb":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_open(path, *args)

    monkeypatch.setattr(os, "open", deny)
    with pytest.raises(bridge.SourceNotFoundError, match="Permission denied") as caught:
        bridge.to_saved_model(module, tmp_path / "out")
    assert "saved_model.pb" in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
@pytest.mark.parametrize("file", [*FILES, "."])
def test_permissions_are_respected(file: str, module: Path, tmp_path: Path) -> None:
    (module / file).chmod(0)
    try:
        with pytest.raises(bridge.SourceNotFoundError, match="Permission denied"):
            bridge.to_saved_model(module, tmp_path / "out")
    finally:
        (module / file).chmod(0o755)


# -- DEST --------------------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["file", "link to a file", "link to a directory", "dangling link"])
def test_a_dest_that_is_no_directory_is_refused(
    kind: str, overwrite: bool, digits: Path, tmp_path: Path
) -> None:
    dest, target = tmp_path / "dest", tmp_path / "target"
    if kind == "file":
        dest.write_text("mine")
    else:
        if kind == "link to a file":
            target.write_text("mine")
        if kind == "link to a directory":
            target.mkdir()
        dest.symlink_to(target)
    before = _tree(tmp_path)
    with pytest.raises(DestinationError, match="is no directory"):
        bridge.to_saved_model(digits, dest, overwrite=overwrite)
    assert _tree(tmp_path) == before


@pytest.mark.parametrize("dry_run", [False, True])
def test_an_existing_dest_is_refused_without_overwrite(
    dry_run: bool, digits: Path, tmp_path: Path
) -> None:
    (tmp_path / "dest").mkdir()
    with pytest.raises(DestinationError, match="exists already") as caught:
        bridge.to_saved_model(digits, tmp_path / "dest", dry_run=dry_run)
    assert "--overwrite" in str(caught.value.hint)
    assert _tree(tmp_path) == {"dest": None}


def test_overwrite_replaces_the_old_dest_whole(digits: Path, tmp_path: Path) -> None:
    old = tmp_path / "dest"
    (old / "variables").mkdir(parents=True)
    (old / "stale").write_text("x")
    (old / "saved_model.pb").write_text("old")
    bridge.to_saved_model(digits, old, overwrite=True)
    bridge.to_saved_model(digits, tmp_path / "fresh")
    assert _tree(old) == _tree(tmp_path / "fresh")
    assert {path.name for path in tmp_path.iterdir()} == {"dest", "fresh"}


@pytest.mark.parametrize("dry_run", [False, True])
def test_overwrite_replaces_saved_models_only(dry_run: bool, digits: Path, tmp_path: Path) -> None:
    (tmp_path / "home" / "saved_model.pb").mkdir(parents=True)
    (tmp_path / "home" / "letters").write_text("dear")
    before = _tree(tmp_path)
    with pytest.raises(DestinationError, match="something else than a SavedModel") as caught:
        bridge.to_saved_model(digits, tmp_path / "home", overwrite=True, dry_run=dry_run)
    assert "another DEST" in str(caught.value.hint)
    assert _tree(tmp_path) == before


def test_overwrite_replaces_an_empty_directory(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "dest").mkdir()
    bridge.to_saved_model(digits, tmp_path / "dest", overwrite=True)
    assert (tmp_path / "dest" / "saved_model.pb").is_file()


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_dest_below_a_loop_of_links_is_refused(
    dry_run: bool, digits: Path, tmp_path: Path
) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    if dry_run and sys.version_info >= (3, 13):
        pytest.skip("Path.resolve follows loops as far as it can, and nothing is made")
    with pytest.raises(DestinationError):
        bridge.to_saved_model(digits, tmp_path / "a" / "dest", dry_run=dry_run)


@pytest.mark.skipif(os.name == "nt", reason="no umask")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_dest_has_the_permissions_of_a_new_directory(
    mask: int, digits: Path, tmp_path: Path
) -> None:
    old = os.umask(mask)
    try:
        bridge.to_saved_model(digits, tmp_path / "dest")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "dest").stat().st_mode) == 0o777 & ~mask


def test_an_asset_that_cannot_be_copied_is_an_error_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = Path(shutil.copytree(MODULES / "text_vocab", tmp_path / "module"))
    asset = module / "assets" / "vocabulary.txt"

    def deny(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(asset))

    monkeypatch.setattr(SavedModelWriter, "write", deny)
    with pytest.raises(bridge.SourceNotFoundError, match="Permission denied") as caught:
        bridge.to_saved_model(module, tmp_path / "out")
    assert caught.value.where.path == str(asset)
    assert not (tmp_path / "out").exists()


def test_progress_ends_at_the_total(digits: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    bridge.to_saved_model(
        digits, tmp_path / "out", progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1][0] == seen[-1][1]


def test_a_file_that_becomes_a_link_is_not_read(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_tree = source.check_tree

    def exchange(root: Path) -> None:
        check_tree(root)
        (module / "saved_model.pb").rename(tmp_path / "elsewhere")
        (module / "saved_model.pb").symlink_to(tmp_path / "elsewhere")

    monkeypatch.setattr(source, "check_tree", exchange)
    with pytest.raises(bridge.UnsafeError, match="link"):
        bridge.to_saved_model(module, tmp_path / "out")


def test_an_error_of_a_pass_tells_a_traceback_which(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise bridge.MalformedError("broken")

    monkeypatch.setattr("bridge.passes.check_ops.CheckOps.rewrite", fail)
    with pytest.raises(bridge.MalformedError) as caught:
        bridge.to_saved_model(module, tmp_path / "out")
    assert str(caught.value) == "broken"
    assert caught.value.__notes__ == ["in pass check-ops, after strip-placement, prune"]


@pytest.mark.parametrize("dest", ["", "a\0b"])
def test_a_dest_that_is_no_path_is_refused(dest: str, digits: Path) -> None:
    with pytest.raises(UsageError, match="DEST is no path"):
        bridge.to_saved_model(digits, dest)


def test_a_dest_below_a_file_is_refused(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DestinationError, match="can't be written: Not a directory"):
        bridge.to_saved_model(digits, tmp_path / "file" / "dest")
    assert _tree(tmp_path) == {"file": b"mine"}


def test_a_dest_of_too_long_a_name_is_refused(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(DestinationError, match="File name too long"):
        bridge.to_saved_model(digits, tmp_path / ("x" * 300))


def test_a_read_only_parent_is_refused(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = Path.mkdir

    def deny(path: Path, *args: Any, **options: Any) -> None:
        if path.parent == tmp_path:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        mkdir(path, *args, **options)

    monkeypatch.setattr(Path, "mkdir", deny)
    with pytest.raises(DestinationError, match="Read-only file system"):
        bridge.to_saved_model(digits, tmp_path / "dest")
    assert _tree(tmp_path) == {}


@pytest.mark.parametrize("dest", ["module", "module/out", "module/variables/deep/out", "."])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_dest_in_or_around_the_source_is_refused(
    dest: str, overwrite: bool, module: Path, tmp_path: Path
) -> None:
    before = _tree(tmp_path)
    with pytest.raises(DestinationError):
        bridge.to_saved_model(module, tmp_path / dest, overwrite=overwrite)
    assert _tree(tmp_path) == before


def test_a_dest_that_leads_into_the_source_by_a_link_is_refused(
    module: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(module)
    with pytest.raises(DestinationError, match="inside one another"):
        bridge.to_saved_model(module, tmp_path / "link" / "out")


def test_a_dest_that_holds_the_source_archive_is_not_overwritten(
    module: Path, tmp_path: Path
) -> None:
    dest = tmp_path / "dest"
    archive = shutil.make_archive(str(dest / "module"), "zip", module)
    (dest / "saved_model.pb").write_text("old")
    with pytest.raises(DestinationError, match="inside one another"):
        bridge.to_saved_model(archive, dest, overwrite=True)
    assert Path(archive).is_file()


# -- interrupted, or out of room -----------------------------------------------------------------

STEPS = [
    "bridge.output.write_bundle",
    "pathlib.Path.write_bytes",
    "shutil.copyfileobj",
]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_a_full_disk_leaves_nothing_and_keeps_the_old_dest(
    step: str, overwrite: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest = _old_dest(tmp_path, overwrite)
    before = _tree(tmp_path)

    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(step, full)
    with pytest.raises(DestinationError, match="No space left on device"):
        bridge.to_saved_model(MODULES / "text_vocab", dest, overwrite=overwrite)
    assert _tree(tmp_path) == before


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_ctrl_c_leaves_nothing_and_keeps_the_old_dest(
    step: str, overwrite: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest = _old_dest(tmp_path, overwrite)
    before = _tree(tmp_path)

    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(step, interrupt)
    arguments = ["to-saved-model", str(MODULES / "text_vocab"), str(dest)]
    assert main([*arguments, "--overwrite"] if overwrite else arguments) == 130
    assert _tree(tmp_path) == before


@pytest.mark.parametrize("failing", [1, 2])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "Input/output error")])
def test_an_old_dest_comes_back_when_the_swap_fails(
    failing: int,
    error: BaseException,
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dest = _old_dest(tmp_path, overwrite=True)
    before = _tree(tmp_path)
    rename, calls = Path.rename, 0

    def fail(path: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises((KeyboardInterrupt, DestinationError)):
        bridge.to_saved_model(digits, dest, overwrite=True)
    assert _tree(tmp_path) == before


def test_an_error_of_the_source_keeps_the_old_dest(module: Path, tmp_path: Path) -> None:
    data = bytearray((module / FILES[2]).read_bytes())
    data[-1] ^= 1
    (module / FILES[2]).write_bytes(data)
    dest = _old_dest(tmp_path, overwrite=True)
    before = _tree(tmp_path)
    with pytest.raises(bridge.MalformedError, match="checksum"):
        bridge.to_saved_model(module, dest, overwrite=True)
    assert _tree(tmp_path) == before


def test_what_appears_at_dest_meanwhile_is_kept(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = SavedModelWriter.write

    def write_slowly(writer: SavedModelWriter, directory: Path) -> None:
        write(writer, directory)
        (tmp_path / "dest").mkdir()
        (tmp_path / "dest" / "mine").write_text("mine")

    monkeypatch.setattr(SavedModelWriter, "write", write_slowly)
    with pytest.raises(DestinationError, match="not empty"):
        bridge.to_saved_model(digits, tmp_path / "dest")
    assert _tree(tmp_path) == {"dest": None, "dest/mine": b"mine"}


# -- what may be let through -----------------------------------------------------------------------


def test_an_unknown_variant_is_refused_with_those_there_are(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\{gpu, train\}") as caught:
        bridge.to_saved_model(digits, tmp_path / "out", variant={"train", "gpu"})
    assert "{}, {train}" in str(caught.value.hint)


def test_a_single_string_is_no_set_of_names(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="allow_ops takes several names"):
        bridge.to_saved_model(digits, tmp_path / "out", allow_ops="ReadFile")
    with pytest.raises(TypeError, match="variant takes several names"):
        bridge.to_saved_model(digits, tmp_path / "out", variant="train")


def test_every_error_is_one_that_users_can_catch(tmp_path: Path) -> None:
    with pytest.raises(HubBridgeError):
        bridge.to_saved_model(tmp_path / "absent", tmp_path / "out")


def _old_dest(directory: Path, overwrite: bool) -> Path:
    dest = directory / "dest"
    if overwrite:
        dest.mkdir()
        (dest / "saved_model.pb").write_text("old")
    return dest


def _tree(directory: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() if path.is_file() else None
        for path in directory.rglob("*")
    }
