"""The callables of a SavedModel that are no signature of a TF1 Hub module.

They are the traces of function objects below the root, by each name that they have, and the serving
signatures, where that is no way to compute a signature. What only its own maker calls does not
count: attributes whose names start with an underscore, and the objects of Keras, which are called
through the model. An item of a list goes by its index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from bridge._surfaces.contents import Contents
from bridge._surfaces.saved_interfaces import Interface
from bridge._surfaces.surface import Computation, Updates
from bridge._surfaces.ways import Way, WayReader, same_graph
from bridge.dtypes import dtype_name
from bridge.errors import UnsupportedError
from bridge.model import INFERENCE, Endpoint, Tags, format_shape
from bridge.saved_model.names import TRAINING
from bridge.saved_model.object_tree import ObjectTree
from bridge.saved_model.objects import ROOT
from bridge.saved_model.traces import Trace

_CALL = "__call__"
_NOT_FOLLOWED = frozenset(
    {
        "call_and_return_all_conditional_losses",  # Keras's own
        "keras_api",
        "layer_regularization_losses",
        "optimizer",
        "regularization_losses",
        "signatures",
        "trainable_variables",
        "variables",
    }
)


def further_computations(
    reader: WayReader,
    interfaces: Iterable[Interface],
    contents: Contents,
    updates: Callable[[Way], Updates],
) -> tuple[Computation, ...]:
    """Returns the callables that no signature stands for, each named as a call of it.

    Where one runs the graph of a signature on the same inputs, `same_as` says so.

    Args:
      reader: reads the ways to call them.
      interfaces: where the signatures are offered.
      contents: digests of what functions compute.
      updates: tells what a way does to variables.
    """
    known: dict[tuple[Tags, str], list[Way]] = {}
    for interface in interfaces:
        for training, named in interface.ways.items():
            for signature, ways in named.items():
                known.setdefault((interface.variant(training), signature), []).extend(ways)
    covered = {_identity(way) for ways in known.values() for way in ways}
    served = {way.call.name: way for ways in known.values() for way in ways
              if way.call.kind == "signature" and not way.training}  # fmt: skip

    def are_same(way: Way, other: Way) -> bool:
        is_one = (way.trace.function, way.training) == (other.trace.function, other.training)
        return is_one or same_graph(way, other, contents, reader.library)

    found: dict[str, list[list[Way]]] = {}
    for way in _ways(reader, served):
        if _identity(way) in covered:
            continue
        groups = found.setdefault(_name(way), [])
        # Forms of one name, such as a dictionary and a tuple, may compute different things.
        group = next((group for group in groups if are_same(way, group[0])), None)
        if group is None:
            groups.append([way])
        else:
            group.append(way)
    result = []
    for name, groups in sorted(found.items()):
        for number, ways in enumerate(groups, 1):
            same_as = (
                key
                for key, others in known.items()
                if all(any(are_same(way, other) for other in others) for way in ways)
            )
            full = name if number == 1 else f"{name}, form {number}"
            computation = _computation(full, ways, next(same_as, None))
            result.append(replace(computation, updates=tuple(map(updates, ways))))
    return tuple(result)


def kind_of(computation: Computation) -> object:
    """Returns what two models must agree in so that a callable of one is that of the other."""
    call = computation.calls[0]
    given = {**call.implied, **call.kwargs}
    constants = {name: value for name, value in given.items() if "value" in value}
    inputs = {name: (end.encoding, end.dtype) for name, end in computation.inputs.items()}
    # Whatever the only input is called, it is the input.
    named = frozenset(inputs.items()) if len(inputs) > 1 else frozenset(inputs.values())
    return call.kind, call.name, repr(sorted(constants.items())), named


def _identity(way: Way) -> object:
    """Returns what is run, and how a user names it."""
    training = way.training if _takes_training(way.trace) else None
    return way.trace.function, way.call.kind, way.call.name, training


def _takes_training(trace: Trace) -> bool:
    return any(leaf.is_training for leaf in trace.inputs)


def _computation(name: str, ways: list[Way], same_as: tuple[Tags, str] | None) -> Computation:
    outputs: dict[str, Endpoint] = {}
    for way in ways:
        outputs = {**way.outputs, **outputs}
    calls = tuple(way.call for way in ways)
    return Computation(INFERENCE, name, ways[0].inputs, outputs, calls, same_as)


def _ways(reader: WayReader, known: Mapping[str, Way]) -> Iterator[Way]:
    """Yields all ways; `known` has those of some serving signatures."""
    functions = reader.functions
    for path, number in _function_objects(reader.tree):
        for trace in functions.traces(number):
            fixed = trace.values.get(TRAINING) is True
            for training in (False, True) if _takes_training(trace) else (fixed,):
                try:
                    yield reader.way(trace, number, path, training)
                except UnsupportedError:
                    # An argument that nobody can give, such as an object of Python.
                    continue
    served = reader.tree.child(ROOT, "signatures")
    for name, number in sorted(({} if served is None else reader.tree.children(served)).items()):
        for function in reader.tree.concrete_functions(number)[:1]:
            way = known.get(name) or reader.served(name, functions.trace(function))
            if way is None:
                continue
            yield way
            if (trained := reader.in_training(way)).call != way.call:
                yield trained


def _function_objects(tree: ObjectTree) -> Iterator[tuple[str, int]]:
    """Yields the function objects that attributes lead to, with these."""
    seen = {ROOT}
    objects = [("", ROOT)]
    for path, parent in objects:  # grows while it runs
        for name, number in sorted(tree.children(parent).items()):
            if name in _NOT_FOLLOWED or (name.startswith("_") and name != _CALL):
                continue
            step = name.replace(".", r"\.")
            if tree.concrete_functions(number):
                yield f"{path}{step}", number
            elif number not in seen:
                seen.add(number)
                if not tree.nodes[number].user_object.identifier.startswith("_tf_keras"):
                    objects.append((f"{path}{step}.", number))


def _name(way: Way) -> str:
    """Returns how reports name it: `score(x: float32[?,3], mode='a')`."""
    given = [f"{name}: {_type(end)}" for name, end in sorted(way.inputs.items())]
    training = [f"{TRAINING}={way.training}"] if _takes_training(way.trace) else []
    if way.call.kind == "signature":
        return f"signatures[{way.call.name!r}]({', '.join([*given, *training])})"
    return f"{way.call.name}({', '.join([*given, *_constants(way.trace), *training])})"


def _type(endpoint: Endpoint) -> str:
    return f"{dtype_name(endpoint.dtype)}{format_shape(endpoint.shape)}"


def _constants(trace: Trace) -> Iterator[str]:
    values: Mapping[str, object] = trace.values
    yield from (f"{name}={value!r}" for name, value in sorted(values.items()))
