"""An error that only graphs know."""

from __future__ import annotations

from bridge.errors import HubBridgeError, UnsupportedError, Where
from bridge.hub._tf import tf


class UnknownOpError(UnsupportedError, tf.errors.NotFoundError):  # type: ignore[misc]
    """The module has an op that this TensorFlow does not know."""

    message = ""  # a property of TensorFlow's class stands in the way of the attribute

    def __init__(self, message: str, *, where: Where | None = None, hint: str | None = None):
        # Each of the two constructors would call the other class's, with other arguments.
        tf.errors.NotFoundError.__init__(self, None, None, message)
        self.message = message
        self.where = where or Where()
        self.hint = hint

    def __str__(self) -> str:
        return HubBridgeError.__str__(self)
