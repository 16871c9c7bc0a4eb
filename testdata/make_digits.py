"""Writes `digits.npz` and a few held-out digits as PNG files.

Runs in the modern interpreter, which has scikit-learn and Pillow:

    python testdata/make_digits.py

The data are scikit-learn's copy of the UCI "Optical Recognition of Handwritten Digits" test set.
"""

import os

import digits_data
import numpy as np
from PIL import Image
from sklearn import datasets

PNG_COUNT = 12
PNG_DIR = os.path.join(os.path.dirname(digits_data.DIGITS_NPZ), "images", "digits")


def write_npz(raw, labels):
    """Writes all digits, compressed, as uint8."""
    np.savez_compressed(
        digits_data.DIGITS_NPZ, images=raw.astype(np.uint8), labels=labels.astype(np.uint8)
    )


def pick_held_out(labels):
    """Returns the rows of the PNG files: held-out digits, every label at least once."""
    rows = np.flatnonzero(digits_data.is_held_out(len(labels)))
    firsts = [int(rows[np.flatnonzero(labels[rows] == label)[0]]) for label in range(10)]
    others = [int(row) for row in rows[::-1] if int(row) not in firsts]
    return sorted(firsts + others[: PNG_COUNT - len(firsts)])


def write_pngs(raw, labels):
    """Writes `images/digits/<row>_label<digit>.png` for the picked rows."""
    os.makedirs(PNG_DIR, exist_ok=True)
    images = digits_data.to_uint8_images(raw)
    for row in pick_held_out(labels):
        path = os.path.join(PNG_DIR, f"{row:04d}_label{labels[row]}.png")
        Image.fromarray(images[row]).save(path, optimize=True)


def main():
    """Makes all files."""
    digits = datasets.load_digits()
    write_npz(digits.images, digits.target)
    write_pngs(digits.images, digits.target)


if __name__ == "__main__":
    main()
