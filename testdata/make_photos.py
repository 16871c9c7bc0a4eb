"""Cuts the photos of `images/photos/` out of the pictures that two Python packages ship.

Runs in an interpreter that has Pillow, scikit-learn and scikit-image (0.26):

    python testdata/make_photos.py

`images/README.md` says whose photos they are.
"""

import pathlib

import skimage
import sklearn.datasets
from PIL import Image

SKLEARN = pathlib.Path(sklearn.datasets.__file__).parent / "images"
SKIMAGE = pathlib.Path(skimage.__file__).parent / "data"
OUT = pathlib.Path(__file__).resolve().parent / "images" / "photos"
SIDE = 192
MAX_BYTES = 15 * 1024
# The square cut out of each photo: left, top, side.
PHOTOS = {
    "china": (SKLEARN / "china.jpg", (110, 0, 427)),
    "flower": (SKLEARN / "flower.jpg", (140, 0, 427)),
    "astronaut": (SKIMAGE / "astronaut.png", (30, 0, 400)),
    "chelsea": (SKIMAGE / "chelsea.png", (60, 0, 300)),
    "coffee": (SKIMAGE / "coffee.png", (120, 0, 400)),
    "rocket": (SKIMAGE / "rocket.jpg", (130, 0, 427)),
}


def write_photo(source, square, target):
    """Writes one photo as a small JPEG file without metadata.

    Args:
        source: The path of the original.
        square: Left, top and side of the part to keep.
        target: The path to write.
    """
    left, top, side = square
    with Image.open(source) as image:
        part = image.convert("RGB").crop((left, top, left + side, top + side))
    small = part.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    for quality in range(90, 40, -5):
        small.save(target, quality=quality, optimize=True)
        if target.stat().st_size <= MAX_BYTES:
            return
    raise ValueError(f"{target} is too large.")


def main():
    """Writes all photos."""
    OUT.mkdir(parents=True, exist_ok=True)
    for name, (source, square) in PHOTOS.items():
        write_photo(source, square, OUT / f"{name}.jpg")


if __name__ == "__main__":
    main()
