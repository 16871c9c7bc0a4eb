"""What the real client finds in a module, beside what testdata/golden holds of the one it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tests.clients.converted import assert_close
from tests.clients.tf1 import Tf1Client
from tests.conftest import Golden

TRAINING_FACTS = {
    *("after_3_steps", "after_updates", "grad_outputs", "no_grad", "step_outputs"),
    "training_error",
}
TRAINING_ARRAYS = {"proj", "grad", "after_updates", "after_3_steps"}


def check_record(module: Path, wanted: Golden, tf1: Tf1Client, *, training: bool) -> None:
    """Fails unless the client finds in a module what was recorded of another.

    Variables are resources now. Outputs, losses and states are within 1e-5 of the largest recorded
    value, gradients within 1e-4.

    Args:
      module: the module.
      wanted: the record.
      tf1: the client.
      training: whether gradients, updates and training steps were recorded, and are compared.
    """
    arrays, facts = tf1.hub_record(module, inputs_of(wanted), training=training)
    recorded = wanted.arrays
    # What could not be trained before may be now: a nested tf.cond in a loop, for one.
    for before, after in zip(wanted.facts["variants"], facts["variants"], strict=True):
        for name, signature in before["signatures"].items():
            if "training_error" in signature:
                prefix = f"{before['key']}|{name}|"
                facts_of_it = after["signatures"][name]
                for fact in TRAINING_FACTS.intersection(facts_of_it):
                    del facts_of_it[fact]
                facts_of_it["training_error"] = signature["training_error"]
                arrays = {k: v for k, v in arrays.items() if not _is_training(k, prefix)}
                recorded = {k: v for k, v in recorded.items() if not _is_training(k, prefix)}
    assert facts_of(Golden(arrays, facts), training) == facts_of(wanted, training)
    variants = facts["variants"]
    assert all(variable["is_resource"] for one in variants for variable in one["variables"])
    expected = {
        key: array
        for key, array in recorded.items()
        if training or not TRAINING_ARRAYS.intersection(key.split("|"))
    }
    assert sorted(arrays) == sorted(expected)
    for key, array in expected.items():
        assert arrays[key].dtype == array.dtype
        assert_close(arrays[key], array, key, 1e-4 if "grad" in key.split("|") else 1e-5)


def _is_training(key: str, prefix: str) -> bool:
    return key.startswith(prefix) and bool(TRAINING_ARRAYS.intersection(key.split("|")))


def inputs_of(golden: Golden) -> dict[str, NDArray[Any]]:
    """The recorded inputs by `signature/name`, which both graph variants get."""
    result = {}
    for key, array in golden.arrays.items():
        _, signature, kind, *name = [*key.split("|"), "", ""]
        if kind == "in":
            result[f"{signature}/{'|'.join(name).rstrip('|')}"] = array
    return result


def facts_of(golden: Golden, training: bool) -> list[Any]:
    """What the JSON says, but that a variable is a resource now."""
    variants = []
    for variant in golden.facts["variants"]:
        variables = [
            {key: fact for key, fact in variable.items() if key != "is_resource"}
            for variable in variant["variables"]
        ]
        signatures = {
            name: {
                key: fact
                for key, fact in signature.items()
                if training or key not in TRAINING_FACTS
            }
            for name, signature in variant["signatures"].items()
        }
        variants.append({**variant, "variables": variables, "signatures": signatures})
    return variants
