"""Checks that a graph is one at all, before any pass trusts it."""

from __future__ import annotations

import re

from bridge.call_graph import CallGraph
from bridge.dtypes import base_dtype, dtype_name, is_ref
from bridge.errors import MalformedError, UnsupportedError
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.op_args import Arg
from bridge.proto import tf_pb


def check_graph(graph: Graph, checked: set[str] | None = None) -> None:
    """Refuses whatever is no well-formed graph, also where nothing needs it.

    1. Names of nodes are such as TensorFlow takes.
    2. Inputs are there, data before control, and there is no cycle but a loop.
    3. Every op has as many inputs as it takes, of the types that it takes. Nodes whose op nobody
       knows are left to CheckOps, for Prune may drop them.
    4. Functions have names that no op has, call what is there, and none calls itself. In a body,
       names are unique, and inputs and results name what the body has.

    Args:
      graph: the graph.
      checked: names of functions that are known to keep the rules, with all that they call, for
        graphs that share functions and ops; those of this graph are added.

    Raises:
      MalformedError: the graph breaks one of these rules; the message names the node.
    """
    check_nodes(graph)
    _check_functions(graph, set() if checked is None else checked)


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
    nodes = graph.nodes
    for name in node.input:
        source, output = parse_tensor(name)
        if source not in nodes:
            raise MalformedError(
                f"input {name!r} names a node that is not there", where=graph.at(node.name)
            )
        if output < 0:
            control_seen = True
        elif control_seen:
            raise MalformedError(
                f"data input {name!r} stands after a control input", where=graph.at(node.name)
            )


def _check_cycles(graph: Graph) -> None:
    """Refuses cycles, but for those that a while loop closes."""
    order = graph.topological_order()
    if len(order) < len(graph.nodes):
        ordered = set(order)
        stuck = next(name for name in graph.nodes if name not in ordered)
        raise MalformedError("the graph has a cycle that is no loop", where=graph.at(stuck))


def _check_types(graph: Graph) -> None:
    known = {
        name: graph.op_args(node)
        for name, node in graph.nodes.items()
        if node.op in graph.functions or graph.ops.get(node.op) is not None
    }
    outputs: dict[str, list[int]] = {}
    repeated = 0
    for name, op in known.items():
        outputs[name] = _dtypes(graph, graph.nodes[name], op.outputs)
        if any(arg.number_attr for arg in op.outputs):
            repeated += len(outputs[name])
            if repeated > _MAX_REPEATED_IN_ALL:
                raise MalformedError(
                    f"the nodes of the graph have more than {_MAX_REPEATED_IN_ALL} outputs",
                    where=graph.at(name),
                )
    for name, op in known.items():
        node = graph.nodes[name]
        wanted = _dtypes(graph, node, op.inputs)
        given = [tensor for tensor in graph.inputs(node) if tensor[1] >= 0]
        if len(given) != len(wanted):
            raise MalformedError(
                f"op {node.op} takes {len(wanted)} inputs, the node has {len(given)}",
                where=graph.at(name),
            )
        for (source, output), dtype in zip(given, wanted, strict=True):
            found = outputs.get(source)
            if found is None:
                continue
            if output >= len(found):
                raise MalformedError(
                    f"output {output} is used, the node has {len(found)}", where=graph.at(source)
                )
            # A reference is good for a value, but a value is not for a reference.
            given_dtype = found[output]
            if dtype != given_dtype and dtype != base_dtype(given_dtype):
                text = str(Tensor(source, output))
                raise MalformedError(
                    f"input {text!r} is {_type_name(given_dtype)}, op {node.op} takes "
                    f"{_type_name(dtype)}",
                    where=graph.at(name),
                )


def _type_name(dtype: int) -> str:
    return f"{'a reference to ' if is_ref(dtype) else ''}{dtype_name(base_dtype(dtype))}"


def _dtypes(graph: Graph, node: tf_pb.NodeDef, args: tuple[Arg, ...]) -> list[int]:
    """Returns the dtypes, references as such, of a node's inputs or outputs."""
    result: list[int] = []
    for _, dtype, ref, type_attr, number_attr, type_list_attr in args:
        if type_list_attr:
            result += graph.attr(node, type_list_attr).list.type
            continue
        one = (graph.attr(node, type_attr).type if type_attr else dtype) + ref
        if not number_attr:
            result.append(one)
            continue
        number = graph.attr(node, number_attr).i
        if not 0 <= number <= _MAX_REPEATED:
            raise MalformedError(
                f"attribute {number_attr!r} is {number}", where=graph.at(node.name)
            )
        result += [one] * number
    return result


def _check_functions(graph: Graph, checked: set[str]) -> None:
    for node in graph.nodes.values():
        _check_calls(graph, node)
    for name, function in graph.functions.items():
        if name in checked:
            continue
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
    if not checked.issuperset(graph.functions):
        CallGraph(graph).callees_first()  # an order that no function has that calls itself
    checked.update(graph.functions)


def _check_calls(graph: Graph, node: tf_pb.NodeDef) -> None:
    attrs = node.attr
    for attr in attrs:
        value = attrs[attr]
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
        graph, node = self._graph, self._nodes[name]
        if node.op not in graph.functions and graph.ops.get(node.op) is None:
            return True  # CheckOps names it, unless Prune drops it
        arg = next((arg for arg in graph.op_args(node).outputs if arg.name == output), None)
        return arg is not None and int(index) < self._count(node, arg)

    def _count(self, node: tf_pb.NodeDef, arg: Arg) -> int:
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
