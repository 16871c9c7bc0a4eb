"""The objects of a SavedModel, as tf.saved_model.load would make them.

Source: tensorflow/core/protobuf/saved_object_graph.proto and python/saved_model/load.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from google.protobuf.message import DecodeError

from bridge.bundle import BundleIndex, Entry
from bridge.dtypes import dtype_name
from bridge.errors import MalformedError, UnsupportedError, Where
from bridge.model import format_shape, shape_from_proto
from bridge.proto import tf_pb
from bridge.saved_model.objects import ATTRIBUTE, OBJECT_GRAPH_KEY, ROOT

_LISTS = frozenset(
    {"_all_variables", "non_trainable_variables", "trainable_variables", "variables"}
)
"""Attributes of the root that list what has a place of its own."""

_MAX_PATH = 1000
"""Objects may be nested as deep as a stranger likes, and each path be as long as the file."""


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
        self._parents = self._find_parents()

    def _find_parents(self) -> dict[int, tuple[int, str]]:
        """Returns the last step of the shortest path from the root to each object.

        A path that leads through a list of all variables says nothing, and counts as longer.
        """
        parents: dict[int, tuple[int, str]] = {}
        for lists in (False, True):
            order = [ROOT]
            for parent in order:  # grows while it runs
                for name, child in self._children[parent].items():
                    if child in parents or child == ROOT:
                        continue
                    if parent != ROOT or (name in _LISTS) == lists:
                        parents[child] = (parent, name)
                        order.append(child)
        return parents

    def path(self, number: int) -> str:
        """Returns the attributes that lead to an object; of a very long path, the end."""
        if number != ROOT and number not in self._parents:
            return f"object {number}"
        path = ""
        while number != ROOT and len(path) <= _MAX_PATH:
            number, name = self._parents[number]
            path = f"{name}/{path}" if path else name
        return path[-_MAX_PATH:]

    def is_only_listed(self, number: int) -> bool:
        """True if only a list of all variables leads to an object."""
        return self.path(number).partition("/")[0] in _LISTS

    def check_captured(self, function: str, *numbers: int) -> None:
        """Refuses objects that a function captures, and that are not there.

        Raises:
          MalformedError: one is not.
        """
        for number in numbers:
            if not 0 <= number < len(self.nodes):
                raise MalformedError(
                    f"function {function!r} captures object {number}, there are {len(self.nodes)}",
                    where=self.where,
                )

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

    def variables(self, skipped: str = "") -> list[int]:
        """Returns the variables that can be reached from the root, by number.

        Args:
          skipped: an attribute of the root that is not followed.
        """
        seen = {ROOT}
        order = [ROOT]
        for parent in order:  # grows while it runs
            for name, child in self._children[parent].items():
                if child not in seen and not (parent == ROOT and name == skipped):
                    seen.add(child)
                    order.append(child)
        return sorted(n for n in order if self.kind(n) == "variable")

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
    tree: ObjectTree, numbers: Collection[int], index: BundleIndex, others: Collection[int] = ()
) -> dict[int, Entry]:
    """Finds variables in the checkpoint, and checks that it holds them as they are declared.

    Args:
      tree: the objects.
      numbers: the variables to find.
      index: the checkpoint.
      others: further variables to find, where it has them, whatever they are there.

    Raises:
      MalformedError: a variable has no value, or one of another dtype or shape.
    """
    entries = entries_of_variables(tree, [*numbers, *others], index)
    for number in numbers:
        variable = tree.nodes[number].variable
        name = variable.name or tree.path(number)
        if number not in entries:
            raise MalformedError(
                f"variable {name!r} has no value in the checkpoint", where=tree.where
            )
        entry = entries[number]
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
    return entries


def entries_of_variables(
    tree: ObjectTree, numbers: Iterable[int], index: BundleIndex
) -> dict[int, Entry]:
    """Finds what the checkpoint holds of variables, whatever it is; it may not have some of them.

    The checkpoint has an object graph of its own, with other numbers: an object is the same if the
    same path leads to it, as in Loader._restore_checkpoint.
    """
    try:
        graph = tf_pb.TrackableObjectGraph.FromString(index.read_string(OBJECT_GRAPH_KEY))
    except DecodeError as error:
        raise MalformedError(
            "the object graph of its checkpoint is broken", where=tree.where
        ) from error
    saved = _match(tree, graph)
    entries: dict[int, Entry] = {}
    for number in numbers:
        attributes = graph.nodes[saved[number]].attributes if number in saved else ()
        keys = [a.checkpoint_key for a in attributes if a.name == ATTRIBUTE]
        if keys and keys[0] in index.entries:
            entries[number] = index.entries[keys[0]]
    return entries


def _match(tree: ObjectTree, graph: tf_pb.TrackableObjectGraph) -> dict[int, int]:
    """Returns the number in the checkpoint's graph of each object that both have."""
    found = {ROOT: ROOT} if graph.nodes else {}
    order = list(found)
    for number in order:  # grows while it runs
        for reference in graph.nodes[found[number]].children:
            child = tree.child(number, reference.local_name)
            known = 0 <= reference.node_id < len(graph.nodes)
            if child is not None and child not in found and known:
                found[child] = reference.node_id
                order.append(child)
    return found
