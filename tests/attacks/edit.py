"""Changing a copy of a real module, one message at a time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.bundle.table import read_table, write_table
from bridge.proto import hub_pb, tf_pb
from tests.conftest import TESTDATA


def copy_module(name: str, directory: Path) -> Path:
    """Copies a module of testdata/ to `directory/module`."""
    return Path(shutil.copytree(TESTDATA / "modules" / name, directory / "module"))


@contextmanager
def saved_model(module: Path) -> Iterator[tf_pb.SavedModel]:
    """Gives saved_model.pb to change."""
    path = module / "saved_model.pb"
    message = tf_pb.SavedModel.FromString(path.read_bytes())
    yield message
    path.write_bytes(message.SerializeToString())


@contextmanager
def meta_graph(module: Path) -> Iterator[tf_pb.MetaGraphDef]:
    """Gives the variant without tags to change."""
    with saved_model(module) as message:
        yield next(m for m in message.meta_graphs if not m.meta_info_def.tags)


@contextmanager
def graph_def(module: Path) -> Iterator[tf_pb.GraphDef]:
    """Gives the graph of the variant without tags to change."""
    with meta_graph(module) as message:
        yield message.graph_def


@contextmanager
def module_def(module: Path) -> Iterator[hub_pb.ModuleDef]:
    """Gives tfhub_module.pb to change."""
    path = module / "tfhub_module.pb"
    message = hub_pb.ModuleDef.FromString(path.read_bytes())
    yield message
    path.write_bytes(message.SerializeToString())


@contextmanager
def checkpoint_entry(module: Path, key: str) -> Iterator[tf_pb.BundleEntryProto]:
    """Gives an entry of the checkpoint's index to change."""
    path = module / "variables" / "variables.index"
    items = dict(read_table(path.read_bytes(), path))
    entry = tf_pb.BundleEntryProto.FromString(items[key.encode()])
    yield entry
    items[key.encode()] = entry.SerializeToString()
    path.write_bytes(write_table(items.items()))


def node(graph: tf_pb.GraphDef, name: str) -> tf_pb.NodeDef:
    """Returns a node of the graph."""
    return next(n for n in graph.node if n.name == name)


def insert_after(graph: tf_pb.GraphDef, name: str, new: tf_pb.NodeDef) -> None:
    """Lets everybody who reads output 0 of a node read the new node instead."""
    for other in graph.node:
        for position, tensor in enumerate(other.input):
            if tensor in (name, f"{name}:0"):
                other.input[position] = new.name
    graph.node.append(new)
