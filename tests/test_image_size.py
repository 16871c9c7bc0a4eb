"""The one rule for the size of images that inspect, check, parity and bridge.hub share."""

from __future__ import annotations

import pytest

from bridge.errors import MalformedError
from bridge.image_size import ExpectedSize, expected_image_size
from bridge.proto.hub_pb import ImageModuleInfo


def attached(height: int, width: int) -> bytes:
    info = ImageModuleInfo()
    info.default_image_size.height, info.default_image_size.width = height, width
    return info.SerializeToString()


STATIC = ExpectedSize(5, 6, is_attached=False)


@pytest.mark.parametrize(
    ("attachment", "wanted"),
    [
        (attached(11, 12), ExpectedSize(11, 12, is_attached=True)),
        (attached(0, 12), STATIC),
        (attached(11, 0), STATIC),
        (b"", STATIC),
        (None, STATIC),
    ],
)
def test_the_attachment_goes_first_if_it_says_both(
    attachment: bytes | None, wanted: ExpectedSize
) -> None:
    assert expected_image_size(attachment, [None, 5, 6, 3]) == wanted


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ([None, 5, 6, 3], (5, 6)),
        ((2, 5, 6, None), (5, 6)),
        ([None, 3, 32, 32], (3, 32)),
        ([None, 5, 6, 7], (5, 6)),
        ([None, None, 6, 3], None),
        ([None, 5, None, 3], None),
        ([None, 0, 6, 3], None),
        ([None, 5, 6], None),
        ([None, 2, 5, 6, 3], None),
        ([], None),
        (None, None),
    ],
)
def test_the_shape_says_it_by_its_second_and_third_dimension(
    shape: list[int | None] | None, size: tuple[int, int] | None
) -> None:
    wanted = None if size is None else ExpectedSize(*size, is_attached=False)
    assert expected_image_size(None, shape) == wanted


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_what_nothing_calls_images_needs_the_channels_of_some(channels: int) -> None:
    assert expected_image_size(None, [None, 5, 6, channels], is_named=False) == STATIC


@pytest.mark.parametrize("channels", [None, 2, 6, 32])
def test_other_channels_are_no_images_unless_they_are_called_so(channels: int | None) -> None:
    assert expected_image_size(None, [None, 5, 6, channels], is_named=False) is None
    assert expected_image_size(None, [None, 5, 6, channels]) == STATIC


def test_an_attachment_of_another_type_is_an_error() -> None:
    with pytest.raises(MalformedError, match="'image_module_info' is no message of its type"):
        expected_image_size(b"\xff\xff", [None, 5, 6, 3])
