"""The tree of exceptions: exit codes, and how errors read."""

from __future__ import annotations

import pytest

from bridge import errors
from bridge.errors import HubBridgeError, Where


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("HubBridgeError", 5),
        ("UsageError", 2),
        ("SourceNotFoundError", 2),
        ("DestinationError", 2),
        ("MissingExtraError", 2),
        ("UnsupportedError", 3),
        ("RefusedError", 4),
        ("WrongKindError", 4),
        ("MalformedError", 4),
        ("UnsafeError", 4),
    ],
)
def test_every_class_knows_its_exit_code(name: str, code: int) -> None:
    assert getattr(errors, name)("x").exit_code == code


def test_the_drawing_shows_every_class() -> None:
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, HubBridgeError)
    }
    assert errors.__doc__ is not None
    assert not {name for name in classes if name not in errors.__doc__}


def test_a_place_is_said_after_the_message() -> None:
    where = Where("m/saved_model.pb", "{train}", "default", "conv/kernel")
    assert str(HubBridgeError("broken", where=where)) == (
        "broken (in m/saved_model.pb, variant {train}, signature 'default', node 'conv/kernel')"
    )


def test_an_error_without_a_place_is_its_message() -> None:
    error = HubBridgeError("broken", hint="fix it")
    assert str(error) == error.message == "broken"
    assert error.hint == "fix it"
    assert str(Where()) == ""
