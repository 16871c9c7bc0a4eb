"""Concrete functions as their callers see them: named arguments in, a structure out.

Source: tensorflow/core/protobuf/struct.proto and python/saved_model/nested_structure_coder.py; the
order of flat tensors is that of tf.nest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bridge.errors import MalformedError, UnsupportedError, Where
from bridge.model import DEFAULT, Component, Encoding, Endpoint, Shape, shape_from_proto
from bridge.proto import tf_pb
from bridge.saved_model.names import TRAINING

Python = bool | int | float | str | None
"""A value of Python among the arguments of a trace."""

_SPARSE = tf_pb.TypeSpecProto.SPARSE_TENSOR_SPEC


@dataclass(frozen=True)
class Leaf:
    """A tensor among the arguments or results of a function; its components have no names yet.

    Attributes:
      argument: name of the argument that holds it; empty for a result.
      key: its own name.
      endpoint: what it is.
      default: what the Python function takes where a caller leaves the argument out; None where it
        must be given.
    """

    argument: str
    key: str
    endpoint: Endpoint
    default: float | None = None

    @property
    def is_training(self) -> bool:
        """True for the argument `training`, where it is given as a tensor."""
        end = self.endpoint
        return self.argument == TRAINING and (end.dtype, end.shape) == (tf_pb.DT_BOOL, ())

    @property
    def is_fixed(self) -> bool:
        """True if no caller gives it: the variant or the function's default says what it is."""
        return self.is_training or self.default is not None


@dataclass(frozen=True)
class Trace:
    """A concrete function.

    Attributes:
      function: its name in the library.
      inputs: its tensors, in the order of the function's arguments.
      values: its other arguments, by name.
      outputs: its results, in the order of the function's.
      captures: numbers of the objects that its last arguments are bound to.
    """

    function: str
    inputs: tuple[Leaf, ...]
    values: Mapping[str, Python]
    outputs: tuple[Leaf, ...]
    captures: tuple[int, ...]


def argument_names(spec: tf_pb.FunctionSpec) -> list[str]:
    """Returns the names of a Python function's positional arguments, without `self`."""
    for pair in spec.fullargspec.named_tuple_value.values:
        if pair.key == "args":
            names = [value.string_value for value in pair.value.list_value.values]
            return names[1:] if spec.is_method else names
    return []


def argument_defaults(spec: tf_pb.FunctionSpec) -> dict[str, Python]:
    """Returns the defaults of a Python function's arguments, those that are no tensors."""
    fields = {pair.key: pair.value for pair in spec.fullargspec.named_tuple_value.values}
    defaults = fields["defaults"].tuple_value.values if "defaults" in fields else ()
    names = argument_names(spec)
    found = dict(zip(names[len(names) - len(defaults) :], map(_python, defaults), strict=False))
    if "kwonlydefaults" in fields:
        keyword_only = fields["kwonlydefaults"].dict_value.fields
        found |= {name: _python(keyword_only[name]) for name in sorted(keyword_only)}
    return found


def read_trace(
    name: str,
    concrete: tf_pb.SavedConcreteFunction,
    function: tf_pb.FunctionDef,
    arguments: Sequence[str],
    where: Where,
    defaults: Mapping[str, Python] | None = None,
) -> Trace:
    """Reads how a concrete function is called.

    Args:
      name: its name.
      concrete: what the object graph says of it.
      function: the function itself.
      arguments: names of the positional arguments.
      where: for error messages.
      defaults: of its arguments, by name.

    Raises:
      MalformedError: the description does not fit the function.
      UnsupportedError: a type of argument or result that is not known.
    """
    reader = _Reader(name, where)
    types = [arg.type for arg in function.signature.input_arg]
    positional, keywords = reader.canonical(concrete.canonicalized_input_signature)
    values: dict[str, Python] = {}
    found: list[_Found] = []
    named = [
        (arguments[i] if i < len(arguments) else f"args_{i}", value)
        for i, value in enumerate(positional)
    ]
    for argument, value in [*named, *sorted(keywords.items())]:
        leaves = list(reader.leaves(value, ()))
        found += [_Found(argument, *leaf) for leaf in leaves]
        if not leaves:
            values[argument] = _python(value)
    captures = tuple(concrete.bound_inputs)
    inputs = reader.endpoints(found, types[: len(types) - len(captures)], _input_key)
    inputs = tuple(_with_default(leaf, defaults or {}) for leaf in inputs)
    results = [_Found("", *leaf) for leaf in reader.leaves(concrete.output_signature, ())]
    outputs = reader.endpoints(
        results, [arg.type for arg in function.signature.output_arg], _output_key
    )
    return Trace(name, inputs, values, outputs, captures)


@dataclass(frozen=True)
class _Found:
    """A tensor in a structure: the argument, the path in there, its type."""

    argument: str
    path: tuple[str | int, ...]
    spec: tf_pb.StructuredValue


def _with_default(leaf: Leaf, defaults: Mapping[str, Python]) -> Leaf:
    """Returns an input with the default of its argument, if that is a number for this scalar."""
    default, end = defaults.get(leaf.argument), leaf.endpoint
    scalar = (end.dtype, end.shape) == (tf_pb.DT_FLOAT, ())
    if scalar and isinstance(default, (int, float)) and not isinstance(default, bool):
        return replace(leaf, default=float(default))
    return leaf


def _input_key(leaf: _Found) -> str:
    """The key in its dictionary, else the tensor's own name, else the argument's."""
    if leaf.path and isinstance(leaf.path[-1], str):
        return "/".join(map(str, leaf.path))
    own = leaf.spec.tensor_spec_value.name
    return own or "_".join(map(str, (leaf.argument, *leaf.path)))


def _output_key(leaf: _Found) -> str:
    """The key in its dictionary, `output_N` in a sequence, `default` if it is all there is."""
    if not leaf.path:
        return DEFAULT
    if isinstance(leaf.path[-1], str):
        return "/".join(map(str, leaf.path))
    return "_".join(map(str, ("output", *leaf.path)))


def _python(value: tf_pb.StructuredValue) -> Python:
    kind = value.WhichOneof("kind")
    if kind in ("bool_value", "int64_value", "float64_value", "string_value"):
        found: Python = getattr(value, kind)
        return found
    return None


class _Reader:
    def __init__(self, name: str, where: Where):
        self._name = name
        self._where = where

    def _error(self, message: str) -> MalformedError:
        return MalformedError(f"function {self._name!r}: {message}", where=self._where)

    def canonical(
        self, value: tf_pb.StructuredValue
    ) -> tuple[list[tf_pb.StructuredValue], dict[str, tf_pb.StructuredValue]]:
        """Returns the positional and the keyword arguments."""
        if not value.HasField("tuple_value"):
            return [], {}
        parts = list(value.tuple_value.values)
        if len(parts) != 2 or not parts[0].HasField("tuple_value"):
            raise self._error("its arguments are no pair of positional and keyword ones")
        return list(parts[0].tuple_value.values), dict(parts[1].dict_value.fields)

    def leaves(
        self, value: tf_pb.StructuredValue, path: tuple[str | int, ...]
    ) -> Iterator[tuple[tuple[str | int, ...], tf_pb.StructuredValue]]:
        """Yields the tensors of a structure in tf.nest's order, with their paths."""
        kind = value.WhichOneof("kind")
        if kind in ("tensor_spec_value", "type_spec_value"):
            yield path, value
        elif kind in ("list_value", "tuple_value"):
            for position, item in enumerate(getattr(value, kind).values):
                yield from self.leaves(item, (*path, position))
        elif kind == "dict_value":
            for key, item in sorted(value.dict_value.fields.items()):
                yield from self.leaves(item, (*path, key))
        elif kind == "named_tuple_value":
            for pair in value.named_tuple_value.values:
                yield from self.leaves(pair.value, (*path, pair.key))
        elif kind is None and value.ByteSize():
            raise UnsupportedError(
                f"function {self._name!r} has an argument or result of a kind that is not known",
                where=self._where,
            )

    def endpoints(
        self, found: list[_Found], types: Sequence[int], key_of: Callable[[_Found], str]
    ) -> tuple[Leaf, ...]:
        """Gives each tensor its name and the dtypes of its components."""
        leaves: list[Leaf] = []
        keys: set[str] = set()
        rest = list(types)
        for leaf in found:
            key = base = key_of(leaf)
            suffix = 0
            while key in keys:
                suffix += 1
                key = f"{base}_{suffix}"
            keys.add(key)
            endpoint = self._endpoint(leaf, rest)
            del rest[: len(endpoint.components)]
            leaves.append(Leaf(leaf.argument, key, endpoint))
        if rest:
            raise self._error(f"it has {len(types)} tensors, its description fewer")
        return tuple(leaves)

    def _endpoint(self, leaf: _Found, types: Sequence[int]) -> Endpoint:
        if not types:
            raise self._error("its description has more tensors than it")
        if leaf.spec.HasField("tensor_spec_value"):
            spec = leaf.spec.tensor_spec_value
            shape = shape_from_proto(spec.shape)
            if spec.dtype != types[0]:
                raise self._error("its description has another dtype than it")
            return Endpoint(Encoding.DENSE, spec.dtype, shape, (Component("", spec.dtype, shape),))
        return self._composite(leaf.spec.type_spec_value, types)

    def _composite(self, spec: tf_pb.TypeSpecProto, types: Sequence[int]) -> Endpoint:
        state = spec.type_state.tuple_value.values
        if spec.type_spec_class == _SPARSE and len(state) == 2:
            if len(types) < 3:
                raise self._error("its description has more tensors than it")
            shape = shape_from_proto(state[0].tensor_shape_value)
            rank = None if shape is None else len(shape)
            shapes: tuple[Shape, ...] = ((None, rank), (None,), (rank,))
            parts = tuple(Component("", t, s) for t, s in zip(types[:3], shapes, strict=True))
            return Endpoint(Encoding.SPARSE, types[1], shape, parts)
        if spec.type_spec_class == tf_pb.TypeSpecProto.RAGGED_TENSOR_SPEC and len(state) >= 3:
            shape = shape_from_proto(state[0].tensor_shape_value)
            count = 1 + state[2].int64_value
            if len(types) < count:
                raise self._error("its description has more tensors than it")
            inner = None if shape is None else (None, *shape[count:])
            parts = tuple(
                Component("", t, inner if i == 0 else (None,)) for i, t in enumerate(types[:count])
            )
            return Endpoint(Encoding.COMPOSITE, types[0], shape, parts, spec)
        raise UnsupportedError(
            f"function {self._name!r} takes or returns a {spec.type_spec_class_name or 'composite'}"
            ", which no TF1 Hub module can",
            where=self._where,
            hint="save the model with a function of plain, sparse or ragged tensors",
        )
