"""The photos on which two models differ most, as thumbnails that stand in the page."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge._parity.results import Comparison, InputSet, ParityReport, PhotoRow

PHOTOS = "photos"
_MAX_ALBUMS = 12
_MAX_PHOTOS = 4
_MAX_OUTPUTS = 6
_SIDE = 240
_MAX_PIXELS = 100_000_000


@dataclass(frozen=True)
class Seen:
    """How an output differs on a photo.

    Attributes:
      row: the output, as the two runtimes computed it that differ most.
      photo: how far it is off.
    """

    row: Comparison
    photo: PhotoRow

    @property
    def rank(self) -> tuple[float, float]:
        """Is greater the farther the output is above its limit, or the closer to it."""
        limit = self.row.limit
        return self.photo.max_abs / limit if limit else math.inf, self.photo.max_abs


@dataclass(frozen=True)
class Photo:
    """A photo, and the outputs that differ on it.

    Attributes:
      file: its name.
      source: the thumbnail as a `data:` URL; empty where the file can't be read any more.
      outputs: the farthest off first.
    """

    file: str
    source: str
    outputs: Sequence[Seen]


@dataclass(frozen=True)
class Album:
    """The photos that the main outputs of a signature differ most on, the farthest first."""

    variant: str
    signature: str
    photos: Sequence[Photo]


def albums(report: ParityReport, images: Path | None) -> list[Album]:
    """Returns the photos of each signature that has some, the farthest first.

    Args:
      report: whose comparisons name the photos.
      images: the directory that relative names of files start from.
    """
    found = []
    for given in report.inputs:
        photos = _differing(report, given) if given.name == PHOTOS else []
        if photos:
            found.append((given, photos))
    # Before thumbnails are made: there may be hundreds of signatures.
    found.sort(key=lambda one: one[1][0][1][0].rank, reverse=True)
    thumbnails: dict[str, str] = {}
    made = []
    for given, photos in found[:_MAX_ALBUMS]:
        for file, _ in photos:
            if file not in thumbnails:
                thumbnails[file] = _thumbnail(file, images)
        shown = [Photo(Path(file).name, thumbnails[file], seen) for file, seen in photos]
        made.append(Album(given.variant, given.signature, shown))
    return made


def _differing(report: ParityReport, given: InputSet) -> list[tuple[str, list[Seen]]]:
    """Returns the files of a set that outputs of its signature differ most on."""
    worst: dict[str, dict[str, Seen]] = {}
    for row in report.comparisons:
        if (row.variant, row.signature) != (given.variant, given.signature):
            continue
        for photo in row.difference.photos if row.difference is not None else ():
            file = _file(photo, given)
            if file is not None:
                outputs = worst.setdefault(file, {})
                seen = Seen(row, photo)
                if row.output not in outputs or seen.rank > outputs[row.output].rank:
                    outputs[row.output] = seen
    files = [
        (file, sorted(outputs.values(), key=lambda one: one.rank, reverse=True)[:_MAX_OUTPUTS])
        for file, outputs in worst.items()
    ]
    return sorted(files, key=lambda one: one[1][0].rank, reverse=True)[:_MAX_PHOTOS]


def _file(photo: PhotoRow, given: InputSet) -> str | None:
    """Returns the file in a row of a batch."""
    rows = [max((shape[0] for shape in one.values() if shape), default=0) for one in given.shapes]
    if len(given.files) != sum(rows) or photo.batch >= len(rows) or photo.row >= rows[photo.batch]:
        return None
    return given.files[sum(rows[: photo.batch]) + photo.row]


def _thumbnail(file: str, images: Path | None) -> str:
    from PIL import Image, ImageOps

    path = Path(file) if images is None else images / file
    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > _MAX_PIXELS:
                return ""
            small = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        # It was there when the models ran; the page tells its name.
        return ""
    small.thumbnail((_SIDE, _SIDE))
    written = io.BytesIO()
    small.save(written, "JPEG", quality=85, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode('ascii')}"
