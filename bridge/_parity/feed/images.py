"""Images to feed a model: made ones, and photos from files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.errors import MissingExtraError, SourceNotFoundError, UsageError
from bridge.model import Encoding, Endpoint
from bridge.proto import tf_pb

Array = NDArray[Any]

_SUFFIXES = (".jpg", ".jpeg", ".png")

SAMPLE_PHOTOS = Path(__file__).resolve().parents[3] / "testdata" / "images" / "photos"
"""What is shown where no folder is named: in a checkout of the sources only."""

_OCTAVES = 7


def image_input(inputs: Mapping[str, Endpoint]) -> str | None:
    """Returns the name of the input that takes the images; None where none does.

    It is float32, dense, `[batch, height, width, channels]` with 3, 1 or an unknown number of
    channels. Where several are, it is the one named `images`.
    """
    found = [name for name, endpoint in inputs.items() if _takes_images(endpoint)]
    if "images" in found:
        return "images"
    return found[0] if len(found) == 1 else None


def _takes_images(endpoint: Endpoint) -> bool:
    shape = endpoint.shape
    return (
        endpoint.encoding is Encoding.DENSE
        and endpoint.dtype == tf_pb.DT_FLOAT
        and shape is not None
        and len(shape) == 4
        and shape[3] in (3, 1, None)
    )


def noise(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Returns uniform noise in [0, 1), float32 of the given shape."""
    return rng.random(shape, np.float32)


def smooth(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Returns noise that looks as nature does: in each octave half the contrast of the one below.

    Args:
      shape: batch, height, width and channels.
      rng: source of random numbers.

    Returns:
      float32 of this shape; every image spans [0, 1].
    """
    batch, height, width, channels = shape
    result = np.zeros(shape, np.float32)
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
    return result


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


def find_photos(folder: Path | None) -> tuple[Path, ...]:
    """Returns the JPEG and PNG files of a folder, by name.

    Args:
      folder: where they are; None takes those in testdata/, of which there are none where the
        sources are not at hand.

    Raises:
      UsageError: the folder does not exist, or has none.
    """
    if folder is None:
        folder = SAMPLE_PHOTOS
        if not folder.is_dir():
            return ()
    try:
        entries = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise SourceNotFoundError(
            f"can't read the folder of images {folder}: {error.strerror}",
            hint="--images takes a folder of JPEG and PNG files",
        ) from error
    photos = tuple(p for p in entries if p.suffix.lower() in _SUFFIXES and p.is_file())
    if not photos:
        raise UsageError(
            f"there is no image in {folder}", hint="it takes .jpg, .jpeg or .png files"
        )
    return photos


def read_photos(files: Sequence[Path], height: int, width: int, channels: int) -> Array:
    """Reads photos, scaled to one size.

    Args:
      files: JPEG or PNG files.
      height: of the result, in pixels.
      width: likewise.
      channels: 3 for RGB, 1 for grey.

    Returns:
      float32 `[len(files), height, width, channels]` in [0, 1].

    Raises:
      MissingExtraError: Pillow is not installed.
      UsageError: a file that is no image.
    """
    result = np.empty((len(files), height, width, channels), np.float32)
    for image, file in zip(result, files, strict=True):
        image[...] = _read_photo(file, height, width, channels)
    # As tf.image.convert_image_dtype does it.
    result *= np.float32(1 / 255)
    return result


def _read_photo(file: Path, height: int, width: int, channels: int) -> Array:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError(
            "photos can't be read without Pillow", hint="pip install 'hubbridge[parity]'"
        ) from error
    mode = "L" if channels == 1 else "RGB"
    try:
        with Image.open(file, formats=("JPEG", "PNG")) as image:
            # A JPEG file of many megapixels is read at half, a quarter or an eighth of its size.
            image.draft(mode, (2 * width, 2 * height))
            scaled = image.convert(mode).resize((width, height), Image.Resampling.BILINEAR)
    # Pillow raises many kinds for a damaged file, SyntaxError and struct.error among them.
    except Exception as error:
        raise UsageError(
            f"can't read the image {file}: {error}",
            hint="take it out of the folder, or replace it with a JPEG or PNG file",
        ) from error
    return np.asarray(scaled, np.uint8).reshape(height, width, channels)
