"""Strings to feed a model: words, and what models parse or decode."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Sequence

import numpy as np

from bridge._parity.feed.photos import pillow

WORDS = tuple(
    word.encode()
    for word in (
        "the", "cat", "sat", "on", "a", "mat", "", "Hello, world!", "unfamiliarword", "7",
        " two  words ", "naïve", "Straße", "日本語", "дом", "🙂",
    )
)  # fmt: skip

_PICTURES = 4
_TRIES = 16
_CELLS = 4
_CELL = 24  # pixels; whole blocks of JPEG, so that it decodes to the same bytes everywhere

_NEARLY_UTF8 = re.compile(
    rb"[\xc0\xc1][\x80-\xbf]"
    rb"|(\xe0[\x80-\x9f]|\xed[\xa0-\xbf])[\x80-\xbf]"
    rb"|(\xf0[\x80-\x8f]|\xf4[\x90-\xbf]|[\xf5-\xff][\x80-\xbf])[\x80-\xbf]{2}"
)
"""What may be a letter to one release of TensorFlow and none to another: its RE2 came to refuse
what is written longer than it need be, and what is no letter of Unicode."""

_MOST_KEYS = 64
_LONGEST = 5


def special_strings() -> dict[str, Sequence[bytes]]:
    """Returns what a model may take that takes no words, by the name of the set.

    A model that parses examples refuses all but the two kinds that are empty, one that decodes
    images all but images, and one that reads numbers all but numbers. They are small, since a text
    model reads them too.

    Raises:
      MissingExtraError: Pillow is not installed.
    """
    return {
        "empty strings": (b"",),
        # Whole ones: they are read as floats too.
        "numbers": (b"1", b"2", b"7", b"12"),
        # tensorflow/core/example/example.proto: field 1, the features, of which there are none.
        "empty examples": (b"\n\x00",),
        "PNG images": _encoded("PNG"),
        "JPEG images": _encoded("JPEG"),
    }


def known_and_unknown(keys: Sequence[bytes], rng: np.random.Generator) -> tuple[bytes, ...]:
    """Returns keys of a table, texts made of such keys, and words that may be in none.

    Args:
      keys: of the model's tables.
      rng: chooses among them, where there are many.
    """
    if not keys:
        return WORDS
    chosen = [keys[i] for i in rng.permutation(len(keys))[:_MOST_KEYS]]
    pool = [*keys, *WORDS]
    texts = [
        b" ".join(pool[i] for i in rng.integers(len(pool), size=length))
        for length in range(2, _LONGEST + 1)
        for _ in WORDS[::2]
    ]
    return (*chosen, *texts, *WORDS)


@functools.cache
def _encoded(kind: str) -> tuple[bytes, ...]:
    """Returns encoded images, of large pixels in many colours.

    Of some that are made those are taken that are text to no release of TensorFlow, since a text
    model would else differ from itself in another release.
    """
    rng = np.random.default_rng(0)
    return tuple(
        min(
            (_picture(kind, rng) for _ in range(_TRIES)), key=lambda t: len(_NEARLY_UTF8.findall(t))
        )
        for _ in range(_PICTURES)
    )


def _picture(kind: str, rng: np.random.Generator) -> bytes:
    cells = rng.integers(256, size=(_CELLS, _CELLS, 3), dtype=np.uint8)
    stream = io.BytesIO()
    # Other subsampling would make blocks of JPEG out of four pixels.
    options = {"subsampling": 0} if kind == "JPEG" else {}
    picture = pillow().fromarray(cells.repeat(_CELL, axis=0).repeat(_CELL, axis=1))
    picture.save(stream, kind, **options)
    return stream.getvalue()
