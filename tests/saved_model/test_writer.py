"""Corners of the writer that no genuine test module reaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bridge
from bridge.proto import tf_pb
from tests.attacks.edit import copy_module, saved_model
from tests.saved_model.tiny import adding, call, constant, info, placeholder, plus, variant, write

pytestmark = pytest.mark.tf2


def convert(tmp_path: Path, *variants: tf_pb.MetaGraphDef, **options: Any) -> tuple[Any, Any]:
    """Converts a tiny module; returns the report and the loaded result."""
    import tensorflow as tf

    dest = tmp_path / "out"
    report = bridge.to_saved_model(write(tmp_path / "module", *variants), dest, **options)
    return report, tf.saved_model.load(str(dest))


def test_variants_whose_tags_join_to_one_name_get_two(tmp_path: Path) -> None:
    report, obj = convert(tmp_path, adding({"a_b"}, 1.0), adding({"a", "b"}, 2.0))
    assert float(obj.a_b(1.0)) == 2.0
    assert float(obj.a_b_(1.0)) == 3.0
    assert sorted(obj.signatures) == ["a_b/default", "a_b_/default"]
    assert [note.kind for note in report.remarks] == ["root", "name"]
    assert [c.name for c in report.callables] == ["a_b.__call__", "a_b_.__call__"]


@pytest.mark.parametrize("name", ["_", "__", "_hidden", "variables", "signatures"])
def test_a_signature_name_that_is_no_free_attribute_gets_another(tmp_path: Path, name: str) -> None:
    nodes = [placeholder("x"), constant("c", 1.0), plus("y", "x", "c")]
    signatures = {name: ({"x": "x:0"}, {"default": "y:0"})}
    report, obj = convert(tmp_path, variant((), nodes, signatures))
    (remark,) = report.remarks
    assert (remark.kind, remark.name) == ("name", name)
    (described,) = report.callables
    assert not described.name.startswith("_")
    assert float(getattr(obj, described.name)(1.0)) == 2.0
    assert list(obj.signatures) == [name]


def test_a_loss_of_the_inference_variant_alone_is_named(tmp_path: Path) -> None:
    def with_loss(tags: set[str], value: float) -> tf_pb.MetaGraphDef:
        graph = adding(tags, 1.0, losses=["l:0"])
        graph.graph_def.node.append(constant("l", value))
        return graph

    report, obj = convert(tmp_path, with_loss(set(), 0.5), with_loss({"train"}, 0.75))
    assert [float(loss()) for loss in obj.regularization_losses] == [0.75]
    (note,) = report.not_kept
    assert (note.kind, note.name, note.variant) == ("regularization_loss", "l", "{}")
    assert report.kept.regularization_losses == 1


def test_equal_losses_of_both_variants_are_one_and_nothing_is_said(tmp_path: Path) -> None:
    graphs = [adding(tags, 1.0, losses=["l:0"]) for tags in (set(), {"train"})]
    for graph in graphs:
        graph.graph_def.node.append(constant("l", 0.5))
    report, obj = convert(tmp_path, *graphs)
    assert [float(loss()) for loss in obj.regularization_losses] == [0.5]
    assert report.not_kept == []


def test_a_loss_of_a_variant_that_is_root_and_subobject_counts_once(tmp_path: Path) -> None:
    graph = adding({"z"}, 1.0, losses=["l:0"])
    graph.graph_def.node.append(constant("l", 0.5))
    report, obj = convert(tmp_path, graph)
    assert report.kept.regularization_losses == 1
    assert len(obj.regularization_losses) == len(obj.z.regularization_losses) == 1


def test_a_training_variant_without_default_output_returns_the_dictionary(tmp_path: Path) -> None:
    train = adding({"train"}, 2.0)
    outputs = train.signature_def["default"].outputs
    outputs["logits"].CopyFrom(outputs["default"])
    del outputs["default"]
    report, obj = convert(tmp_path, adding((), 1.0), train)
    assert float(obj(1.0)) == 2.0
    assert float(obj(1.0, training=True)["logits"]) == 3.0
    (remark,) = report.remarks
    assert "training=True takes x: float32<unknown> and gives logits" in remark.reason


def test_variants_with_and_without_inputs_can_both_be_called(tmp_path: Path) -> None:
    bare = variant((), [constant("c", 5.0)], {"default": ({}, {"default": "c:0"})})
    _, obj = convert(tmp_path, bare, adding({"train"}, 2.0))
    assert float(obj({})) == 5.0
    assert float(obj(1.0, training=True)) == 3.0


def test_a_signature_without_inputs_is_called_without_arguments(tmp_path: Path) -> None:
    bare = variant((), [constant("c", 5.0)], {"default": ({}, {"default": "c:0"})})
    _, obj = convert(tmp_path, bare)
    assert float(obj()) == float(obj(training=True)) == 5.0
    assert float(obj.signatures["serving_default"]()["default"]) == 5.0


def test_outputs_whose_parts_have_the_name_of_another_stay_apart(tmp_path: Path) -> None:
    integer = tf_pb.DT_INT64
    sparse = tf_pb.TensorInfo(dtype=tf_pb.DT_FLOAT)
    sparse.tensor_shape.unknown_rank = True
    sparse.coo_sparse.indices_tensor_name = "i:0"
    sparse.coo_sparse.values_tensor_name = "v:0"
    sparse.coo_sparse.dense_shape_tensor_name = "s:0"
    nodes = [placeholder("i", integer), placeholder("v"), placeholder("s", integer)]
    nodes.append(placeholder("other"))
    inputs = {"i": info("i:0", integer), "v": "v:0", "s": info("s:0", integer), "other": "other:0"}
    outputs = {"a": sparse, "a_values": "other:0"}
    _, obj = convert(tmp_path, variant((), nodes, {"default": (inputs, outputs)}))
    values = {
        "i": np.array([[0, 1]], np.int64),
        "v": np.array([5.0], np.float32),
        "s": np.array([1, 2], np.int64),
        "other": np.array([7.0], np.float32),
    }
    for found in (obj(values), obj.signatures["serving_default"](**values)):
        assert found["a"].values.numpy().tolist() == [5.0]
        assert found["a_values"].numpy().tolist() == [7.0]


def test_an_input_name_that_no_node_may_have_is_kept_as_the_key(tmp_path: Path) -> None:
    import tensorflow as tf

    graph = adding((), 1.0)
    inputs = graph.signature_def["default"].inputs
    inputs["an input"].CopyFrom(inputs["x"])
    del inputs["x"]
    convert(tmp_path, graph)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "out"))
        signature = loaded.signature_def["serving_default"]
        feeds = {signature.inputs["an input"].name: 1.0}
        assert session.run(signature.outputs["default"].name, feeds) == 2.0


def test_a_forward_pass_that_writes_is_told(tmp_path: Path) -> None:
    module = copy_module("own_tags", tmp_path)
    with saved_model(module) as message:
        graph = next(m for m in message.meta_graphs if "train" in m.meta_info_def.tags)
        output = graph.signature_def["default"].outputs["default"].name.removesuffix(":0")
        node = next(n for n in graph.graph_def.node if n.name == output)
        node.input.append("^Vector/bn/AssignMovingAvg")
    report = bridge.to_saved_model(module, tmp_path / "out")
    told = [note for note in report.remarks if note.kind == "state"]
    assert [note.name for note in told] == ["bs16_train.__call__"]
    assert "Vector/bn/AssignMovingAvg" in told[0].reason


def test_update_ops_of_equal_variants_are_all_counted(tmp_path: Path) -> None:
    module = copy_module("own_tags", tmp_path)
    with saved_model(module) as message:
        train = next(m for m in message.meta_graphs if "train" in m.meta_info_def.tags)
        other = tf_pb.MetaGraphDef.FromString(train.SerializeToString())
        other.meta_info_def.tags.append("again")
        message.meta_graphs.append(other)
    report = bridge.to_saved_model(module, tmp_path / "out")
    assert [note for note in report.not_kept if note.kind == "update_op"] == []
    assert report.kept.update_ops == 4


def test_a_variant_without_attachments_has_an_empty_list_of_its_own(tmp_path: Path) -> None:
    module = copy_module("toy_image_ref", tmp_path)
    with saved_model(module) as message:
        train = next(m for m in message.meta_graphs if m.meta_info_def.tags)
        del train.collection_def["hub_module_attachments"]
    bridge.to_saved_model(module, tmp_path / "out")
    data = (tmp_path / "out" / "saved_model.pb").read_bytes()
    (result,) = tf_pb.SavedModel.FromString(data).meta_graphs
    assert len(result.collection_def["hub_module_attachments"].bytes_list.value) == 2
    train_list = result.collection_def["hub_module_attachments/train"]
    assert train_list.WhichOneof("kind") == "bytes_list"
    assert len(train_list.bytes_list.value) == 0


@pytest.mark.parametrize("name", ["class", "None", "self", ""])
def test_an_input_name_that_python_has_no_argument_for_gets_another(
    tmp_path: Path, name: str
) -> None:
    graph = adding((), 1.0)
    inputs = graph.signature_def["default"].inputs
    inputs[name].CopyFrom(inputs["x"])
    del inputs["x"]
    report, obj = convert(tmp_path, graph)
    (remark,) = report.remarks
    assert (remark.kind, remark.name) == ("name", name)
    serve = obj.signatures["serving_default"]
    (keyword,) = serve.structured_input_signature[1]
    assert float(serve(**{keyword: np.float32(1.0)})["default"]) == 2.0
    assert float(obj({name: 1.0})) == 2.0


@pytest.mark.parametrize(
    ("first", "second", "keywords"),
    [
        ("a.b", "a_b", ("a_b_", "a_b")),  # one name, once TensorFlow has loaded it
        ("a.b", "a_a", ("a_b", "a_a")),  # in another order then
        ("a.b", "a.c", ("a.b", "a.c")),
        ("class", "class_", ("class__", "class_")),
    ],
)
def test_inputs_whose_names_tensorflow_changes_stay_apart_and_in_place(
    tmp_path: Path, first: str, second: str, keywords: tuple[str, str]
) -> None:
    graph = variant(
        [],
        [
            placeholder("x"),
            placeholder("y"),
            constant("one", 1.0),
            plus("z", "y", "one"),
        ],
        {
            "default": (
                {first: info("x:0"), second: info("y:0")},
                {"x": info("x:0"), "z": info("z:0")},
            )
        },
    )
    report, obj = convert(tmp_path, graph)
    renamed = {old: new for old, new in zip((first, second), keywords, strict=True) if old != new}
    assert {note.name for note in report.remarks if note.kind == "name"} == set(renamed)
    serve = obj.signatures["default"]
    outputs = serve(**{keywords[0]: np.float32(2), keywords[1]: np.float32(5)})
    assert {key: float(value) for key, value in outputs.items()} == {"x": 2, "z": 6}


@pytest.mark.parametrize("name", ["tensorflow_version", "graph_debug_info"])
def test_a_signature_is_not_overwritten_by_what_the_loader_sets(tmp_path: Path, name: str) -> None:
    nodes = [placeholder("x"), constant("c", 1.0), plus("y", "x", "c")]
    _, obj = convert(tmp_path, variant((), nodes, {name: ({"x": "x:0"}, {"default": "y:0"})}))
    assert float(getattr(obj, f"{name}_")(1.0)) == 2.0


def test_functions_that_call_each_other_often_are_looked_at_once(tmp_path: Path) -> None:
    # Each calls the next twice: walking the calls instead of the functions would never end.
    depth = 48
    functions = []
    for number in range(depth):
        function = tf_pb.FunctionDef()
        function.signature.name = f"f{number}"
        function.signature.input_arg.add(name="x", type=tf_pb.DT_FLOAT)
        function.signature.output_arg.add(name="y", type=tf_pb.DT_FLOAT)
        last = "x"
        for name in ("first", "second"):
            node = function.node_def.add(name=name, op="Identity", input=[last])
            node.attr["T"].type = tf_pb.DT_FLOAT
            if number + 1 < depth:
                node.CopyFrom(call(name, last, f"f{number + 1}"))
            last = f"{name}:output:0"
        function.ret["y"] = last
        functions.append(function)
    nodes = [placeholder("x"), call("y", "x", "f0")]
    graph = variant((), nodes, {"default": ({"x": "x:0"}, {"default": "y:0"})})
    graph.graph_def.library.function.extend(functions)
    report = bridge.to_saved_model(write(tmp_path / "module", graph), tmp_path / "out")
    assert report.remarks == []
