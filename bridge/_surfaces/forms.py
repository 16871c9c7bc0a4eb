"""The forms in which a SavedModel made of a TF1 Hub module can be called.

A callable that takes `training` and `return_endpoints` was traced for both values of the latter,
with a dictionary of its inputs and, where there is one input, with the tensor itself; all that for
each value of `training` that it takes, and `training=True` is always one. What answers to
`obj(...)` is also `obj.default`. Models that people write have such callables too, which take
tensors; only where one takes a dictionary of inputs is all of that expected.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from bridge._surfaces.saved_interfaces import Interface
from bridge._surfaces.ways import WayReader
from bridge.model import DEFAULT
from bridge.saved_model.names import RETURN_ENDPOINTS, TRAINING
from bridge.saved_model.traces import Trace

_CALL = "__call__"

_Form = tuple[bool, bool, bool]
"""Values of `training` and `return_endpoints`, and whether the inputs are a dictionary."""


def absent_forms(reader: WayReader, interfaces: Iterable[Interface]) -> dict[str, tuple[str, ...]]:
    """Returns the forms that callables with both arguments lack, by the path of the callable."""
    result: dict[str, tuple[str, ...]] = {}
    for interface in interfaces:
        prefix = f"{interface.name}." if interface.name else ""
        children = reader.tree.children(interface.number)
        for name, number in sorted(children.items()):
            if not reader.takes_modes(number) or not _takes_dictionary(reader, number):
                continue
            absent = _absent(reader, number)
            if name == _CALL and DEFAULT not in children:
                absent = (*absent, f"as the attribute {prefix}{DEFAULT}")
            if absent:
                result[f"{prefix}{name}"] = absent
    return result


def _takes_dictionary(reader: WayReader, number: int) -> bool:
    traces = reader.functions.traces(number)
    return any(form[2] for trace in traces for form in _forms(reader, trace))


def _absent(reader: WayReader, number: int) -> tuple[str, ...]:
    traces = reader.functions.traces(number)
    there = {form for trace in traces for form in _forms(reader, trace)}
    counts = {sum(not leaf.is_fixed for leaf in trace.inputs) for trace in traces}
    modes = sorted({True, *(training for training, *_ in there)})
    kinds = (False, True) if counts == {1} else (True,)
    wanted = itertools.product(modes, (False, True), kinds)
    return tuple(_text(form) for form in wanted if form not in there)


def _forms(reader: WayReader, trace: Trace) -> Iterable[_Form]:
    signature = reader.concrete[trace.function].canonicalized_input_signature
    positional = signature.tuple_value.values[0].tuple_value.values
    as_dictionary = bool(positional) and positional[0].HasField("dict_value")
    is_tensor = any(leaf.is_training for leaf in trace.inputs)
    endpoints = trace.values.get(RETURN_ENDPOINTS) is True
    for training in (False, True) if is_tensor else (trace.values.get(TRAINING) is True,):
        yield training, endpoints, as_dictionary


def _text(form: _Form) -> str:
    training, endpoints, as_dictionary = form
    given = "a dictionary" if as_dictionary else "a tensor"
    return f"with {given}, {TRAINING}={training}, {RETURN_ENDPOINTS}={endpoints}"
