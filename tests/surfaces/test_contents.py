"""Digests of what is computed: equal for the same computation, whatever things are called."""

from __future__ import annotations

from collections.abc import Iterable

from bridge._surfaces.bodies import Bodies
from bridge._surfaces.contents import Contents
from bridge.attrs import bool_attr, string_attr
from bridge.graph import Graph, Tensor
from bridge.opsets import OpTable
from bridge.proto import tf_pb
from tests.saved_model.handmade import FLOAT, call, function, op, scaled
from tests.saved_model.tiny import constant

GIVEN = {"x": b"x"}


def digests(
    nodes: Iterable[tf_pb.NodeDef], functions: Iterable[tf_pb.FunctionDef] = (), name: str = "y"
) -> bytes:
    graph = Graph([op("x", "Placeholder", dtype=FLOAT), *nodes], OpTable(), functions)
    (found,) = Contents(Bodies(graph)).of_tensors(graph, [Tensor(name, 0)], GIVEN)
    return found


def test_names_hints_and_defaults_do_not_count() -> None:
    plain = digests([op("y", "MatMul", "x", "x", T=FLOAT)])
    other = op("other", "MatMul", "x", "x", T=FLOAT)
    other.attr["transpose_a"].CopyFrom(bool_attr(False))
    other.attr["_hint"].CopyFrom(string_attr("a"))
    assert digests([other], name="other") == plain
    other.attr["transpose_a"].CopyFrom(bool_attr(True))
    assert digests([other], name="other") != plain


def test_ops_inputs_and_constants_count() -> None:
    found = {
        digests([op("y", "Mul", "x", "x", T=FLOAT)]),
        digests([op("y", "AddV2", "x", "x", T=FLOAT)]),
        digests([constant("c", 1.0), op("y", "Mul", "x", "c", T=FLOAT)]),
        digests([constant("c", 2.0), op("y", "Mul", "x", "c", T=FLOAT)]),
        digests([constant("c", 2.0), op("y", "Mul", "c", "x", T=FLOAT)]),
        digests([op("z", "Neg", "x", T=FLOAT), op("y", "Mul", "x", "x", "^z", T=FLOAT)]),
    }
    assert len(found) == 6


def test_a_call_is_what_it_calls() -> None:
    inline = digests([constant("factor", 2.0), op("y", "Mul", "x", "factor", T=FLOAT)])
    outer = function("outer", [call("again", "f", "x")], {"y": "again:output:0"})
    functions = [scaled("f", 2.0), outer]
    assert digests([call("y", "f", "x")], functions) == inline
    assert digests([call("y", "outer", "x")], functions) == inline
    assert digests([call("y", "f", "x")], [scaled("f", 3.0)]) != inline


def test_branches_count() -> None:
    def choice(then: str, otherwise: str) -> bytes:
        node = op("y", "If", "x", "x", Tcond=FLOAT)
        node.attr["then_branch"].func.name = then
        node.attr["else_branch"].func.name = otherwise
        node.attr["Tin"].list.type.append(FLOAT)
        node.attr["Tout"].list.type.append(FLOAT)
        return digests([node], [scaled("two", 2.0), scaled("three", 3.0), scaled("again", 2.0)])

    assert choice("two", "three") == choice("again", "three")
    assert len({choice("two", "three"), choice("three", "two"), choice("two", "two")}) == 3
