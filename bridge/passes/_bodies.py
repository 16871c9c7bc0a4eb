"""The body of a function as a graph, so that passes need not know how bodies name tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bridge.attrs import shape_attr, type_attr
from bridge.function_body import FunctionArg, build_function
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.inline import Body as InlinedBody
from bridge.model import Shape, shape_from_proto
from bridge.proto import tf_pb


@dataclass
class Body:
    """A function whose arguments are Placeholders, and whose tensors are named as in a graph.

    Attributes:
      name: name of the function.
      graph: its nodes, and the function library that it belongs to.
      args: its arguments; the Placeholder of each has its name.
      outputs: name and tensor of each output.
      controls: the nodes that run even if no output needs them.
    """

    name: str
    graph: Graph
    args: list[FunctionArg]
    outputs: list[tuple[str, Tensor]]
    controls: list[str]

    def close(self) -> tf_pb.FunctionDef:
        """Returns the function as its graph, outputs and controls are now."""
        arguments = {arg.name for arg in self.args}
        return build_function(
            self.graph,
            self.name,
            [name for name in self.graph.nodes if name not in arguments],
            self.args,
            outputs=self.outputs,
            control_outputs=self.controls,
        )


def open_body(graph: Graph, name: str, names: Mapping[str, str] | None = None) -> Body:
    """Returns a copy of a function of a graph's library.

    Args:
      graph: the graph.
      name: the function.
      names: new names of its nodes; they keep theirs by default.

    Raises:
      MalformedError: the body reads an output that its node does not have.
    """
    function = graph.functions[name]
    body = Graph([], graph.ops, graph.functions.values(), where=graph.where)
    args: list[FunctionArg] = []
    for position, arg in enumerate(function.signature.input_arg):
        shape = _static_shape(function, position)
        body.add("Placeholder", arg.name, dtype=type_attr(arg.type), shape=shape_attr(shape))
        handle_data = tuple(arg.handle_data)
        args.append(FunctionArg(arg.name, (Tensor(arg.name, 0),), arg.type, shape, handle_data))
    inner = InlinedBody(graph, function, {arg.name: arg.name for arg in args}, names)
    body.nodes.update((node.name, node) for node in inner.nodes())
    signature = function.signature
    outputs = [
        (arg.name, parse_tensor(inner.tensor(function.ret[arg.name])))
        for arg in signature.output_arg
    ]
    controls = [inner.name(function.control_ret[control]) for control in signature.control_output]
    return Body(name, body, args, outputs, list(dict.fromkeys(controls)))


def _static_shape(function: tf_pb.FunctionDef, position: int) -> Shape:
    if position not in function.arg_attr:
        return None
    shapes = function.arg_attr[position].attr["_output_shapes"].list.shape
    return shape_from_proto(shapes[0]) if shapes else None
