"""Refuses state that a SavedModel can't hold."""

from __future__ import annotations

from typing import ClassVar

from bridge.dtypes import is_ref
from bridge.errors import MalformedError, UnsupportedError
from bridge.graph import Graph
from bridge.model import Model
from bridge.ops import RESOURCE_TABLE, RESOURCE_VARIABLE
from bridge.proto import tf_pb
from bridge.report import Report


class CheckState:
    """Checks that all state is variables and static tables.

    Requires: ResourceState and FunctionalControlFlow have run. Ensures: every stateful op without
    inputs, which is what the old client takes for a module's state, is a variable of the model
    or a static table; no tensor is a reference. The body of a function holds no state at all: a
    function that FunctionalControlFlow made gets handles as arguments, and state inside of any
    other is out of the object graph's reach, so it would be neither saved nor initialized.
    """

    name: ClassVar[str] = "check-state"

    def run(self, model: Model, report: Report) -> int:
        """Checks every variant; returns 0, for it changes nothing."""
        del report
        for variant in model.variants.values():
            graph = variant.graph
            for node in graph.nodes.values():
                where = graph.at(node.name)
                if node.op == RESOURCE_VARIABLE:
                    if node.name not in model.variables:
                        raise MalformedError(
                            "a signature needs the variable, but it is not in the collection "
                            "`variables`, so the module holds no value for it",
                            where=where,
                        )
                elif node.op != RESOURCE_TABLE and _is_state(graph, node):
                    raise UnsupportedError(
                        f"op {node.op} holds state of a kind that has no form in a SavedModel",
                        where=where,
                        hint="variables and static lookup tables are what can be converted",
                    )
                if any(is_ref(output.dtype) for output in graph.outputs(node)):
                    raise UnsupportedError(
                        f"op {node.op} gives a reference, which TF2 functions can't hold",
                        where=where,
                    )
            for name, function in graph.functions.items():
                for node in function.node_def:
                    if _is_state(graph, node):
                        raise UnsupportedError(
                            f"function {name!r} holds state of its own, by op {node.op}",
                            where=graph.at(node.name),
                            hint="a SavedModel holds state outside of functions only; export the "
                            "module again with the state made outside and given as an argument",
                        )
        return 0


def _is_state(graph: Graph, node: tf_pb.NodeDef) -> bool:
    op_def = graph.op_def(node)
    return op_def.is_stateful and not op_def.input_arg and bool(op_def.output_arg)
