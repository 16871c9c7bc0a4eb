"""What the models are fed: for each signature some sets of batches, made or read one at a time.

All that is made hangs on the seed of the run, the name of the set, the index of the batch and the
name of the input: the same seed gives the same bytes, and signatures alike see the same images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge._parity.feed.images import find_photos, image_input, noise, read_photos, smooth
from bridge._parity.feed.input_file import InputFile
from bridge._parity.feed.values import FEW, generator, make, shape_of
from bridge._parity.options import ParityOptions
from bridge._parity.results import InputSet
from bridge._parity.runners.protocol import Value
from bridge._parity.surfaces.surface import Computation, Pair
from bridge.errors import UnsupportedError, UsageError, Where
from bridge.model import format_tags
from bridge.proto import tf_pb

Array = NDArray[Any]

_IMAGE_SIZE = (224, 224)
"""Height and width of images where the model says nothing; most networks were made for it."""

_MANY = 100
"""Integers are below it where it is tried whether the model takes more than a few."""


_INTEGERS = frozenset(
    {
        tf_pb.DT_INT8,
        tf_pb.DT_INT16,
        tf_pb.DT_INT32,
        tf_pb.DT_INT64,
        tf_pb.DT_UINT8,
        tf_pb.DT_UINT16,
        tf_pb.DT_UINT32,
        tf_pb.DT_UINT64,
    }
)

_Fill = Callable[[tuple[int, ...], np.random.Generator], Array]


@dataclass(frozen=True)
class Batch:
    """The inputs of one call.

    Attributes:
      name: of the set that it is one of.
      index: within the set.
      values: by the reference's names of the inputs.
      files: where images were read from, one for each row; empty otherwise.
    """

    name: str
    index: int
    values: Mapping[str, Value]
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Set:
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


def batches(
    pair: Pair, options: ParityOptions, image_size: tuple[int, int] | None = None
) -> Iterator[Batch]:
    """Makes the batches of a signature, one when it is asked for.

    Args:
      pair: the signature; the inputs are those of the reference.
      options: seed, samples, batch size, folder of images, file of inputs.
      image_size: height and width that the model expects, where it says so.

    Raises:
      UsageError: an image or an array that can't be used.
      UnsupportedError: an input of which there are no values.
    """
    for one in _sets(pair.reference, options, image_size):
        for number in range(len(one.rows)):
            files = one.files[number] if one.files else ()
            yield Batch(one.name, number, one.values(number), files)


def count_batches(
    pair: Pair, options: ParityOptions, image_size: tuple[int, int] | None = None
) -> int:
    """Returns how many batches there will be."""
    return sum(len(one.rows) for one in _sets(pair.reference, options, image_size))


class InputLog:
    """Notes what a signature was fed, for the report."""

    def __init__(self, pair: Pair):
        """Starts with nothing.

        Args:
          pair: the signature.
        """
        self._of = (format_tags(pair.reference.variant), pair.reference.signature)
        self._shapes: dict[str, list[dict[str, tuple[int, ...]]]] = {}
        self._files: dict[str, list[str]] = {}
        self._known: dict[tuple[Any, ...], dict[str, tuple[int, ...]]] = {}

    def add(self, batch: Batch) -> None:
        """Notes a batch."""
        shapes = {name: shape_of(value) for name, value in batch.values.items()}
        # Most batches of many are alike; one dictionary does for them.
        shapes = self._known.setdefault(tuple(shapes.items()), shapes)
        self._shapes.setdefault(batch.name, []).append(shapes)
        self._files.setdefault(batch.name, []).extend(batch.files)

    def sets(self) -> list[InputSet]:
        """Returns the sets, in the order in which they were fed."""
        return [
            InputSet(name, *self._of, tuple(shapes), tuple(self._files[name]))
            for name, shapes in self._shapes.items()
        ]


def check_inputs(pairs: Sequence[Pair], options: ParityOptions) -> None:
    """Checks what can be checked before anything runs.

    Raises:
      UsageError: a folder of images without images, or without a signature that takes them; a file
        of inputs that can't be read, or whose arrays are not what the signatures take.
      UnsupportedError: an input of which there are no values.
    """
    references = [pair.reference for pair in pairs]
    if options.images is not None:
        find_photos(options.images)
        if not any(image_input(one.inputs) for one in references):
            raise UsageError(
                "images are given, but no signature takes images",
                hint="an image input is float32 [batch, height, width, 3]",
            )
    if options.inputs is not None:
        with InputFile(options.inputs) as file:
            file.check_names(references)
    for one in references:
        # Made, and thrown away: what an input is has no other test.
        for made in _sets(one, options, None):
            if made.name in ("file", "values"):
                made.values(0)


# -- the sets of a signature ------------------------------------------------------------------


def _sets(
    computation: Computation, options: ParityOptions, image_size: tuple[int, int] | None
) -> Iterator[_Set]:
    if options.inputs is not None:
        with InputFile(options.inputs) as file:
            covered = file.covers(computation)
        if covered:
            yield _Set("file", (0,), lambda _: _read(computation, options))
            return
    images = image_input(computation.inputs)
    if images is None:
        yield from _value_sets(computation, options)
    else:
        yield from _image_sets(computation, images, options, image_size or _IMAGE_SIZE)


def _read(computation: Computation, options: ParityOptions) -> dict[str, Value]:
    assert options.inputs is not None
    with InputFile(options.inputs) as file:
        return file.values(computation)


def _value_sets(computation: Computation, options: ParityOptions) -> Iterator[_Set]:
    def values(name: str, rows: tuple[int, ...], bound: int) -> Callable[[int], dict[str, Value]]:
        return lambda number: {
            key: _value(computation, key, options, name, number, rows[number], bound)
            for key in computation.inputs
        }

    # Without inputs, one call says it all.
    rows = _rows(options, None) if computation.inputs else (0,)
    yield _Set("values", rows, values("values", rows, FEW))
    if any(endpoint.dtype in _INTEGERS for endpoint in computation.inputs.values()):
        name, rows = f"values below {_MANY}", rows[-1:]
        yield _Set(name, rows, values(name, rows, _MANY))


def _image_sets(
    computation: Computation, images: str, options: ParityOptions, expected: tuple[int, int]
) -> Iterator[_Set]:
    shape = computation.inputs[images].shape
    assert shape is not None
    height, width, channels = shape[1] or expected[0], shape[2] or expected[1], shape[3] or 3
    rows = _rows(options, shape[0])
    whole = rows[-1:] if shape[0] else (options.batch_size,)

    def made(
        name: str,
        fill: _Fill,
        rows: tuple[int, ...],
        size: tuple[int, int] = (height, width),
    ) -> _Set:
        def values(number: int) -> dict[str, Value]:
            rng = generator(options.seed, name, number, images)
            array = fill((rows[number], *size, channels), rng)
            return _around(computation, images, array, options, name, number)

        return _Set(name, rows, values)

    yield made("noise", noise, rows)
    yield made("zeros", lambda shape, _: np.zeros(shape, np.float32), whole)
    yield made("ones", lambda shape, _: np.ones(shape, np.float32), whole)
    yield made("smooth", smooth, rows)
    if shape[1] is None and shape[2] is None:
        for size in _other_sizes(height, width):
            name = f"noise {size[0]}x{size[1]}"
            yield made(name, noise, whole, size)
    photos = find_photos(options.images)
    step = shape[0] or options.batch_size
    groups = [photos[start : start + step] for start in range(0, len(photos), step)]
    if groups and shape[0]:
        groups[-1] += (photos[-1],) * (step - len(groups[-1]))

    def shown(number: int) -> dict[str, Value]:
        array = read_photos(groups[number], height, width, channels)
        return _around(computation, images, array, options, "photos", number)

    if groups:
        files = tuple(tuple(str(file) for file in group) for group in groups)
        yield _Set("photos", tuple(len(group) for group in groups), shown, files)


def _around(
    computation: Computation,
    images: str,
    array: Array,
    options: ParityOptions,
    name: str,
    number: int,
) -> dict[str, Value]:
    """Returns the values of all inputs, given the images."""
    return {
        key: array
        if key == images
        else _value(computation, key, options, name, number, len(array), FEW)
        for key in computation.inputs
    }


def _value(
    computation: Computation,
    key: str,
    options: ParityOptions,
    name: str,
    number: int,
    rows: int,
    bound: int,
) -> Value:
    """Makes the value of one input.

    Args:
      computation: the signature.
      key: name of the input.
      options: of the run.
      name: of the set.
      number: of the batch within the set.
      rows: what an unknown first dimension is.
      bound: integers are below it.
    """
    # Other unknown dimensions are alike for all inputs, as those of tokens and their mask must be.
    sizes = (rows, *(12 + 4 * number % 16 + axis for axis in range(8)))
    try:
        rng = generator(options.seed, name, number, key)
        # Inputs that belong together, such as ids and their weights, have values in one place.
        layout = generator(options.seed, name, number)
        return make(key, computation.inputs[key], sizes, rng, layout, bound)
    except UnsupportedError as error:
        where = Where(variant=format_tags(computation.variant), signature=computation.signature)
        raise UnsupportedError(error.message, where=where, hint=error.hint) from error


def _rows(options: ParityOptions, fixed: int | None) -> tuple[int, ...]:
    """Returns the sizes of batches that add up to the samples: one, then the batch size."""
    if fixed is not None:
        return (fixed,) * max(1, math.ceil(options.samples / fixed))
    # At least one batch is full: what repeats or drops rows shows in no batch of one.
    full, rest = divmod(max(options.samples - 1, options.batch_size), options.batch_size)
    return (1, *(options.batch_size,) * full, *((rest,) if rest else ()))


def _other_sizes(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Returns a smaller and a larger size, neither square where the expected one is."""
    # Networks halve their images up to five times; sizes that go as often are the safest.
    unit = math.gcd(height, width, 32)
    step = max(unit, height // 4 // unit * unit)
    if height > step:
        yield height - step, width
    yield height, width + step
