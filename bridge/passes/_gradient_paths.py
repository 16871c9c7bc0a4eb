"""Which nodes a gradient goes through when the trainable variables of a variant are trained."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from bridge.dtypes import base_dtype
from bridge.graph import Graph, Tensor, parse_tensor
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

    Args:
      variant: the variant, whose graph runs no functions.
      stops: ops that end a path: their gradient is None.
    """
    graph = variant.graph
    variables = [
        name
        for name in variant.trainable_variables
        if name in graph.nodes and graph.nodes[name].op == RESOURCE_VARIABLE
    ]
    outputs = [
        *(name for signature in variant.signatures.values() for name in signature.output_tensors()),
        *variant.regularization_losses,
    ]
    targets = [
        tensor.node
        for tensor in map(parse_tensor, outputs)
        if graph.output(tensor).dtype in DIFFERENTIABLE
    ]
    return [
        TrainedSite(graph.nodes[name], None, variable)
        for name, variable in _between(graph, variables, targets, stops).items()
        if name != variable
    ]


def _between(
    graph: Graph, variables: Iterable[str], targets: Iterable[str], stops: Collection[str]
) -> dict[str, str]:
    """Returns the nodes between variables and targets, with the variable that each has before it.

    Args:
      graph: the graph.
      variables: the variables, which are among the nodes if anything is.
      targets: where a gradient comes from.
      stops: ops that end a path.
    """
    readers: dict[str, list[tuple[Tensor, str]]] = {name: [] for name in graph.nodes}
    for name, node in graph.nodes.items():
        for tensor in graph.inputs(node):
            if not tensor.is_control:
                readers[tensor.node].append((tensor, name))
    carries = functools.cache(lambda tensor: base_dtype(graph.output(tensor).dtype) in _CARRIES)
    after = {variable: variable for variable in variables}
    sources: dict[str, list[str]] = {}
    stack = list(after)
    while stack:
        source = stack.pop()
        for tensor, name in readers[source]:
            if graph.nodes[name].op in stops or not carries(tensor):
                continue
            sources.setdefault(name, []).append(source)
            if name not in after:
                after[name] = after[source]
                stack.append(name)
    before: set[str] = set()
    stack = [name for name in targets if name in after]
    while stack:
        name = stack.pop()
        if name not in before:
            before.add(name)
            stack += sources.get(name, ())
    return {name: variable for name, variable in after.items() if name in before}
