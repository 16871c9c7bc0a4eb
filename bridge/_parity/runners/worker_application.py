"""A signature in the graph of a session, and the gradients that are taken there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from worker_setup import Setup
from worker_training import is_differentiable, real_parts, working_dtype

DENSE = ""


class Application:
    """A signature in the graph of a variant.

    Attributes:
      inputs: tensors to feed, by input and component.
      outputs: tensors to fetch, by output and component.
      updates: the update ops that need no input of another signature.
    """

    def __init__(self, inputs: Any, outputs: Any, updates: Iterable[Any]):
        self.inputs = inputs
        self.outputs = outputs
        fed = {tensor.name for parts in inputs.values() for tensor in parts.values()}
        self.updates = [op for op in (getattr(u, "op", u) for u in updates) if _runnable(op, fed)]
        self.backward: dict[tuple[str, ...], Backward] = {}
        """By the names of the outputs that are projected."""

    def feeds(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what to feed, by name of the tensor."""
        if set(values) != set(self.inputs):
            raise ValueError(f"the inputs are {sorted(self.inputs)}, not {sorted(values)}")
        feeds = {}
        for name, parts in self.inputs.items():
            given = values[name] if isinstance(values[name], dict) else {DENSE: values[name]}
            if set(given) != set(parts):
                raise ValueError(f"input {name!r} has the parts {sorted(parts)}")
            for part, tensor in parts.items():
                # A session converts what it is fed, without a word.
                wanted = tensor.dtype.base_dtype
                if given[part].dtype != wanted.as_numpy_dtype:
                    found = given[part].dtype.name
                    raise ValueError(f"input {name!r} is fed {found}, it takes {wanted.name}")
                feeds[tensor.name] = given[part]
        return feeds


class Backward:
    """The gradients of the projected outputs.

    Attributes:
      outputs: the float tensors that are projected.
      weights: what they are multiplied with, to be fed.
      gradients: by name of the trainable variable.
    """

    def __init__(
        self,
        setup: Setup,
        application: Application,
        outputs: Iterable[str],
        trainable: Mapping[str, Any],
    ):
        tf, v1 = setup.tf, setup.v1
        found = (
            real_parts(tf, application.outputs[name][part])
            for name in outputs
            for part in (DENSE, "values")
            if part in application.outputs[name]
        )
        self.outputs = [output for output in found if output is not None]
        self.weights, terms = [], []
        for output in self.outputs:
            dtype = working_dtype(output.dtype.base_dtype.name)
            self.weights.append(v1.placeholder(dtype, None))
            term = tf.reduce_sum(tf.cast(output, dtype) * self.weights[-1])
            terms.append(tf.cast(term, tf.float64))
        sources = {n: v for n, v in trainable.items() if is_differentiable(v.dtype)}
        self.gradients = taken(tf, tf.add_n(terms), sources) if terms and sources else {}


def taken(tf: Any, total: Any, sources: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the gradients by the variables that have one."""
    found = tf.gradients(total, list(sources.values()))
    return {
        name: tf.convert_to_tensor(gradient)
        for name, gradient in zip(sources, found)
        if gradient is not None
    }


def _runnable(op: Any, fed: set[str]) -> bool:
    """Whether an op needs no placeholder but those that are fed."""
    todo, seen = [op], {op}
    while todo:
        current = todo.pop()
        if current.type == "Placeholder":
            return False
        before = [tensor.op for tensor in current.inputs if tensor.name not in fed]
        for needed in (*before, *current.control_inputs):
            if needed not in seen:
                seen.add(needed)
                todo.append(needed)
    return True
