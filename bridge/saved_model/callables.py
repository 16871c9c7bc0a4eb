"""Functions as tf.saved_model.load offers them: `obj(images, training=True)` and its like."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from dataclasses import dataclass

from bridge.dtypes import dtype_name
from bridge.model import Endpoint, Shape, Variant
from bridge.proto import tf_pb
from bridge.report import CallableReport, Report
from bridge.saved_model import structured_value as sv
from bridge.saved_model.bodies import Body, build_body, update_ops_of
from bridge.saved_model.interfaces import DEFAULT, Interface
from bridge.saved_model.state import State

TRAINING = "training"
RETURN_ENDPOINTS = "return_endpoints"
INPUTS = "inputs"

RESERVED = frozenset(
    {
        "signatures",
        "variables",
        "trainable_variables",
        "model_variables",
        "regularization_losses",
    }
)
"""Attributes of a reusable SavedModel that no signature may take."""


@dataclass(frozen=True)
class Mode:
    """What one value of `training` runs.

    Attributes:
      variant: the variant it comes from.
      body: the function.
      update_ops: the update ops that the function runs.
    """

    variant: Variant
    body: Body
    update_ops: tuple[str, ...]


def build_modes(interface: Interface, signature: str, state: State) -> dict[bool, Mode]:
    """Builds the functions of a signature, for each value of `training` that has one."""
    modes: dict[bool, Mode] = {}
    for training, variant in interface.modes.items():
        if signature not in variant.signatures:
            continue
        inputs = variant.signatures[signature].inputs
        updates = update_ops_of(variant, inputs) if training else {}
        body = build_body(
            state.variants[variant.label],
            state.library,
            f"{interface.name or 'root'}_{signature}{'_training' if training else ''}",
            inputs,
            variant.signatures[signature].outputs,
            updates.values(),
            signature,
        )
        modes[training] = Mode(variant, body, tuple(updates))
    return modes


def add_callable(modes: Mapping[bool, Mode], state: State) -> int:
    """Adds the function object of a signature: one concrete function per way to call it.

    The function takes the input tensor, or a dictionary of the inputs by name; `training`; and
    `return_endpoints`, where there is a `default` output to return without the others. A signature
    without one always returns the dictionary.

    Returns:
      Its number in the object graph.
    """
    argument = _argument_name(next(iter(modes.values())).body.inputs)
    args = [*([argument] if argument else []), TRAINING, RETURN_ENDPOINTS]
    concrete = [
        _add_concrete(mode.body, as_dict, training, endpoints, state)
        for as_dict in _input_forms(modes)
        for training, mode in modes.items()
        for endpoints in ((False, True) if DEFAULT in mode.body.outputs else (True,))
    ]
    has_default = any(DEFAULT in mode.body.outputs for mode in modes.values())
    defaults = [sv.boolean(False not in modes), sv.boolean(not has_default)]
    return state.objects.add_function(concrete, sv.function_spec(args, defaults))


def _argument_name(inputs: Mapping[str, Endpoint]) -> str:
    """The name of the first argument: the input's own, `inputs` for several, none for none."""
    if not inputs:
        return ""
    key = next(iter(inputs))
    usable = key.isidentifier() and not keyword.iskeyword(key)
    taken = key in (TRAINING, RETURN_ENDPOINTS, "self")
    return key if len(inputs) == 1 and usable and not taken else INPUTS


def _input_forms(modes: Mapping[bool, Mode]) -> tuple[bool, ...]:
    """Whether the inputs are given as a dictionary: one input may also be given as it is.

    The loader tries the forms in this order. It raises where it compares a dictionary with the type
    of a sparse or ragged tensor, so those stand last.
    """
    return (True, False) if all(len(m.body.inputs) == 1 for m in modes.values()) else (True,)


def _add_concrete(body: Body, as_dict: bool, training: bool, endpoints: bool, state: State) -> str:
    specs = {key: sv.endpoint_spec(key, endpoint) for key, endpoint in body.inputs.items()}
    flags = [sv.boolean(training), sv.boolean(endpoints)]
    if not specs:
        arguments = flags
    elif as_dict:
        arguments = [sv.mapping(specs), *flags]
    else:
        arguments = [*specs.values(), *flags]
    outputs = body.outputs if endpoints else {DEFAULT: body.outputs[DEFAULT]}
    returned = _output_spec(outputs) if endpoints else sv.endpoint_spec(DEFAULT, outputs[DEFAULT])
    name = add_wrapper(body, outputs, state)
    state.add_concrete(
        name,
        body.captures,
        sv.tuple_of([sv.tuple_of(arguments), sv.mapping({})]),
        returned,
    )
    return name


def add_serving_function(body: Body, state: State) -> str:
    """Adds the concrete function behind a serving signature: keywords in, dictionary out."""
    keywords = {
        sv.component_name(key, endpoint, component): (component.dtype, component.shape)
        for key, endpoint in body.inputs.items()
        for component in endpoint.components
    }
    name = add_wrapper(body, body.outputs, state)
    specs = {key: sv.tensor_spec(key, *spec) for key, spec in keywords.items()}
    state.add_concrete(
        name,
        body.captures,
        sv.tuple_of([sv.tuple_of([]), sv.mapping(specs)]),
        _output_spec(body.outputs),
    )
    return name


def _output_spec(outputs: Mapping[str, Endpoint]) -> tf_pb.StructuredValue:
    return sv.mapping({key: sv.endpoint_spec(key, endpoint) for key, endpoint in outputs.items()})


def add_wrapper(body: Body, outputs: Mapping[str, Endpoint], state: State) -> str:
    """Adds a function that calls a body and returns some of its outputs.

    Every concrete function needs a FunctionDef of its own; with this one, they share the body.
    """
    function = tf_pb.FunctionDef()
    signature = function.signature
    inner = state.library.functions[body.name]
    signature.name = state.library.new_name(body.name.removeprefix("__inference_"))
    signature.is_stateful = body.stateful
    signature.input_arg.extend(inner.signature.input_arg)
    for index, attrs in inner.arg_attr.items():
        function.arg_attr[index].CopyFrom(attrs)
    call = function.node_def.add(
        name="StatefulPartitionedCall", op="StatefulPartitionedCall" if body.stateful else
        "PartitionedCall"
    )  # fmt: skip
    call.input.extend(arg.name for arg in inner.signature.input_arg)
    call.attr["Tin"].list.type.extend(arg.type for arg in inner.signature.input_arg)
    call.attr["Tout"].list.type.extend(arg.type for arg in inner.signature.output_arg)
    call.attr["f"].func.name = body.name
    call.attr["_output_shapes"].CopyFrom(body.output_shapes())
    positions = {
        sv.component_name(key, endpoint, component): position
        for position, (key, endpoint, component) in enumerate(
            (key, endpoint, component)
            for key, endpoint in body.outputs.items()
            for component in endpoint.components
        )
    }
    for key, endpoint in outputs.items():
        for component in endpoint.components:
            position = positions[sv.component_name(key, endpoint, component)]
            output = inner.signature.output_arg[position]
            signature.output_arg.add(name=output.name, type=output.type)
            function.ret[output.name] = f"{call.name}:output:{position}"
    if body.stateful:
        signature.control_output.append(call.name)
        function.control_ret[call.name] = call.name
    return state.library.add(function, share=False)


# -- the report -------------------------------------------------------------------------------


def report_callable(
    interface: Interface, name: str, signature: str, modes: Mapping[bool, Mode], report: Report
) -> None:
    """Tells in the report what a callable takes, gives and does when training."""
    body = next(iter(modes.values())).body
    path = ".".join(part for part in (interface.name, name) if part)
    training = {
        str(value): _training_sentence(value, mode, modes) for value, mode in sorted(modes.items())
    }
    report.callables.append(
        CallableReport(
            name=path,
            signature=signature,
            inputs=[_describe(key, endpoint) for key, endpoint in body.inputs.items()],
            outputs=[_describe(key, endpoint) for key, endpoint in body.outputs.items()],
            training=training,
            update_ops=list(modes[True].update_ops) if True in modes else [],
        )
    )
    for value in (False, True):
        if value not in modes:
            report.remark(
                "training",
                path,
                f"training={value} is not offered: variant {interface.modes[value].label} has no "
                f"signature {signature!r}",
            )


def _training_sentence(training: bool, mode: Mode, modes: Mapping[bool, Mode]) -> str:
    label = mode.variant.label
    if not training:
        return f"runs variant {label} and no update op"
    updates = f"{len(mode.update_ops)} update ops" if mode.update_ops else "no update op"
    if False in modes and modes[False].variant is mode.variant:
        same = "" if mode.update_ops else ", so it is the same as training=False"
        return f"runs the same variant {label}, the only one there is, and {updates}{same}"
    return f"runs variant {label} and {updates}"


def _describe(key: str, endpoint: Endpoint) -> str:
    kind = "" if endpoint.encoding.value == "dense" else f"{endpoint.encoding.value} "
    return f"{key}: {kind}{dtype_name(endpoint.dtype)}{format_shape(endpoint.shape)}"


def format_shape(shape: Shape) -> str:
    """Prints a static shape as users write it: `[?, 224, 224, 3]`, `<unknown>`."""
    if shape is None:
        return "<unknown>"
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
