"""Which processes run which model on which device, and which of them are compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path

from bridge._parity.options import ParityOptions
from bridge._parity.runners.protocol import Lane
from bridge._surfaces.surface import HUB_MODULE, Surface

CPU = "cpu"
GPU = "gpu"
REFERENCE = "reference"
CANDIDATE = "candidate"


@dataclass(frozen=True)
class LanePair:
    """Two lanes whose outputs are compared.

    Attributes:
      first: stands for the reference; on the CPU where devices are compared.
      second: what is compared with it.
      across: whether they are of two releases of TensorFlow or two devices, which sum in another
        order.
    """

    first: Lane
    second: Lane
    across: bool


@dataclass(frozen=True)
class Plan:
    """The lanes of a run.

    Attributes:
      pairs: what is compared.
      again: for each lane of the reference, the lane that runs it again with other threads, which
        tells how far the reference is from itself.
    """

    pairs: tuple[LanePair, ...]
    again: Mapping[Lane, Lane]

    def lanes(self) -> tuple[Lane, ...]:
        """All lanes, each once."""
        ordered = (lane for pair in self.pairs for lane in (pair.first, pair.second))
        return tuple(dict.fromkeys((*ordered, *self.again.values())))

    def without(self, missing: Set[Lane]) -> Plan:
        """Returns what is left where some lanes can't run."""
        pairs = (pair for pair in self.pairs if not {pair.first, pair.second} & missing)
        again = {lane: a for lane, a in self.again.items() if not {lane, a} & missing}
        return Plan(tuple(pairs), again)

    def moved(self, models: Mapping[Path, Path]) -> Plan:
        """Returns the same plan for copies of the models."""

        def lane(old: Lane) -> Lane:
            return replace(old, model=models[old.model])

        pairs = (replace(p, first=lane(p.first), second=lane(p.second)) for p in self.pairs)
        return Plan(tuple(pairs), {lane(key): lane(value) for key, value in self.again.items()})


def plan(
    reference: Surface,
    candidate: Surface,
    options: ParityOptions,
    python: Path,
    tf1_python: Path | None,
) -> Plan:
    """Decides what runs.

    Args:
      reference: one side.
      candidate: the other.
      options: the devices, the seed.
      python: an interpreter with TensorFlow 2.
      tf1_python: one with TensorFlow 1.x and tensorflow-hub, which runs modules on the CPU.
    """
    devices = (CPU, GPU) if options.device == "all" else (options.device,)
    found: dict[tuple[str, str], list[Lane]] = {}
    for side, surface in ((REFERENCE, reference), (CANDIDATE, candidate)):
        for device in devices:
            lanes = [
                Lane(side, surface.path, surface.format, "tf2", python, device, seed=options.seed)
            ]
            if tf1_python and surface.format == HUB_MODULE and device != GPU:
                lanes.append(replace(lanes[0], runtime="tf1", python=tf1_python))
            found[side, device] = lanes
    pairs = [
        LanePair(first, second, across=first.runtime != second.runtime)
        for device in devices
        for first in found[REFERENCE, device]
        for second in found[CANDIDATE, device]
    ]
    pairs += _across_devices(found, devices)
    again = {
        lane: replace(lane, threads=1)
        for device in devices
        for lane in found[REFERENCE, device]
        if lane.runtime == "tf2"
    }
    return Plan(tuple(pairs), again)


def _across_devices(
    found: Mapping[tuple[str, str], list[Lane]], devices: tuple[str, ...]
) -> Iterator[LanePair]:
    """Each side on the first device against itself on the others, in today's TensorFlow."""
    for side in (REFERENCE, CANDIDATE):
        for device in devices[1:]:
            yield LanePair(found[side, devices[0]][0], found[side, device][0], across=True)
