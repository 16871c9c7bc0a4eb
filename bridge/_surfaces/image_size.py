"""The size that images are expected to have; an only input need not be called `images`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bridge._surfaces.surface import Computation
from bridge.image_size import expected_image_size
from bridge.model import DEFAULT, Tags
from bridge.passes.image_conventions import IMAGE_MODULE_INFO, IMAGES


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
    size = expected_image_size(attachments.get(IMAGE_MODULE_INFO), None)
    for computation in computations:
        if size is None and (computation.variant, computation.signature) == (variant, DEFAULT):
            inputs = computation.inputs
            name = IMAGES if IMAGES in inputs else next(iter(inputs)) if len(inputs) == 1 else None
            shape = inputs[name].shape if name is not None else None
            size = expected_image_size(None, shape, is_named=name == IMAGES)
    return None if size is None else (size.height, size.width)
