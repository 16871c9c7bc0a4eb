"""The names of bridge.hub, and what it asks for."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(program: str) -> str:
    """Runs a Python program; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_hubbridge_itself_imports_neither_it_nor_tensorflow() -> None:
    program = (
        "import sys, bridge, bridge.cli\n"
        "print([name for name in ('bridge.hub', 'tensorflow') if name in sys.modules])"
    )
    assert run(program) == "[]\n"


def test_without_tensorflow_it_says_what_to_install() -> None:
    program = (
        "import sys, bridge\n"
        "sys.modules['tensorflow'] = None\n"
        "try:\n"
        "    from bridge import hub\n"
        "except bridge.MissingExtraError as error:\n"
        "    print(error, '|', error.hint)\n"
    )
    assert run(program) == (
        "bridge.hub needs TensorFlow, which is not installed | pip install 'hubbridge[parity]'\n"
    )


@pytest.mark.tf2
def test_its_names_are_those_that_tensorflow_hub_had() -> None:
    from bridge import hub

    assert list(hub.__all__) == sorted(hub.__all__)
    assert all(hasattr(hub, name) for name in hub.__all__)
    had = {
        *("ImageModuleInfo", "KerasLayer", "LatestModuleExporter", "Module", "ModuleSpec"),
        *("add_signature", "attach_image_module_info", "attach_message", "create_module_spec"),
        *("create_module_spec_from_saved_model", "eval_function_for_module"),
        *("get_expected_image_size", "get_image_module_info", "get_num_image_channels"),
        *("image_embedding_column", "load", "load_module_spec", "register_module_for_export"),
        *("resolve", "text_embedding_column"),
    }
    assert set(hub.__all__) == had
