"""What tables hold when a model is loaded, read from the constants and files that fill them.

Two tables are the same if they map the same keys to the same values, in whatever order and from
whatever source they get them. Where that can't be read, they are if the same ops fill them from the
same values.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bridge._surfaces.bodies import Bodies
from bridge._surfaces.contents import Contents, digest
from bridge._surfaces.surface import MAX_TABLE_KEYS, SeenTable
from bridge.bundle.files import open_plain_file, plain_file_size
from bridge.graph import Graph, Tensor
from bridge.inline import called_body
from bridge.layout import ASSETS
from bridge.model import shape_from_proto
from bridge.proto import tf_pb

_FROM_TENSORS = ("InitializeTable", "LookupTableImport")
_FROM_FILE = "InitializeTableFromTextFile"

_WHOLE_LINE, _LINE_NUMBER = -2, -1  # tensorflow/core/kernels/lookup_util.h

MAX_BYTES = 1 << 26
MAX_ELEMENTS = 1 << 21
"""Of larger ones, the content counts as it is written."""

LAYOUTS: dict[int, tuple[str, str]] = {
    tf_pb.DT_BOOL: ("?", "bool_val"),
    tf_pb.DT_DOUBLE: ("<f8", "double_val"),
    tf_pb.DT_FLOAT: ("<f4", "float_val"),
    tf_pb.DT_INT32: ("<i4", "int_val"),
    tf_pb.DT_INT64: ("<i8", "int64_val"),
}

Element = bytes | int | float


@dataclass(frozen=True)
class Given:
    """A tensor that a table may be filled from.

    Attributes:
      digest: of what it is.
      constant: its value, if it is a constant.
      asset: name of the asset whose path it is, if it is one.
    """

    digest: bytes
    constant: tf_pb.TensorProto | None = None
    asset: str | None = None


@dataclass(frozen=True)
class Filling:
    """What one op puts into a table.

    Attributes:
      digest: of all of it.
      keys: the first keys, of strings and integers.
      reason: why what it puts there is not known; else empty.
    """

    digest: bytes
    keys: tuple[bytes | int, ...] = ()
    reason: str = ""


def asset_given(name: str, assets: Mapping[str, str]) -> Given:
    """Returns the path of an asset.

    Args:
      name: the asset's.
      assets: digest of each asset, by name.
    """
    return Given(digest("asset", assets.get(name, "")), asset=name if name in assets else None)


def seen_tables(found: Iterable[tuple[str, Sequence[Filling]]]) -> dict[str, SeenTable]:
    """Returns the tables of different content, by name.

    Args:
      found: the name of each table, and what fills it.
    """
    result: dict[str, SeenTable] = {}
    seen: set[str] = set()
    for name, fillings in found:
        content = digest(*sorted(filling.digest for filling in fillings)).hex()
        if content in seen:
            continue
        seen.add(content)
        keys = tuple(key for filling in fillings for key in filling.keys)[:MAX_TABLE_KEYS]
        unique, number = name, 1
        while unique in result:
            number += 1
            unique = f"{name} {number}"
        reason = next((filling.reason for filling in fillings if filling.reason), "")
        result[unique] = SeenTable(unique, content, keys, reason)
    return result


class TableReader:
    """Reads what fills the tables of a model."""

    def __init__(self, bodies: Bodies, contents: Contents, directory: Path):
        """Takes the model.

        Args:
          bodies: the functions of the graphs that are given.
          contents: digests of what these graphs compute.
          directory: where the model lies.
        """
        self._bodies = bodies
        self._contents = contents
        self._assets = directory / ASSETS
        self._fillings: dict[bytes, Filling] = {}
        """What was read before, for the same table may be met by several functions."""

    def of_graph(
        self, graph: Graph, run: Iterable[str], given: Mapping[str, Given]
    ) -> dict[str, list[Filling]]:
        """Returns what fills each table, by the name of the table's node.

        Args:
          graph: the graph.
          run: nodes; those that they depend on and that fill tables are looked at.
          given: nodes that stand for something else, by name.
        """
        tables: dict[str, list[Filling]] = {}
        for name in sorted(graph.ancestors(run)):
            node = graph.nodes[name]
            op = node.op.removesuffix("V2")
            if op in (*_FROM_TENSORS, _FROM_FILE):
                table, *content = [t for t in graph.inputs(node) if not t.is_control]
                values = [self._given(graph, tensor, given) for tensor in content]
                filling = self._filling(graph, node, op, values)
                tables.setdefault(source_of(graph, table).node, []).append(filling)
            elif (body := called_body(graph, node)) is not None:
                data = [t for t in graph.inputs(node) if not t.is_control]
                inner = self.of_function(
                    body.signature.name, [self._given(graph, tensor, given) for tensor in data]
                )
                for position, fillings in inner.items():
                    where = source_of(graph, data[position]).node
                    tables.setdefault(where, []).extend(fillings)
        return tables

    def of_function(self, name: str, given: Sequence[Given]) -> dict[int, list[Filling]]:
        """Returns what a function fills tables with, by the position of the argument.

        Args:
          name: the function.
          given: what its arguments are.
        """
        body = self._bodies[name]
        run = [*(tensor.node for tensor in body.outputs), *body.controls]
        found = self.of_graph(body.graph, run, body.given(name, given))
        places = {argument: place for place, argument in enumerate(body.arguments)}
        return {places[table]: fillings for table, fillings in found.items() if table in places}

    def _given(self, graph: Graph, tensor: Tensor, given: Mapping[str, Given]) -> Given:
        source = source_of(graph, tensor)
        if source.node in given:
            return given[source.node]
        digests = {name: value.digest for name, value in given.items()}
        (content,) = self._contents.of_tensors(graph, [tensor], digests)
        node = graph.nodes[source.node]
        constant = node.attr["value"].tensor if node.op == "Const" else None
        return Given(content, constant)

    def _filling(
        self, graph: Graph, node: tf_pb.NodeDef, op: str, values: Sequence[Given]
    ) -> Filling:
        attrs = self._contents.attrs(graph, node)
        written = digest(op, *attrs, "from", *(value.digest for value in values))
        if written not in self._fillings:
            self._fillings[written] = self._read(graph, node, op, values) or Filling(written)
        return self._fillings[written]

    def _read(
        self, graph: Graph, node: tf_pb.NodeDef, op: str, values: Sequence[Given]
    ) -> Filling | None:
        """Returns what an op puts into a table; None where the pairs are not known."""
        pairs: list[tuple[Element, Element]] | None = None
        if op in _FROM_TENSORS and len(values) == 2:
            keys, found = (elements(v.constant) if v.constant else None for v in values)
            if keys is not None and found is not None and len(keys) == len(found):
                pairs = list(zip(keys, found, strict=True))
        elif op == _FROM_FILE and values and values[0].asset is not None:
            pairs = self._lines(graph, node, values[0].asset)
        return None if pairs is None else filling_of(pairs)

    def _lines(
        self, graph: Graph, node: tf_pb.NodeDef, asset: str
    ) -> list[tuple[Element, Element]] | None:
        """Returns what the lines of a file make of a table; None where that can't be told."""
        path = self._assets / asset  # one of those that were found there
        if plain_file_size(path) > MAX_BYTES:
            return None
        with open_plain_file(path) as file:
            lines = file.read().replace(b"\r", b"").split(b"\n")
        if lines and not lines[-1]:
            lines.pop()
        if "offset" in node.attr:  # the op of old releases has none
            lines = lines[max(0, node.attr["offset"].i) :]
        if (size := graph.attr(node, "vocab_size").i) >= 0:
            lines = lines[:size]
        delimiter = graph.attr(node, "delimiter").s or b"\t"
        columns = graph.attr(node, "key_index").i, graph.attr(node, "value_index").i
        pairs: list[tuple[Element, Element]] = []
        for number, line in enumerate(lines):
            parts = line.split(delimiter)
            if max(columns) >= len(parts) or min(columns) < _WHOLE_LINE:
                return None
            key, value = (
                number
                if column == _LINE_NUMBER
                else line
                if column == _WHOLE_LINE
                else parts[column]
                for column in columns
            )
            pairs.append((key, value))
        return pairs


def filling_of(pairs: Sequence[tuple[Element, Element]]) -> Filling:
    """Returns what keys and their values are in a table."""
    known = [key for key, _ in pairs[:MAX_TABLE_KEYS] if isinstance(key, bytes | int)]
    return Filling(_digest_of(pairs), tuple(known))


def source_of(graph: Graph, tensor: Tensor) -> Tensor:
    """Returns the tensor that others hand on as it is."""
    while (node := graph.nodes[tensor.node]).op == "Identity":
        tensor = next(graph.inputs(node))
    return tensor


def _digest_of(pairs: Iterable[tuple[Element, Element]]) -> bytes:
    """Returns one digest for all orders of the same pairs, as numbers or as their digits."""
    result = hashlib.sha256()
    for key, value in sorted((_text(key), _text(value)) for key, value in pairs):
        for text in (key, value):
            result.update(len(text).to_bytes(8, "little") + text)
    return result.digest()


def _text(element: Element) -> bytes:
    return element if isinstance(element, bytes) else repr(element).encode()


def elements(tensor: tf_pb.TensorProto) -> list[Element] | None:
    """Returns the elements of a tensor, flat; None for other types, and for one of very many.

    A tensor may leave out elements at its end that repeat the last one, or are all zero
    (tensorflow/core/framework/tensor.cc, FromProtoField).
    """
    shape = shape_from_proto(tensor.tensor_shape)
    if shape is None or None in shape:
        return None
    count = math.prod(size for size in shape if size is not None)
    if count > MAX_ELEMENTS:
        return None
    found: list[Element]
    zero: Element = 0
    if tensor.dtype == tf_pb.DT_STRING:
        found, zero = list(tensor.string_val), b""
    elif tensor.dtype in LAYOUTS:
        layout, field = LAYOUTS[tensor.dtype]
        if tensor.tensor_content:
            if len(tensor.tensor_content) != count * np.dtype(layout).itemsize:
                return None
            found = np.frombuffer(tensor.tensor_content, layout).tolist()
        else:
            found = np.asarray(list(getattr(tensor, field)), layout).tolist()
    else:
        return None
    return (found + (found[-1:] or [zero]) * (count - len(found)))[:count]


def keys_of(tables: Iterable[SeenTable]) -> tuple[bytes | int, ...]:
    """Returns some keys of each table, MAX_TABLE_KEYS at most."""
    return tuple(dict.fromkeys(_turns([table.keys for table in tables])))[:MAX_TABLE_KEYS]


def _turns(lists: Sequence[Sequence[bytes | int]]) -> Iterator[bytes | int]:
    """Yields the first of each, then the second of each, and so on."""
    for place in range(max(map(len, lists), default=0)):
        for one in lists:
            if place < len(one):
                yield one[place]
