"""Specs of modules on disk say what the old client says of them."""

from __future__ import annotations

import gc
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bridge
from bridge.proto import tf_pb
from tests.clients.converted import MODULES
from tests.conftest import TESTDATA, Golden

pytestmark = pytest.mark.tf2


def described(infos: dict[str, Any]) -> dict[str, Any]:
    """The infos as testdata/golden records those of the old client."""
    result = {}
    for name, info in infos.items():
        shape = info.get_shape()
        kind = "sparse" if info.is_sparse else "ragged" if info.is_composite else "dense"
        shape = None if shape.rank is None else shape.as_list()
        assert info.type_spec.shape.is_compatible_with(shape)
        result[name] = {"dtype": info.dtype.name, "kind": kind, "shape": shape}
    return result


@pytest.mark.parametrize("name", MODULES)
def test_a_spec_says_of_a_module_what_the_old_client_says(
    name: str, golden: Callable[[str], Golden]
) -> None:
    from bridge import hub

    spec = hub.load_module_spec(str(TESTDATA / "modules" / name))
    recorded = golden(name).facts["variants"]
    assert sorted(sorted(tags) for tags in spec.get_tags()) == sorted(
        one["tags"] for one in recorded
    )
    for variant in recorded:
        tags = set(variant["tags"])
        assert tags in spec.get_tags()
        assert set(spec.get_signature_names(tags)) == set(variant["signatures"])
        for signature, facts in variant["signatures"].items():
            inputs = described(spec.get_input_info_dict(signature, tags))
            outputs = described(spec.get_output_info_dict(signature=signature, tags=tags))
            assert (inputs, outputs) == (facts["inputs"], facts["outputs"])


def test_the_graphs_of_a_spec_are_copies_that_name_assets_by_absolute_paths() -> None:
    from bridge import hub

    spec = hub.load_module_spec(TESTDATA / "modules" / "text_vocab")
    meta_graph = spec._meta_graph(None)
    consts = [
        node.attr["value"].tensor.string_val[0].decode()
        for node in meta_graph.graph_def.node
        if node.op == "Const" and b"/assets/" in b"".join(node.attr["value"].tensor.string_val)
    ]
    assert consts
    assert all(Path(path).is_absolute() and Path(path).is_file() for path in consts)
    assert "saved_model_assets" not in meta_graph.collection_def
    assert Path(f"{spec._checkpoint}.index").is_file()
    meta_graph.Clear()
    assert spec._meta_graph(set()).graph_def.node


def test_an_archive_stays_unpacked_when_its_spec_is_gone(tmp_path: Path) -> None:
    from bridge import hub

    archive = tmp_path / "module.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(TESTDATA / "modules" / "text_vocab", arcname="text_vocab")
    spec = hub.load_module_spec(str(archive))
    index = Path(f"{spec._checkpoint}.index")
    del spec
    gc.collect()
    assert index.is_file()


def test_a_module_without_variables_has_no_checkpoint() -> None:
    from bridge import hub

    spec = hub.load_module_spec(str(TESTDATA / "modules" / "no_variables"))
    assert spec._checkpoint is None


def test_what_is_no_module_is_refused_in_the_words_of_both_libraries(tmp_path: Path) -> None:
    import tensorflow as tf

    from bridge import hub
    from bridge.hub.loading import as_module_spec

    with pytest.raises(tf.errors.NotFoundError, match="can't be read") as missing:
        hub.load_module_spec(str(tmp_path / "nothing"))
    assert isinstance(missing.value, bridge.SourceNotFoundError)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"there is no tfhub_module\.pb") as empty:
        hub.load_module_spec(str(tmp_path / "empty"))
    assert isinstance(empty.value, bridge.WrongKindError)
    with pytest.raises(ValueError, match="not by int"):
        as_module_spec(5)
    with pytest.raises(ValueError, match="no path"):
        as_module_spec("")
    spec = hub.load_module_spec(TESTDATA / "modules" / "no_variables")
    assert as_module_spec(spec) is spec


def test_a_broken_module_is_refused_as_the_converter_refuses_it(tmp_path: Path) -> None:
    from bridge import hub

    module = tmp_path / "module"
    shutil.copytree(TESTDATA / "modules" / "no_variables", module)
    saved_model = tf_pb.SavedModel.FromString((module / "saved_model.pb").read_bytes())
    saved_model.meta_graphs[0].collection_def["mine"].node_list.value.append("x")
    (module / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    with pytest.raises(ValueError, match="the collection 'mine'") as unsupported:
        hub.load_module_spec(str(module))
    assert isinstance(unsupported.value, bridge.UnsupportedError)
    (module / "saved_model.pb").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="truncated or no protobuf") as malformed:
        hub.load_module_spec(str(module))
    assert isinstance(malformed.value, bridge.MalformedError)
    (module / "saved_model.pb").unlink()
    (module / "saved_model.pb").symlink_to(TESTDATA / "modules" / "digits" / "saved_model.pb")
    with pytest.raises(ValueError, match="link") as unsafe:
        hub.load_module_spec(str(module))
    assert isinstance(unsafe.value, bridge.UnsafeError)


def test_a_saved_model_of_tf2_is_refused_with_what_to_do(tmp_path: Path) -> None:
    from bridge import hub

    bridge.to_saved_model(TESTDATA / "modules" / "no_variables", tmp_path / "saved_model")
    for load in (hub.load_module_spec, hub.create_module_spec_from_saved_model):
        with pytest.raises(ValueError, match="a TF2 SavedModel") as refused:
            load(str(tmp_path / "saved_model"))
        assert "hubbridge to-hub-module" in str(refused.value.hint)
