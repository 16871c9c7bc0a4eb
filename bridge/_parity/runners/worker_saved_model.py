"""Runs SavedModels as their users do: tf.saved_model.load, Python calls and signatures."""

from __future__ import annotations

import collections
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from worker_application import DENSE
from worker_session import SPARSE_PARTS, components
from worker_setup import Setup, short_device
from worker_training import (
    descended,
    is_differentiable,
    moved_apart,
    projection,
    real_parts,
    working_dtype,
)
from worker_values import steps_of


class SavedModel:
    """A loaded SavedModel.

    A call may change variables, as one with training=True does. Each request starts from those
    that the model was saved with.

    Variables go by the number that their object has in the SavedModel, for names may not be unique.

    Attributes:
      placed: how many outputs lay on each device, each call counted once.
      names: each variable's own name, by number.
    """

    def __init__(self, setup: Setup):
        self._tf = setup.tf
        self._device = setup.device
        self.placed: collections.Counter[str] = collections.Counter()
        self._seen: set[str] = set()
        with self._tf.device(self._device):
            self._root = setup.tf.saved_model.load(setup.lane["model"])
        self._variables = self._numbered_variables(setup.lane["model"])
        self.names = {number: v.name.split(":")[0] for number, v in self._variables.items()}
        # Not copies: TensorFlow makes one when it writes to a variable that somebody has read.
        self._saved = {name: v.read_value() for name, v in self._variables.items()}
        # One call instead of hundreds: it is made after every request.
        self._restore = setup.tf.function(self._assign_saved, autograph=False)

    def run(self, call: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
        """Computes the outputs of a call."""
        with self._tf.device(self._device):
            outputs = self._call(call, self._tensors(values))
            found = {name: components(self._tf, value) for name, value in outputs.items()}
            self._restore()
        key = repr(call)
        if key not in self._seen:
            self._seen.add(key)
            tensors = (tensor for parts in found.values() for tensor in parts.values())
            self.placed.update(short_device(tensor.device) for tensor in tensors)
        return {
            name: arrays.get(DENSE, arrays)
            for name, parts in found.items()
            for arrays in [{part: _view(tensor) for part, tensor in parts.items()}]
        }

    def train(
        self,
        call: Mapping[str, Any],
        values: Mapping[str, Any],
        steps: Sequence[int],
        rate: float,
    ) -> tuple[dict[str, Any], dict[int, dict[str, Any]]]:
        """Takes gradients and steps as Runner.train says; the call runs the update ops."""
        first: dict[str, Any] = {}
        after = {}
        with self._tf.device(self._device):
            tensors = self._tensors(values)
            for step in range(1, max(steps, default=1) + 1):
                gradients = self._gradients(call, tensors)
                if step == 1:
                    first = gradients
                moved = {name: _array(self._variables[name]) for name in gradients}
                for name, value in descended(moved, gradients, rate).items():
                    self._variables[name].assign(value)
                if step in steps:
                    after[step] = {name: _array(v) for name, v in self._variables.items()}
            self._restore()
        return first, after

    def losses(self, call: Mapping[str, Any]) -> list[float]:
        """Returns the regularization losses of the object that a call is made on."""
        with self._tf.device(self._device):
            return [float(loss()) for loss in self._losses(call)]

    def loss_gradients(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the gradients of those as Runner.loss_gradients says."""
        tf = self._tf
        losses = self._losses(call)
        sources = {n: v for n, v in self._variables.items() if is_differentiable(v.dtype)}
        if not losses or not sources:
            return {}
        with tf.device(self._device):
            try:
                for variable in sources.values():
                    variable.assign(moved_apart(_array(variable)))
                with tf.GradientTape() as tape:
                    tape.watch(list(sources.values()))  # a loss may be made of any variable
                    total = tf.add_n([tf.cast(loss(), tf.float64) for loss in losses])
                return self._taken(tape, total, sources)
            finally:
                self._restore()

    def _call(self, call: Mapping[str, Any], tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Calls; returns the outputs by name."""
        args = [_fill(template, tensors) for template in call["args"]]
        kwargs = {key: _fill(template, tensors) for key, template in call["kwargs"].items()}
        if call["kind"] == "signature":
            target = self._root.signatures[call["name"]]
        else:
            target = self._target(steps_of(call["name"]))
        returned = target(*args, **kwargs)
        return {name: _follow(returned, path) for name, path in call["outputs"].items()}

    def _losses(self, call: Mapping[str, Any]) -> Sequence[Any]:
        """Returns the functions of the regularization losses of the object that is called."""
        path = steps_of(call["name"]) if call["kind"] == "callable" else [call["name"]]
        return list(getattr(self._target(path[:-1]), "regularization_losses", ()))

    def _target(self, path: Sequence[str]) -> Any:
        target = self._root
        for part in path:
            if isinstance(target, Mapping):
                target = target[part]
            elif isinstance(target, Sequence):
                target = target[int(part)]
            else:
                target = getattr(target, part)
        return target

    def _gradients(self, call: Mapping[str, Any], tensors: Mapping[str, Any]) -> dict[str, Any]:
        tf = self._tf
        trainable = {n: v for n, v in self._trainable().items() if is_differentiable(v.dtype)}
        with tf.GradientTape() as tape:
            outputs = self._call(call, tensors)
            terms = []
            for name in sorted(outputs):
                parts = components(tf, outputs[name])
                for part in (parts[key] for key in (DENSE, "values") if key in parts):
                    output = real_parts(tf, part)
                    if output is not None:
                        dtype = working_dtype(output.dtype.name)
                        weights = projection(output.shape, dtype)
                        term = tf.reduce_sum(tf.cast(output, dtype) * weights)
                        terms.append(tf.cast(term, tf.float64))
            loss = tf.add_n(terms) if terms else None
        if loss is None or not trainable:
            return {}
        return self._taken(tape, loss, trainable)

    def _taken(self, tape: Any, total: Any, sources: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the gradients by the variables that have one."""
        found = tape.gradient(total, list(sources.values()))
        return {
            name: _array(self._tf.convert_to_tensor(gradient))
            for name, gradient in zip(sources, found)
            if gradient is not None
        }

    def _tensors(self, values: Mapping[str, Any]) -> dict[str, Any]:
        tf = self._tf
        tensors = {}
        for name, value in values.items():
            if not isinstance(value, dict):
                tensors[name] = tf.constant(value)
            elif set(value) == set(SPARSE_PARTS):
                tensors[name] = tf.SparseTensor(*(tf.constant(value[p]) for p in SPARSE_PARTS))
            else:
                splits = [tf.constant(value[f"row_splits_{i}"]) for i in range(len(value) - 1)]
                flat = tf.constant(value["values"])
                tensors[name] = tf.RaggedTensor.from_nested_row_splits(flat, splits)
            if isinstance(value, dict):
                # A serving signature takes the parts.
                tensors.update({f"{name}|{part}": tf.constant(a) for part, a in value.items()})
        return tensors

    def _assign_saved(self) -> None:
        for name, variable in self._variables.items():
            variable.assign(self._saved[name], read_value=False)

    def _numbered_variables(self, directory: str) -> dict[str, Any]:
        """Returns all variables; walks through the saved objects beside the loaded ones."""
        from tensorflow.core.protobuf import saved_model_pb2

        path = os.path.join(directory, "saved_model.pb")
        with open(path, "rb") as file:
            (meta_graph,) = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs
        saved = meta_graph.object_graph_def.nodes
        children_of = self._tf.train.TrackableView.children
        loaded = {0: self._root}
        order = [0]
        for number in order:  # grows while it runs
            children = children_of(loaded[number])
            for child in saved[number].children:
                if child.node_id not in loaded and child.local_name in children:
                    loaded[child.node_id] = children[child.local_name]
                    order.append(child.node_id)
        return {
            str(number): loaded[number]
            for number in sorted(loaded)
            if saved[number].WhichOneof("kind") == "variable"
        }

    def _trainable(self) -> dict[str, Any]:
        """Returns what training moves: what says so of itself and, if there is a list, is in it."""
        listed = getattr(self._root, "trainable_variables", None)
        wanted = None if listed is None else {id(v) for v in listed}
        return {
            number: v
            for number, v in self._variables.items()
            if v.trainable and (wanted is None or id(v) in wanted)
        }


def _fill(template: Any, tensors: Mapping[str, Any]) -> Any:
    """Makes an argument of a template, as Call describes it."""
    if isinstance(template, list):
        return [_fill(item, tensors) for item in template]
    if "input" in template:
        return tensors[template["input"]]
    if "dict" in template:
        return {key: _fill(item, tensors) for key, item in template["dict"].items()}
    if "tuple" in template:
        return tuple(_fill(item, tensors) for item in template["tuple"])
    if "named_tuple" in template:
        names = [name for name, _ in template["fields"]]
        kind = collections.namedtuple(template["named_tuple"], names)  # type: ignore[misc]
        return kind(*(_fill(item, tensors) for _, item in template["fields"]))
    if "dtype" in template:
        import tensorflow as tf

        return tf.as_dtype(template["dtype"])
    return template["value"]


def _follow(value: Any, path: Sequence[Any]) -> Any:
    """Follows a path of keys and positions through what a call returned."""
    for step in path:
        value = value[step]
    return value


def _array(tensor: Any) -> Any:
    value = tensor.numpy()
    # A string's scalar is bytes, of which numpy by itself drops zeros at the end.
    return np.asarray(value, tensor.dtype.as_numpy_dtype)


def _view(tensor: Any) -> Any:
    """Returns the array of a tensor that nobody writes to, with no copy of it being made."""
    value = tensor.__array__()
    return np.asarray(value, tensor.dtype.as_numpy_dtype)
