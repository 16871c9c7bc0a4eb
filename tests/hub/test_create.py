"""Modules that are created on today's TensorFlow, and what module_fn may not do."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import struct_pb2, wrappers_pb2

import bridge
from tests.clients.tf1 import Tf1Client
from tests.conftest import TESTDATA, Golden
from tests.hub import made
from tests.hub.made import INFERENCE_AND_TRAINING, reference, v1_control_flow

pytestmark = pytest.mark.tf2

RNG = np.random.default_rng(0)
IMAGES = {"images": RNG.random((4, 8, 8, 3), np.float32)}
FEATURES = {"features": RNG.random((4, 3), np.float32)}
ROWS = {"rows": RNG.random((2, 7), np.float32)}


def create(module_fn: Callable[..., object], *args: Any, **kwargs: Any) -> Any:
    from bridge import hub

    return hub.create_module_spec(module_fn, *args, **kwargs)


# -- what is created runs in the old client --------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "inputs", "tags", "v1"),
    [
        ("image_net", IMAGES, set(), False),
        ("image_net", IMAGES, {"train"}, False),
        ("flow_net", FEATURES, set(), False),
        ("flow_net", FEATURES, set(), True),
        ("reference_net", FEATURES, set(), True),
        ("parts_net", ROWS, set(), False),
        ("newer_net", FEATURES, set(), False),
    ],
)
def test_the_old_client_computes_and_trains_what_module_fn_built(
    net: str, inputs: Any, tags: set[str], v1: bool, tf1: Tf1Client, tmp_path: Path
) -> None:
    variants = INFERENCE_AND_TRAINING if net == "image_net" else None
    if v1:
        with v1_control_flow():
            spec = create(getattr(made, net), variants)
    else:
        spec = create(getattr(made, net), variants)
    assert ("while_context" in spec._meta_graph(tags).collection_def) == v1
    spec.export(tmp_path / "module")
    wanted = reference(spec, tmp_path / "module", inputs, frozenset(tags))
    ones = {"default": np.ones_like(wanted.outputs["default"])}
    found = tf1.hub_train(
        tmp_path / "module", inputs, ones, steps=2, projections=ones, tags=sorted(tags)
    )

    def close(one: Any, other: Any) -> None:
        np.testing.assert_allclose(
            one, other, rtol=1e-4, atol=1e-4 * np.max(np.abs(other), initial=0)
        )

    assert found.outputs.keys() == wanted.outputs.keys()
    for key, value in wanted.outputs.items():
        close(found.outputs[key], value)
    close(found.regularization, wanted.regularization)
    assert found.update.keys() == wanted.update.keys()
    for key, value in wanted.update.items():
        close(found.update[key], value)
    assert found.forward == {}
    assert len(set(found.losses)) > 1
    if net == "parts_net":
        parts = [wanted.gradients[f"parts/kernel/part_{part}"] for part in range(3)]
        expected = {"bias": wanted.gradients["bias"], "parts/kernel": np.concatenate(parts)}
    else:
        expected = wanted.gradients
    assert found.gradients.keys() == expected.keys()
    for key, gradient in expected.items():
        close(found.gradients[key], gradient)


def test_the_image_module_trains_only_in_its_variant_for_training() -> None:
    spec = create(made.image_net, INFERENCE_AND_TRAINING)
    updates = {
        tags: "update_ops" in spec._meta_graph(tags).collection_def for tags in spec.get_tags()
    }
    assert updates == {frozenset(): False, frozenset({"train"}): True}


def test_the_old_client_uses_the_image_module_in_each_of_its_ways(
    tf1: Tf1Client, tmp_path: Path
) -> None:
    from bridge import hub

    spec = create(made.image_net, INFERENCE_AND_TRAINING)
    spec.export(tmp_path / "module")
    assert hub.get_expected_image_size(spec) == [8, 6]
    uses = tf1.hub_client(tmp_path / "module", IMAGES)
    assert (uses.facts["image_size"], uses.facts["channels"]) == ([8, 6], 3)
    assert uses.facts["tags"] == uses.facts["exported_tags"] == [[], ["train"]]
    for outputs in uses.outputs.values():
        np.testing.assert_allclose(outputs["default"], uses.outputs["first"]["default"], rtol=1e-6)
    labels = spec.get_attached_message("labels", struct_pb2.ListValue)
    record = tf1.hub_record(tmp_path / "module", training=False)
    for variant in record.facts["variants"]:
        assert b64decode(variant["attachments"]["labels"]) == labels.SerializeToString()


def test_variables_are_references_where_module_fn_asks_for_them(
    tf1: Tf1Client, tmp_path: Path
) -> None:
    for net, is_resource in ((made.flow_net, True), (made.reference_net, False)):
        create(net).export(tmp_path / net.__name__)
        record = tf1.hub_record(tmp_path / net.__name__, {"default/features": FEATURES["features"]})
        (variant,) = record.facts["variants"]
        found = {one["name"]: one["is_resource"] for one in variant["variables"]}
        assert found == {"count": is_resource, "kernel": is_resource}


def test_tables_assets_and_attachments_get_into_the_module(
    tf1: Tf1Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    from bridge import hub

    for folder, words in (("one", "cat\ndog\n"), ("two", "chat\nchien\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "words.txt").write_text(words)

    def module_fn() -> None:
        text = tf.compat.v1.placeholder(tf.string, [None])
        ids = []
        for folder in ("one", "two"):
            words = tf.lookup.TextFileInitializer(
                f"{folder}/words.txt",  # of the working directory
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            )
            ids.append(tf.lookup.StaticHashTable(words, -1).lookup(text))
        hub.add_signature(inputs={"text": text}, outputs={"one": ids[0], "two": ids[1]})
        hub.attach_message("note", wrappers_pb2.StringValue(value="abc"))

    monkeypatch.chdir(tmp_path)
    spec = create(module_fn)
    monkeypatch.chdir("/")
    spec.export(tmp_path / "module")
    for folder in ("one", "two"):
        (tmp_path / folder / "words.txt").unlink()
    found = tf1.hub_apply(tmp_path / "module", {"text": np.array([b"dog", b"chat"])})
    assert {key: value.tolist() for key, value in found.items()} == {"one": [1, -1], "two": [-1, 0]}
    assets = sorted(path.name for path in (tmp_path / "module" / "assets").iterdir())
    assert assets == ["words.txt", "words_1.txt"]
    again = hub.load_module_spec(tmp_path / "module")
    assert again.get_attached_message("note", wrappers_pb2.StringValue).value == "abc"
    with pytest.raises(ValueError, match="attachment 'note' is no message of type Struct"):
        again.get_attached_message("note", struct_pb2.Struct)


def test_signatures_take_and_give_sparse_and_ragged_tensors(tf1: Tf1Client, tmp_path: Path) -> None:
    import tensorflow as tf

    from bridge import hub

    def module_fn() -> None:
        rows = tf.compat.v1.ragged.placeholder(tf.int64, 1, [])
        cells = tf.compat.v1.sparse_placeholder(tf.float32, [None, 4])
        outputs = {"default": rows + 1, "sums": tf.sparse.reduce_sum(cells, 1), "cells": cells}
        hub.add_signature(inputs={"rows": rows, "cells": cells}, outputs=outputs)

    spec = create(module_fn)
    assert spec.get_input_info_dict()["rows"].is_composite
    spec.export(tmp_path / "module")
    cells = {"indices": np.array([[1, 2]]), "values": np.float32([3]), "dense_shape": [2, 4]}
    rows = {"values": np.array([1, 2, 3]), "row_splits_0": np.array([0, 2, 3])}
    inputs = {f"cells|{key}": part for key, part in cells.items()}
    found = tf1.hub_apply(
        tmp_path / "module", inputs | {f"rows|{key}": part for key, part in rows.items()}
    )
    assert found["default|values"].tolist() == [2, 3, 4]
    assert found["default|row_splits_0"].tolist() == [0, 2, 3]
    assert found["sums"].tolist() == [0, 3]
    assert found["cells|values"].tolist() == [3]


def test_a_module_may_be_made_of_another(
    golden: Callable[[str], Golden], tf1: Tf1Client, tmp_path: Path
) -> None:
    import tensorflow as tf

    from bridge import hub

    def module_fn() -> None:
        text = tf.compat.v1.placeholder(tf.string, [None])
        inner = hub.Module(str(TESTDATA / "modules" / "text_vocab"), trainable=True)
        hub.add_signature(inputs={"text": text}, outputs=2 * inner(text))

    create(module_fn).export(tmp_path / "module")
    recorded = golden("text_vocab")
    found = tf1.hub_apply(tmp_path / "module", recorded.under("|default|in"))
    wanted = 2 * recorded.under("|default|out")["default"]
    np.testing.assert_allclose(found["default"], wanted, rtol=1e-6)


# -- variants and collections ----------------------------------------------------------------------


def identity(**_: Any) -> None:
    import tensorflow as tf

    from bridge import hub

    x = tf.compat.v1.placeholder(tf.float32, [None], name="x")
    hub.add_signature(inputs=x, outputs=x + 1)


def test_a_single_tensor_is_the_one_named_default() -> None:
    spec = create(identity)
    assert list(spec.get_input_info_dict()) == list(spec.get_output_info_dict()) == ["default"]
    assert (spec.get_tags(), spec.get_signature_names()) == ([frozenset()], ["default"])
    assert (spec._checkpoint, spec._directory) == (None, None)


def test_module_fn_builds_each_variant_in_a_graph_of_its_own() -> None:
    import tensorflow as tf

    called = []

    def module_fn(number: int = 0) -> None:
        called.append((number, tf.compat.v1.get_default_graph(), tf.executing_eagerly()))
        identity()

    spec = create(module_fn, [({"a", "b"}, {"number": 1}), ([], {"number": 2})])
    assert spec.get_tags() == [frozenset(), frozenset({"a", "b"})]
    assert [number for number, _, _ in called] == [1, 2]
    assert len({id(graph) for _, graph, _ in called}) == 2
    assert not any(eager for *_, eager in called)


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ([({"a"}, {}), (["a"], {})], r"two variants have the tags \{a\}"),
        ([("train", {})], "not 'train'"),
        ([({""}, {})], "not empty"),
        ([({1}, {})], "set of strings"),
    ],
)
def test_tags_that_can_be_none_are_refused(variants: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create(identity, variants)


def test_collections_that_a_module_cant_hold_are_refused_unless_they_are_dropped() -> None:
    import tensorflow as tf

    def module_fn() -> None:
        identity()
        for key in ("mine", "yours"):
            tf.compat.v1.add_to_collection(key, tf.constant(1.0))
        tf.compat.v1.add_to_collection("update_ops", tf.constant(1.0))

    with pytest.raises(ValueError, match="'mine', 'yours'") as refused:
        create(module_fn)
    assert refused.value.hint.endswith("drop_collections=['mine', 'yours']")
    spec = create(module_fn, drop_collections=["mine", "yours"])
    assert set(spec._meta_graph(None).collection_def) == {"update_ops"}
    assert not create(
        module_fn, drop_collections=["mine", "yours", "update_ops"]
    )._meta_graph(None).collection_def  # fmt: skip


# -- what is refused -------------------------------------------------------------------------------


def test_signatures_and_messages_are_added_within_module_fn_only() -> None:
    from bridge import hub

    for call in (
        lambda: hub.add_signature(inputs={}, outputs={}),
        lambda: hub.attach_message("key", struct_pb2.ListValue()),
        lambda: hub.attach_image_module_info(hub.ImageModuleInfo()),
    ):
        with pytest.raises(RuntimeError, match="must be called within a module_fn") as refused:
            call()
        assert isinstance(refused.value, bridge.UsageError)
    create(identity)
    with pytest.raises(RuntimeError, match=r"hub\.add_signature"):
        hub.add_signature(inputs={}, outputs={})


def refused(module_fn: Callable[[Any], object]) -> ValueError:
    """Creates a module, and returns what it is refused with."""
    import tensorflow as tf

    with pytest.raises(ValueError) as error:  # noqa: PT011 - who calls looks at the message
        create(lambda: module_fn(tf.compat.v1.placeholder(tf.float32, [None], name="x")))
    assert isinstance(error.value, bridge.UsageError)
    return error.value


def test_a_module_without_signatures_is_refused() -> None:
    assert str(refused(lambda x: x)) == "module_fn added no signature (variant {})"


def test_a_second_signature_of_a_name_is_refused() -> None:
    from bridge import hub

    def module_fn(x: Any) -> None:
        hub.add_signature("default", x, x)
        hub.add_signature(None, x, x + 1)

    assert str(refused(module_fn)) == (
        "there is a signature 'default' already (variant {}, signature 'default')"
    )


def test_what_is_no_tensor_of_the_graph_is_refused() -> None:
    import tensorflow as tf

    from bridge import hub

    eager = tf.constant(1.0)
    message = str(refused(lambda x: hub.add_signature(inputs={"x": x}, outputs={"y": [x]})))
    assert "output 'y' is of type list" in message
    message = str(refused(lambda x: hub.add_signature(inputs=np.ones(3), outputs=x)))
    assert "input 'default' is of type ndarray" in message
    message = str(refused(lambda x: hub.add_signature(inputs=x, outputs=tf.Variable(1.0))))
    assert "output 'default' is of type ResourceVariable" in message
    message = str(refused(lambda x: hub.add_signature(inputs=x, outputs=eager)))
    assert "output 'default' is none of the graph that module_fn builds" in message
    message = str(refused(lambda x: hub.add_signature(inputs={3: x}, outputs=x)))
    assert "the name of an input is 3" in message


def test_an_input_that_is_colocated_with_another_op_is_refused() -> None:
    import tensorflow as tf

    from bridge import hub

    def module_fn(x: Any) -> None:
        with tf.compat.v1.colocate_with(x):
            y = tf.compat.v1.placeholder(tf.float32, name="y")
        hub.add_signature("sum", {"x": x, "y": y}, x + y)

    error: Any = refused(module_fn)
    assert str(error).startswith("input 'y' is colocated with another op")
    assert (error.where.signature, error.where.node) == ("sum", "y")


def test_the_reverse_is_a_module() -> None:
    import tensorflow as tf

    from bridge import hub

    def module_fn() -> None:
        x = tf.compat.v1.placeholder(tf.float32)
        with tf.compat.v1.colocate_with(x):
            hub.add_signature(inputs=x, outputs=tf.identity(x))

    assert create(module_fn).get_signature_names() == ["default"]


def test_state_that_is_colocated_with_something_else_is_refused() -> None:
    import tensorflow as tf

    from bridge import hub

    def module_fn(x: Any) -> None:
        with tf.compat.v1.colocate_with(x):
            variable = tf.compat.v1.get_variable("v", [])
        hub.add_signature(inputs=x, outputs=x * variable)

    error: Any = refused(module_fn)
    assert "holds state, and is colocated with 'x'" in str(error)
    assert error.where.node == "v"


def test_state_with_more_than_one_output_is_refused() -> None:
    import tensorflow as tf

    from bridge import hub

    def module_fn(x: Any) -> None:
        tf.raw_ops.AnonymousIteratorV2(output_types=[tf.float32], output_shapes=[[]], name="two")
        hub.add_signature(inputs=x, outputs=x + 1)

    error: Any = refused(module_fn)
    assert "op AnonymousIteratorV2 holds state and has 2 outputs" in str(error)
    assert error.where.node == "two"


def test_an_asset_that_is_no_constant_is_refused() -> None:
    import tensorflow as tf

    from bridge import hub

    def module_fn(x: Any) -> None:
        name = tf.strings.join(["a", tf.constant("b")], name="name")
        tf.compat.v1.add_to_collection("asset_filepaths", name)
        hub.add_signature(inputs=x, outputs=x + 1)

    assert "an asset is given by a constant scalar" in str(refused(module_fn))


@pytest.mark.parametrize("key", ["", "1a", "a-b", "a.b", "_a", "a\n", None])
def test_a_key_that_is_no_name_is_refused(key: Any) -> None:
    from bridge import hub

    error = refused(lambda x: hub.attach_message(key, struct_pb2.ListValue()))
    assert "can't be the key of a message" in str(error)


def test_a_message_that_is_none_is_a_type_error() -> None:
    from bridge import hub

    with pytest.raises(TypeError, match="not str"):
        create(lambda: hub.attach_message("key", "text"))


def test_an_input_of_several_outputs_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    import tensorflow as tf

    from bridge import hub

    def module_fn() -> None:
        x = tf.compat.v1.placeholder(tf.float32, [4])
        first, second = tf.split(x, 2)
        hub.add_signature(inputs={"first": first}, outputs=first + second)

    logger = tf.get_logger()
    logger.addHandler(caplog.handler)
    try:
        create(module_fn)
    finally:
        logger.removeHandler(caplog.handler)
    assert "input 'first' is one of several outputs of 'split'" in caplog.text
