"""The variables and tables of graphs without objects: TF1 Hub modules and TF1 SavedModels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bridge._inspect.endpoints import as_list
from bridge._inspect.meta_graphs import assets_of, node_of, where_of
from bridge._inspect.results import TableInfo, VariableInfo
from bridge.bundle import BundleIndex, Entry
from bridge.collection_def import messages
from bridge.dtypes import dtype_name, element_bytes
from bridge.hub_module.names import GLOBAL_VARIABLES, TRAINABLE_VARIABLES
from bridge.hub_module.variables import read_save_slice
from bridge.model import Shape, shape_from_proto
from bridge.ops import REFERENCE_VARIABLES, RESOURCE_VARIABLE
from bridge.proto import tf_pb

_MAX_BYTES = (1 << 63) - 1
"""A stranger's shape may say more, of which nothing can be stored."""

_VARIABLES = REFERENCE_VARIABLES | {RESOURCE_VARIABLE}


# -- variables --------------------------------------------------------------------------------


@dataclass
class _Found:
    """What the graphs say of a variable.

    Attributes:
      dtype: DataType number.
      shape: its whole shape.
      is_ref: whether a graph has it as a reference variable.
      trainable: whether one trains it.
      parts: where each part starts; a variable in one piece has one part.
    """

    dtype: int
    shape: Shape
    is_ref: bool
    trainable: bool = False
    parts: set[tuple[int, ...]] = field(default_factory=set)


def read_v1_variables(
    meta_graphs: Sequence[tf_pb.MetaGraphDef], index: BundleIndex | None, path: Path
) -> list[VariableInfo]:
    """Describes the variables of some graphs, which share one checkpoint.

    They are those in the collection `variables`; without that, all that a graph has.

    Raises:
      MalformedError: a collection is broken.
    """
    found: dict[str, _Found] = {}
    for meta_graph in meta_graphs:
        _collect(meta_graph, path, found)
    entries = {} if index is None else index.entries
    return [_variable(name, one, entries.get(name)) for name, one in found.items()]


def _collect(meta_graph: tf_pb.MetaGraphDef, path: Path, found: dict[str, _Found]) -> None:
    where = where_of(meta_graph, path)
    nodes = {node.name: node for node in meta_graph.graph_def.node if node.op in _VARIABLES}
    declared = {
        node_of(one.variable_name): one
        for one in messages(tf_pb.VariableDef, meta_graph, GLOBAL_VARIABLES, where)
    } or {name: tf_pb.VariableDef(variable_name=name) for name in nodes}
    trainable = {
        node_of(one.variable_name)
        for one in messages(tf_pb.VariableDef, meta_graph, TRAINABLE_VARIABLES, where)
    }
    for name, definition in declared.items():
        node = nodes.get(name, tf_pb.NodeDef())
        part = read_save_slice(definition)
        shape = shape_from_proto(node.attr["shape"].shape) if "shape" in node.attr else None
        known = found.setdefault(
            part.full_name if part else name,
            _Found(node.attr["dtype"].type, part.full_shape if part else shape, is_ref=False),
        )
        known.parts.add(part.var_offset if part else ())
        known.is_ref |= node.op in REFERENCE_VARIABLES
        known.trainable |= name in trainable


def _variable(name: str, found: _Found, entry: Entry | None) -> VariableInfo:
    return with_entry(
        VariableInfo(
            name=name,
            path="",
            dtype=dtype_name(found.dtype),
            shape=as_list(found.shape),
            bytes=estimated_bytes(found.dtype, found.shape),
            trainable=found.trainable,
            kind="reference" if found.is_ref else "resource",
            parts=len(found.parts),
            stored=False,
        ),
        entry,
    )


def estimated_bytes(dtype: int, shape: Shape) -> int:
    """Returns how many bytes a value has, as far as dtype and shape say; else 0."""
    total = 0 if shape is None else element_bytes(dtype) or 0
    for size in shape or ():
        total = min(total * (size or 0), _MAX_BYTES)
    return total


def with_entry(variable: VariableInfo, entry: Entry | None) -> VariableInfo:
    """Returns a variable with what the checkpoint says of it, if it has it."""
    if entry is None:
        return variable
    parts = [entry.data] if entry.data is not None else [part.data for part in entry.slices]
    return replace(
        variable,
        dtype=dtype_name(entry.dtype),
        shape=list(entry.shape),
        bytes=sum(part.size for part in parts),
        stored=True,
    )


# -- tables -----------------------------------------------------------------------------------


def is_table(op: str) -> bool:
    """True for ops that make a lookup table (core/ops/lookup_ops.cc)."""
    return "HashTable" in op


def read_v1_tables(meta_graphs: Iterable[tf_pb.MetaGraphDef], path: Path) -> list[TableInfo]:
    """Describes the tables of some graphs.

    Raises:
      MalformedError: a collection is broken.
    """
    result: list[TableInfo] = []
    for meta_graph in meta_graphs:
        where = where_of(meta_graph, path)
        assets = assets_of(meta_graph, path)
        filled: dict[str, str] = {}
        for node in meta_graph.graph_def.node:
            if node.op.startswith("InitializeTableFromTextFile") and len(node.input) > 1:
                table, file = map(node_of, node.input[:2])
                if file in assets:
                    filled[table] = assets[file]
        result += [
            table_info(node, node.name, where.variant, filled.get(node.name))
            for node in meta_graph.graph_def.node
            if is_table(node.op)
        ]
    return result


def table_info(node: tf_pb.NodeDef, name: str, variant: str | None, asset: str | None) -> TableInfo:
    """Describes the table that a node makes."""
    key, value = (dtype_name(node.attr[attr].type) for attr in ("key_dtype", "value_dtype"))
    return TableInfo(name, variant, node.op, key, value, asset)
