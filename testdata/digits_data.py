"""The handwritten digits as images, the same way for training, goldens and PNG files.

Only NumPy is needed, so that both interpreters (TF 1.15's and today's) can import this file.
"""

import os

import numpy as np

DIGITS_NPZ = os.path.join(os.path.dirname(os.path.abspath(__file__)), "digits.npz")
SCALE = 2  # The 8x8 originals are shown as 16x16.
TEST_EVERY = 5  # Rows 4, 9, 14, ... are held out.


def to_uint8_images(raw):
    """Turns raw digits into RGB images.

    Args:
        raw: An array `[n, 8, 8]` of integers from 0 (paper) to 16 (ink).

    Returns:
        A uint8 array `[n, 16, 16, 3]`.
    """
    gray = np.rint(np.asarray(raw, np.float64) * 255.0 / 16.0).astype(np.uint8)
    large = gray.repeat(SCALE, axis=1).repeat(SCALE, axis=2)
    return np.repeat(large[..., np.newaxis], 3, axis=-1)


def to_float_images(raw):
    """Turns raw digits into module inputs: float32 RGB `[n, 16, 16, 3]` in [0, 1]."""
    return to_uint8_images(raw).astype(np.float32) / np.float32(255.0)


def is_held_out(count):
    """Returns a bool array `[count]` that marks the rows of the held-out part."""
    return np.arange(count) % TEST_EVERY == TEST_EVERY - 1


def load():
    """Reads `digits.npz`.

    Returns:
        A tuple `(train_images, train_labels, test_images, test_labels)`.
    """
    with np.load(DIGITS_NPZ) as data:
        images = to_float_images(data["images"])
        labels = data["labels"].astype(np.int64)
    test = is_held_out(len(labels))
    return images[~test], labels[~test], images[test], labels[test]
