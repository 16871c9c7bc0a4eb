"""Refuses state that a SavedModel can't hold."""

from __future__ import annotations

from typing import ClassVar

from bridge.dtypes import is_ref
from bridge.errors import MalformedError, UnsupportedError
from bridge.model import Model
from bridge.report import Report

VARIABLE = "VarHandleOp"
TABLE = "HashTableV2"


class CheckState:
    """Checks that all state is variables and static tables.

    Requires: ResourceState and FunctionalControlFlow have run. Ensures: every stateful op without
    inputs, which is what the old client takes for a module's state, is a variable of the model
    or a static table; no tensor is a reference.
    """

    name: ClassVar[str] = "check-state"

    def run(self, model: Model, report: Report) -> int:
        """Checks every variant; returns 0, for it changes nothing."""
        del report
        for variant in model.variants.values():
            graph = variant.graph
            for node in graph.nodes.values():
                where = graph.at(node.name)
                if node.op == VARIABLE:
                    if node.name not in model.variables:
                        raise MalformedError(
                            "a signature needs the variable, but it is not in the collection "
                            "`variables`, so the module holds no value for it",
                            where=where,
                        )
                elif node.op != TABLE:
                    op_def = graph.op_def(node)
                    if op_def.is_stateful and not op_def.input_arg and op_def.output_arg:
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
        return 0
