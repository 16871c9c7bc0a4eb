"""Which batches count: what the reference refuses, and where it differs from itself."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from bridge._parity.feed.inputs import Batch
from bridge._parity.lanes import CANDIDATE, REFERENCE, LanePair, Plan
from bridge._parity.options import ParityOptions
from bridge._parity.outputs import NOISE_BATCHES, OutputComparer
from bridge._parity.results import PhotoRow, Status
from bridge._parity.rule import Tolerance
from bridge._parity.runners.protocol import Lane, RunnerError
from bridge._parity.runners.segments import Results
from bridge._surfaces.surface import SAVED_MODEL, Call, Computation, Pair
from bridge.proto import tf_pb
from tests.parity.endpoints import dense

OURS = Lane(REFERENCE, Path("a"), SAVED_MODEL, "tf2", Path("python"))
AGAIN = Lane(REFERENCE, Path("a"), SAVED_MODEL, "tf2", Path("python"), threads=1)
THEIRS = Lane(CANDIDATE, Path("b"), SAVED_MODEL, "tf2", Path("python"))
OURS_TF1 = Lane(REFERENCE, Path("a"), SAVED_MODEL, "tf1", Path("python1"))
RIGHT = np.linspace(1, 2, 12, dtype=np.float32).reshape(4, 3)
REFUSED = RunnerError("the model refused it")


class Script:
    """A crew whose lanes return what a test says, by the number of the batch.

    Attributes:
      asked: the lanes that were asked, with the number of the batch.
    """

    def __init__(self, **lanes):
        self.lanes = {"ours": OURS, "again": AGAIN, "theirs": THEIRS, "tf1": OURS_TF1}
        self.says = {self.lanes[name]: says for name, says in lanes.items()}
        self.asked: list[tuple[str, int]] = []

    def run(self, lane, call, values, known=None, names=None):
        number = int(values["x"][0])
        self.asked += [(name, number) for name, one in self.lanes.items() if one == lane]
        found = self.says.get(lane, lambda _: RIGHT)(number)
        future = Future()
        if not isinstance(found, RunnerError):
            outputs = found if isinstance(found, dict) else {"y": found}
            found = Results({name: np.array(value) for name, value in outputs.items()}, "", {})
        future.set_result(found)
        return future

    def name(self, lane):
        return f"TF {lane.side}"


def compare(script, count=6, *, outputs=("y",), tf1=False, name="noise", signature="s"):
    call = Call("signature", signature, outputs=dict.fromkeys(outputs, ()))
    ends = {name: dense(tf_pb.DT_FLOAT, (None, 3)) for name in outputs}
    one = Computation(frozenset(), signature, {"x": dense(tf_pb.DT_INT64, (1,))}, ends, (call,))
    pair = Pair(one, one, {"x": "x"}, {name: name for name in outputs})
    pairs = [LanePair(OURS, THEIRS, across=False)]
    if tf1:
        pairs.append(LanePair(OURS_TF1, THEIRS, across=True))
    comparer = OutputComparer(pair, Plan(tuple(pairs), {OURS: AGAIN}), script, ParityOptions())
    files = ("a", "b", "c", "d") if name == "photos" else ()
    rows = comparer.run(Batch(name, n, {"x": np.array([n])}, files) for n in range(count))
    return rows, comparer


def at(wrong, *batches, right=RIGHT):
    """What a lane says that is wrong on some batches."""
    return lambda number: wrong if number in batches else right


SLIGHTLY = RIGHT * np.float32(1 + 5e-5)
OTHERWISE = RIGHT * np.float32(1 - 4e-5)


# -- ways to call a model -------------------------------------------------------------------------


def test_further_ways_are_taken_on_few_batches_of_each_set_unless_they_alone_return_an_output():
    def way(name, *outputs):
        return Call("callable", name, outputs=dict.fromkeys(outputs, ()))

    ends = {name: dense(tf_pb.DT_FLOAT, (None, 3)) for name in "yzw"}
    inputs = {"x": dense(tf_pb.DT_INT64, (1,))}
    ours = Computation(frozenset(), "s", inputs, ends, (way("s", *"yzw"),))
    ways = way("main", "y", "z"), way("again", "z"), way("other", "w", "y"), way("last", "w")
    theirs = Computation(frozenset(), "s", inputs, ends, ways)
    pair = Pair(ours, theirs, {"x": "x"}, {name: name for name in ends})

    called = []
    script = Script(ours=lambda _: dict.fromkeys("yzw", RIGHT))
    script.says[THEIRS] = lambda number: dict.fromkeys(called[-1][1], RIGHT + (number == 3))
    run = script.run

    def noted(lane, call, values, *rest):
        if lane is THEIRS:
            called.append((call.name, tuple(call.outputs), int(values["x"][0])))
        return run(lane, call, values, *rest)

    script.run = noted
    plan = Plan((LanePair(OURS, THEIRS, across=False),), {OURS: AGAIN})
    fed = [("photos", n) for n in range(5)] + [("noise", n) for n in range(3)]
    rows = OutputComparer(pair, plan, script, ParityOptions()).run(
        Batch(name, index, {"x": np.array([n])}) for n, (name, index) in enumerate(fed)
    )
    batches = {"main": [*range(8)], "other": [*range(8)], "again": [0, 1, 5, 6]}
    batches["last"] = batches["again"]
    for name, numbers in batches.items():
        assert [number for one, _, number in called if one == name] == numbers
    assert {(row.through[1], row.output): row.batches for row in rows} == {
        (way.label, output): len(batches[way.name]) for way in ways for output in way.outputs
    }
    # What no further way was fed, the ways that were tell.
    failed = {(row.through[1], row.output) for row in rows if row.status is Status.FAIL}
    assert failed == {(way.label, o) for way in (ways[0], ways[2]) for o in way.outputs}


@pytest.mark.parametrize(
    ("wrong", "calls", "outputs"),
    [
        ({"plain": "z"}, ("s", "plain"), {"z": "z2"}),
        ({"plain": "yz"}, ("s", "plain"), {"y": "y2", "z": "z2"}),
        ({"other device": "y", "plain": "z"}, ("s", "plain"), {"z": "z2"}),
        ({"other device": "y"}, ("s", "main"), {"y": "y2"}),
    ],
)
def test_a_failure_tells_how_both_sides_were_called_and_which_outputs_failed(wrong, calls, outputs):
    """One device against another only counts where nothing else failed."""

    def side(names, *ways):
        ends = {name: dense(tf_pb.DT_FLOAT, (None, 3)) for name in names}
        made = (Call("callable", way, outputs=dict.fromkeys(names, ())) for way in ways)
        return Computation(frozenset(), "s", {"x": dense(tf_pb.DT_INT64, (1,))}, ends, tuple(made))

    names = {"y": "y2", "z": "z2"}
    pair = Pair(side(names, "s"), side(names.values(), "main", "plain"), {"x": "x"}, names)
    device = Lane(REFERENCE, Path("a"), SAVED_MODEL, "tf2", Path("python"), "gpu:0")
    script = Script()
    run = script.run

    def answered(lane, call, *rest):
        bad = wrong.get("other device" if lane is device else call.name, "")
        script.says[lane] = lambda number: {
            name: RIGHT + (number == 1 and name[0] in bad) for name in call.outputs
        }
        return run(lane, call, *rest)

    script.run = answered
    lanes = LanePair(OURS, device, across=True), LanePair(OURS, THEIRS, across=True)
    options = ParityOptions(overrides={"z": Tolerance(1e-2)})
    comparer = OutputComparer(pair, Plan(lanes, {}), script, options)
    comparer.run(Batch("noise", n, {"x": np.array([n])}) for n in range(3))
    found = comparer.first_failure()
    assert tuple(c.calls[0].name for c in (found.pair.reference, found.pair.candidate)) == calls
    assert found.pair.outputs == outputs
    assert found.pair.reference.outputs.keys() == outputs.keys()
    assert found.pair.candidate.outputs.keys() == set(outputs.values())
    assert found.batch.index == 1
    # It is searched in one TensorFlow on one device.
    assert found.tolerance == Tolerance(1e-5 if "y" in outputs else 1e-2)


# -- refusals -------------------------------------------------------------------------------------


def test_what_the_reference_refuses_is_counted_where_other_batches_pass():
    (row,), _ = compare(Script(ours=at(REFUSED, 1, 3)))
    assert row.status is Status.PASS
    assert row.reason == "2 of 6 batches could not be compared: the model refused it"
    assert row.difference.values == 4 * RIGHT.size


def test_a_failure_says_too_what_was_not_compared():
    (row,), comparer = compare(Script(ours=at(REFUSED, 1), theirs=at(RIGHT + 1, 2)))
    assert row.status is Status.FAIL
    assert row.reason.startswith("max|a-b| is 1")
    assert row.reason.endswith("; 1 of 6 batches could not be compared: the model refused it")
    assert comparer.first_failure().batch.index == 2


def test_what_the_reference_refuses_always_is_not_comparable():
    (row,), _ = compare(Script(ours=at(REFUSED, *range(6))))
    assert (row.status, row.reason) == (Status.NOT_COMPARABLE, "the model refused it")


def test_what_only_the_candidate_refuses_is_a_failure():
    (row,), _ = compare(Script(theirs=at(REFUSED, 5)))
    assert (row.status, row.reason) == (Status.FAIL, "the model refused it")


# -- a reference that differs from itself ---------------------------------------------------------


def test_a_batch_on_which_the_reference_differs_from_itself_is_set_aside_and_counted():
    (row,), comparer = compare(Script(theirs=at(SLIGHTLY, 4), again=at(OTHERWISE, 4)))
    assert row.status is Status.PASS
    assert row.reason == (
        "1 of 6 batches could not be compared: the reference differs from itself by 7.999e-05, "
        "more than the limit 2e-05"
    )
    assert row.difference.values == 5 * RIGHT.size
    assert row.difference.max_abs == 0
    assert row.noise == pytest.approx(8e-5, rel=0.01)
    assert comparer.first_failure() is None


def test_where_no_batch_is_left_the_output_is_not_comparable():
    everywhere = range(6)
    (row,), _ = compare(Script(theirs=at(SLIGHTLY, *everywhere), again=at(OTHERWISE, *everywhere)))
    assert row.status is Status.NOT_COMPARABLE
    assert row.reason == "the reference differs from itself by 7.999e-05, more than the limit 2e-05"


def test_refused_and_unsteady_batches_are_told_apart():
    script = Script(ours=at(REFUSED, 0), theirs=at(SLIGHTLY, 4, 5), again=at(OTHERWISE, 4, 5))
    (row,), _ = compare(script)
    assert row.status is Status.PASS
    assert row.reason.startswith("1 of 6 batches could not be compared: the model refused it; 2 of")


def test_the_reference_runs_again_on_the_first_batches_and_on_each_that_fails():
    script = Script(theirs=at(SLIGHTLY, 4, 5), again=at(OTHERWISE, 4, 5))
    compare(script, 8)
    again = [number for name, number in script.asked if name == "again"]
    assert again == [*range(NOISE_BATCHES), 4, 5]


def test_what_failed_once_is_not_run_again_for_each_further_failure():
    script = Script(theirs=lambda _: RIGHT + 1)
    compare(script, 20)
    again = [number for name, number in script.asked if name == "again"]
    assert again == [*range(NOISE_BATCHES)]


@pytest.mark.parametrize("batch", range(6))
@pytest.mark.parametrize("wrong", [SLIGHTLY, RIGHT + 1, RIGHT[:, ::-1]])
def test_no_fault_hides_where_the_reference_is_steady(batch, wrong):
    (row,), comparer = compare(Script(theirs=at(wrong, batch)))
    assert row.status is Status.FAIL
    assert comparer.first_failure().batch.index == batch


def test_noise_below_the_limit_excuses_nothing():
    (row,), _ = compare(
        Script(theirs=at(SLIGHTLY, 3), again=lambda _: RIGHT * np.float32(1 + 9e-6))
    )
    assert row.status is Status.FAIL


def test_noise_of_another_batch_or_another_output_excuses_nothing():
    (row,), _ = compare(Script(theirs=at(SLIGHTLY, 3), again=at(OTHERWISE, 0, 1, 2, 4, 5)))
    assert row.status is Status.FAIL
    script = Script(
        ours=lambda _: {"y": RIGHT, "z": RIGHT},
        theirs=lambda n: {"y": SLIGHTLY if n == 3 else RIGHT, "z": RIGHT},
        again=lambda _: {"y": RIGHT, "z": OTHERWISE},
    )
    rows, _ = compare(script, outputs=("y", "z"))
    assert [row.status for row in rows] == [Status.FAIL, Status.PASS]


def test_a_fault_beside_unsteady_batches_fails():
    script = Script(
        theirs=lambda n: {4: SLIGHTLY, 5: RIGHT + 1}.get(n, RIGHT), again=at(OTHERWISE, 4)
    )
    (row,), comparer = compare(script)
    assert row.status is Status.FAIL
    assert comparer.first_failure().batch.index == 5
    assert "1 of 6 batches could not be compared: the reference differs" in row.reason


NAN = RIGHT.copy()
NAN[0, 0] = np.nan


@pytest.mark.parametrize(
    "wrong", [RIGHT + 1, NAN, RIGHT[:2], RIGHT.astype(np.float64), REFUSED, {"other": RIGHT}]
)
def test_what_noise_does_not_explain_fails(wrong):
    (row,), _ = compare(Script(theirs=at(wrong, 4), again=at(OTHERWISE, 4)))
    assert row.status is Status.FAIL


def test_nan_that_comes_and_goes_by_itself_proves_nothing():
    (row,), _ = compare(Script(theirs=at(NAN, 4), again=at(NAN, 4)))
    assert row.status is Status.PASS
    assert "the reference differs from itself, in the places of NaN and Inf" in row.reason
    assert row.difference.nan == (0, 0)


def test_integers_that_come_and_go_by_themselves_prove_nothing():
    whole, other = np.arange(3), np.array([0, 1, 5])
    script = Script(
        ours=lambda _: whole, theirs=at(other, 4, right=whole), again=at(other, 4, right=whole)
    )
    (row,), _ = compare(script)
    assert row.status is Status.PASS
    assert "in values that must be equal" in row.reason
    (row,), _ = compare(Script(ours=lambda _: whole, theirs=at(other, 4, right=whole),
                               again=lambda _: whole))  # fmt: skip
    assert row.status is Status.FAIL


@pytest.mark.parametrize("wrong", [np.zeros(100, int), np.arange(100) + 20])
def test_a_few_integers_that_come_and_go_do_not_excuse_many_or_large_differences(wrong):
    whole, other = np.arange(100), np.arange(100)
    other[7] += 1
    script = Script(ours=lambda _: whole, theirs=lambda _: wrong, again=lambda _: other)
    (row,), _ = compare(script)
    assert row.status is Status.FAIL


def test_an_output_that_is_excused_in_every_batch_is_told_from_what_was_never_run():
    (row,), _ = compare(Script(theirs=lambda _: SLIGHTLY, again=lambda _: OTHERWISE))
    assert (row.status, row.excused) == (Status.NOT_COMPARABLE, True)
    (row,), _ = compare(Script(theirs=at(SLIGHTLY, 4), again=at(OTHERWISE, 4)))
    assert (row.status, row.excused) == (Status.PASS, False)
    (row,), _ = compare(Script(ours=lambda _: REFUSED))
    assert (row.status, row.excused) == (Status.NOT_COMPARABLE, False)


def test_a_reference_that_cannot_be_run_again_excuses_nothing():
    (row,), _ = compare(Script(theirs=at(SLIGHTLY, 4), again=at(REFUSED, 4)))
    assert row.status is Status.FAIL


def test_noise_in_todays_tensorflow_counts_for_the_same_model_in_tensorflow_1():
    wrong, other = RIGHT * np.float32(1 + 5e-4), RIGHT * np.float32(1 - 4e-4)
    rows, _ = compare(Script(theirs=at(wrong, 4), again=at(other, 4)), tf1=True)
    assert [row.status for row in rows] == [Status.PASS] * 2
    rows, _ = compare(Script(theirs=at(wrong, 4)), tf1=True)
    assert [row.status for row in rows] == [Status.FAIL] * 2
    # The limit is that of the row: it is wider here, so that the noise is below it.
    rows, _ = compare(Script(theirs=at(SLIGHTLY, 4), tf1=at(RIGHT * np.float32(1 - 1e-4), 4),
                             again=at(OTHERWISE, 4)), tf1=True)  # fmt: skip
    assert [row.status for row in rows] == [Status.PASS, Status.FAIL]


# -- photos ---------------------------------------------------------------------------------------


def test_the_photos_that_differ_most_are_kept_of_the_main_output():
    wrong = RIGHT.copy()
    wrong[2, 1] += 3
    wrong[0, 0] += 1
    both = {"default": RIGHT, "block1": RIGHT}
    script = Script(
        ours=lambda _: both,
        theirs=at(dict.fromkeys(both, wrong), 1, right=both),
        again=lambda _: both,
    )
    rows, _ = compare(script, 2, outputs=tuple(both), name="photos")
    assert rows[0].difference.photos == (
        PhotoRow(1, 2, pytest.approx(3)),
        PhotoRow(1, 0, pytest.approx(1)),
    )
    assert rows[1].difference.photos == ()
    rows, _ = compare(script, 2, outputs=("block1",), name="photos")
    assert len(rows[0].difference.photos) == 2
    rows, _ = compare(script, 2, outputs=("default",), name="smooth")
    assert rows[0].difference.photos == ()
