"""Compares regularization losses: what they are, and by which variables they change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bridge._parity.crew import Crew
from bridge._parity.lanes import LanePair, Plan
from bridge._parity.options import ParityOptions
from bridge._parity.results import Comparison
from bridge._parity.rule import training_tolerance
from bridge._parity.runners.protocol import RunnerError, Value, Values
from bridge._parity.training_rows import entry, size_of, with_error, with_result
from bridge._parity.training_ways import TrainedPair

VALUES = "regularization_loss"
GRADIENTS = "regularization_gradient"


@dataclass(frozen=True)
class LossComparer:
    """Compares the regularization losses of one variant.

    They are made of variables alone: no batch, and no random op, decides about them.

    Attributes:
      trained: a signature of the variant.
      plan: the lanes.
      crew: runs them.
      options: the tolerances; whether to take gradients.
    """

    trained: TrainedPair
    plan: Plan
    crew: Crew
    options: ParityOptions

    def run(self) -> list[Comparison]:
        """Returns an entry for the losses of each pair of lanes, and those for their gradients.

        The same loss of another variable of the same value is seen by its gradient only. The
        hub.Module of TensorFlow 1 has no losses unless it is built to be trained, which takes its
        time: its lanes are run with `--train`.
        """
        train = self.options.train
        pairs = [
            pair
            for pair in self.plan.pairs
            if train or {pair.first.runtime, pair.second.runtime} == {"tf2"}
        ]
        lanes = dict.fromkeys(lane for pair in pairs for lane in (pair.first, pair.second))
        asked = {lane: self.crew.losses(lane, self.trained.call(lane)) for lane in lanes}
        taken = {
            lane: self.crew.loss_gradients(lane, self.trained.call(lane)) for lane in lanes if train
        }
        losses = {lane: future.result() for lane, future in asked.items()}
        gradients = {lane: future.result() for lane, future in taken.items()}
        entries: list[Comparison] = []
        for pair in pairs:
            entries.append(self._values(pair, losses[pair.first], losses[pair.second]))
            if train:
                entries += self._gradients(pair, gradients[pair.first], gradients[pair.second])
        return entries

    def _values(
        self,
        lanes: LanePair,
        first: Sequence[float] | RunnerError,
        second: Sequence[float] | RunnerError,
    ) -> Comparison:
        tolerance = training_tolerance(self.options, VALUES, across=lanes.across)
        row = entry(self.trained, self.crew, lanes, VALUES, tolerance=tolerance)
        for losses in (first, second):
            if isinstance(losses, RunnerError):
                return with_error(row, losses, is_first=losses is first)
        ours, theirs = (np.sort(np.asarray(losses, np.float32)) for losses in (first, second))
        # No sum over a batch is in them, so that no noise is to be expected.
        return with_result(row, ours, theirs)[0]

    def _gradients(
        self, lanes: LanePair, first: Values | RunnerError, second: Values | RunnerError
    ) -> Iterator[Comparison]:
        for gradients in (first, second):
            if isinstance(gradients, RunnerError):
                row = entry(self.trained, self.crew, lanes, GRADIENTS)
                yield with_error(row, gradients, is_first=gradients is first)
                return
        assert not isinstance(first, RunnerError)
        assert not isinstance(second, RunnerError)
        own = self.trained.variable_names(lanes.first)
        other = self.trained.variable_names(lanes.second)
        largest = max(map(size_of, first.values()), default=0.0)
        tolerance = training_tolerance(
            self.options, "gradient", across=lanes.across, largest=largest
        )
        for name in self.trained.names:
            a, b = first.get(own[name]), second.get(other[name])
            if _moves(a) or _moves(b):
                row = entry(self.trained, self.crew, lanes, GRADIENTS, name, tolerance)
                # Where a loss reaches a variable at all, is told by some with zeros.
                a = np.zeros_like(b) if a is None else a
                b = np.zeros_like(a) if b is None else b
                yield with_result(row, a, b)[0]


def _moves(gradient: Value | None) -> bool:
    return gradient is not None and bool(np.any(gradient))
