"""Every clause on real SavedModels of TensorFlow 2, and of both kinds of Keras."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import bridge
from tests.checking.lines import BROKEN, HOLDS, NOT_APPLICABLE, broken, line, statuses
from tests.checking.saved_models import MODELS
from tests.saved_model import sources

pytestmark = pytest.mark.tf2

Made = Callable[[str], Path]

REUSABLE = "reusable-saved-model"

# What is broken in each of saved_models.py, and nothing else is.
FAULTS: dict[str, set[str]] = {
    "good": set(),
    "any_size": set(),
    "fixed_batch": {"IMG02", "IMG08"},
    "channels_first": {"IMG10"},
    "dropped_out": {"IMG05"},
    "dropped_out_with_a_fixed_seed": {"IMG05"},
    "dropped_out_in_a_function": {"IMG05"},
    "dropped_out_before_a_function": {"IMG05"},
    "dropped_out_in_a_branch": {"IMG05"},
    "dropped_out_in_the_other_branch": {"IMG05"},
    "dropped_out_in_a_loop": {"IMG05"},
    "dropped_out_by_a_tensor": {"IMG05"},
    "never_dropped_out": set(),
    "dictionary": {"IMG11"},
    "serving_only": {"IMG11"},
    "named": set(),
    "named_and_dropped_out": {"IMG05"},
    "named_otherwise": {"IMG01"},
    "probabilities": {"IMG01", "IMG03"},
    "still_statistics": {"update-ops-empty"},
    "nothing_to_train": {"train-without-variables"},
    "trains_by_default": {REUSABLE},
    "only_trains": {REUSABLE},
    "unlisted": {REUSABLE},
    "losses": {REUSABLE},
    "second_argument": {"IMG07", "IMG11"},
    "text": set(),
}


def test_every_model_is_tried() -> None:
    assert set(FAULTS) == set(MODELS)


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_broken_is_named_and_nothing_else(name: str, made_saved_models: Made) -> None:
    report = bridge.check(made_saved_models(name))
    assert broken(report) == FAULTS[name], report.broken
    for clause in report.clauses:
        assert bool(clause.breaches) == (clause.status is BROKEN)
        assert all(breach.found and breach.mend for breach in clause.breaches)


def test_a_good_saved_model_keeps_all_clauses(made_saved_models: Made) -> None:
    found = statuses(bridge.check(made_saved_models("good")))
    open_ones = {"IMG01", "IMG03", "IMG04"}  # it names no task, and has no further outputs
    assert found == {i: NOT_APPLICABLE if i in open_ones else HOLDS for i in found}


@pytest.mark.parametrize("name", [name for name in FAULTS if name.startswith("dropped_out")])
def test_a_dropout_is_said_of_training_alone_with_its_function(
    name: str, made_saved_models: Made
) -> None:
    (breach,) = line(bridge.check(made_saved_models(name)), "IMG05").breaches
    assert (breach.variant, breach.signature, breach.name) == ("{train}", "default", "default")
    assert breach.called == "__call__(training=True)"
    assert "of function '" in breach.found
    assert breach.node is not None
    assert "andom" in breach.node


def test_a_named_signature_is_the_same_mapping_if_its_function_is_called(
    made_saved_models: Made,
) -> None:
    report = bridge.check(made_saved_models("named"))
    assert line(report, "IMG01").reason == "the same as image_feature_vector in {}"
    (breach,) = line(bridge.check(made_saved_models("named_otherwise")), "IMG01").breaches
    assert breach.found.endswith("its output `default` is computed in another way")


def test_scores_of_classes_are_no_feature_vectors(made_saved_models: Made) -> None:
    report = bridge.check(made_saved_models("probabilities"))
    for clause in ("IMG02", "IMG05"):
        assert line(report, clause).status is NOT_APPLICABLE


def test_images_of_any_size_need_no_expected_size(made_saved_models: Made) -> None:
    report = bridge.check(made_saved_models("any_size"))
    assert line(report, "IMG08").status is HOLDS
    assert line(report, "IMG09").status is NOT_APPLICABLE


def test_what_keeps_objects_from_being_reused_is_told_one_by_one(made_saved_models: Made) -> None:
    def found(name: str) -> list[tuple[str | None, str]]:
        breaches = line(bridge.check(made_saved_models(name)), REUSABLE).breaches
        return [(breach.name, breach.found) for breach in breaches]

    assert found("trains_by_default") == [("training", "`training` is True by default")]
    assert found("only_trains") == [("training", "`__call__` was traced with training=True only")]
    assert found("unlisted") == [
        ("variables", "`__call__` uses 'mean', which the list does not have"),
        ("trainable_variables", "it lists 'stranger', which the list `variables` does not have"),
        ("trainable_variables", "it lists 'stranger', made with trainable=False"),
    ]
    assert found("losses") == [
        ("regularization_losses[1]", "it returns float32[3]"),
        ("regularization_losses[2]", "it takes arguments"),
    ]


def test_a_model_for_serving_has_nothing_to_reuse(made_saved_models: Made) -> None:
    report = bridge.check(made_saved_models("serving_only"))
    assert line(report, REUSABLE).status is NOT_APPLICABLE
    (breach,) = line(report, "IMG11").breaches
    assert breach.called == "signatures['serving_default']"
    assert "only serving signatures" in breach.found


@pytest.mark.parametrize(
    ("source", "faults", "modes"),
    [
        (sources.tf_keras_save, set(), "{}, {train}"),
        (sources.tf_keras_export, {"IMG11"}, "{}"),
        (sources.keras_save, {"IMG11"}, "{}"),
        (sources.keras_export, {"IMG11"}, "{}"),
    ],
)
def test_both_kinds_of_keras_are_judged(
    source: Callable[[Path], object], faults: set[str], modes: str, tmp_path: Path
) -> None:
    source(tmp_path / "model")
    report = bridge.check(tmp_path / "model")
    assert broken(report) == faults
    assert line(report, "IMG05").reason == f"default in {modes}"
    assert line(report, "IMG09").reason == f"8x8, static in {modes}"
    for clause in (REUSABLE, "update-ops-empty"):
        assert line(report, clause).status is (NOT_APPLICABLE if faults else HOLDS)
