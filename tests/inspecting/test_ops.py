"""Which release knows what: the history of ops against the registries of real releases."""

from __future__ import annotations

import pytest

from bridge._inspect.ops import OpCounter
from bridge.attrs import type_attr
from bridge.dtypes import dtype_name
from bridge.opsets import load_opset
from bridge.opsets.history import load_history
from bridge.proto import tf_pb

FLOAT, BFLOAT16 = tf_pb.DT_FLOAT, tf_pb.DT_BFLOAT16


def _before(release: str | None, other: str) -> bool:
    """True if a release is on file that is not after the other one."""
    releases = list(load_history().releases)
    return release is not None and releases.index(release) <= releases.index(other)


@pytest.mark.parametrize("release", ["1.15", "2.21"])
def test_the_history_has_the_ops_that_the_release_itself_registers(release: str) -> None:
    history, ops = load_history(), load_opset(release)
    found = {
        op
        for op, known in history.ops.items()
        if _before(known.since, release)
        and (known.last is None or not _before(known.last, release) or known.last == release)
    }
    # Ops of the runtime's own, that depend on how it was built, are left out.
    assert found == {op for op in ops if not op.startswith("_Mkl")}


def test_the_history_has_the_attributes_that_the_release_itself_knows() -> None:
    history, checked = load_history(), 0
    for op, definition in load_opset("1.15").items():
        known = {attr.name for attr in definition.attr}
        for attr, since in history.ops[op].attrs.items() if op in history.ops else ():
            assert _before(since, "1.15") == (attr in known), (op, attr)
            checked += 1
    assert checked > 20


def test_the_history_has_the_types_that_the_release_itself_takes() -> None:
    history, checked = load_history(), 0
    for op, definition in load_opset("1.15").items():
        for attr in definition.attr:
            allowed = {dtype_name(dtype) for dtype in attr.allowed_values.list.type}
            types = history.ops[op].types if op in history.ops else {}
            for dtype, since in types.get(attr.name, {}).items():
                assert _before(since, "1.15") == (dtype in allowed), (op, attr.name, dtype)
                checked += 1
    assert checked > 100


def test_releases_stand_in_their_order() -> None:
    releases = list(load_history().releases)
    assert releases == sorted(releases, key=lambda name: [int(part) for part in name.split(".")])
    assert (releases[0], releases[-1]) == ("1.7", "2.21")


# -- what a graph needs -----------------------------------------------------------------------


def _graph(*nodes: tf_pb.NodeDef) -> tf_pb.MetaGraphDef:
    return tf_pb.MetaGraphDef(graph_def=tf_pb.GraphDef(node=nodes))


def _node(op: str, **attrs: tf_pb.AttrValue) -> tf_pb.NodeDef:
    node = tf_pb.NodeDef(name="node", op=op)
    for key, value in attrs.items():
        node.attr[key].CopyFrom(value)
    return node


def _oldest(*nodes: tf_pb.NodeDef) -> tuple[str, list[str]]:
    release = OpCounter([_graph(*nodes)]).of_graphs()
    return release.oldest, release.demanded_by


def test_what_every_release_has_needs_none() -> None:
    release = OpCounter([_graph(_node("Identity", T=type_attr(FLOAT)))]).of_graphs()
    assert (release.oldest, release.or_older, release.demanded_by) == ("1.7", True, [])


def test_an_op_needs_the_release_that_it_came_with() -> None:
    # python/ops/math_ops.py: AddV2 is in the release notes of 1.14.
    assert _oldest(_node("Identity"), _node("FusedBatchNormV3")) == (
        "1.14",
        ["op FusedBatchNormV3"],
    )


def test_an_attribute_needs_its_release_unless_it_is_the_default() -> None:
    padding = tf_pb.AttrValue(list=tf_pb.AttrValue.ListValue(i=[0, 0, 1, 1, 1, 1, 0, 0]))
    none = tf_pb.AttrValue(list=tf_pb.AttrValue.ListValue())
    assert _oldest(_node("Conv2D", explicit_paddings=none)) == ("1.7", [])
    oldest = "1.14", ["attribute explicit_paddings of op Conv2D"]
    assert _oldest(_node("Conv2D", explicit_paddings=padding)) == oldest


def test_a_type_needs_the_release_that_takes_it() -> None:
    assert _oldest(_node("MatMul", T=type_attr(FLOAT))) == ("1.7", [])
    assert _oldest(_node("MatMul", T=type_attr(tf_pb.DT_INT64))) == (
        "1.13",
        ["int64 for op MatMul"],
    )


def test_objects_need_tensorflow_2_and_their_functions_but_not_the_graph() -> None:
    graph = _graph(_node("DisableCopyOnRead"))
    found = OpCounter([graph]).of_objects()
    assert found.oldest == "2.0"
    assert found.demanded_by == ["objects, which tf.saved_model.load of TensorFlow 2 makes"]
    graph.graph_def.library.function.add().node_def.append(_node("DisableCopyOnRead"))
    found = OpCounter([graph]).of_objects()
    assert (found.oldest, found.demanded_by) == ("2.10", ["op DisableCopyOnRead"])


def test_an_op_that_was_dropped_has_a_last_release() -> None:
    release = OpCounter([_graph(_node("BigQueryReader"))]).of_graphs()
    assert release.newest is not None
    assert "BigQueryReader" not in load_opset("2.21")
    assert OpCounter([_graph(_node("Identity"))]).of_graphs().newest is None


@pytest.mark.parametrize("swapped", [False, True])
def test_of_several_dropped_ops_the_first_to_go_says_the_last_release(swapped: bool) -> None:
    nodes = [_node("BigQueryReader"), _node("RemoteFusedGraphExecute")]
    lasts = [OpCounter([_graph(node)]).of_graphs().newest for node in nodes]
    assert lasts == ["1.15", "2.4"]
    assert OpCounter([_graph(*nodes[:: -1 if swapped else 1])]).of_graphs().newest == "1.15"


def test_calls_of_functions_are_no_ops() -> None:
    graph = _graph(_node("double"), _node("Identity"))
    body = graph.graph_def.library.function.add()
    body.signature.name = "double"
    body.node_def.append(_node("FusedBatchNormV3"))
    counter = OpCounter([graph])
    release = counter.of_graphs()
    assert [(one.op, one.count) for one in counter.ops] == [
        ("FusedBatchNormV3", 1),
        ("Identity", 1),
    ]
    assert (release.oldest, release.unknown_ops) == ("1.14", [])
