"""The objects of a SavedModel, as tf.saved_model.load would make them.

Source: tensorflow/core/protobuf/saved_object_graph.proto and python/saved_model/load.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from bridge.bundle import BundleIndex, Entry
from bridge.dtypes import dtype_name
from bridge.errors import MalformedError, UnsupportedError, Where
from bridge.model import format_shape, shape_from_proto
from bridge.proto import tf_pb
from bridge.saved_model.objects import ATTRIBUTE, OBJECT_GRAPH_KEY, ROOT


class ObjectTree:
    """Objects by number, their children by name, and the path that leads to each."""

    def __init__(self, graph: tf_pb.SavedObjectGraph, path: Path):
        """Indexes the objects.

        Args:
          graph: the objects.
          path: the file they come from, for error messages.

        Raises:
          MalformedError: there is no root, or an object refers to one that is not there.
        """
        self.where = Where(path)
        self.nodes = list(graph.nodes)
        if not self.nodes:
            raise MalformedError("its object graph is empty", where=self.where)
        self._children = [
            {child.local_name: child.node_id for child in node.children} for node in self.nodes
        ]
        for children in self._children:
            for name, number in children.items():
                if not 0 <= number < len(self.nodes):
                    raise MalformedError(
                        f"object {name!r} has number {number}, there are {len(self.nodes)} objects",
                        where=self.where,
                    )
        self.paths = self._find_paths()

    def _find_paths(self) -> dict[int, str]:
        """Returns the shortest path from the root to each object that can be reached."""
        paths = {ROOT: ""}
        order = [ROOT]
        for number in order:  # grows while it runs
            for name, child in self._children[number].items():
                if child not in paths:
                    paths[child] = f"{paths[number]}/{name}" if paths[number] else name
                    order.append(child)
        return paths

    def kind(self, number: int) -> str:
        """Returns what an object is, as the oneof `kind` of SavedObject says."""
        return self.nodes[number].WhichOneof("kind") or "nothing"

    def children(self, number: int) -> Mapping[str, int]:
        """Returns the attributes of an object."""
        return self._children[number]

    def child(self, number: int, name: str) -> int | None:
        """Returns an attribute of an object, if it has it."""
        return self._children[number].get(name)

    def items(self, number: int | None) -> list[int]:
        """Returns the items of a tracked list; an absent one has none."""
        children = {} if number is None else self._children[number]
        return [children[name] for name in sorted(filter(str.isdecimal, children), key=int)]

    def variables(self) -> list[int]:
        """Returns the variables that can be reached from the root, by number."""
        return sorted(n for n in self.paths if self.kind(n) == "variable")

    def concrete_functions(self, number: int | None) -> list[str]:
        """Returns the names of the concrete functions of a function object; others have none."""
        if number is None:
            return []
        node = self.nodes[number]
        if node.HasField("function"):
            return list(node.function.concrete_functions)
        if node.HasField("bare_concrete_function"):
            return [node.bare_concrete_function.concrete_function_name]
        return []


def places_of_variables(
    tree: ObjectTree, numbers: Iterable[int], index: BundleIndex
) -> dict[int, Entry]:
    """Finds variables in the checkpoint.

    The checkpoint has an object graph of its own, with other numbers: an object is the same if the
    same path leads to it, as in Loader._restore_checkpoint.

    Args:
      tree: the objects.
      numbers: the variables to find.
      index: the checkpoint.

    Raises:
      MalformedError: a variable has no value, or one of another dtype or shape.
    """
    graph = tf_pb.TrackableObjectGraph.FromString(index.read_string(OBJECT_GRAPH_KEY))
    saved = _match(tree, graph)
    places: dict[int, Entry] = {}
    for number in numbers:
        variable = tree.nodes[number].variable
        name = variable.name or tree.paths[number]
        attributes = graph.nodes[saved[number]].attributes if number in saved else ()
        keys = [a.checkpoint_key for a in attributes if a.name == ATTRIBUTE]
        entry = index.entries.get(keys[0]) if keys else None
        if entry is None:
            raise MalformedError(
                f"variable {name!r} has no value in the checkpoint", where=tree.where
            )
        shape = shape_from_proto(variable.shape)
        if shape is None or None in shape:
            raise UnsupportedError(
                f"variable {name!r} has the shape {format_shape(shape)}, which is not fully "
                "defined, so that no TF1 Hub module can declare it",
                where=tree.where,
                hint="give the variable a fixed shape and save the model again",
            )
        if (entry.dtype, entry.shape) != (variable.dtype, shape):
            raise MalformedError(
                f"variable {name!r} is {dtype_name(variable.dtype)}{format_shape(shape)}, in the "
                f"checkpoint it is {dtype_name(entry.dtype)}{format_shape(entry.shape)}",
                where=tree.where,
            )
        places[number] = entry
    return places


def _match(tree: ObjectTree, graph: tf_pb.TrackableObjectGraph) -> dict[int, int]:
    """Returns the number in the checkpoint's graph of each object that both have."""
    found = {ROOT: ROOT} if graph.nodes else {}
    order = list(found)
    for number in order:  # grows while it runs
        for reference in graph.nodes[found[number]].children:
            child = tree.child(number, reference.local_name)
            if child is not None and child not in found and reference.node_id < len(graph.nodes):
                found[child] = reference.node_id
                order.append(child)
    return found
