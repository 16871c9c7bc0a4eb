"""Converted test modules, and faults that a converter might have, planted in copies of them."""

from __future__ import annotations

import functools
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.bundle import BytesTensor, Entry, StringTensor, read_index, write_bundle
from bridge.convert import (
    ToHubModuleOptions,
    ToSavedModelOptions,
    to_hub_module,
    to_saved_model,
)
from bridge.graph import parse_tensor
from bridge.proto import hub_pb, tf_pb
from bridge.saved_model.object_tree import ObjectTree
from tests.attacks.edit import saved_model
from tests.conftest import TESTDATA


class Converted:
    """Test modules, each as a SavedModel and as the module made of that; made when asked for."""

    def __init__(self, directory: Path):
        self._directory = directory

    def module(self, name: str) -> Path:
        """The module of testdata."""
        return TESTDATA / "modules" / name

    @functools.cache  # noqa: B019
    def saved_model(self, name: str) -> Path:
        """Its SavedModel."""
        path = self._directory / f"{name}-saved-model"
        to_saved_model(self.module(name), path, ToSavedModelOptions(verify=False))
        return path

    @functools.cache  # noqa: B019
    def back(self, name: str) -> Path:
        """The module that is made of the SavedModel."""
        path = self._directory / f"{name}-back"
        to_hub_module(self.saved_model(name), path, ToHubModuleOptions(verify=False))
        return path


def copy(model: Path, directory: Path) -> Path:
    """Returns a copy that may be changed."""
    return Path(shutil.copytree(model, directory / "copy"))


@contextmanager
def variant(model: Path, *tags: str) -> Iterator[tf_pb.MetaGraphDef]:
    """Gives a graph of a module to change."""
    with saved_model(model) as message:
        graphs = (m for m in message.meta_graphs if set(m.meta_info_def.tags) == set(tags))
        yield next(graphs)


@contextmanager
def only_graph(model: Path) -> Iterator[tf_pb.MetaGraphDef]:
    """Gives the graph of a SavedModel to change."""
    with saved_model(model) as message:
        (graph,) = message.meta_graphs
        yield graph


def scale_weight(model: Path, key: str, factor: float) -> None:
    """Multiplies the first float of a tensor of the checkpoint, which stays well formed."""
    folder = model / "variables"
    index = read_index(folder / "variables")
    entry = index.entries[key]
    assert entry.data is not None
    shard = index.shards[entry.data.shard].read_bytes()
    value = bytearray(shard[entry.data.offset : entry.data.offset + entry.data.size])
    (first,) = struct.unpack_from("<f", value)
    assert first
    struct.pack_into("<f", value, 0, first * factor)
    tensors: dict[str, Entry] = {}
    extras: dict[str, StringTensor | BytesTensor] = {
        key: BytesTensor(entry.dtype, entry.shape, bytes(value))
    }
    for name, other in index.entries.items():
        if other.dtype == tf_pb.DT_STRING and not other.shape:
            assert other.data is not None
            extras[name] = StringTensor((index.read_string(name),))
        elif name != key:
            tensors[name] = other
    made = folder.with_name("made")
    made.mkdir()
    write_bundle(made, "variables", index.shards, tensors, extras)
    shutil.rmtree(folder)
    made.rename(folder)


def drop_child(graph: tf_pb.MetaGraphDef, *path: str) -> None:
    """Takes an attribute away from an object of a SavedModel."""
    tree = ObjectTree(graph.object_graph_def, Path("saved_model.pb"))
    number = 0
    for name in path[:-1]:
        number = tree.children(number)[name]
    children = graph.object_graph_def.nodes[number].children
    (child,) = (c for c in children if c.local_name == path[-1])
    children.remove(child)


def saved_variable(graph: tf_pb.MetaGraphDef, name: str) -> tf_pb.SavedVariable:
    """Returns a variable of a SavedModel."""
    nodes = graph.object_graph_def.nodes
    return next(node.variable for node in nodes if node.variable.name == name)


def drop_from_nodes(graph: tf_pb.MetaGraphDef, collection: str, part: str = "") -> None:
    """Takes the first name with this part out of a collection of nodes."""
    values = graph.collection_def[collection].node_list.value
    values.remove(next(value for value in values if part in value))


def drop_variable_def(graph: tf_pb.MetaGraphDef, collection: str, name: str) -> None:
    """Takes a variable out of a collection."""
    values = graph.collection_def[collection].bytes_list.value
    for value in list(values):
        definition = tf_pb.VariableDef.FromString(value)
        if parse_tensor(definition.variable_name).node == name:
            values.remove(value)


def attach(graph: tf_pb.MetaGraphDef, key: str, value: bytes | None) -> None:
    """Changes an attachment, or takes it away."""
    values = graph.collection_def["hub_module_attachments"].bytes_list.value
    kept = [v for v in values if hub_pb.ModuleAttachment.FromString(v).key != key]
    del values[:]
    values.extend(kept)
    if value is not None:
        values.append(hub_pb.ModuleAttachment(key=key, value=value).SerializeToString())


def updating_functions(graph: tf_pb.MetaGraphDef) -> list[tf_pb.FunctionDef]:
    """Returns the functions that assign variables themselves."""
    return [
        function
        for function in graph.graph_def.library.function
        if any(node.op.startswith("Assign") for node in function.node_def)
    ]
