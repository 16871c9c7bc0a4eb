"""What servers get, who load the graph of a SavedModel by its SignatureDefs, is compared too."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge._parity.results import Status
from bridge._parity.structure import compare_structure
from bridge._surfaces.read import read_surface
from bridge._surfaces.surface import Served
from bridge.proto import tf_pb
from bridge.saved_model.record import RECORD
from bridge.saved_model.serving import INIT_OP
from bridge.saved_model.writer import MAIN_OP
from tests.conftest import TESTDATA
from tests.parity import models
from tests.parity.models import Converted

TOY = "toy_image_resource"
PAIR = "multi_input"
WORDS = "text_vocab"
TABLES = "assets_many"

Fault = Callable[[tf_pb.MetaGraphDef], None]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return Converted(tmp_path_factory.mktemp("converted"))


def planted(converted: Converted, name: str, fault: Fault, directory: Path) -> Path:
    """A copy of a converted module with a fault."""
    path = models.copy(converted.saved_model(name), directory)
    with models.only_graph(path) as graph:
        fault(graph)
    return path


def rows(reference: Path, candidate: Path) -> set[tuple[str, str, Status, str]]:
    """What is not a pass: check, name, status and reason."""
    checks = compare_structure(read_surface(reference), read_surface(candidate)).checks
    return {(c.check, c.name, c.status, c.reason) for c in checks if c.status is not Status.PASS}


def node(graph: tf_pb.MetaGraphDef, name: str) -> tf_pb.NodeDef:
    """A node by the name of one of its outputs."""
    return next(n for n in graph.graph_def.node if n.name == name.partition(":")[0])


def _call(graph: tf_pb.MetaGraphDef, name: str) -> tf_pb.NodeDef:
    outputs = graph.signature_def[name].outputs
    return node(graph, next(iter(outputs.values())).name)


@pytest.mark.parametrize("name", sorted(p.name for p in (TESTDATA / "modules").iterdir()))
def test_a_conversion_serves_what_its_objects_give(name: str, converted: Converted) -> None:
    served = read_surface(converted.saved_model(name)).served
    assert served
    assert {key: s for key, s in served.items() if s != Served()} == {}


def _forget(graph: tf_pb.MetaGraphDef) -> None:
    del graph.signature_def["default"]


def _swap_outputs(graph: tf_pb.MetaGraphDef) -> None:
    outputs = graph.signature_def["default"].outputs
    first, second = outputs["product"].name, outputs["sum"].name
    outputs["product"].name, outputs["sum"].name = second, first


def _drop_output(graph: tf_pb.MetaGraphDef) -> None:
    del graph.signature_def["default"].outputs["sum"]


def _swap_variables(graph: tf_pb.MetaGraphDef) -> None:
    call = _call(graph, "default")
    call.input[-1], call.input[-2] = call.input[-2], call.input[-1]


def _swap_in_all(graph: tf_pb.MetaGraphDef) -> None:
    for name in ("default", "serving_default", "scored"):
        call = _call(graph, name)
        call.input[2], call.input[3] = call.input[3], call.input[2]


def _other_dtype(graph: tf_pb.MetaGraphDef) -> None:
    graph.signature_def["default"].inputs["left"].dtype = tf_pb.DT_DOUBLE


def _other_shape(graph: tf_pb.MetaGraphDef) -> None:
    graph.signature_def["default"].outputs["sum"].tensor_shape.dim[1].size = 6


def _rename_input(graph: tf_pb.MetaGraphDef) -> None:
    inputs = graph.signature_def["default"].inputs
    left, right = inputs["left"].name, inputs["right"].name
    inputs["left"].name, inputs["right"].name = right, left


OTHERS = "the variables and tables that it reads are others than those of its object"


@pytest.mark.parametrize(
    ("fault", "reasons"),
    [
        (_forget, {"there is no SignatureDef of it, so that no server finds it"}),
        (
            _swap_outputs,
            {
                "its output 'product' is not what its object computes",
                "its output 'sum' is not what its object computes",
            },
        ),
        (_drop_output, {"it returns 'product', its object 'product', 'sum'"}),
        (_swap_variables, {OTHERS}),
        (_swap_in_all, {OTHERS}),
        (_other_dtype, {"its input 'left' is float64[?, 3], that of its object float32[?, 3]"}),
        (_other_shape, {"its output 'sum' is float32[?, 6], that of its object float32[?, 5]"}),
        (_rename_input, {"its input 'left' is float32[?, 4], that of its object float32[?, 3]"}),
    ],
)
def test_a_signature_that_is_served_otherwise_fails(
    fault: Fault, reasons: set[str], converted: Converted, tmp_path: Path
) -> None:
    path = planted(converted, PAIR, fault, tmp_path)
    for reference in (converted.module(PAIR), converted.saved_model(PAIR)):
        found = rows(reference, path)
        assert {(check, status) for check, _, status, _ in found} == {("served", Status.FAIL)}
        assert any(name == "default" for _, name, _, _ in found)
        assert {reason for _, _, _, reason in found} & reasons
    # The same fault on both sides is none of the candidate's.
    assert rows(path, path) == set()


def test_a_form_that_is_not_known_is_told(converted: Converted, tmp_path: Path) -> None:
    def pass_on(graph: tf_pb.MetaGraphDef) -> None:
        info = graph.signature_def["default"].outputs["sum"]
        graph.graph_def.node.add(name="after", op="Identity", input=[info.name])
        info.name = "after:0"

    path = planted(converted, PAIR, pass_on, tmp_path)
    reason = "in the candidate, its outputs are not the results of one call of a function"
    assert rows(converted.module(PAIR), path) == {
        ("served", "default", Status.NOT_COMPARABLE, reason)
    }


def _without_init_op(graph: tf_pb.MetaGraphDef) -> None:
    del graph.signature_def[INIT_OP]
    del graph.collection_def[MAIN_OP]


def _with_idle_init_op(graph: tf_pb.MetaGraphDef) -> None:
    del node(graph, graph.signature_def[INIT_OP].outputs[INIT_OP].name).input[:]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (_without_init_op, "no op is named that fills its tables where a server loads them"),
        (
            _with_idle_init_op,
            "1 of 1 functions that fill tables are not run where a server loads it",
        ),
    ],
)
def test_tables_that_no_server_fills_fail(
    fault: Fault, reason: str, converted: Converted, tmp_path: Path
) -> None:
    path = planted(converted, WORDS, fault, tmp_path)
    assert rows(converted.module(WORDS), path) == {("served", INIT_OP, Status.FAIL, reason)}
    assert rows(path, path) == set()


def _without_call(graph: tf_pb.MetaGraphDef) -> None:
    models.drop_child(graph, "__call__")


def _without_signatures(graph: tf_pb.MetaGraphDef) -> None:
    models.drop_child(graph, "signatures")
    graph.signature_def.clear()


@pytest.mark.parametrize(
    ("fault", "row"),
    [
        (_without_call, ("callable", "the candidate can't be used so: it has no `__call__`")),
        (
            _without_signatures,
            ("signature", "the candidate can't be used so: it has no serving signature"),
        ),
    ],
)
def test_what_was_a_module_can_be_called_and_served(
    fault: Fault, row: tuple[str, str], converted: Converted, tmp_path: Path
) -> None:
    path = planted(converted, PAIR, fault, tmp_path)
    check, reason = row
    wanted = (check, "default", Status.FAIL, reason)
    assert wanted in rows(converted.module(PAIR), path)
    # Somebody's own SavedModel may be made for one of the two only.
    with models.only_graph(path) as graph:
        del graph.collection_def[RECORD]
    told = (check, "default", Status.NOT_COMPARABLE, reason)
    found = rows(converted.module(PAIR), path)
    assert told in found
    assert wanted not in found


def test_what_only_the_reference_serves_is_missed(converted: Converted, tmp_path: Path) -> None:
    def forget_all(graph: tf_pb.MetaGraphDef) -> None:
        models.drop_child(graph, "signatures", "scored")
        del graph.signature_def["scored"]

    path = planted(converted, PAIR, forget_all, tmp_path)
    reason = "the candidate serves nothing of this name"
    assert ("served", "scored", Status.FAIL, reason) in rows(converted.saved_model(PAIR), path)


def test_what_fills_tables_may_be_traced_once_more(converted: Converted, tmp_path: Path) -> None:
    def trace_again(graph: tf_pb.MetaGraphDef) -> None:
        (fill,) = node(graph, graph.signature_def[INIT_OP].outputs[INIT_OP].name).input
        call = node(graph, fill.removeprefix("^"))
        library = graph.graph_def.library
        function = next(f for f in library.function if f.signature.name == call.attr["f"].func.name)
        again = library.function.add()
        again.CopyFrom(function)
        again.signature.name = call.attr["f"].func.name = "__inference_<lambda>_1"

    path = planted(converted, WORDS, trace_again, tmp_path)
    assert rows(converted.module(WORDS), path) == set()


def _fillers(graph: tf_pb.MetaGraphDef) -> list[tf_pb.NodeDef]:
    """The calls of functions that fill tables."""
    run = node(graph, graph.signature_def[INIT_OP].outputs[INIT_OP].name)
    return [node(graph, name.removeprefix("^")) for name in run.input]


def _other_file(graph: tf_pb.MetaGraphDef) -> None:
    calls = [call for call in _fillers(graph) if call.input[0].startswith("asset_path_initializer")]
    files = {call.input[0] for call in calls}
    calls[0].input[0] = next(iter(files - {calls[0].input[0]}))


def _swap_tables(graph: tf_pb.MetaGraphDef) -> None:
    first, *others = (call for call in _fillers(graph) if len(call.input) == 2)
    other = next(call for call in others if call.input[0] != first.input[0])
    first.input[1], other.input[1] = other.input[1], first.input[1]


def _idle_function(graph: tf_pb.MetaGraphDef) -> None:
    name = _fillers(graph)[0].attr["f"].func.name
    function = next(f for f in graph.graph_def.library.function if f.signature.name == name)
    idle = graph.graph_def.library.function.add()
    idle.CopyFrom(function)
    idle.signature.name = "idle"
    fills = next(n for n in idle.node_def if "Table" in n.op)
    for other in idle.node_def:
        kept = [name for name in other.input if name != f"^{fills.name}"]
        del other.input[:]
        other.input.extend(kept)
    for key in [key for key, value in idle.control_ret.items() if value == fills.name]:
        del idle.control_ret[key]
        idle.signature.control_output.remove(key)
    idle.node_def.remove(fills)
    for call in _fillers(graph):
        if call.attr["f"].func.name == name:
            call.attr["f"].func.name = "idle"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (_other_file, "its table 'TABLE' is filled otherwise where a server loads it"),
        (_swap_tables, "its table 'TABLE' is filled otherwise where a server loads it"),
        (_idle_function, "its table 'TABLE' is not filled where a server loads it"),
    ],
)
def test_tables_that_servers_fill_otherwise_fail(
    fault: Fault, reason: str, converted: Converted, tmp_path: Path
) -> None:
    path = planted(converted, TABLES, fault, tmp_path)
    (found,) = rows(converted.module(TABLES), path)
    assert found[:3] == ("served", INIT_OP, Status.FAIL)
    assert re.sub("'[^']+'", "'TABLE'", found[3]) == reason
    assert rows(path, path) == set()
