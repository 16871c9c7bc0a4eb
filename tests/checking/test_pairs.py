"""A module and what it is converted to are judged alike, clause by clause.

Where one of them asks less of a model, docs/check.md says so; these are all the exceptions.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import bridge
from bridge import ClauseStatus
from tests.checking.lines import BROKEN, HOLDS, NOT_APPLICABLE, line, places, statuses
from tests.checking.test_modules import FAULTS
from tests.conftest import TESTDATA

MODULES = sorted(path.name for path in (TESTDATA / "modules").iterdir())

# By module and clause, what a SavedModel is judged where a module is judged otherwise.
LESS_IS_ASKED: dict[tuple[str, str], ClauseStatus] = {
    ("default_only", "IMG01"): NOT_APPLICABLE,
    ("no_default_output", "IMG01"): NOT_APPLICABLE,
    ("features_of_another_key", "IMG02"): HOLDS,
    ("other_name", "IMG07"): HOLDS,
    ("other_name", "IMG09"): HOLDS,
    ("any_size", "IMG08"): HOLDS,
    ("any_size", "IMG09"): NOT_APPLICABLE,
    ("any_size_attached_without_one", "IMG08"): HOLDS,
    ("any_size_attached_without_one", "IMG09"): NOT_APPLICABLE,
    ("two_inputs_and_grey", "IMG09"): HOLDS,
    # Their update ops stand in the only variant; a SavedModel runs them in training.
    ("control_flow_ref", "train-without-variables"): HOLDS,
    ("control_flow_resource", "train-without-variables"): HOLDS,
}


def _without_reuse(report: bridge.CheckReport) -> dict[str, ClauseStatus]:
    found = statuses(report)
    del found["reusable-saved-model"]  # which no module is
    return found


def _agree(name: str, module: Path, work: Path) -> None:
    bridge.to_saved_model(module, work / "saved_model")
    before, after = bridge.check(module), bridge.check(work / "saved_model")
    expected = _without_reuse(before) | {
        clause: status for (of, clause), status in LESS_IS_ASKED.items() if of == name
    }
    assert _without_reuse(after) == expected
    assert line(after, "reusable-saved-model").status is not BROKEN
    for clause in before.broken:
        if (name, clause.id) not in LESS_IS_ASKED:
            assert places(line(after, clause.id).breaches) == places(clause.breaches)


@pytest.mark.parametrize("name", MODULES)
def test_a_test_module_and_its_conversion_agree(name: str, tmp_path: Path) -> None:
    _agree(name, TESTDATA / "modules" / name, tmp_path)


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_module_and_its_conversion_agree(
    name: str, broken_modules: Path, tmp_path: Path
) -> None:
    _agree(name, broken_modules / name, tmp_path)


@pytest.mark.tf2
@pytest.mark.parametrize("name", ["good", "dropped_out", "dropped_out_in_a_branch", "named"])
def test_a_saved_model_and_its_conversion_agree(
    name: str, made_saved_models: Callable[[str], Path], tmp_path: Path
) -> None:
    source = made_saved_models(name)
    bridge.to_hub_module(source, tmp_path / "module", task="image_feature_vector")
    before, after = bridge.check(source), bridge.check(tmp_path / "module")
    # --task gives the name that the SavedModel lacks.
    assert _without_reuse(after) == _without_reuse(before) | {"IMG01": HOLDS}
    nodes = [[b.variant for b in line(r, "IMG05").breaches] for r in (before, after)]
    assert nodes[0] == nodes[1]
