"""Reads a TF1 Hub module directory into a Model.

The format is that of tensorflow_hub 0.12 (native_module.py, saved_model_lib.py): a ModuleDef, a
SavedModel with one MetaGraphDef per graph variant, one checkpoint, and asset files.
"""

from __future__ import annotations

import os
from io import BufferedReader
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from bridge.bundle import BundleIndex, Entry, read_index
from bridge.bundle.files import open_plain_file, plain_file_size
from bridge.dtypes import dtype_name
from bridge.errors import (
    MalformedError,
    SourceNotFoundError,
    UnsupportedError,
    Where,
    WrongKindError,
)
from bridge.graph import Graph
from bridge.hub_module.meta_graph import VariantSource, read_meta_graph
from bridge.model import (
    Asset,
    ByteRange,
    Model,
    SaveSlice,
    Shape,
    Tags,
    Variable,
    format_tags,
    shape_from_proto,
)
from bridge.ops import REFERENCE_VARIABLES, RESOURCE_VARIABLE
from bridge.proto import hub_pb, tf_pb
from bridge.report import Report

MODULE_DEF = "tfhub_module.pb"
SAVED_MODEL = "saved_model.pb"
ASSETS = "assets"
VARIABLES = "variables"

# protobuf itself reads no message over 2 GiB.
MAX_PROTO_BYTES = (2 << 30) - 1

_KNOWN_ENTRIES = frozenset({MODULE_DEF, SAVED_MODEL, ASSETS, "assets.extra", VARIABLES})

_Used = dict[str, set[tuple[int, ...] | None]]
"""By key of the checkpoint, the offsets of the parts that variables hold; None for the whole."""

_Proto = TypeVar("_Proto", bound=Message)


def read_hub_module(directory: Path, report: Report) -> Model:
    """Reads a module.

    Args:
      directory: where it lies.
      report: takes what the model can't hold.

    Returns:
      The model. It refers to the files of the directory, which must stay until it is written.

    Raises:
      WrongKindError: the directory holds no TF1 Hub module.
      MalformedError: it holds a broken one.
      UnsupportedError: a format, feature, collection or op that is not known.
      UnsafeError: a link, or a name that leaves the module.
    """
    _check_module_def(directory)
    path = directory / SAVED_MODEL
    saved_model = _read_proto(tf_pb.SavedModel, path)
    if not saved_model.meta_graphs:
        raise MalformedError("it holds no graph", where=Where(path))
    sources: dict[Tags, VariantSource] = {}
    for meta_graph in saved_model.meta_graphs:
        source = read_meta_graph(meta_graph, path, report)
        tags = source.variant.tags
        if tags in sources:
            raise MalformedError(f"two graphs have the tags {format_tags(tags)}", where=Where(path))
        sources[tags] = source
    variables, shards = _read_variables(directory, sources, report)
    first = saved_model.meta_graphs[0]
    model = Model(
        source=directory,
        variants={tags: source.variant for tags, source in sources.items()},
        variables=variables,
        assets=_read_assets(directory, sources),
        shards=shards,
        versions=first.graph_def.versions,
        producer=first.meta_info_def.tensorflow_version,
    )
    _report_leftovers(directory, shards, report)
    return model


def _read_proto(message: type[_Proto], path: Path) -> _Proto:
    if not os.path.lexists(path):
        raise MalformedError("the file is missing", where=Where(path))
    if path.is_dir():
        raise MalformedError("a directory stands where the file should", where=Where(path))
    try:
        # The directory was checked for links, but it may have changed since: none is followed here.
        with open_plain_file(path) as plain, BufferedReader(plain) as file:
            size = os.fstat(plain.fileno()).st_size
            if size > MAX_PROTO_BYTES:
                raise MalformedError(
                    f"{size} bytes are more than a protobuf holds", where=Where(path)
                )
            return message.FromString(file.read(size))
    except OSError as error:
        raise SourceNotFoundError(
            f"can't read the file: {error.strerror}", where=Where(path)
        ) from error
    except DecodeError as error:
        raise MalformedError(
            "it is truncated or no protobuf",
            where=Where(path),
            hint="fetch or unpack the module again",
        ) from error


def _check_module_def(directory: Path) -> None:
    path = directory / MODULE_DEF
    if not path.is_file():
        raise _wrong_kind(directory)
    definition = _read_proto(hub_pb.ModuleDef, path)
    if definition.format != hub_pb.ModuleDef.FORMAT_V3:
        raise UnsupportedError(
            f"module format {definition.format} is not known, only FORMAT_V3 "
            f"({hub_pb.ModuleDef.FORMAT_V3}) is",
            where=Where(path),
            hint="check that the file is whole; the old tensorflow-hub can't read it either",
        )
    if definition.required_features:
        names = ", ".join(repr(feature) for feature in definition.required_features)
        raise UnsupportedError(
            f"the module requires features that are not known: {names}", where=Where(path)
        )


def _wrong_kind(directory: Path) -> WrongKindError:
    """Says what the directory holds instead of a TF1 Hub module."""
    path = directory / SAVED_MODEL
    if path.is_file():
        saved_model = _read_proto(tf_pb.SavedModel, path)
        if any(meta_graph.HasField("object_graph_def") for meta_graph in saved_model.meta_graphs):
            return WrongKindError(
                f"a TF2 SavedModel, not a TF1 Hub module: there is no {MODULE_DEF}",
                where=Where(directory),
                hint="TF2 loads it as it is: tf.saved_model.load(...) or hub.KerasLayer(...)",
            )
        return WrongKindError(
            f"a TF1 SavedModel, not a TF1 Hub module: there is no {MODULE_DEF}",
            where=Where(directory),
            hint="turn it into a module first with hub.create_module_spec_from_saved_model",
        )
    return WrongKindError(
        f"no TF1 Hub module: there is no {MODULE_DEF}",
        where=Where(directory),
        hint="give the directory that holds tfhub_module.pb and saved_model.pb",
    )


# -- variables --------------------------------------------------------------------------------


def _read_variables(
    directory: Path, sources: dict[Tags, VariantSource], report: Report
) -> tuple[dict[str, Variable], list[Path]]:
    names = sorted({name for source in sources.values() for name in source.declared})
    prefix = directory / VARIABLES / "variables"
    if not names:
        if prefix.with_name("variables.index").exists():
            _report_dead_entries(read_index(prefix), {}, report)
        return {}, []
    index = read_index(prefix)
    used: _Used = {}
    variables: dict[str, Variable] = {}
    for name in names:
        for tags, source in sources.items():
            if name not in source.declared:
                continue
            variable = _read_variable(name, source, index, used)
            known = variables.setdefault(name, variable)
            if (known.dtype, known.shape, known.data) != (
                variable.dtype,
                variable.shape,
                variable.data,
            ):
                raise MalformedError(
                    "two variants declare the variable otherwise",
                    where=source.variant.graph.at(name),
                )
            known.trainable |= variable.trainable
            known.was_ref |= variable.was_ref
            known.variants.add(tags)
    _report_dead_entries(index, used, report)
    return variables, list(index.shards)


def _read_variable(name: str, source: VariantSource, index: BundleIndex, used: _Used) -> Variable:
    graph = source.variant.graph
    definition = source.declared[name]
    node = graph.node(name)
    if node.op not in REFERENCE_VARIABLES | {RESOURCE_VARIABLE}:
        raise MalformedError(
            f"`variables` lists the node, but its op is {node.op}", where=graph.at(name)
        )
    save_slice = _save_slice(definition)
    key = save_slice.full_name if save_slice else name
    entry = index.entries.get(key)
    if entry is None:
        raise MalformedError(
            f"the checkpoint has no value for the variable {key!r}", where=graph.at(name)
        )
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
    )


def _fits(shape: tuple[int, ...], declared: Shape) -> bool:
    return declared is None or (
        len(shape) == len(declared)
        and all(wanted in (None, size) for size, wanted in zip(shape, declared, strict=True))
    )


def _save_slice(definition: tf_pb.VariableDef) -> SaveSlice | None:
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


# -- files ----------------------------------------------------------------------------------------


def _read_assets(directory: Path, sources: dict[Tags, VariantSource]) -> dict[str, Asset]:
    """Returns every file below assets/, after checking that those the graphs need are there."""
    root = directory / ASSETS
    assets: dict[str, Asset] = {}
    for folder, _, files in os.walk(root):
        for file in files:
            path = Path(folder, file)
            name = path.relative_to(root).as_posix()
            assets[name] = Asset(name, path, plain_file_size(path))
    for source in sources.values():
        for node, name in source.variant.assets.items():
            if name not in assets:
                raise MalformedError(
                    f"the asset file {ASSETS}/{name} is missing",
                    where=source.variant.graph.at(node),
                )
    return dict(sorted(assets.items()))


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


def _report_leftovers(directory: Path, shards: list[Path], report: Report) -> None:
    for path in sorted(directory.iterdir()):
        if path.name not in _KNOWN_ENTRIES:
            report.drop("file", path.name, "no part of the module format")
    known = {"variables.index", *(shard.name for shard in shards)}
    folder = directory / VARIABLES
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name not in known:
            report.drop("file", f"{VARIABLES}/{path.name}", "no part of the module's checkpoint")
