"""Checks that the functions of If, Case and While fit the nodes that run them."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.errors import MalformedError
from bridge.graph import Graph
from bridge.proto import tf_pb

_BRANCHES = {
    "If": ("then_branch", "else_branch"),
    "StatelessIf": ("then_branch", "else_branch"),
    "Case": ("branches",),
    "StatelessCase": ("branches",),
}
_LOOPS = frozenset({"While", "StatelessWhile"})


def check_interfaces(graph: Graph) -> None:
    """Refuses nodes whose functions take or return other tensors than they do.

    Nodes in the bodies of functions are looked at too (tensorflow/core/ops/functional_ops.cc).

    Raises:
      MalformedError: there is one.
    """
    for node in graph.all_nodes():
        if node.op in _BRANCHES:
            taken = list(graph.attr(node, "Tin").list.type)
            given = list(graph.attr(node, "Tout").list.type)
            for attr in _BRANCHES[node.op]:
                _check(graph, node, attr, taken, given)
        elif node.op in _LOOPS:
            types = list(graph.attr(node, "T").list.type)
            _check(graph, node, "cond", types, None)
            _check(graph, node, "body", types, types)


def _check(
    graph: Graph,
    node: tf_pb.NodeDef,
    attr: str,
    taken: Sequence[int],
    given: Sequence[int] | None,
) -> None:
    """Checks the functions of an attribute; `given` is None where one tensor of any type is."""
    value = graph.attr(node, attr)
    functions = [value.func] if value.HasField("func") else list(value.list.func)
    if not functions:
        raise MalformedError(f"attribute {attr!r} names no function", where=graph.at(node.name))
    for name in (function.name for function in functions):
        signature = graph.functions[name].signature
        takes = [arg.type for arg in signature.input_arg]
        gives = [arg.type for arg in signature.output_arg]
        fits = len(gives) == 1 if given is None else gives == list(given)
        if takes != list(taken) or not fits:
            raise MalformedError(
                f"function {name!r} takes or returns other tensors than attribute {attr!r} wants",
                where=graph.at(node.name),
            )
