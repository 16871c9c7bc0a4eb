"""Which update ops of a module belong to which signature."""

from __future__ import annotations

from bridge._surfaces.module_updates import ModuleUpdates
from bridge._surfaces.surface import Call, Updates
from bridge.graph import Graph
from bridge.model import Component, Encoding, Endpoint, Signature, Variant
from bridge.opsets import OpTable
from bridge.proto import tf_pb
from bridge.validate import check_graph
from tests.saved_model.handmade import FLOAT, op


def _endpoint(tensor: str) -> Endpoint:
    return Endpoint(Encoding.DENSE, tf_pb.DT_FLOAT, (), (Component(tensor, tf_pb.DT_FLOAT, ()),))


def _updates(signatures: dict[str, tuple[str, str]], *update_ops: str) -> dict[str, Updates]:
    """Returns what belongs to signatures, given by an input and an output each.

    The graph is a network of three layers, `sum` of `exp` and `square` of `neg` of `x`, beside
    which `y` goes nowhere. Most nodes have an op that writes them to a variable: `to_neg` writes
    `v_neg`.
    """
    nodes = [
        op("x", "Placeholder", dtype=FLOAT),
        op("y", "Placeholder", dtype=FLOAT),
        op("neg", "Neg", "x", T=FLOAT),
        op("exp", "Exp", "neg", T=FLOAT),
        op("square", "Square", "neg", T=FLOAT),
        op("sum", "AddV2", "exp", "square", T=FLOAT),
        op("alone", "Identity", "y", T=FLOAT),
    ]
    for name in ("x", "neg", "exp", "sum", "alone"):
        handle = op(f"v_{name}", "VarHandleOp", dtype=FLOAT)
        handle.attr["shape"].shape.SetInParent()
        nodes += [handle, op(f"to_{name}", "AssignVariableOp", f"v_{name}", name, dtype=FLOAT)]
    # What returns `waiting` has written before.
    nodes.append(op("waiting", "Identity", "neg", "^to_neg", T=FLOAT))
    graph = Graph(nodes, OpTable())
    check_graph(graph)
    variant = Variant(frozenset(), graph, update_ops={name: name for name in update_ops})
    for name, (given, returned) in signatures.items():
        inputs = {given: _endpoint(f"{given}:0")}
        variant.signatures[name] = Signature(name, inputs, {"out": _endpoint(f"{returned}:0")})
    found = ModuleUpdates(variant)
    return {name: found.of_call(Call("module", name)) for name in signatures}


NETWORK = {"features": ("x", "neg"), "classes": ("x", "exp")}


def test_what_only_another_signature_computes_belongs_to_that_one() -> None:
    found = _updates(NETWORK, "to_x", "to_neg", "to_exp")
    assert all(u.written == {"v_x", "v_neg", "v_exp"} for u in found.values())
    assert found["features"].others == {"v_exp"}
    assert found["classes"].others == set()


def test_what_both_signatures_compute_belongs_to_both() -> None:
    found = _updates({"features": ("x", "neg"), "again": ("x", "neg")}, "to_neg", "to_exp")
    assert [u.others for u in found.values()] == [set(), set()]


def test_what_two_signatures_compute_a_part_of_belongs_to_both() -> None:
    found = _updates({"one": ("x", "exp"), "other": ("x", "square")}, "to_sum")
    assert [u.others for u in found.values()] == [set(), set()]


def test_signatures_that_share_nothing_have_their_own() -> None:
    found = _updates({"features": ("x", "exp"), "same": ("x", "x")}, "to_x", "to_exp")
    assert found["same"].others == {"v_exp"}
    assert found["features"].others == set()


def test_an_update_op_that_the_inputs_do_not_feed_is_none_of_the_signature() -> None:
    found = _updates({"one": ("x", "neg"), "two": ("y", "alone")}, "to_neg", "to_alone")
    assert found["one"].written == {"v_neg"}
    assert found["two"].written == {"v_alone"}
    assert found["one"].others == found["two"].others == set()


def test_what_outputs_wait_for_is_written_without_update_ops() -> None:
    found = _updates({"plain": ("x", "neg"), "waiting": ("x", "waiting")}, "to_exp")
    assert found["plain"].forward == set()
    assert found["waiting"].forward == {"v_neg"}
    assert found["waiting"].written == {"v_neg", "v_exp"}
