"""Old programs on modules in graphs: outputs, gradients, training steps, export.

tests/hub/legacy_program.py runs them; the goldens say what TensorFlow 1.15 computed with the same
file, and the real client reads what was exported.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.clients.converted import MODULES, assert_close
from tests.clients.records import TRAINING_FACTS
from tests.conftest import Golden
from tests.hub.programs import TRAINED, run_program

pytestmark = pytest.mark.tf2

# float16 and bfloat16 carry 11 and 8 bits, and kernels round otherwise today.
LOW_PRECISION = {"reduced_precision": 4e-3, "reduced_precision_ref": 4e-3}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the program wrote what it saw, and the modules that it exported."""
    out = tmp_path_factory.mktemp("legacy")
    with ThreadPoolExecutor(2) as pool:  # Each of them waits for a process.
        halves = (MODULES[::2], MODULES[1::2])
        list(pool.map(lambda names: run_program("tests.hub.legacy_program", out, *names), halves))
    return out


def _record(written: Path, name: str) -> Golden:
    with np.load(written / f"{name}.npz") as arrays:
        return Golden(dict(arrays), json.loads((written / f"{name}.json").read_text()))


def _facts(golden: Golden, name: str) -> list[dict[str, Any]]:
    """What was recorded of the variants, without training where it was not recorded here."""
    variants = json.loads(json.dumps(golden.facts["variants"]))
    for variant in variants:
        for signature in variant["signatures"].values():
            if name not in TRAINED or "training_error" in signature:
                for fact in TRAINING_FACTS & signature.keys():
                    del signature[fact]
    return variants


@pytest.mark.parametrize("name", MODULES)
def test_variables_losses_update_ops_and_signatures_are_those_of_the_old_client(
    written, golden, name
) -> None:
    found, wanted = _facts(_record(written, name), name), _facts(golden(name), name)
    # The old client can't differentiate a tf.cond in a loop that reads a resource.
    for variant in found:
        for key, signature in variant["signatures"].items():
            if (name, key) == ("control_flow_resource", "nested"):
                assert signature.pop("after_3_steps")
                for fact in TRAINING_FACTS & signature.keys():
                    del signature[fact]
    assert found == wanted


@pytest.mark.parametrize("name", MODULES)
def test_numbers_are_those_that_the_old_client_recorded(written, golden, name) -> None:
    found, wanted = _record(written, name).arrays, golden(name).arrays
    left_out = {"proj", "grad", "after_updates", "after_3_steps"} if name not in TRAINED else set()
    recorded = {key for key in wanted if not left_out & set(key.split("|"))}
    assert recorded <= found.keys()
    assert all(key.startswith("|nested|") for key in found.keys() - recorded)
    for key in sorted(recorded):
        tolerance = 1e-4 if "grad" in key.split("|") else 1e-5
        assert_close(found[key], wanted[key], key, LOW_PRECISION.get(name, tolerance))


def test_training_is_recorded_of_each_kind_of_module(written) -> None:
    kinds = ("grad", "after_updates", "after_3_steps")
    seen = {
        (name, kind)
        for name in TRAINED
        for key in _record(written, name).arrays
        for kind in kinds
        if kind in key.split("|")
    }
    assert {kind for _, kind in seen} == set(kinds)
    assert {name for name, kind in seen if kind == "after_3_steps"} == TRAINED


@pytest.mark.parametrize("name", MODULES)
def test_an_exported_module_computes_the_present_values_in_the_real_client(
    written, tf1, name
) -> None:
    tags, signature = json.loads((written / f"{name}_exported.json").read_text())
    with np.load(written / f"{name}_exported.npz") as arrays:
        values = Golden(dict(arrays), {})
    outputs = tf1.hub_apply(written / name, values.under("in"), signature=signature, tags=set(tags))
    wanted = values.under("out")
    assert outputs.keys() == wanted.keys()
    for key, value in wanted.items():
        assert_close(outputs[key], value, key, LOW_PRECISION.get(name, 1e-5))


def test_the_values_that_are_exported_are_not_those_of_the_source(written, golden) -> None:
    name = "toy_image_ref"
    with np.load(written / f"{name}_exported.npz") as arrays:
        exported = arrays["out|default"]
    assert np.abs(exported - golden(name).arrays["|default|out|default"]).max() > 0.01
