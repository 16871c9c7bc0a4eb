"""The graph of a variant, made of calls of the SavedModel's functions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

import bridge
from bridge.errors import UnsupportedError
from bridge.proto import tf_pb
from tests.saved_model.handmade import FLOAT, Handmade, function, op, spec

VALUE = {"x": FLOAT, "handle": tf_pb.DT_RESOURCE}


def adding(name: str, times: int, factor: str = "Neg") -> tf_pb.FunctionDef:
    """A function that adds its input to a variable; its result does not wait for that."""
    writes = [
        op(f"add{i}", "AssignAddVariableOp", "handle", "x", dtype=FLOAT) for i in range(times)
    ]
    made = function(name, [*writes, op("y", factor, "x", T=FLOAT)], {"y": "y:y:0"}, VALUE)
    for write in writes:
        made.signature.control_output.append(write.name)
        made.control_ret[write.name] = write.name
    return made


@pytest.mark.parametrize(
    ("times", "updates"), [((1,), 1), ((2,), 2), ((1, 1), 1), ((2, 2), 2), ((2, 1), 2)]
)
def test_a_signature_makes_an_update_as_often_as_its_function(
    times: Sequence[int], updates: int, tmp_path: Path
) -> None:
    """Each of several signatures, of which a client calls one, makes the same update."""
    model = Handmade()
    total = model.variable("total", attribute="total", trainable=False)
    for number, count in enumerate(times):
        made = adding(f"add{number}", count, ("Neg", "Exp")[number])
        trace = model.trace(made, keywords={"x": spec()}, captures=[total])
        model.signature(f"signature{number}", trace)
    report = bridge.to_hub_module(model.write(tmp_path / "source"), tmp_path / "module")
    assert report.kept.update_ops == updates
    assert not any("two calls" in note.reason for note in report.remarks)


@pytest.mark.parametrize("guards", [False, True])
def test_a_result_need_not_wait_for_what_a_branch_with_an_update_gives(
    guards: bool, tmp_path: Path
) -> None:
    """The function must run a node that gets its input from the conditional."""
    branch = adding("branch", 1)
    choice = op("choice", "If", "cast:y:0", "x", "handle", Tcond=tf_pb.DT_BOOL)
    choice.attr["then_branch"].func.name = choice.attr["else_branch"].func.name = "branch"
    choice.attr["Tin"].list.type.extend(VALUE.values())
    choice.attr["Tout"].list.type.append(FLOAT)
    nodes = [
        op("cast", "Cast", "size:output:0", SrcT=tf_pb.DT_INT32, DstT=tf_pb.DT_BOOL),
        op("size", "Size", "x", T=FLOAT, out_type=tf_pb.DT_INT32),
        choice,
        op("ran", "CheckNumerics" if guards else "Identity", "choice:output:0", T=FLOAT),
        op("y", "Neg", "x", T=FLOAT),
    ]
    made = function("main", nodes, {"y": "y:y:0"}, VALUE)
    if guards:
        made.node_def[3].attr["message"].s = b""
    made.signature.control_output.append("ran")
    made.control_ret["ran"] = "ran"
    model = Handmade()
    total = model.variable("total", attribute="total", trainable=False)
    model.library.function.append(branch)
    model.signature("only", model.trace(made, keywords={"x": spec()}, captures=[total]))
    source = model.write(tmp_path / "source")
    if guards:
        with pytest.raises(UnsupportedError, match="the forward pass needs its outputs"):
            bridge.to_hub_module(source, tmp_path / "module")
    else:
        assert bridge.to_hub_module(source, tmp_path / "module").kept.update_ops == 1
