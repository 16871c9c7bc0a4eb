"""Outputs have the static shapes that their signature gives."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from bridge.graph import Graph
from bridge.model import (
    INFERENCE,
    Component,
    Encoding,
    Endpoint,
    Shape,
    Signature,
    Variant,
    shape_from_proto,
)
from bridge.opsets import OpTable
from bridge.passes.ensure_shapes import EnsureShapes
from bridge.proto import tf_pb
from bridge.report import Report
from tests.saved_model.handmade import FLOAT, op
from tests.saved_model.tiny import constant, placeholder


def dense(name: str, shape: Shape) -> Endpoint:
    return Endpoint(Encoding.DENSE, FLOAT, shape, (Component(name, FLOAT, shape),))


def variant_of(signatures: Mapping[str, Mapping[str, Endpoint]]) -> Variant:
    top = op("t", "TopKV2", "x", "n", T=FLOAT)
    number = op("n", "Placeholder", dtype=tf_pb.DT_INT32)
    nodes = [placeholder("x"), number, constant("c", 1.0), op("y", "Relu", "x", T=FLOAT), top]
    graph = Graph(nodes, OpTable(()))
    named = {name: Signature(name, {}, dict(ends)) for name, ends in signatures.items()}
    return Variant(INFERENCE, graph, named)


def run(variant: Variant) -> int:
    return EnsureShapes().rewrite(variant, Report("source", None, "to-hub-module"))


def test_an_output_goes_through_a_node_that_knows_its_shape() -> None:
    variant = variant_of({"default": {"default": dense("y:0", (None, 3))}})
    variant.regularization_losses = ["y:0"]
    assert run(variant) == 1
    end = variant.signatures["default"].outputs["default"]
    assert end.components[0].name == "y/EnsureShape:0"
    node = variant.graph.nodes["y/EnsureShape"]
    assert (node.op, list(node.input)) == ("EnsureShape", ["y"])
    assert shape_from_proto(node.attr["shape"].shape) == (None, 3)
    assert node.attr["T"].type == FLOAT
    assert variant.regularization_losses == ["y:0"]


def test_a_tensor_of_several_signatures_gets_one_node() -> None:
    ends = {"default": dense("y:0", (3,)), "same": dense("y:0", (3,))}
    variant = variant_of({"default": ends, "other": ends})
    assert run(variant) == 1
    names = {
        end.components[0].name
        for signature in variant.signatures.values()
        for end in signature.outputs.values()
    }
    assert names == {"y/EnsureShape:0"}


def test_each_output_of_a_node_has_its_own_type() -> None:
    integer = tf_pb.DT_INT32
    indices = Endpoint(Encoding.DENSE, integer, (2,), (Component("t:1", integer, (2,)),))
    variant = variant_of({"default": {"values": dense("t:0", (2,)), "indices": indices}})
    assert run(variant) == 2
    nodes = [n for n in variant.graph.nodes.values() if n.op == "EnsureShape"]
    assert {(n.input[0], n.attr["T"].type) for n in nodes} == {("t", FLOAT), ("t:1", integer)}


@pytest.mark.parametrize(
    "end",
    [
        dense("y:0", None),
        dense("y:0", (None, None)),
        dense("x:0", (3,)),
        dense("c:0", ()),
        Endpoint(Encoding.SPARSE, FLOAT, (3, 3), (Component("y:0", FLOAT, (3,)),)),
    ],
    ids=["unknown", "unknown sizes", "input", "constant", "sparse"],
)
def test_where_nothing_can_be_told_nothing_is_added(end: Endpoint) -> None:
    variant = variant_of({"default": {"default": end}})
    assert run(variant) == 0
    assert variant.signatures["default"].outputs["default"] == end


def test_a_scalar_is_known() -> None:
    variant = variant_of({"default": {"default": dense("y:0", ())}})
    assert run(variant) == 1
