"""Checks that a graph is one at all, before any pass trusts it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from bridge.dtypes import REF_OFFSET, base_dtype, dtype_name, is_ref
from bridge.errors import MalformedError
from bridge.graph import LOOP_BACK_EDGE, Graph, parse_tensor
from bridge.proto import tf_pb


def check_graph(graph: Graph) -> None:
    """Refuses whatever is no well-formed graph, also where nothing needs it.

    1. Names of nodes are such as TensorFlow takes.
    2. Inputs are there, data before control, and there is no cycle but a loop.
    3. Every op has as many inputs as it takes, of the types that it takes. Nodes whose op nobody
       knows are left to CheckOps, for Prune may drop them.
    4. No function calls itself.

    Raises:
      MalformedError: the graph breaks one of these rules; the message names the node.
    """
    for node in graph.nodes.values():
        _check_inputs(graph, node)
    _check_cycles(graph)
    _check_types(graph)
    _check_functions(graph)


# IsValidOpName in tensorflow/core/framework/node_def_util.cc.
_NODE_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")

_MAX_REPEATED = 1 << 16
"""An attribute may ask for so many inputs or outputs of one kind."""


def _check_inputs(graph: Graph, node: tf_pb.NodeDef) -> None:
    if not _NODE_NAME.fullmatch(node.name):
        raise MalformedError(f"{node.name!r} is no name for a node", where=graph.where)
    control_seen = False
    for name in node.input:
        tensor = parse_tensor(name)
        if tensor.node not in graph.nodes:
            raise MalformedError(
                f"input {name!r} names a node that is not there", where=graph.at(node.name)
            )
        if control_seen and not tensor.is_control:
            raise MalformedError(
                f"data input {name!r} stands after a control input", where=graph.at(node.name)
            )
        control_seen = tensor.is_control


def _check_cycles(graph: Graph) -> None:
    """Sorts the graph topologically, without the edges that close a while loop."""
    waiting = {
        node.name: sum(1 for _ in _forward_inputs(graph, node)) for node in graph.nodes.values()
    }
    consumers = graph.consumers()
    ready = [name for name, count in waiting.items() if not count]
    done = 0
    while ready:
        name = ready.pop()
        done += 1
        if graph.nodes[name].op in LOOP_BACK_EDGE:
            continue
        for consumer, _ in consumers[name]:
            waiting[consumer.name] -= 1
            if not waiting[consumer.name]:
                ready.append(consumer.name)
    if done < len(waiting):
        stuck = next(name for name, count in waiting.items() if count)
        raise MalformedError("the graph has a cycle that is no loop", where=graph.at(stuck))


def _forward_inputs(graph: Graph, node: tf_pb.NodeDef) -> list[str]:
    return [
        tensor.node
        for tensor in graph.inputs(node)
        if graph.nodes[tensor.node].op not in LOOP_BACK_EDGE
    ]


def _check_types(graph: Graph) -> None:
    types = _Types(graph)
    outputs = {
        node.name: types.resolve(node, types.of(node.op).outputs)
        for node in graph.nodes.values()
        if types.known(node.op)
    }
    for node in graph.nodes.values():
        if node.name not in outputs:
            continue
        wanted = types.resolve(node, types.of(node.op).inputs)
        given = [tensor for tensor in graph.inputs(node) if not tensor.is_control]
        if len(given) != len(wanted):
            raise MalformedError(
                f"op {node.op} takes {len(wanted)} inputs, the node has {len(given)}",
                where=graph.at(node.name),
            )
        for tensor, dtype in zip(given, wanted, strict=True):
            found = outputs.get(tensor.node)
            if found is None:
                continue
            if tensor.output >= len(found):
                raise MalformedError(
                    f"output {tensor.output} is used, the node has {len(found)}",
                    where=graph.at(tensor.node),
                )
            # A reference is good for a value, but a value is not for a reference.
            if dtype not in (found[tensor.output], base_dtype(found[tensor.output])):
                raise MalformedError(
                    f"input {str(tensor)!r} is {_type_name(found[tensor.output])}, op {node.op} "
                    f"takes {_type_name(dtype)}",
                    where=graph.at(node.name),
                )


def _type_name(dtype: int) -> str:
    return f"{'a reference to ' if is_ref(dtype) else ''}{dtype_name(base_dtype(dtype))}"


class _Arg(NamedTuple):
    """An OpDef.ArgDef as plain Python values: there are few ops, and many nodes of each."""

    dtype: int
    ref: int
    type_attr: str
    number_attr: str
    type_list_attr: str


class _Op(NamedTuple):
    inputs: tuple[_Arg, ...]
    outputs: tuple[_Arg, ...]


class _Types:
    """The dtypes, references as such, of nodes' inputs and outputs, for a whole graph."""

    def __init__(self, graph: Graph):
        self._graph = graph
        self._ops: dict[str, _Op] = {}

    def known(self, op: str) -> bool:
        return op in self._ops or op in self._graph.functions or self._graph.ops.get(op) is not None

    def of(self, op: str) -> _Op:
        if op not in self._ops:
            op_def = self._graph.op_def(tf_pb.NodeDef(op=op))
            self._ops[op] = _Op(_args(op_def.input_arg), _args(op_def.output_arg))
        return self._ops[op]

    def resolve(self, node: tf_pb.NodeDef, args: tuple[_Arg, ...]) -> list[int]:
        graph, attrs = self._graph, node.attr
        found: dict[str, tf_pb.AttrValue] = {}

        def attr(name: str) -> tf_pb.AttrValue:
            if name not in found:
                found[name] = attrs[name] if name in attrs else graph.attr(node, name)
            return found[name]

        result: list[int] = []
        for dtype, ref, type_attr, number_attr, type_list_attr in args:
            if type_list_attr:
                result += attr(type_list_attr).list.type
                continue
            number = attr(number_attr).i if number_attr else 1
            if not 0 <= number <= _MAX_REPEATED:
                raise MalformedError(
                    f"attribute {number_attr!r} is {number}", where=graph.at(node.name)
                )
            result += [(attr(type_attr).type if type_attr else dtype) + ref] * number
        return result


def _args(args: Iterable[tf_pb.OpDef.ArgDef]) -> tuple[_Arg, ...]:
    return tuple(
        _Arg(
            arg.type,
            REF_OFFSET if arg.is_ref else 0,
            arg.type_attr,
            arg.number_attr,
            arg.type_list_attr,
        )
        for arg in args
    )


def _check_functions(graph: Graph) -> None:
    calls = {
        name: {
            called
            for node in function.node_def
            for called in graph.called_functions(node)
            if called in graph.functions
        }
        for name, function in graph.functions.items()
    }
    finished: set[str] = set()
    for root, called_by_root in calls.items():
        # Depth first with an explicit stack: a stranger's graph may be deep.
        stack, path = [(root, iter(sorted(called_by_root)))], {root}
        while stack:
            name, rest = stack[-1]
            called = next(rest, None)
            if called is None:
                stack.pop()
                path.discard(name)
                finished.add(name)
            elif called in path:
                raise MalformedError(f"function {called!r} calls itself", where=graph.where)
            elif called not in finished:
                path.add(called)
                stack.append((called, iter(sorted(calls[called]))))
