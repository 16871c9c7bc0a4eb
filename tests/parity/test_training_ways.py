"""Which signatures are trained, and in which ways each of them is called for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bridge
from bridge import Status, Verdict
from bridge._parity.training_ways import TrainingWays, to_train
from bridge._surfaces.read import read_surface
from bridge._surfaces.surface import SAVED_MODEL, Call, Computation, Pair, Surface
from bridge.ops import CALLS
from bridge.proto import tf_pb
from tests.parity.models import copy, only_graph

# -- which signatures -----------------------------------------------------------------------------


def computation(
    name: str, *tags: str, same_as: tuple[frozenset[str], str] | None = None
) -> Computation:
    return Computation(frozenset(tags), name, {}, {}, (Call("callable", name),), same_as)


def trained(*found: Computation, candidate: tuple[Computation, ...] = ()) -> list[str]:
    theirs = candidate or found
    sides = [
        Surface(Path(), SAVED_MODEL, "", side, {}, {}, {}, {}, {}, {}, None)
        for side in (found, theirs)
    ]
    pairs = [Pair(a, b, {}, {}) for a, b in zip(found, theirs, strict=True)]
    return [
        "/".join([*sorted(pair.reference.variant), pair.reference.signature])
        for pair in to_train(pairs, *sides)
    ]


def test_each_signature_is_trained_in_its_form_for_training_if_it_has_one():
    assert trained(computation("default"), computation("more")) == ["default", "more"]
    both = computation("default"), computation("more"), computation("default", "train")
    assert trained(*both) == ["more", "train/default"]
    sized = computation("default", "bs16"), computation("default", "bs16", "train")
    assert trained(*both, *sized) == ["more", "train/default", "bs16/train/default"]


def test_what_both_sides_have_twice_is_trained_once():
    default = computation("default")
    again = computation("again", same_as=(frozenset(), "default"))
    assert trained(default, again) == ["default"]
    other = computation("again")
    assert trained(default, again, candidate=(default, other)) == ["default", "again"]
    in_training = computation("default", "train", same_as=(frozenset(), "default"))
    assert trained(default, in_training) == ["train/default"]


def test_a_serving_signature_is_trained_apart_from_update_ops_of_others():
    served = replace(computation("served"), calls=(Call("signature", "served"),))
    in_training = replace(served, variant=frozenset({"train"}))
    assert trained(served, in_training) == ["served"]
    assert trained(in_training) == ["train/served"]


# -- in which ways --------------------------------------------------------------------------------

PLAIN = "__call__(training=True)"
FULL = "__call__(training=True, return_endpoints=True)"
FAULTS = ("", "update", "gradient")


def save(path: Path, fault: str = "") -> Path:
    """Saves a model that has a fault when it trains without endpoints."""
    import tensorflow as tf

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.w = tf.Variable([[1.0, -2.0], [0.5, 3.0], [2.0, 1.0]], name="w")
            self.mean = tf.Variable([0.0, 0.0], name="mean", trainable=False)

        @tf.function
        def __call__(self, x: Any, training: bool = False, return_endpoints: bool = False) -> Any:
            y = tf.matmul(x, self.w)
            planted = "" if return_endpoints else fault
            if training:
                mean = tf.reduce_mean(y, 0)
                if planted != "update":
                    self.mean.assign(0.9 * self.mean + 0.1 * mean)
                y = y - mean
                if planted == "gradient":
                    y = y / 2 + tf.stop_gradient(y / 2)
            else:
                y = y - self.mean
            return {"default": y, "twice": 2 * y} if return_endpoints else y

    model = Model()
    for training in (False, True):
        for endpoints in (False, True):
            model.__call__.get_concrete_function(
                tf.TensorSpec([None, 3], name="x"), training=training, return_endpoints=endpoints
            )
    tf.saved_model.save(model, str(path))
    return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The models by fault, and `module` and `back`: the right one converted, there and back."""
    directory = tmp_path_factory.mktemp("ways")
    found = {fault: save(directory / f"a{fault}", fault) for fault in FAULTS}
    found |= {name: directory / name for name in ("module", "back")}
    bridge.to_hub_module(found[""], found["module"], verify=False)
    bridge.to_saved_model(found["module"], found["back"], verify=False)
    return found


def ways(reference: Path, candidate: Path) -> list[tuple[str, str]]:
    """Returns the labels of the ways to train `default`."""
    sides = read_surface(reference), read_surface(candidate)
    ours, theirs = (
        next(c for c in s.computations if (c.variant, c.signature) == ({"train"}, "default"))
        for s in sides
    )
    pair = Pair(ours, theirs, {"x": "x"}, {name: name for name in ("default", "twice")})
    return [(a.label, b.label) for a, b in TrainingWays(*sides).of(pair)]


@pytest.mark.tf2
def test_each_way_that_runs_a_function_of_its_own_is_trained(saved):
    assert ways(saved[""], saved["update"]) == [(FULL, FULL), (PLAIN, PLAIN)]
    assert ways(saved["module"], saved[""]) == [("default", FULL), ("default", PLAIN)]
    assert ways(saved[""], saved["module"]) == [(FULL, "default"), (PLAIN, "default")]


@pytest.mark.tf2
def test_one_function_is_trained_once_in_however_many_ways_it_is_called(saved):
    assert ways(saved["module"], saved["module"]) == [("default", "default")]
    assert ways(saved["module"], saved["back"]) == [("default", FULL)]
    assert ways(saved["back"], saved["back"]) == [(FULL, FULL)]
    assert len(ways(saved["back"], saved[""])) == 2


def swap_inputs(function: tf_pb.FunctionDef, call: tf_pb.NodeDef) -> None:
    call.input[1], call.input[2] = call.input[2], call.input[1]


def return_another(function: tf_pb.FunctionDef, call: tf_pb.NodeDef) -> None:
    (name,) = function.ret
    node, output, place = function.ret[name].split(":")
    function.ret[name] = f"{node}:{output}:{1 - int(place)}"


def give_a_gradient(function: tf_pb.FunctionDef, call: tf_pb.NodeDef) -> None:
    call.attr["_gradient_op_type"].s = b"CustomGradient-1"


def compute_more(function: tf_pb.FunctionDef, call: tf_pb.NodeDef) -> None:
    (name,) = function.ret
    function.node_def.add(name="half", op="Neg", input=[function.ret[name]])
    function.ret[name] = "half:y:0"


@pytest.mark.tf2
@pytest.mark.parametrize("change", [swap_inputs, return_another, give_a_gradient, compute_more])
def test_what_calls_one_function_otherwise_is_trained_by_itself(
    saved: dict[str, Path],
    tmp_path: Path,
    change: Callable[[tf_pb.FunctionDef, tf_pb.NodeDef], None],
) -> None:
    changed = copy(saved["back"], tmp_path)
    with only_graph(changed) as graph:
        for function in graph.graph_def.library.function:
            for node in function.node_def:
                if node.op in CALLS and len(function.ret) == 1:
                    change(function, node)
                    break
    assert ways(saved["module"], changed) == [("default", FULL), ("default", PLAIN)]


@pytest.mark.tf2
@pytest.mark.parametrize(
    ("fault", "name"), [("update", "mean after 1 step"), ("gradient", "w")], ids=["update", "grad"]
)
@pytest.mark.parametrize("side", ["", "module"], ids=["saved_model", "module"])
def test_a_fault_in_one_way_of_training_fails(saved, fault, name, side):
    report = bridge.parity(saved[side], saved[fault], train=True, samples=1, batch_size=2)
    assert report.verdict is Verdict.FAIL
    failed = [row for row in report.training if row.status is Status.FAIL]
    assert name in {row.output for row in failed}
    assert {row.through[1] for row in failed} == {PLAIN}


@pytest.mark.tf2
def test_a_model_trains_as_itself_in_each_way(saved):
    report = bridge.parity(saved[""], saved[""], train=True, samples=1, batch_size=2)
    assert report.verdict is Verdict.PASS, report.decided_by
    assert {row.through for row in report.training} == {(FULL, FULL), (PLAIN, PLAIN)}
