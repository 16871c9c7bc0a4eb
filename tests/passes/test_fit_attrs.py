"""Nodes keep the attributes that an older release knows, and mean the same there."""

from __future__ import annotations

import pytest

from bridge.attrs import (
    bool_attr,
    function_attr,
    int_attr,
    shape_attr,
    shapes_attr,
    string_attr,
    type_attr,
    types_attr,
)
from bridge.errors import MalformedError, UnsupportedError
from bridge.graph import Graph
from bridge.model import INFERENCE, Variant
from bridge.opsets import CURRENT, OpTable, load_opset
from bridge.opsets.release import load_release
from bridge.passes import fit_attrs
from bridge.passes.fit_attrs import FitAttrs
from bridge.proto import tf_pb
from bridge.report import Report
from tests.clients.tf1 import Tf1Client, Tf1Error

RELEASE = load_release("1.15")
OPS = load_opset(CURRENT)
FLOAT = type_attr(tf_pb.DT_FLOAT)


def node(op: str, **attrs: tf_pb.AttrValue) -> tf_pb.NodeDef:
    result = tf_pb.NodeDef(name="n", op=op)
    for name, value in attrs.items():
        result.attr[name].CopyFrom(value)
    return result


def fit(*nodes: tf_pb.NodeDef, function: tf_pb.FunctionDef | None = None) -> int:
    functions = [function] if function else []
    variant = Variant(INFERENCE, Graph(nodes, OpTable(), functions))
    return FitAttrs(RELEASE).rewrite(variant, Report("", None, "to-hub-module"))


def ints_attr(*values: int) -> tf_pb.AttrValue:
    return tf_pb.AttrValue(list=tf_pb.AttrValue.ListValue(i=values))


def float_attr(value: float) -> tf_pb.AttrValue:
    return tf_pb.AttrValue(f=value)


# -- annotations ---------------------------------------------------------------------------


def test_annotations_go() -> None:
    loop = node(
        "While",
        _lower_using_switch_merge=bool_attr(True),
        _num_original_outputs=int_attr(3),
        _read_only_resource_inputs=ints_attr(),
        _stateful_parallelism=bool_attr(False),
        _output_shapes=shapes_attr([()]),
        _XlaMustCompile=bool_attr(True),
        _class=string_attr("loc:@x"),
        parallel_iterations=int_attr(10),
    )
    assert fit(loop) == 1
    assert set(loop.attr) == {"parallel_iterations"}
    assert fit(loop) == 0


def test_annotations_of_functions_go_too() -> None:
    shape = shapes_attr([(2, 3)])
    function = tf_pb.FunctionDef()
    function.signature.name = "body"
    function.signature.input_arg.add(name="w", type=tf_pb.DT_RESOURCE)
    function.attr["_construction_context"].s = b"kEagerRuntime"
    function.attr["api_implements"].s = b"body"
    function.arg_attr[0].attr["_user_specified_name"].s = b"w"
    read = function.node_def.add(name="read", op="ReadVariableOp", input=["w"])
    read.attr["_output_shapes"].CopyFrom(shape)
    fit(function=function)
    assert not read.attr
    assert set(function.attr) == {"api_implements"}
    assert not function.arg_attr[0].attr


def test_a_custom_gradient_that_is_left_is_an_error() -> None:
    with pytest.raises(UnsupportedError, match="IdentityN has a custom gradient") as caught:
        fit(node("IdentityN", T=types_attr([1]), _gradient_op_type=string_attr("CustomGradient-1")))
    assert caught.value.where.node == "n"


# -- attributes that the release does not know --------------------------------------------


@pytest.mark.parametrize(
    ("op", "attr", "value"),
    [
        ("TopKV2", "index_type", type_attr(tf_pb.DT_INT32)),
        ("MaxPool", "explicit_paddings", ints_attr()),
        ("FusedBatchNormV3", "exponential_avg_factor", float_attr(1.0)),
        ("GatherNd", "bad_indices_policy", string_attr("")),
    ],
)
def test_an_unknown_attribute_with_its_default_goes(
    op: str, attr: str, value: tf_pb.AttrValue
) -> None:
    one = node(op, **{attr: value})
    fit(one)
    assert attr not in one.attr


@pytest.mark.parametrize(
    ("op", "attr", "value"),
    [
        ("AssignVariableOp", "validate_shape", bool_attr(True)),
        ("BatchMatMulV2", "grad_x", bool_attr(True)),
        ("MatMul", "grad_a", bool_attr(True)),
        ("MatMul", "grad_b", bool_attr(True)),
        ("SparseSegmentSum", "sparse_gradient", bool_attr(True)),
        ("VarHandleOp", "debug_name", string_attr("x")),
    ],
)
def test_an_unknown_attribute_that_changes_no_result_goes(
    op: str, attr: str, value: tf_pb.AttrValue
) -> None:
    one = node(op, **{attr: value})
    assert fit(one) == 1
    assert attr not in one.attr


def test_only_what_today_has_and_the_release_has_not_is_called_harmless() -> None:
    for op, attr in fit_attrs._HARMLESS | fit_attrs._TRAINING_ONLY:
        assert attr in {a.name for a in OPS[op].attr}, op
        assert attr not in {a.name for a in RELEASE.ops[op].attr}, op


@pytest.mark.parametrize(
    ("op", "attr", "value", "shown"),
    [
        ("TopKV2", "index_type", type_attr(tf_pb.DT_INT64), "int64"),
        ("MaxPool", "explicit_paddings", ints_attr(0, 0, 1, 1, 1, 1, 0, 0), "[0, 0, 1, 1, 1, 1, "),
        ("FusedBatchNormV3", "exponential_avg_factor", float_attr(0.5), "0.5"),
        ("InitializeTableFromTextFileV2", "offset", int_attr(1), "1"),
        ("TensorListSetItem", "resize_if_index_out_of_bounds", bool_attr(True), "true"),
        ("GatherNd", "bad_indices_policy", string_attr("IGNORE"), "'IGNORE'"),
        ("Relu", "invented", bool_attr(True), "true"),
    ],
)
def test_an_unknown_attribute_with_another_value_is_an_error(
    op: str, attr: str, value: tf_pb.AttrValue, shown: str
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        fit(node(op, **{attr: value}))
    message = str(caught.value)
    assert f"op {op} has no attribute {attr!r} in TensorFlow 1.15, which here is {shown}" in message
    assert caught.value.where.node == "n"
    assert caught.value.hint


@pytest.mark.parametrize("is_training", [True, None, False])
def test_the_averaging_factor_counts_in_training_only(is_training: bool | None) -> None:
    one = node("FusedBatchNormV3", T=FLOAT, U=FLOAT, exponential_avg_factor=float_attr(0.5))
    if is_training is not None:
        one.attr["is_training"].b = is_training
    if is_training is False:
        fit(one)
        assert "exponential_avg_factor" not in one.attr
    else:
        with pytest.raises(UnsupportedError, match="exponential_avg_factor"):
            fit(one)


def test_all_that_is_wrong_is_told_at_once() -> None:
    nodes = [node("TopKV2", index_type=type_attr(tf_pb.DT_INT64)) for _ in range(5)]
    nodes.append(node("InitializeTableFromTextFileV2", offset=int_attr(1)))
    for number, one in enumerate(nodes):
        one.name = f"n{number}"
    with pytest.raises(UnsupportedError, match="can't take 6 nodes") as caught:
        fit(*nodes)
    message = str(caught.value)
    assert "here is int64 (nodes 'n0', 'n1', 'n2' and 2 more); op Init" in message
    assert "(node 'n5')" in message


def test_a_node_in_a_body_is_named_with_its_function() -> None:
    function = tf_pb.FunctionDef()
    function.signature.name = "branch"
    inner = function.node_def.add(name="top", op="TopKV2")
    inner.attr["index_type"].type = tf_pb.DT_INT64
    with pytest.raises(UnsupportedError, match="in the body of function 'branch'") as caught:
        fit(function=function)
    assert caught.value.where.node == "top"


# -- attributes that the release wants, and values ------------------------------------------


def test_a_default_that_the_release_does_not_have_is_written_out() -> None:
    ragged = node("RaggedTensorToVariant", RAGGED_RANK=int_attr(1), Tvalues=FLOAT)
    assert fit(ragged) == 1
    assert ragged.attr["Tsplits"].type == tf_pb.DT_INT64
    given = node("RaggedTensorToVariant", Tsplits=type_attr(tf_pb.DT_INT32))
    assert fit(given) == 0
    assert given.attr["Tsplits"].type == tf_pb.DT_INT32


@pytest.mark.parametrize(
    ("op", "attr", "value", "shown"),
    [
        ("MaxPool", "padding", string_attr("EXPLICIT"), "'EXPLICIT'"),
        ("FusedBatchNormV3", "data_format", string_attr("NDHWC"), "'NDHWC'"),
        ("Add", "T", type_attr(tf_pb.DT_UINT32), "uint32"),
        ("StringJoin", "N", int_attr(0), "0"),
        ("IdentityN", "T", types_attr([]), "[]"),
        ("DecodeCSV", "OUT_TYPE", types_attr([tf_pb.DT_STRING, tf_pb.DT_BOOL]), "[string, bool]"),
    ],
)
def test_a_value_that_the_release_does_not_allow_is_an_error(
    op: str, attr: str, value: tf_pb.AttrValue, shown: str
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        fit(node(op, **{attr: value}))
    assert f"op {op} with {attr!r} {shown} is not in TensorFlow 1.15" in str(caught.value)
    assert caught.value.hint


def test_an_attribute_of_another_kind_is_malformed() -> None:
    with pytest.raises(MalformedError, match="'T' is no type"):
        fit(node("Add", T=int_attr(1)))


def test_an_op_that_the_release_does_not_have_is_left_to_the_next_pass() -> None:
    one = node("StatelessRandomUniformV2", dtype=FLOAT, _output_shapes=shapes_attr([()]))
    fit(one)
    assert set(one.attr) == {"dtype"}


# -- the real release decides ---------------------------------------------------------------


def _changed_ops() -> list[str]:
    """Ops that a CPU runs and whose attributes differ, but for those that want a function."""
    return [
        op.name
        for op in OPS.values()
        if op.name in RELEASE.kernels
        and not op.name.startswith("_")
        and {a.name for a in op.attr} != {a.name for a in RELEASE.ops[op.name].attr}
        and not any("func" in attr.type for attr in op.attr)
        and not any(arg.is_ref for arg in op.input_arg)
    ]


# What an attribute without default must be for shape inference to pass.
WANTED = {
    "padding": string_attr("SAME"),
    "strides": ints_attr(1, 1, 1, 1),
    "ksize": ints_attr(1, 1, 1, 1),
    "table_name": string_attr("table"),
    "max_num_elements": int_attr(1),
}


def _value(attr: tf_pb.OpDef.AttrDef) -> tf_pb.AttrValue:
    if attr.name in WANTED:
        return WANTED[attr.name]
    allowed = attr.allowed_values.list
    if attr.type == "type":
        common = [tf_pb.DT_FLOAT, tf_pb.DT_INT32]
        fitting = [t for t in common if not allowed.type or t in allowed.type]
        return type_attr((fitting or allowed.type)[0])
    if attr.type == "list(shape)":
        return shapes_attr([None])
    if attr.type == "list(type)":
        return types_attr([tf_pb.DT_FLOAT])
    return {
        "int": int_attr(max(1, attr.minimum)),
        "bool": bool_attr(False),
        "string": string_attr(allowed.s[0] if allowed.s else b"x"),
        "shape": shape_attr(None),
        "list(int)": ints_attr(*[1] * max(1, attr.minimum)),
        "list(string)": tf_pb.AttrValue(list=tf_pb.AttrValue.ListValue(s=[b"x"])),
        "func": function_attr("f"),
    }[attr.type]


def _graph_with_all_attributes(op: str) -> tf_pb.GraphDef:
    """A node that writes out every attribute of today's, and placeholders as its inputs."""
    one = node(op)
    for attr in OPS[op].attr:
        has_default = attr.HasField("default_value")
        one.attr[attr.name].CopyFrom(attr.default_value if has_default else _value(attr))
    graph_def = tf_pb.GraphDef(versions=RELEASE.versions())
    types = Graph([one], OpTable()).arg_types(one, OPS[op].input_arg)
    for position, entry in enumerate(types):
        placeholder = graph_def.node.add(name=f"x{position}", op="Placeholder")
        placeholder.attr["dtype"].type = entry.dtype  # type: ignore[assignment]
        placeholder.attr["shape"].CopyFrom(shape_attr(None))
        one.input.append(placeholder.name)
    graph_def.node.add().CopyFrom(one)
    return graph_def


@pytest.mark.parametrize("op", _changed_ops())
def test_the_release_takes_every_changed_op_with_its_defaults(op: str, tf1: Tf1Client) -> None:
    graph_def = _graph_with_all_attributes(op)
    with pytest.raises(Tf1Error, match="NodeDef mentions attr"):
        tf1.run_graph(graph_def.SerializeToString(), {}, [])
    fit(*graph_def.node)
    tf1.run_graph(graph_def.SerializeToString(), {}, [])


def test_many_ops_changed() -> None:
    assert len(_changed_ops()) > 70
