"""Converts an image module to a SavedModel with the TensorFlow runtime, as one would by hand.

    python benchmarks/through_tensorflow.py SOURCE DEST

This is what hubbridge is measured against. It makes real variables from the checkpoint, imports
each graph variant into functions, traces a callable per signature with `training` and
`return_endpoints`, and lets `tf.saved_model.save` write all that. It is kept short, and as fast as
that way allows: a graph is cut to what a function needs and imported once per signature, equal
signatures share a function, and autograph is off. Nothing is done about tables, assets, control
flow, other kinds of input and partitioned variables.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf
from tensorflow.core.framework.variable_pb2 import VariableDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

Tensors = dict[str, Any]
UPDATES = {
    "Assign": "assign",
    "AssignAdd": "assign_add",
    "AssignSub": "assign_sub",
    "AssignVariableOp": "assign",
    "AssignAddVariableOp": "assign_add",
    "AssignSubVariableOp": "assign_sub",
}


class Variant:
    """One graph of the module.

    Attributes:
      signatures: inputs and outputs by name, as TensorInfo messages.
      losses: names of the tensors of the regularization losses.
      update_ops: names of the update ops.
      trainable: names of the variables that can be trained.
    """

    def __init__(self, meta_graph: Any):
        self.graph_def = meta_graph.graph_def
        for node in self.graph_def.node:
            node.attr.pop("_class", None)
        self.nodes = {node.name: node for node in self.graph_def.node}
        self.needs = {node.name: list(map(node_of, node.input)) for node in self.graph_def.node}
        self.signatures = {
            name: signature
            for name, signature in meta_graph.signature_def.items()
            if not name.startswith("__saved_model")
        }
        collections = meta_graph.collection_def
        self.losses = list(collections["regularization_losses"].node_list.value)
        self.update_ops = list(collections["update_ops"].node_list.value)
        definitions = collections["trainable_variables"].bytes_list.value
        self.trainable = {node_of(VariableDef.FromString(d).variable_name) for d in definitions}

    def run(self, variables: Tensors, feeds: Tensors, fetches: list[str]) -> list[Any]:
        """Imports what the fetches need into the current graph; returns the fetched tensors."""
        graph_def = tf.compat.v1.GraphDef(
            versions=self.graph_def.versions, library=self.graph_def.library
        )
        input_map = dict(feeds)
        fed = set(map(node_of, feeds))
        for name in self.ancestors(map(node_of, fetches)) - fed:
            node = self.nodes[name]
            if name in variables:
                variable = variables[name]
                is_resource = node.op == "VarHandleOp"
                input_map[f"{name}:0"] = variable.handle if is_resource else variable.read_value()
            else:
                graph_def.node.append(node)
        return tf.graph_util.import_graph_def(
            graph_def, input_map=input_map, return_elements=fetches, name=""
        )

    def updates(self, signature: Any) -> list[Any]:
        """Returns the nodes of the update ops that depend on the inputs of a signature."""
        inputs = {node_of(info.name) for info in signature.inputs.values()}
        return [
            self.nodes[name]
            for name in map(node_of, self.update_ops)
            if not inputs.isdisjoint(self.ancestors([name]))
        ]

    def ancestors(self, names: Iterable[str]) -> set[str]:
        """Returns the names of the nodes and of all that they need."""
        seen: set[str] = set()
        stack = list(names)
        while stack:
            name = stack.pop()
            if name not in seen:
                seen.add(name)
                stack.extend(self.needs[name])
        return seen


def node_of(tensor: str) -> str:
    """Returns the name of the node that makes a tensor."""
    return tensor.removeprefix("^").partition(":")[0]


def read_variants(source: Path) -> dict[bool, Variant]:
    """Returns the variants by whether they are for training."""
    saved_model = SavedModel.FromString((source / "saved_model.pb").read_bytes())
    return {
        "train" in meta_graph.meta_info_def.tags: Variant(meta_graph)
        for meta_graph in saved_model.meta_graphs
    }


def make_variables(source: Path, variants: Iterable[Variant]) -> Tensors:
    """Returns the variables, with the values of the checkpoint, by name."""
    trainable = set().union(*(variant.trainable for variant in variants))
    reader = tf.train.load_checkpoint(str(source / "variables" / "variables"))
    return {
        name: tf.Variable(reader.get_tensor(name), trainable=name in trainable, name=name)
        for name in sorted(reader.get_variable_to_shape_map())
    }


def make_body(
    variant: Variant, signature: Any, variables: Tensors, training: bool
) -> Callable[..., Tensors]:
    """Returns the function that computes all outputs of a signature."""
    (info,) = signature.inputs.values()
    outputs = {key: output.name for key, output in sorted(signature.outputs.items())}
    updates = variant.updates(signature) if training else []

    @tf.function(
        input_signature=[tf.TensorSpec(tf.TensorShape(info.tensor_shape), info.dtype)],
        autograph=False,
    )
    def body(images: Any) -> Tensors:
        values = [node.input[1] for node in updates]
        fetched = variant.run(
            variables,
            {info.name: images},
            [*outputs.values(), *(value if ":" in value else f"{value}:0" for value in values)],
        )
        for node, value in zip(updates, fetched[len(outputs) :], strict=True):
            getattr(variables[node.input[0]], UPDATES[node.op])(value)
        return dict(zip(outputs, fetched, strict=False))

    return body


def make_callable(bodies: dict[bool, Callable[..., Tensors]], spec: Any) -> Any:
    """Returns a traced `function(images, training=False, return_endpoints=False)`."""

    @tf.function(autograph=False)
    def function(images: Any, training: bool = False, return_endpoints: bool = False) -> Any:
        outputs = bodies[training](images)
        return outputs if return_endpoints else outputs["default"]

    for training in bodies:
        for return_endpoints in (False, True):
            function.get_concrete_function(spec, training, return_endpoints)
    return function


def make_loss(variant: Variant, name: str, variables: Tensors) -> Any:
    """Returns a function without arguments that computes a regularization loss."""

    @tf.function(input_signature=[], autograph=False)
    def loss() -> Any:
        return variant.run(variables, {}, [name])[0]

    return loss


def convert(source: Path, dest: Path) -> None:
    """Converts a module."""
    variants = read_variants(source)
    variables = make_variables(source, variants.values())
    root = tf.train.Checkpoint()
    root.variables = list(variables.values())
    root.trainable_variables = [v for v in variables.values() if v.trainable]
    main, trained = variants[False], variants.get(True, variants[False])
    root.regularization_losses = [make_loss(trained, name, variables) for name in trained.losses]
    made: dict[bytes, tuple[Any, Any]] = {}
    served = {}
    for name, signature in sorted(main.signatures.items()):
        key = signature.SerializeToString(deterministic=True)
        if key not in made:
            bodies = {
                training: make_body(variant, variant.signatures[name], variables, training)
                for training, variant in variants.items()
            }
            (spec,) = bodies[False].input_signature
            made[key] = make_callable(bodies, spec), bodies[False]
        function, body = made[key]
        setattr(root, "__call__" if name == "default" else name, function)
        served[name] = body
    served["serving_default"] = served["default"]
    tf.saved_model.save(root, str(dest), signatures=served)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
