"""What the objects and signatures of a SavedModel are in the terms of a TF1 Hub module.

| tf.saved_model.load(...) offers | TF1 Hub module |
| --- | --- |
| `obj(...)` with `training=False`, or without `training` | `default` of {} |
| `obj(..., training=True)` | `default` of {train} |
| `obj.name(...)`, with `training` likewise | `name` of {} and {train} |
| `signatures['name']` | `name` of {} |
| `signatures['default']`, where `obj(...)` is known to compute the same | `default` of {} |
| `signatures['default']`, else `'serving_default'`, else the only one, where `obj` has neither
  `__call__` for inference nor a function `name` with both arguments | `default` of {}, too |
| `signatures['serving_default']`, where `obj.default` is `obj` and `obj.serving_default` is not
  there | `default` of {}, too |
| what was not traced for training, where anything was | in {train} what it is in {} |
| `obj.tags(...)`, `obj.tags.name(...)`, `signatures['tags/name']` | `default` and `name` of the
  variant that the subobject is called after, whatever `training` is |
| the only output of `default`, whatever its name | `default`, too |

A function `name` counts if it takes `training` and `return_endpoints`, as the reusable interface
has it, or if a serving signature has its name and takes and gives the same; a subobject, if it has
such functions and the lists `variables`, `trainable_variables` and `regularization_losses`. With
`return_endpoints=True` a callable gives all outputs. Of several traces,
bridge/saved_model/choice.py knows which one users run.

An object often offers one computation in several places: with `training=True` what it has without,
or as the root and as a subobject. `same_as` says so where the graphs are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from bridge._surfaces.contents import Contents
from bridge._surfaces.surface import Computation
from bridge._surfaces.ways import Library, Way, WayReader, same_graph
from bridge.model import DEFAULT, INFERENCE, TRAIN, Endpoint, Tags
from bridge.report import Report
from bridge.saved_model.choice import stand_in, trained_as
from bridge.saved_model.mappings import compute_the_same
from bridge.saved_model.names import SERVING_DEFAULT
from bridge.saved_model.objects import ROOT
from bridge.saved_model.traces import Trace

_CALL = "__call__"
_SIGNATURES = "signatures"
_LISTS = ("variables", "trainable_variables", "regularization_losses")

_Named = dict[str, list[Way]]


@dataclass
class Interface:
    """An object with callables: the root, or a subobject.

    Attributes:
      number: of the object.
      name: attribute of the root that it is; empty for the root.
      tags: the variant that answers without training.
      ways: for each value of `training`, the ways to compute each signature.
      again: for a signature that is another one by the mapping, that one.
      functions: the signatures that nothing but functions besides `__call__` stand for. A module
        can have them, but converting this SavedModel makes none of them, for nothing serves them.
    """

    number: int
    name: str
    tags: Tags
    ways: dict[bool, _Named] = field(default_factory=lambda: {False: {}, True: {}})
    again: dict[str, str] = field(default_factory=dict)
    functions: frozenset[str] = frozenset()

    def variant(self, training: bool) -> Tags:
        """Returns the tags of the variant that answers for a value of `training`."""
        return TRAIN if training and self.number == ROOT else self.tags

    def all_ways(self) -> Iterator[Way]:
        """Yields all ways."""
        for named in self.ways.values():
            for ways in named.values():
                yield from ways


def read_interfaces(reader: WayReader) -> list[Interface]:
    """Returns the objects with callables, subobjects first."""
    tree = reader.tree
    signatures = tree.child(ROOT, _SIGNATURES)
    served = {
        name: reader.functions.trace(function)
        for name, number in sorted(
            ({} if signatures is None else tree.children(signatures)).items()
        )
        for function in tree.concrete_functions(number)[:1]
    }
    callable_root = tree.child(ROOT, _CALL) is not None
    result: list[Interface] = []
    for name, number in sorted(tree.children(ROOT).items()):
        if name in (_CALL, _SIGNATURES) or not _is_interface(reader, number):
            continue
        prefix = f"{name}/"
        own = [] if callable_root else [key for key in served if key.startswith(prefix)]
        found = {key.removeprefix(prefix): served.pop(key) for key in own}
        result.append(_Builder(reader, Interface(number, name, _tags_of(name)), found).build())
    result.append(_Builder(reader, Interface(ROOT, "", INFERENCE), served).build())
    return result


def _is_interface(reader: WayReader, number: int) -> bool:
    children = reader.tree.children(number)
    listed = all(name in children for name in _LISTS)
    return listed and any(reader.takes_modes(child) for child in children.values())


def _tags_of(name: str) -> Tags:
    """Returns the tags that a subobject is called after: sorted, and joined by `_`."""
    parts = name.split("_")
    return frozenset(parts if parts == sorted(set(parts)) and all(parts) else [name])


class _Builder:
    """Finds the ways of one object."""

    def __init__(self, reader: WayReader, interface: Interface, served: Mapping[str, Trace]):
        self._reader = reader
        self._interface = interface
        self._served = served
        self._children = reader.tree.children(interface.number)
        self._call = self._children.get(_CALL)
        is_root = interface.number == ROOT
        self._path = "" if is_root else f"{interface.name}."
        self._prefix = "" if is_root else f"{interface.name}/"

    def build(self) -> Interface:
        ways = self._interface.ways
        for training in (False, True):
            if found := self._callable(self._call, _CALL, DEFAULT, training):
                ways[training][DEFAULT] = found
        with_modes = self._add_functions()
        self._add_served(with_modes)
        called = {DEFAULT} if self._call is not None else set()
        self._interface.functions = frozenset(with_modes - self._served.keys() - called)
        if self._interface.number == ROOT:
            self._add_trained(with_modes)
        return self._interface

    def _callable(self, number: int | None, name: str, signature: str, training: bool) -> list[Way]:
        like = self._interface.ways[False].get(signature, ()) if training else ()
        return self._reader.callable(number, f"{self._path}{name}", training, like)

    def _add_functions(self) -> set[str]:
        """Adds the functions that take `training` and `return_endpoints`; returns their names."""
        found: set[str] = set()
        for name, number in sorted(self._children.items()):
            if name.startswith("_") or not self._reader.takes_modes(number):
                continue
            signature = self._signature_of(name)
            found.add(signature)
            if signature == DEFAULT and number == self._call:
                continue
            for training in (False, True):
                if ways := self._callable(number, name, signature, training):
                    self._interface.ways[training].setdefault(signature, []).extend(ways)
        return found

    def _signature_of(self, name: str) -> str:
        """Returns the signature of an attribute, which has underscores where its name is taken."""
        if name in self._served:
            return name
        same = (s for s in self._served if (s.lstrip("_") or "unnamed") == name.rstrip("_"))
        return next(same, name)

    def _add_served(self, with_modes: set[str]) -> None:
        ways = self._interface.ways[False]
        mapped = DEFAULT in with_modes and self._children.get(DEFAULT) == self._call
        for name, trace in self._served.items():
            full = f"{self._prefix}{name}"
            known = ways.get(name)
            if name == DEFAULT and self._is_another(trace):
                continue
            if name == SERVING_DEFAULT and mapped and name not in with_modes:
                self._interface.again[name] = DEFAULT
                known = ways.get(DEFAULT)
            way = self._reader.served(full, trace, known[0]) if known else None
            if known and way is not None:
                known.append(way)
                if ways.get(name) is known:
                    continue
            if name not in with_modes and (way := way or self._reader.served(full, trace)):
                ways[name] = [way]
        # A model made from a module has no `default` where the module has none.
        source = None if DEFAULT in ways or with_modes else stand_in(self._served)
        if source is not None and source in ways:
            ways[DEFAULT] = list(ways[source])

    def _is_another(self, trace: Trace) -> bool:
        """True for a signature `default` that is not `__call__`, which is what counts."""
        main = self._interface.ways[False].get(DEFAULT)
        if self._call is None or not main:
            return False
        return not compute_the_same(main[0].trace, trace, self._reader.library)

    def _add_trained(self, with_modes: set[str]) -> None:
        """Adds what the other functions are in training, where the object can be trained at all."""
        reader, ways = self._reader, self._interface.ways
        default = ways[True].get(DEFAULT) or ways[False].get(DEFAULT)
        for name, trace in self._served.items():
            number = self._children.get(name)
            if name in with_modes or number is None:
                continue
            fed = default[0].trace if default else None
            trained = trained_as(
                reader.tree, reader.functions, name, trace, fed, Report("", None, "parity")
            )
            if trained is not trace and trained != trace:
                ways[True][name] = self._callable(number, name, name, training=True)
        if not ways[True]:
            return
        source = stand_in(self._served)
        if default and default[0].call.kind == "signature" and source in ways[True]:
            ways[True][DEFAULT] = list(ways[True][source])
        for name in ways[False].keys() - ways[True].keys() - with_modes:
            ways[True][name] = [self._reader.in_training(way) for way in ways[False][name]]


# -- computations ----------------------------------------------------------------------------------


def computations_of(
    interfaces: Iterable[Interface], contents: Contents, library: Library, *, was_module: bool
) -> list[Computation]:
    """Returns the computations of all interfaces, those of inference first.

    Args:
      interfaces: where they are offered.
      contents: digests of what functions compute.
      library: the functions, by name.
      was_module: whether the SavedModel says of what module it was made, and becomes that again.
    """
    found: dict[tuple[Tags, str], list[Way]] = {}
    made_of: dict[tuple[Tags, str], object] = {}
    same_as: dict[tuple[Tags, str], tuple[Tags, str]] = {}
    forms: dict[tuple[Tags, str], list[Way]] = {}
    lost: set[tuple[Tags, str]] = set()
    for training in (False, True):
        for interface in interfaces:
            for name, offered in sorted(interface.ways[training].items()):
                key = interface.variant(training), name
                if not was_module and (interface.number != ROOT or name in interface.functions):
                    lost.add(key)
                ways = _without_spares(offered, contents, library)
                digests = _digests(ways, contents)
                forms.setdefault(key, []).extend(offered)
                if key in found:
                    # A subobject with `training=True`. What runs the same graph needs no run.
                    found[key] += ways if digests != made_of[key] else []
                    continue
                named = name, interface.again.get(name)
                same = (other for other in found if made_of[other] == digests and other[1] in named)
                if (first := next(same, None)) is not None:
                    same_as[key] = first
                found[key], made_of[key] = list(ways), digests
    result = [
        replace(_computation(*key, ways, same_as.get(key), forms[key]), is_kept=key not in lost)
        for key, ways in found.items()
    ]
    return sorted(result, key=lambda c: (len(c.variant), sorted(c.variant), c.signature))


def _without_spares(ways: list[Way], contents: Contents, library: Library) -> list[Way]:
    """Returns the ways that run other graphs, and those that must be run whatever they are."""
    kept = [way for way in ways if not way.is_spare]
    for way in ways:
        if way.is_spare and not any(same_graph(way, other, contents, library) for other in kept):
            kept.append(way)
    return kept


def _digests(ways: list[Way], contents: Contents) -> object:
    digests: dict[str, tuple[bytes, ...]] = {}
    for way in ways:
        for key, value in way.contents(contents).items():
            digests.setdefault(key, value)
    return digests


def _computation(
    variant: Tags,
    name: str,
    ways: list[Way],
    same_as: tuple[Tags, str] | None,
    forms: list[Way],
) -> Computation:
    outputs: dict[str, Endpoint] = {}
    for way in ways:
        outputs = {**way.outputs, **outputs}
    calls = [way.call for way in ways]
    others = [way.call for way in forms if way.call not in calls]
    if name == DEFAULT and len(outputs) == 1 and DEFAULT not in outputs:
        (only,) = outputs
        outputs[DEFAULT] = outputs[only]
        calls, others = (
            [replace(c, outputs={**c.outputs, DEFAULT: c.outputs[only]}) for c in found]
            for found in (calls, others)
        )
    outputs = dict(sorted(outputs.items()))
    return Computation(variant, name, ways[0].inputs, outputs, tuple(calls), same_as, tuple(others))
