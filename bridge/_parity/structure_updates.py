"""Compares which variables two models change when they are called.

1. A variant changes what its update ops and its calls write. Where only one side has a variant for
   training, whose graph is that of the other variant, its updates belong to that one.
2. An update op of a module that depends on the inputs of no signature has no place in a SavedModel,
   whose calls run update ops.
3. Each call of a SavedModel changes what the same call of another SavedModel does, those that are
   no signatures too.
4. Of a module, each call for training changes what belongs to the signature, and any other call
   what the module changes without its update ops, and no more. Where a SavedModel knows no
   training, as one that counts its calls, every call counts as one for training.
5. A module has one way to compute a signature, whose client runs the update ops of all signatures.
   So it is compared with a SavedModel by the variant as a whole, but for what only those functions
   of the SavedModel change that a module has no place for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from bridge._parity.results import Status, StructureCheck
from bridge._parity.structure_forms import is_called_like, match_names
from bridge._surfaces.further import kind_of
from bridge._surfaces.surface import HUB_MODULE, SAVED_MODEL, Computation, Surface, Updates
from bridge.model import Tags, format_tags

_Names = Mapping[str, str]
"""The candidate's name of each variable of the reference that both have."""


def compare_updates(
    reference: Surface, candidate: Surface, variants: Mapping[Tags, Tags], names: _Names
) -> Iterator[StructureCheck]:
    """Yields what is found.

    Args:
      reference: the one.
      candidate: the other.
      variants: the candidate's variant for each of the reference's that it has.
      names: the variables that both have.
    """
    comparison = _Comparison(reference, candidate, variants, names)
    for tags, other in variants.items():
        yield from comparison.of_variant(tags, other)
    yield from comparison.of_further()


class _Comparison:
    def __init__(
        self, reference: Surface, candidate: Surface, variants: Mapping[Tags, Tags], names: _Names
    ):
        self._reference = reference
        self._candidate = candidate
        self._variants = variants
        self._names = names
        self._own = {theirs: ours for ours, theirs in names.items()}

    def of_variant(self, tags: Tags, other: Tags) -> Iterator[StructureCheck]:
        """Yields what is found in a variant, `other` in the candidate."""
        reference, candidate, own = self._reference, self._candidate, self._own
        ours = _updated(reference, [tags, *_again(reference, tags, self._variants.keys())])
        if candidate.format == HUB_MODULE:
            ours -= _by_functions_alone(reference, tags)
        there = [other, *_again(candidate, other, self._variants.values())]
        theirs = _updated(candidate, there)
        both = {name for name in ours if self._names.get(name) in theirs}
        found = list(self._of_calls(tags, there, both))
        yield from found
        apart = reference.updated_apart.get(tags, frozenset())
        for name in sorted(ours & self._names.keys()):  # of others it is told that they lack
            if name in both:
                if all(check.name != name for check in found):
                    yield _check(name, "updated", "updated", tags=tags)
            elif name in apart and candidate.format == SAVED_MODEL:
                text = "not updated: the op depends on no input, so that no call can run it"
                yield _check(name, "updated", text, tags=tags)
            else:
                reason = "no update op of the candidate changes it"
                yield _check(name, "updated", "not updated", reason, tags)
        for name in sorted(theirs):
            if name not in own or own[name] in ours:
                continue
            if name in candidate.updated_apart.get(other, ()) and reference.format == SAVED_MODEL:
                text = "updated, by an op that depends on no input"
                yield _check(own[name], "not updated", text, tags=tags)
            else:
                reason = "the candidate changes it, the reference does not"
                yield _check(own[name], "not updated", "updated", reason, tags)

    # -- each call -----------------------------------------------------------------------------

    def _of_calls(self, tags: Tags, there: list[Tags], both: set[str]) -> Iterator[StructureCheck]:
        """Yields the faults of calls, by the variables that both variants change."""
        if self._candidate.format == HUB_MODULE:
            return
        theirs = [c for c in self._candidate.computations if c.variant in there]
        trains = any(way.trains for computation in theirs for way in computation.updates)
        for ours in self._reference.computations:
            same = [c for c in theirs if c.signature == ours.signature]
            if ours.variant != tags or not same or not ours.updates:
                continue
            ways = [way for computation in same for way in computation.updates]
            if self._reference.format == HUB_MODULE:
                yield from self._against_module(ours, ways, both, trains=trains)
            else:
                yield from self._differing(ours, same[0], both)

    def _against_module(
        self, ours: Computation, ways: list[Updates], both: set[str], *, trains: bool
    ) -> Iterator[StructureCheck]:
        """Yields what calls lack of what the signature of a module changes, or do in inference."""
        (module,) = ours.updates
        for name in sorted(both & (module.written - module.others)):
            lost = [
                way.call.label
                for way in ways
                if (way.trains or not trains or name in module.forward)
                and self._names[name] not in way.written
            ]
            if lost:
                reason = f"the candidate does not change it in {_listed(lost)}"
                yield _check(name, "updated", "not updated", reason, ours.variant, ours.signature)
        for name in sorted(both - module.forward) if trains else ():
            added = [
                way.call.label
                for way in ways
                if not way.trains and self._names[name] in way.written
            ]
            if added:
                reason = (
                    f"the candidate changes it in {_listed(added)}, the reference in training only"
                )
                yield _check(name, "not updated", "updated", reason, ours.variant, ours.signature)

    def _differing(
        self, ours: Computation, theirs: Computation, among: set[str] | None = None
    ) -> Iterator[StructureCheck]:
        """Yields the variables that calls of one SavedModel change, and those of the other not."""
        inputs = match_names(ours.inputs, theirs.inputs)
        lost: dict[str, list[str]] = {}
        added: dict[str, list[str]] = {}
        for way in ours.updates:
            same = [
                {self._own[name] for name in call.written if name in self._own}
                for call in theirs.updates
                if call.trains == way.trains and is_called_like(call.call, way.call, inputs)
            ]
            if not same:
                continue  # that it can't be called so is told already
            written = way.written & self._names.keys()
            nearest = min(same, key=lambda found: len(found ^ written))
            for name in written - nearest:
                lost.setdefault(name, []).append(way.call.label)
            for name in nearest - written:
                added.setdefault(name, []).append(way.call.label)
        for name, labels in sorted(lost.items()):
            if among is None or name in among:
                reason = f"the candidate does not change it in {_listed(labels)}"
                yield _check(name, "updated", "not updated", reason, ours.variant, ours.signature)
        for name, labels in sorted(added.items()):
            if among is None or name in among:
                reason = f"the candidate changes it in {_listed(labels)}, the reference does not"
                yield _check(name, "not updated", "updated", reason, ours.variant, ours.signature)

    def of_further(self) -> Iterator[StructureCheck]:
        """Yields the faults of callables that are no signatures."""
        for ours in self._reference.further:
            same = [c for c in self._candidate.further if kind_of(c) == kind_of(ours)]
            other = next((c for c in same if c.signature == ours.signature), next(iter(same), None))
            if other is not None:
                yield from self._differing(ours, other)


def _updated(surface: Surface, variants: Iterable[Tags]) -> frozenset[str]:
    return frozenset[str]().union(*(surface.updated.get(tags, ()) for tags in variants))


def _by_functions_alone(surface: Surface, tags: Tags) -> frozenset[str]:
    """Returns what a variant changes only in what no conversion keeps."""
    kept: set[str] = set()
    lost: set[str] = set()
    for computation in surface.computations:
        if computation.variant == tags:
            found = kept if computation.is_kept else lost
            found.update(*(way.written for way in computation.updates))
    return frozenset(lost - kept)


def _again(surface: Surface, tags: Tags, matched: Iterable[Tags]) -> list[Tags]:
    """Returns the variants that the other side does not have, and that are this one again."""
    rest = surface.updated.keys() - set(matched)
    return [other for other in rest if _is_again(surface, other, tags)]


def _is_again(surface: Surface, tags: Tags, original: Tags) -> bool:
    """True if all that a variant computes is what another one does."""
    by_key = {(c.variant, c.signature): c for c in surface.computations}
    for computation in surface.computations:
        if computation.variant != tags:
            continue
        same = computation.same_as
        while same is not None and same[0] != original:
            same = by_key[same].same_as
        if same is None:
            return False
    return True


def _listed(labels: Iterable[str]) -> str:
    return ", ".join(f"`{label}`" for label in dict.fromkeys(labels))


def _check(
    name: str,
    reference: str,
    candidate: str,
    reason: str = "",
    tags: Tags | None = None,
    signature: str | None = None,
) -> StructureCheck:
    status = Status.FAIL if reason else Status.PASS
    label = None if tags is None else format_tags(tags)
    return StructureCheck("update_op", name, status, reference, candidate, reason, label, signature)
