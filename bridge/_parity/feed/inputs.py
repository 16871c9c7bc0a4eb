"""What the models are fed: for each signature some sets of batches, made or read one at a time.

All that is made hangs on the seed of the run, the name of the set, the index of the batch and the
name of the input: the same seed gives the same bytes, and signatures alike see the same images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge._parity.feed.images import Size, photo_input
from bridge._parity.feed.input_file import InputFile
from bridge._parity.feed.photos import check_photos, find_photos
from bridge._parity.feed.sets import BatchSet, MadeSets, located
from bridge._parity.feed.values import parts, shape_of
from bridge._parity.options import ParityOptions
from bridge._parity.results import InputSet
from bridge._parity.runners.protocol import Value
from bridge._surfaces.surface import Computation, Pair
from bridge.errors import UnsupportedError, UsageError
from bridge.model import format_tags


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


def batches(
    pair: Pair,
    options: ParityOptions,
    image_size: Size | None = None,
    table_keys: Sequence[bytes | int] = (),
) -> Iterator[Batch]:
    """Makes the batches of a signature, one when it is asked for.

    Args:
      pair: the signature; the inputs are those of the reference.
      options: seed, samples, batch size, folder of images, file of inputs.
      image_size: height and width that the model expects, where it says so.
      table_keys: keys that the model's tables hold.

    Raises:
      UsageError: an image or an array that can't be used.
      UnsupportedError: an input of which there are no values.
    """
    for one in _sets(pair.reference, options, image_size, table_keys):
        for number in range(len(one.rows)):
            files = one.files[number] if one.files else ()
            yield Batch(one.name, number, one.values(number), files)


def count_batches(
    pair: Pair,
    options: ParityOptions,
    image_size: Size | None = None,
    table_keys: Sequence[bytes | int] = (),
) -> int:
    """Returns how many batches there will be."""
    return sum(len(one.rows) for one in _sets(pair.reference, options, image_size, table_keys))


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
      UsageError: a folder of images without images, with one that is damaged, or without a
        signature that takes them; a file of inputs that can't be read, or whose arrays are not what
        the signatures take.
      UnsupportedError: an input of which there are no values.
    """
    references = [pair.reference for pair in pairs]
    made = references
    if options.inputs is not None:
        with InputFile(options.inputs) as file:
            file.check_names(references)
            for one in references:
                if file.covers(one):
                    file.values(one)
            made = [one for one in references if not file.covers(one)]
    if options.images is not None:
        photos = find_photos(options.images)
        if not any(photo_input(one.inputs) for one in made):
            raise UsageError(
                "images are given, but no signature takes images"
                + (" that the file of inputs does not give" if options.inputs else ""),
                hint="an image input is [batch, height, width, channels], of floats or bytes, "
                "with 3 channels or 1",
            )
        check_photos(photos)
    for one in references:
        for name, endpoint in one.inputs.items():
            try:
                parts(name, endpoint)
            except UnsupportedError as error:
                raise located(error, one) from error


def _sets(
    computation: Computation,
    options: ParityOptions,
    image_size: Size | None,
    table_keys: Sequence[bytes | int],
) -> Iterable[BatchSet]:
    if options.inputs is not None:
        with InputFile(options.inputs) as file:
            covered = file.covers(computation)
        if covered:
            return [BatchSet("file", (0,), lambda _: _read(computation, options))]
    return MadeSets(computation, options, image_size, table_keys)


def _read(computation: Computation, options: ParityOptions) -> dict[str, Value]:
    assert options.inputs is not None
    with InputFile(options.inputs) as file:
        return file.values(computation)
