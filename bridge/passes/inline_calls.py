"""Makes a graph of calls one flat graph."""

from __future__ import annotations

from typing import ClassVar

from bridge.call_graph import keep_called_functions
from bridge.dtypes import dtype_name
from bridge.errors import MalformedError
from bridge.graph import Graph, parse_tensor, unique_name
from bridge.inline import Inliner, check_size, node_name
from bridge.model import Variant
from bridge.passes._bodies import open_body
from bridge.passes._infra import VariantPass
from bridge.passes._interfaces import check_interfaces
from bridge.proto import tf_pb
from bridge.report import Report
from bridge.validate import check_nodes


class InlineCalls(VariantPass):
    """Replaces every call of a function by the function's nodes.

    Requires: the names in the graph and in its functions are those of something. Ensures: no node,
    in the graph or in a function that it still needs, is a PartitionedCall, a
    StatefulPartitionedCall or has the name of a function as its op; all nodes take what their ops
    take.

    1. TensorFlow 1.15 runs such calls, but can't differentiate them.
    2. Bodies of If, While and Case stay functions; the calls in them are inlined too.
    3. An If whose predicate is a Const goes the same way: `training` often is given as a tensor.
    4. What stood in functions is checked where it stands now, since only there all types are known.
    """

    name: ClassVar[str] = "inline-calls"

    def rewrite(self, variant: Variant, report: Report) -> int:
        """Flattens one variant."""
        del report
        graph = variant.graph
        check_size(graph)
        inliner = Inliner(graph)
        count = inliner.run()
        variant.retarget(inliner.resolve)
        variant.table_initializers = [
            node for name in variant.table_initializers for node in inliner.resolve_control(name)
        ]
        count += _inline_in_functions(graph)
        check_nodes(graph)
        check_interfaces(graph)
        _check_outputs(variant)
        return count


def _check_outputs(variant: Variant) -> None:
    """Refuses a signature whose function gives something else than it says."""
    for name, signature in variant.signatures.items():
        for endpoint in signature.outputs.values():
            for part in endpoint.components:
                found = variant.graph.output(parse_tensor(part.name)).dtype
                if found != part.dtype:
                    raise MalformedError(
                        f"an output is {dtype_name(found)}, its function says "
                        f"{dtype_name(part.dtype)}",
                        where=variant.graph.at(parse_tensor(part.name).node, name),
                    )


def _inline_in_functions(graph: Graph) -> int:
    """Flattens the functions that the graph still needs, and drops the others.

    The graph gets functions of its own: another variant may call the same ones.
    """
    keep_called_functions(graph)
    count = 0
    flat: dict[str, tf_pb.FunctionDef] = {}
    for name in graph.functions:
        flat[name], inlined = _flattened(graph, name)
        count += inlined
    graph.functions = flat
    keep_called_functions(graph)
    return count


def _names(function: tf_pb.FunctionDef) -> dict[str, str] | None:
    """Returns new names for the nodes of a function, if not all are names in every release."""
    own = {node.name for node in function.node_def}
    if all(node_name(name) == name for name in own):
        return None
    taken = own | {arg.name for arg in function.signature.input_arg}
    names: dict[str, str] = {}
    suffixes: dict[str, int] = {}
    for name in (node.name for node in function.node_def):
        names[name] = name
        if node_name(name) != name:
            names[name] = unique_name(node_name(name), taken.__contains__, suffixes)
            taken.add(names[name])
    return names


def _flattened(graph: Graph, name: str) -> tuple[tf_pb.FunctionDef, int]:
    """Returns a function that calls no other, and how many calls it had."""
    names = _names(graph.functions[name])
    body = open_body(graph, name, names)
    inliner = Inliner(body.graph)
    count = inliner.run()
    check_nodes(body.graph)
    if not count and names is None:
        unchanged = tf_pb.FunctionDef()
        unchanged.CopyFrom(graph.functions[name])
        return unchanged, 0
    body.outputs = [(key, parse_tensor(inliner.resolve(str(t)))) for key, t in body.outputs]
    controls = [node for name in body.controls for node in inliner.resolve_control(name)]
    body.controls = list(dict.fromkeys(controls))
    return body.close(), count
