"""Compares what servers get of two models, which load graphs and not objects.

1. Each serving signature of the candidate is in its graph what it is among its objects, which are
   compared with the reference. Where the reference has the same fault, it is none.
2. What fills tables is run where a server loads the graph.
3. A SavedModel that was made of a module can be called, and serves something, if the module has a
   signature `default`. Others may be made for one of the two only, which is told.
"""

from __future__ import annotations

from collections.abc import Iterator

from bridge._parity.results import Status, StructureCheck
from bridge._surfaces.surface import HUB_MODULE, SAVED_MODEL, Served, Surface
from bridge.model import DEFAULT, INFERENCE, format_tags

_SAME_FAULT = "so it is in the reference"


def compare_served(reference: Surface, candidate: Surface) -> Iterator[StructureCheck]:
    """Yields what is found."""
    for name, theirs in candidate.served.items():
        ours = reference.served.get(name, Served())
        if theirs.unknown:
            reason = f"in the candidate, {theirs.unknown}"
            yield StructureCheck("served", name, Status.NOT_COMPARABLE, reason=reason)
        elif theirs.fault and theirs.fault == ours.fault:
            text = f"{theirs.fault}: {_SAME_FAULT}"
            yield StructureCheck("served", name, Status.PASS, ours.fault, text)
        else:
            status = Status.FAIL if theirs.fault else Status.PASS
            yield StructureCheck("served", name, status, "", "", theirs.fault)
    for name in reference.served.keys() - candidate.served.keys():
        if candidate.format == SAVED_MODEL and not reference.served[name].fault:
            reason = "the candidate serves nothing of this name"
            yield StructureCheck("served", name, Status.FAIL, reason=reason)
    if (reference.format, candidate.format) == (HUB_MODULE, SAVED_MODEL):
        yield from _lacks(reference, candidate)


def _lacks(reference: Surface, candidate: Surface) -> Iterator[StructureCheck]:
    """Yields that a SavedModel can't be called, or serves nothing, as that of a module does."""
    if all((c.variant, c.signature) != (INFERENCE, DEFAULT) for c in reference.computations):
        return
    label = format_tags(INFERENCE)
    calls = [call for c in candidate.computations if c.variant == INFERENCE for call in c.calls]
    for kind, what in (
        ("callable", "it has no `__call__`"),
        ("signature", "it has no serving signature"),
    ):
        if any(c.kind == kind and (kind == "signature" or c.name == "__call__") for c in calls):
            continue
        status = Status.FAIL if candidate.was_module else Status.NOT_COMPARABLE
        reason = f"the candidate can't be used so: {what}"
        yield StructureCheck(kind, DEFAULT, status, DEFAULT, "", reason, label, DEFAULT)
