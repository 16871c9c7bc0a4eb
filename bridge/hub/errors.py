"""The errors of `bridge.hub`: of the old library's types, and of hubbridge's own tree too.

Code that was written for tensorflow-hub catches ValueError, KeyError, TypeError, RuntimeError and
`tf.errors.OpError`; each class here is one of those and one of `bridge.errors`.
"""

from __future__ import annotations

from bridge.errors import (
    DestinationError,
    HubBridgeError,
    MalformedError,
    SourceNotFoundError,
    UnsafeError,
    UnsupportedError,
    UsageError,
    Where,
    WrongKindError,
)
from bridge.hub._tf import tf


class ArgumentValueError(UsageError, ValueError):
    """An argument, or what `module_fn` built, can't be."""


class ArgumentTypeError(UsageError, TypeError):
    """An argument is of a type that can't be."""


class NoSuchError(UsageError, KeyError, ValueError):
    """The module has no such variant, signature or attached message.

    The old library says KeyError and raises now this, now ValueError.
    """


class CallRuntimeError(UsageError, RuntimeError):
    """The call can't be made here or now."""


class CannotWriteError(DestinationError, RuntimeError):
    """A module can't be written to where it should be."""


class MalformedSpecError(MalformedError, ValueError):
    """The module breaks the rules of its own format."""


class UnsafeSpecError(UnsafeError, ValueError):
    """The module would read or write outside itself."""


class UnsupportedSpecError(UnsupportedError, ValueError):
    """The module needs something that can't be done."""


class WrongKindSpecError(WrongKindError, ValueError):
    """There is a model, but none of the kind that the call reads."""


class MissingModuleError(SourceNotFoundError, tf.errors.NotFoundError, OSError):  # type: ignore[misc]
    """There is no module, or one of its files can't be read."""

    message = ""  # a property of TensorFlow's class stands in the way of the attribute

    def __init__(self, message: str, *, where: Where | None = None, hint: str | None = None):
        tf.errors.NotFoundError.__init__(self, None, None, message)
        _tell(self, message, where, hint)

    def __str__(self) -> str:
        return HubBridgeError.__str__(self)


class OccupiedError(DestinationError, tf.errors.AlreadyExistsError):  # type: ignore[misc]
    """A module can't be written where something else is."""

    message = ""  # see MissingModuleError

    def __init__(self, message: str, *, where: Where | None = None, hint: str | None = None):
        tf.errors.AlreadyExistsError.__init__(self, None, None, message)
        _tell(self, message, where, hint)

    def __str__(self) -> str:
        return HubBridgeError.__str__(self)


def _tell(error: HubBridgeError, message: str, where: Where | None, hint: str | None) -> None:
    """Does what HubBridgeError does to make an error, but for TensorFlow's part of it."""
    error.message, error.where, error.hint = message, where or Where(), hint


_OLD_TYPES: tuple[type[HubBridgeError], ...] = (
    ArgumentValueError,
    CannotWriteError,
    MalformedSpecError,
    UnsafeSpecError,
    UnsupportedSpecError,
    WrongKindSpecError,
    MissingModuleError,
)


def of_old_type(error: HubBridgeError) -> HubBridgeError:
    """Returns an error of hubbridge's tree as the class of the same meaning here, if there is one.

    An error that is one already is returned as it is.
    """
    for kind in _OLD_TYPES:
        if type(error) is kind.__bases__[0]:
            return kind(error.message, where=error.where, hint=error.hint)
    return error
