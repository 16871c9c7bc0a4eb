"""Which nodes a gradient goes through when the trainable variables of a variant are trained."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from bridge.dtypes import base_dtype
from bridge.graph import Graph, parse_tensor
from bridge.model import Variant
from bridge.ops import RESOURCE_VARIABLE
from bridge.passes._findings import Site
from bridge.proto import tf_pb

DIFFERENTIABLE = frozenset(
    {
        tf_pb.DT_HALF,
        tf_pb.DT_BFLOAT16,
        tf_pb.DT_FLOAT,
        tf_pb.DT_DOUBLE,
        tf_pb.DT_COMPLEX64,
        tf_pb.DT_COMPLEX128,
    }
)
"""Types of tensors that have a gradient."""

_CARRIES = DIFFERENTIABLE | {tf_pb.DT_RESOURCE, tf_pb.DT_VARIANT}
"""Types of tensors that a gradient goes through: handles of variables and lists of tensors too."""

_LOOPS = frozenset({"While", "StatelessWhile"})

_SELECTOR_INPUTS = {"If": 1, "StatelessIf": 1, "Case": 1, "StatelessCase": 1} | dict.fromkeys(
    _LOOPS, 0
)
"""Functional control flow, and how many inputs its bodies do not get: predicate or index."""


@dataclass(frozen=True)
class TrainedSite(Site):
    """A node that a gradient goes through.

    Attributes:
      variable: a trainable variable before it.
    """

    variable: str = ""


def trained_sites(variant: Variant, stops: Collection[str]) -> list[TrainedSite]:
    """Finds the nodes between trainable variables and what a client may differentiate.

    That is every output of a signature and every regularization loss that has a gradient at all.
    Bodies of If, While and Case are searched too.

    Args:
      variant: the variant, with calls inlined.
      stops: ops that end a path: their gradient is None.

    Returns:
      The nodes, those of the graph first.
    """
    graph = variant.graph
    scope = _graph_scope(graph)
    variables = {
        name: name
        for name in variant.trainable_variables
        if name in graph.nodes and graph.nodes[name].op == RESOURCE_VARIABLE
    }
    outputs = [
        *(name for signature in variant.signatures.values() for name in signature.output_tensors()),
        *variant.regularization_losses,
    ]
    targets = [
        tensor.node
        for tensor in map(parse_tensor, outputs)
        if graph.output(tensor).dtype in DIFFERENTIABLE
    ]
    path = scope.path(variables, targets, stops)
    found = [
        TrainedSite(scope.nodes[name], None, variable)
        for name, variable in path.items()
        if scope.inputs[name]  # not the variables themselves
    ]
    return [*found, *_in_bodies(graph, list(_calls(scope, path)), stops)]


def _in_bodies(graph: Graph, calls: list[_Call], stops: Collection[str]) -> Iterable[TrainedSite]:
    """Finds the nodes in functions that are called with something that is trained."""
    trained_args: dict[str, dict[str, str]] = {}
    found: dict[tuple[str, str], TrainedSite] = {}
    while calls:
        call = calls.pop()
        args = trained_args.setdefault(call.function, {})
        known = len(args)
        args.update({arg: name for arg, name in call.args.items() if arg not in args})
        if len(args) == known:
            continue
        function = graph.functions[call.function]
        scope = _body_scope(graph, function)
        results = [scope.tensor(function.ret[arg.name]) for arg in function.signature.output_arg]
        path = scope.path(args, [source for source, dtype in results if dtype in _CARRIES], stops)
        for name, variable in path.items():
            if name in scope.nodes:
                site = TrainedSite(scope.nodes[name], call.function, variable)
                found[call.function, name] = site
        calls += _calls(scope, path)
        if call.is_loop:
            names = [arg.name for arg in function.signature.input_arg]
            again = {
                arg: path[source]
                for arg, (source, dtype) in zip(names, results, strict=False)
                if source in path and dtype in _CARRIES
            }
            calls.append(_Call(call.function, again, is_loop=True))
    return found.values()


@dataclass(frozen=True)
class _Call:
    """A function that gets trained arguments: by name, with a variable before each."""

    function: str
    args: dict[str, str]
    is_loop: bool


def _calls(scope: _Scope, path: dict[str, str]) -> Iterator[_Call]:
    """Yields the functions that nodes on a path run."""
    for name, node in scope.nodes.items():
        if name not in path or node.op not in _SELECTOR_INPUTS:
            continue
        inputs = scope.inputs[name][_SELECTOR_INPUTS[node.op] :]
        for value in node.attr.values():
            functions = [value.func] if value.HasField("func") else value.list.func
            for function in functions:
                if function.name not in scope.graph.functions:
                    continue
                signature = scope.graph.functions[function.name].signature
                args = {
                    arg.name: path[source]
                    for arg, (source, dtype) in zip(signature.input_arg, inputs, strict=False)
                    if source in path and dtype in _CARRIES
                }
                yield _Call(function.name, args, node.op in _LOOPS)


@dataclass
class _Scope:
    """The nodes of a graph or of a body, and what each reads.

    Attributes:
      graph: the graph, whose function library holds the body.
      nodes: the nodes by name.
      inputs: for each node its data inputs, as the name of a node, or of an argument of the body,
        and the dtype of the tensor.
      args: the dtypes of the body's arguments.
    """

    graph: Graph
    nodes: dict[str, tf_pb.NodeDef]
    inputs: dict[str, list[tuple[str, int]]]
    args: dict[str, int]

    def tensor(self, name: str) -> tuple[str, int]:
        """Returns the node and the dtype of a tensor as a body names it."""
        if name in self.args:
            return name, self.args[name]
        source, arg_name, number = name.split(":")
        node = self.nodes[source]
        (arg,) = (a for a in self.graph.op_def(node).output_arg if a.name == arg_name)
        return source, self.graph.arg_types(node, [arg])[int(number)].dtype

    def path(
        self, sources: dict[str, str], targets: Iterable[str], stops: Collection[str]
    ) -> dict[str, str]:
        """Returns what lies between, with the variable that each has before it.

        Args:
          sources: nodes or arguments, with their variable.
          targets: where a gradient comes from.
          stops: ops that end a path.
        """
        consumers: dict[str, list[str]] = {}
        for name, inputs in self.inputs.items():
            for source, dtype in inputs:
                if base_dtype(dtype) in _CARRIES:
                    consumers.setdefault(source, []).append(name)
        after = dict(sources)
        stack = list(sources)
        while stack:
            source = stack.pop()
            for name in consumers.get(source, ()):
                if name not in after and self.nodes[name].op not in stops:
                    after[name] = after[source]
                    stack.append(name)
        before: set[str] = set()
        stack = [name for name in targets if name in after]
        while stack:
            name = stack.pop()
            if name not in before:
                before.add(name)
                inputs = self.inputs.get(name, [])
                stack.extend(
                    source
                    for source, dtype in inputs
                    if source in after and base_dtype(dtype) in _CARRIES
                )
        return {name: variable for name, variable in after.items() if name in before}


def _graph_scope(graph: Graph) -> _Scope:
    dtypes = {name: [o.dtype for o in graph.outputs(node)] for name, node in graph.nodes.items()}
    inputs = {
        name: [
            (tensor.node, dtypes[tensor.node][tensor.output])
            for tensor in graph.inputs(node)
            if not tensor.is_control
        ]
        for name, node in graph.nodes.items()
    }
    return _Scope(graph, graph.nodes, inputs, {})


def _body_scope(graph: Graph, function: tf_pb.FunctionDef) -> _Scope:
    args: dict[str, int] = {arg.name: arg.type for arg in function.signature.input_arg}
    scope = _Scope(graph, {node.name: node for node in function.node_def}, {}, args)
    scope.inputs = {
        node.name: [scope.tensor(name) for name in node.input if not name.startswith("^")]
        for node in function.node_def
    }
    return scope
