"""The objects and functions of a TF2 SavedModel, checked, and what finds how they are called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bridge._surfaces.ways import WayReader
from bridge.errors import Where
from bridge.graph import Graph
from bridge.kinds import read_model_with_objects
from bridge.layout import SAVED_MODEL
from bridge.opsets import OpTable
from bridge.proto import tf_pb
from bridge.saved_model.object_tree import ObjectTree
from bridge.validate import check_graph


@dataclass(frozen=True)
class OpenedSavedModel:
    """A SavedModel whose objects and functions are well-formed.

    Attributes:
      meta_graph: its one model.
      tree: its objects.
      graph: its functions; it has no nodes of its own.
      ways: finds how they are called.
    """

    meta_graph: tf_pb.MetaGraphDef
    tree: ObjectTree
    graph: Graph
    ways: WayReader


def open_saved_model(directory: Path) -> OpenedSavedModel:
    """Reads the file with the objects and functions.

    Raises:
      WrongKindError: it is a TF1 SavedModel.
      UnsupportedError: it holds several models, or something that is not known.
      MalformedError: it is broken.
    """
    meta_graph = read_model_with_objects(directory)
    path = directory / SAVED_MODEL
    tree = ObjectTree(meta_graph.object_graph_def, path)
    library = meta_graph.graph_def.library
    ops = OpTable(meta_graph.meta_info_def.stripped_op_list.op)
    graph = Graph([], ops, library.function, library.gradient, Where(path))
    check_graph(graph)
    concrete = dict(meta_graph.object_graph_def.concrete_functions)
    for name, function in concrete.items():
        tree.check_captured(name, *function.bound_inputs)
    return OpenedSavedModel(meta_graph, tree, graph, WayReader(tree, concrete, graph))
