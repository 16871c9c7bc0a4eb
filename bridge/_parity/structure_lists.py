"""Compares the lists of variables that objects of a SavedModel have, and hub.KerasLayer reads.

1. A list of a SavedModel is there in another one, with the same variables.
2. A SavedModel that has any such list lists what a module has: `variables` all variables,
   `trainable_variables` those that any variant trains; those of a subobject what its variant has
   and trains.
   But it need not list what it holds by another attribute and lists nowhere: that is its author's
   choice, and a module has no place for it.
3. A SavedModel without lists asks for none; against a module, it need not have any. Variables that
   only one side has are told of elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bridge._parity.results import Status, StructureCheck
from bridge._surfaces.surface import HUB_MODULE, SeenList, Surface
from bridge.hub_module.names import TRAINABLE_VARIABLES as TRAINABLE
from bridge.model import Tags

_MAX_NAMES = 5


def compare_lists(
    reference: Surface,
    candidate: Surface,
    variants: Mapping[Tags, Tags],
    names: Mapping[str, str],
) -> Iterator[StructureCheck]:
    """Yields what is found.

    Args:
      reference: the one.
      candidate: the other.
      variants: the candidate's variant for each of the reference's that it has.
      names: the candidate's name of each variable of the reference that both have.
    """
    if candidate.format == HUB_MODULE:
        return  # it has no lists, but variants
    own = {theirs: name for name, theirs in names.items()}
    # Of these it is told already that they are trainable in one of the two only.
    told = {
        name
        for name, other in names.items()
        if reference.variables[name].trainable != candidate.variables[other].trainable
    }
    there = {seen.path: seen.members for seen in candidate.lists}
    asked = {s.path: s for s in (candidate if reference.format == HUB_MODULE else reference).lists}
    for path, seen in asked.items():
        wanted = _wanted(reference, seen, variants)
        if wanted is None:
            continue
        wanted &= names.keys()
        if reference.format == HUB_MODULE:
            wanted -= {own.get(name, "") for name in seen.held}
        found = there.get(path)
        if found is None:
            yield _check(path, wanted, None, f"the candidate has no list `{path}`")
            continue
        found = frozenset(own[name] for name in found if name in own)
        excused = told if seen.kind == TRAINABLE else set[str]()
        said = [
            f"{words} {_listed(sorted(differing - excused))}"
            for words, differing in (("lacks", wanted - found), ("also has", found - wanted))
            if differing - excused
        ]
        reason = f"the candidate's {' and '.join(said)}" if said else ""
        yield _check(path, wanted, found, reason)


def _wanted(
    reference: Surface, seen: SeenList, variants: Mapping[Tags, Tags]
) -> frozenset[str] | None:
    """Returns what a list of the reference has, or of a SavedModel that is a module's."""
    if reference.format != HUB_MODULE:
        is_there = seen.variant is None or seen.variant in variants
        return seen.members if is_there else None
    is_trained = seen.kind == TRAINABLE
    if seen.variant is None:
        variables = reference.variables.values()
        return frozenset(v.name for v in variables if v.trainable or not is_trained)
    tags = next((ours for ours, theirs in variants.items() if theirs == seen.variant), None)
    if tags is None:
        return None
    return (reference.trained if is_trained else reference.declared).get(tags)


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_MAX_NAMES])
    return f"{shown} and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else shown


def _check(
    path: str, wanted: frozenset[str], found: frozenset[str] | None, reason: str
) -> StructureCheck:
    status = Status.FAIL if reason else Status.PASS
    return StructureCheck("variable_list", path, status, _count(wanted), _count(found), reason)


def _count(names: frozenset[str] | None) -> str:
    return "" if names is None else f"{len(names)} variable{'' if len(names) == 1 else 's'}"
