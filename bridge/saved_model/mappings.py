"""Tells whether two functions compute the same, where one more call is all that differs.

What tf.saved_model.save writes of a loaded SavedModel are functions that do nothing but call the
ones of the SavedModel, so a signature and `__call__` may be two functions that both end in a third.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bridge.ops import CALLS
from bridge.proto import tf_pb
from bridge.saved_model.traces import Trace

_MAX_DEPTH = 20  # calls, one in the other

_NO_WORK = frozenset({"Identity", "NoOp"})

_Value = tuple[object, ...]
"""What a tensor is: an input, or an output of a function that is called with such values."""


def compute_the_same(first: Trace, second: Trace, library: Mapping[str, tf_pb.FunctionDef]) -> bool:
    """True if two traces take the same inputs, and get the same outputs from one function.

    Where they end in two functions, these may still compute the same: nobody knows.
    """
    return _outputs(first, library) == _outputs(second, library)


def _outputs(trace: Trace, library: Mapping[str, tf_pb.FunctionDef]) -> dict[str, list[_Value]]:
    """Returns the values of the parts of each output, by its key."""
    args: list[_Value] = [
        (leaf.key, position)
        for leaf in trace.inputs
        for position in range(len(leaf.endpoint.components))
    ]
    args += [(number,) for number in trace.captures]
    values = iter(_call(trace.function, args, library, _MAX_DEPTH))
    return {
        leaf.key: [value for _, value in zip(leaf.endpoint.components, values, strict=False)]
        for leaf in trace.outputs
    }


def _call(
    name: str, args: Sequence[_Value], library: Mapping[str, tf_pb.FunctionDef], depth: int
) -> list[_Value]:
    """Returns the values of a function's outputs: those of the function that it calls, if any."""
    function = library[name]
    outputs = [function.ret[arg.name] for arg in function.signature.output_arg]
    own: list[_Value] = [(name, tuple(args), position) for position in range(len(outputs))]
    work = [node for node in function.node_def if node.op not in _NO_WORK]
    if not depth or len(work) != 1 or work[0].op not in CALLS:
        return own
    called = work[0].attr["f"].func.name
    names = [arg.name for arg in function.signature.input_arg]
    known = dict(zip(names, args, strict=False))
    inputs = [text for text in work[0].input if not text.startswith("^")]
    if called not in library or not known.keys() >= set(inputs):
        return own
    results = _call(called, [known[text] for text in inputs], library, depth - 1)
    known |= {f"{work[0].name}:output:{i}": value for i, value in enumerate(results)}
    for node in function.node_def:  # in order, as TensorFlow writes them
        if node.op == "Identity" and node.input and node.input[0] in known:
            known[f"{node.name}:output:0"] = known[node.input[0]]
    return [known[text] for text in outputs] if known.keys() >= set(outputs) else own
