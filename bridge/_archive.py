"""Unpacks the archive of a model by hand.

Plain files and directories only, counted bytes, no links, no `..`: archives come from strangers.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any

from bridge.errors import (
    HubBridgeError,
    MalformedError,
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

_COMPRESSIONS: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\x1f\x8b": gzip.open,  # type: ignore[dict-item]  # the mode is to read, unless given
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
"""What opens a compressed file, by the bytes that it starts with."""

_MAX_TAR_HEADER = 16 << 20
"""Bytes of header that an entry of a tar archive may have; names and the like are far below."""

_MAX_TAR_HEADERS = 256 << 20
"""Bytes of header that a tar archive may have; tarfile keeps some of them in memory."""


def unpack(archive: Path, directory: Path) -> None:
    """Unpacks a .zip, or a .tar with any compression that Python knows.

    Raises:
      SourceNotFoundError: the file can't be read.
      WrongKindError: it is no archive.
      MalformedError: it is a broken one.
      UnsafeError: it would unpack outside of the directory, holds a link, or is too large.
      UsageError: the directory can't be written, or is full.
    """
    where = Where(archive)
    try:
        with archive.open("rb") as file:
            if zipfile.is_zipfile(file):
                _unpack_zip(file, archive, directory)
            else:
                file.seek(0)
                _unpack_tar(file, archive, directory)
    except HubBridgeError:
        raise
    except PermissionError as error:
        raise SourceNotFoundError(f"{archive} can't be read: {error.strerror}") from error
    except Exception as error:  # zipfile, tarfile and the decompressors raise whatever they meet
        raise MalformedError(
            f"the archive is broken: {str(error) or type(error).__name__}",
            where=where,
            hint="fetch it again",
        ) from error


def _check_compression(file: IO[bytes]) -> None:
    """Lets the error out that a compressed file gives, if it is damaged near its start."""
    file.seek(0)
    magic = file.read(6)
    file.seek(0)
    for start, opener in _COMPRESSIONS.items():
        if magic.startswith(start):
            with opener(file) as content:
                left = _MAX_TAR_HEADERS
                while left > 0 and (chunk := content.read(min(_CHUNK, left))):
                    left -= len(chunk)


def _unpack_tar(file: IO[bytes], archive: Path, directory: Path) -> None:
    budget = _Budget(archive)
    try:
        tar = _Tar.open(fileobj=file)
    except tarfile.ReadError as error:
        # tarfile says the same of a damaged archive and of what never was one.
        _check_compression(file)
        raise WrongKindError(
            "the file is no archive that can be read",
            where=Where(archive),
            hint="give a directory, a .tar.gz or a .zip with the model in it",
        ) from error
    headers = end = 0
    with tar:
        while (member := tar.next()) is not None:
            tar.members = []  # tarfile keeps them all, to find one again
            tar.reads.allowance = None
            size = max(member.offset_data - end, 0)
            end = tar.offset
            headers += size
            budget.spend(size)
            if headers > _MAX_TAR_HEADERS:
                raise UnsafeError("the archive has too many headers", where=Where(archive))
            target = _target(directory, member.name, archive)
            if member.isdir():
                budget.spend(0, files=1)
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
            tar.reads.allowance = _MAX_TAR_HEADER
        tar.reads.allowance = None
        _check_end(tar, archive, budget)


def _check_end(tar: _Tar, archive: Path, budget: _Budget) -> None:
    """Tells the end from a broken header, which tarfile takes for the end too."""
    if tar.reads.last != bytes(tarfile.BLOCKSIZE):
        raise MalformedError("the archive is broken or ends early", where=Where(archive))
    while rest := tar.reads.read(_CHUNK):  # to the checksum of the compressed data
        budget.spend(len(rest))


class _Tar(tarfile.TarFile):
    """A tar archive whose headers can't fill the memory.

    tarfile reads a long name whole, and any number of headers before an entry.
    """

    members: list[tarfile.TarInfo]

    def __init__(self, name: Any, mode: Any, fileobj: Any, **options: Any):
        self.reads = _BoundedReads(fileobj)
        super().__init__(name, mode, self.reads, **options)


class _BoundedReads:
    """A file of which so much can be read.

    Attributes:
      last: what was read last.
      allowance: how many bytes may be read from now on; None for as many as there are.
    """

    def __init__(self, file: IO[bytes]):
        self._file = file
        self.last = b""
        self.allowance: int | None = _MAX_TAR_HEADER

    def read(self, size: int) -> bytes:
        if self.allowance is not None:
            if not 0 <= size <= self.allowance:
                raise tarfile.ReadError(f"a header of more than {_MAX_TAR_HEADER} bytes")
            self.allowance -= size
        self.last = self._file.read(size)
        return self.last

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _unpack_zip(file: IO[bytes], archive: Path, directory: Path) -> None:
    budget = _Budget(archive)
    with zipfile.ZipFile(file) as zip_file:
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
                budget.spend(0, files=1)
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
        self.archive = archive
        self._files = 0
        self._bytes = 0

    def spend(self, size: int, files: int = 0) -> None:
        self._files += files
        self._bytes += size
        if self._files > MAX_ARCHIVE_FILES or self._bytes > MAX_ARCHIVE_BYTES:
            raise UnsafeError(
                f"the archive unpacks to more than {MAX_ARCHIVE_FILES} files or "
                f"{MAX_ARCHIVE_BYTES >> 30} GiB",
                where=Where(self.archive),
                hint="unpack it yourself and give the directory",
            )


def _write(content: IO[bytes], target: Path, budget: _Budget) -> None:
    budget.spend(0, files=1)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = target.open("xb")
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise MalformedError(
            f"{target.name!r} stands in the archive twice", where=Where(budget.archive)
        ) from error
    except OSError as error:
        raise cannot_unpack(error) from error
    with file:
        while chunk := content.read(_CHUNK):
            budget.spend(len(chunk))
            try:
                file.write(chunk)
            except OSError as error:
                raise cannot_unpack(error) from error


def cannot_unpack(error: OSError) -> UsageError:
    """Returns the error to raise where temporary files can't be written."""
    return UsageError(
        f"the archive can't be unpacked in {tempfile.gettempdir()}: {error.strerror}",
        hint="set TMPDIR to a directory with room, or unpack it yourself and give the directory",
    )
