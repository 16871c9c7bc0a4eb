"""Collections of a MetaGraphDef, and what a stranger may put into them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.collection_def import messages, node_list
from bridge.errors import MalformedError, Where
from bridge.proto import tf_pb

WHERE = Where(Path("saved_model.pb"), "{}")
ASSET = tf_pb.AssetFileDef(filename="words.txt")


@pytest.fixture
def graph() -> tf_pb.MetaGraphDef:
    made = tf_pb.MetaGraphDef()
    made.collection_def["nodes"].node_list.value.extend(["b", "a", "b"])
    made.collection_def["plain"].bytes_list.value.append(ASSET.SerializeToString())
    made.collection_def["packed"].any_list.value.add(value=ASSET.SerializeToString())
    made.collection_def["broken"].bytes_list.value.extend([b"", b"\xff\xff"])
    made.collection_def["none"].SetInParent()
    return made


def test_what_a_collection_holds_keeps_its_order(graph: tf_pb.MetaGraphDef) -> None:
    assert node_list(graph, "nodes", WHERE) == ["b", "a", "b"]
    assert list(messages(tf_pb.AssetFileDef, graph, "plain", WHERE)) == [ASSET]
    assert list(messages(tf_pb.AssetFileDef, graph, "packed", WHERE, packed=True)) == [ASSET]


def test_an_absent_collection_is_empty_and_is_not_made(graph: tf_pb.MetaGraphDef) -> None:
    assert node_list(graph, "absent", WHERE) == []
    assert list(messages(tf_pb.AssetFileDef, graph, "absent", WHERE)) == []
    assert "absent" not in graph.collection_def


@pytest.mark.parametrize(
    ("key", "packed"), [("nodes", False), ("packed", False), ("plain", True), ("none", False)]
)
def test_a_collection_of_another_kind_is_an_error(
    key: str, packed: bool, graph: tf_pb.MetaGraphDef
) -> None:
    with pytest.raises(MalformedError, match=f"'{key}' is no list of messages") as caught:
        list(messages(tf_pb.AssetFileDef, graph, key, WHERE, packed=packed))
    assert caught.value.where == WHERE
    if key != "nodes":
        with pytest.raises(MalformedError, match=f"'{key}' is no list of nodes"):
            node_list(graph, key, WHERE)


def test_a_broken_message_is_an_error(graph: tf_pb.MetaGraphDef) -> None:
    with pytest.raises(MalformedError, match="'broken' holds a broken AssetFileDef"):
        list(messages(tf_pb.AssetFileDef, graph, "broken", WHERE))
