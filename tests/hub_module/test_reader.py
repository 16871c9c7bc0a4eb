"""Reading genuine modules: what the Model holds is what the real client says the module has."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.hub_module import read_hub_module
from bridge.model import INFERENCE, TRAIN, Encoding, Model
from bridge.proto import hub_pb, tf_pb
from bridge.report import Report
from tests.attacks.edit import meta_graph, saved_model
from tests.conftest import TESTDATA, Golden

MODULES = sorted(path.name for path in (TESTDATA / "modules").iterdir())


@pytest.fixture
def read(module_dir: Callable[[str], Path]) -> Callable[[str], Model]:
    return lambda name: read_hub_module(module_dir(name), _report())


def _report() -> Report:
    return Report("module", None, "to-saved-model")


@pytest.mark.parametrize("name", MODULES)
def test_variables_are_those_of_the_checkpoint_to_the_byte(
    name: str, read: Callable[[str], Model], golden: Callable[[str], Golden]
) -> None:
    model = read(name)
    expected = golden(name).under("var")
    names = {v.save_slice.full_name if v.save_slice else v.name for v in model.variables.values()}
    assert names == set(expected)
    for variable in model.variables.values():
        if variable.save_slice is not None or variable.dtype == tf_pb.DT_STRING:
            continue  # these have tests of their own
        value = expected[variable.name]
        assert variable.shape == value.shape
        if variable.dtype == tf_pb.DT_BFLOAT16:  # its golden is float32
            value = value.view("<u2")[..., 1::2]
        data = variable.data
        with model.shards[data.shard].open("rb") as file:
            file.seek(data.offset)
            assert file.read(data.size) == value.tobytes()


@pytest.mark.parametrize("name", MODULES)
def test_every_variant_has_its_signatures(name: str, read: Callable[[str], Model]) -> None:
    model = read(name)
    assert model.producer == "1.15.5"
    for variant in model.variants.values():
        assert variant.signatures
        for signature in variant.signatures.values():
            for tensor in (*signature.input_tensors(), *signature.output_tensors()):
                assert tensor.split(":")[0] in variant.graph.nodes


def test_variants_are_told_apart_by_their_tags(read: Callable[[str], Model]) -> None:
    assert set(read("digits").variants) == {INFERENCE, TRAIN}
    assert set(read("text_vocab").variants) == {INFERENCE}
    assert INFERENCE not in read("own_tags").variants


def test_variables_are_shared_by_the_variants(read: Callable[[str], Model]) -> None:
    model = read("digits")
    assert all(v.variants == {INFERENCE, TRAIN} for v in model.variables.values())
    assert list(model.variables) == sorted(model.variables)
    assert sum(v.trainable for v in model.variables.values()) == 8


@pytest.mark.parametrize(("name", "was_ref"), [("toy_image_ref", True), ("rnn", None)])
def test_reference_variables_are_known_as_such(
    name: str, was_ref: bool | None, read: Callable[[str], Model]
) -> None:
    kinds = {v.was_ref for v in read(name).variables.values()}
    assert len(kinds) == 1
    assert was_ref is None or kinds == {was_ref}


@pytest.mark.parametrize("name", ["partitioned", "partitioned_resource"])
def test_parts_of_a_partitioned_variable_know_their_place(
    name: str, read: Callable[[str], Model]
) -> None:
    parts = [v for v in read(name).variables.values() if v.save_slice]
    assert len(parts) > 1
    for part in parts:
        assert part.save_slice is not None
        assert part.shape == part.save_slice.var_shape


def test_a_module_without_variables_has_none(read: Callable[[str], Model]) -> None:
    model = read("no_variables")
    assert model.variables == {}
    assert model.shards == []


def test_assets_are_found_by_the_node_that_names_them(read: Callable[[str], Model]) -> None:
    model = read("assets_many")
    assert list(model.assets) == ["words.txt", "words.txt0"]
    (variant,) = model.variants.values()
    assert sorted(variant.assets.values()) == ["words.txt", "words.txt0", "words.txt0"]
    assert variant.table_initializers


def test_sparse_and_composite_inputs_are_read_by_component(read: Callable[[str], Model]) -> None:
    for name, encoding in (("sparse_input", Encoding.SPARSE), ("ragged_input", Encoding.COMPOSITE)):
        endpoints = [
            endpoint
            for variant in read(name).variants.values()
            for signature in variant.signatures.values()
            for endpoint in signature.inputs.values()
        ]
        assert any(endpoint.encoding is encoding for endpoint in endpoints)
        assert all(endpoint.components for endpoint in endpoints)


def test_a_file_that_is_no_part_of_the_format_is_reported(
    module_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    module = Path(shutil.copytree(module_dir("no_variables"), tmp_path / "module"))
    (module / "README.txt").write_text("hello")
    report = _report()
    read_hub_module(module, report)
    assert ("file", "README.txt") in {(note.kind, note.name) for note in report.not_kept}


def test_a_stored_tensor_that_is_no_variable_is_reported(
    module_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    module = Path(shutil.copytree(module_dir("multi_input"), tmp_path / "module"))
    with meta_graph(module) as graph:
        definitions = graph.collection_def["variables"].bytes_list.value
        name = tf_pb.VariableDef.FromString(definitions.pop()).variable_name.split(":")[0]
        del graph.collection_def["trainable_variables"]
    report = _report()
    model = read_hub_module(module, report)
    assert name not in model.variables
    assert ("checkpoint_entry", name) in {(note.kind, note.name) for note in report.not_kept}


def _changed(name: str, directory: Path) -> Path:
    return Path(shutil.copytree(TESTDATA / "modules" / name, directory / "module"))


def _notes(module: Path) -> set[tuple[str, str]]:
    report = _report()
    read_hub_module(module, report)
    return {(note.kind, note.name) for note in report.not_kept}


def test_a_file_beside_the_checkpoint_is_reported(tmp_path: Path) -> None:
    module = _changed("toy_image_ref", tmp_path)
    (module / "variables" / "checkpoint").write_text("x")
    (module / "variables" / "variables.data-00007-of-00009").write_text("x")
    assert {name for kind, name in _notes(module) if kind == "file"} == {
        "variables/checkpoint",
        "variables/variables.data-00007-of-00009",
    }


@pytest.mark.parametrize("name", ["partitioned", "partitioned_resource"])
def test_a_part_of_a_variable_that_nobody_declares_is_reported(name: str, tmp_path: Path) -> None:
    module = _changed(name, tmp_path)
    assert not {name for kind, name in _notes(module) if kind == "checkpoint_entry"}
    with saved_model(module) as message:
        graph = message.meta_graphs[0]
        for key in ("variables", "trainable_variables"):
            values = graph.collection_def[key].bytes_list.value
            dropped = next(
                value
                for value in values
                if tf_pb.VariableDef.FromString(value).HasField("save_slice_info_def")
            )
            values.remove(dropped)
        del message.meta_graphs[1:]
    info = tf_pb.VariableDef.FromString(dropped).save_slice_info_def
    place = ",".join(
        f"{offset}:{offset + size}"
        for offset, size in zip(info.var_offset, info.var_shape, strict=True)
    )
    assert ("checkpoint_entry", f"{info.full_name}[{place}]") in _notes(module)


def test_an_attachment_that_another_hides_is_reported(tmp_path: Path) -> None:
    module = _changed("text_vocab", tmp_path)
    with meta_graph(module) as graph:
        values = graph.collection_def["hub_module_attachments"].bytes_list.value
        for value in (b"first", b"last"):
            attachment = hub_pb.ModuleAttachment(key="twice", value=value)
            values.append(attachment.SerializeToString())
    report = _report()
    model = read_hub_module(module, report)
    assert model.variants[INFERENCE].attachments["twice"] == b"last"
    assert [note.name for note in report.not_kept if note.kind == "attachment"] == ["twice"]


def test_what_tf_distribute_does_with_variables_is_kept(tmp_path: Path) -> None:
    module = _changed("multi_input", tmp_path)
    with meta_graph(module) as graph:
        values = graph.collection_def["variables"].bytes_list.value
        for position, value in enumerate(list(values)):
            definition = tf_pb.VariableDef.FromString(value)
            definition.synchronization = 3
            definition.aggregation = 2
            values[position] = definition.SerializeToString()
    report = _report()
    kinds = {
        (variable.synchronization, variable.aggregation)
        for variable in read_hub_module(module, report).variables.values()
    }
    assert (3, 2) in kinds
    assert report.not_kept == []


def test_a_regularization_loss_counts_as_often_as_it_stands_there(tmp_path: Path) -> None:
    module = _changed("text_vocab", tmp_path)
    with meta_graph(module) as graph:
        tensor = graph.signature_def["default"].outputs["default"].name
        for key in ("regularization_losses", "update_ops"):
            graph.collection_def[key].ClearField("node_list")
            graph.collection_def[key].node_list.value.extend([tensor, tensor])
    (variant,) = read_hub_module(module, _report()).variants.values()
    name = tensor.removesuffix(":0")
    assert variant.regularization_losses == [name, name]
    assert variant.update_ops == {name: name}


def test_a_reference_variable_may_have_the_shape_of_an_unknown_one(tmp_path: Path) -> None:
    module = _changed("toy_image_ref", tmp_path)
    expected = read_hub_module(module, _report()).variables
    with saved_model(module) as message:
        for graph in message.meta_graphs:
            for node in graph.graph_def.node:
                if node.op == "VariableV2":
                    del node.attr["shape"].shape.dim[:]
    assert read_hub_module(module, _report()).variables == expected


def test_the_source_is_not_written_to(module_dir: Callable[[str], Path], tmp_path: Path) -> None:
    module = Path(shutil.copytree(module_dir("digits"), tmp_path / "module"))
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in module.rglob("*")}
    read_hub_module(module, _report())
    assert before == {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in module.rglob("*")}
