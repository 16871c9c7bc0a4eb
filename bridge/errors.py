"""The one tree of exceptions.

    HubBridgeError                  exit 5 when raised as itself: a bug in hubbridge
    ├── VerificationError           exit 1: the result is not the same as its source
    ├── UsageError                  exit 2: the call must change
    │   ├── SourceNotFoundError     SOURCE does not exist, or can't be read
    │   ├── DestinationError        DEST exists already, or can't be written
    │   └── MissingExtraError       the call needs a package that is not installed
    ├── UnsupportedError            exit 3: the model needs something this version can't do
    └── RefusedError                exit 4: the input is malformed or unsafe
        ├── WrongKindError          well formed perhaps, but not what this command reads
        ├── MalformedError          breaks the rules of its own format
        └── UnsafeError             would read or write outside the model, or run code

Every class knows the exit code that the command line gives for it. Every error says what was
found, where, and, where there is something to do, what to do (`hint`).
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import ClassVar


@dataclass(frozen=True)
class Where:
    """The place in a model that an error or a report entry speaks of; any part may be absent.

    Attributes:
      path: file or directory.
      variant: tags of the graph variant, as `format_tags` prints them.
      signature: name of the signature.
      node: name of the graph node.
    """

    path: str | PathLike[str] | None = None
    variant: str | None = None
    signature: str | None = None
    node: str | None = None

    def __str__(self) -> str:
        parts = (
            f"in {self.path}" if self.path is not None else "",
            f"variant {self.variant}" if self.variant is not None else "",
            f"signature {self.signature!r}" if self.signature is not None else "",
            f"node {self.node!r}" if self.node is not None else "",
        )
        return ", ".join(part for part in parts if part)


class HubBridgeError(Exception):
    """Base of all errors that hubbridge raises on purpose."""

    exit_code: ClassVar[int] = 5

    def __init__(self, message: str, *, where: Where | None = None, hint: str | None = None):
        """Creates the error.

        Args:
          message: what was found, one sentence without a full stop.
          where: the place it was found at.
          hint: what to do next, one sentence without a full stop.
        """
        self.message = message
        self.where = where or Where()
        self.hint = hint
        super().__init__(message)

    def __str__(self) -> str:
        place = str(self.where)
        return f"{self.message} ({place})" if place else self.message


class VerificationError(HubBridgeError):
    """The result of a conversion is not the same as its source, or nothing could be compared."""

    exit_code = 1


class UsageError(HubBridgeError):
    """The call must change: an option or an argument does not fit."""

    exit_code = 2


class SourceNotFoundError(UsageError):
    """SOURCE does not exist, or can't be read."""


class DestinationError(UsageError):
    """DEST exists already, or can't be written."""


class MissingExtraError(UsageError):
    """The call needs a package that is not installed."""


class UnsupportedError(HubBridgeError):
    """The model needs something that this version can't do; the message names it."""

    exit_code = 3


class RefusedError(HubBridgeError):
    """The input is malformed or unsafe."""

    exit_code = 4


class WrongKindError(RefusedError):
    """The input is not of the kind that this command reads."""


class MalformedError(RefusedError):
    """The input breaks the rules of its own format."""


class UnsafeError(RefusedError):
    """The input would read or write outside the model, or run code."""
