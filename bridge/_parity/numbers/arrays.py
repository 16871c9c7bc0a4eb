"""The numbers of two outputs: how far apart they are, in one batch and over all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge._parity.numbers.equal import look
from bridge._parity.numbers.histogram import Magnitudes, Plane, bins
from bridge._parity.numbers.ulp import max_ulp
from bridge._parity.results import Difference, Worst

Array = NDArray[Any]

_CHUNK = 1 << 15
"""So many values at a time: they, and all that is made of them, stay in the processor's cache."""

_FINITE, _NAN, _PLUS, _MINUS = range(4)
_SPECIAL = ("a number", "NaN", "+Inf", "-Inf")


@dataclass
class Found:
    """How the outputs of one batch differ.

    Attributes:
      values: how many there are.
      max_abs: max|a - b| where both are finite; of strings, 1 where any differ.
      largest: max|a| where both are finite.
      unequal: how many integers or strings differ.
      out_of_place: how many values are NaN or infinite on one side only.
      misplaced: what is wrong with NaN and Inf, as a clause; empty where nothing is.
      place: flat index of what is misplaced, else of max_abs; None where all is equal.
    """

    values: int
    max_abs: float = 0.0
    largest: float = 0.0
    unequal: int = 0
    out_of_place: int = 0
    misplaced: str = ""
    place: int | None = None
    _abs: Magnitudes = field(default_factory=Magnitudes)
    _squares: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """a · a, b · b and a · b."""

    def add_products(self, x: Array, y: Array) -> None:
        """Adds what the cosine is made of."""
        # Not np.dot, whose threads would wait for processors that the models are busy on.
        self._squares = (
            self._squares[0] + _product(x, x),
            self._squares[1] + _product(y, y),
            self._squares[2] + _product(x, y),
        )


class Totals:
    """The numbers of one output over all batches."""

    def __init__(self) -> None:
        self.values = 0
        self._compared = self._with_rel = self._max_ulp = 0
        self._max_abs = self._sum_abs = self._max_rel = self._sum_rel = self._largest = 0.0
        self._cosine = 1.0
        self._nan, self._inf = [0, 0], [0, 0]
        self._worst: Worst | None = None
        self._worst_rank = (False, 0.0)
        self._abs, self._rel, self._plane = Magnitudes(), Magnitudes(), Plane()
        self._decades: dict[str, int] = {}

    @property
    def compared(self) -> int:
        """How many values could be subtracted: what is NaN or infinite can't."""
        return self._compared

    @property
    def max_abs(self) -> float:
        """The largest difference."""
        return self._max_abs

    def same(self, array: Array) -> Found | None:
        """Counts floating-point values that are the same on both sides, bit for bit.

        Returns:
          What `floats` would; None where something is NaN or infinite, which it must look at.
        """
        looked = look(array)
        if looked is None:
            return None
        size = array.size
        self.values += size
        self._compared += size
        self._with_rel += looked.nonzero
        self._largest = max(self._largest, looked.largest)
        self._abs.counts[0] += size
        self._rel.counts[0] += looked.nonzero
        if size:
            self._decades["equal"] = self._decades.get("equal", 0) + size
        return Found(values=size, largest=looked.largest)

    def floats(self, a: Array, b: Array, dtype: str) -> Found:
        """Compares floating-point or complex values.

        Args:
          a: the reference, one-dimensional and contiguous.
          b: the candidate, likewise, of the same type.
          dtype: name of the dtype in whose last place the units are.
        """
        found = Found(values=a.size)
        # The square of a double may be too large, or too small, for a double.
        double = a.dtype in (np.float64, np.complex128)
        scale = (_largest_finite(a, b) or 1.0) if double else 1.0
        for start in range(0, a.size, _CHUNK):
            x, y = a[start : start + _CHUNK], b[start : start + _CHUNK]
            finite = np.isfinite(x) & np.isfinite(y)
            if finite.all():
                places: Array | None = None
            else:
                self._special(found, x, y, start)
                places = np.flatnonzero(finite)
                x, y = x[places], y[places]
            if not x.size:
                continue
            self._ulps(x, y, dtype)
            wide = np.complex128 if x.dtype.kind == "c" else np.float64
            x, y = x.astype(wide), y.astype(wide)
            with np.errstate(over="ignore"):
                # The magnitude of a complex number may be more than a double holds.
                size = np.minimum(np.abs(x), np.finfo(np.float64).max)
                distance = np.abs(x - y)
            self._count(found, size, distance, start, places)
            if double:
                x, y = x / scale, y / scale
            found.add_products(x, y)
        self._end(found)
        return found

    def integers(self, a: Array, b: Array) -> Found:
        """Compares integers, or truth values as bytes; both one-dimensional, of the same type."""
        found = Found(values=a.size)
        for start in range(0, a.size, _CHUNK):
            x, y = a[start : start + _CHUNK], b[start : start + _CHUNK]
            # Modulo 2^64 this difference is right for every type of integer.
            distance = np.maximum(x, y).astype(np.uint64) - np.minimum(x, y).astype(np.uint64)
            found.unequal += int(np.count_nonzero(distance))
            self._max_ulp = max(self._max_ulp, int(distance.max()))
            x, y = x.astype(np.float64), y.astype(np.float64)
            self._count(found, np.abs(x), distance.astype(np.float64), start, None)
            found.add_products(x, y)
        self._end(found)
        return found

    def strings(self, a: Array, b: Array) -> Found:
        """Compares arrays of bytes objects: the difference of two of them is 0 or 1."""
        found = Found(values=a.size)
        distance = (a != b).astype(np.float64)
        found.unequal = int(distance.sum())
        if a.size:
            self._count(found, distance * 0, distance, 0, None)
        self._end(found)
        return found

    def note_worst(self, found: Found, worst: Worst) -> None:
        """Remembers the place, if it is the worst so far. Is called after each batch.

        Args:
          found: of the batch.
          worst: its worst place.
        """
        # A NaN out of place is further off than any number.
        rank = (bool(found.misplaced), found.max_abs)
        if self._worst is None or rank > self._worst_rank:
            self._worst, self._worst_rank = worst, rank

    def difference(self, **others: Any) -> Difference:
        """Returns the numbers.

        Args:
          **others: the fields of Difference that the rule and the classes give.
        """
        quantiles: dict[str, Any] = {
            # The middle of a bin may be above everything in it.
            f"{name}_{kind}": min(histogram.quantile(share), largest)
            for kind, histogram, largest in (
                ("abs", self._abs, self._max_abs),
                ("rel", self._rel, self._max_rel),
            )
            for name, share in (("median", 0.5), ("p99", 0.99))
        }
        return Difference(
            values=self.values,
            max_abs=self._max_abs,
            mean_abs=self._sum_abs / self._compared if self._compared else 0.0,
            max_rel=self._max_rel,
            mean_rel=self._sum_rel / self._with_rel if self._with_rel else 0.0,
            max_ulp=self._max_ulp,
            cosine=self._cosine,
            largest=self._largest,
            nan=(self._nan[0], self._nan[1]),
            inf=(self._inf[0], self._inf[1]),
            worst=self._worst,
            histogram=dict(self._decades),
            magnitudes=self._plane.cells(),
            **quantiles,
            **others,
        )

    def _special(self, found: Found, x: Array, y: Array, start: int) -> None:
        """Counts NaN and Inf, and looks whether they stand in the same places."""
        for side, values in enumerate((x, y)):
            self._nan[side] += int(np.count_nonzero(np.isnan(values)))
            self._inf[side] += int(np.count_nonzero(np.isinf(values)))
        kinds = _kinds(x), _kinds(y)
        wrong = np.flatnonzero((kinds[0] != kinds[1]).reshape(x.size, -1).any(axis=1))
        found.out_of_place += wrong.size
        if wrong.size and not found.misplaced:
            place = int(wrong[0])
            parts = [kind.reshape(x.size, -1)[place] for kind in kinds]
            part = int(np.flatnonzero(parts[0] != parts[1])[0])
            names = [_SPECIAL[side[part]] for side in parts]
            found.misplaced = f"it is {names[1]} where the reference is {names[0]}"
            found.place = start + place

    def _ulps(self, x: Array, y: Array, dtype: str) -> None:
        if x.dtype.kind == "c":
            part = x.real.dtype
            x, y = x.view(part), y.view(part)
        self._max_ulp = max(self._max_ulp, max_ulp(x, y, dtype))

    def _count(
        self, found: Found, size: Array, distance: Array, start: int, places: Array | None
    ) -> None:
        """Adds some values.

        Args:
          found: of the batch.
          size: |a|, float64.
          distance: |a - b|, float64.
          start: flat index of the first of them.
          places: their flat indices after that, where they are not one after the other.
        """
        worst = int(distance.argmax())
        if distance[worst] > found.max_abs:
            found.max_abs = float(distance[worst])
            if not found.misplaced:
                found.place = start + (worst if places is None else int(places[worst]))
        found.largest = max(found.largest, float(size.max()))
        self._compared += size.size
        with np.errstate(over="ignore"):
            self._sum_abs += float(distance.sum())
        indices = bins(distance)
        found._abs.add(indices)
        self._plane.add(bins(size), indices)
        if not size.all():
            kept = size > 0
            size, distance = size[kept], distance[kept]
        if size.size:
            with np.errstate(over="ignore"):
                distance = distance / size
                self._sum_rel += float(distance.sum())
            self._max_rel = max(self._max_rel, float(distance.max()))
            self._rel.add(bins(distance))
            self._with_rel += size.size

    def _end(self, found: Found) -> None:
        """Adds what only a whole batch tells."""
        self.values += found.values
        self._max_abs = max(self._max_abs, found.max_abs)
        self._largest = max(self._largest, found.largest)
        self._abs.counts += found._abs.counts
        for decade, count in found._abs.decades(found.largest).items():
            self._decades[decade] = self._decades.get(decade, 0) + count
        if found.max_abs:
            a, b, both = found._squares
            cosine = both / (math.sqrt(a) * math.sqrt(b)) if a and b else 0.0
            self._cosine = min(self._cosine, max(-1.0, min(1.0, cosine)))


def _largest_finite(a: Array, b: Array) -> float:
    return max(
        float(np.max(np.abs(part), initial=0.0, where=np.isfinite(part)))
        for array in (a, b)
        for part in ((array.real, array.imag) if array.dtype.kind == "c" else (array,))
    )


def _product(x: Array, y: Array) -> float:
    return float(np.einsum("i,i->", x, y.conj()).real)


def _kinds(values: Array) -> Array:
    """Returns what each value is, of complex values each part: finite, NaN, +Inf or -Inf."""
    if values.dtype.kind == "c":
        values = np.ascontiguousarray(values).view(values.real.dtype)
    kinds = np.zeros(values.shape, np.int8)
    kinds[np.isnan(values)] = _NAN
    kinds[np.isposinf(values)] = _PLUS
    kinds[np.isneginf(values)] = _MINUS
    return kinds
