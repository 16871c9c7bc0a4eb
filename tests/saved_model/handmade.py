"""Tiny TF2 SavedModels, made of protos: for cases that TensorFlow itself does not save."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.bundle import BytesTensor, StringTensor, write_bundle
from bridge.layout import ASSETS, SAVED_MODEL, VARIABLES
from bridge.model import ByteRange, Shape, Variable
from bridge.proto import tf_pb
from bridge.saved_model.objects import OBJECT_GRAPH_KEY, ROOT, ObjectGraph, checkpoint_key
from bridge.saved_model.structured_value import (
    Value,
    function_spec,
    mapping,
    none,
    tensor_spec,
    tuple_of,
)
from tests.saved_model.tiny import constant

FLOAT = tf_pb.DT_FLOAT
NOWHERE = ByteRange(0, 0, 0, 0)


def spec(name: str = "x", dtype: int = FLOAT, shape: Shape = (None,)) -> Value:
    """The type of a tensor argument or result, a float vector by default."""
    return tensor_spec(name, dtype, shape)


def function(
    name: str,
    nodes: Iterable[tf_pb.NodeDef],
    results: Mapping[str, str],
    args: Mapping[str, int] | None = None,
    types: Mapping[str, int] | None = None,
) -> tf_pb.FunctionDef:
    """A function.

    Args:
      name: its name.
      nodes: its body.
      results: the tensor of each result.
      args: the dtype of each argument, one float `x` by default.
      types: dtypes of results, where they are not float.
    """
    made = tf_pb.FunctionDef(node_def=nodes)
    made.signature.name = name
    for arg, dtype in ({"x": FLOAT} if args is None else args).items():
        made.signature.input_arg.add(name=arg, type=dtype)  # type: ignore[arg-type]
    for result, tensor in results.items():
        dtype = (types or {}).get(result, FLOAT)
        made.signature.output_arg.add(name=result, type=dtype)  # type: ignore[arg-type]
        made.ret[result] = tensor
    return made


def op(name: str, kind: str, *inputs: str, **types: int) -> tf_pb.NodeDef:
    """A node of an op whose attributes are types."""
    node = tf_pb.NodeDef(name=name, op=kind, input=inputs)
    for key, dtype in types.items():
        node.attr[key].type = dtype  # type: ignore[assignment]
    return node


def call(name: str, called: str, *inputs: str, kind: str = "PartitionedCall") -> tf_pb.NodeDef:
    """A call of a function from floats to a float."""
    node = tf_pb.NodeDef(name=name, op=kind, input=inputs)
    node.attr["f"].func.name = called
    data = [text for text in inputs if not text.startswith("^")]
    node.attr["Tin"].list.type.extend([FLOAT] * len(data))
    node.attr["Tout"].list.type.append(FLOAT)
    return node


def scaled(name: str, factor: float) -> tf_pb.FunctionDef:
    """A function that multiplies `x` by a number."""
    nodes = [constant("factor", factor), op("y", "Mul", "x", "factor:output:0", T=FLOAT)]
    return function(name, nodes, {"y": "y:z:0"})


class Handmade:
    """A SavedModel under construction; its root is object 0."""

    def __init__(self) -> None:
        """Starts with a root without attributes."""
        self.meta_graph = tf_pb.MetaGraphDef()
        self.objects = ObjectGraph()
        self.assets: dict[str, bytes] = {}
        self._values: dict[str, BytesTensor] = {}

    @property
    def library(self) -> tf_pb.FunctionDefLibrary:
        """The function library."""
        return self.meta_graph.graph_def.library

    @property
    def object_graph(self) -> tf_pb.SavedObjectGraph:
        """What the functions are called with."""
        return self.meta_graph.object_graph_def

    def variable(
        self,
        name: str,
        values: Sequence[float] = (1.0,),
        *,
        attribute: str = "",
        trainable: bool = True,
    ) -> int:
        """Adds a vector of floats; it is an attribute of the root if that is given."""
        key = f"{name}{len(self._values)}"
        variable = Variable(key, FLOAT, (len(values),), trainable, NOWHERE)
        number = self.objects.add_variable(variable)
        self.objects.nodes[number].variable.name = name
        data = struct.pack(f"<{len(values)}f", *values)
        self._values[checkpoint_key(key)] = BytesTensor(FLOAT, (len(values),), data)
        if attribute:
            self.objects.link(ROOT, attribute, number)
        return number

    def asset(self, filename: str, content: bytes) -> int:
        """Adds a file."""
        self.assets[filename] = content
        self.meta_graph.asset_file_def.add(filename=filename)
        return self.objects.add_asset(len(self.meta_graph.asset_file_def) - 1)

    def trace(
        self,
        made: tf_pb.FunctionDef,
        positional: Sequence[Value] = (),
        keywords: Mapping[str, Value] | None = None,
        *,
        output: Value | None = None,
        captures: Sequence[int] = (),
    ) -> str:
        """Adds a function, and how it is called; returns its name.

        By default it takes a float vector, and gives one.
        """
        self.library.function.add().CopyFrom(made)
        concrete = self.object_graph.concrete_functions[made.signature.name]
        taken = tuple_of(list(positional))
        concrete.canonicalized_input_signature.CopyFrom(tuple_of([taken, mapping(keywords or {})]))
        concrete.output_signature.CopyFrom(spec("y") if output is None else output)
        concrete.bound_inputs.extend(captures)
        return str(made.signature.name)

    def method(
        self,
        attribute: str,
        traces: Iterable[str],
        args: Sequence[str] = ("x",),
        defaults: Sequence[Value] = (),
        *,
        parent: int = ROOT,
    ) -> int:
        """Makes traces a function that an object has."""
        number = self.objects.add_function(traces, function_spec(args, defaults))
        self.objects.link(parent, attribute, number)
        return number

    def signature(self, name: str, trace: str, keywords: Sequence[str] = ("x",)) -> None:
        """Makes a trace a serving signature."""
        if "signatures" not in self.objects.children(ROOT):
            self.objects.link(ROOT, "signatures", self.objects.add_object("signature_map"))
        (parent,) = (c.node_id for c in self.objects.nodes[ROOT].children
                     if c.local_name == "signatures")  # fmt: skip
        self.objects.link(parent, name, self.objects.add_signature(trace, list(keywords)))

    def list_of(self, attribute: str, numbers: Iterable[int]) -> None:
        """Gives the root a list."""
        self.objects.link(ROOT, attribute, self.objects.add_list(numbers))

    def write(self, directory: Path) -> Path:
        """Writes it to a new directory."""
        del self.object_graph.nodes[:]
        self.object_graph.nodes.extend(self.objects.nodes)
        self.object_graph.SetInParent()
        directory.mkdir(parents=True)
        saved_model = tf_pb.SavedModel(saved_model_schema_version=1, meta_graphs=[self.meta_graph])
        (directory / SAVED_MODEL).write_bytes(saved_model.SerializeToString())
        (directory / VARIABLES).mkdir()
        graph = StringTensor((self.objects.checkpoint_graph(),))
        extras: dict[str, Any] = {**self._values, OBJECT_GRAPH_KEY: graph}
        write_bundle(directory / VARIABLES, VARIABLES, [], {}, extras)
        for name, content in self.assets.items():
            path = directory / ASSETS / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return directory


def doubling() -> Handmade:
    """A SavedModel whose `__call__` doubles a vector."""
    model = Handmade()
    model.method("__call__", [model.trace(scaled("double", 2.0), [spec()])])
    return model


__all__ = [
    "FLOAT",
    "ROOT",
    "Handmade",
    "Value",
    "call",
    "doubling",
    "function",
    "none",
    "op",
    "scaled",
    "spec",
]
