"""Opening the plain files of a checkpoint, and nothing else."""

from __future__ import annotations

import os
import stat
from io import FileIO
from pathlib import Path

from bridge.errors import MalformedError, SourceNotFoundError, UnsafeError, Where


def index_name(prefix: str) -> str:
    """Name of the index file (MetaFilename in tensorflow/core/util/tensor_bundle/naming.cc)."""
    return f"{prefix}.index"


def shard_name(prefix: str, shard: int, num_shards: int) -> str:
    """Name of a data shard (DataFilename in tensorflow/core/util/tensor_bundle/naming.cc)."""
    return f"{prefix}.data-{shard:05d}-of-{num_shards:05d}"


def plain_file_size(path: Path) -> int:
    """Returns the size of a file in bytes.

    Raises:
      MalformedError: there is no such file.
      UnsafeError: it is a link, a directory, a device or the like.
      SourceNotFoundError: it can't be looked at.
    """
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        raise MalformedError("a file of the model is missing", where=Where(path)) from None
    except OSError as error:
        raise _unreadable(path, error) from error
    _require_plain(path, status)
    return status.st_size


def open_plain_file(path: Path) -> FileIO:
    """Opens a file to read, unbuffered.

    Raises:
      MalformedError: there is no such file.
      UnsafeError: it is a link, a directory, a device or the like.
      SourceNotFoundError: it can't be read.
    """
    plain_file_size(path)
    # The file may have been exchanged since: follow no link, and don't wait on a pipe.
    flags = os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT"):
        flags |= getattr(os, name, 0)
    try:
        file = FileIO(os.open(path, flags), "rb")
        status = os.fstat(file.fileno())
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        _require_plain(path, status)
    except UnsafeError:
        file.close()
        raise
    return file


def read_into(file: FileIO, view: memoryview, path: Path) -> int:
    """Reads the next bytes of a file, at least one.

    Args:
      file: the open file.
      view: where to; as much as fits is asked for.
      path: the file's name, for errors.

    Returns:
      The number of bytes read.

    Raises:
      MalformedError: the file ends here.
      SourceNotFoundError: it can't be read.
    """
    try:
        count = file.readinto(view)
    except OSError as error:
        raise _unreadable(path, error) from error
    if not count:
        raise MalformedError("the file became shorter while it was read", where=Where(path))
    return count


def _require_plain(path: Path, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise UnsafeError(
            "a file of the model is a symbolic link",
            where=Where(path),
            hint="copy the model with its links resolved (`cp -rL`)",
        )
    if not stat.S_ISREG(status.st_mode):
        raise UnsafeError("a file of the model is not a plain file", where=Where(path))


def _unreadable(path: Path, error: OSError) -> SourceNotFoundError:
    reason = error.strerror or str(error)
    return SourceNotFoundError(f"can't read the file: {reason}", where=Where(path))
