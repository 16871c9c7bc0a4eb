"""The runners compute what the real TensorFlow 1.15 recorded, and train alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bridge._parity.runners.process import RunnerProcess
from bridge._parity.runners.protocol import Lane, RunnerError
from bridge._surfaces.read import read_surface
from bridge._surfaces.surface import HUB_MODULE, SAVED_MODEL
from bridge.convert import ToSavedModelOptions, to_saved_model
from tests.clients.converted import MODULES, assert_close, cases, variables_of
from tests.conftest import TESTDATA

MANY = Path(__file__).with_name("many_models.py")
FEW = {
    "toy_train_nodropout_ref",
    "partitioned_resource",
    "ragged_input",
    "text_vocab",
    "reduced_precision",
}
"""Every kind of input and of variable; all modules go through the whole runs of test_parity.py."""

CASES = [
    case
    for case in cases()
    if case.module in FEW and case.variant["signatures"][case.signature]["same_as"] is None
]
TRAINED = [case for case in CASES if "grad_outputs" in case.facts]


@pytest.fixture(scope="module")
def directory_of(tmp_path_factory):
    """Where the modules are, and where the SavedModels made of them."""
    converted = tmp_path_factory.mktemp("converted")
    for name in MODULES:
        to_saved_model(TESTDATA / "modules" / name, converted / name, OPTIONS)
    return {HUB_MODULE: TESTDATA / "modules", SAVED_MODEL: converted}


OPTIONS = ToSavedModelOptions(verify=False)


@pytest.fixture(scope="module")
def runner(directory_of, tmp_path_factory):
    """Returns a function from runtime, format and interpreter to a running runner."""
    found = {}

    def make(runtime: str, form: str, python: Path) -> RunnerProcess:
        if (runtime, form) not in found:
            lane = Lane("reference", directory_of[form], form, runtime, python)
            work = tmp_path_factory.mktemp("work")
            found[runtime, form] = RunnerProcess(lane, 300, work, script=MANY)
        return found[runtime, form]

    yield make
    for one in found.values():
        one.close()


@pytest.fixture(scope="module")
def today(runner):
    """The runners of today's TensorFlow, by format."""
    import sys

    return {form: runner("tf2", form, Path(sys.executable)) for form in (HUB_MODULE, SAVED_MODEL)}


@pytest.fixture(scope="module")
def legacy(runner, tf1_python):
    return runner("tf1", HUB_MODULE, tf1_python)


@pytest.fixture(scope="module")
def calls_of(directory_of):
    """Returns a function from a case and a format to the ways to compute it."""
    surfaces = {}

    def calls(case, form):
        key = case.module, form
        if key not in surfaces:
            surfaces[key] = read_surface(directory_of[form] / case.module)
        tags = frozenset(case.variant["tags"])
        return [
            replace(call, name=f"{case.module}:{call.name}")
            for computation in surfaces[key].computations
            if (computation.variant, computation.signature) == (tags, case.signature)
            for call in computation.calls
        ]

    return calls


def inputs_of(case, golden):
    """The recorded inputs as a runner takes them."""
    arrays = golden(case.module).under(f"{case.prefix}|in")
    values = {}
    for name, info in case.facts["inputs"].items():
        if info["kind"] == "dense":
            values[name] = typed(arrays[name], info["dtype"])
        else:
            start = f"{name}|"
            parts = {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
            values[name] = {**parts, "values": typed(parts["values"], info["dtype"])}
    return values


def typed(array, dtype):
    if dtype == "string":
        return array.astype(object)
    if dtype == "bfloat16":
        import ml_dtypes

        return array.astype(ml_dtypes.bfloat16)
    return array.astype(dtype)


def flat(outputs):
    """Outputs as the goldens have them."""
    result = {}
    for name, value in outputs.items():
        parts = value if isinstance(value, dict) else {"": value}
        result |= {f"{name}|{part}".rstrip("|"): recorded(array) for part, array in parts.items()}
    return result


def recorded(array):
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def check_outputs(runner, call, case, golden):
    found = flat(runner.run(call, inputs_of(case, golden)))
    wanted = golden(case.module).under(f"{case.prefix}|out")
    wanted = {key: value for key, value in wanted.items() if key.split("|")[0] in call.outputs}
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert_close(found[key], value, f"{case} {key}", rounding(case, 1e-5))


def rounding(case, rtol):
    return 2e-3 if case.module.startswith("reduced_precision") else rtol


def pick(found):
    return [pytest.param(case, id=str(case)) for case in found]


@pytest.mark.tf2
@pytest.mark.parametrize("case", pick(c for c in CASES if c.facts["deterministic"]))
@pytest.mark.parametrize("form", [HUB_MODULE, SAVED_MODEL])
def test_today_computes_the_recorded_outputs_in_every_way(form, case, today, calls_of, golden):
    calls = calls_of(case, form)
    assert calls
    for call in calls:
        check_outputs(today[form], call, case, golden)


@pytest.mark.parametrize("case", pick(c for c in CASES if c.facts["deterministic"]))
def test_a_real_hub_module_gives_its_recorded_outputs(case, legacy, calls_of, golden):
    (call,) = calls_of(case, HUB_MODULE)
    check_outputs(legacy, call, case, golden)


def training_call(case, form, calls_of, golden):
    """How the old client's hub.Module(trainable=True) is called."""
    call = calls_of(case, form)[0]
    if form == SAVED_MODEL and case.training(golden(case.module)):
        assert "training" in call.kwargs
        return replace(call, kwargs={**call.kwargs, "training": {"value": True}})
    return call


def check_updates(runner, form, call, case, golden):
    """A step that moves nothing leaves what the update ops write."""
    result = runner.train(call, inputs_of(case, golden), (1,), 0.0)
    recorded_values = golden(case.module)
    parts = variables_of(case.variant)
    after = {name: result.variables[1][name] for name in parts}
    wanted = recorded_values.under("var") | recorded_values.under(f"{case.prefix}|after_updates")
    for whole in {facts["whole"] for facts in parts.values()}:
        arrays = [recorded(after[n]) for n, facts in parts.items() if facts["whole"] == whole]
        found = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        assert_close(found, wanted[whole], f"{case} {whole}", rounding(case, 1e-5))
    losses = [
        array for _, array in sorted(recorded_values.under(f"{case.variant['key']}|reg").items())
    ]
    np.testing.assert_allclose(runner.losses(call), losses, rtol=1e-5)
    if set(case.facts["grad_outputs"]) != set(case.facts["outputs"]):
        return  # the recording left out sparse and ragged outputs
    trained = {parts[name]["whole"] for name in result.gradients}
    assert trained == set(recorded_values.under(f"{case.prefix}|grad"))


@pytest.mark.tf2
@pytest.mark.parametrize("case", pick(TRAINED))
@pytest.mark.parametrize("form", [HUB_MODULE, SAVED_MODEL])
def test_today_updates_and_differentiates_what_was_recorded(form, case, today, calls_of, golden):
    call = training_call(case, form, calls_of, golden)
    check_updates(today[form], form, call, case, golden)


@pytest.mark.tf2
@pytest.mark.parametrize("case", pick(TRAINED))
def test_tensorflow_1_trains_as_today(case, legacy, today, calls_of, golden):
    inputs, rtol = inputs_of(case, golden), rounding(case, 1e-4)
    check_updates(legacy, HUB_MODULE, calls_of(case, HUB_MODULE)[0], case, golden)
    one = legacy.train(calls_of(case, HUB_MODULE)[0], inputs, (1, 3), 0.1)
    for form in (HUB_MODULE, SAVED_MODEL):
        call = training_call(case, form, calls_of, golden)
        other = today[form].train(call, inputs, (1, 3), 0.1)
        assert one.gradients.keys() == other.gradients.keys()
        for name, gradient in one.gradients.items():
            assert_close(recorded(other.gradients[name]), recorded(gradient), name, rtol)
        for steps in (1, 3):
            for name in one.variables[steps]:
                value = one.variables[steps][name]
                found = other.variables[steps][name]
                assert_close(recorded(found), recorded(value), f"{form} {name}", rtol)


@pytest.mark.tf2
def test_a_request_to_train_starts_from_the_variables_of_the_model(today, calls_of, golden):
    case = next(c for c in TRAINED if c.module.startswith("toy_train"))
    for form, runner in today.items():
        call = calls_of(case, form)[0]
        first = runner.train(call, inputs_of(case, golden), (1,), 0.1)
        check_outputs(runner, call, case, golden)
        again = runner.train(call, inputs_of(case, golden), (1,), 0.1)
        moved = [n for n, v in first.variables[1].items() if (v != again.variables[1][n]).any()]
        assert not moved


@pytest.mark.slow
@pytest.mark.tf2
def test_a_random_op_that_needs_a_seed_runs_without_determinism(today, calls_of, golden):
    case = next(c for c in cases() if c.module == "toy_image_ref" and not c.facts["deterministic"])
    for form, runner in today.items():
        assert runner.run(calls_of(case, form)[0], inputs_of(case, golden))
        assert runner.runtime().settings["determinism"].startswith("off: ")


@pytest.mark.tf2
def test_what_a_model_refuses_is_no_fault_of_the_process(today, calls_of, golden):
    case = next(c for c in cases() if c.module == "toy_image_ref")
    wrong = {"images": np.zeros((1, 5, 5, 3), np.float32)}
    for form, runner in today.items():
        call = calls_of(case, form)[0]
        with pytest.raises(RunnerError, match=r"the reference's TF 2.* failed while running") as e:
            runner.run(call, wrong)
        assert not e.value.fatal
        assert runner.run(call, inputs_of(case, golden))
