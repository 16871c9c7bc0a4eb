"""What a spec answers, and how it refuses what it has not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import struct_pb2

import bridge
from tests.conftest import TESTDATA

pytestmark = pytest.mark.tf2


@pytest.fixture(scope="module")
def toy() -> Any:
    """The spec of a module with two variants and attachments."""
    from bridge import hub

    return hub.load_module_spec(str(TESTDATA / "modules" / "toy_image_resource"))


def test_without_names_the_variant_without_tags_and_the_default_signature_are_meant(
    toy: Any,
) -> None:
    assert toy.get_signature_names() == toy.get_signature_names(set())
    assert toy.get_input_info_dict() == toy.get_input_info_dict("default", [])
    assert toy.get_output_info_dict() == toy.get_output_info_dict("default", frozenset())


def test_an_unknown_variant_is_a_key_error_and_a_value_error_that_names_the_others(
    toy: Any,
) -> None:
    asks: list[Callable[[], Any]] = [
        lambda: toy.get_signature_names({"other"}),
        lambda: toy.get_input_info_dict(tags={"other"}),
        lambda: toy.get_output_info_dict("default", {"train", "other"}),
        lambda: toy.get_attached_message("x", struct_pb2.ListValue, tags={"other"}),
    ]
    for ask in asks:
        with pytest.raises(KeyError) as refused:
            ask()
        assert isinstance(refused.value, ValueError)
        assert isinstance(refused.value, bridge.UsageError)
        assert "other" in str(refused.value)
        assert refused.value.hint == "its variants are {}, {train}"


def test_tags_given_as_one_string_are_refused(toy: Any) -> None:
    with pytest.raises(TypeError, match="not the string 'train'"):
        toy.get_signature_names("train")


def test_an_unknown_signature_is_a_key_error_and_a_value_error_that_names_the_others(
    toy: Any,
) -> None:
    for ask in (toy.get_input_info_dict, toy.get_output_info_dict):
        with pytest.raises(KeyError) as refused:
            ask("image_segmentation", {"train"})
        assert isinstance(refused.value, ValueError)
        assert str(refused.value).startswith("there is no signature 'image_segmentation'")
        assert "'default', 'image_classification', 'image_feature_vector'" in refused.value.hint


def test_attached_messages_are_given_as_the_type_that_is_asked_for(toy: Any) -> None:
    labels = toy.get_attached_message("toy_labels", struct_pb2.ListValue, required=True)
    assert list(labels) == ["circle", "square", "star", "moon", "wave"]
    assert toy.get_attached_message("toy_labels", struct_pb2.ListValue, {"train"}) is not None
    assert toy.get_attached_message("none", struct_pb2.ListValue) is None
    with pytest.raises(KeyError, match="no message is attached under 'none'"):
        toy.get_attached_message("none", struct_pb2.ListValue, required=True)


def test_infos_tell_dense_sparse_and_ragged_tensors_apart() -> None:
    import tensorflow as tf

    from bridge import hub

    sparse = hub.load_module_spec(TESTDATA / "modules" / "sparse_input").get_input_info_dict()
    assert sparse["ids"].type_spec == tf.SparseTensorSpec([None, None], tf.int64)
    assert (sparse["ids"].is_sparse, sparse["ids"].is_composite) == (True, True)
    assert repr(sparse["ids"]) == (
        "<hub.ParsedTensorInfo shape=(None, None) dtype=int64 is_sparse=True>"
    )
    ragged = hub.load_module_spec(TESTDATA / "modules" / "ragged_input").get_input_info_dict()
    assert ragged["ids"].type_spec == tf.RaggedTensorSpec([None, None], tf.int64, ragged_rank=1)
    assert (ragged["ids"].is_sparse, ragged["ids"].is_composite) == (False, True)
    assert "type_spec=RaggedTensorSpec" in repr(ragged["ids"])
    dense = hub.load_module_spec(TESTDATA / "modules" / "no_variables").get_input_info_dict()
    assert dense["images"].type_spec == tf.TensorSpec([None, None, None, 3], tf.float32)
    assert (dense["images"].is_sparse, dense["images"].is_composite) == (False, False)
