"""The size that images are expected to have, as tensorflow_hub 0.12 finds it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bridge._inspect.results import (
    AttachmentInfo,
    CallableInfo,
    EndpointInfo,
    ImageSize,
    VariantInfo,
)
from bridge.model import DEFAULT, INFERENCE, format_tags
from bridge.passes.image_conventions import IMAGE_MODULE_INFO, IMAGES
from bridge.saved_model.names import SERVING_DEFAULT

_CHANNELS = (1, 3, 4)


def find_image_size(
    attachments: Iterable[AttachmentInfo],
    variants: Iterable[VariantInfo],
    callables: Iterable[CallableInfo],
) -> ImageSize | None:
    """Returns what the attached `image_module_info` says, else the static shape of the images.

    The images are the input `images`, or the only input if it is one of images, of the signature
    `default`; of a SavedModel, of `__call__` or the signature `serving_default`.
    """
    # Variants may differ; clients ask the one without tags.
    for attachment in sorted(
        attachments, key=lambda one: format_tags(INFERENCE) not in one.variants
    ):
        if attachment.key == IMAGE_MODULE_INFO and attachment.message:
            size = attachment.message["default_image_size"]
            if size is not None:
                return ImageSize(size["height"], size["width"], IMAGE_MODULE_INFO)
    for place, inputs in _inputs(variants, callables):
        images = [one for one in inputs if one.name == IMAGES] or inputs
        if len(images) == 1 and (size := _size(images[0])) is not None:
            return ImageSize(*size, f"input {images[0].name!r} of {place}")
    return None


def _inputs(
    variants: Iterable[VariantInfo], callables: Iterable[CallableInfo]
) -> Iterator[tuple[str, list[EndpointInfo]]]:
    for one in callables:
        if one.name == "__call__":
            for trace in one.traces:
                yield one.name, [end for end in trace.inputs if end.name != "training"]
    # The variant without tags comes first.
    for variant in sorted(variants, key=lambda variant: len(variant.tags)):
        for signature in variant.signatures:
            if signature.name in (DEFAULT, SERVING_DEFAULT):
                yield f"signature {signature.name!r} of {variant.name}", signature.inputs


def _size(images: EndpointInfo) -> tuple[int, int] | None:
    if images.encoding != "dense" or images.shape is None or len(images.shape) != 4:
        return None
    _, height, width, channels = images.shape
    return (height, width) if height and width and channels in _CHANNELS else None
