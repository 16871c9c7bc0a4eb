"""Compares what two models keep: variables, updates, losses, tables, assets and attachments.

1. Variables are the same if their names are; those that are left, if dtype, shape and bytes are. No
   side may have one more, but that a module has none that only hold the state of random ops.
2. A SavedModel lists one kind of regularization losses, those of training. So between a module and
   a SavedModel, those of {} are not compared where both have {train}.
3. Tables are the same if their content is, whatever they are called. One whose content is not
   known is listed.
4. Assets and attachments that the reference has must be there, with the same bytes. A SavedModel
   that attaches nothing may say the size of images by its input alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from bridge._parity.results import Status, StructureCheck
from bridge._parity.structure_lists import compare_lists
from bridge._parity.structure_updates import compare_updates
from bridge._surfaces.surface import (
    HUB_MODULE,
    SAVED_MODEL,
    SeenTable,
    SeenVariable,
    Surface,
)
from bridge.dtypes import dtype_name
from bridge.model import INFERENCE, TRAIN, Tags, format_shape, format_tags
from bridge.passes.image_conventions import IMAGE_MODULE_INFO

_Names = Mapping[str, str]
"""The candidate's name of each variable of the reference that both have."""


def compare_state(
    reference: Surface, candidate: Surface, variants: Mapping[Tags, Tags], names: _Names
) -> list[StructureCheck]:
    """Compares the state of two models.

    Args:
      reference: the one.
      candidate: the other.
      variants: the candidate's variant for each of the reference's that it has.
      names: what `match_variables` gives.
    """
    return [
        *_variables(reference, candidate, names),
        *_trainable(reference, candidate, variants, names),
        *compare_lists(reference, candidate, variants, names),
        *_losses(reference, candidate, variants),
        *compare_updates(reference, candidate, variants, names),
        *_assets(reference, candidate),
        *_tables(reference, candidate),
        *_attachments(reference, candidate, variants),
        *_image_size(reference, candidate),
    ]


def _check(
    check: str,
    name: str,
    reference: str,
    candidate: str,
    reason: str = "",
    variant: Tags | None = None,
) -> StructureCheck:
    status = Status.FAIL if reason else Status.PASS
    label = None if variant is None else format_tags(variant)
    return StructureCheck(check, name, status, reference, candidate, reason, label)


# -- variables -------------------------------------------------------------------------------------


def match_variables(reference: Surface, candidate: Surface) -> dict[str, str]:
    """Returns the candidate's name of each variable of the reference that both have."""
    ours, theirs = reference.variables, candidate.variables
    names = {name: name for name in ours if name in theirs}
    free: defaultdict[object, list[str]] = defaultdict(list)
    for name in sorted(theirs.keys() - names.keys(), reverse=True):
        free[_content(theirs[name])].append(name)
    for name in sorted(ours.keys() - names.keys()):
        if same := free[_content(ours[name])]:
            names[name] = same.pop()
    return names


def _content(variable: SeenVariable) -> object:
    return variable.dtype, variable.shape, variable.digest


def _describe(variable: SeenVariable) -> str:
    kind = f"{dtype_name(variable.dtype)}{format_shape(variable.shape)}"
    return f"{kind} sha256:{variable.digest[:12]}"


def _variables(reference: Surface, candidate: Surface, names: _Names) -> Iterable[StructureCheck]:
    for name, ours in reference.variables.items():
        if name in names:
            theirs = candidate.variables[names[name]]
            text = _describe(theirs)
            if names[name] != name:
                text += f", called {names[name]!r}: found by its dtype, shape and bytes"
            yield _check("variable", name, _describe(ours), text, _difference(ours, theirs))
        elif name in reference.random_states and candidate.format == HUB_MODULE:
            text = "none: it only holds the state of random ops, which a module's do not have"
            yield _check("variable", name, _describe(ours), text)
        else:
            reason = "the candidate has no variable of this name, and none of these bytes"
            yield _check("variable", name, _describe(ours), "", reason)
    for name in sorted(candidate.variables.keys() - set(names.values())):
        text = _describe(candidate.variables[name])
        if name in candidate.random_states and reference.format == HUB_MODULE:
            yield _check("variable", name, "", f"{text}, the state of random ops")
        else:
            yield _check("variable", name, "", text, "the reference has no such variable")


def _difference(ours: SeenVariable, theirs: SeenVariable) -> str:
    if ours.dtype != theirs.dtype:
        return f"it is {dtype_name(ours.dtype)}, the candidate's {dtype_name(theirs.dtype)}"
    if ours.shape != theirs.shape:
        shapes = format_shape(ours.shape), format_shape(theirs.shape)
        return f"its shape is {shapes[0]}, the candidate's {shapes[1]}"
    return "" if ours.digest == theirs.digest else "the candidate's bytes differ"


def _trainable(
    reference: Surface, candidate: Surface, variants: Mapping[Tags, Tags], names: _Names
) -> Iterable[StructureCheck]:
    for name, other in names.items():
        ours = reference.variables[name].trainable
        theirs = candidate.variables[other].trainable
        if ours != theirs:
            yield _trainable_check(name, ours, theirs)
            continue
        differing = [
            _trainable_check(name, not trained, trained, tags)
            for tags, there in variants.items()
            if (trained := _differs_in_variant(reference, candidate, tags, there, name, other))
            is not None
        ]
        yield from differing or [_trainable_check(name, ours, theirs)]


def _differs_in_variant(
    reference: Surface, candidate: Surface, tags: Tags, there: Tags, name: str, other: str
) -> bool | None:
    """Returns whether a variant of the candidate trains a variable, if the reference's does not so.

    A SavedModel trains what any variant of its module did. So a variant of the module that trains
    less is no fault of the SavedModel, but one of a module that comes from a SavedModel which does
    not record it.
    """
    if candidate.format != HUB_MODULE or other not in candidate.declared.get(there, ()):
        return None
    if reference.format == HUB_MODULE:
        if name not in reference.declared.get(tags, ()):
            return None
        ours = name in reference.trained.get(tags, ())
    else:
        recorded = reference.trained.get(there)
        ours = reference.variables[name].trainable if recorded is None else name in recorded
    theirs = other in candidate.trained.get(there, ())
    return None if ours == theirs else theirs


def _trainable_check(
    name: str, ours: bool, theirs: bool, variant: Tags | None = None
) -> StructureCheck:
    words = {True: "trainable", False: "not trainable"}
    reason = "" if ours == theirs else f"it is {words[ours]}, the candidate's is {words[theirs]}"
    return _check("trainable", name, words[ours], words[theirs], reason, variant)


# -- training --------------------------------------------------------------------------------------


def _losses(
    reference: Surface, candidate: Surface, variants: Mapping[Tags, Tags]
) -> Iterable[StructureCheck]:
    for tags, other in variants.items():
        if reference.format != candidate.format and tags == INFERENCE and TRAIN in variants:
            continue
        ours = reference.regularization_losses.get(tags, 0)
        theirs = candidate.regularization_losses.get(other, 0)
        reason = "" if ours == theirs else f"the reference has {ours}, the candidate {theirs}"
        yield _check("regularization_loss", "count", str(ours), str(theirs), reason, tags)


# -- the rest --------------------------------------------------------------------------------------


def _assets(reference: Surface, candidate: Surface) -> Iterable[StructureCheck]:
    for name, digest in reference.assets.items():
        other = candidate.assets.get(name)
        if other is None:
            reason = "the candidate has no such file"
        else:
            reason = "" if other == digest else "the candidate's file has other bytes"
        text = "" if other is None else f"sha256:{other[:12]}"
        yield _check("asset", name, f"sha256:{digest[:12]}", text, reason)
    for name in candidate.assets.keys() - reference.assets.keys():
        yield _check("asset", name, "", "it alone has it")


def _tables(reference: Surface, candidate: Surface) -> Iterable[StructureCheck]:
    ours = {table.digest: table for table in reference.tables.values() if not table.reason}
    theirs = {table.digest: table for table in candidate.tables.values() if not table.reason}
    for content, table in ours.items():
        other = theirs.get(content)
        text = "" if other is None else _table_text(other)
        if other is not None and other.name != table.name:
            text += f", called {other.name!r}: found by its content"
        reason = "the candidate has no table of this content" if other is None else ""
        yield _check("table", table.name, _table_text(table), text, reason)
    for content, table in theirs.items():
        if content not in ours:
            reason = "the reference has no table of this content"
            yield _check("table", table.name, "", _table_text(table), reason)
    for side, surface in (("reference", reference), ("candidate", candidate)):
        for table in surface.tables.values():
            if table.reason:
                reason = f"in the {side}, {table.reason}"
                yield StructureCheck("table", table.name, Status.NOT_COMPARABLE, reason=reason)


def _table_text(table: SeenTable) -> str:
    return f"sha256:{table.digest[:12]}"


def _attachments(
    reference: Surface, candidate: Surface, variants: Mapping[Tags, Tags]
) -> Iterable[StructureCheck]:
    for tags, other in variants.items():
        ours = reference.attachments.get(tags, {})
        theirs = candidate.attachments.get(other, {})
        for key, value in ours.items():
            if key not in theirs and key == IMAGE_MODULE_INFO and _says_size(reference, candidate):
                reason, text = "", "none; its signature says the same size"
            elif key not in theirs:
                reason, text = "the candidate has no such attachment", ""
            else:
                reason = "" if theirs[key] == value else "the candidate's has other bytes"
                text = f"{len(theirs[key])} bytes"
            yield _check("attachment", key, f"{len(value)} bytes", text, reason, tags)
        for key in theirs.keys() - ours.keys():
            yield _check("attachment", key, "", "it alone has it", variant=tags)


def _says_size(reference: Surface, candidate: Surface) -> bool:
    """True for a SavedModel without attachments whose image input has the expected size."""
    without = candidate.format == SAVED_MODEL and not any(candidate.attachments.values())
    return without and candidate.image_size == reference.image_size


def _image_size(reference: Surface, candidate: Surface) -> Iterable[StructureCheck]:
    ours, theirs = reference.image_size, candidate.image_size
    if ours is None and theirs is None:
        return
    texts = ["x".join(map(str, size)) if size else "says none" for size in (ours, theirs)]
    reason = ""
    if ours not in (None, theirs):
        reason = f"the reference expects {texts[0]}, the candidate {texts[1]}"
    yield _check("image_size", "images", texts[0], texts[1], reason)
