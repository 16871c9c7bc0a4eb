"""Reads what a user sees of a TF2 SavedModel, in the terms of a TF1 Hub module.

What its objects and serving signatures are there, bridge/_parity/saved_interfaces.py says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from bridge._surfaces.bodies import Bodies
from bridge._surfaces.contents import Contents
from bridge._surfaces.digests import digests_of_assets
from bridge._surfaces.filled_tables import FilledTables
from bridge._surfaces.forms import absent_forms
from bridge._surfaces.further import further_computations
from bridge._surfaces.image_size import image_size
from bridge._surfaces.opened import open_saved_model
from bridge._surfaces.recorded import trained_by_variants
from bridge._surfaces.saved_interfaces import Interface, computations_of, read_interfaces
from bridge._surfaces.saved_state import (
    read_attachments,
    read_lists,
    read_tables,
    read_variables,
)
from bridge._surfaces.served import read_served
from bridge._surfaces.surface import SAVED_MODEL, SeenVariable, Surface, Updates
from bridge._surfaces.tables import keys_of, seen_tables
from bridge._surfaces.ways import Way
from bridge._surfaces.writes import Effects, EffectsReader, draws_by_seed
from bridge.bundle import BundleIndex, read_index
from bridge.bundle.files import index_name
from bridge.errors import UnsupportedError
from bridge.graph import Graph
from bridge.layout import VARIABLES
from bridge.model import INFERENCE, Tags
from bridge.saved_model.record import RECORD


def read_saved_model_surface(directory: Path) -> Surface:
    """Reads a SavedModel.

    Args:
      directory: where it lies.

    Raises:
      WrongKindError: it is a TF1 SavedModel.
      UnsupportedError: it has nothing to call, or something that is not known.
      MalformedError: it is broken.
      UnsafeError: a link, or a name that leaves the model.
    """
    opened = open_saved_model(directory)
    meta_graph, tree, graph, reader = opened.meta_graph, opened.tree, opened.graph, opened.ways
    bodies = Bodies(graph)
    interfaces = read_interfaces(reader)
    contents = Contents(bodies)
    was_module = RECORD in meta_graph.collection_def
    computations = computations_of(interfaces, contents, reader.library, was_module=was_module)
    if not computations:
        raise UnsupportedError(
            "the SavedModel has neither a `__call__` that was traced nor a serving signature",
            where=tree.where,
            hint="give the object a tf.function `__call__`, call it once and save again",
        )
    losses = {i.name: tree.items(tree.child(i.number, "regularization_losses")) for i in interfaces}
    ways = [way for interface in interfaces for way in interface.all_ways()]
    traces = [t for numbers in losses.values() for n in numbers for t in reader.functions.traces(n)]
    used = {n for trace in (*traces, *(way.trace for way in ways)) for n in trace.captures}
    index = _read_checkpoint(directory)
    variables = read_variables(tree, index, used)
    assets = digests_of_assets(directory)
    filled = FilledTables(tree, bodies, graph, meta_graph, directory, assets)
    tables = seen_tables(read_tables(tree, bodies, graph, filled, used, index))
    effects = _Effects(graph, bodies, variables)
    updates = _updates(interfaces, effects)
    variants = {
        interface.variant(training): (interface, training)
        for interface in interfaces
        for training in (False, True)
        if interface.ways[training]
    }
    attachments = {
        tags: read_attachments(meta_graph, interface.name or "_".join(sorted(tags)), tree.where)
        for tags, (interface, _) in variants.items()
    }
    main = INFERENCE if INFERENCE in variants else next(iter(variants))
    return Surface(
        path=directory,
        format=SAVED_MODEL,
        producer=meta_graph.meta_info_def.tensorflow_version,
        computations=tuple(
            replace(c, updates=updates.get((c.variant, c.signature), ())) for c in computations
        ),
        variables={v.name: v for v in sorted(variables.values(), key=lambda v: v.name)},
        regularization_losses={tags: len(losses[i.name]) for tags, (i, _) in variants.items()},
        trained=trained_by_variants(meta_graph, tree.where),
        lists=read_lists(tree, interfaces, variables),
        updated=_updated(updates),
        assets=assets,
        tables=tables,
        attachments=attachments,
        image_size=image_size(computations, attachments[main], main),
        random_states=effects.random_states(ways),
        served=read_served(opened, contents, filled),
        was_module=was_module,
        absent_forms=absent_forms(reader, interfaces),
        further=further_computations(reader, interfaces, contents, effects.updates),
        table_keys=keys_of(tables.values()),
    )


def _read_checkpoint(directory: Path) -> BundleIndex | None:
    prefix = directory / VARIABLES / VARIABLES
    return read_index(prefix) if prefix.with_name(index_name(prefix.name)).exists() else None


def _updates(
    interfaces: Iterable[Interface], effects: _Effects
) -> dict[tuple[Tags, str], tuple[Updates, ...]]:
    """Returns what all ways to compute each signature do to variables."""
    result: dict[tuple[Tags, str], tuple[Updates, ...]] = {}
    for interface in interfaces:
        for training, named in interface.ways.items():
            for signature, ways in named.items():
                key = interface.variant(training), signature
                result[key] = (*result.get(key, ()), *map(effects.updates, ways))
    return result


def _updated(
    updates: Mapping[tuple[Tags, str], Iterable[Updates]],
) -> dict[Tags, frozenset[str]]:
    result: dict[Tags, frozenset[str]] = {}
    for (tags, _), ways in updates.items():
        result[tags] = result.get(tags, frozenset()).union(*(way.written for way in ways))
    return result


class _Effects:
    """What the ways do to the variables that their functions capture, by the variables' names."""

    def __init__(self, graph: Graph, bodies: Bodies, variables: Mapping[int, SeenVariable]):
        self._variables = variables
        self._draws = any(draws_by_seed(node.op) for node in graph.all_nodes())
        self._reader = EffectsReader(bodies, with_values=self._draws)

    def _of(self, way: Way) -> tuple[list[str], Effects]:
        booleans: list[tuple[int, bool]] = []
        position = 0
        for leaf in way.trace.inputs:
            if leaf.is_training:
                booleans.append((position, way.training))
            position += len(leaf.endpoint.components)
        return self._reader.of_function(way.trace.function, tuple(booleans))

    def _names(self, way: Way, arguments: Iterable[str]) -> frozenset[str]:
        names, _ = self._of(way)
        first = len(names) - len(way.trace.captures)
        captured = (
            way.trace.captures[place - first]
            for argument in arguments
            if (place := names.index(argument)) >= first
        )
        return frozenset(self._variables[n].name for n in captured if n in self._variables)

    def updates(self, way: Way) -> Updates:
        """Returns which variables a call changes."""
        written = self._names(way, self._of(way)[1].written)
        return Updates(way.call, way.trains, written, written)

    def random_states(self, ways: Iterable[Way]) -> frozenset[str]:
        """Returns the variables of which calls make seeds, and none makes anything else."""
        if not self._draws:
            return frozenset()
        seeds: frozenset[str] = frozenset()
        needed: frozenset[str] = frozenset()
        for way in ways:
            effects = self._of(way)[1]
            seeds |= self._names(way, effects.seeds)
            needed |= self._names(way, effects.needed_otherwise())
        return seeds - needed
