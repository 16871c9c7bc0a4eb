"""Turns nodes whose op is a function of the library into calls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from bridge.attrs import function_attr, types_attr
from bridge.graph import Graph
from bridge.model import Variant
from bridge.passes._infra import VariantPass
from bridge.proto import tf_pb
from bridge.report import Report


class CallFunctions(VariantPass):
    """Makes every call of a library function a PartitionedCall.

    Requires: CheckOps has run. Ensures: no node's op is the name of a function.

    1. TensorFlow 1 calls a function (`Defun`) by a node whose op is the function's name. TensorFlow
       2 runs such a node too, but can't differentiate it in a loaded function: it asks for a
       SymbolicGradient. A PartitionedCall it can; a function with state gets the stateful form.
    2. The outputs keep their positions. Within a body, where tensors are named by output argument,
       they are renamed: the outputs of a call are `output`, one after the other.
    """

    name: ClassVar[str] = "call-functions"

    def rewrite(self, variant: Variant, report: Report) -> int:
        """Rewrites the calls of one variant."""
        del report
        graph = variant.graph
        calls = [node for node in graph.nodes.values() if node.op in graph.functions]
        for function in graph.functions.values():
            calls += self._rename_outputs(graph, function)
        for node in calls:
            _make_call(graph, node)
        return len(calls)

    def _rename_outputs(self, graph: Graph, function: tf_pb.FunctionDef) -> list[tf_pb.NodeDef]:
        """Returns the calls in a body, after renaming what reads them."""
        calls = [node for node in function.node_def if node.op in graph.functions]
        renamed: dict[str, str] = {}
        for node in calls:
            position = 0
            for arg in graph.functions[node.op].signature.output_arg:
                # The outputs of functions are single tensors, unless they are lists by attribute.
                count = len(graph.arg_types(node, [arg]))
                for number in range(count):
                    renamed[f"{node.name}:{arg.name}:{number}"] = f"{node.name}:output:{position}"
                    position += 1
        if renamed:
            for node in function.node_def:
                node.input[:] = _renamed(node.input, renamed)
            # A protobuf map that is written to while it is walked skips entries.
            for key, value in dict(function.ret).items():
                function.ret[key] = renamed.get(value, value)
        return calls


def _renamed(names: Iterable[str], renamed: dict[str, str]) -> list[str]:
    return [renamed.get(name, name) for name in names]


def _make_call(graph: Graph, node: tf_pb.NodeDef) -> None:
    signature = graph.functions[node.op].signature
    inputs = [entry.dtype for entry in graph.arg_types(node, signature.input_arg)]
    outputs = [entry.dtype for entry in graph.arg_types(node, signature.output_arg)]
    call = function_attr(node.op)
    for name in list(node.attr):
        if not name.startswith("_"):
            call.func.attr[name].CopyFrom(node.attr[name])
            del node.attr[name]
    node.op = "StatefulPartitionedCall" if signature.is_stateful else "PartitionedCall"
    node.attr["f"].CopyFrom(call)
    node.attr["Tin"].CopyFrom(types_attr(inputs))
    node.attr["Tout"].CopyFrom(types_attr(outputs))
