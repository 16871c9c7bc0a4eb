"""The client itself, against what testdata/golden holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.clients.tf1 import Tf1Client, Tf1Error

NAME = "toy_image_resource"
IN = "|default|in"


def test_it_is_the_release_that_hub_modules_were_made_for(tf1) -> None:
    versions = tf1.ping()
    assert (versions["tensorflow"], versions["tensorflow_hub"]) == ("1.15.5", "0.12.0")


def test_hub_apply_gives_the_recorded_outputs(tf1, module_dir, golden) -> None:
    expected = golden(NAME)
    outputs = tf1.hub_apply(module_dir(NAME), expected.under(IN))
    assert outputs.keys() == expected.under("|default|out").keys()
    for key, value in expected.under("|default|out").items():
        np.testing.assert_allclose(outputs[key], value, rtol=1e-5, atol=1e-6, err_msg=key)


def test_hub_gradients_gives_the_recorded_gradients(tf1, module_dir, golden) -> None:
    expected = golden(NAME)
    gradients = tf1.hub_gradients(
        module_dir(NAME), expected.under(IN), expected.under("|default|proj")
    )
    found = {name: value for name, value in gradients.items() if value is not None}
    assert found.keys() == expected.under("|default|grad").keys()
    for name, value in expected.under("|default|grad").items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_hub_record_gives_what_the_golden_holds(tf1, module_dir, golden) -> None:
    expected = golden(NAME)
    record = tf1.hub_record(module_dir(NAME))
    assert record.arrays.keys() == expected.arrays.keys()
    assert record.facts["variants"] == expected.facts["variants"]


def test_a_request_that_fails_raises_and_the_next_one_works(tf1, module_dir) -> None:
    with pytest.raises(Tf1Error, match="No such graph variant"):
        tf1.hub_apply(module_dir(NAME), {}, tags={"no", "such"})
    assert tf1.ping()


def test_a_client_that_takes_too_long_is_ended(tf1_python: Path) -> None:
    with (
        Tf1Client(tf1_python, timeout=0.01) as client,
        pytest.raises(Tf1Error, match=r"took over 0\.01 s at ping"),
    ):
        client.ping()


def test_a_client_that_dies_says_so_and_starts_again(tf1_python: Path, tmp_path: Path) -> None:
    dies = tmp_path / "python"
    dies.write_text(
        f'#!/bin/sh\n[ -e "$0.ran" ] && exec {tf1_python} "$@"\n: > "$0.ran"\necho ouch >&2\n'
    )
    dies.chmod(0o755)
    with Tf1Client(dies) as client:
        with pytest.raises(Tf1Error, match="died at ping\nouch"):
            client.ping()
        assert client.ping()["tensorflow"] == "1.15.5"
