"""Opens SOURCE, whatever form it has, as a plain directory.

Models come from strangers: archives are unpacked by hand (plain files and directories only,
counted bytes, no links, no `..`), and links inside a model are refused.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from bridge.errors import (
    MalformedError,
    MissingExtraError,
    SourceNotFoundError,
    UnsafeError,
    UsageError,
    Where,
    WrongKindError,
)

MAX_ARCHIVE_FILES = 100_000
"""An archive with more entries is refused."""

MAX_ARCHIVE_BYTES = 64 << 30
"""An archive that unpacks to more bytes is refused."""

_CHUNK = 1 << 20
_URL_SCHEMES = ("http://", "https://", "gs://", "s3://", "hdfs://")
_ARCHIVE_ERRORS = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError)


@contextlib.contextmanager
def open_source(source: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields the directory that SOURCE stands for.

    Args:
      source: a directory, a .tar.gz, .tgz, .tar or .zip file, or a URL handle, which goes through
        `tensorflow_hub.resolve`. Archives are unpacked to a temporary directory, which is gone
        afterwards.

    Raises:
      SourceNotFoundError: there is nothing, or it can't be read.
      MissingExtraError: a URL handle without tensorflow-hub installed.
      WrongKindError: a file that is no archive.
      MalformedError: a broken archive.
      UnsafeError: an archive that would unpack outside its directory, or a link in the model.
    """
    text = os.fspath(source)
    if text.startswith(_URL_SCHEMES):
        path = _resolve_handle(text)
    else:
        path = Path(text)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise SourceNotFoundError(
            f"{text} can't be read: {error.strerror}",
            hint="give the directory, archive or URL of a TF1 Hub module",
        ) from error
    if stat.S_ISDIR(mode):
        check_tree(path)
        yield path
    elif stat.S_ISREG(mode):
        with tempfile.TemporaryDirectory(prefix="hubbridge-") as directory:
            _unpack(path, Path(directory))
            yield _model_root(Path(directory))
    else:
        raise WrongKindError(f"{text} is neither a directory nor a file")


def check_tree(root: Path) -> None:
    """Refuses links and special files below a directory; the directory itself may be a link.

    Raises:
      UnsafeError: an entry is a link or no plain file or directory.
      SourceNotFoundError: a directory can't be listed.
    """

    def fail(error: OSError) -> None:
        raise SourceNotFoundError(f"{error.filename} can't be read: {error.strerror}") from error

    for directory, subdirectories, files in os.walk(root, onerror=fail):
        for name in subdirectories + files:
            path = Path(directory, name)
            mode = path.lstat().st_mode
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                raise UnsafeError(
                    "a model may hold plain files and directories only, this is a link or a "
                    "special file",
                    where=Where(path),
                    hint="copy the model with its links resolved (cp -rL)",
                )


def _resolve_handle(handle: str) -> Path:
    try:
        import tensorflow_hub
    except ImportError as error:
        raise MissingExtraError(
            f"{handle} is a URL, and downloading needs tensorflow-hub",
            hint="pip install 'hubbridge[parity]', or download the module and give its path",
        ) from error
    try:
        return Path(tensorflow_hub.resolve(handle))
    except Exception as error:  # tensorflow_hub raises whatever its resolvers do
        raise SourceNotFoundError(f"{handle} can't be downloaded: {error}") from error


def _model_root(directory: Path) -> Path:
    """Returns where the model lies in an unpacked archive: at the top, or one directory down."""
    entries = list(directory.iterdir())
    if len(entries) == 1 and entries[0].is_dir() and entries[0].name != "variables":
        return entries[0]
    return directory


def _unpack(archive: Path, directory: Path) -> None:
    where = Where(archive)
    try:
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, directory)
        elif tarfile.is_tarfile(archive):
            _unpack_tar(archive, directory)
        else:
            raise WrongKindError(
                "the file is no archive that can be read",
                where=where,
                hint="give a directory, a .tar.gz or a .zip with the model in it",
            )
    except PermissionError as error:
        raise SourceNotFoundError(f"{archive} can't be read: {error.strerror}") from error
    except _ARCHIVE_ERRORS as error:
        raise MalformedError(f"the archive is broken: {error}", where=where) from error


def _unpack_tar(archive: Path, directory: Path) -> None:
    budget = _Budget(archive)
    with tarfile.open(archive) as tar:
        for member in tar:
            target = _target(directory, member.name, archive)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
            elif member.isreg():
                content = tar.extractfile(member)
                if content is None:
                    raise MalformedError(f"{member.name!r} has no content", where=Where(archive))
                with content:
                    _write(content, target, budget)
            else:
                raise UnsafeError(
                    f"{member.name!r} is a link or a special file", where=Where(archive)
                )


def _unpack_zip(archive: Path, directory: Path) -> None:
    budget = _Budget(archive)
    with zipfile.ZipFile(archive) as zip_file:
        for info in zip_file.infolist():
            target = _target(directory, info.filename, archive)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UnsafeError(
                    f"{info.filename!r} is a link or a special file", where=Where(archive)
                )
            if info.flag_bits & 1:
                raise MalformedError(f"{info.filename!r} is encrypted", where=Where(archive))
            if info.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                with zip_file.open(info) as content:
                    _write(content, target, budget)


def _target(directory: Path, name: str, archive: Path) -> Path:
    parts = PurePosixPath(name).parts
    if not parts and name not in (".", "./"):
        raise MalformedError("an entry has no name", where=Where(archive))
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or ":" in name:
        raise UnsafeError(f"{name!r} would be unpacked outside the model", where=Where(archive))
    return directory.joinpath(*parts)


class _Budget:
    """Counts files and bytes of an archive, and refuses past the limits."""

    def __init__(self, archive: Path):
        self._archive = archive
        self._files = 0
        self._bytes = 0

    def spend(self, size: int, files: int = 0) -> None:
        self._files += files
        self._bytes += size
        if self._files > MAX_ARCHIVE_FILES or self._bytes > MAX_ARCHIVE_BYTES:
            raise UnsafeError(
                f"the archive unpacks to more than {MAX_ARCHIVE_FILES} files or "
                f"{MAX_ARCHIVE_BYTES >> 30} GiB",
                where=Where(self._archive),
                hint="unpack it yourself and give the directory",
            )


def _write(content: IO[bytes], target: Path, budget: _Budget) -> None:
    budget.spend(0, files=1)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = target.open("xb")
    except FileExistsError as error:
        raise MalformedError(f"{target.name!r} stands in the archive twice") from error
    with file:
        while chunk := content.read(_CHUNK):
            budget.spend(len(chunk))
            file.write(chunk)


def source_name(source: str | os.PathLike[str]) -> str:
    """Returns SOURCE as reports print it.

    Raises:
      UsageError: it is empty.
    """
    text = os.fspath(source)
    if not text:
        raise UsageError("SOURCE is empty")
    return text
