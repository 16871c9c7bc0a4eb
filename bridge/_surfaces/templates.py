"""How a loaded function is called, as templates that travel to a runner as JSON.

What a structure looks like stands in StructuredValues (tensorflow/core/protobuf/struct.proto); the
order of its tensors is that of tf.nest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.errors import MalformedError, UnsupportedError, Where
from bridge.proto import tf_pb
from bridge.saved_model.names import TRAINING
from bridge.saved_model.traces import Leaf, Python, Trace

Template = Any
"""A leaf or a structure, as `bridge._surfaces.surface.Call` describes it."""

Path = tuple[str | int, ...]

_PYTHON = frozenset({"bool_value", "int64_value", "float64_value", "string_value"})


@dataclass(frozen=True)
class Arguments:
    """What a function is called with.

    Attributes:
      args: templates of the positional arguments.
      kwargs: templates of the keyword arguments.
      implied: templates of those that are left out, for they have this value by default.
    """

    args: tuple[Template, ...]
    kwargs: Mapping[str, Template]
    implied: Mapping[str, Template]


def arguments_of(
    concrete: tf_pb.SavedConcreteFunction,
    trace: Trace,
    names: Sequence[str],
    defaults: Mapping[str, Python],
    training: bool,
    where: Where,
) -> Arguments:
    """Returns the arguments with which TensorFlow runs a concrete function.

    What stands behind the last tensor is given by name, and left out where it is the default.

    Args:
      concrete: what the object graph says of the function.
      trace: the same, as read_trace gives it.
      names: names of the Python function's positional arguments.
      defaults: of its arguments, by name.
      training: the value for an argument `training` that is a tensor.
      where: for error messages.

    Raises:
      UnsupportedError: an argument is no tensor, and of a type that can't be given.
    """
    signature = concrete.canonicalized_input_signature.tuple_value.values
    positional = list(signature[0].tuple_value.values) if signature else []
    keywords = signature[1].dict_value.fields if signature else {}
    leaves = iter(trace.inputs)

    def fill(_: Path) -> Template:
        return _leaf(next(leaves), training)

    def build(value: tf_pb.StructuredValue) -> Template:
        return _template(value, fill, trace.function, where)

    given = [build(value) for value in positional]
    kwargs = {name: build(keywords[name]) for name in sorted(keywords)}
    last = max((i for i, template in enumerate(given) if has_input(template)), default=-1)
    count = last + 1 if len(given) <= len(names) else len(given)
    kwargs = {**dict(zip(names[count:], given[count:], strict=False)), **kwargs}
    implied = {
        name: template
        for name, template in kwargs.items()
        if name != TRAINING and _is_default(name, template, defaults)
    }
    needed = {name: template for name, template in kwargs.items() if name not in implied}
    return Arguments(tuple(given[:count]), needed, implied)


def paths_of(concrete: tf_pb.SavedConcreteFunction, trace: Trace, where: Where) -> dict[str, Path]:
    """Returns the path to each output in what a function returns; a field counts as position."""
    paths: list[Path] = []
    _template(concrete.output_signature, paths.append, trace.function, where)
    return {leaf.key: path for leaf, path in zip(trace.outputs, paths, strict=True)}


def has_input(template: Template) -> bool:
    """True if a template has an input among its leaves."""
    if isinstance(template, list):
        return any(has_input(item) for item in template)
    if isinstance(template, dict):
        return "input" in template or any(has_input(item) for item in template.values())
    return False


def _is_default(name: str, template: Template, defaults: Mapping[str, Python]) -> bool:
    if name not in defaults or not isinstance(template, dict) or "value" not in template:
        return False
    value, default = template["value"], defaults[name]
    return type(value) is type(default) and value == default


def _leaf(leaf: Leaf, training: bool) -> Template:
    if leaf.is_training:
        return {"value": training}
    return {"input": leaf.key} if leaf.default is None else {"value": leaf.default}


def _template(
    value: tf_pb.StructuredValue, leaf: Callable[[Path], Any], function: str, where: Where
) -> Template:
    """Returns the template of a structure; `leaf` makes those of its tensors, in their order."""

    def build(value: tf_pb.StructuredValue, path: Path) -> Template:
        kind = value.WhichOneof("kind")
        if kind in ("tensor_spec_value", "type_spec_value"):
            return leaf(path)
        if kind in ("list_value", "tuple_value"):
            values = getattr(value, kind).values
            items = [build(item, (*path, i)) for i, item in enumerate(values)]
            return items if kind == "list_value" else {"tuple": items}
        if kind == "dict_value":
            fields = value.dict_value.fields
            return {"dict": {key: build(fields[key], (*path, key)) for key in sorted(fields)}}
        if kind == "named_tuple_value":
            pairs = list(_fields(value.named_tuple_value, path))
            built = [[name, build(item, inner)] for name, item, inner in pairs]
            return {"named_tuple": value.named_tuple_value.name, "fields": built}
        if kind in _PYTHON:
            return {"value": getattr(value, kind)}
        if kind == "tensor_dtype_value":
            return {"dtype": value.tensor_dtype_value}
        if kind == "none_value" or (kind is None and not value.ByteSize()):
            return {"value": None}
        raise UnsupportedError(
            f"function {function!r} has an argument of a kind that can't be given ({kind})",
            where=where,
        )

    return build(value, ())


def _fields(
    value: tf_pb.NamedTupleValue, path: Path
) -> Iterator[tuple[str, tf_pb.StructuredValue, Path]]:
    for position, pair in enumerate(value.values):
        yield pair.key, pair.value, (*path, position)


def keyword_arguments(trace: Trace, training: bool) -> Mapping[str, Template]:
    """Returns the arguments of a serving signature, which takes each tensor by its keyword.

    Raises:
      MalformedError: two tensors have one keyword.
    """
    result = {leaf.argument: _leaf(leaf, training) for leaf in trace.inputs}
    if len(result) < len(trace.inputs):
        raise MalformedError(f"function {trace.function!r} takes two inputs of one name")
    return result
