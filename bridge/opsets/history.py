"""Since which TensorFlow release there are ops, attributes of ops, and types that they take.

op-history.txt is made of the op registries of real releases by tools/op_history.py, which says what
a line of it means.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bridge.dtypes import dtype_name
from bridge.opsets import CURRENT, load_opset
from bridge.proto import tf_pb


@dataclass(frozen=True, slots=True)
class OpHistory:
    """The history of an op.

    Attributes:
      since: the oldest release on file that has it.
      last: the newest release that has it, where none after has; else None.
      attrs: for each attribute that came later, the release.
      types: for each attribute, the types (as `dtype_name` prints them) that it has taken since a
        later release only, with that release.
    """

    since: str
    last: str | None = None
    attrs: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """The history of all ops.

    Attributes:
      releases: those on file, oldest first.
      ops: by name.
    """

    releases: Sequence[str]
    ops: Mapping[str, OpHistory]

    def since(self, op: str) -> str | None:
        """Returns the oldest release that has an op; None where none has."""
        found = self.ops.get(op)
        return None if found is None else found.since

    def last(self, op: str) -> str | None:
        """Returns the newest release that has an op which no later one has."""
        found = self.ops.get(op)
        return None if found is None else found.last

    def demands_of(self, node: tf_pb.NodeDef) -> Iterator[tuple[str, str]]:
        """Yields what a node needs beside its op, each with the release that it came with.

        An attribute that has its default is left out: what loads a graph drops it.
        """
        found = self.ops.get(node.op)
        if found is None:
            return
        for attr, release in found.attrs.items():
            if attr in node.attr and not _is_default(node, attr):
                yield release, f"attribute {attr} of op {node.op}"
        for attr, types in found.types.items():
            if attr in node.attr:
                value = node.attr[attr]
                for dtype in (value.type, *value.list.type):
                    if (name := dtype_name(dtype)) in types:
                        yield types[name], f"{name} for op {node.op}"


def _is_default(node: tf_pb.NodeDef, name: str) -> bool:
    op_def = load_opset(CURRENT).get(node.op)
    for attr in op_def.attr if op_def is not None else ():
        if attr.name == name and attr.HasField("default_value"):
            return node.attr[name] == attr.default_value
    return False


@functools.cache
def load_history() -> History:
    """Reads op-history.txt."""
    text = Path(__file__).with_name("op-history.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    releases = lines[0].split()
    return History(releases, dict(_read(line, releases[0]) for line in lines[1:]))


def _read(line: str, oldest: str) -> tuple[str, OpHistory]:
    op, *words = line.split()
    since, last = oldest, None
    attrs: dict[str, str] = {}
    types: dict[str, dict[str, str]] = {}
    for word in words:
        what, _, release = word.rpartition("=")
        attr, colon, names = what.partition(":")
        if not what:
            if release.startswith("-"):
                last = release[1:]
            else:
                since = release
        elif colon:
            types.setdefault(attr, {}).update(dict.fromkeys(names.split(","), release))
        else:
            attrs[attr] = release
    return op, OpHistory(since, last, attrs, types)
