"""Cuts a part of a graph out as a FunctionDef.

A function body names tensors otherwise than a graph does
(tensorflow/core/framework/function.proto): its own arguments by their plain name, outputs of nodes
by `node:output_arg:index`. This module is the one place that knows how to get from one to the
other; signatures, branches and loop bodies are all made here.

    build_function(graph, name, nodes, args, *, outputs, control_outputs=()) -> FunctionDef

Nothing is added to the graph: the caller puts the function into `graph.functions`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from bridge.attrs import HandleData, shapes_attr
from bridge.errors import MalformedError
from bridge.graph import Graph, Tensor, unique_name
from bridge.model import Shape
from bridge.proto import tf_pb


@dataclass(frozen=True)
class FunctionArg:
    """An argument of a function.

    Attributes:
      name: the wanted name; the function has it in the form that FunctionDefs allow, and with a
        number appended where the body or another argument has the name already.
      replaces: the tensors of the graph that the argument stands for in the body; empty for an
        argument that the body does not read.
      dtype: DataType number.
      shape: static shape.
      handle_data: for a resource, what it points to.
    """

    name: str
    replaces: tuple[Tensor, ...]
    dtype: int
    shape: Shape = None
    handle_data: HandleData = ()


def argument_name(name: str) -> str:
    """Returns the nearest name that matches `[a-z][a-z0-9_]*`, as argument names must."""
    cleaned = re.sub(r"[^a-z0-9_]", "_", name.lower())
    return cleaned if cleaned[:1].isalpha() else f"arg_{cleaned.lstrip('_')}".rstrip("_")


def build_function(
    graph: Graph,
    name: str,
    nodes: Collection[str],
    args: Sequence[FunctionArg],
    *,
    outputs: Sequence[tuple[str, Tensor]],
    control_outputs: Iterable[str] = (),
) -> tf_pb.FunctionDef:
    """Copies nodes of a graph into a new function.

    Nodes keep their names; `device` and `_class`, which speak of places outside the function, are
    cleared. A control edge from a node that an argument stands for is dropped: the argument is
    there before the body runs. A ReadVariableOp of an argument tells its shape in `_output_shapes`,
    since TensorFlow infers shapes before it looks at the argument's handle data.

    Args:
      graph: the graph; it stays as it is, and does not get the function.
      name: name of the function.
      nodes: names of the nodes that make up the body; a set stands in the order of the graph,
        anything else in its own.
      args: the arguments, in order. Where an argument replaces an output of a node of the body,
        the node stays and the body reads the argument.
      outputs: wanted name and tensor of each output, in order; a tensor may be an argument's.
      control_outputs: nodes of the body that must run even if no output needs them.

    Returns:
      The function; its `signature` tells the final names of arguments and outputs.

    Raises:
      MalformedError: the body needs a tensor or a node that is neither in it nor an argument.
    """
    members = set(nodes)
    function = tf_pb.FunctionDef()
    signature = function.signature
    signature.name = name
    sources = _add_args(function, args, _Names(members))
    replaced_nodes = {tensor.node for tensor in sources}

    def source(tensor: Tensor, reader: str) -> str:
        if tensor in sources:
            return sources[tensor]
        if tensor.node not in members:
            raise MalformedError(
                f"{reader} needs {str(tensor)!r}, which function {name!r} neither has nor gets",
                where=graph.at(tensor.node),
            )
        return graph.output_name(tensor)

    handles = {arg_def.name: arg_def.handle_data for arg_def in signature.input_arg}
    for original in _ordered(graph, nodes):
        node = function.node_def.add()
        node.CopyFrom(original)
        node.device = ""
        node.attr.pop("_class", None)
        del node.input[:]
        for tensor in graph.inputs(original):
            if not tensor.is_control:
                node.input.append(source(tensor, original.name))
            elif tensor.node in members:
                node.input.append(str(tensor))
            elif tensor.node not in replaced_nodes:
                raise MalformedError(
                    f"must run after {tensor.node!r}, which is not in function {name!r}",
                    where=graph.at(original.name),
                )
        if node.op == "ReadVariableOp" and handles.get(node.input[0]):
            shape = tf_pb.AttrValue.ListValue(shape=[handles[node.input[0]][0].shape])
            node.attr["_output_shapes"].list.CopyFrom(shape)
        signature.is_stateful |= graph.op_def(original).is_stateful

    arg_types = {arg_def.name: arg_def.type for arg_def in signature.input_arg}
    output_names = _Names(())
    for wanted, tensor in outputs:
        output_def = signature.output_arg.add()
        output_def.name = output_names.add(argument_name(wanted))
        value = source(tensor, f"output {wanted!r}")
        if value in arg_types:
            output_def.type = arg_types[value]
        else:
            output_def.type = graph.output(tensor).dtype  # type: ignore[assignment]
        function.ret[output_def.name] = value
    for control in control_outputs:
        if control not in members:
            raise MalformedError(
                f"function {name!r} must run it but does not have it", where=graph.at(control)
            )
        signature.control_output.append(control)
        function.control_ret[control] = control
    return function


def _add_args(
    function: tf_pb.FunctionDef, args: Sequence[FunctionArg], names: _Names
) -> dict[Tensor, str]:
    """Adds the arguments; returns the name of the one that stands for each replaced tensor."""
    sources: dict[Tensor, str] = {}
    for index, arg in enumerate(args):
        arg_def = function.signature.input_arg.add()
        arg_def.name = names.add(argument_name(arg.name))
        arg_def.type = arg.dtype  # type: ignore[assignment]  # DataType members are ints
        arg_def.handle_data.extend(arg.handle_data)
        if arg.shape is not None:
            function.arg_attr[index].attr["_output_shapes"].CopyFrom(shapes_attr([arg.shape]))
        sources.update(dict.fromkeys(arg.replaces, arg_def.name))
    return sources


def _ordered(graph: Graph, nodes: Collection[str]) -> list[tf_pb.NodeDef]:
    if isinstance(nodes, (set, frozenset)):
        for name in nodes:
            graph.node(name)  # raises for a name that the graph does not have
        return [node for name, node in graph.nodes.items() if name in nodes]
    return [graph.node(name) for name in nodes]


class _Names:
    """Names of a function's arguments or outputs, of which no two are equal."""

    def __init__(self, taken: Iterable[str]):
        self._taken = set(taken)
        self._suffixes: dict[str, int] = {}

    def add(self, name: str) -> str:
        """Returns the name, with a number if it is taken, and takes it."""
        found = unique_name(name, self._taken.__contains__, self._suffixes)
        self._taken.add(found)
        return found
