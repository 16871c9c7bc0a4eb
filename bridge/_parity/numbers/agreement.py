"""How often two models give the same best classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class ClassAgreement:
    """Counts rows of scores whose best class, and set of five best classes, is the same.

    Of equal scores the class with the lower number is the better one; NaN is the worst score.
    """

    def __init__(self) -> None:
        self._rows = {1: 0, 5: 0}
        self._same = {1: 0, 5: 0}

    def add(self, a: Array, b: Array) -> None:
        """Compares scores of the shape [batch, classes]; others say nothing of classes.

        Args:
          a: the reference, float.
          b: the candidate, of the same shape.
        """
        if a.ndim != 2:
            return
        for count in self._rows:
            # Of so many classes or fewer, all are always the best.
            if a.shape[1] > count:
                self._rows[count] += a.shape[0]
                self._same[count] += sum(
                    _best(x, count) == _best(y, count) for x, y in zip(a, b, strict=True)
                )

    @property
    def top1(self) -> float | None:
        """The share of rows with the same best class; None where there was none."""
        return self._share(1)

    @property
    def top5(self) -> float | None:
        """The share of rows with the same five best; None where there were no six classes."""
        return self._share(5)

    def _share(self, count: int) -> float | None:
        return self._same[count] / self._rows[count] if self._rows[count] else None


def _best(scores: Array, count: int) -> frozenset[int]:
    scores = np.where(np.isnan(scores), -np.inf, scores)
    lowest = np.partition(scores, -count)[-count]
    candidates = np.flatnonzero(scores >= lowest)
    order = np.argsort(-scores[candidates], kind="stable")
    return frozenset(candidates[order[:count]].tolist())
