"""The size that images are expected to have, as tensorflow_hub finds it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from google.protobuf.message import DecodeError

from bridge._parity.surfaces.surface import Computation
from bridge.errors import MalformedError
from bridge.model import DEFAULT, Tags
from bridge.passes.image_conventions import IMAGE_MODULE_INFO, IMAGES
from bridge.proto import hub_pb


def image_size(
    computations: Iterable[Computation], attachments: Mapping[str, bytes], variant: Tags
) -> tuple[int, int] | None:
    """Returns height and width of images: what the model attaches, else what its signature says.

    Args:
      computations: all of the model.
      attachments: those of the variant.
      variant: tags of the variant whose signature `default` is looked at.

    Raises:
      MalformedError: the attachment is no message of its type.
    """
    if IMAGE_MODULE_INFO in attachments:
        try:
            info = hub_pb.ImageModuleInfo.FromString(attachments[IMAGE_MODULE_INFO])
        except DecodeError as error:
            raise MalformedError(f"the attachment {IMAGE_MODULE_INFO!r} is broken") from error
        if info.HasField("default_image_size"):
            return info.default_image_size.height, info.default_image_size.width
    for computation in computations:
        if (computation.variant, computation.signature) != (variant, DEFAULT):
            continue
        inputs = computation.inputs
        name = IMAGES if IMAGES in inputs else next(iter(inputs)) if len(inputs) == 1 else None
        shape = inputs[name].shape if name is not None else None
        if shape is not None and len(shape) == 4 and shape[1] and shape[2]:
            return shape[1], shape[2]
    return None
