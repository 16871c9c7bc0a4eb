"""Writing modules: the real client finds in them all that was in the module they were read from."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.attrs import strings_tensor_attr
from bridge.hub_module import HubModuleWriter, HubWriteOptions, read_hub_module
from bridge.model import INFERENCE, Model, Variable
from bridge.proto import tf_pb
from bridge.report import Report
from tests.clients.converted import MODULES, Case, assert_close, cases
from tests.clients.records import check_record
from tests.clients.tf1 import Tf1Client
from tests.conftest import TESTDATA, Golden
from tests.hub_module.models import DIRECTION, LOOPS, RELEASE, digest, meta_graphs, read, write


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns a function from the name of a test module to what the writer makes of it."""
    folder = tmp_path_factory.mktemp("written")

    def directory(name: str) -> Path:
        path = folder / name
        return path if path.exists() else write(read(name)[0], path)

    return directory


# -- the real client ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_the_client_records_what_it_recorded_of_the_module_itself(
    name: str, written: Callable[[str], Path], golden: Callable[[str], Golden], tf1: Tf1Client
) -> None:
    # This client has no gradient of While; of `digits` no training was recorded.
    training = name not in {*LOOPS, "digits"}
    check_record(written(name), golden(name), tf1, training=training)


def default_case(name: str) -> Case:
    return next(
        case
        for case in cases()
        if case.module == name and not case.variant["key"] and case.signature == "default"
    )


@pytest.mark.parametrize(
    "name", ["toy_image_ref", "toy_image_resource", "partitioned", "text_vocab", "assets_many"]
)
def test_it_can_be_used_twice_and_nested_and_exported_again(
    name: str, written: Callable[[str], Path], golden: Callable[[str], Golden], tf1: Tf1Client
) -> None:
    recorded = golden(name)
    prefix = default_case(name).prefix
    uses = tf1.hub_client(
        written(name), recorded.under(f"{prefix}|in"), image=name.startswith("toy_image")
    )
    for outputs in uses.outputs.values():
        wanted = recorded.under(f"{prefix}|out")
        assert sorted(outputs) == sorted(wanted)
        for key, array in wanted.items():
            assert_close(outputs[key], array, key)
    assert uses.facts["exported_tags"] == uses.facts["tags"]
    names = [set(uses.facts["variables"][way]) for way in ("first", "second", "nested")]
    assert len(names[0] | names[1] | names[2]) == 3 * len(names[0]) > 0


# -- the messages -------------------------------------------------------------------------------

WITHOUT_LOOPS = [name for name in MODULES if name not in LOOPS]


@pytest.mark.parametrize("name", WITHOUT_LOOPS)
def test_the_messages_are_those_of_the_genuine_exporter(
    name: str, written: Callable[[str], Path]
) -> None:
    genuine_dir, written_dir = TESTDATA / "modules" / name, written(name)
    module_defs = [(d / "tfhub_module.pb").read_bytes() for d in (genuine_dir, written_dir)]
    assert module_defs[0] == module_defs[1]
    genuine, found = meta_graphs(genuine_dir), meta_graphs(written_dir)
    assert list(genuine) == list(found)
    for tags, graph in found.items():
        other = genuine[tags]
        info, other_info = graph.meta_info_def, other.meta_info_def
        assert info.tensorflow_version == other_info.tensorflow_version
        assert info.stripped_default_attrs == other_info.stripped_default_attrs
        assert graph.graph_def.versions == other.graph_def.versions
        assert not graph.HasField("saver_def")
        if name != "ragged_input":  # 1.15 says the dtype of a composite tensor in its type only
            assert dict(graph.signature_def) == dict(other.signature_def)
        assert sorted(graph.collection_def) == sorted(other.collection_def)
        for key, collection in graph.collection_def.items():
            genuine_collection = other.collection_def[key]
            kind = collection.WhichOneof("kind")
            assert kind == genuine_collection.WhichOneof("kind")
            values = list(getattr(collection, kind).value)
            wanted = list(getattr(genuine_collection, kind).value)
            if key.endswith("variables"):
                # All of them, and the same ones, but in an order of their own.
                assert sorted(map(variable_name, values)) == sorted(map(variable_name, wanted))
            elif key == "update_ops":
                assert [value.split(":")[0] for value in wanted] == values
            elif key == "asset_filepaths":
                assert sorted(set(wanted)) == sorted(values)
            else:
                assert values == wanted


def variable_name(definition: bytes) -> str:
    return tf_pb.VariableDef.FromString(definition).variable_name


@pytest.mark.parametrize("name", MODULES)
def test_reading_it_gives_the_same_model(name: str, written: Callable[[str], Path]) -> None:
    model, _ = read(name)
    report = Report(name, None, DIRECTION)
    again = read_hub_module(written(name), report)
    assert report.not_kept == []
    assert list(again.variants) == list(model.variants)
    assert list(again.variables) == list(model.variables)
    every = set(model.variants)
    for variable in model.variables.values():
        found = again.variables[variable.name]
        assert stored(again, found) == stored(model, variable)
        assert found == replace(variable, data=found.data, was_ref=False, variants=every)
    for tags, variant in model.variants.items():
        other = again.variants[tags]
        for field in ("trainable_variables", "model_variables", "regularization_losses"):
            assert getattr(other, field) == getattr(variant, field)
        for field in ("signatures", "table_initializers", "assets", "attachments"):
            assert getattr(other, field) == getattr(variant, field)
        assert list(other.update_ops) == list(dict.fromkeys(variant.update_ops.values()))
        assert list(other.graph.functions) == list(variant.graph.functions)
    for filename, asset in model.assets.items():
        assert again.assets[filename].source.read_bytes() == asset.source.read_bytes()


def stored(model: Model, variable: Variable) -> bytes:
    data = variable.data
    return model.shards[data.shard].read_bytes()[data.offset : data.offset + data.size]


@pytest.mark.parametrize("name", ["toy_image_ref", "unused_variable", "partitioned"])
def test_all_variants_declare_the_same_variables_with_the_same_bytes_everywhere(
    name: str, written: Callable[[str], Path]
) -> None:
    orders = []
    for graph in meta_graphs(written(name)).values():
        nodes = {node.name: node for node in graph.graph_def.node}
        values = list(graph.collection_def["variables"].bytes_list.value)
        orders.append([variable_name(value) for value in values])
        trainable = list(graph.collection_def["trainable_variables"].bytes_list.value)
        assert trainable
        for value in values:
            definition = tf_pb.VariableDef.FromString(value)
            assert definition.trainable == (value in trainable)
            assert definition.is_resource
            parts = (definition.variable_name, definition.initial_value_name)
            assert list(nodes[definition.initializer_name].input) == [p[:-2] for p in parts]
            read_node = nodes[definition.snapshot_name.removesuffix(":0")]
            assert (read_node.op, list(read_node.input)) == ("ReadVariableOp", [parts[0][:-2]])
        assert set(trainable) <= set(values)
    assert all(order == orders[0] for order in orders)


def test_every_op_is_listed_once_with_the_definition_of_the_release(
    written: Callable[[str], Path],
) -> None:
    (graph,) = meta_graphs(written("rnn")).values()
    bodies = [node for f in graph.graph_def.library.function for node in f.node_def]
    used = {node.op for node in (*graph.graph_def.node, *bodies)}
    listed = list(graph.meta_info_def.stripped_op_list.op)
    assert [op.name for op in listed] == sorted(used)
    assert "TensorListSetItem" in used  # in a body only, and newer releases have another one
    assert all(op == RELEASE.ops[op.name] for op in listed)


def test_the_path_of_an_asset_is_not_told(written: Callable[[str], Path]) -> None:
    model, _ = read("text_vocab")
    (variant,) = model.variants.values()
    (name,) = variant.assets
    for node in variant.graph.nodes.values():
        if node.name == name:
            node.attr["value"].CopyFrom(strings_tensor_attr(b"/home/somebody/vocabulary.txt"))
    assert b"somebody" in b"".join(n.SerializeToString() for n in variant.graph.nodes.values())
    writer = HubModuleWriter(model, HubWriteOptions(RELEASE), Report("", None, DIRECTION))
    assert b"somebody" not in writer._saved_model.SerializeToString()
    node = variant.graph.nodes[name]
    assert node.attr["value"].tensor.string_val == [b"/home/somebody/vocabulary.txt"]


def test_the_report_counts_what_is_there(tmp_path: Path) -> None:
    model, report = read("assets_many")
    write(model, tmp_path / "assets", report)
    assert (report.kept.tables, report.kept.assets, report.kept.asset_bytes) == (5, 2, 44)
    model, report = read("toy_image_ref")
    write(model, tmp_path / "toy", report)
    kept = report.kept
    assert (kept.variants, kept.signatures, kept.variables, kept.variable_bytes) == (2, 6, 14, 1860)
    assert (kept.trainable_variables, kept.reference_variables) == (10, 14)
    assert (kept.update_ops, kept.regularization_losses, kept.attachments) == (4, 6, 2)
    model, report = read("control_flow_ref")
    write(model, tmp_path / "flow", report)
    assert report.kept.functions == len(model.variants[INFERENCE].graph.functions) > 0


# -- the files ---------------------------------------------------------------------------------


def test_shards_are_linked_if_asked_to_and_progress_is_told(tmp_path: Path) -> None:
    model, _ = read("toy_image_resource")
    source = Path(shutil.copytree(model.source / "variables", tmp_path / "variables"))
    model.shards = [source / shard.name for shard in model.shards]
    done: list[int] = []
    out = write(model, tmp_path / "out", link=True, progress=done.append)
    (shard,) = (out / "variables").glob("variables.data*")
    assert shard.samefile(model.shards[0])
    assert done[-1] == sum(variable.data.size for variable in model.variables.values())
    copied = write(model, tmp_path / "copied")
    assert not (copied / "variables" / shard.name).samefile(model.shards[0])


def test_a_model_without_variables_has_no_checkpoint(written: Callable[[str], Path]) -> None:
    assert list((written("no_variables") / "variables").iterdir()) == []


DIGEST = """
import sys
from pathlib import Path
from tests.hub_module.models import digest, read, write
print(*[digest(write(read(name)[0], Path(sys.argv[1], name))) for name in sys.argv[2:]])
"""


def test_the_same_model_gives_the_same_bytes_in_any_process(tmp_path: Path) -> None:
    names = ["toy_image_ref", "assets_many", "partitioned", "control_flow_resource", "ragged_input"]
    found = set()
    for seed in ("1", "2"):
        (tmp_path / seed).mkdir()
        process = subprocess.run(
            [sys.executable, "-c", DIGEST, str(tmp_path / seed), *names],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=TESTDATA.parent,
            check=True,
            capture_output=True,
            text=True,
        )
        found.add(process.stdout)
    assert len(found) == 1
    assert len(found.pop().split()) == len(names)


def test_the_model_is_not_changed(tmp_path: Path) -> None:
    model, _ = read("text_vocab")
    (variant,) = model.variants.values()
    before = [node.SerializeToString(deterministic=True) for node in variant.graph.all_nodes()]
    first = write(model, tmp_path / "first")
    after = [node.SerializeToString(deterministic=True) for node in variant.graph.all_nodes()]
    assert after == before
    assert digest(write(model, tmp_path / "second")) == digest(first)
