"""The ways to call a loaded SavedModel: its callables and its serving signatures."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from bridge._surfaces.contents import Contents, digest
from bridge._surfaces.surface import Call
from bridge._surfaces.templates import arguments_of, keyword_arguments, paths_of
from bridge.graph import Graph
from bridge.model import Encoding, Endpoint
from bridge.proto import tf_pb
from bridge.saved_model.choice import Functions, pick_trace
from bridge.saved_model.mappings import compute_the_same
from bridge.saved_model.names import RETURN_ENDPOINTS, TRAINING
from bridge.saved_model.object_tree import ObjectTree
from bridge.saved_model.structured_value import parts_of
from bridge.saved_model.traces import (
    Trace,
    argument_defaults,
    argument_names,
)

Library = Mapping[str, tf_pb.FunctionDef]

_SPARSE_PARTS = ("indices", "values", "dense_shape")


@dataclass(frozen=True)
class Way:
    """One way to compute a signature.

    Attributes:
      call: how a runner does it.
      trace: the concrete function that it runs.
      training: what it gives an argument `training` that is a tensor.
      inputs: what a caller gives, by name.
      is_spare: whether it need not be run where another way runs the same graph.
    """

    call: Call
    trace: Trace
    training: bool
    inputs: Mapping[str, Endpoint]
    is_spare: bool = False

    @property
    def trains(self) -> bool:
        """Whether it is given a true `training`."""
        if any(leaf.is_training for leaf in self.trace.inputs):
            return self.training
        return bool(self.trace.values.get(TRAINING))

    @property
    def outputs(self) -> dict[str, Endpoint]:
        """What it returns, by name."""
        return {leaf.key: leaf.endpoint for leaf in self.trace.outputs}

    def contents(self, contents: Contents) -> dict[str, tuple[bytes, ...]]:
        """Returns the digests of the components of each output."""
        arguments: list[bytes] = []
        for leaf in self.trace.inputs:
            given = self.call.kwargs.get(leaf.argument, {})
            if self.call.kind == "signature" and "input" in given:
                key = given["input"]
            elif leaf.is_fixed:
                key = repr(self.training if leaf.is_training else leaf.default)
            else:
                key = leaf.key
            names = _part_names(leaf.endpoint, key)
            arguments += [digest("fixed" if leaf.is_fixed else "input", name) for name in names]
        arguments += [digest("object", str(number)) for number in self.trace.captures]
        found = iter(contents.of_function(self.trace.function, arguments))
        return {
            leaf.key: tuple(itertools.islice(found, len(leaf.endpoint.components)))
            for leaf in self.trace.outputs
        }


def same_graph(way: Way, other: Way, contents: Contents, library: Library) -> bool:
    """True if all that a way returns is computed by the graph that another way runs.

    Both take inputs of the same names, and an output has the same name in both, or is the only
    one in both.

    Args:
      way: the one.
      other: the other.
      contents: digests of what functions compute.
      library: the functions, by name.
    """
    trace = _renamed(way.trace, other.trace)
    if trace is None or way.training != other.training:
        return False
    if len(trace.outputs) == len(other.trace.outputs) == 1:
        outputs = (replace(trace.outputs[0], key=other.trace.outputs[0].key),)
        trace = replace(trace, outputs=outputs)
    if compute_the_same(trace, other.trace, library):
        return True
    known = other.contents(contents)
    found = replace(way, trace=trace).contents(contents)
    return all(known.get(name) == value for name, value in found.items())


class WayReader:
    """Finds the ways that objects offer."""

    def __init__(
        self,
        tree: ObjectTree,
        concrete: Mapping[str, tf_pb.SavedConcreteFunction],
        graph: Graph,
    ):
        """Takes the parts of the SavedModel.

        Args:
          tree: the objects.
          concrete: how each concrete function is called.
          graph: has the function library, which check_graph has been through.
        """
        self.tree = tree
        self.functions = Functions(tree, concrete, graph.functions)
        self.library = graph.functions
        self.concrete = concrete

    def takes_modes(self, number: int | None) -> bool:
        """True for a function with the arguments `training` and `return_endpoints`."""
        names = argument_names(self.functions.spec(number))
        return TRAINING in names and RETURN_ENDPOINTS in names

    def callable(
        self, number: int | None, path: str, training: bool, like: Iterable[Way] = ()
    ) -> list[Way]:
        """Returns the ways to call a function object: with all outputs, as users do, and others.

        The others take the same in another form, such as a dictionary, and are spare.

        Args:
          number: the function object.
          path: the attributes that lead to it.
          training: the value of `training`.
          like: ways of the same computation, after the first of which a trace is chosen.
        """
        first = next((way.trace for way in like), None)
        main = pick_trace(self.functions, number, training=training, like=first)
        if main is None:
            return []
        if main.values.get(RETURN_ENDPOINTS) is not True:
            return [self.way(main, number, path, training)]
        others = [
            renamed
            for trace in self.functions.traces(number)
            if trace.function != main.function
            and {**trace.values, RETURN_ENDPOINTS: True} == main.values
            and (renamed := _renamed(trace, main)) is not None
        ]
        # Of those that users call, the form that takes the tensor itself stands last.
        plain = [t for t in others if t.values[RETURN_ENDPOINTS] is False][-1:]
        spare = [t for t in others if t not in plain]
        return [
            *(self.way(trace, number, path, training) for trace in (main, *plain)),
            *(replace(self.way(t, number, path, training), is_spare=True) for t in spare),
        ]

    def way(self, trace: Trace, number: int | None, path: str, training: bool) -> Way:
        """Returns the way to run a trace of a function object, as `callable` takes it."""
        spec = self.functions.spec(number)
        given = arguments_of(
            self.concrete[trace.function],
            trace,
            argument_names(spec),
            argument_defaults(spec),
            training,
            self.tree.where,
        )
        outputs = paths_of(self.concrete[trace.function], trace, self.tree.where)
        return Way(
            Call(
                "callable",
                path,
                args=given.args,
                kwargs=given.kwargs,
                implied=given.implied,
                outputs=outputs,
            ),
            trace,
            training,
            _inputs(trace),
        )

    def served(self, name: str, trace: Trace, like: Way | None = None) -> Way | None:
        """Returns the way to call a serving signature.

        Args:
          name: its name.
          trace: its function.
          like: another way of the same computation, whose names the inputs get.

        Returns:
          The way; None if it takes or gives something else than `like`.
        """
        kwargs = keyword_arguments(trace, training=False)
        if like is not None:
            inputs = _inputs_of(trace, like)
            if inputs is None or {leaf.key for leaf in trace.outputs} != like.outputs.keys():
                return None
            kwargs = {**kwargs, **{name: {"input": key} for name, key in inputs.items()}}
        outputs = paths_of(self.concrete[trace.function], trace, self.tree.where)
        call = Call("signature", name, kwargs=kwargs, outputs=outputs)
        return Way(call, trace, False, _inputs(trace) if like is None else like.inputs)

    def in_training(self, way: Way) -> Way:
        """Returns a way that was not made for training as it is in training.

        Only a serving signature that takes `training` as a tensor is then another.
        """
        if way.call.kind != "signature":
            return way
        kwargs = {
            name: {"value": True} if name == TRAINING and "value" in template else template
            for name, template in way.call.kwargs.items()
        }
        return replace(way, call=replace(way.call, kwargs=kwargs), training=True)


def _inputs(trace: Trace) -> dict[str, Endpoint]:
    return {leaf.key: leaf.endpoint for leaf in trace.inputs if not leaf.is_fixed}


def _renamed(trace: Trace, like: Trace) -> Trace | None:
    """Returns a trace whose inputs have the names that those of another of their types have."""
    keys = [leaf.key for leaf in trace.inputs if not leaf.is_fixed]
    wanted = [leaf.key for leaf in like.inputs if not leaf.is_fixed]
    if _types(trace) != _types(like):
        return None
    if set(keys) == set(wanted):
        return trace
    if len(keys) != 1 or len(wanted) != 1:
        return None
    inputs = [leaf if leaf.is_fixed else replace(leaf, key=wanted[0]) for leaf in trace.inputs]
    return replace(trace, inputs=tuple(inputs))


def _types(trace: Trace) -> list[tuple[str, int]]:
    ends = (leaf.endpoint for leaf in trace.inputs if not leaf.is_fixed)
    return sorted((end.encoding.value, end.dtype) for end in ends)


def _inputs_of(trace: Trace, like: Way) -> dict[str, str] | None:
    """Returns what each keyword of a serving signature gets, if it takes what another way does.

    A serving signature takes each part of a sparse or ragged tensor by a keyword of its own, and a
    keyword that Python does not have gets an underscore.
    """
    wanted = like.inputs
    parts = parts_of(wanted)
    found: dict[str, str] = {}
    for leaf in trace.inputs:
        if leaf.argument in wanted and leaf.key in wanted:
            found[leaf.argument] = leaf.key
            continue
        names = leaf.argument, leaf.argument.rstrip("_")
        part = next((part for part in parts if part.name in names), None)
        if part is not None:
            position = [other for other in parts if other.key == part.key].index(part)
            found[leaf.argument] = _part_names(wanted[part.key], part.key)[position]
        elif not leaf.is_fixed:
            return None
    return found if {key.partition("|")[0] for key in found.values()} == wanted.keys() else None


def _part_names(endpoint: Endpoint, key: str) -> list[str]:
    """Returns how arrays name the parts of an input: `x`; `x|indices` …; `x|values` …."""
    if endpoint.encoding is Encoding.DENSE:
        return [key]
    if endpoint.encoding is Encoding.SPARSE:
        return [f"{key}|{part}" for part in _SPARSE_PARTS]
    splits = range(len(endpoint.components) - 1)
    return [f"{key}|values", *(f"{key}|row_splits_{depth}" for depth in splits)]
