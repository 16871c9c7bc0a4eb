"""Makes a graph of calls one flat graph."""

from __future__ import annotations

from typing import ClassVar

from bridge.attrs import type_attr
from bridge.function_body import FunctionArg, build_function
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.inline import Body, Inliner, check_size
from bridge.model import Variant, shape_from_proto
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
        return count


def _inline_in_functions(graph: Graph) -> int:
    """Flattens the functions that the graph still needs, and drops the others.

    The graph gets functions of its own: another variant may call the same ones.
    """
    graph.keep_called_functions()
    count = 0
    flat: dict[str, tf_pb.FunctionDef] = {}
    for name, function in graph.functions.items():
        flat[name], inlined = _flattened(graph, function)
        count += inlined
    graph.functions = flat
    graph.keep_called_functions()
    return count


def _flattened(graph: Graph, function: tf_pb.FunctionDef) -> tuple[tf_pb.FunctionDef, int]:
    """Returns a function that calls no other, and how many calls it had."""
    signature = function.signature
    body = Graph([], graph.ops, graph.functions.values(), where=graph.where)
    args: list[FunctionArg] = []
    for position, arg in enumerate(signature.input_arg):
        body.add("Placeholder", arg.name, dtype=type_attr(arg.type))
        shapes = function.arg_attr[position].attr["_output_shapes"].list.shape
        shape = shape_from_proto(shapes[0]) if shapes else None
        tensor = Tensor(arg.name, 0)
        args.append(FunctionArg(arg.name, (tensor,), arg.type, shape, tuple(arg.handle_data)))
    inner = Body(graph, function, {arg.name: arg.name for arg in args})
    body.nodes.update((node.name, node) for node in inner.nodes())
    inliner = Inliner(body)
    count = inliner.run()
    check_nodes(body)
    if not count:
        unchanged = tf_pb.FunctionDef()
        unchanged.CopyFrom(function)
        return unchanged, 0
    members = [name for name in body.nodes if name not in {arg.name for arg in args}]
    outputs = [
        (output.name, parse_tensor(inliner.resolve(inner.tensor(function.ret[output.name]))))
        for output in signature.output_arg
    ]
    controls = [
        node
        for control in signature.control_output
        for node in inliner.resolve_control(function.control_ret[control])
    ]
    flat = build_function(
        body,
        signature.name,
        members,
        args,
        outputs=outputs,
        control_outputs=dict.fromkeys(controls),
    )
    return flat, count
