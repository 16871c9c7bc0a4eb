"""Reads what a check looks at from a TF2 SavedModel.

What its objects and serving signatures are in the terms of a TF1 Hub module,
bridge/_surfaces/saved_interfaces.py says. A serving signature is judged where it is
`default` or has the name of an image task; no page says how others should look.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge._check.comparable import comparable
from bridge._check.flow import Flow, Frame, Point
from bridge._check.reuse import reuse_breaches
from bridge._check.seen import (
    Digests,
    PythonCall,
    SeenModel,
    SeenSignature,
    SeenVariable,
    SeenVariant,
)
from bridge._surfaces.bodies import Bodies
from bridge._surfaces.contents import Contents, digest
from bridge._surfaces.opened import OpenedSavedModel, open_saved_model
from bridge._surfaces.saved_interfaces import Interface, read_interfaces
from bridge._surfaces.saved_state import read_attachments
from bridge._surfaces.surface import SAVED_MODEL
from bridge._surfaces.ways import Way
from bridge._surfaces.writes import EffectsReader
from bridge.errors import UnsupportedError
from bridge.model import DEFAULT, INFERENCE, TRAIN, Tags, shape_from_proto
from bridge.passes.image_conventions import IMAGES, TASKS
from bridge.proto import tf_pb
from bridge.saved_model.state_reader import names_of
from bridge.saved_model.traces import Trace


def read_saved_model(directory: Path) -> SeenModel:
    """Reads a SavedModel.

    Args:
      directory: where it lies.

    Raises:
      WrongKindError: it is a TF1 SavedModel.
      UnsupportedError: it has nothing to call, or something that is not known.
      MalformedError: it is broken.
    """
    opened = open_saved_model(directory)
    reader = _Reader(opened)
    interfaces = read_interfaces(reader.ways)
    if not any(True for interface in interfaces for _ in interface.all_ways()):
        raise UnsupportedError(
            "the SavedModel has neither a `__call__` that was traced nor a serving signature",
            where=opened.tree.where,
            hint="give the object a tf.function `__call__`, call it once and save again",
        )
    variants = reader.read(interfaces)
    return SeenModel(
        format=SAVED_MODEL,
        is_module=False,
        producer=opened.meta_graph.meta_info_def.tensorflow_version,
        variants=sorted(variants, key=lambda v: (len(v.tags), sorted(v.tags))),
        variables=frozenset(variable.name for variable in reader.variables.values()),
        reuse=reuse_breaches(reader.ways, interfaces, reader.variables),
    )


class _Reader:
    """Reads the signatures that the objects offer.

    Attributes:
      ways: finds how they are called.
      variables: those that the root lists or leads to and those that functions capture, by the
        number of the object.
    """

    def __init__(self, opened: OpenedSavedModel):
        self._meta_graph = opened.meta_graph
        self._tree = tree = opened.tree
        self.ways = opened.ways
        graph = opened.graph
        self._bodies = Bodies(graph)
        self._contents = functools.cache(lambda: Contents(Bodies(comparable(graph))))
        self._effects = EffectsReader(self._bodies, with_values=False)
        concrete = self._meta_graph.object_graph_def.concrete_functions.values()
        used = {number for function in concrete for number in function.bound_inputs}
        wanted = sorted(n for n in {*tree.variables(), *used} if tree.kind(n) == "variable")
        names = names_of(tree, wanted, used)
        self.variables = {
            n: SeenVariable(names[n], shape_from_proto(tree.nodes[n].variable.shape))
            for n in wanted
        }

    def read(self, interfaces: Iterable[Interface]) -> list[SeenVariant]:
        """Returns the variants that the objects stand for."""
        variants: dict[Tags, SeenVariant] = {}
        for interface in interfaces:
            for training, named in interface.ways.items():
                if not named:
                    continue
                tags = interface.variant(training)
                variant = variants.setdefault(tags, SeenVariant(tags))
                self._add(variant, interface, training=training)
        return [v for v in variants.values() if not self._is_inference(v, variants)]

    def _is_inference(self, variant: SeenVariant, variants: Mapping[Tags, SeenVariant]) -> bool:
        """True for a root that does in training what it does without."""
        other = variants.get(INFERENCE)
        if variant.tags != TRAIN or other is None or variant.written - other.written:
            return False
        ones = {s.name: s.digests() for s in variant.signatures}
        others = {s.name: s.digests() for s in other.signatures}
        return all(others.get(name) == digests for name, digests in ones.items())

    def _add(self, variant: SeenVariant, interface: Interface, *, training: bool) -> None:
        named = interface.ways[training]
        name = interface.name or "_".join(sorted(variant.tags))
        variant.attachments = read_attachments(self._meta_graph, name, self._tree.where)
        variant.trainable = self._trainable(interface)
        for name, ways in sorted(named.items()):
            variant.written |= self._written(ways)
            # A serving signature is traced for inference alone.
            judged = not training and (name == DEFAULT or name in TASKS)
            if judged or any(way.call.kind == "callable" for way in ways):
                # A subobject often does with `training=True` what it does without.
                seen = self._signature(variant.tags, name, ways)
                known = variant.named(name)
                if known is None or known.digests() != seen.digests():
                    variant.signatures.append(seen)

    def _trainable(self, interface: Interface) -> frozenset[str]:
        tree = self._tree
        listed = tree.child(interface.number, "trainable_variables")
        numbers: Iterable[int] = (
            tree.variables("optimizer") if listed is None else tree.items(listed)
        )
        return frozenset(
            self.variables[n].name
            for n in numbers
            if n in self.variables and tree.nodes[n].variable.trainable
        )

    def _written(self, ways: Iterable[Way]) -> frozenset[str]:
        """Returns the names of the variables that calls change."""
        found: set[str] = set()
        for way in ways:
            places = _Places(way.trace, training=way.training)
            known = tuple((i, v) for i, v in enumerate(places.known) if v is not None)
            names, effects = self._effects.of_function(way.trace.function, known)
            for argument in effects.written:
                number = places.captures.get(names.index(argument))
                if number in self.variables:
                    found.add(self.variables[number].name)
        return frozenset(found)

    def _signature(self, tags: Tags, name: str, ways: Sequence[Way]) -> SeenSignature:
        way = ways[0]
        body = self._bodies[way.trace.function]
        arguments = body.arguments
        places = _Places(way.trace, training=way.training)
        known = {arguments[i]: v for i, v in enumerate(places.known) if v is not None}
        root = Frame(body.graph, way.trace.function, known)
        results = iter(body.outputs)
        returned = {
            leaf.key: [Point(root, next(results)) for _ in leaf.endpoint.components]
            for leaf in way.trace.outputs
        }
        state = {
            arguments[i]: self.variables[n]
            for i, n in places.captures.items()
            if n in self.variables
        }
        return SeenSignature(
            tags=tags,
            name=name,
            called=_label(ways),
            python=_python_call(ways),
            inputs=way.inputs,
            outputs=way.outputs,
            flow=Flow(self._bodies, root, {arguments[i] for i in places.fed}),
            returned=returned,
            state=state,
            digests=functools.cache(lambda: self._digests(way)),
        )

    def _digests(self, way: Way) -> Digests:
        """Returns by what each output is computed; the only input is that, whatever its name."""
        keys = [leaf.key for leaf in way.trace.inputs if not leaf.is_fixed]
        given: list[bytes] = []
        for leaf in way.trace.inputs:
            if leaf.is_fixed:
                key = repr(way.training if leaf.is_training else leaf.default)
            else:
                key = leaf.key if len(keys) > 1 else IMAGES
            kind = "fixed" if leaf.is_fixed else "input"
            given += [digest(kind, key, str(i)) for i in range(len(leaf.endpoint.components))]
        given += [digest("object", str(number)) for number in way.trace.captures]
        results = iter(self._contents().of_function(way.trace.function, given))
        return {
            leaf.key: tuple(next(results) for _ in leaf.endpoint.components)
            for leaf in way.trace.outputs
        }


@dataclass
class _Places:
    """What the arguments of a concrete function are, by position.

    Attributes:
      fed: those that a caller gives.
      known: for each argument before the captured ones, its value where it is a known Boolean.
      captures: the numbers of the objects that arguments are bound to.
    """

    fed: list[int]
    known: list[bool | None]
    captures: dict[int, int]

    def __init__(self, trace: Trace, *, training: bool):
        self.fed, self.known = [], []
        for leaf in trace.inputs:
            value = None
            if leaf.is_fixed and leaf.endpoint.dtype == tf_pb.DT_BOOL:
                value = training if leaf.is_training else bool(leaf.default)
            for _ in leaf.endpoint.components:
                if not leaf.is_fixed:
                    self.fed.append(len(self.known))
                self.known.append(value)
        self.captures = {len(self.known) + i: n for i, n in enumerate(trace.captures)}


def _label(ways: Sequence[Way]) -> str:
    """Returns how users call the signature, by preference so that one tensor comes back."""
    plain = (way.call for way in ways if list(way.call.outputs.values()) == [()])
    return next(plain, ways[0].call).label


def _python_call(ways: Iterable[Way]) -> PythonCall | None:
    calls = [way.call for way in ways if way.call.kind == "callable"]
    if not calls:
        return None
    first = (call.args[0] for call in calls if call.args)
    takes = [arg["input"] for arg in first if isinstance(arg, Mapping) and "input" in arg]
    gives_tensor = any(list(call.outputs.values()) == [()] for call in calls)
    return PythonCall(takes[0] if takes else None, gives_tensor)
