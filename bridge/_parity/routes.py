"""In which ways the two sides of a signature are called and compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bridge._parity.lanes import REFERENCE, LanePair
from bridge._surfaces.surface import Call, Pair


@dataclass(frozen=True)
class Route:
    """A signature in two lanes, each called in one way.

    Attributes:
      lanes: where it is computed.
      first: how the first lane is called.
      second: how the second is.
      outputs: what is compared: name in reports, name in the first call, name in the second.
      needed: whether one of the outputs is on no route before it, so that every batch takes it.
        Where they are, another way to call the same model is seen to be one on a few batches.
    """

    lanes: LanePair
    first: Call
    second: Call
    outputs: tuple[tuple[str, str, str], ...]
    needed: bool


def routes(pair: Pair, lanes: LanePair) -> Iterator[Route]:
    """Yields each way to call one side, beside the main way to call the other."""
    seen: set[str] = set()
    for first, second, outputs in _ways(pair, lanes):
        names = {name for name, *_ in outputs}
        yield Route(lanes, first, second, outputs, needed=not names <= seen)
        seen |= names


def _ways(
    pair: Pair, lanes: LanePair
) -> Iterator[tuple[Call, Call, tuple[tuple[str, str, str], ...]]]:
    if lanes.first.side == lanes.second.side:
        of_reference = lanes.first.side == REFERENCE
        names = {name: name if of_reference else pair.outputs[name] for name in pair.outputs}
        for call in (pair.reference if of_reference else pair.candidate).calls:
            same = ((name, own, own) for name, own in names.items() if own in call.outputs)
            yield call, call, tuple(same)
        return
    firsts, seconds = pair.reference.calls, pair.candidate.calls
    for first, second in [
        *((firsts[0], second) for second in seconds),
        *((first, seconds[0]) for first in firsts[1:]),
    ]:
        yield first, second, _shared(pair, first, second)
    covered = {name for call in seconds for name, *_ in _shared(pair, firsts[0], call)}
    covered |= {name for call in firsts for name, *_ in _shared(pair, call, seconds[0])}
    for first in firsts[1:]:
        for second in seconds[1:]:  # what only further ways return
            left = tuple(n for n in _shared(pair, first, second) if n[0] not in covered)
            if left:
                covered.update(name for name, *_ in left)
                yield first, second, left


def _shared(pair: Pair, first: Call, second: Call) -> tuple[tuple[str, str, str], ...]:
    """The outputs that two calls both return."""
    return tuple(
        (name, name, pair.outputs[name])
        for name in first.outputs
        if pair.outputs.get(name) in second.outputs
    )
