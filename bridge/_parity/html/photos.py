"""The photos on which two models differ most, as thumbnails that stand in the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bridge._parity.results import Comparison, InputSet, ParityReport

PHOTOS = "photos"
_MAX_PHOTOS = 8
_SIDE = 240
_MAX_PIXELS = 100_000_000


@dataclass(frozen=True)
class Photo:
    """A photo, and the output that differs most on it.

    Attributes:
      file: its name.
      source: the thumbnail as a `data:` URL; empty where the file can't be read any more.
      row: the output.
    """

    file: str
    source: str
    row: Comparison


def worst_photos(report: ParityReport, images: Path | None) -> list[Photo]:
    """Returns the photos that outputs differ most on, the one with the least headroom first.

    Args:
      report: whose comparisons name the photos.
      images: the directory that relative names of files start from.
    """
    sets = {(one.variant, one.signature): one for one in report.inputs if one.name == PHOTOS}
    worst: dict[str, Comparison] = {}
    for row in sorted(report.comparisons, key=_headroom):
        file = _file(row, sets)
        if file is not None:
            worst.setdefault(file, row)
    shown = list(worst.items())[:_MAX_PHOTOS]
    return [Photo(Path(file).name, _thumbnail(file, images), row) for file, row in shown]


def _headroom(row: Comparison) -> float:
    return row.difference.headroom if row.difference is not None else float("inf")


def _file(row: Comparison, sets: Mapping[tuple[str, str], InputSet]) -> str | None:
    """Returns the photo in the row of the batch where the output differs most."""
    worst = row.difference.worst if row.difference is not None else None
    given = sets.get((row.variant, row.signature))
    if worst is None or worst.inputs != PHOTOS or given is None or not worst.index:
        return None
    rows = [max((shape[0] for shape in one.values() if shape), default=0) for one in given.shapes]
    if (
        len(given.files) != sum(rows)
        or worst.batch >= len(rows)
        or worst.index[0] >= rows[worst.batch]
    ):
        return None
    return given.files[sum(rows[: worst.batch]) + worst.index[0]]


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
