"""Every form that SOURCE may have."""

from __future__ import annotations

import errno
import io
import shutil
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import bridge
from bridge import (
    MalformedError,
    MissingExtraError,
    SourceNotFoundError,
    UnsafeError,
    UsageError,
    WrongKindError,
    _archive,
)
from bridge.cli import main
from bridge.source import open_source

FORMATS = ["tar", "gztar", "bztar", "xztar", "zip"]


@pytest.fixture
def module(module_dir: Callable[[str], Path]) -> Path:
    return module_dir("text_vocab")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory for temporary files, to see that none is left."""
    directory = tmp_path / "tmp"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


@pytest.mark.parametrize("top", [True, False], ids=["packed from within", "packed as a folder"])
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["text_vocab", "partitioned_resource"])
def test_an_archive_converts_to_the_same_bytes_as_its_directory(
    name: str,
    form: str,
    top: bool,
    module_dir: Callable[[str], Path],
    tmp_path: Path,
    temporary: Path,
) -> None:
    module = module_dir(name)
    root, base = (module, None) if top else (module.parent, module.name)
    archive = shutil.make_archive(str(tmp_path / "module"), form, root, base)
    bridge.to_saved_model(module, tmp_path / "expected")
    bridge.to_saved_model(archive, tmp_path / "out")
    assert _tree(tmp_path / "out") == _tree(tmp_path / "expected")
    assert list(temporary.iterdir()) == []


def test_what_an_archiver_adds_beside_the_model_does_not_matter(
    module: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "module.zip", "w") as archive:
        archive.writestr("__MACOSX/._text_vocab", b"")
        for file in module.rglob("*"):
            archive.write(file, file.relative_to(module.parent))
    with open_source(tmp_path / "module.zip") as directory:
        assert directory.name == module.name


def test_an_error_in_an_archive_speaks_of_the_archive(
    module: Path, tmp_path: Path, temporary: Path
) -> None:
    copy = Path(shutil.copytree(module, tmp_path / "module"))
    (copy / "saved_model.pb").write_bytes(b"\xff")
    archive = Path(shutil.make_archive(str(copy), "zip", copy))
    with pytest.raises(bridge.MalformedError) as caught:
        bridge.to_saved_model(archive, tmp_path / "out")
    assert caught.value.where.path == archive / "saved_model.pb"
    assert list(temporary.iterdir()) == []


def test_a_directory_may_itself_be_reached_by_a_link(module: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(module)
    with open_source(tmp_path / "link") as directory:
        assert (directory / "saved_model.pb").is_file()


@pytest.mark.parametrize("source", ["", "a\0b"])
def test_a_source_that_is_no_path_is_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="SOURCE is no path"):
        bridge.to_saved_model(source, tmp_path / "out")


def test_an_absent_source_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = tmp_path / "absent"
    with pytest.raises(SourceNotFoundError, match="No such file"):
        bridge.to_saved_model(absent, tmp_path / "out")
    assert main(["to-saved-model", str(absent), str(tmp_path / "out")]) == 2
    assert str(absent) in capsys.readouterr().err


# -- limits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["gztar", "zip"])
@pytest.mark.parametrize(("limit", "value"), [("MAX_ARCHIVE_FILES", 4), ("MAX_ARCHIVE_BYTES", 999)])
def test_an_archive_past_the_limits_is_refused(
    form: str,
    limit: str,
    value: int,
    module: Path,
    tmp_path: Path,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive = shutil.make_archive(str(tmp_path / "module"), form, module)
    monkeypatch.setattr(_archive, limit, value)
    with pytest.raises(UnsafeError, match="unpacks to more than"):
        bridge.to_saved_model(archive, tmp_path / "out")
    assert list(temporary.iterdir()) == []


def test_directories_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for number in range(9):
            info = tarfile.TarInfo(f"d{number}")
            info.type = tarfile.DIRTYPE
            tar.addfile(info)
    monkeypatch.setattr(_archive, "MAX_ARCHIVE_FILES", 8)
    with pytest.raises(UnsafeError, match="unpacks to more than 8 files"):
        bridge.to_saved_model(tmp_path / "a.tar", tmp_path / "out")


def test_padding_behind_the_end_counts_too(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(module, ".")
    with path.open("ab") as file:
        file.write(bytes(1 << 20))
    monkeypatch.setattr(_archive, "MAX_ARCHIVE_BYTES", 1 << 20)
    with pytest.raises(UnsafeError, match="unpacks to more than"):
        bridge.to_saved_model(path, tmp_path / "out")


def test_no_room_to_unpack_is_not_blamed_on_the_archive(
    module: Path, tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = shutil.make_archive(str(tmp_path / "module"), "gztar", module)
    real_open = Path.open

    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(
        Path,
        "open",
        lambda path, mode="r", *args: Full() if mode == "xb" else real_open(path, mode, *args),
    )
    with pytest.raises(UsageError, match="No space left on device") as caught:
        bridge.to_saved_model(archive, tmp_path / "out")
    assert "TMPDIR" in str(caught.value.hint)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE], ids=["pax", "global pax"])
def test_many_headers_before_an_entry_are_refused(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("first"))
        for number in range(20):
            info = tarfile.TarInfo("header")
            info.type = kind
            value = b" key%d=%s\n" % (number, b"x" * (1 << 20))
            data = str(len(value) + 7).encode() + value
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        tar.addfile(tarfile.TarInfo("second"))
    with pytest.raises(bridge.MalformedError, match="header of more than"):
        bridge.to_saved_model(tmp_path / "a.tar.gz", tmp_path / "out")


def test_headers_count_toward_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(9):
            info = tarfile.TarInfo(f"f{number}")
            info.pax_headers = {"comment": "x" * 5000}
            tar.addfile(info)
    monkeypatch.setattr(_archive, "MAX_ARCHIVE_BYTES", 40_000)
    with pytest.raises(UnsafeError, match="unpacks to more than"):
        bridge.to_saved_model(tmp_path / "a.tar", tmp_path / "out")
    monkeypatch.undo()
    monkeypatch.setattr(_archive, "_MAX_TAR_HEADERS", 40_000)
    with pytest.raises(UnsafeError, match="too many headers"):
        bridge.to_saved_model(tmp_path / "a.tar", tmp_path / "out")


# -- URL handles ---------------------------------------------------------------------------------

HANDLE = "https://tfhub.dev/google/text/1"


def test_a_url_handle_goes_through_tensorflow_hub(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def resolve(handle: str) -> str:
        asked.append(handle)
        return str(module)

    _install_hub(monkeypatch, resolve)
    report = bridge.to_saved_model(HANDLE, tmp_path / "out")
    assert asked == [HANDLE]
    assert report.source == HANDLE
    assert (tmp_path / "out" / "saved_model.pb").is_file()


def test_a_url_handle_without_tensorflow_hub_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_hub", None)
    with pytest.raises(MissingExtraError):
        bridge.to_saved_model(HANDLE, tmp_path / "out")
    assert main(["to-saved-model", HANDLE, str(tmp_path / "out")]) == 2
    assert "pip install 'hubbridge[parity]'" in capsys.readouterr().err


def test_a_failing_download_is_an_error_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(handle: str) -> str:
        raise RuntimeError("HTTP Error 404: Not Found")

    _install_hub(monkeypatch, resolve)
    with pytest.raises(SourceNotFoundError, match="404"):
        bridge.to_saved_model(HANDLE, tmp_path / "out")


def _install_hub(monkeypatch: pytest.MonkeyPatch, resolve: Callable[[str], str]) -> None:
    hub = ModuleType("tensorflow_hub")
    hub.resolve = resolve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorflow_hub", hub)


def _tree(directory: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() if path.is_file() else None
        for path in directory.rglob("*")
    }


@pytest.mark.parametrize("seed", range(12))
def test_a_tar_that_is_garbled_at_its_start_is_a_broken_archive(tmp_path: Path, seed: int) -> None:
    import gzip
    import random

    # Names and times in a tar change where its compressed bytes stand, so several are tried.
    content = random.Random(seed).randbytes(4000)
    data = bytearray(gzip.compress(content, mtime=0))
    data[40:60] = bytes(20)
    path = tmp_path / "module.tar.gz"
    path.write_bytes(data)
    with pytest.raises(MalformedError, match="archive is broken"), open_source(path):
        pass


def test_a_compressed_file_that_is_no_tar_is_no_archive(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "notes.gz"
    path.write_bytes(gzip.compress(b"nothing but notes" * 100))
    with pytest.raises(WrongKindError, match="no archive"), open_source(path):
        pass


@pytest.mark.parametrize("convert", [bridge.to_saved_model, bridge.to_hub_module])
def test_of_a_directory_of_versions_the_newest_is_proposed(
    convert: Callable[..., object], module: Path, tmp_path: Path
) -> None:
    for version in ("9", "10", "latest"):
        shutil.copytree(module, tmp_path / "served" / version)
    with pytest.raises(WrongKindError, match="each of its versions") as caught:
        convert(tmp_path / "served", tmp_path / "out")
    assert caught.value.hint == f"did you mean {tmp_path / 'served' / '10'}?"


def test_a_numbered_directory_without_a_model_is_no_version(module: Path, tmp_path: Path) -> None:
    (tmp_path / "served" / "1").mkdir(parents=True)
    with pytest.raises(WrongKindError, match=r"there is no tfhub_module\.pb"):
        bridge.to_saved_model(tmp_path / "served", tmp_path / "out")
    shutil.copytree(module, tmp_path / "whole")
    (tmp_path / "whole" / "1").mkdir()
    shutil.copy(module / "saved_model.pb", tmp_path / "whole" / "1")
    bridge.to_saved_model(tmp_path / "whole", tmp_path / "out")
