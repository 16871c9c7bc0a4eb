"""Checks that a graph is one at all, before any pass trusts it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from bridge.dtypes import REF_OFFSET, base_dtype, dtype_name, is_ref
from bridge.errors import MalformedError, UnsupportedError
from bridge.graph import Graph, parse_tensor
from bridge.proto import tf_pb


def check_graph(graph: Graph) -> None:
    """Refuses whatever is no well-formed graph, also where nothing needs it.

    1. Names of nodes are such as TensorFlow takes.
    2. Inputs are there, data before control, and there is no cycle but a loop.
    3. Every op has as many inputs as it takes, of the types that it takes. Nodes whose op nobody
       knows are left to CheckOps, for Prune may drop them.
    4. Functions have names that no op has, call what is there, and none calls itself. In a body,
       names are unique, and inputs and results name what the body has.

    Raises:
      MalformedError: the graph breaks one of these rules; the message names the node.
    """
    check_nodes(graph)
    _check_functions(graph)


def check_nodes(graph: Graph) -> None:
    """Does the same for the graph's nodes alone, and leaves its functions to their callers.

    Raises:
      MalformedError: the graph breaks one of the rules.
    """
    for node in graph.nodes.values():
        _check_inputs(graph, node)
    _check_cycles(graph)
    _check_types(graph)


# IsValidOpName in tensorflow/core/framework/node_def_util.cc.
_NODE_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")

_MAX_REPEATED = 1 << 16
"""An attribute may ask for so many inputs or outputs of one kind."""

_MAX_REPEATED_IN_ALL = 1 << 20
"""Such attributes of a graph may ask for so many outputs: a few bytes of input are a list here."""


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
    """Refuses cycles, but for those that a while loop closes."""
    order = set(graph.topological_order())
    stuck = next((name for name in graph.nodes if name not in order), None)
    if stuck is not None:
        raise MalformedError("the graph has a cycle that is no loop", where=graph.at(stuck))


def _check_types(graph: Graph) -> None:
    types = _Types(graph)
    outputs: dict[str, list[int]] = {}
    repeated = 0
    for node in graph.nodes.values():
        if types.known(node.op):
            op = types.of(node.op)
            outputs[node.name] = types.resolve(node, op.outputs)
            if any(arg.number_attr for arg in op.outputs):
                repeated += len(outputs[node.name])
                if repeated > _MAX_REPEATED_IN_ALL:
                    raise MalformedError(
                        f"the nodes of the graph have more than {_MAX_REPEATED_IN_ALL} outputs",
                        where=graph.at(node.name),
                    )
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
    for node in graph.nodes.values():
        _check_calls(graph, node)
    for name, function in graph.functions.items():
        if graph.ops.in_release(name):
            raise MalformedError(f"function {name!r} has the name of an op", where=graph.where)
        _Body(graph, function).check()
    for gradient in graph.gradients:
        for name in (gradient.function_name, gradient.gradient_func):
            if name not in graph.functions:
                raise MalformedError(
                    f"a gradient is declared for function {gradient.function_name!r}, but there "
                    f"is no function {name!r}",
                    where=graph.where,
                )
    _check_recursion(graph)


def _check_calls(graph: Graph, node: tf_pb.NodeDef) -> None:
    for value in node.attr.values():
        kind = value.WhichOneof("value")
        if kind not in ("func", "list"):
            continue
        for func in [value.func] if kind == "func" else value.list.func:
            if func.name not in graph.functions:
                raise MalformedError(
                    f"there is no function {func.name!r}, which the node calls",
                    where=graph.at(node.name),
                )
            if any(inner.HasField("func") or inner.list.func for inner in func.attr.values()):
                raise UnsupportedError(
                    f"function {func.name!r} is given other functions as attributes",
                    where=graph.at(node.name),
                )


class _Body:
    """Checks the body of a function (tensorflow/core/framework/function.proto).

    Its nodes read `arg`, `node:output_arg:index` or, for control, `^node` and `^arg`.
    """

    def __init__(self, graph: Graph, function: tf_pb.FunctionDef):
        self._graph = graph
        self._function = function
        self._args: set[str] = set()
        self._nodes: dict[str, tf_pb.NodeDef] = {}

    def check(self) -> None:
        self._check_names()
        for node in self._function.node_def:
            self._check_inputs(node)
            _check_calls(self._graph, node)
        self._check_results()

    def _check_names(self) -> None:
        for arg in self._function.signature.input_arg:
            if arg.name in self._args:
                raise self._error(f"two arguments are named {arg.name!r}")
            self._args.add(arg.name)
        for node in self._function.node_def:
            if not _NODE_NAME.fullmatch(node.name):
                raise self._error(f"{node.name!r} is no name for a node")
            if node.name in self._nodes or node.name in self._args:
                raise self._error("two nodes, or a node and an argument, have this name", node.name)
            self._nodes[node.name] = node

    def _check_results(self) -> None:
        signature = self._function.signature
        if {arg.name for arg in signature.output_arg} != set(self._function.ret):
            raise self._error("its results are not those that it declares")
        for tensor in self._function.ret.values():
            if not self._has(tensor):
                raise self._error(f"it returns {tensor[:200]!r}, which is not there")
        for name in signature.control_output:
            if name not in self._function.control_ret:
                raise self._error(f"its control output {name!r} is no node's")
        for name in self._function.control_ret.values():
            if name not in self._nodes:
                raise self._error(f"it must run {name!r}, which is not there")

    def _check_inputs(self, node: tf_pb.NodeDef) -> None:
        control_seen = False
        for name in node.input:
            is_control = name.startswith("^")
            if control_seen and not is_control:
                raise self._error(f"data input {name!r} stands after a control input", node.name)
            control_seen = is_control
            if is_control:
                found = name[1:] in self._nodes or name[1:] in self._args
            else:
                found = self._has(name)
            if not found:
                raise self._error(f"input {name[:200]!r} names nothing in the body", node.name)

    def _has(self, tensor: str) -> bool:
        if tensor in self._args:
            return True
        name, *rest = tensor.split(":")
        if name not in self._nodes or len(rest) != 2:
            return False
        output, index = rest
        # No index has as many digits as would take Python long to read, or make it refuse.
        if not output or not index.isdecimal() or len(index) > 9:
            return False
        node = self._nodes[name]
        called = self._graph.functions.get(node.op)
        op_def = called.signature if called else self._graph.ops.get(node.op)
        if op_def is None:  # CheckOps names it, unless Prune drops it
            return True
        arg = next((arg for arg in op_def.output_arg if arg.name == output), None)
        return arg is not None and int(index) < self._count(node, arg)

    def _count(self, node: tf_pb.NodeDef, arg: tf_pb.OpDef.ArgDef) -> int:
        """Returns how many tensors an output argument is, or a bound where a caller decides."""
        name = arg.number_attr or arg.type_list_attr
        if not name:
            return 1
        value = self._graph.attr(node, name)
        if value.HasField("placeholder"):
            return _MAX_REPEATED
        return value.i if arg.number_attr else len(value.list.type)

    def _error(self, message: str, node: str | None = None) -> MalformedError:
        name = self._function.signature.name
        return MalformedError(f"function {name!r}: {message}", where=self._graph.at(node))


def _check_recursion(graph: Graph) -> None:
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
