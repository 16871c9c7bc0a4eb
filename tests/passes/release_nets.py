"""Small graphs around one variable, for the release that must read them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bridge.attrs import (
    ints_tensor_attr,
    shape_attr,
    string_attr,
    type_attr,
)
from bridge.errors import UnsupportedError
from bridge.function_body import FunctionArg, build_function
from bridge.graph import Graph, Tensor
from bridge.model import INFERENCE, Component, Encoding, Endpoint, Shape, Signature, Variant
from bridge.opsets import OpTable
from bridge.opsets.release import load_release
from bridge.passes.check_release import CheckRelease
from bridge.proto import tf_pb
from bridge.report import Report
from tests.clients.tf1 import Tf1Client

RELEASE = load_release("1.15")
FLOAT = tf_pb.DT_FLOAT
INT32 = tf_pb.DT_INT32
RESOURCE = tf_pb.DT_RESOURCE
T = type_attr(FLOAT)


def ints_attr(*values: int) -> tf_pb.AttrValue:
    return tf_pb.AttrValue(list=tf_pb.AttrValue.ListValue(i=values))


class Net:
    """A graph under construction: variable `w` of shape [2, 3], and whatever is added."""

    def __init__(self, trainable: bool = True) -> None:
        self.graph = Graph([], OpTable())
        self.variant = Variant(INFERENCE, self.graph)
        shape = {"dtype": T, "shape": shape_attr((2, 3))}
        self.graph.add("VarHandleOp", "w", **shape, shared_name=string_attr("w"))
        self.graph.add("ReadVariableOp", "read", ["w"], dtype=T)
        if trainable:
            self.variant.trainable_variables.append("w")

    def input(self, name: str, dtype: int = FLOAT, shape: Shape = None) -> str:
        self.graph.add("Placeholder", name, dtype=type_attr(dtype), shape=shape_attr(shape))
        return name

    def ints(self, name: str, *values: int) -> str:
        """Adds a Const: a vector, or a scalar where there is one value."""
        value = ints_tensor_attr(INT32, values if len(values) > 1 else values[0])
        self.graph.add("Const", name, dtype=type_attr(INT32), value=value)
        return name

    def add(self, op: str, name: str, *inputs: str, **attrs: tf_pb.AttrValue) -> str:
        """Adds a node; its attribute T is float unless it is given."""
        op_def = self.graph.ops.get(op)
        assert op_def is not None
        if any(attr.name == "T" and attr.type == "type" for attr in op_def.attr):
            attrs = {"T": T, **attrs}
        self.graph.add(op, name, inputs, **attrs)
        return name

    def function(self, name: str, args: dict[str, int], body: Graph, *outputs: str) -> None:
        """Makes the nodes of another graph a function; args are the placeholders of it."""
        self.graph.functions[name] = build_function(
            body,
            name,
            [node for node in body.nodes if node not in args],
            [FunctionArg(arg, (Tensor(arg, 0),), dtype) for arg, dtype in args.items()],
            outputs=[(output, Tensor(output, 0)) for output in outputs],
        )

    def check(self, *outputs: str) -> Report:
        """Runs the pass; the first outputs of these nodes are those of the signature."""
        ends = {}
        for name in outputs:
            dtype = self.graph.output(Tensor(name, 0)).dtype
            ends[name] = Endpoint(
                Encoding.DENSE, dtype, None, (Component(f"{name}:0", dtype, None),)
            )
        if outputs:
            self.variant.signatures["default"] = Signature("default", {}, ends)
        report = Report("", None, "to-hub-module")
        assert CheckRelease(RELEASE).rewrite(self.variant, report) == 0
        return report

    def refusal(self, *outputs: str) -> UnsupportedError:
        with pytest.raises(UnsupportedError) as caught:
            self.check(*outputs)
        assert caught.value.hint
        return caught.value

    def graph_def(self) -> bytes:
        """The graph for the real release, with `assign` to fill the variable."""
        graph_def = tf_pb.GraphDef(node=self.graph.nodes.values(), versions=RELEASE.versions())
        graph_def.library.function.extend(self.graph.functions.values())
        value = tf_pb.TensorProto(dtype=FLOAT, float_val=[0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
        value.tensor_shape.CopyFrom(shape_attr((2, 3)).shape)
        const = graph_def.node.add(name="value", op="Const")
        const.attr["dtype"].type = FLOAT
        const.attr["value"].tensor.CopyFrom(value)
        assign = graph_def.node.add(name="assign", op="AssignVariableOp", input=["w", "value"])
        assign.attr["dtype"].type = FLOAT
        return graph_def.SerializeToString()

    def real_gradient(self, tf1: Tf1Client, output: str) -> NDArray[np.float32] | None:
        """Returns the gradient of the sum of an output by the variable, in the real release."""
        name = f"{output}:0"
        values, _ = tf1.run_graph(self.graph_def(), {}, [name], steps=[["assign"]])
        _, gradients = tf1.run_graph(
            self.graph_def(),
            {},
            [name],
            steps=[["assign"]],
            gradients=["w:0"],
            projections={name: np.ones_like(values[name])},
        )
        return gradients["w:0"]


def body_of(args: dict[str, int]) -> Graph:
    """Returns the start of a function's body, with placeholders for its arguments."""
    body = Graph([], OpTable())
    for name, dtype in args.items():
        body.add("Placeholder", name, dtype=type_attr(dtype))
    return body
