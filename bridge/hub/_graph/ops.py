"""What TensorFlow's op registry says about the nodes of a module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tensorflow.python.framework import op_def_registry  # no public function reads the registry

from bridge.errors import Where
from bridge.hub._graph.errors import UnknownOpError
from bridge.hub.errors import UnsupportedSpecError

CONTROL = "^"
"""What the name of a node starts with in a control input."""


def full_name(name: str) -> str:
    """Returns the name of a tensor with its index, which inputs of nodes lack if it is 0."""
    return name if ":" in name else f"{name}:0"


def data_inputs(node: Any) -> list[str]:
    """Returns the tensors that a node takes."""
    return [full_name(name) for name in node.input if not name.startswith(CONTROL)]


def check_ops_are_known(meta_graph: Any, where: Where) -> None:
    """Refuses a graph with an op that this TensorFlow lacks.

    Raises:
      tf.errors.NotFoundError: it has one; the message names all.
    """
    functions = {function.signature.name for function in meta_graph.graph_def.library.function}
    unknown = sorted(
        {
            node.op
            for node in _all_nodes(meta_graph.graph_def)
            if node.op not in functions and op_def_registry.get(node.op) is None
        }
    )
    if unknown:
        raise UnknownOpError(
            f"this TensorFlow does not know the ops {', '.join(unknown)}",
            where=where,
            hint="load the library that defines them with tf.load_op_library",
        )


def state_nodes(meta_graph: Any, where: Where) -> dict[str, Any]:
    """Returns the nodes that hold a module's state, by name.

    They are the stateful ops without inputs: variables, tables, and whatever else gives a handle.
    All applications of a module share them.

    Raises:
      ValueError: one has not exactly one output.
    """
    result = {}
    for node in meta_graph.graph_def.node:
        op_def = op_def_registry.get(node.op)
        if op_def is None or not op_def.is_stateful or op_def.input_arg:
            continue
        outputs = op_def.output_arg
        if len(outputs) != 1 or outputs[0].number_attr or outputs[0].type_list_attr:
            raise UnsupportedSpecError(
                f"an op {node.op} holds state, and has not exactly one output",
                where=Where(where.path, where.variant, node=node.name),
            )
        result[node.name] = node
    return result


def takes_reference(node: Any, index: int) -> bool:
    """Returns whether data input `index` of a node must be a reference."""
    op_def = op_def_registry.get(node.op)
    if op_def is None:
        return False
    position = 0
    for arg in op_def.input_arg:
        if arg.number_attr:
            position += node.attr[arg.number_attr].i
        elif arg.type_list_attr:
            position += len(node.attr[arg.type_list_attr].list.type)
        else:
            position += 1
        if index < position:
            return bool(arg.is_ref)
    return False


def _all_nodes(graph_def: Any) -> Iterator[Any]:
    yield from graph_def.node
    for function in graph_def.library.function:
        yield from function.node_def
