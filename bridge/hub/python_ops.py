"""Refuses modules that only the process that made them could run."""

from __future__ import annotations

from typing import ClassVar

from bridge.errors import UnsupportedError
from bridge.model import Variant
from bridge.passes._infra import VariantPass
from bridge.report import Report

_PYTHON = frozenset({"EagerPyFunc", "PyFunc", "PyFuncStateless"})


class RefusePython(VariantPass):
    """Checks that no node calls Python.

    Requires: DropInitializers has run. Ensures: no node is a PyFunc or its like: it names a Python
    function of the process that built it, which no client has.
    """

    name: ClassVar[str] = "refuse-python"

    def rewrite(self, variant: Variant, report: Report) -> int:
        """Checks one variant; returns 0, for it changes nothing."""
        del report
        for node in variant.graph.all_nodes():
            if node.op in _PYTHON:
                raise UnsupportedError(
                    f"op {node.op} runs a Python function, which a module can't hold",
                    where=variant.graph.at(node.name),
                    hint="build the module of TensorFlow's own ops",
                )
        return 0
