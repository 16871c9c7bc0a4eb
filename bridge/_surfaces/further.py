"""The callables of a SavedModel that are no signature of a TF1 Hub module.

They are the traces of function objects below the root, and the serving signatures, that no way to
compute a signature runs. What only its own maker calls does not count: attributes whose names start
with an underscore, and the objects of Keras, which are called through the model. An item of a list
goes by its index.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from bridge._surfaces.contents import Contents
from bridge._surfaces.saved_interfaces import Interface
from bridge._surfaces.surface import Computation
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
    reader: WayReader, interfaces: Iterable[Interface], contents: Contents
) -> tuple[Computation, ...]:
    """Returns the callables that no signature stands for, each named as a call of it.

    Where one runs the graph of a signature on the same inputs, `same_as` says so.

    Args:
      reader: reads the ways to call them.
      interfaces: where the signatures are offered.
      contents: digests of what functions compute.
    """
    known = [
        (interface.variant(training), name, way)
        for interface in interfaces
        for training, named in interface.ways.items()
        for name, ways in named.items()
        for way in ways
    ]
    covered = {way.trace.function for *_, way in known}
    found: dict[str, Computation] = {}
    for way in _ways(reader):
        if way.trace.function in covered:
            continue
        same_as = next(
            (
                (tags, name)
                for tags, name, other in known
                if same_graph(way, other, contents, reader.library)
            ),
            None,
        )
        name = _name(way)
        found.setdefault(name, _computation(name, way, same_as))
    return tuple(found[name] for name in sorted(found))


def kind_of(computation: Computation) -> object:
    """Returns what two models must agree in so that a callable of one is that of the other."""
    call = computation.calls[0]
    constants = {name: value for name, value in call.kwargs.items() if "value" in value}
    inputs = {name: (end.encoding, end.dtype) for name, end in computation.inputs.items()}
    return call.kind, call.name, repr(sorted(constants.items())), frozenset(inputs.items())


def _computation(name: str, way: Way, same_as: tuple[Tags, str] | None) -> Computation:
    return Computation(INFERENCE, name, way.inputs, way.outputs, (way.call,), same_as)


def _ways(reader: WayReader) -> Iterator[Way]:
    functions = reader.functions
    for path, number in _function_objects(reader.tree):
        for trace in functions.traces(number):
            try:
                yield reader.way(trace, number, path, trace.values.get(TRAINING) is True)
            except UnsupportedError:
                # An argument that nobody can give, such as an object of Python.
                continue
    served = reader.tree.child(ROOT, "signatures")
    for name, number in sorted(({} if served is None else reader.tree.children(served)).items()):
        for function in reader.tree.concrete_functions(number)[:1]:
            way = reader.served(name, functions.trace(function))
            if way is not None:
                yield way


def _function_objects(tree: ObjectTree) -> Iterator[tuple[str, int]]:
    """Yields the function objects that attributes lead to, with these, each once."""
    seen = {ROOT}
    objects = [("", ROOT)]
    for path, parent in objects:  # grows while it runs
        for name, number in sorted(tree.children(parent).items()):
            is_name = name.isdecimal() or (name.isidentifier() and not name.startswith("_"))
            is_public = is_name or name == _CALL
            if number in seen or not is_public or name in _NOT_FOLLOWED:
                continue
            seen.add(number)
            if tree.concrete_functions(number):
                yield f"{path}{name}", number
            elif not tree.nodes[number].user_object.identifier.startswith("_tf_keras"):
                objects.append((f"{path}{name}.", number))


def _name(way: Way) -> str:
    """Returns how reports name it: `score(x: float32[?,3], mode='a')`."""
    given = [f"{name}: {_type(end)}" for name, end in sorted(way.inputs.items())]
    if way.call.kind == "signature":
        return f"signatures[{way.call.name!r}]({', '.join(given)})"
    return f"{way.call.name}({', '.join([*given, *_constants(way.trace)])})"


def _type(endpoint: Endpoint) -> str:
    return f"{dtype_name(endpoint.dtype)}{format_shape(endpoint.shape)}"


def _constants(trace: Trace) -> Iterator[str]:
    values: Mapping[str, object] = trace.values
    yield from (f"{name}={value!r}" for name, value in sorted(values.items()))
