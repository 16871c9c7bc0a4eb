"""Which inputs are images, how large they are, and images made for them.

An input is taken for images where

1. it is dense, of numbers or truth values, and `[batch, height, width, channels]`, or
   `[batch, frames, height, width, channels]`;
2. neither height nor width is known to be 1, and nothing to be 0;
3. it has up to six channels; or more, or an unknown number of them, if no other input has a length
   that is open, which could be that of a sequence for both.

What is open of height and width is what the model expects, else 224, or less where there are many
channels. An image of floats or bytes with one, three or an unknown number of channels is a picture:
it is fed nothing but images. Others may be features, so they are fed other values too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge._parity.feed.values import numpy_type, sized, to_bfloat16
from bridge.model import Encoding, Endpoint, Shape
from bridge.proto import tf_pb

Array = NDArray[Any]

Size = tuple[int, int]
"""Height and width."""

_SIZE = 224
"""Height and width where the model says nothing; most networks were made for it."""

_MOST_VALUES = 64 * _SIZE * _SIZE
"""With so many values in one image of unknown size, it is made smaller: batches are in memory."""

_FRAMES = 16
_RGB = 3
_FEW_CHANNELS = 6

_OCTAVES = 7


def image_inputs(inputs: Mapping[str, Endpoint]) -> tuple[str, ...]:
    """Returns the names of the inputs that are images, by the rule above."""
    found = {name: _channels(endpoint) for name, endpoint in inputs.items() if _is_image(endpoint)}
    others = (endpoint.shape for name, endpoint in inputs.items() if name not in found)
    lengths = any(shape is not None and None in shape[1:] for shape in others)
    return tuple(
        name
        for name, channels in found.items()
        if not lengths or (channels is not None and channels <= _FEW_CHANNELS)
    )


def is_picture(endpoint: Endpoint) -> bool:
    """Whether an image is a picture for sure, by the rule above."""
    kind = numpy_type(endpoint.dtype)
    shown = kind is not None and (issubclass(kind, np.floating) or kind is np.uint8)
    return shown and _channels(endpoint) in (1, _RGB, None)


def photo_input(inputs: Mapping[str, Endpoint]) -> str | None:
    """Returns the name of the input that takes the photos; None where none does.

    It is a picture that is no video. Where several are, it is the one named `images`, else the
    first one in colours.
    """
    found = [
        name
        for name in image_inputs(inputs)
        if is_picture(inputs[name]) and len(inputs[name].shape or ()) == 4
    ]
    found.sort(key=lambda name: (name != "images", _channels(inputs[name]) == 1))
    return found[0] if found else None


def default_size(images: Sequence[Endpoint]) -> Size:
    """Returns the size for images of a model that says nothing."""
    side = _SIZE
    shapes = [image.shape for image in images if image.shape and None in image.shape[-3:-1]]
    while side > 1 and any(
        math.prod(image_shape(shape, 1, (side, side))[1:]) > _MOST_VALUES for shape in shapes
    ):
        side //= 2
    return side, side


def image_shape(shape: Shape, rows: int, size: Size) -> tuple[int, ...]:
    """Returns the shape of a batch of images.

    Args:
      shape: static shape of the input.
      rows: what an unknown batch size is.
      size: what unknown heights and widths are.
    """
    return sized(shape, (rows, *_open(shape, size)))


def pixels(image: Array, dtype: int) -> Array:
    """Returns an image as values of a dtype.

    Args:
      image: float32 in [0, 1].
      dtype: DataType number. Floats stay in [0, 1], integers go up to 255, or what there is.
    """
    if dtype == tf_pb.DT_BFLOAT16:
        return to_bfloat16(image)
    kind = numpy_type(dtype)
    assert kind is not None
    if not issubclass(kind, np.integer):
        return image.astype(kind, copy=False)
    white = min(255, np.iinfo(kind).max)
    return np.rint(image * np.float32(white)).astype(kind)


def _is_image(endpoint: Endpoint) -> bool:
    shape = endpoint.shape
    kind = numpy_type(endpoint.dtype)
    return (
        endpoint.encoding is Encoding.DENSE
        and kind is not None
        and issubclass(kind, (np.floating, np.integer, np.bool_))
        and shape is not None
        and len(shape) in (4, 5)
        and 1 not in shape[-3:-1]
        and 0 not in shape
    )


def _channels(endpoint: Endpoint) -> int | None:
    return endpoint.shape[-1] if endpoint.shape else None


def _open(shape: Shape, size: Size) -> tuple[int, ...]:
    """What unknown dimensions after the first are."""
    frames = (_FRAMES,) if len(shape or ()) == 5 else ()
    return (*frames, *size, _RGB)


def noise(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Returns uniform noise in [0, 1), float32 of the given shape."""
    return rng.random(shape, np.float32)


def smooth(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Returns noise that looks as nature does: in each octave half the contrast of the one below.

    Args:
      shape: any dimensions, then height, width and channels.
      rng: source of random numbers.

    Returns:
      float32 of this shape; every image spans [0, 1].
    """
    *rest, height, width, channels = shape
    batch = math.prod(rest)
    result = np.zeros((batch, height, width, channels), np.float32)
    for octave in range(_OCTAVES):
        cells = 2 ** (octave + 1)
        if cells > 2 * max(height, width):
            break
        grid = rng.standard_normal((batch, cells + 1, cells + 1, channels), np.float32)
        # What the channels have in common stands out, as in most photos.
        grid += 2 * rng.standard_normal((batch, cells + 1, cells + 1, 1), np.float32)
        grid *= np.float32(0.5**octave)
        result += _stretched(_stretched(grid, 1, height), 2, width)
    result -= result.min(axis=(1, 2, 3), keepdims=True)
    peak = result.max(axis=(1, 2, 3), keepdims=True)
    result /= np.where(peak > 0, peak, np.float32(1))
    return result.reshape(shape)


def _stretched(grid: Array, axis: int, size: int) -> Array:
    """Interpolates linearly along an axis."""
    at = np.linspace(0, grid.shape[axis] - 1, size, dtype=np.float32)
    low = np.minimum(at.astype(np.int64), grid.shape[axis] - 2)
    part = (at - low).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(4)])
    below: Array = np.take(grid, low, axis)
    above: Array = np.take(grid, low + 1, axis)
    above -= below
    above *= part
    above += below
    return above
