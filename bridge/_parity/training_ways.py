"""What is trained: which signatures, and in which ways each of them is called for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bridge._parity.inner import InnerFunctions
from bridge._parity.lanes import REFERENCE
from bridge._parity.runners.protocol import Lane
from bridge._surfaces.surface import HUB_MODULE, Call, Computation, Pair, Surface
from bridge.model import TRAIN, Tags
from bridge.saved_model.names import TRAINING


@dataclass(frozen=True)
class TrainedPair:
    """What is trained.

    Attributes:
      pair: the signature.
      first: how the reference is called.
      second: how the candidate is.
      names: the candidate's name of each variable of the reference.
      excused: why the value of a variable can't be compared after training, by its name in the
        reference.
    """

    pair: Pair
    first: Call
    second: Call
    names: Mapping[str, str]
    excused: Mapping[str, str]

    def call(self, lane: Lane) -> Call:
        """How the side of a lane is called."""
        return self.first if lane.side == REFERENCE else self.second

    def variable_names(self, lane: Lane) -> Mapping[str, str]:
        """A lane's own name of each variable of the reference."""
        return {n: n for n in self.names} if lane.side == REFERENCE else self.names


def to_train(pairs: Sequence[Pair], reference: Surface, candidate: Surface) -> list[Pair]:
    """Returns the pairs to train: all that may train in another way than the others.

    Where a variant has one for training beside it, the signatures that this one has are trained
    there. But a serving signature of a SavedModel runs no update ops of others, which those of a
    module's variant do: it is trained where there are none. What is known to be another pair
    again, on both sides, is not trained twice.
    """
    forms = {_form(pair, pair.reference.variant): pair for pair in pairs}
    chosen: dict[object, Pair] = {}
    for pair in forms.values():
        variant = pair.reference.variant
        in_training, without = (
            forms.get(_form(pair, v)) for v in (variant | TRAIN, variant - TRAIN)
        )
        if (
            in_training
            and without
            and pair is (without if _has_modes(in_training) else in_training)
        ):
            continue
        origins = _origin(reference, pair.reference), _origin(candidate, pair.candidate)
        chosen.setdefault(origins, pair)
    return list(chosen.values())


def _form(pair: Pair, variant: Tags) -> tuple[Tags, str, str]:
    """What names a pair, or what it is in another variant."""
    return variant, pair.reference.signature, pair.candidate.signature


def _has_modes(pair: Pair) -> bool:
    """Whether both sides are called in another way to train than to infer."""
    return all(side.calls[0].kind != "signature" for side in (pair.reference, pair.candidate))


def _origin(surface: Surface, computation: Computation) -> tuple[Tags, str]:
    """Returns variant and signature of the first of the computations that are this one again."""
    by_key = {(c.variant, c.signature): c for c in surface.computations}
    while computation.same_as is not None:
        computation = by_key[computation.same_as]
    return computation.variant, computation.signature


class TrainingWays:
    """Finds the ways to call both sides of a pair that may train otherwise than the others."""

    def __init__(self, reference: Surface, candidate: Surface):
        """Takes both sides."""
        self._sides = reference, candidate
        self._inner = InnerFunctions(reference.path), InnerFunctions(candidate.path)

    def of(self, pair: Pair) -> list[tuple[Call, Call]]:
        """Returns the ways, the main one first, each with the outputs that both sides return.

        One side's way is trained beside that of the same name of the other side, else beside the
        main one. What runs a function that an earlier way has run, on both sides, is left out.
        """
        ways: list[tuple[Call, Call]] = []
        for first, second in _beside(*self._calls(pair)):
            outputs = {
                a: b for a, b in pair.outputs.items() if a in first.outputs and b in second.outputs
            }
            way = (
                replace(first, outputs={name: first.outputs[name] for name in outputs}),
                replace(second, outputs={name: second.outputs[name] for name in outputs.values()}),
            )
            if not ways or (outputs and not any(self._is_again(way, other) for other in ways)):
                ways.append(way)
        return ways

    def _calls(self, pair: Pair) -> Iterator[list[Call]]:
        """Yields the calls of each side that train.

        A serving signature beside a callable is not what anybody trains.
        """
        for surface, side in zip(self._sides, (pair.reference, pair.candidate), strict=True):
            main, *others = (_training_call(surface, side, call) for call in side.calls)
            yield [main, *(call for call in others if call.kind == main.kind)]

    def _is_again(self, way: tuple[Call, Call], other: tuple[Call, Call]) -> bool:
        return all(
            _is_part(a, b) or (surface.format != HUB_MODULE and inner.are_one(a, b))
            for a, b, surface, inner in zip(way, other, self._sides, self._inner, strict=True)
        )


def _beside(firsts: Sequence[Call], seconds: Sequence[Call]) -> Iterator[tuple[Call, Call]]:
    """Yields each call of one side beside the one of that name of the other, or its main one."""
    left = list(seconds)
    for first in firsts:
        named = (call for call in left if (call.kind, call.label) == (first.kind, first.label))
        second = next(named, None)
        if second is not None:
            left.remove(second)
        elif first is firsts[0]:
            second = left.pop(0)
        yield first, second or seconds[0]
    for second in left:
        yield firsts[0], second


def _is_part(call: Call, other: Call) -> bool:
    """Whether two calls are one, but for some outputs of the other."""
    is_one = replace(call, outputs={}) == replace(other, outputs={})
    return is_one and call.outputs.items() <= other.outputs.items()


def _training_call(surface: Surface, computation: Computation, call: Call) -> Call:
    """Returns how to call a signature so that it trains.

    A module's variant always comes with its update ops, whatever its tags are. So where a
    SavedModel has the same computation with `training=True`, that is what runs them.
    """
    if call.kwargs.get(TRAINING) != {"value": False}:
        return call
    if all(computation is not other for other in surface.computations):
        return call  # with `training=True`, it is another of the further callables
    key = (computation.variant, computation.signature)
    if any(other.same_as == key for other in surface.computations) or "." in call.name:
        return replace(call, kwargs={**call.kwargs, TRAINING: {"value": True}})
    return call
