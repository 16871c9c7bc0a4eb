"""What an eager module is made of: a conversion for this process, of any spec."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from bridge.errors import UnsafeError
from bridge.proto import tf_pb
from tests.attacks.edit import copy_module, graph_def, saved_model
from tests.clients.tf1 import Tf1Client
from tests.hub.eager import TOY, images, names

pytestmark = pytest.mark.tf2


def test_a_module_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    from bridge import hub

    directory = copy_module(TOY, tmp_path)
    module = hub.Module(str(directory))
    before = module(images())
    with saved_model(directory) as message:
        for meta_graph in message.meta_graphs:
            del meta_graph.signature_def["image_classification"]
    again = hub.Module(str(directory))
    assert "image_classification" not in again.get_signature_names()
    np.testing.assert_array_equal(again(images()), before)
    for variable in module.variables:
        variable.assign(variable * 2.0)
    module.export(tmp_path / "doubled")
    shutil.rmtree(directory / "variables")
    shutil.copytree(tmp_path / "doubled" / "variables", directory / "variables")
    np.testing.assert_array_equal(hub.Module(str(directory))(images()), module(images()))
    assert (module(images()) != before).numpy().any()


def test_a_variant_without_values_is_refused_by_name(tmp_path: Path) -> None:
    from bridge import hub

    directory = copy_module(TOY, tmp_path)
    with saved_model(directory) as message:
        train = next(one for one in message.meta_graphs if one.meta_info_def.tags)
        renamed = train.SerializeToString().replace(b"Toy/logits/bias", b"Toy/logits/bios")
        train.ParseFromString(renamed)
    with pytest.raises(ValueError, match="no value for the variable 'Toy/logits/bios'"):
        hub.Module(str(directory), tags={"train"})
    assert hub.Module(str(directory))(images()).shape == [2, 8]


def test_what_a_conversion_leaves_out_is_warned_of(tmp_path: Path) -> None:
    from bridge import hub

    directory = copy_module("unused_variable", tmp_path)
    with pytest.warns(UserWarning, match="update_op 'AssignAdd' is left out") as caught:
        hub.Module(str(directory), trainable=True, tags={"train"})
    assert "variant {train}" in str(caught[0].message)


def test_a_module_that_would_read_files_is_refused_with_a_way_out(tmp_path: Path) -> None:
    from bridge import hub

    directory = copy_module(TOY, tmp_path)
    with graph_def(directory) as graph:
        features = next(node for node in graph.node if node.op == "Placeholder")
        graph.node.add(name="peek", op="ReadFile", input=["peek/name"])
        name = graph.node.add(name="peek/name", op="Const")
        name.attr["dtype"].type = tf_pb.DT_STRING
        name.attr["value"].tensor.dtype = tf_pb.DT_STRING
        name.attr["value"].tensor.tensor_shape.SetInParent()
        name.attr["value"].tensor.string_val.append(b"/etc/hostname")
        for node in graph.node:
            if f"{features.name}:0" in node.input or features.name in node.input:
                node.input.append("^peek")
    with pytest.raises(UnsafeError, match="op ReadFile reads or writes files") as caught:
        hub.Module(str(directory))
    assert isinstance(caught.value, ValueError)
    assert "--allow-op ReadFile to `hubbridge to-saved-model`" in str(caught.value.hint)


def test_a_module_that_was_created_here_computes_and_can_be_exported(
    tmp_path: Path, tf1: Tf1Client
) -> None:
    import tensorflow as tf

    from bridge import hub

    vocabulary = tmp_path / "words.txt"
    vocabulary.write_text("one\ntwo\n")

    def module_fn() -> None:
        v1 = tf.compat.v1
        words = v1.placeholder(tf.string, [None])
        table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(os.fspath(vocabulary), tf.string, -2, tf.int64, -1),
            2,
        )
        rows = v1.get_variable("rows", [3, 4], initializer=v1.random_normal_initializer())
        hub.add_signature(inputs=words, outputs=tf.gather(rows, table.lookup(words)))

    spec = hub.create_module_spec(module_fn)
    one, other = hub.Module(spec, trainable=True), hub.Module(spec)
    assert names(one.trainable_variables) == ["rows"]
    assert (one.variables[0] != other.variables[0]).numpy().all(), "each has its initial values"
    wanted = one(["two", "none", "one"])
    np.testing.assert_array_equal(wanted, tf.gather(one.variables[0], [1, 2, 0]))
    one.export(tmp_path / "module")
    found = tf1.hub_apply(tmp_path / "module", {"default": np.array([b"two", b"none", b"one"])})
    np.testing.assert_allclose(found["default"], wanted, rtol=1e-6)


def test_a_module_made_of_a_saved_model_has_its_values(tmp_path: Path) -> None:
    import tensorflow as tf

    from bridge import hub

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2])
        weights = v1.get_variable("weights", [2, 3], use_resource=True)
        y = x @ weights
        session.run(v1.global_variables_initializer())
        wanted = session.run(weights)
        v1.saved_model.simple_save(session, str(tmp_path / "saved"), {"x": x}, {"default": y})
    spec = hub.create_module_spec_from_saved_model(str(tmp_path / "saved"))
    (signature,) = spec.get_signature_names({"serve"})
    module = hub.Module(spec, trainable=True, tags={"serve"})
    found = module(np.eye(2), signature=signature)
    np.testing.assert_array_equal(found, wanted)
    assert names(module.trainable_variables) == ["weights"]


def test_what_is_converted_goes_when_the_process_ends_and_not_with_a_fork(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from bridge.hub.conversion import _Workspace

    workspace = _Workspace()
    one, other = workspace.new_directory(), workspace.new_directory()
    assert one != other
    assert one.parent == other.parent == workspace.directory
    process = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: process + 1)
    workspace._remove()
    assert one.is_dir()
    monkeypatch.undo()
    workspace._remove()
    assert not one.parent.exists()
