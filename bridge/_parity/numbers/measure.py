"""Compares an output with its reference, batch by batch, in constant memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge._parity.feed.values import as_bytes
from bridge._parity.numbers.agreement import ClassAgreement
from bridge._parity.numbers.arrays import Found, Totals
from bridge._parity.numbers.photos import PhotoRows
from bridge._parity.numbers.ulp import BFLOAT16
from bridge._parity.results import Difference, Status, Worst
from bridge._parity.rule import Breach, BreachKind, Tolerance
from bridge._parity.runners.protocol import Value
from bridge._parity.runners.worker_values import name_of
from bridge.dtypes import dtype_name

Array = NDArray[Any]

_STRING = "string"
_OTHER_FORM = Breach(BreachKind.FORM)


@dataclass(frozen=True)
class Measured:
    """What comes of comparing one output over all batches.

    Attributes:
      status: pass, fail, or not comparable where there was no value.
      reason: why it is not a pass, one sentence; empty where it is.
      limit: the absolute difference allowed in the batch that decided: the one that the reason
        is about, else the one closest to its limit.
      difference: the numbers; None where no values could be put side by side.
    """

    status: Status
    reason: str
    limit: float
    difference: Difference | None


@dataclass(frozen=True)
class _Batch:
    """How one batch stands to its limit."""

    max_abs: float
    limit: float
    where: str
    at: str

    @property
    def rank(self) -> tuple[bool, float, float]:
        """Is greater the farther the batch is above its limit, or the closer to it."""
        ratio = self.max_abs / self.limit if self.limit else math.inf if self.max_abs else 0.0
        return self.max_abs > self.limit, ratio, self.max_abs


@dataclass(frozen=True)
class _Broken:
    """A breach of the rule that no tolerance forgives, and the numbers of its batch."""

    reason: str
    max_abs: float
    limit: float


class Accumulator:
    """Takes one output of both sides, batch by batch, and says how far apart they are."""

    def __init__(
        self, tolerance: Tolerance, *, dtype: int | None = None, classification: bool = False
    ):
        """Starts with nothing.

        Args:
          tolerance: what the rule allows.
          dtype: DataType number of the output. It matters for bfloat16 only, whose values may come
            as float32.
          classification: whether a matrix holds a score for each class, so that the best classes
            are compared too.
        """
        self._tolerance = tolerance
        self._bfloat16 = dtype is not None and dtype_name(dtype) == BFLOAT16
        self._classes = ClassAgreement() if classification else None
        self._totals = Totals()
        self._broken: _Broken | None = None
        """The first breach of the rule that no tolerance forgives."""
        self._closest: _Batch | None = None
        self._needed_rtol = 0.0
        self._headroom = math.inf
        self._batches = 0
        self._photos = PhotoRows(with_classes=classification)
        self._breach: Breach | None = None
        """How the batch at hand breaks the rule."""

    def add(
        self, reference: Value, candidate: Value, inputs: str, batch: int, *, photos: int = 0
    ) -> Breach | None:
        """Compares the output of one batch.

        Args:
          reference: an array, or a mapping of components for a sparse or ragged tensor.
          candidate: likewise. The same object means that both are the same bit for bit.
          inputs: name of the set of inputs; empty where the values depend on none.
          batch: index of the batch.
          photos: how many photos the batch consists of, if those that differ most are wanted.

        Returns:
          How the batch breaks the rule; None where it does not.
        """
        self._batches += 1
        self._breach = None
        sides = isinstance(reference, Mapping), isinstance(candidate, Mapping)
        if sides[0] != sides[1]:
            kinds = ["sparse or ragged" if composite else "dense" for composite in reversed(sides)]
            self._break(f"it is {kinds[0]} instead of {kinds[1]}", inputs, batch)
        elif not sides[0]:
            a = np.asarray(reference)
            self._add(a, a if candidate is reference else np.asarray(candidate), inputs, batch)
        elif set(reference) != set(candidate):
            names = _listed(candidate), _listed(reference)
            self._break(f"its parts are {names[0]} instead of {names[1]}", inputs, batch)
        else:
            for part in sorted(reference):
                a = np.asarray(reference[part])
                same = candidate[part] is reference[part]
                self._add(a, a if same else np.asarray(candidate[part]), inputs, batch, part)
        if photos and reference is not candidate and not (sides[0] or sides[1]):
            pair = _numbers(np.asarray(reference)), _numbers(np.asarray(candidate))
            self._photos.add(*pair, batch, photos)
        return self._breach

    @property
    def failed(self) -> bool:
        """Whether a batch so far broke the rule."""
        return bool(self._broken) or bool(self._closest and self._closest.rank[0])

    def result(self) -> Measured:
        """Returns what came of all batches so far."""
        closest, broken = self._closest, self._broken
        limit = broken.limit if broken else closest.limit if closest else 0.0
        reason = ""
        if broken:
            reason = f"{broken.reason}{self._beyond(broken.max_abs)}"
        elif closest and closest.rank[0]:
            reason = (
                f"max|a-b| is {closest.max_abs:.4g}{closest.at}{closest.where}, where "
                f"{closest.limit:.4g} is allowed{self._beyond(closest.max_abs)}"
            )
        difference = None
        if self._totals.values:
            difference = self._totals.difference(
                needed_rtol=math.inf if self._broken else self._needed_rtol,
                headroom=0.0 if self._broken else self._headroom,
                top1=self._classes.top1 if self._classes else None,
                top5=self._classes.top5 if self._classes else None,
                photos=self._photos.worst(),
            )
        if reason:
            return Measured(Status.FAIL, reason, limit, difference)
        if difference is None:
            nothing = "the output has no values" if self._batches else "no inputs were run"
            return Measured(Status.NOT_COMPARABLE, nothing, limit, None)
        if not self._totals.compared:
            nothing = "all its values are NaN or infinite, on both sides"
            return Measured(Status.NOT_COMPARABLE, nothing, limit, difference)
        return Measured(Status.PASS, "", limit, difference)

    def _beyond(self, max_abs: float) -> str:
        """Says that max|a-b| of all batches is not that of the one that decided."""
        largest = self._totals.max_abs
        if not largest > max_abs:
            return ""
        return f"; elsewhere max|a-b| is up to {largest:.4g}"

    def _add(self, a: Array, b: Array, inputs: str, batch: int, part: str = "") -> None:
        """Compares two arrays; `part` is the component that they are."""
        names = _type_name(a), _type_name(b)
        what = f"{part}: its " if part else "its "
        if names[0] != names[1]:
            self._break(f"{what}dtype is {names[1]} instead of {names[0]}", inputs, batch)
            return
        if a.shape != b.shape:
            shapes = list(b.shape), list(a.shape)
            self._break(f"{what}shape is {shapes[0]} instead of {shapes[1]}", inputs, batch)
            return
        same = a is b
        a = _numbers(a)
        b = a if same else _numbers(b)
        is_float = a.dtype.kind in "fc"
        if is_float:
            found = (self._totals.same(a) if a is b and a.dtype.kind == "f" else None) or (
                self._totals.floats(a.ravel(), b.ravel(), self._unit(names[0]))
            )
        elif names[0] == _STRING:
            a, b = as_bytes(a), as_bytes(b)
            found = self._totals.strings(a.ravel(), b.ravel())
        else:
            kind = np.uint8 if a.dtype.kind == "b" else a.dtype
            found = self._totals.integers(a.ravel().view(kind), b.ravel().view(kind))
        at = ""
        if found.place is not None:
            index = tuple(int(i) for i in np.unravel_index(found.place, a.shape))
            worst = Worst(inputs, batch, index, _plain(a[index]), _plain(b[index]))
            self._totals.note_worst(found, worst)
            at = f" at {list(index)}" if index else ""
        if part:
            at += f" of its {part}"
        self._judge(found, at, inputs, batch, exact=not is_float)
        if self._classes and not part and a.dtype.kind == "f":
            self._classes.add(a, b)

    def _unit(self, name: str) -> str:
        """The dtype in whose last place units are counted."""
        return BFLOAT16 if self._bfloat16 and name == "float32" else name

    def _judge(self, found: Found, at: str, inputs: str, batch: int, *, exact: bool) -> None:
        if found.misplaced:
            breach = Breach(BreachKind.MISPLACED, count=found.out_of_place)
            limit = self._tolerance.limit(found.largest)
            reason = f"{found.misplaced}{at}"
            self._break(reason, inputs, batch, breach, found.max_abs, limit)
        if exact:
            if found.unequal:
                count = f"{found.unequal} of {found.values}"
                reason = f"{count} values differ, the most{at}"
                breach = Breach(BreachKind.UNEQUAL, found.max_abs, count=found.unequal)
                self._break(reason, inputs, batch, breach, found.max_abs)
            return
        limit = self._tolerance.limit(found.largest)
        this = _Batch(found.max_abs, limit, _where(inputs, batch), at)
        if self._closest is None or this.rank > self._closest.rank:
            self._closest = this
        if this.rank[0]:
            self._note(Breach(BreachKind.FAR, found.max_abs, limit))
        if found.max_abs:
            self._headroom = min(self._headroom, limit / found.max_abs)
            above = found.max_abs - self._tolerance.atol
            if above > 0:
                needed = above / found.largest if found.largest else math.inf
                self._needed_rtol = max(self._needed_rtol, needed)

    def _break(
        self,
        reason: str,
        inputs: str,
        batch: int,
        breach: Breach = _OTHER_FORM,
        max_abs: float = 0.0,
        limit: float = 0.0,
    ) -> None:
        if self._broken is None:
            self._broken = _Broken(f"{reason}{_where(inputs, batch)}", max_abs, limit)
        self._note(breach)

    def _note(self, breach: Breach) -> None:
        """Remembers the gravest breach of the batch."""
        if self._breach is None or breach.rank > self._breach.rank:
            self._breach = breach


def _where(inputs: str, batch: int) -> str:
    """Says which batch it is; nothing of values that no inputs led to."""
    return f" in batch {batch} ({inputs})" if inputs else ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _type_name(array: Array) -> str:
    """Returns the dtype's name; strings have several types in numpy."""
    return _STRING if array.dtype.kind in "OSU" else name_of(array.dtype)


def _numbers(array: Array) -> Array:
    """Returns the numbers in an array of a type that numpy learnt from others; else the array."""
    if array.dtype.names:  # a quantized dtype
        return array.view(array.dtype[0])
    return array.astype(np.float32) if array.dtype.kind == "V" else array  # bfloat16


def _plain(value: Any) -> float | int | str:
    """Returns a value as JSON may have it."""
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    plain = value.item()
    return str(plain) if isinstance(plain, complex) else plain
