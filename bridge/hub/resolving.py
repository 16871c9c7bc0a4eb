"""What tensorflow-hub still has: `load`, `resolve` and `KerasLayer`, handed through as they are.

tensorflow-hub is imported when one of them is asked for. It needs tf_keras, and setuptools with
pkg_resources, and nothing else of `bridge.hub` does.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

from bridge.errors import MissingExtraError

HANDED_THROUGH = frozenset({"__version__", "KerasLayer", "load", "resolve"})
"""Names that are tensorflow-hub's own."""


def __getattr__(name: str) -> Any:
    """Returns what tensorflow-hub has under a name.

    Raises:
      MissingExtraError: tensorflow-hub can't be imported.
      AttributeError: the name is none that is handed through.
    """
    if name not in HANDED_THROUGH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    said = io.StringIO()
    try:
        # It prints what it lacks besides raising, and pkg_resources warns of its own end.
        with contextlib.redirect_stdout(said), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
            import tensorflow_hub
    except ImportError as error:
        raise MissingExtraError(
            f"hub.{name} is that of tensorflow-hub, which can't be imported: {error}",
            hint=_hint(error),
        ) from error
    return getattr(tensorflow_hub, name)


def _hint(error: ImportError) -> str:
    if error.name == "pkg_resources":
        return "pip install 'setuptools<81', the last one with pkg_resources"
    return "pip install 'hubbridge[parity]'"
