"""Computes with a module without a program around it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from bridge.errors import Where
from bridge.hub._tf import tf
from bridge.hub.errors import ArgumentTypeError
from bridge.hub.graph_module import GraphModule
from bridge.hub.info import ParsedTensorInfo
from bridge.hub.inputs import chosen_outputs, named_values
from bridge.hub.loading import as_module_spec
from bridge.hub.spec import ModuleSpec

_NOT_IN_SCOPES = re.compile(r"[^A-Za-z0-9_.\-]")


class Evaluate(Protocol):
    """Computes a signature as a `Module` does, of values instead of tensors."""

    def __call__(
        self,
        inputs: Any = None,
        _sentinel: None = None,
        signature: str | None = None,
        as_dict: bool | None = None,
    ) -> Any:
        """Returns the value of the output `default`, or a dictionary of all outputs."""


@contextmanager
def eval_function_for_module(
    spec: ModuleSpec | str | os.PathLike[str], tags: Iterable[str] | None = None
) -> Iterator[Evaluate]:
    """Gives a function that computes what a module does with values, for as long as it is open.

        with hub.eval_function_for_module("/tmp/text-embedding") as f:
            embeddings = f(["Hello world!"])

    It has a graph and a session of its own, so that the program's mode and graph do not matter.

    Args:
      spec: the module: a ModuleSpec, or the path or handle to load it from.
      tags: the tags of the graph variant; none for the variant without tags.

    Yields:
      A function with the arguments of `Module.__call__`; arrays take the places of its tensors, and
      the values of `Session.run` those of sparse and ragged ones.

    Raises:
      ValueError: there is no such graph variant, or the module is broken.
      tf.errors.OpError: the module can't be read, or has an op that TensorFlow does not know.
    """
    spec = as_module_spec(spec)
    tags = spec._checked_tags(tags)
    tensors: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    with tf.Graph().as_default():
        module = GraphModule(spec, tags=tags)
        for signature in spec.get_signature_names(tags):
            with tf.compat.v1.variable_scope(_NOT_IN_SCOPES.sub("_", signature)):
                infos = spec.get_input_info_dict(signature, tags)
                tensors[signature] = {key: _placeholder(key, info) for key, info in infos.items()}
                outputs[signature] = module(tensors[signature], signature=signature, as_dict=True)
        session = tf.compat.v1.train.SingularMonitoredSession()

    def evaluate(
        inputs: Any = None,
        _sentinel: None = None,
        signature: str | None = None,
        as_dict: bool | None = None,
    ) -> Any:
        if _sentinel is not None:
            raise ArgumentTypeError(
                "the function takes no second argument without a name",
                hint="write signature=... or as_dict=...",
            )
        name = spec._checked_signature(signature, tags)
        around = spec._where(tags)
        where = Where(around.path, around.variant, name)
        values = named_values(inputs, spec.get_input_info_dict(name, tags), where)
        fetched = chosen_outputs(outputs[name], as_dict, where)
        return session.run(fetched, {tensors[name][key]: values[key] for key in values})

    with session:
        yield evaluate


def _placeholder(key: str, info: ParsedTensorInfo) -> Any:
    """Returns a dense, sparse or ragged tensor to feed an input through."""
    name = _NOT_IN_SCOPES.sub("_", key)
    if info.is_sparse:
        # A static shape would be an op, and the shape could not be fed.
        return tf.compat.v1.sparse_placeholder(info.dtype, name=name)
    parts = tf.nest.flatten(info.type_spec, expand_composites=True)
    tensors = [tf.compat.v1.placeholder(part.dtype, part.shape, name) for part in parts]
    return tf.nest.pack_sequence_as(info.type_spec, tensors, expand_composites=True)
