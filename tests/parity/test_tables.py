"""What tables hold, however it is written down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bridge._surfaces.bodies import Bodies
from bridge._surfaces.contents import Contents, digest
from bridge._surfaces.read import read_surface
from bridge._surfaces.surface import MAX_TABLE_KEYS, SeenTable
from bridge._surfaces.tables import (
    Given,
    TableReader,
    asset_given,
    elements,
    keys_of,
    seen_tables,
)
from bridge.attrs import int_attr, ints_tensor_attr, string_attr, strings_tensor_attr, type_attr
from bridge.errors import MalformedError
from bridge.graph import Graph
from bridge.opsets import OpTable
from bridge.proto import tf_pb
from tests.parity.models import Converted, only_graph

TABLE = tf_pb.NodeDef(name="table", op="HashTableV2")
WHOLE_LINE, LINE_NUMBER = -2, -1
CREATE = "_create_resource"


def const(name: str, value: tf_pb.AttrValue) -> tf_pb.NodeDef:
    node = tf_pb.NodeDef(name=name, op="Const")
    node.attr["dtype"].type = value.tensor.dtype
    node.attr["value"].CopyFrom(value)
    return node


def of_constants(words: Sequence[bytes], ids: Sequence[int], **hints: int) -> list[tf_pb.NodeDef]:
    """A table of words and numbers."""
    filler = tf_pb.NodeDef(name="fill", op="InitializeTableV2", input=["table", "again", "ids"])
    filler.attr["Tkey"].CopyFrom(type_attr(tf_pb.DT_STRING))
    filler.attr["Tval"].CopyFrom(type_attr(tf_pb.DT_INT64))
    for name, value in hints.items():
        filler.attr[name].CopyFrom(int_attr(value))
    again = tf_pb.NodeDef(name="again", op="Identity", input=["words"])
    again.attr["T"].CopyFrom(type_attr(tf_pb.DT_STRING))
    constants = [
        const("words", strings_tensor_attr(words)),
        const("ids", ints_tensor_attr(tf_pb.DT_INT64, ids)),
    ]
    return [TABLE, *constants, again, filler]


def of_file(key: int, value: int, delimiter: str = "\t", size: int = -1) -> list[tf_pb.NodeDef]:
    """A table of a file's lines, whose path is the node `file`."""
    filler = tf_pb.NodeDef(name="fill", op="InitializeTableFromTextFileV2", input=["table", "file"])
    filler.attr["key_index"].CopyFrom(int_attr(key))
    filler.attr["value_index"].CopyFrom(int_attr(value))
    filler.attr["vocab_size"].CopyFrom(int_attr(size))
    filler.attr["delimiter"].CopyFrom(string_attr(delimiter))
    return [TABLE, const("file", strings_tensor_attr(b"")), filler]


def seen(nodes: list[tf_pb.NodeDef], model: Path, text: bytes | None = None) -> SeenTable:
    assets = {}
    if text is not None:
        (model / "assets").mkdir(parents=True, exist_ok=True)
        (model / "assets" / "words.txt").write_bytes(text)
        assets = {"words.txt": digest(text).hex()}
    graph = Graph(nodes, OpTable())
    bodies = Bodies(graph)
    reader = TableReader(bodies, Contents(bodies), model)
    given: dict[str, Given] = {} if text is None else {"file": asset_given("words.txt", assets)}
    (table,) = seen_tables(reader.of_graph(graph, ["fill"], given).items()).values()
    return table


def test_keys_and_values_count_and_not_where_they_come_from(tmp_path: Path) -> None:
    wanted = seen(of_constants([b"a", b"b"], [0, 1]), tmp_path)
    assert wanted.keys == (b"a", b"b")
    for nodes, text in (
        (of_constants([b"b", b"a"], [1, 0], _hint=3), None),
        (of_file(WHOLE_LINE, LINE_NUMBER), b"a\nb\n"),
        (of_file(WHOLE_LINE, LINE_NUMBER), b"a\r\nb"),
        (of_file(WHOLE_LINE, LINE_NUMBER, size=2), b"a\nb\nc\n"),
        (of_file(0, 2, ","), b"a,x,0\nb,y,1\n"),
    ):
        assert seen(nodes, tmp_path, text).digest == wanted.digest
    for nodes, text in (
        (of_constants([b"a", b"b"], [0, 2]), None),
        (of_constants([b"a", b"c"], [0, 1]), None),
        (of_constants([b"a"], [0]), None),
        (of_file(WHOLE_LINE, LINE_NUMBER), b"b\na\n"),
        (of_file(LINE_NUMBER, WHOLE_LINE), b"a\nb\n"),
    ):
        assert seen(nodes, tmp_path, text).digest != wanted.digest


def test_what_can_not_be_read_counts_as_it_is_written(tmp_path: Path) -> None:
    """A line without the column makes TensorFlow fail; the file's bytes still count."""
    broken = of_file(0, 1, ",")
    first = seen(broken, tmp_path, b"a\nb,1\n")
    assert first.keys == ()
    assert seen(broken, tmp_path, b"a\nb,1\n").digest == first.digest
    assert seen(broken, tmp_path, b"a\nb,2\n").digest != first.digest
    assert seen(of_file(1, 0, ","), tmp_path, b"a\nb,1\n").digest != first.digest
    outside = asset_given("../words.txt", {"words.txt": ""})
    assert outside.asset is None


def test_tensors_are_read_as_tensorflow_shortens_them() -> None:
    tensor = tf_pb.TensorProto(dtype=tf_pb.DT_INT32, int_val=[4, 7])
    tensor.tensor_shape.dim.add(size=4)
    assert elements(tensor) == [4, 7, 7, 7]
    tensor = tf_pb.TensorProto(dtype=tf_pb.DT_STRING, tensor_shape=tensor.tensor_shape)
    assert elements(tensor) == [b""] * 4
    tensor = tf_pb.TensorProto(dtype=tf_pb.DT_FLOAT, tensor_content=b"\0\0\0?")
    tensor.tensor_shape.SetInParent()
    assert elements(tensor) == [0.5]
    tensor.tensor_shape.dim.add(size=2)
    assert elements(tensor) is None
    tensor.tensor_shape.dim[0].size = 1 << 40
    assert elements(tensor) is None
    assert elements(tf_pb.TensorProto(dtype=tf_pb.DT_VARIANT)) is None


def test_known_keys_are_of_all_tables_and_not_too_many(tmp_path: Path) -> None:
    surface = read_surface(Converted(tmp_path).module("assets_many"))
    assert surface.table_keys[:5] == (0, b"cat", b"chat", 1, b"dog")
    many = [SeenTable(str(i), "", tuple(range(i, i + 200))) for i in (0, 1000)]
    assert len(keys_of(many)) == MAX_TABLE_KEYS
    assert keys_of(many)[:3] == (0, 1000, 1)


@pytest.mark.tf2
def test_a_table_that_is_saved_again_is_the_same(tmp_path: Path) -> None:
    import tensorflow as tf

    class Root(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            pairs = tf.lookup.KeyValueTensorInitializer(["a", "b"], tf.constant([5, 6], tf.int64))
            self.table = tf.lookup.StaticHashTable(pairs, -1)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="x")])
        def __call__(self, x: object) -> object:
            return self.table.lookup(x)

    tf.saved_model.save(Root(), str(tmp_path / "first"))
    loaded = tf.saved_model.load(str(tmp_path / "first"))
    tf.saved_model.save(loaded, str(tmp_path / "second"))
    first, second = (read_surface(tmp_path / name).tables for name in ("first", "second"))
    assert {t.digest for t in first.values()} == {t.digest for t in second.values()}
    assert [t.keys for t in second.values()] == [(b"a", b"b")]


@pytest.mark.tf2
def test_tables_that_can_be_changed_count_as_they_were_saved(tmp_path: Path) -> None:
    import tensorflow as tf

    lookup = tf.lookup.experimental

    def mutable(default: object) -> object:
        return lookup.MutableHashTable(tf.string, tf.int64, default)

    def dense(default: object) -> object:
        return lookup.DenseHashTable(tf.string, tf.int64, default, "empty", "deleted")

    def read(name: str, table: Any, pairs: dict[str, Any], *removed: str) -> SeenTable:
        class Root(tf.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.table = table

            @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="x")])
            def __call__(self, x: object) -> object:
                return self.table.lookup(x)

        if pairs:
            table.insert(list(pairs), tf.constant(list(pairs.values()), tf.int64))
        if removed:
            table.remove(tf.constant(list(removed)))
        tf.saved_model.save(Root(), str(tmp_path / name))
        (found,) = read_surface(tmp_path / name).tables.values()
        assert not found.reason
        return found

    words = {"a": 5, "b": 6}
    other = {"a": 5, "b": 7}
    first = read("first", mutable(-1), words)
    assert set(first.keys) == {b"a", b"b"}
    assert read("dense", dense(-1), {"c": 7, "b": 6, "a": 5}, "c").digest == first.digest
    assert read("other", mutable(-1), other).digest != first.digest
    assert read("dense_other", dense(-1), other).digest != first.digest
    vectors = [
        read(f"vector{n}", mutable([0, 0]), {"a": [1, n], "b": [3, 4]}).digest for n in (1, 2)
    ]
    assert vectors[0] != vectors[1]
    assert read("nothing", mutable(-1), {}).keys == ()
    for name in ("first", "dense"):
        loaded = tf.saved_model.load(str(tmp_path / name))
        tf.saved_model.save(loaded, str(tmp_path / f"{name}_again"))
        (again,) = read_surface(tmp_path / f"{name}_again").tables.values()
        assert again.digest == first.digest


@pytest.mark.tf2
def test_a_table_whose_content_is_nowhere_says_so(tmp_path: Path) -> None:
    import tensorflow as tf

    class Root(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="x")])
        def __call__(self, x: object) -> object:
            return self.table.lookup(x)

    tf.saved_model.save(Root(), str(tmp_path / "saved"))
    with only_graph(tmp_path / "saved") as graph:
        number = graph.object_graph_def.nodes[0].children[0]
        assert number.local_name == "table"
        number.local_name = "renamed"  # the checkpoint has nothing of this name
    (table,) = read_surface(tmp_path / "saved").tables.values()
    assert table.name == "renamed"
    assert "can't be read" in table.reason
    with only_graph(tmp_path / "saved") as graph:
        objects = graph.object_graph_def.nodes
        (made,) = (c.node_id for n in objects for c in n.children if c.local_name == CREATE)
        objects[made].function.concrete_functions[:] = ["absent"]
    with pytest.raises(MalformedError, match="absent"):
        read_surface(tmp_path / "saved")
