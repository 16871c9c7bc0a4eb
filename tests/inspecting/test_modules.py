"""What `inspect` says of the test modules, against what the real TensorFlow 1.15 said of them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bridge
from bridge._inspect.results import HUB_MODULE
from bridge.cli._inspect_tree import inspect_tree
from bridge.cli._terminal import Style
from bridge.dtypes import dtype_name, element_bytes
from bridge.model import format_tags
from bridge.proto import hub_pb, tf_pb
from tests.attacks.edit import copy_module, meta_graph, module_def
from tests.cli.helpers import MODULES
from tests.conftest import Golden

NAMES = sorted(path.name for path in MODULES.iterdir())


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def report(name: str) -> bridge.InspectReport:
    return bridge.inspect(MODULES / name)


@pytest.fixture
def facts(name: str, golden: Callable[[str], Golden]) -> list[dict[str, Any]]:
    return golden(name).facts["variants"]


def _endpoints(ends: list[bridge.EndpointInfo]) -> dict[str, dict[str, Any]]:
    return {e.name: {"dtype": e.dtype, "kind": e.encoding, "shape": e.shape} for e in ends}


def test_variants_and_signatures_are_those_of_the_real_client(
    report: bridge.InspectReport, facts: list[dict[str, Any]]
) -> None:
    assert (report.format, report.producer, report.was_module) == (HUB_MODULE, "1.15.5", False)
    found = {tuple(variant.tags): variant for variant in report.variants}
    # A variant that the real client can't instantiate is no golden.
    assert set(found) >= {tuple(variant["tags"]) for variant in facts}
    for variant in facts:
        seen = found[tuple(variant["tags"])]
        assert seen.name == format_tags(variant["tags"])
        assert {one.name for one in seen.signatures} == set(variant["signatures"])
        for one in seen.signatures:
            real = variant["signatures"][one.name]
            assert _endpoints(one.inputs) == real["inputs"]
            assert _endpoints(one.outputs) == real["outputs"]


def test_update_ops_and_losses_are_those_of_the_real_client(
    report: bridge.InspectReport, facts: list[dict[str, Any]]
) -> None:
    found = {tuple(variant.tags): variant for variant in report.variants}
    for variant in facts:
        seen = found[tuple(variant["tags"])]
        losses = [loss.partition(":")[0] for loss in seen.regularization_losses]
        assert sorted(losses) == sorted(variant["regularization_losses"])
        real = {
            update["name"].partition(":")[0]
            for signature in variant["signatures"].values()
            for update in signature.get("update_ops", ())
        }
        assert {op.partition(":")[0] for op in seen.update_ops} == real


def test_variables_are_those_of_the_real_client(
    report: bridge.InspectReport, facts: list[dict[str, Any]]
) -> None:
    real = {one["name"]: one for variant in facts for one in variant["variables"]}
    trainable = {
        one["name"] for variant in facts for one in variant["variables"] if one["trainable"]
    }
    seen = {one.name: one for one in report.variables.items}
    assert set(seen) == set(real)
    for name, one in seen.items():
        fact = real[name]
        assert (one.dtype, one.shape) == (fact["dtype"], fact["shape"])
        assert one.kind == ("resource" if fact["is_resource"] else "reference")
        assert one.trainable == (name in trainable)
        assert one.parts == len(fact.get("partitions", "1"))
        assert one.stored
        if one.dtype != "string":
            assert one.bytes == _bytes(fact)
    assert report.variables.count == len(real)
    assert report.variables.bytes == sum(one.bytes for one in report.variables.items)
    assert report.variables.partitioned == sum("partitions" in one for one in real.values())


def _bytes(fact: dict[str, Any]) -> int:
    sizes = {dtype_name(dtype): element_bytes(dtype) for dtype in tf_pb.DataType.values()}
    total = sizes[fact["dtype"]]
    assert total
    for size in fact["shape"]:
        total *= size
    return total


def test_attachments_and_image_size_are_those_of_the_real_client(
    report: bridge.InspectReport, facts: list[dict[str, Any]]
) -> None:
    for variant in facts:
        name = format_tags(variant["tags"])
        seen = {one.key: one.bytes for one in report.attachments if name in one.variants}
        assert seen == {
            key: len(base64.b64decode(value)) for key, value in variant["attachments"].items()
        }
    main = next((one for one in facts if not one["tags"]), facts[0])
    size = report.image_size
    assert (None if size is None else [size.height, size.width]) == main["expected_image_size"]


def test_each_can_be_converted(report: bridge.InspectReport) -> None:
    assert report.conversion is not None
    assert (report.conversion.direction, report.conversion.possible) == ("to-saved-model", True)
    assert report.conversion.kept is not None
    assert report.conversion.kept.signatures == sum(len(v.signatures) for v in report.variants)


def test_the_release_that_wrote_them_can_run_them(report: bridge.InspectReport) -> None:
    minor = int(report.release.oldest.split(".")[1])
    assert report.release.oldest.startswith("1.")
    assert minor <= 15
    assert not report.release.unknown_ops


# -- single facts -----------------------------------------------------------------------------


def test_tables_and_assets_are_told() -> None:
    report = bridge.inspect(MODULES / "text_vocab")
    (table,) = report.tables
    assert (table.op, table.key_dtype, table.value_dtype) == ("HashTableV2", "string", "int64")
    assert (table.variant, table.asset) == ("{}", "vocabulary.txt")
    assert report.assets == [bridge.AssetInfo("vocabulary.txt", 40)]
    several = bridge.inspect(MODULES / "assets_many")
    assert len(several.assets) > 1
    assert {table.asset for table in several.tables} <= {a.name for a in several.assets} | {None}


def test_the_attached_size_is_decoded() -> None:
    report = bridge.inspect(MODULES / "digits")
    (attachment,) = report.attachments
    assert attachment.message == {"default_image_size": {"height": 16, "width": 16}}
    assert attachment.variants == ["{}", "{train}"]
    assert attachment.text is None
    assert report.image_size == bridge.ImageSize(16, 16, "image_module_info")


def test_other_attachments_are_shown_where_they_are_text(tmp_path: Path) -> None:
    module = copy_module("no_default_signature", tmp_path)
    long = ("größer\nals" + " x" * 300).encode()
    values = {"note": long, "binary": b"\xff\x00", "codes": b"\x1b[31m"}
    with meta_graph(module) as graph:
        held = graph.collection_def["hub_module_attachments"].bytes_list.value
        for key, value in values.items():
            message = hub_pb.ModuleAttachment(key=key, value=value)
            held.append(message.SerializeToString())
    seen = {one.key: one for one in bridge.inspect(module).attachments}
    assert seen["binary"].text is None
    assert seen["codes"].text is None
    text = seen["note"].text
    assert text is not None
    assert text.startswith("größer als x")
    assert len(text) <= 200
    assert [seen[key].message for key in ("note", "binary", "codes")] == [None] * 3


def test_ops_are_counted_in_graphs_and_functions() -> None:
    report = bridge.inspect(MODULES / "digits")
    message = tf_pb.SavedModel.FromString((MODULES / "digits" / "saved_model.pb").read_bytes())
    nodes = [node for graph in message.meta_graphs for node in graph.graph_def.node]
    assert sum(one.count for one in report.ops) == len(nodes)
    counts = {one.op: one.count for one in report.ops}
    assert counts["Conv2D"] == sum(node.op == "Conv2D" for node in nodes)
    assert [one.op for one in report.ops] == sorted(counts)


def test_an_unknown_op_is_reported_and_stops_nothing(tmp_path: Path) -> None:
    module = copy_module("text_vocab", tmp_path)
    with meta_graph(module) as graph:
        for node in graph.graph_def.node:
            if node.op == "SparseSegmentMean":
                node.op = "MyOwnOp"
    report = bridge.inspect(module)
    assert report.release.unknown_ops == ["MyOwnOp"]
    assert {one.op: one.since for one in report.ops}["MyOwnOp"] is None
    assert report.variables.count == 1
    assert report.conversion is not None
    (obstacle,) = report.conversion.obstacles
    assert obstacle.kind == "UnsupportedError"
    assert "MyOwnOp" in obstacle.message
    assert obstacle.file == "saved_model.pb"
    assert obstacle.hint


@pytest.mark.parametrize(
    ("number", "features", "name"),
    [(0, [], "FORMAT_UNSPECIFIED"), (9, [], "9"), (3, ["crystal\x1b", "ball"], "FORMAT_V3")],
)
def test_a_format_or_feature_that_nothing_reads_is_told(
    number: int, features: list[str], name: str, tmp_path: Path
) -> None:
    module = copy_module("digits", tmp_path)
    with module_def(module) as definition:
        definition.format = number  # type: ignore[assignment]
        definition.required_features.extend(features)
    report = bridge.inspect(module)
    assert (report.module_format, report.required_features) == (name, features)
    assert report.variables.count == 14
    text = inspect_tree(report, Style())
    assert ("its format is " + name in text) == (number != 3)
    assert ("features that nothing knows: 'crystal\\x1b', 'ball'" in text) == bool(features)
    assert report.conversion is not None
    (obstacle,) = report.conversion.obstacles
    assert (obstacle.kind, obstacle.file) == ("UnsupportedError", "tfhub_module.pb")
    for word in features or [f"format {number}"]:
        assert repr(word)[1:-1] in obstacle.message


def test_the_format_of_a_good_module_is_told_in_json_alone(tmp_path: Path) -> None:
    report = bridge.inspect(MODULES / "digits")
    assert (report.module_format, report.required_features) == ("FORMAT_V3", [])
    assert "FORMAT_V3" not in inspect_tree(report, Style())
    bridge.to_saved_model(MODULES / "digits", tmp_path / "out", verify=False)
    made = bridge.inspect(tmp_path / "out", conversion=False)
    assert (made.module_format, made.required_features) == (None, [])


def test_the_conversion_is_left_out_on_demand() -> None:
    assert bridge.inspect(MODULES / "digits", conversion=False).conversion is None


def test_an_obstacle_is_what_the_conversion_says(tmp_path: Path) -> None:
    module = copy_module("text_vocab", tmp_path)
    with meta_graph(module) as graph:
        graph.graph_def.node[0].input.append("nowhere")
    with pytest.raises(bridge.MalformedError) as caught:
        bridge.to_saved_model(module, tmp_path / "out", dry_run=True)
    conversion = bridge.inspect(module).conversion
    assert conversion is not None
    assert not conversion.possible
    assert conversion.kept is None
    (obstacle,) = conversion.obstacles
    assert (obstacle.kind, obstacle.message) == ("MalformedError", caught.value.message)
    assert obstacle.node == caught.value.where.node


def test_what_is_behind_an_unsafe_op_is_an_obstacle_too(tmp_path: Path) -> None:
    module = copy_module("text_vocab", tmp_path)
    with meta_graph(module) as graph:
        nodes = graph.graph_def.node
        file = nodes.add(name="file", op="Const")
        file.attr["dtype"].type = tf_pb.DT_STRING
        file.attr["value"].tensor.dtype = tf_pb.DT_STRING
        file.attr["value"].tensor.tensor_shape.SetInParent()
        file.attr["value"].tensor.string_val.append(b"/etc/passwd")
        nodes.add(name="read", op="ReadFile", input=["file"])
        nodes.add(name="table", op="MutableHashTableV2")
        for attr, dtype in (("key_dtype", tf_pb.DT_STRING), ("value_dtype", tf_pb.DT_INT64)):
            nodes[-1].attr[attr].type = dtype  # type: ignore[assignment]
        graph.signature_def["default"].outputs["file"].CopyFrom(
            tf_pb.TensorInfo(name="read:0", dtype=tf_pb.DT_STRING)
        )
        nodes.add(name="size", op="LookupTableSizeV2", input=["table"])
        graph.signature_def["default"].outputs["size"].CopyFrom(
            tf_pb.TensorInfo(name="size:0", dtype=tf_pb.DT_INT64)
        )
    conversion = bridge.inspect(module).conversion
    assert conversion is not None
    first, second = conversion.obstacles
    assert (first.kind, first.node) == ("UnsafeError", "read")
    assert second.node == "table"


def test_what_is_behind_an_unknown_op_is_an_obstacle_too(tmp_path: Path) -> None:
    module = copy_module("text_vocab", tmp_path)
    with meta_graph(module) as graph:
        # The module itself defines the op.
        definition = graph.meta_info_def.stripped_op_list.op.add(name="MyOwnOp")
        definition.output_arg.add(name="y", type=tf_pb.DT_INT64)
        graph.graph_def.node.add(name="own", op="MyOwnOp")
        graph.graph_def.node.add(name="table", op="MutableHashTableV2")
        for attr, dtype in (("key_dtype", tf_pb.DT_STRING), ("value_dtype", tf_pb.DT_INT64)):
            graph.graph_def.node[-1].attr[attr].type = dtype  # type: ignore[assignment]
        graph.graph_def.node.add(name="size", op="LookupTableSizeV2", input=["table"])
        for name in ("own", "size"):
            graph.signature_def["default"].outputs[name].CopyFrom(
                tf_pb.TensorInfo(name=f"{name}:0", dtype=tf_pb.DT_INT64)
            )
    conversion = bridge.inspect(module).conversion
    assert conversion is not None
    first, second = conversion.obstacles
    assert (first.kind, first.node) == ("UnsupportedError", "own")
    assert second.node == "table"


def test_nothing_is_written_anywhere_near(tmp_path: Path) -> None:
    module = copy_module("digits", tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    bridge.inspect(module)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_values_of_variables_are_not_read(tmp_path: Path) -> None:
    module = copy_module("digits", tmp_path)
    shard = module / "variables" / "variables.data-00000-of-00001"
    expected = bridge.inspect(module).variables
    shard.write_bytes(bytes(shard.stat().st_size))
    shard.chmod(0)
    assert bridge.inspect(module).variables == expected
