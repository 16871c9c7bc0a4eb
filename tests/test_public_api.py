"""The public names, and what importing them must not cost."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import typing
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from types import ModuleType

import pytest

import bridge
from bridge import cli
from bridge.cli.to_hub_module import to_hub_module
from bridge.cli.to_saved_model import to_saved_model
from bridge.convert import ToHubModuleOptions, ToSavedModelOptions
from bridge.passes import ImageOptions
from tests.conftest import TESTDATA

try:
    import tomllib
except ImportError:  # Python 3.10
    tomllib = None  # type: ignore[assignment]

ROOT = TESTDATA.parent
HEAVY = ("tensorflow", "tensorflow_hub", "keras", "tf_keras", "numpy", "pydantic")

# What a process imports of these, and of rich, while it runs the lines.
PROBE = """
import json, sys
{lines}
names = {{name for name, module in sys.modules.items() if module is not None}}
print(json.dumps(sorted(names & {{*{heavy!r}, "rich", "typer", "google.protobuf"}})))
"""


def test_all_names_every_public_name_and_no_other() -> None:
    public = {
        name
        for name, value in vars(bridge).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert set(bridge.__all__) - {"__version__"} == public
    assert list(bridge.__all__) == sorted(bridge.__all__)


def test_the_whole_tree_of_errors_is_public() -> None:
    def below(error: type) -> set[str]:
        # Those of bridge.hub, which some other test may have imported, are the old library's too.
        subclasses = (
            one for one in error.__subclasses__() if not one.__module__.startswith("bridge.hub.")
        )
        return {error.__name__}.union(*map(below, subclasses))

    assert below(bridge.HubBridgeError) <= set(bridge.__all__)


@pytest.mark.skipif(tomllib is None, reason="tomllib came with Python 3.11")
def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if "version" in project:
        assert project["version"] == bridge.__version__
    else:
        assert "version" in project["dynamic"]


def _options(options: type) -> dict[str, object]:
    return {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(options)
    }


@pytest.mark.parametrize(
    ("function", "options"),
    [(bridge.to_saved_model, ToSavedModelOptions), (bridge.to_hub_module, ToHubModuleOptions)],
)
def test_the_function_takes_the_options_of_the_dataclass(
    function: Callable[..., bridge.Report], options: type
) -> None:
    parameters = inspect.signature(function).parameters
    keywords = {n: p.default for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    defaults = _options(options)
    if "images" in defaults:
        del defaults["images"]
        defaults |= _options(ImageOptions)
    assert set(keywords) == {*defaults, "progress", "verify_progress"}
    for name, default in defaults.items():
        # What is a set or a mapping in the dataclass may be any of its kind, or nothing, here.
        assert keywords[name] == default or (not keywords[name] and not default)


@pytest.mark.parametrize(
    ("function", "command"),
    [(bridge.to_saved_model, to_saved_model), (bridge.to_hub_module, to_hub_module)],
)
def test_the_command_takes_the_options_of_the_function(
    function: Callable[..., bridge.Report], command: Callable[..., None]
) -> None:
    options = set(inspect.signature(function).parameters) - {"progress", "verify_progress"}
    given = set(inspect.signature(command).parameters) - {"as_json", "quiet"}
    assert {"allow_ops" if name == "allow_op" else name for name in given} == options


def test_annotations_can_be_resolved() -> None:
    assert typing.get_type_hints(cli.main)["return"] is int


@pytest.mark.parametrize(
    ("lines", "allowed"),
    [
        ("import bridge", set()),
        ("import bridge; bridge.Report, bridge.to_saved_model, bridge.__version__", set()),
        ("from bridge.cli import main; main(['--version'])", {"typer"}),
        ("from bridge.cli import main; main(['to-saved-model', '--help'])", {"typer"}),
        ("from bridge.cli import main; main(['to-saved-model', 'absent', 'x'])", None),
        ("from bridge.cli import main; main(['to-saved-model', {module!r}, {out!r}])", None),
        ("import bridge; bridge.to_saved_model({module!r}, {out!r})", None),
        (
            "import bridge; bridge.to_saved_model({module!r}, {out!r}); "
            "bridge.to_hub_module({out!r}, {out!r} + '2')",
            None,
        ),
    ],
)
def test_nothing_heavy_is_imported(lines: str, allowed: set[str] | None, tmp_path: Path) -> None:
    module, out = str(TESTDATA / "modules" / "digits"), str(tmp_path / "out")
    printed = _python(PROBE.format(lines=lines.format(module=module, out=out), heavy=HEAVY))
    imported = set(json.loads(printed.splitlines()[-1]))
    assert not imported & {*HEAVY, "rich"}
    if allowed is not None:
        assert imported <= allowed


def test_it_works_where_tensorflow_cannot_be_imported(tmp_path: Path) -> None:
    lines = f"""
import sys
for name in {HEAVY!r}:
    sys.modules[name] = None
from bridge.cli import main
sys.exit(main(["to-saved-model", {str(TESTDATA / "modules" / "text_vocab")!r},
               {str(tmp_path / "out")!r}]))
"""
    _python(lines)
    assert (tmp_path / "out" / "saved_model.pb").is_file()


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
