"""Functions as tf.saved_model.load offers them: `obj(images, training=True)` and its like."""

from __future__ import annotations

import keyword
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bridge.attrs import function_attr, types_attr
from bridge.model import DEFAULT, Endpoint, Variant, format_shape
from bridge.proto import tf_pb
from bridge.report import Report
from bridge.saved_model import structured_value as sv
from bridge.saved_model.bodies import Body, build_body, update_ops_of
from bridge.saved_model.interfaces import Interface
from bridge.saved_model.names import RETURN_ENDPOINTS, TRAINING
from bridge.saved_model.state import State

INPUTS = "inputs"


@dataclass(frozen=True)
class Mode:
    """What one value of `training` runs.

    Attributes:
      variant: the variant it comes from.
      body: the function.
      update_ops: the update ops that the function runs, by their names in the source.
    """

    variant: Variant
    body: Body
    update_ops: tuple[str, ...]


Modes = Mapping[bool, Mode]
"""The mode for each value of `training` that a callable has."""


def build_modes(interface: Interface, signature: str, state: State) -> dict[bool, Mode]:
    """Builds the functions of a signature, for each value of `training` that has one."""
    modes: dict[bool, Mode] = {}
    for training, variant in interface.modes.items():
        if signature not in variant.signatures:
            continue
        mapping = variant.signatures[signature]
        # Signatures often are the same mapping under two names, `default` and its task's.
        key = (
            variant.label,
            str(training),
            *_names(mapping.inputs),
            "->",
            *_names(mapping.outputs),
        )
        if key not in state.bodies:
            updates = update_ops_of(variant, mapping.inputs) if training else {}
            body = build_body(
                state.variants[variant.label],
                state.library,
                f"{interface.name or 'root'}_{signature}{'_training' if training else ''}",
                mapping.inputs,
                mapping.outputs,
                updates.values(),
                signature,
            )
            state.bodies[key] = (body, tuple(updates))
        modes[training] = Mode(variant, *state.bodies[key])
    return modes


def _names(endpoints: Mapping[str, Endpoint]) -> list[str]:
    """What tells two sets of inputs or outputs of one graph apart."""
    return [
        f"{key}={end.encoding.value}{format_shape(end.shape)}:{component}:{end.type_spec}"
        for key, end in sorted(endpoints.items())
        for component in end.components
    ]


def add_callable(modes: Modes, state: State) -> int:
    """Adds the function object of a signature: one concrete function per way to call it.

    The function takes the input tensor, or a dictionary of the inputs by name; `training`; and
    `return_endpoints`. It returns the output `default`, or the dictionary of all outputs with
    `return_endpoints=True`; without an output `default` it is the dictionary in any case.

    Returns:
      Its number in the object graph.
    """
    argument = _argument_name({key for mode in modes.values() for key in mode.body.inputs})
    # The loader tries the forms in this order. It raises where it compares a dictionary with the
    # type of a sparse or ragged tensor, so the plain form stands last.
    concrete = [
        _add_concrete(mode.body, arguments, training, endpoints, state)
        for as_dict in (True, False)
        for training, mode in modes.items()
        for arguments in _input_arguments(mode.body.inputs, argument, as_dict)
        for endpoints in (False, True)
    ]
    args = [*([argument] if argument else []), TRAINING, RETURN_ENDPOINTS]
    defaults = [sv.boolean(False not in modes), sv.boolean(False)]
    return state.objects.add_function(concrete, sv.function_spec(args, defaults))


def _argument_name(keys: set[str]) -> str:
    """The name of the first argument: the input's own, `inputs` for several, none for none."""
    if not keys:
        return ""
    key = next(iter(keys))
    usable = key.isidentifier() and not keyword.iskeyword(key)
    taken = key in (TRAINING, RETURN_ENDPOINTS, "self")
    return key if len(keys) == 1 and usable and not taken else INPUTS


def _input_arguments(
    inputs: Mapping[str, Endpoint], argument: str, as_dict: bool
) -> list[list[sv.Value]]:
    """Returns the first argument in one of its forms, if the inputs can be given so."""
    specs = {key: sv.endpoint_spec(key, endpoint) for key, endpoint in inputs.items()}
    if as_dict:
        return [[sv.mapping(specs)] if argument else []]
    return [[*specs.values()]] if len(specs) == 1 else []


def _add_concrete(
    body: Body, inputs: list[sv.Value], training: bool, endpoints: bool, state: State
) -> str:
    arguments = [*inputs, sv.boolean(training), sv.boolean(endpoints)]
    if endpoints or DEFAULT not in body.outputs:
        outputs, returned = body.outputs, _output_spec(body.outputs)
    else:
        outputs = {DEFAULT: body.outputs[DEFAULT]}
        returned = sv.endpoint_spec(DEFAULT, outputs[DEFAULT])
    name = _add_wrapper(body, outputs, state)
    structure = sv.tuple_of([sv.tuple_of(arguments), sv.mapping({})])
    state.add_concrete(name, body.captures, structure, returned)
    return name


def add_serving_signature(body: Body, state: State, report: Report) -> int:
    """Adds a serving signature: keywords in, dictionary out.

    TensorFlow binds the keywords by sorted name, which is not always the order of the body's
    arguments: `x_dense_shape` stands before `x_indices`.

    Returns:
      Its number in the object graph.
    """
    parts = sv.parts_of(body.inputs)
    keywords = _keywords([part.name for part in parts], report)
    order = sorted(range(len(parts)), key=lambda position: keywords[position])
    name = _add_wrapper(body, body.outputs, state, order)
    specs = {
        key: sv.tensor_spec(key, part.component.dtype, part.component.shape)
        for key, part in zip(keywords, parts, strict=True)
    }
    structure = sv.tuple_of([sv.tuple_of([]), sv.mapping(specs)])
    state.add_concrete(name, body.captures, structure, _output_spec(body.outputs))
    return state.objects.add_signature(name, sorted(specs))


def _keywords(names: Sequence[str], report: Report) -> list[str]:
    """Returns the names of a Python function's arguments: the inputs' own where they can be.

    Of `a.b` and the like TensorFlow makes other names, and binds arguments in the order of those,
    older releases in that of the names as they stand. Where the two orders differ, or two names
    become one, inputs get names that TensorFlow leaves as they are.
    """
    keywords = _free_names(names, [name or "input" for name in names])
    seen = [_sanitized(key) for key in sorted(keywords)]
    if seen != sorted(set(seen)):
        keywords = _free_names(names, [_sanitized(name) for name in names])
    for name, key in zip(names, keywords, strict=True):
        if name != key:
            why = "Python" if not name or _is_pythons(name) else "TensorFlow"
            report.remark(
                "name",
                name,
                f"as a keyword of loaded serving signatures it is called {key!r}, for {why} has no "
                "argument of its name",
            )
    return keywords


def _free_names(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Returns names that are different, and that arguments in Python may have.

    Args:
      names: of the inputs.
      wanted: what they are to be called; who keeps its name comes first.
    """
    free: dict[str, str] = {}
    pairs = zip(names, wanted, strict=True)
    for name, base in sorted(pairs, key=lambda pair: pair[0] != pair[1] or _is_pythons(pair[0])):
        key = base
        while _is_pythons(key) or key in free.values():
            key += "_"
        free[name] = key
    return [free[name] for name in names]


def _is_pythons(name: str) -> bool:
    """Whether a loaded function can't take a keyword argument of this name."""
    return keyword.iskeyword(name) or name == "self"


def _sanitized(name: str) -> str:
    """Returns what TensorFlow makes of the name of an argument (`sanitize_arg_name` there)."""
    swapped = "".join(c if c.isalnum() else "_" for c in name)
    return swapped if swapped[:1].isalpha() else f"arg_{swapped}"


def _output_spec(outputs: Mapping[str, Endpoint]) -> tf_pb.StructuredValue:
    return sv.mapping({key: sv.endpoint_spec(key, endpoint) for key, endpoint in outputs.items()})


def _add_wrapper(
    body: Body, outputs: Mapping[str, Endpoint], state: State, order: Sequence[int] | None = None
) -> str:
    """Adds a function that calls a body and returns some of its outputs.

    Every concrete function needs a FunctionDef of its own; with this one, they share the body.

    Args:
      body: the body.
      outputs: what to return.
      state: takes the function.
      order: positions of the body's inputs in the order of the wrapper's arguments.
    """
    inner = state.library.functions[body.name]
    arguments = list(inner.signature.input_arg)
    inputs = range(len(arguments) - len(body.captures))
    function = tf_pb.FunctionDef()
    signature = function.signature
    signature.name = state.library.new_name(body.name.removeprefix("__inference_"))
    signature.is_stateful = body.stateful
    for position, old in enumerate([*(order or inputs), *range(len(inputs), len(arguments))]):
        signature.input_arg.append(arguments[old])
        if old in inner.arg_attr:
            function.arg_attr[position].CopyFrom(inner.arg_attr[old])
    op = "StatefulPartitionedCall" if body.stateful else "PartitionedCall"
    call = function.node_def.add(name=op, op=op, input=[argument.name for argument in arguments])
    call.attr["Tin"].CopyFrom(types_attr(argument.type for argument in arguments))
    call.attr["Tout"].CopyFrom(types_attr(output.type for output in inner.signature.output_arg))
    call.attr["f"].CopyFrom(function_attr(body.name))
    call.attr["_output_shapes"].CopyFrom(body.output_shapes())
    for position, part in enumerate(sv.parts_of(body.outputs)):
        if part.key in outputs:
            output = inner.signature.output_arg[position]
            signature.output_arg.append(output)
            function.ret[output.name] = f"{call.name}:output:{position}"
    if body.stateful:
        signature.control_output.append(call.name)
        function.control_ret[call.name] = call.name
    return state.library.add(function, share=False)
