"""Reads the variables of a module: what the graphs declare, and where the checkpoint has it."""

from __future__ import annotations

from pathlib import Path

from bridge.bundle import BundleIndex, Entry, read_index
from bridge.dtypes import dtype_name
from bridge.errors import MalformedError
from bridge.graph import Graph
from bridge.hub_module.meta_graph import VariantSource
from bridge.model import ByteRange, SaveSlice, Shape, Tags, Variable, shape_from_proto
from bridge.ops import REFERENCE_VARIABLES, RESOURCE_VARIABLE
from bridge.proto import tf_pb
from bridge.report import Report

_Used = dict[str, set[tuple[int, ...] | None]]
"""For each key of the checkpoint, the offsets of the parts that variables take; None: the whole."""


def read_variables(
    prefix: Path, sources: dict[Tags, VariantSource], report: Report
) -> tuple[dict[str, Variable], list[Path]]:
    """Finds every declared variable in the checkpoint.

    A variant with a variable that the checkpoint lacks is taken out of `sources`, and reported:
    the old client can't instantiate it either. Such a `{train}` variant comes from a module that
    was exported from its inference variant.

    Args:
      prefix: start of the checkpoint's file names.
      sources: the variants; at least one is left.
      report: takes what is left out.

    Returns:
      The variables by name, sorted, and the data shards.

    Raises:
      MalformedError: no variant has all its variables in the checkpoint, or graph and checkpoint
        disagree.
    """
    names = sorted({name for source in sources.values() for name in source.declared})
    if not names:
        if prefix.with_name(f"{prefix.name}.index").exists():
            _report_dead_entries(read_index(prefix), {}, report)
        return {}, []
    index = read_index(prefix)
    for source in sources.values():
        _check_ops(source)
    _drop_variants_without_values(sources, index, report)
    used: _Used = {}
    variables: dict[str, Variable] = {}
    for name in names:
        for tags, source in sources.items():
            if name in source.declared:
                variable = _read_variable(name, source, index, used)
                known = variables.setdefault(name, variable)
                _merge(known, variable, source)
                known.variants.add(tags)
    _report_dead_entries(index, used, report)
    return variables, list(index.shards)


def _check_ops(source: VariantSource) -> None:
    graph = source.variant.graph
    for name in source.declared:
        op = graph.node(name).op
        if op not in REFERENCE_VARIABLES | {RESOURCE_VARIABLE}:
            raise MalformedError(
                f"`variables` lists the node, but its op is {op}", where=graph.at(name)
            )


def _drop_variants_without_values(
    sources: dict[Tags, VariantSource], index: BundleIndex, report: Report
) -> None:
    missing: dict[Tags, list[str]] = {}
    for tags, source in sources.items():
        keys = {name: _checkpoint_key(name, d) for name, d in source.declared.items()}
        missing[tags] = sorted(name for name, key in keys.items() if key not in index.entries)
    if all(missing.values()):
        tags, names = next(iter(missing.items()))
        raise MalformedError(
            f"the checkpoint has no value for the variable {names[0]!r}",
            where=sources[tags].variant.graph.at(names[0]),
        )
    for tags, names in missing.items():
        if names:
            label = sources.pop(tags).variant.label
            others = f" and {len(names) - 1} more" if len(names) > 1 else ""
            report.drop(
                "variant",
                label,
                f"the checkpoint has no value for its variable {names[0]!r}{others}; the old "
                "client can't instantiate it either",
            )


def _checkpoint_key(name: str, definition: tf_pb.VariableDef) -> str:
    save_slice = read_save_slice(definition)
    return save_slice.full_name if save_slice else name


def _merge(known: Variable, variable: Variable, source: VariantSource) -> None:
    """Adds what another variant says of a variable."""
    if (known.dtype, known.shape, known.data) != (variable.dtype, variable.shape, variable.data):
        raise MalformedError(
            "two variants declare the variable otherwise",
            where=source.variant.graph.at(variable.name),
        )
    known.trainable |= variable.trainable
    known.was_ref |= variable.was_ref
    known.synchronization = known.synchronization or variable.synchronization
    known.aggregation = known.aggregation or variable.aggregation


def _read_variable(name: str, source: VariantSource, index: BundleIndex, used: _Used) -> Variable:
    graph = source.variant.graph
    definition = source.declared[name]
    node = graph.node(name)
    save_slice, key = read_save_slice(definition), _checkpoint_key(name, definition)
    entry = index.entries[key]
    data, shape = _stored_value(entry, save_slice, name, graph)
    used.setdefault(key, set()).add(save_slice.var_offset if save_slice else None)
    dtype = graph.attr(node, "dtype").type
    declared_shape = shape_from_proto(graph.attr(node, "shape").shape)
    # Where a reference variable's shape was not validated, [] may stand for an unknown shape.
    if declared_shape == () and node.op in REFERENCE_VARIABLES:
        declared_shape = None
    if entry.dtype != dtype or not _fits(shape, declared_shape):
        raise MalformedError(
            f"the graph says {dtype_name(dtype)} {declared_shape}, the checkpoint holds "
            f"{dtype_name(entry.dtype)} {shape}",
            where=graph.at(name),
        )
    return Variable(
        name=name,
        dtype=dtype,
        shape=shape,
        trainable=name in source.variant.trainable_variables,
        data=data,
        was_ref=node.op in REFERENCE_VARIABLES,
        save_slice=save_slice,
        synchronization=definition.synchronization,
        aggregation=definition.aggregation,
    )


def _fits(shape: tuple[int, ...], declared: Shape) -> bool:
    return declared is None or (
        len(shape) == len(declared)
        and all(wanted in (None, size) for size, wanted in zip(shape, declared, strict=True))
    )


def read_save_slice(definition: tf_pb.VariableDef) -> SaveSlice | None:
    """Returns what part of a partitioned variable a variable is, if it is one."""
    if not definition.HasField("save_slice_info_def"):
        return None
    info = definition.save_slice_info_def
    return SaveSlice(
        info.full_name, tuple(info.full_shape), tuple(info.var_offset), tuple(info.var_shape)
    )


def _stored_value(
    entry: Entry, save_slice: SaveSlice | None, name: str, graph: Graph
) -> tuple[ByteRange, tuple[int, ...]]:
    """Finds the bytes of a whole variable, or of the slice that a partition holds."""
    if entry.data is not None:
        # A partitioned variable of one part is saved whole.
        if save_slice is None or entry.shape == save_slice.var_shape:
            return entry.data, entry.shape
        raise MalformedError(
            "the graph holds a slice, the checkpoint a whole variable", where=graph.at(name)
        )
    if save_slice is None:
        raise MalformedError(
            "the checkpoint holds slices, the graph a whole variable", where=graph.at(name)
        )
    for part in entry.slices:
        if part.offsets == save_slice.var_offset and part.shape == save_slice.var_shape:
            return part.data, part.shape
    raise MalformedError(
        f"the checkpoint has no slice {save_slice.var_offset} of {save_slice.full_name!r}",
        where=graph.at(name),
    )


def _report_dead_entries(index: BundleIndex, used: _Used, report: Report) -> None:
    for key, entry in sorted(index.entries.items()):
        offsets = used.get(key)
        if offsets is None:
            report.drop("checkpoint_entry", key, "no variable of any variant has this name")
            continue
        for part in entry.slices:
            if part.offsets not in offsets:
                place = ",".join(
                    f"{offset}:{offset + size}"
                    for offset, size in zip(part.offsets, part.shape, strict=True)
                )
                report.drop(
                    "checkpoint_entry", f"{key}[{place}]", "no variable of any variant is this part"
                )
