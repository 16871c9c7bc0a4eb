"""What the tables of a SavedModel hold that can be changed: their content is in the checkpoint.

A MutableHashTable is saved as its pairs, a DenseHashTable as all its slots, of which most are
empty (tensorflow/python/ops/lookup_ops.py).
"""

from __future__ import annotations

import math

import numpy as np

from bridge._surfaces.bodies import Bodies, OpenBody
from bridge._surfaces.contents import digest
from bridge._surfaces.tables import (
    LAYOUTS,
    MAX_BYTES,
    MAX_ELEMENTS,
    Element,
    Filling,
    elements,
    filling_of,
    source_of,
)
from bridge.bundle import BundleIndex
from bridge.bundle.files import open_plain_file
from bridge.bundle.strings import decode_strings
from bridge.errors import MalformedError, Where
from bridge.graph import Graph
from bridge.proto import tf_pb
from bridge.saved_model.object_tree import ObjectTree

_ATTRIBUTE = ".ATTRIBUTES/table"
_DENSE = "MutableDenseHashTable"
_TABLES = ("MutableHashTable", _DENSE)

_Row = tuple[Element, ...]


def read_saved_table(
    tree: ObjectTree, graph: Graph, bodies: Bodies, index: BundleIndex | None, number: int
) -> Filling:
    """Returns what a table holds that no function fills; where that is not known, it says why.

    Args:
      tree: the objects.
      graph: has the library.
      bodies: its functions.
      index: the checkpoint.
      number: of the table.

    Raises:
      MalformedError: a function that makes it is not there, or its content is broken.
      UnsafeError: a shard is a link, or no plain file.
    """
    name = tree.path(number)
    unread = digest("unread", name)
    node = _creating(tree, graph, bodies, number)
    if node is None:
        return Filling(unread, reason="nobody knows what this object holds")
    body, made = node
    skipped = _skipped(body, made)
    keys, values = (_rows(index, f"{name}/{_ATTRIBUTE}-{part}") for part in ("keys", "values"))
    if keys is None or values is None or len(keys) != len(values) or skipped is None:
        return Filling(unread, reason=f"what this {made.op} holds can't be read from the files")
    pairs = [
        (_element(key), _element(value))
        for key, value in zip(keys, values, strict=True)
        if key not in skipped
    ]
    return filling_of(pairs)


def _creating(
    tree: ObjectTree, graph: Graph, bodies: Bodies, number: int
) -> tuple[OpenBody, tf_pb.NodeDef] | None:
    """Returns the node that makes a table, and the function where it stands."""
    functions = tree.concrete_functions(tree.child(number, "_create_resource"))
    for name in functions:  # grows while it runs: a model that is saved again calls the first one's
        if name not in graph.functions:
            raise MalformedError(f"there is no function {name!r}", where=tree.where)
        body = bodies[name]
        for node in body.graph.nodes.values():
            if node.op.startswith(_TABLES):
                return body, node
            functions += (f for f in body.graph.called_functions(node) if f not in functions)
    return None


def _skipped(body: OpenBody, node: tf_pb.NodeDef) -> set[_Row] | None:
    """Returns the keys of slots that hold nothing; None where they are not known."""
    found: set[_Row] = set()
    if not node.op.startswith(_DENSE):
        return found
    for tensor in list(body.graph.inputs(node))[:2]:  # the empty key and the deleted one
        constant = body.graph.nodes[source_of(body.graph, tensor).node]
        key = elements(constant.attr["value"].tensor) if constant.op == "Const" else None
        if key is None:
            return None
        found.add(tuple(key))
    return found


def _element(row: _Row) -> Element:
    return row[0] if len(row) == 1 else repr(row).encode()


def _rows(index: BundleIndex | None, key: str) -> list[_Row] | None:
    """Returns a tensor of the checkpoint by rows; None for one that is not there, or is too big."""
    entry = None if index is None else index.entries.get(key)
    if index is None or entry is None or entry.data is None or not entry.shape:
        return None
    count = math.prod(entry.shape)
    if not count:
        return []
    if count > MAX_ELEMENTS or entry.data.size > MAX_BYTES:
        return None
    path = index.shards[entry.data.shard]
    with open_plain_file(path) as file:
        file.seek(entry.data.offset)
        stored = file.read(entry.data.size)
    flat: list[Element]
    if entry.dtype == tf_pb.DT_STRING:
        try:
            flat = list(decode_strings(stored, count, entry.data.crc32c))
        except ValueError as error:
            raise MalformedError(
                f"the strings {key!r} are broken: {error}", where=Where(path)
            ) from error
    elif known := LAYOUTS.get(entry.dtype):
        layout, _ = known
        if len(stored) != count * np.dtype(layout).itemsize:
            return None
        flat = np.frombuffer(stored, layout).tolist()
    else:
        return None
    size = math.prod(entry.shape[1:])
    return [tuple(flat[i * size : (i + 1) * size]) for i in range(entry.shape[0])]
