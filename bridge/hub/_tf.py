"""TensorFlow, which `bridge.hub` builds graphs with, or an error that says how to get it."""

from __future__ import annotations

from bridge.errors import MissingExtraError

try:
    import tensorflow as tf
except ImportError as error:
    raise MissingExtraError(
        "bridge.hub needs TensorFlow, which is not installed",
        hint="pip install 'hubbridge[parity]'",
    ) from error

__all__ = ["tf"]
