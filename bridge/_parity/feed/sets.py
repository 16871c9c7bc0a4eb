"""Which sets of batches a signature is fed: images, values, strings, keys of tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge._parity.feed.images import (
    Size,
    default_size,
    image_inputs,
    image_shape,
    is_picture,
    noise,
    photo_input,
    pixels,
    smooth,
)
from bridge._parity.feed.photos import find_photos, read_photos
from bridge._parity.feed.strings import known_and_unknown, special_strings
from bridge._parity.feed.values import (
    FEW,
    MANY,
    PLAIN,
    Choice,
    generator,
    is_float,
    is_integer,
    make,
    may_be_sizes,
    sized,
)
from bridge._parity.options import ParityOptions
from bridge._parity.runners.protocol import Value
from bridge._surfaces.surface import Computation
from bridge.errors import UnsupportedError, Where
from bridge.model import Encoding, Endpoint, format_tags
from bridge.proto import tf_pb

Array = NDArray[Any]

_LARGE = 10_000
"""Integers are below it where it is tried whether the model takes large ones."""

_POSITIVE = Choice(FEW + 1, least=1, between=(0, 1))
_SOUND = Choice(between=(-1, 1))

_SECOND = 16_000
"""So many samples are a second of sound."""

_ONE_SIZE = 8

_MANY_ROWS = 32

_MOST_VALUES = 1 << 20
"""Nothing longer than usual is fed that has more values."""

_KEY_ROWS = 32
"""How many examples are fed at once that hold keys of tables."""

_Fill = Callable[[tuple[int, ...], np.random.Generator], Array]


@dataclass(frozen=True)
class BatchSet:
    """A set of batches that are yet to be made.

    Attributes:
      name: its name.
      rows: how many examples each batch has.
      values: makes the values of a batch, given its index within the set.
      files: of each batch, where images are read from.
    """

    name: str
    rows: tuple[int, ...]
    values: Callable[[int], dict[str, Value]]
    files: tuple[tuple[str, ...], ...] = ()


class MadeSets:
    """The sets that are made for one signature.

    A signature that takes pictures is fed images of several kinds; if it takes integers or strings
    beside them, also sets of those beside noise. Any other is fed values by dtype and shape, and
    images too where it takes what may be some.
    """

    def __init__(
        self,
        computation: Computation,
        options: ParityOptions,
        image_size: Size | None,
        table_keys: Sequence[bytes | int],
    ):
        """Looks at the inputs.

        Args:
          computation: the signature.
          options: of the run.
          image_size: height and width that the model expects, where it says so.
          table_keys: keys that the model's tables hold.
        """
        self._computation = computation
        self._inputs = inputs = computation.inputs
        self._options = options
        self._images = image_inputs(inputs)
        self._size = image_size or default_size([inputs[name] for name in self._images])
        self._size_is_known = image_size is not None
        self._pictures = [name for name in self._images if is_picture(inputs[name])]
        self._table_keys = table_keys

    def __iter__(self) -> Iterator[BatchSet]:
        """Yields the sets. The first one is one that the model should take, whatever it is."""
        if self._pictures:
            yield from self._image_sets(self._pictures)
            yield from self._special_sets()
            return
        # Without inputs, one call says it all.
        rows = _rows(self._options, None) if self._inputs else (0,)
        yield self._drawn("values", rows, PLAIN)
        yield from self._sized_sets()
        yield from self._special_sets()
        images = [name for name in self._images if self._inputs[name].dtype != tf_pb.DT_BOOL]
        if images:
            yield from self._image_sets(images)

    # -- values -----------------------------------------------------------------------------------

    def _sized_sets(self) -> Iterator[BatchSet]:
        """Yields the sets of plain values for models that want other sizes than the usual ones."""
        axes = self._open_axes()
        many, long, same = (_MANY_ROWS,), self._lengths_of_sound(), (_ONE_SIZE,)
        if 0 in axes and not self._images and not self._rounds() and self._fits(many):
            # Some models choose among the rows: of a few, none may be left.
            yield self._drawn("many rows", many, PLAIN)
        if long and self._fits(long):
            # Sound is cut into frames: of a short one, nothing is left.
            yield self._value_set("long values", long[:1], lambda _: _SOUND, long)
        if len(axes) > 1:
            # For matrices that must be square, and inputs that must be as long as others.
            yield self._value_set("values of one size", same, lambda _: PLAIN, same)

    def _special_sets(self) -> Iterator[BatchSet]:
        """Yields the sets of integers and strings that not every model takes."""
        rows = _rows(self._options, None)
        endpoints = [e for name, e in self._inputs.items() if name not in self._pictures]
        integers = [endpoint for endpoint in endpoints if is_integer(endpoint.dtype)]
        strings = [endpoint for endpoint in endpoints if endpoint.dtype == tf_pb.DT_STRING]
        if integers:
            yield self._drawn(f"values below {MANY}", rows[-1:], Choice(MANY))
        if integers or any(is_float(endpoint.dtype) for endpoint in endpoints):
            # For logarithms, ids without a zero, and what asserts that it is given no less.
            yield self._drawn("positive values", rows[-1:], _POSITIVE)
        if any(not may_be_sizes(endpoint.shape) for endpoint in integers):
            yield self._drawn(f"values below {_LARGE}", rows[-1:], Choice(_LARGE))
        if strings:
            for name, found in special_strings().items():
                yield self._drawn(name, rows[-1:], Choice(strings=found))
        numbers = [key for key in self._table_keys if isinstance(key, int)]
        words = [key for key in self._table_keys if isinstance(key, bytes)]
        if (numbers and integers) or (words and strings):
            name = "table keys"

            def keys(number: int) -> Choice:
                rng = generator(self._options.seed, name, number, "keys")
                unknown = (0, 1, max(numbers, default=0) + 1)
                return Choice(
                    strings=known_and_unknown(words, rng),
                    integers=(*numbers, *unknown) if numbers else (),
                )

            yield self._value_set(name, (*rows, _KEY_ROWS), keys)

    def _lengths_of_sound(self) -> tuple[int, ...]:
        """Returns what open dimensions are where an input may be sound; empty where none may.

        Whatever else has a length would get the same one, and attention over as many tokens would
        take all memory: only sound may have one.
        """
        ranks = {len(e.shape or ()) for e in self._inputs.values() if _may_be_sound(e)}
        others = [e.shape or () for e in self._inputs.values() if not _may_be_sound(e)]
        if not ranks or any(None in shape[1:] for shape in others):
            return ()
        return (1, _SECOND) if 2 in ranks else (_SECOND,)

    def _open_axes(self) -> set[int]:
        """Returns the axes that are open in some input which is no image.

        Rows of a ragged one are of lengths that nobody sets.
        """
        return {
            axis
            for name, endpoint in self._inputs.items()
            if name not in self._images
            for axis, size in enumerate((None,) if endpoint.shape is None else endpoint.shape)
            if size is None and (axis == 0 or endpoint.encoding is not Encoding.COMPOSITE)
        }

    def _rounds(self) -> bool:
        """Whether outputs are in half precision.

        Releases of TensorFlow round them otherwise at some values, of which many rows have more.
        """
        outputs = self._computation.outputs.values()
        return any(end.dtype in (tf_pb.DT_HALF, tf_pb.DT_BFLOAT16) for end in outputs)

    def _fits(self, sizes: Sequence[int]) -> bool:
        """Whether inputs of these sizes are small enough to be fed to whatever model."""
        shapes = (sized(endpoint.shape, sizes) for endpoint in self._inputs.values())
        return sum(map(math.prod, shapes)) <= _MOST_VALUES

    def _drawn(self, name: str, rows: tuple[int, ...], choice: Choice) -> BatchSet:
        return self._value_set(name, rows, lambda _: choice)

    def _value_set(
        self,
        name: str,
        rows: tuple[int, ...],
        choose: Callable[[int], Choice],
        sizes: tuple[int, ...] = (),
    ) -> BatchSet:
        def values(number: int) -> dict[str, Value]:
            choice = choose(number)
            return {
                key: self._image(noise, key, name, number, rows[number], self._size)
                if key in self._pictures
                else self._value(key, name, number, rows[number], choice, sizes=sizes)
                for key in self._inputs
            }

        return BatchSet(name, rows, values)

    def _value(
        self,
        key: str,
        name: str,
        number: int,
        rows: int,
        choice: Choice = PLAIN,
        size: Size | None = None,
        sizes: tuple[int, ...] = (),
    ) -> Value:
        """Makes the value of one input.

        Args:
          key: name of the input.
          name: of the set.
          number: of the batch within the set.
          rows: what an unknown first dimension is.
          choice: what integers and strings are drawn from.
          size: height and width, where it is an image.
          sizes: what unknown dimensions are, where it is none; by default they vary with the batch.
        """
        endpoint = self._inputs[key]
        if key in self._images:
            sizes = image_shape(endpoint.shape, rows, size or self._size)
        elif not sizes:
            # Other unknown dimensions are alike for all inputs, as those of tokens and their mask
            # must be.
            sizes = (rows, *(12 + 4 * number % 16 + axis for axis in range(8)))
        seed = self._options.seed
        try:
            rng = generator(seed, name, number, key)
            # Inputs that belong together, such as ids and their weights, have values in one place.
            layout = generator(seed, name, number)
            return make(key, endpoint, sizes, rng, layout, choice)
        except UnsupportedError as error:
            raise located(error, self._computation) from error

    # -- images -----------------------------------------------------------------------------------

    def _image_sets(self, images: Sequence[str]) -> Iterator[BatchSet]:
        """Yields sets in which some inputs are images.

        Args:
          images: names of the inputs; the first says how large batches are.
        """
        fixed = self._endpoint_shape(images[0])[0]
        rows = _rows(self._options, fixed)
        whole = rows[-1:] if fixed else (self._options.batch_size,)

        def made(
            name: str, fill: _Fill, rows: tuple[int, ...], size: Size = self._size
        ) -> BatchSet:
            return BatchSet(
                name,
                rows,
                lambda number: {
                    key: self._image(fill, key, name, number, rows[number], size)
                    if key in images
                    else self._value(key, name, number, rows[number], size=size)
                    for key in self._inputs
                },
            )

        yield made("noise", noise, rows)
        yield made("zeros", lambda shape, _: np.zeros(shape, np.float32), whole)
        yield made("ones", lambda shape, _: np.ones(shape, np.float32), whole)
        yield made("smooth", smooth, rows)
        if all(self._endpoint_shape(key)[-3:-1] == (None, None) for key in images):
            for size in self._other_sizes():
                yield made(f"noise {size[0]}x{size[1]}", noise, whole, size)
        yield from self._photo_sets(images)

    def _photo_sets(self, images: Sequence[str]) -> Iterator[BatchSet]:
        """Yields the set of photos, where an input takes them; other images are smooth in it."""
        shown = photo_input(self._inputs)
        photos = find_photos(self._options.images) if shown else ()
        if shown is None or not photos:
            return
        fixed = self._endpoint_shape(shown)[0]
        step = fixed or self._options.batch_size
        groups = [photos[start : start + step] for start in range(0, len(photos), step)]
        if fixed:
            groups[-1] += (photos[-1],) * (step - len(groups[-1]))
        name = "photos"

        def values(number: int) -> dict[str, Value]:
            group = groups[number]
            found: dict[str, Value] = {}
            for key, endpoint in self._inputs.items():
                if key == shown:
                    shape = image_shape(endpoint.shape, len(group), self._size)
                    found[key] = pixels(read_photos(group, *shape[1:]), endpoint.dtype)
                elif key in images:
                    found[key] = self._image(smooth, key, name, number, len(group), self._size)
                else:
                    found[key] = self._value(key, name, number, len(group))
            return found

        files = tuple(tuple(str(file) for file in group) for group in groups)
        yield BatchSet(name, tuple(len(group) for group in groups), values, files)

    def _image(self, fill: _Fill, key: str, name: str, number: int, rows: int, size: Size) -> Array:
        endpoint = self._inputs[key]
        rng = generator(self._options.seed, name, number, key)
        return pixels(fill(image_shape(endpoint.shape, rows, size), rng), endpoint.dtype)

    def _endpoint_shape(self, key: str) -> tuple[int | None, ...]:
        shape = self._inputs[key].shape
        assert shape is not None
        return shape

    def _other_sizes(self) -> Iterator[Size]:
        """Yields a smaller and a larger size, neither square where the expected one is."""
        height, width = self._size
        # Networks halve their images up to five times; sizes that go as often are the safest.
        unit = math.gcd(height, width, 32)
        step = max(unit, height // 4 // unit * unit)
        if height > step:
            yield height - step, width
        yield height, width + step
        if not self._size_is_known:
            # For those that halve them more often; the default may be no size for them at all.
            yield (1 << height.bit_length(),) * 2


def located(error: UnsupportedError, computation: Computation) -> UnsupportedError:
    """Returns the error with the signature as its place."""
    where = Where(variant=format_tags(computation.variant), signature=computation.signature)
    return UnsupportedError(error.message, where=where, hint=error.hint)


def _rows(options: ParityOptions, fixed: int | None) -> tuple[int, ...]:
    """Returns the sizes of batches that add up to the samples: one, then the batch size."""
    if fixed is not None:
        return (fixed,) * max(1, math.ceil(options.samples / fixed))
    # At least one batch is full: what repeats or drops rows shows in no batch of one.
    full, rest = divmod(max(options.samples - 1, options.batch_size), options.batch_size)
    return (1, *(options.batch_size,) * full, *((rest,) if rest else ()))


def _may_be_sound(endpoint: Endpoint) -> bool:
    """Whether it is `[samples]` or `[batch, samples]`, of floats and of any length."""
    shape = endpoint.shape or ()
    dense = endpoint.encoding is Encoding.DENSE
    return dense and is_float(endpoint.dtype) and len(shape) in (1, 2) and shape[-1] is None
