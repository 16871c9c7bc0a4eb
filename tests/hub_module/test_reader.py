"""Reading genuine modules: what the Model holds is what the real client says the module has."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.hub_module import read_hub_module
from bridge.model import INFERENCE, TRAIN, Encoding, Model
from bridge.proto import tf_pb
from bridge.report import Report
from tests.attacks.edit import meta_graph
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


def test_the_source_is_not_written_to(module_dir: Callable[[str], Path], tmp_path: Path) -> None:
    module = Path(shutil.copytree(module_dir("digits"), tmp_path / "module"))
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in module.rglob("*")}
    read_hub_module(module, _report())
    assert before == {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in module.rglob("*")}
