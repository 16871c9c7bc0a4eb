"""Photos from files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bridge.errors import MissingExtraError, SourceNotFoundError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

Array = NDArray[Any]

_SUFFIXES = (".jpg", ".jpeg", ".png")

SAMPLE_PHOTOS = Path(__file__).resolve().parents[3] / "testdata" / "images" / "photos"
"""What is shown where no folder is named: in a checkout of the sources only."""


def find_photos(folder: Path | None) -> tuple[Path, ...]:
    """Returns the JPEG and PNG files of a folder, by name.

    Args:
      folder: where they are; None takes those in testdata/, of which there are none where the
        sources are not at hand.

    Raises:
      UsageError: the folder does not exist, has none, or has one that is no file, such as a pipe.
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
    # Names with a dot are what systems leave beside files, such as `._a.jpg` of macOS.
    photos = tuple(
        path
        for path in entries
        if path.suffix.lower() in _SUFFIXES and path.name[0] != "." and not path.is_dir()
    )
    for path in photos:
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise UsageError(f"{path} is no file", hint="--images takes JPEG and PNG files")
    if not photos:
        raise UsageError(
            f"there is no image in {folder}", hint="it takes .jpg, .jpeg or .png files"
        )
    return photos


def check_photos(files: Iterable[Path]) -> None:
    """Reads photos from end to end, one after the other.

    Raises:
      MissingExtraError: Pillow is not installed.
      UsageError: a file that is no image, or is cut short.
    """
    for file in files:
        # An eighth of the size is enough to see that all of it is there.
        with _opened(file, "L", (1, 1)) as image:
            image.load()


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
    mode = "L" if channels == 1 else "RGB"
    bilinear = pillow().Resampling.BILINEAR
    for pixels, file in zip(result, files, strict=True):
        # A JPEG file of many megapixels is read at half, a quarter or an eighth of its size.
        with _opened(file, mode, (2 * width, 2 * height)) as image:
            scaled = image.convert(mode).resize((width, height), bilinear)
        pixels[...] = np.asarray(scaled, np.uint8).reshape(height, width, channels)
    # As tf.image.convert_image_dtype does it.
    result *= np.float32(1 / 255)
    return result


def pillow() -> Any:
    """Returns the module PIL.Image.

    Raises:
      MissingExtraError: it is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError(
            "images can't be read or made without Pillow", hint="pip install 'hubbridge[parity]'"
        ) from error
    return Image


@contextmanager
def _opened(file: Path, mode: str, size: tuple[int, int]) -> Iterator[Image]:
    """Opens an image, at a smaller size where that is less work, but no smaller than asked for."""
    library = pillow()
    try:
        with library.open(file, formats=("JPEG", "PNG")) as image:
            image.draft(mode, size)
            yield image
    # Pillow raises many kinds for a damaged file, SyntaxError and struct.error among them.
    except Exception as error:
        raise UsageError(
            f"can't read the image {file}: {error}",
            hint="take it out of the folder, or replace it with a JPEG or PNG file",
        ) from error
