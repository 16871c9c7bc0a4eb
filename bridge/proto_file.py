"""Reading a protocol buffer from a file of a model."""

from __future__ import annotations

import os
from io import BufferedReader
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from bridge.bundle.files import open_plain_file
from bridge.errors import MalformedError, SourceNotFoundError, Where
from bridge.proto import MAX_MESSAGE_BYTES

_Proto = TypeVar("_Proto", bound=Message)


def read_proto(message: type[_Proto], path: Path) -> _Proto:
    """Reads a file that holds one message.

    Raises:
      MalformedError: the file is absent, too large, or holds no such message.
      UnsafeError: it is a link, or no plain file.
      SourceNotFoundError: it can't be read.
    """
    if not os.path.lexists(path):
        raise MalformedError("the file is missing", where=Where(path))
    if path.is_dir():
        raise MalformedError("a directory stands where the file should", where=Where(path))
    try:
        # The directory was checked for links, but it may have changed since: none is followed here.
        with open_plain_file(path) as plain, BufferedReader(plain) as file:
            size = os.fstat(plain.fileno()).st_size
            if size > MAX_MESSAGE_BYTES:
                raise MalformedError(
                    f"{size} bytes are more than a protobuf holds", where=Where(path)
                )
            return message.FromString(file.read(size))
    except OSError as error:
        raise SourceNotFoundError(
            f"can't read the file: {error.strerror}", where=Where(path)
        ) from error
    except DecodeError as error:
        raise MalformedError(
            "it is truncated or no protobuf",
            where=Where(path),
            hint="fetch or unpack the model again",
        ) from error
