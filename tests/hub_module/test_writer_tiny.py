"""Writing tiny models: what no genuine test module shows, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bridge.attrs import (
    bool_attr,
    function_attr,
    shape_attr,
    string_attr,
    type_attr,
    types_attr,
)
from bridge.bundle import read_index
from bridge.errors import MalformedError, UnsupportedError
from bridge.graph import Graph
from bridge.hub_module import HubModuleWriter, HubWriteOptions
from bridge.model import INFERENCE, TRAIN, Model, SaveSlice, Variant
from bridge.opsets import OpTable
from bridge.proto import tf_pb
from bridge.report import Report
from tests.clients.tf1 import Tf1Client
from tests.hub_module.models import (
    DIRECTION,
    FLOAT,
    RELEASE,
    TWO,
    add_variable,
    meta_graphs,
    signature,
    tiny,
    two,
    write,
)


def test_no_weight_is_read_before_the_files_are_written(tmp_path: Path) -> None:
    model = two(tmp_path / "source")
    (shard,) = model.shards
    hidden = shard.rename(tmp_path / "elsewhere")
    writer = HubModuleWriter(model, HubWriteOptions(RELEASE), Report("", None, DIRECTION))
    assert writer._saved_model.ByteSize() < 5000
    hidden.rename(shard)
    (tmp_path / "out").mkdir()
    writer.write(tmp_path / "out")
    assert len(read_index(tmp_path / "out" / "variables" / "variables").entries) == 2


def test_only_the_bytes_of_variables_are_copied(tmp_path: Path) -> None:
    out = write(two(tmp_path / "source"), tmp_path / "out")
    (shard,) = (out / "variables").glob("variables.data*")
    assert shard.read_bytes() == TWO["a/kernel"].tobytes() + TWO["b"].tobytes()


def test_a_value_that_is_not_what_it_was_is_refused(tmp_path: Path) -> None:
    model = two(tmp_path / "source")
    data = bytearray(model.shards[0].read_bytes())
    data[0] ^= 1
    model.shards[0].write_bytes(data)
    with pytest.raises(MalformedError, match="a/kernel"):
        write(model, tmp_path / "out")


def test_the_nodes_of_a_variable_are_named_as_tensorflow_names_them(tmp_path: Path) -> None:
    model = two(tmp_path / "source")
    graph = model.variants[INFERENCE].graph
    graph.add("NoOp", "b/Assign")  # taken already
    model.variants[INFERENCE].trainable_variables = ["b"]
    (meta_graph,) = meta_graphs(write(model, tmp_path / "out")).values()
    kernel, b = (
        tf_pb.VariableDef.FromString(value)
        for value in meta_graph.collection_def["variables"].bytes_list.value
    )
    assert (kernel.variable_name, kernel.trainable) == ("a/kernel:0", False)
    assert kernel.initial_value_name == "a/kernel/Initializer/zeros:0"
    assert kernel.initializer_name == "a/kernel/Assign"
    assert kernel.snapshot_name == "a/kernel/Read/ReadVariableOp:0"
    assert (b.initializer_name, b.trainable) == ("b/Assign_1", True)


def test_notes_on_a_resource_go_but_its_own_shape_stays(tmp_path: Path) -> None:
    model = two(tmp_path / "source")
    graph = model.variants[INFERENCE].graph
    add_variable(graph, "b", debug_name=string_attr("b/"), _class=string_attr("loc:@y"))
    graph.nodes["b"].attr["shape"].shape.unknown_rank = True
    graph.nodes["b"].input.append("^y")
    (meta_graph,) = meta_graphs(write(model, tmp_path / "out")).values()
    (node,) = (node for node in meta_graph.graph_def.node if node.name == "b")
    assert sorted(node.attr) == ["dtype", "shape", "shared_name"]
    assert node.attr["shape"].shape.unknown_rank
    assert list(node.input) == []


@pytest.mark.parametrize(
    ("producer", "told"),
    [
        ("2.21.0", "2.21.0"),
        ("1.15.5-rc1", "1.15.5-rc1"),
        ("1.9.0", "1.9.0"),
        ("1.8.0", ""),
        ("unknown", ""),
        ("", ""),
    ],
)
def test_a_release_that_misleads_the_client_is_not_told(
    producer: str, told: str, tmp_path: Path
) -> None:
    model = replace(two(tmp_path / "source"), producer=producer)
    (meta_graph,) = meta_graphs(write(model, tmp_path / "out")).values()
    assert meta_graph.meta_info_def.tensorflow_version == told


# -- what the client does with tiny models --------------------------------------------------------

ODD = {
    "complex128": ("<c16", tf_pb.DT_COMPLEX128),
    "complex64": ("<c8", tf_pb.DT_COMPLEX64),
    "int16": ("<i2", tf_pb.DT_INT16),
    "int8": ("i1", tf_pb.DT_INT8),
    "uint16": ("<u2", tf_pb.DT_UINT16),
    "bool": ("?", tf_pb.DT_BOOL),
    "half": ("<f2", tf_pb.DT_HALF),
}


def test_variables_of_all_types_are_restored_and_their_own_initializers_run_too(
    tmp_path: Path, tf1: Tf1Client
) -> None:
    values = {name: np.array([1, 0, 3]).astype(dtype) for name, (dtype, _) in ODD.items()}
    values["empty"] = np.zeros((0, 2), "<f4")
    values["scalar"] = np.asarray(np.float32(4.5))
    model = tiny(tmp_path / "source", values, {name: number for name, (_, number) in ODD.items()})
    out = write(model, tmp_path / "out")
    record = tf1.hub_record(out, {"x": np.ones(2, np.float32)})
    for name, value in values.items():
        np.testing.assert_array_equal(record.arrays[f"var|{name}"], value)
    (meta_graph,) = meta_graphs(out).values()
    reads = {f"{name}/Read/ReadVariableOp:0": value for name, value in values.items()}
    graph_def = meta_graph.graph_def.SerializeToString()
    steps = [[f"{name}/Assign" for name in values]]
    fetched, _ = tf1.run_graph(graph_def, {}, list(reads), steps=steps)
    for tensor, value in reads.items():
        assert fetched[tensor].dtype == value.dtype
        np.testing.assert_array_equal(fetched[tensor], np.zeros_like(value))


def test_a_variant_has_the_variables_that_only_another_one_uses(
    tmp_path: Path, tf1: Tf1Client
) -> None:
    model = two(tmp_path / "source")
    inference = model.variants[INFERENCE]
    graph = Graph((), OpTable())
    graph.add("Placeholder", "x", dtype=type_attr(FLOAT), shape=shape_attr((None,)))
    add_variable(graph, "b")
    graph.add("ReadVariableOp", "read", ["b"], dtype=type_attr(FLOAT))
    graph.add("Mul", "y", ["x", "read"], T=type_attr(FLOAT))
    graph.add("L2Loss", "loss", ["read"], T=type_attr(FLOAT))
    graph.add("AssignAddVariableOp", "update", ["b", "loss"], dtype=type_attr(FLOAT))
    model.variants[TRAIN] = Variant(
        TRAIN,
        graph,
        {"default": signature(graph, {"x": "x"}, {"default": "y"})},
        trainable_variables=["b"],
        update_ops={"first name": "update", "second name": "update"},
        regularization_losses=["loss"],
    )
    assert "b" not in inference.graph.nodes
    record = tf1.hub_record(write(model, tmp_path / "out"), {"x": np.ones(2, np.float32)})
    for facts in record.facts["variants"]:
        assert [v["name"] for v in facts["variables"]] == ["a/kernel", "b"]
        trainable = [v["name"] for v in facts["variables"] if v["trainable"]]
        assert trainable == (["b"] if facts["tags"] else [])
    (train,) = (facts for facts in record.facts["variants"] if facts["tags"])
    assert [u["name"] for u in train["signatures"]["default"]["update_ops"]] == ["update"]
    np.testing.assert_allclose(record.arrays["train|default|out|default"], [2.5, 2.5])
    np.testing.assert_allclose(record.arrays["train|reg|0"], 2.5**2 / 2)
    np.testing.assert_allclose(
        record.arrays["train|default|after_updates|b"], 2.5 + 2.5**2 / 2, rtol=1e-6
    )


def test_the_client_differentiates_a_conditional_by_its_functions(
    tmp_path: Path, tf1: Tf1Client
) -> None:
    model = two(tmp_path / "source")
    variant = model.variants[INFERENCE]
    graph = variant.graph = Graph((), OpTable(), [branch("twice", 2), branch("thrice", 3)])
    graph.add("Placeholder", "x", dtype=type_attr(FLOAT), shape=shape_attr((None,)))
    graph.add("Placeholder", "flag", dtype=type_attr(tf_pb.DT_BOOL), shape=shape_attr(()))
    add_variable(graph, "b")
    graph.add(
        "If",
        "chosen",
        ["flag", "b", "x"],
        Tcond=type_attr(tf_pb.DT_BOOL),
        Tin=types_attr([tf_pb.DT_RESOURCE, FLOAT]),
        Tout=types_attr([FLOAT]),
        then_branch=function_attr("twice"),
        else_branch=function_attr("thrice"),
        _lower_using_switch_merge=bool_attr(True),
    )
    variant.trainable_variables = ["b"]
    variant.signatures["default"] = signature(
        graph, {"x": "x", "flag": "flag"}, {"default": "chosen"}
    )
    flag = variant.signatures["default"].inputs["flag"]
    variant.signatures["default"].inputs["flag"] = replace(
        flag, shape=(), components=(replace(flag.components[0], shape=()),)
    )
    out = write(model, tmp_path / "out")
    x, weights = np.array([1, 10], np.float32), np.array([1, 2], np.float32)
    for value, factor in ((True, 2), (False, 3)):
        inputs = {"x": x, "flag": np.array(value)}
        outputs = tf1.hub_apply(out, inputs)
        np.testing.assert_allclose(outputs["default"], factor * 2.5 * x, rtol=1e-6)
        gradients = tf1.hub_gradients(out, inputs, {"default": weights})
        np.testing.assert_allclose(gradients["b"], factor * float(x @ weights), rtol=1e-6)


def branch(name: str, times: int) -> tf_pb.FunctionDef:
    """The function `variable * x + … + variable * x`."""
    function = tf_pb.FunctionDef()
    function.signature.name = name
    function.signature.is_stateful = True
    function.signature.input_arg.add(name="variable", type=tf_pb.DT_RESOURCE)
    function.signature.input_arg.add(name="x", type=FLOAT)
    function.signature.output_arg.add(name="y", type=FLOAT)

    def node(op: str, node_name: str, inputs: Sequence[str], **attrs: tf_pb.AttrValue) -> None:
        added = function.node_def.add(name=node_name, op=op, input=inputs)
        for key, value in attrs.items():
            added.attr[key].CopyFrom(value)

    node("ReadVariableOp", "read", ["variable"], dtype=type_attr(FLOAT))
    node("Mul", "product", ["read:value:0", "x"], T=type_attr(FLOAT))
    count = tf_pb.AttrValue(i=times)
    node("AddN", "sum", ["product:z:0"] * times, N=count, T=type_attr(FLOAT))
    function.ret["y"] = "sum:sum:0"
    return function


# -- what can't be written ------------------------------------------------------------------------


def refused(model: Model) -> UnsupportedError:
    with pytest.raises(UnsupportedError) as caught:
        HubModuleWriter(model, HubWriteOptions(RELEASE), Report("", None, DIRECTION))
    return caught.value


def test_a_variable_without_value_is_refused(tmp_path: Path) -> None:
    model = two(tmp_path / "source")
    add_variable(model.variants[INFERENCE].graph, "b")
    del model.variables["b"]
    error = refused(model)
    assert "no value in the checkpoint" in str(error)
    assert error.where.node == "b"


def test_a_reference_variable_is_refused(tmp_path: Path) -> None:
    model = two(tmp_path / "source")
    graph = model.variants[INFERENCE].graph
    graph.add("VariableV2", "b", dtype=type_attr(FLOAT), shape=shape_attr(()))
    assert "'VariableV2'" in str(refused(model))


@pytest.mark.parametrize("dtype", [tf_pb.DT_UINT32, tf_pb.DT_UINT64, tf_pb.DT_VARIANT])
def test_a_type_that_the_release_has_no_variables_of_is_refused(dtype: int, tmp_path: Path) -> None:
    model = two(tmp_path / "source")
    model.variables["b"].dtype = dtype
    error = refused(model)
    assert "TensorFlow 1.15" in str(error)
    assert error.where.node == "b"
    assert error.hint


def test_an_op_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    model = two(tmp_path / "source")
    model.variants[INFERENCE].graph.add("NoSuchOp", "odd")
    assert "NoSuchOp" in str(refused(model))


def test_a_graph_that_protobuf_can_not_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.hub_module.writer.MAX_MESSAGE_BYTES", 1000)
    error = refused(two(tmp_path / "source"))
    assert "protobuf holds 1000" in str(error)
    assert error.hint


def parts(directory: Path, *slices: SaveSlice) -> Model:
    names = [f"whole/part_{index}" for index in range(len(slices))]
    values = {n: np.ones(s.var_shape, "<f4") for n, s in zip(names, slices, strict=True)}
    model = tiny(directory, values)
    for name, part in zip(names, slices, strict=True):
        model.variables[name].save_slice = part
    return model


def test_parts_that_make_no_whole_are_refused(tmp_path: Path) -> None:
    first = SaveSlice("whole", (4, 2), (0, 0), (2, 2))
    model = parts(tmp_path / "half", first)
    assert "do not cover" in str(refused(model))
    second = SaveSlice("whole", (4, 3), (2, 0), (2, 2))
    assert "do not cover" in str(refused(parts(tmp_path / "other", first, second)))
    columns = [SaveSlice("whole", (2, 2), (0, column), (2, 1)) for column in (0, 1)]
    assert "another dimension" in str(refused(parts(tmp_path / "columns", *columns)))
    rows = [SaveSlice("whole", (4, 2), (row, 0), (2, 2)) for row in (0, 2)]
    model = parts(tmp_path / "rows", *rows)
    write(model, tmp_path / "fine")
    model.variables["whole"] = replace(
        model.variables["whole/part_0"], name="whole", save_slice=None
    )
    assert "same name" in str(refused(model))


def test_a_partitioned_variable_of_one_part_is_stored_whole(tmp_path: Path, tf1: Tf1Client) -> None:
    out = write(
        parts(tmp_path / "source", SaveSlice("whole", (4, 2), (0, 0), (4, 2))), tmp_path / "out"
    )
    assert read_index(out / "variables" / "variables").entries["whole"].slices == ()
    record = tf1.hub_record(out, {"x": np.ones(2, np.float32)})
    np.testing.assert_array_equal(record.arrays["var|whole"], np.ones((4, 2), np.float32))
