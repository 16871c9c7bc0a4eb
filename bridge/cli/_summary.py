"""What a conversion did, as a tree for people. The whole story is in the JSON form."""

from __future__ import annotations

import json
from collections.abc import Sequence

from bridge.cli._terminal import Style, plain
from bridge.cli._tree import Node, glue, render, wrap
from bridge.model import DEFAULT
from bridge.report import (
    CallableReport,
    Counts,
    Note,
    Report,
    SignatureReport,
    Verification,
)

_MAX_ITEMS = 6
"""Of a longer list, so many are shown."""

_MAX_GROUPS = 12


def summary(report: Report, dest: str, style: Style) -> str:
    """Returns the text that ends a conversion.

    Args:
      report: what was done.
      dest: DEST as the user wrote it.
      style: what the terminal can show.
    """
    producer = f", which TensorFlow {report.producer} wrote," if report.producer else ""
    dry_run = report.destination is None
    head = (
        f"Read and checked {report.source}{producer} in {report.seconds:.2f} s; this was a dry "
        "run, nothing was written"
        if dry_run
        else f"Converted {report.source}{producer} in {report.seconds:.2f} s"
    )
    tree = Node(f"{dest} would hold" if dry_run else dest, heading=True)
    _add_kept(tree, report.kept)
    _add_callables(tree, report.callables)
    _add_signatures(tree, report.signatures)
    _add_list(tree, "serving signatures", report.serving_signatures)
    _add_notes(tree, "not kept", report.not_kept)
    _add_notes(tree, "remarks", report.remarks)
    _add_verification(tree, report.verification)
    if report.not_verified:
        tree.add("not verified", heading=True).add(report.not_verified)
    lines = [*wrap(head, style.width + 2, style), render(tree, style).rstrip("\n")]
    path = json.dumps(dest, ensure_ascii=False)
    use = f"obj = tf.saved_model.load({path})"
    if report.direction == "to-hub-module":
        use = f"in TensorFlow 1, module = hub.Module({path})"
    hint = "leave --dry-run out to write it" if dry_run else use
    lines.append(f"{style.cyan('hint:')} {plain(hint)}")
    return "\n".join(lines) + "\n"


def _add_verification(tree: Node, verification: Verification | None) -> None:
    if verification is None:
        return
    node = tree.add(f"verified in {verification.seconds:.1f} s", heading=True)
    node.add(verification.decided_by)
    for runtime in verification.runtimes:
        node.add(runtime)
    if verification.not_compared:
        node.add(f"{count(verification.not_compared, 'output')} could not be compared")


# -- what was kept ----------------------------------------------------------------------------


def _add_kept(tree: Node, kept: Counts) -> None:
    node = tree.add("kept", heading=True)
    if kept.variables:
        parts = [f"{count(kept.variables, 'variable')} ({size(kept.variable_bytes)})"]
        parts.append(f"{kept.trainable_variables} trainable")
        if kept.reference_variables:
            parts.append(f"{kept.reference_variables} were reference variables")
        if kept.partitioned_variables:
            parts.append(f"slices of {kept.partitioned_variables} partitioned")
        node.add(", ".join(parts))
    else:
        node.add("no variables")
    node.add(f"{count(kept.signatures, 'signature')} in {count(kept.variants, 'variant')}")
    for number, what in (
        (kept.update_ops, "update op"),
        (kept.regularization_losses, "regularization loss"),
        (kept.tables, "table"),
        (kept.attachments, "attachment"),
    ):
        if number:
            node.add(count(number, what))
    if kept.assets:
        node.add(f"{count(kept.assets, 'asset')} ({size(kept.asset_bytes)})")


def count(number: int, what: str) -> str:
    """Returns `1 table`, `2 tables`, `2 losses`, `2 entries`."""
    return f"{number:,} {what if number == 1 else plural(what)}"


def plural(what: str) -> str:
    """Returns the plural of an English word that has a regular one."""
    if what.endswith("s"):
        return f"{what}es"
    return f"{what[:-1]}ies" if what.endswith("ry") else f"{what}s"


def size(number: int) -> str:
    """Returns `512 B`, `13.9 KiB`, `1.0 GiB`."""
    if number < 1024:
        return f"{number} B"
    unit = min((number.bit_length() - 1) // 10, 4)
    return f"{number / 1024**unit:.1f} {'KMGT'[unit - 1]}iB"


# -- callables --------------------------------------------------------------------------------


def _add_callables(tree: Node, callables: Sequence[CallableReport]) -> None:
    if not callables:
        return
    node = tree.add("callables", heading=True)
    same = len({tuple(sorted(one.training.items())) for one in callables}) == 1
    # What is called most comes first: the root, then its signatures.
    shown = sorted(callables, key=lambda one: one.name != "__call__")[:_MAX_GROUPS]
    for one in shown:
        child = node.add(_call(one))
        if one.inputs:
            child.add(f"takes {_fold([glue(text) for text in one.inputs])}")
        child.add(f"gives {_tensors(one.outputs)}")
        if not same:
            _add_training(child, one)
    if len(callables) > len(shown):
        node.add(_more(len(callables) - len(shown)))
    if same:
        _add_training(node, callables[0])


def _add_training(node: Node, one: CallableReport) -> None:
    for value, meaning in sorted(one.training.items()):
        node.add(f"training={value} {meaning}")


def _call(one: CallableReport) -> str:
    """Returns how to call it: `obj.name(images, training=False)`."""
    path = "obj"
    for part in one.name.split("."):
        if part != "__call__":
            path = f"{path}.{part}" if part.isidentifier() else f"getattr({path}, {part!r})"
    names = [description.split(": ")[0] for description in one.inputs]
    given = names if len(names) <= 1 else ["{" + _fold(names) + "}"]
    default = "False" if "False" in one.training else "True"
    return f"{path}({', '.join([*given, f'training={default}'])})"


# -- signatures -------------------------------------------------------------------------------


def _add_signatures(tree: Node, signatures: Sequence[SignatureReport]) -> None:
    """Adds what a module computes; a signature that is the same in several variants, once."""
    if not signatures:
        return
    node = tree.add("signatures", heading=True)
    groups: dict[tuple[str, ...], list[str]] = {}
    for one in sorted(signatures, key=lambda one: one.name != DEFAULT):
        groups.setdefault((one.name, _tensors(one.inputs), _tensors(one.outputs)), []).append(
            one.variant
        )
    for (name, inputs, outputs), variants in list(groups.items())[:_MAX_GROUPS]:
        child = node.add(f"{name} of variant {' and '.join(variants)}")
        if inputs:
            child.add(f"takes {inputs}")
        child.add(f"gives {outputs}")
    if len(groups) > _MAX_GROUPS:
        node.add(_more(len(groups) - _MAX_GROUPS))


def _tensors(descriptions: Sequence[str]) -> str:
    shown = sorted(descriptions, key=lambda text: not text.startswith("default: "))
    return _fold([glue(text) for text in shown])


# -- lists and notes --------------------------------------------------------------------------


def _add_list(tree: Node, title: str, items: Sequence[str]) -> None:
    if items:
        tree.add(title, heading=True).add(_fold(items))


def _fold(items: Sequence[str]) -> str:
    if len(items) <= _MAX_ITEMS + 1:
        return ", ".join(items)
    return ", ".join([*items[:_MAX_ITEMS], _more(len(items) - _MAX_ITEMS)])


def _more(number: int) -> str:
    return f"… and {number:,} more, see --json"


def _add_notes(tree: Node, title: str, notes: Sequence[Note]) -> None:
    """Adds notes; those of one kind and reason stand together."""
    if not notes:
        return
    node = tree.add(title, heading=True)
    groups: dict[tuple[str, str], list[Note]] = {}
    for note in notes:
        groups.setdefault((note.kind, note.reason), []).append(note)
    for (kind, reason), group in list(groups.items())[:_MAX_GROUPS]:
        names = list(dict.fromkeys(note.name for note in group))
        what = kind.replace("_", " ")
        what = what if len(names) == 1 else f"{len(names):,} {plural(what)}"
        variants = list(dict.fromkeys(note.variant for note in group if note.variant is not None))
        place = f" of variant {' and '.join(variants)}" if variants else ""
        node.add(f"{what} {_fold(names)}{place}").add(reason)
    if len(groups) > _MAX_GROUPS:
        node.add(_more(len(groups) - _MAX_GROUPS))
