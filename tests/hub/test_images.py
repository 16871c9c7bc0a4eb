"""The size and the channels of the images that a module wants (IMG08, IMG09)."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest

import bridge
from tests.conftest import TESTDATA

pytestmark = pytest.mark.tf2

ATTACHED = TESTDATA / "modules" / "no_variables"  # any size; the attached one is 12 by 10
STATIC = TESTDATA / "modules" / "multi_variant"  # 8 by 8, and nothing attached


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path]:
    """The SavedModels of the modules."""
    folder = tmp_path_factory.mktemp("converted")
    for module in (ATTACHED, STATIC):
        bridge.to_saved_model(module, folder / module.name)
    return {module: folder / module.name for module in (ATTACHED, STATIC)}


def spec_of(**options: Any) -> Any:
    """The spec of a module with two image inputs, that has a size attached if one is given."""
    import tensorflow as tf

    from bridge import hub

    def module_fn() -> None:
        v1 = tf.compat.v1
        images = v1.placeholder(tf.float32, options.get("shape", [None, 5, 6, 3]))
        masks = v1.placeholder(tf.float32, [None, 7, 8, 1])
        flat = v1.placeholder(tf.float32, [None, 9])
        inputs = {"images": images, "masks": masks, "flat": flat}
        hub.add_signature(inputs=inputs, outputs=flat + 1)
        hub.add_signature("other", {"pictures": masks}, masks + 1)
        if "attached" in options:
            info = hub.ImageModuleInfo()
            info.default_image_size.height, info.default_image_size.width = options["attached"]
            hub.attach_image_module_info(info)

    return hub.create_module_spec(module_fn)


def test_the_attached_size_goes_before_the_static_shape() -> None:
    from bridge import hub

    assert hub.get_expected_image_size(spec_of()) == [5, 6]
    assert hub.get_expected_image_size(spec_of(attached=(11, 12))) == [11, 12]
    assert hub.get_expected_image_size(spec_of(attached=(0, 12))) == [5, 6]
    free = [None, None, None, 3]
    assert hub.get_expected_image_size(spec_of(attached=(11, 12), shape=free)) == [11, 12]


def test_signature_and_input_say_which_image_is_meant() -> None:
    from bridge import hub

    spec = spec_of()
    assert hub.get_expected_image_size(spec, None, "masks") == [7, 8]
    assert hub.get_expected_image_size(spec, signature="other", input_name="pictures") == [7, 8]
    assert hub.get_num_image_channels(spec) == 3
    assert hub.get_num_image_channels(spec, "other", "pictures") == 1


def test_the_attached_message_is_a_protocol_buffer_that_may_be_missing() -> None:
    from google.protobuf.message import Message

    from bridge import hub

    info = hub.get_image_module_info(spec_of(attached=(11, 12)))
    assert isinstance(info, hub.ImageModuleInfo)
    assert isinstance(info, Message)
    again = hub.ImageModuleInfo.FromString(info.SerializeToString())
    assert (again.default_image_size.height, again.default_image_size.width) == (11, 12)
    assert hub.get_image_module_info(spec_of()) is None
    with pytest.raises(KeyError, match="'image_module_info'"):
        hub.get_image_module_info(spec_of(), required=True)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([None, None, None, None], "height and width"),
        ([None, 5, None, None], "height and width"),
        (None, "height and width"),
        ([None, 3], "four dimensions"),
    ],
)
def test_a_size_that_nothing_tells_is_a_value_error(shape: Any, message: str) -> None:
    from bridge import hub

    spec = spec_of(shape=shape)
    with pytest.raises(ValueError, match=message) as error:
        hub.get_expected_image_size(spec)
    assert isinstance(error.value, bridge.UsageError)
    assert "ImageModuleInfo" in str(error.value.hint)
    with pytest.raises(ValueError, match=r"channels|four dimensions"):
        hub.get_num_image_channels(spec)


def test_an_input_or_signature_that_is_not_there_is_a_value_error_that_names_the_others() -> None:
    from bridge import hub

    with pytest.raises(ValueError, match="signature 'other' has no input 'images'") as error:
        hub.get_expected_image_size(spec_of(), "other")
    assert error.value.hint == "its inputs are 'pictures'; input_name=... says which is the image"
    with pytest.raises(ValueError, match="no signature 'none'"):
        hub.get_num_image_channels(spec_of(), "none")
    with pytest.raises(TypeError, match="not by int"):
        hub.get_expected_image_size(5)


def test_a_path_stands_for_the_module_or_saved_model_there(
    converted: dict[Path, Path], tmp_path: Path
) -> None:
    from bridge import hub

    for module, size in ((ATTACHED, [12, 10]), (STATIC, [8, 8])):
        assert hub.get_expected_image_size(module) == size
        assert hub.get_expected_image_size(str(module), "image_feature_vector") == size
        assert hub.get_expected_image_size(hub.load_module_spec(module)) == size
        assert hub.get_expected_image_size(converted[module]) == size
        assert hub.get_expected_image_size(str(converted[module]), "image_feature_vector") == size
        assert hub.get_num_image_channels(converted[module]) == 3
    archive = tmp_path / "saved_model.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(converted[ATTACHED], arcname=".")
    assert hub.get_expected_image_size(archive) == [12, 10]
    info = hub.get_image_module_info(archive, required=True)
    assert info is not None
    assert info.default_image_size.height == 12


def test_a_path_without_a_model_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    from bridge import hub

    with pytest.raises(ValueError, match="neither a TF1 Hub module nor a SavedModel"):
        hub.get_expected_image_size(tmp_path)
    with pytest.raises(tf.errors.NotFoundError):
        hub.get_expected_image_size(tmp_path / "nothing")


def test_a_loaded_saved_model_tells_the_static_shape_but_not_what_was_attached(
    converted: dict[Path, Path],
) -> None:
    import tensorflow as tf

    from bridge import hub

    loaded = tf.saved_model.load(str(converted[STATIC]))
    assert hub.get_expected_image_size(loaded) == [8, 8]
    assert hub.get_expected_image_size(loaded, "image_feature_vector") == [8, 8]
    assert hub.get_num_image_channels(loaded) == 3
    with pytest.raises(ValueError, match="no signature 'none'"):
        hub.get_expected_image_size(loaded, "none")
    loaded = tf.saved_model.load(str(converted[ATTACHED]))
    with pytest.raises(ValueError, match="height and width"):
        hub.get_expected_image_size(loaded)
    with pytest.raises(KeyError, match="does not say") as error:
        hub.get_image_module_info(loaded, required=True)
    assert error.value.hint == "give its path instead"


def test_a_keras_layer_tells_what_the_saved_model_at_its_path_does(
    converted: dict[Path, Path],
) -> None:
    import tensorflow as tf

    from bridge import hub

    layer = hub.KerasLayer(str(converted[ATTACHED]))
    assert hub.get_expected_image_size(layer) == [12, 10]
    layer = hub.KerasLayer(tf.saved_model.load(str(converted[STATIC])))
    assert hub.get_expected_image_size(layer) == [8, 8]
