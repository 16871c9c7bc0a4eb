"""What is in a model, as a tree for people. The whole story is in the JSON form."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import NamedTuple

from bridge._inspect.results import (
    HUB_MODULE,
    MODULE_FORMAT,
    TF1_SAVED_MODEL,
    TF2_SAVED_MODEL,
    AttachmentInfo,
    CallableInfo,
    ConversionInfo,
    EndpointInfo,
    InspectReport,
    ReleaseInfo,
    TraceInfo,
    VariableInfo,
    VariantInfo,
)
from bridge.cli._summary import count, size
from bridge.cli._terminal import Style
from bridge.cli._tree import Mark, Node, glue, render
from bridge.model import DEFAULT, format_shape

_MAX_GROUPS = 12
_MAX_ROWS = 4
_MAX_NAMES = 6
_LARGEST = 5
_FREQUENT = 10

_FORMATS = {
    HUB_MODULE: "TF1 Hub module",
    TF1_SAVED_MODEL: "TF1 SavedModel",
    TF2_SAVED_MODEL: "TF2 SavedModel",
}


def inspect_tree(
    report: InspectReport, style: Style, *, variables: bool = False, ops: bool = False
) -> str:
    """Returns the tree.

    Args:
      report: what is in the model.
      style: what the terminal can show.
      variables: list all variables, not the largest ones only.
      ops: list all ops, not the most frequent ones only.
    """
    tree = Node(report.source, heading=True)
    producer = f", by TensorFlow {report.producer}" if report.producer else ""
    origin = ", made of a TF1 Hub module by hubbridge" if report.was_module else ""
    tree.add(f"{_FORMATS[report.format]}{producer}{origin}, {size(report.bytes)}")
    if report.module_format not in (None, MODULE_FORMAT):
        tree.add(f"its format is {report.module_format}; hubbridge knows {MODULE_FORMAT} alone")
    if features := report.required_features:
        tree.add(f"it requires features that nothing knows: {_fold([repr(f) for f in features])}")
    _add_variants(tree, report)
    _add_signatures(tree, report.variants)
    _add_callables(tree, report)
    if (images := report.image_size) is not None:
        node = tree.add("images", heading=True)
        node.add(f"{images.height} x {images.width}, as {images.found_in} says")
    _add_variables(tree, report, all_of_them=variables)
    _add_files(tree, report)
    _add_ops(tree, report, all_of_them=ops)
    _add_releases(tree, report)
    if report.conversion is not None:
        _add_conversion(tree, report.conversion)
    return render(tree, style)


# -- variants and signatures ------------------------------------------------------------------


def _add_variants(tree: Node, report: InspectReport) -> None:
    node = tree.add("variants" if len(report.variants) > 1 else "variant", heading=True)
    for variant in report.variants[:_MAX_GROUPS]:
        parts = [count(variant.nodes, "node")]
        for number, what in (
            (variant.functions, "function"),
            (len(variant.update_ops), "update op"),
            (len(variant.regularization_losses), "regularization loss"),
        ):
            if number:
                parts.append(count(number, what))
        node.add(f"{glue(variant.name)}: {', '.join(map(glue, parts))}")
    _add_more(node, len(report.variants) - _MAX_GROUPS)


def _add_signatures(tree: Node, variants: Sequence[VariantInfo]) -> None:
    """Adds the signatures; one that is the same in several variants, once."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for variant in variants:
        for one in variant.signatures:
            key = one.name, _tensors(one.inputs), _tensors(one.outputs)
            groups.setdefault(key, []).append(glue(variant.name))
    if not groups:
        tree.add("no signatures", heading=True)
        return
    node = tree.add("signatures", heading=True)
    ordered = sorted(groups.items(), key=lambda item: item[0][0] != DEFAULT)
    for (name, inputs, outputs), labels in ordered[:_MAX_GROUPS]:
        child = node.add(f"{name} of {' and '.join(labels)}" if len(variants) > 1 else name)
        child.add(f"takes {inputs}")
        child.add(f"gives {outputs}")
    _add_more(node, len(groups) - _MAX_GROUPS)


def _tensors(ends: Sequence[EndpointInfo]) -> str:
    shown = sorted(ends, key=lambda end: end.name != DEFAULT)
    return _fold([glue(_tensor(end)) for end in shown]) or "nothing"


def _tensor(end: EndpointInfo) -> str:
    kind = "" if end.encoding == "dense" else f"{end.encoding} "
    name = end.name
    if end.argument and end.argument != end.name:
        name = f"{end.argument} → {end.name}"
    return f"{name}: {kind}{end.dtype}{_shape(end.shape)}"


def _shape(shape: Sequence[int | None] | None) -> str:
    return format_shape(None if shape is None else tuple(shape))


# -- callables --------------------------------------------------------------------------------


def _add_callables(tree: Node, report: InspectReport) -> None:
    if report.format != TF2_SAVED_MODEL:
        return
    node = tree.add("callables", heading=True)
    if not report.callables:
        node.add("there are none")
    # Signatures are callables, too, but they have been shown.
    own = [one for one in report.callables if not one.name.startswith("signatures.")]
    groups: dict[tuple[_Row, ...], list[str]] = {}
    for one in own:
        groups.setdefault(tuple(_rows(one)), []).append(glue(_call(one)))
    for rows, calls in list(groups.items())[:_MAX_GROUPS]:
        _add_rows(node.add(" or ".join(calls)), rows)
    _add_more(node, len(groups) - _MAX_GROUPS)
    if served := len(report.callables) - len(own):
        node.add(f"the signatures, as obj.signatures[name]: {served}")
    if report.more_callables:
        node.add(f"{count(report.more_callables, 'function')} of inner parts")
    if report.regularization_losses:
        node.add(count(len(report.regularization_losses), "regularization loss"))


def _call(one: CallableInfo) -> str:
    name = "obj" if one.name == "__call__" else f"obj.{one.name.removesuffix('.__call__')}"
    return f"{name}({', '.join(one.arguments)})"


class _Row(NamedTuple):
    """What is shown of the traces that take and give the same tensors."""

    values: str
    lines: tuple[str, ...]


def _rows(one: CallableInfo) -> list[_Row]:
    groups: dict[tuple[str, ...], list[TraceInfo]] = {}
    for trace in one.traces:
        lines = (
            (f"takes {_tensors(trace.inputs)}", f"gives {_tensors(trace.outputs)}")
            if trace.problem is None
            else (trace.problem,)
        )
        groups.setdefault(lines, []).append(trace)
    return [_Row(_values(traces), lines) for lines, traces in groups.items()]


def _values(traces: Sequence[TraceInfo]) -> str:
    """Returns what traces were given: `training=False or True, mask=None`."""
    combinations = {
        tuple((name, repr(value)) for name, value in trace.values.items()): None for trace in traces
    }
    given: dict[str, dict[str, None]] = {}
    for combination in combinations:
        for name, text in combination:
            given.setdefault(name, {})[text] = None
    if len(combinations) == math.prod(map(len, given.values())):
        return ", ".join(glue(f"{name}={' or '.join(texts)}") for name, texts in given.items())
    # Not every value was traced with every other one.
    return ", or ".join(
        " ".join(glue(f"{name}={text}") for name, text in combination)
        for combination in combinations
    )


def _add_rows(node: Node, rows: Sequence[_Row]) -> None:
    for number, row in enumerate(rows[:_MAX_ROWS], start=1):
        # The only one, if no value tells it from others, needs no line of its own.
        alone = len(rows) == 1 and not row.values
        head = f"with {row.values}" if row.values else f"trace {number}"
        child = node if alone else node.add(head)
        for line in row.lines:
            child.add(line)
    _add_more(node, len(rows) - _MAX_ROWS)


# -- variables and files ----------------------------------------------------------------------


def _add_variables(tree: Node, report: InspectReport, *, all_of_them: bool) -> None:
    found = report.variables
    if not found.count:
        tree.add("no variables", heading=True)
        return
    node = tree.add("variables", heading=True)
    parts = [f"{count(found.count, 'variable')} ({size(found.bytes)})"]
    trainable = f"{found.trainable:,} trainable"
    parts.append(f"{trainable} ({size(found.trainable_bytes)})" if found.trainable else trainable)
    for number, what in (
        (found.reference, "reference"),
        (found.resource, "resource"),
        (found.partitioned, "partitioned"),
        (found.not_stored, "without a value"),
    ):
        if number:
            parts.append(f"{'all' if number == found.count else f'{number:,}'} {what}")
    node.add(", ".join(map(glue, parts)))
    if all_of_them:
        for one in found.items:
            node.add(_variable(one))
        return
    child = node.add("the largest" if found.count > 1 else "it is")
    for one in sorted(found.items, key=lambda one: (-one.bytes, one.name))[:_LARGEST]:
        child.add(_variable(one))
    if found.count > _LARGEST:
        node.add("--variables lists all")


def _variable(one: VariableInfo) -> str:
    parts = f", {one.parts} parts" if one.parts > 1 else ""
    extra = "" if one.trainable else ", not trainable"
    lost = "" if one.stored else ", no value in the checkpoint"
    return f"{one.name} {glue(f'{one.dtype}{_shape(one.shape)} {size(one.bytes)}')}" + "".join(
        map(glue, (parts, extra, lost))
    )


def _add_files(tree: Node, report: InspectReport) -> None:
    if report.tables:
        node = tree.add("tables", heading=True)
        shown = [
            f"{one.name}: {glue(f'{one.key_dtype} → {one.value_dtype}')}, {one.op}"
            + (f", from {one.asset}" if one.asset else "")
            for one in report.tables
        ]
        for text in list(dict.fromkeys(shown))[:_MAX_GROUPS]:
            node.add(text)
        _add_more(node, len(dict.fromkeys(shown)) - _MAX_GROUPS)
    if report.assets:
        node = tree.add("assets", heading=True)
        for asset in report.assets[:_MAX_GROUPS]:
            node.add(f"{asset.name} ({'missing' if asset.bytes is None else size(asset.bytes)})")
        _add_more(node, len(report.assets) - _MAX_GROUPS)
    if report.attachments:
        node = tree.add("attachments", heading=True)
        for attachment in report.attachments[:_MAX_GROUPS]:
            node.add(_attachment(attachment, len(report.variants) > 1))
        _add_more(node, len(report.attachments) - _MAX_GROUPS)


def _attachment(one: AttachmentInfo, several: bool) -> str:
    place = f" of {' and '.join(map(glue, one.variants))}" if several else ""
    content = ""
    if one.message is not None:
        content = f": {json.dumps(one.message)}"
    elif one.text is not None:
        content = f": {json.dumps(one.text, ensure_ascii=False)}"
    return f"{one.key}{place} ({size(one.bytes)}){content}"


# -- ops --------------------------------------------------------------------------------------


def _add_ops(tree: Node, report: InspectReport, *, all_of_them: bool) -> None:
    node = tree.add("ops", heading=True)
    total = sum(one.count for one in report.ops)
    node.add(f"{count(total, 'node')} of {count(len(report.ops), 'op')}")
    if all_of_them:
        for one in report.ops:
            since = "in no release" if one.since is None else f"since {one.since}"
            node.add(f"{one.count:,} {one.op}, {glue(since)}")
        return
    frequent = sorted(report.ops, key=lambda one: (-one.count, one.op))[:_FREQUENT]
    node.add(", ".join(glue(f"{one.count:,} {one.op}") for one in frequent))
    if len(report.ops) > _FREQUENT:
        node.add("--ops lists all")


def _add_releases(tree: Node, report: InspectReport) -> None:
    node = tree.add("runs on", heading=True)
    if report.graph_release is None:
        _add_release(node, report.release, "by its ops")
    else:
        _add_release(node, report.release, "by the ops of its functions")
        _add_release(node, report.graph_release, "as a graph, such as in TensorFlow Serving")


def _add_release(node: Node, release: ReleaseInfo, how: str) -> None:
    text = f"TensorFlow {release.oldest}{' or older' if release.or_older else ''}"
    text += f" to {release.newest}" if release.newest else " and newer"
    child = node.add(f"{text}, {how}")
    if release.demanded_by:
        child.add(f"{release.oldest} for {_fold(release.demanded_by)}")
    if release.unknown_ops:
        ops = "the op" if len(release.unknown_ops) == 1 else "the ops"
        child.add(f"but no release has {ops} {_fold(release.unknown_ops)}")


def _add_conversion(tree: Node, found: ConversionInfo) -> None:
    node = tree.add("converts", heading=True)
    if found.possible:
        child = node.add(f"{found.direction} goes through", mark=Mark.PASS)
    else:
        child = node.add(f"{found.direction} does not go through", mark=Mark.FAIL)
    for obstacle in found.obstacles:
        places = [
            f"in {obstacle.file}" if obstacle.file else "",
            f"variant {obstacle.variant}" if obstacle.variant is not None else "",
            f"signature {obstacle.signature!r}" if obstacle.signature is not None else "",
            f"node {obstacle.node!r}" if obstacle.node is not None else "",
        ]
        place = ", ".join(filter(None, places))
        reason = child.add(f"{obstacle.message} ({place})" if place else obstacle.message)
        if obstacle.hint:
            reason.add(f"hint: {obstacle.hint}")
    if (kept := found.kept) is not None:
        parts = [count(kept.signatures, "signature") + f" in {count(kept.variants, 'variant')}"]
        for number, what in (
            (kept.update_ops, "update op"),
            (kept.regularization_losses, "regularization loss"),
        ):
            if number:
                parts.append(count(number, what))
        child.add(f"with {', '.join(map(glue, parts))}")
    if found.not_kept:
        kinds: dict[str, int] = {}
        for note in found.not_kept:
            kinds[note.kind] = kinds.get(note.kind, 0) + 1
        texts = [count(number, kind.replace("_", " ")) for kind, number in kinds.items()]
        child.add(f"without {_fold(texts)}: --json says why")
    if found.remarks:
        child.add(f"{count(len(found.remarks), 'remark')} in --json")


# -- lists ------------------------------------------------------------------------------------


def _fold(items: Sequence[str]) -> str:
    if len(items) <= _MAX_NAMES + 1:
        return ", ".join(items)
    return f"{', '.join(items[:_MAX_NAMES])}, {_more(len(items) - _MAX_NAMES)}"


def _more(number: int) -> str:
    return f"… and {number:,} more, see --json"


def _add_more(node: Node, number: int) -> None:
    if number > 0:
        node.add(_more(number))
