"""What a SavedModel keeps beside its functions: variables, tables, assets and attachments."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from bridge._surfaces.bodies import Bodies
from bridge._surfaces.digests import digest_of_entry
from bridge._surfaces.filled_tables import FilledTables
from bridge._surfaces.saved_interfaces import Interface
from bridge._surfaces.saved_tables import read_saved_table
from bridge._surfaces.surface import SeenList, SeenVariable
from bridge._surfaces.tables import Filling
from bridge.bundle import BundleIndex
from bridge.collection_def import messages
from bridge.errors import MalformedError, Where
from bridge.graph import Graph
from bridge.layout import ATTACHMENTS
from bridge.model import shape_from_proto
from bridge.proto import hub_pb, tf_pb
from bridge.saved_model.object_tree import ObjectTree, entries_of_variables
from bridge.saved_model.objects import ROOT
from bridge.saved_model.state_reader import names_of

_LISTS = ("variables", "trainable_variables")
_ALL_LISTS = frozenset({*_LISTS, "_all_variables", "model_variables", "non_trainable_variables"})
"""Attributes that list variables, whatever for."""


def read_variables(
    tree: ObjectTree, index: BundleIndex | None, used: Collection[int]
) -> dict[int, SeenVariable]:
    """Reads the variables of a model, by the number of the object.

    They are those that the root lists as `variables`, else all that it leads to but its optimizer;
    and those that its functions read. A variable is trainable if it is marked so and, where the
    root lists `trainable_variables`, is one of these.

    Raises:
      MalformedError: one has no value in the checkpoint.
      UnsupportedError: one is stored in parts that can't be put together.
    """
    listed = tree.child(ROOT, "variables")
    members = tree.variables(skipped="optimizer") if listed is None else tree.items(listed)
    wanted = sorted({n for n in (*members, *used) if tree.kind(n) == "variable"})
    entries = {} if index is None else entries_of_variables(tree, wanted, index)
    names = names_of(tree, wanted, used)
    trained = tree.child(ROOT, "trainable_variables")
    trainable = frozenset(wanted if trained is None else tree.items(trained))
    result: dict[int, SeenVariable] = {}
    for number in wanted:
        if index is None or number not in entries:
            raise MalformedError(
                f"variable {names[number]!r} has no value in the checkpoint", where=tree.where
            )
        variable, entry = tree.nodes[number].variable, entries[number]
        result[number] = SeenVariable(
            names[number],
            entry.dtype,
            shape_from_proto(variable.shape),
            variable.trainable and number in trainable,
            digest_of_entry(entry, names[number], index.shards, tree.where),
            number,
        )
    return result


def read_lists(
    tree: ObjectTree, interfaces: Iterable[Interface], variables: Mapping[int, SeenVariable]
) -> tuple[SeenList, ...]:
    """Reads the lists of variables of the objects that are called, there or not.

    An object without any such list is not made to be trained by them.

    Args:
      tree: the objects.
      interfaces: those that are called.
      variables: as `read_variables` gives them.
    """
    result: list[SeenList] = []
    for interface in interfaces:
        children = tree.children(interface.number)
        if children.keys().isdisjoint(_LISTS):
            continue
        listed = {kind: tree.items(children[kind]) for kind in _LISTS if kind in children}
        held = _held(tree, interface.number).difference(*listed.values())
        for kind in _LISTS:
            is_root = interface.number == ROOT
            result.append(
                SeenList(
                    kind if is_root else f"{interface.name}.{kind}",
                    kind,
                    None if is_root else interface.tags,
                    _names(listed[kind], variables) if kind in listed else None,
                    _names(held, variables),
                )
            )
    return tuple(result)


def _names(numbers: Iterable[int], variables: Mapping[int, SeenVariable]) -> frozenset[str]:
    return frozenset(variables[number].name for number in numbers if number in variables)


def _held(tree: ObjectTree, number: int) -> set[int]:
    """Returns what an object leads to by something else than lists of variables."""
    seen = {number}
    objects = [number]
    for parent in objects:  # grows while it runs
        for name, child in tree.children(parent).items():
            if name not in _ALL_LISTS and child not in seen:
                seen.add(child)
                objects.append(child)
    return seen


def read_tables(
    tree: ObjectTree,
    bodies: Bodies,
    graph: Graph,
    filled: FilledTables,
    used: Iterable[int],
    index: BundleIndex | None,
) -> Iterator[tuple[str, Sequence[Filling]]]:
    """Yields the tables that functions use, by the attributes that lead to them.

    Args:
      tree: the objects.
      bodies: the functions.
      graph: has their library.
      filled: reads what functions put into the tables.
      used: numbers of the objects that the functions capture.
      index: the checkpoint, which has what tables hold that no function fills.
    """
    for number in sorted(set(used)):
        if tree.kind(number) != "resource":
            continue
        found = [f for i in filled.of_object(number) for f in i.fillings.values()]
        for fillings in found or [[read_saved_table(tree, graph, bodies, index, number)]]:
            yield tree.path(number), fillings


def read_attachments(
    meta_graph: tf_pb.MetaGraphDef, variant: str, where: Where
) -> dict[str, bytes]:
    """Returns the attached messages of a variant, by key.

    Args:
      meta_graph: the SavedModel's.
      variant: what a collection of the variant's own has in its name; without one, the variant has
        those of all.
      where: for error messages.

    Raises:
      MalformedError: a message is broken.
    """
    own = f"{ATTACHMENTS}/{variant}"
    collection = own if own in meta_graph.collection_def else ATTACHMENTS
    found = messages(hub_pb.ModuleAttachment, meta_graph, collection, where)
    return {attachment.key: attachment.value for attachment in found}
