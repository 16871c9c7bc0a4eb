"""How SavedModels are called, and the form of what they return, must be the same."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import pytest

from bridge import Status
from bridge._parity.structure import compare_structure
from bridge._surfaces.read import read_surface

pytestmark = pytest.mark.tf2

Pair = collections.namedtuple("Pair", ["p", "q"])
Swapped = collections.namedtuple("Pair", ["q", "p"])  # type: ignore[misc]


def _spec(name: str) -> Any:
    import tensorflow as tf

    return tf.TensorSpec([None, 3], name=name)


def _traced(function: Callable[..., Any], *specs: Any, **more: Any) -> Any:
    import tensorflow as tf

    made = tf.function(function)
    made.get_concrete_function(*specs, **more)
    return made


def forms() -> dict[str, Callable[[], Any]]:
    """Makes functions, most of which compute x + y or 2 * x, each called in its own form."""
    import tensorflow as tf

    x, y = _spec("x"), _spec("y")
    return {
        "plain": lambda: _traced(lambda x: 2 * x, x),
        "another name": lambda: _traced(lambda z: 2 * z, _spec("z")),
        "scale": lambda: _traced(lambda x, scale=2.0: scale * x, x),
        "scale needed": lambda: _traced(lambda x, scale: scale * x, x, scale=2.0),
        "scale of three": lambda: _traced(lambda x, scale=3.0: scale * x, x, scale=2.0),
        "float64": lambda: _traced(lambda x, to=tf.float64: tf.cast(2 * x, tf.int32), x),
        "float16": lambda: _traced(lambda x, to=tf.float16: tf.cast(2 * x, tf.int32), x),
        "a tuple of one": lambda: _traced(lambda x: (2 * x,), x),
        "a list": lambda: _traced(lambda x: [2 * x, x], x),
        "a dict": lambda: _traced(lambda x: {"output_0": 2 * x, "output_1": x}, x),
        "p and q": lambda: _traced(lambda x: Pair(p=2 * x, q=x), x),
        "q and p": lambda: _traced(lambda x: Swapped(p=2 * x, q=x), x),
        "nested": lambda: _traced(lambda x: {"a": {"b": 2 * x}}, x),
        "slash": lambda: _traced(lambda x: {"a/b": 2 * x}, x),
        "x, y": lambda: _traced(lambda x, y: x + y, x, y),
        "y, x": lambda: _traced(lambda y, x: x + y, y, x),
        "keyword": lambda: _traced(lambda x, *, y: x + y, x, y=y),
        "dict of both": lambda: _traced(lambda both: both["x"] + both["y"], {"x": x, "y": y}),
    }


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The surface of a model with `__call__` and `score` in each form, and with a signature."""
    import tensorflow as tf

    found = {}
    for name, make in forms().items():
        model = tf.Module()
        model.__call__ = _traced(lambda x: x + 1, _spec("x"))
        model.score = make()
        path = tmp_path_factory.mktemp("saved") / "model"
        tf.saved_model.save(model, str(path))
        found[name] = read_surface(path)
    for name in ("x", "z"):
        model = tf.Module()
        served = tf.function(lambda x: {"y": 2 * x}, input_signature=[_spec(name)])
        path = tmp_path_factory.mktemp("saved") / "served"
        tf.saved_model.save(model, str(path), signatures={"served": served})
        found[f"served {name}"] = read_surface(path)
    return found


def reasons(reference: Any, candidate: Any) -> list[str]:
    checks = compare_structure(reference, candidate).checks
    return [check.reason for check in checks if check.status is Status.FAIL]


@pytest.mark.parametrize(
    ("ours", "theirs", "reason"),
    [
        ("x, y", "y, x", "it is called score(x, y), in the candidate score(y, x)"),
        ("x, y", "keyword", "it is called score(x, y), in the candidate score(x, y=y)"),
        ("x, y", "dict of both", "in the candidate score({'x': x, 'y': y})"),
        ("scale", "scale of three", "it is called score(x), in the candidate score(x, scale=2.0)"),
        ("scale", "scale needed", "it is called score(x), in the candidate score(x, scale=2.0)"),
        ("float64", "float16", "score(x, to=float64), in the candidate score(x, to=float16)"),
        ("scale", "plain", "the candidate has no such callable"),
        ("plain", "a tuple of one", "is result of score(x), in the candidate result[0]"),
        ("a list", "a dict", "is result[0] of score(x), in the candidate result['output_0']"),
        ("p and q", "q and p", "output 'p' is result[0] of score(x), in the candidate result[1]"),
        ("nested", "slash", "is result['a']['b'] of score(x), in the candidate result['a/b']"),
        ("served x", "served z", "called signatures['served'](x=x), in the candidate "
         "signatures['served'](z=z)"),
    ],
)  # fmt: skip
def test_another_form_fails(surfaces: Any, ours: str, theirs: str, reason: str) -> None:
    assert any(reason in found for found in reasons(surfaces[ours], surfaces[theirs]))


@pytest.mark.parametrize(("ours", "theirs"), [("scale needed", "scale"), ("plain", "another name")])
def test_what_works_for_the_reference_may_be_one_of_many_forms(
    surfaces: Any, ours: str, theirs: str
) -> None:
    assert reasons(surfaces[ours], surfaces[theirs]) == []


def test_each_form_is_that_of_its_own_model(surfaces: Any) -> None:
    assert not [name for name, one in surfaces.items() if reasons(one, one)]
