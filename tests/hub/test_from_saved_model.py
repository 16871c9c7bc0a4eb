"""SavedModels of TensorFlow 1 as modules."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bridge
from bridge.proto import tf_pb
from tests.clients.tf1 import Tf1Client

pytestmark = pytest.mark.tf2

WORDS = {"words": np.array([b"dog", b"cow"])}


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel as Estimators export them: for serving, and another graph for training."""
    import tensorflow as tf

    v1 = tf.compat.v1
    folder = tmp_path_factory.mktemp("saved_model")
    asset = folder / "words.txt"
    asset.write_text("cat\ndog\n")
    builder = v1.saved_model.Builder(str(folder / "saved_model"))
    for tags in (["serve"], ["train"]):
        with tf.Graph().as_default(), v1.Session() as session:
            words = v1.placeholder(tf.string, [None], name="words")
            path = tf.constant(str(asset))
            v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, path)
            initializer = tf.lookup.TextFileInitializer(
                path,
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            )
            ids = tf.lookup.StaticHashTable(initializer, 2).lookup(words)
            rows = v1.get_variable("rows", initializer=np.float32([[1, 2], [3, 4], [5, 6]]))
            v1.train.get_or_create_global_step()
            net = tf.gather(rows, ids) * (2.0 if "train" in tags else 1.0)
            if "train" in tags:
                v1.add_to_collection(v1.GraphKeys.LOSSES, tf.reduce_sum(net))
            session.run([v1.global_variables_initializer(), v1.tables_initializer()])
            signature = v1.saved_model.predict_signature_def({"words": words}, {"rows": net})
            arguments: dict[str, Any] = {
                "assets_collection": v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
                "signature_def_map": {"serving_default": signature},
                "main_op": v1.tables_initializer(),
            }
            if tags == ["serve"]:
                builder.add_meta_graph_and_variables(session, tags, **arguments)
            else:
                builder.add_meta_graph(tags, **arguments)
    builder.save()
    asset.unlink()
    return folder / "saved_model"


def copied(saved_model: Path, folder: Path) -> tuple[Path, tf_pb.SavedModel]:
    shutil.copytree(saved_model, folder / "copy")
    path = folder / "copy" / "saved_model.pb"
    return path.parent, tf_pb.SavedModel.FromString(path.read_bytes())


def test_its_variants_and_signatures_are_those_of_the_module(
    saved_model: Path, tf1: Tf1Client, tmp_path: Path
) -> None:
    from bridge import hub

    spec = hub.create_module_spec_from_saved_model(str(saved_model), drop_collections=["losses"])
    assert spec.get_tags() == [frozenset({"serve"}), frozenset({"train"})]
    assert spec.get_signature_names({"serve"}) == ["serving_default"]
    (info,) = spec.get_output_info_dict("serving_default", {"serve"}).values()
    assert info.get_shape().as_list() == [None, 2]
    spec.export(tmp_path / "module")
    for tag, factor in (("serve", 1), ("train", 2)):
        found = tf1.hub_apply(tmp_path / "module", WORDS, signature="serving_default", tags=[tag])
        assert found["rows"].tolist() == [[3 * factor, 4 * factor], [5 * factor, 6 * factor]]


def test_the_global_step_and_init_ops_are_left_aside_and_no_other_collection_is(
    saved_model: Path,
) -> None:
    from bridge import hub

    with pytest.raises(ValueError, match="can't hold: 'losses'") as refused:
        hub.create_module_spec_from_saved_model(saved_model)
    assert "drop_collections=['losses']" in refused.value.hint
    assert str(saved_model) in str(refused.value)
    spec = hub.create_module_spec_from_saved_model(saved_model, ["losses", "table_initializer"])
    collections = set(spec._meta_graph({"train"}).collection_def)
    assert collections == {"asset_filepaths", "trainable_variables", "variables"}


def test_init_ops_that_are_signatures_are_left_aside_too(saved_model: Path, tmp_path: Path) -> None:
    from bridge import hub

    directory, proto = copied(saved_model, tmp_path)
    for meta_graph in proto.meta_graphs:
        # As the Estimators of TensorFlow 2 wrote it; the node gives no tensor.
        init = meta_graph.collection_def.pop("saved_model_main_op").node_list.value[0]
        signature = meta_graph.signature_def["__saved_model_init_op"]
        signature.outputs["__saved_model_init_op"].name = init
    (directory / "saved_model.pb").write_bytes(proto.SerializeToString())
    spec = hub.create_module_spec_from_saved_model(directory, "losses")
    assert spec.get_signature_names({"serve"}) == ["serving_default"]


def test_what_is_no_saved_model_of_tensorflow_1_is_refused(
    saved_model: Path, tmp_path: Path
) -> None:
    import tensorflow as tf

    from bridge import hub

    with pytest.raises(tf.errors.NotFoundError):
        hub.create_module_spec_from_saved_model(str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="the file is missing"):
        hub.create_module_spec_from_saved_model(str(tmp_path / "empty"))
    directory, proto = copied(saved_model, tmp_path)
    for meta_graph in proto.meta_graphs:
        meta_graph.collection_def.pop("losses", None)
    (directory / "assets" / "words.txt").rename(tmp_path / "words.txt")
    (directory / "saved_model.pb").write_bytes(proto.SerializeToString())
    with pytest.raises(ValueError, match=r"the asset file assets/words\.txt is missing"):
        hub.create_module_spec_from_saved_model(str(directory))
    del proto.meta_graphs[1].meta_info_def.tags[:]
    proto.meta_graphs[1].meta_info_def.tags.append("serve")
    (tmp_path / "words.txt").rename(directory / "assets" / "words.txt")
    (directory / "saved_model.pb").write_bytes(proto.SerializeToString())
    with pytest.raises(ValueError, match="two graphs have the same tags") as twice:
        hub.create_module_spec_from_saved_model(str(directory))
    assert isinstance(twice.value, bridge.MalformedError)
    (directory / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ValueError, match="it holds no graph"):
        hub.create_module_spec_from_saved_model(str(directory))
