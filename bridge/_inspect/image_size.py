"""Finds the size that images are expected to have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bridge._inspect.meta_graphs import attachments_of, where_of
from bridge._inspect.results import CallableInfo, EndpointInfo, ImageSize, VariantInfo
from bridge.errors import MalformedError
from bridge.image_size import expected_image_size
from bridge.layout import ATTACHMENTS
from bridge.model import DEFAULT, Encoding
from bridge.passes.image_conventions import IMAGE_MODULE_INFO, IMAGES
from bridge.proto import tf_pb
from bridge.saved_model.names import SERVING_DEFAULT, TRAINING


def find_image_size(
    meta_graphs: Sequence[tf_pb.MetaGraphDef],
    variants: Sequence[VariantInfo],
    callables: Iterable[CallableInfo],
    path: Path,
    *,
    is_module: bool,
) -> ImageSize | None:
    """Returns what the attached `image_module_info` says, else the static shape of the images.

    Of a module that is what tensorflow_hub's `get_expected_image_size` says. Of a SavedModel, which
    it can't be asked, the inputs of `__call__` and of `serving_default` count too, and an only
    input needs no name.

    Args:
      meta_graphs: the graphs.
      variants: what was found in each of them.
      callables: those of a TF2 SavedModel.
      path: of the file, for error messages.
      is_module: whether it is a module.

    Raises:
      MalformedError: the attachment is broken.
    """
    meta_graph, variant = min(
        zip(meta_graphs, variants, strict=True), key=lambda pair: _rank(pair[1])
    )
    where = where_of(meta_graph, path)
    attached = {one.key: one.value for one in attachments_of(meta_graph, ATTACHMENTS, where)}
    try:
        size = expected_image_size(attached.get(IMAGE_MODULE_INFO), None)
    except MalformedError as error:
        raise MalformedError(error.message, where=where) from error
    if size is not None:
        return ImageSize(size.height, size.width, IMAGE_MODULE_INFO)
    for place, choices in _places(variant, callables, is_module=is_module):
        found = {_static(inputs, place, is_module=is_module) for inputs in choices}
        # What one trace of several takes is not what all of them take.
        if len(found) == 1 and (one := found.pop()) is not None:
            return one
    return None


def _rank(variant: VariantInfo) -> tuple[bool, int]:
    """Puts first what clients take where they ask for nothing else."""
    return variant.tags not in ([], ["serve"]), len(variant.tags)


def _places(
    variant: VariantInfo, callables: Iterable[CallableInfo], *, is_module: bool
) -> Iterator[tuple[str, list[list[EndpointInfo]]]]:
    """Yields where images may come in, and what is taken there, by each trace if it has several."""
    for one in callables:
        if one.name == "__call__" and one.traces:
            yield one.name, [[e for e in t.inputs if e.name != TRAINING] for t in one.traces]
    names = (DEFAULT,) if is_module else (DEFAULT, SERVING_DEFAULT)
    for signature in variant.signatures:
        if signature.name in names:
            yield f"signature {signature.name!r} of {variant.name}", [signature.inputs]


def _static(inputs: Sequence[EndpointInfo], place: str, *, is_module: bool) -> ImageSize | None:
    named = [one for one in inputs if one.name == IMAGES]
    images = named or ([] if is_module else inputs)
    if len(images) != 1 or not (named or images[0].encoding == Encoding.DENSE.value):
        return None
    size = expected_image_size(None, images[0].shape, is_named=bool(named))
    if size is None:
        return None
    return ImageSize(size.height, size.width, f"input {images[0].name!r} of {place}")
