"""The size that images are expected to have, by the rule of tensorflow_hub 0.12 (image_util.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from bridge.errors import MalformedError
from bridge.passes.image_conventions import IMAGE_MODULE_INFO
from bridge.proto.hub_pb import ImageModuleInfo

_RANK = 4
_CHANNELS = (1, 3, 4)
"""How many channels an input has that is taken for images though nothing calls it so."""


@dataclass(frozen=True)
class ExpectedSize:
    """Height and width of images.

    Attributes:
      height: in pixels.
      width: in pixels.
      is_attached: whether the attached message says it, not the static shape of the input.
    """

    height: int
    width: int
    is_attached: bool


def expected_image_size(
    attachment: bytes | None, shape: Sequence[int | None] | None, *, is_named: bool = True
) -> ExpectedSize | None:
    """Returns what the attached message says, else what the static shape of the input does.

    Args:
      attachment: the message attached as `image_module_info`, if there is one.
      shape: of the image input; None if its rank is unknown, or if there is no such input.
      is_named: whether the input is called `images`, or was asked for; for an input that only looks
        like images, as a SavedModel's may, see `static_image_size`.

    Raises:
      MalformedError: the attachment is no message of its type.
    """
    if attachment is not None:
        try:
            info = ImageModuleInfo.FromString(attachment)
        except DecodeError as error:
            raise MalformedError(
                f"the attachment {IMAGE_MODULE_INFO!r} is no message of its type"
            ) from error
        if (size := attached_image_size(info)) is not None:
            return ExpectedSize(*size, is_attached=True)
    size = static_image_size(shape, is_named=is_named)
    return None if size is None else ExpectedSize(*size, is_attached=False)


def attached_image_size(info: ImageModuleInfo) -> tuple[int, int] | None:
    """Returns height and width as the message says; None unless it says both."""
    size = info.default_image_size
    return (size.height, size.width) if size.height and size.width else None


def static_image_size(
    shape: Sequence[int | None] | None, *, is_named: bool = True
) -> tuple[int, int] | None:
    """Returns the second and third dimension of four; None unless both are known.

    An input that is not known to take images must have the channels of some behind them.
    """
    if shape is None or len(shape) != _RANK or not (is_named or shape[3] in _CHANNELS):
        return None
    height, width = shape[1:3]
    return (height, width) if height and width else None
