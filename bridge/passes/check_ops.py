"""Refuses ops that today's TensorFlow can't run, and ops that would reach outside the model."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from bridge.errors import UnsafeError, UnsupportedError
from bridge.graph import Graph
from bridge.model import Variant
from bridge.ops import TABLE_FROM_FILE
from bridge.opsets import CURRENT
from bridge.opsets.safety import danger
from bridge.passes._infra import VariantPass
from bridge.proto import tf_pb
from bridge.report import Report

_SAFE_TEXT = {
    # tensorflow/core/kernels/logging_ops.cc; the other form is file://PATH.
    "PrintV2": ("output_stream", re.compile(rb"stdout|stderr|log\((info|warning|error)\)")),
    # core/kernels/range_sampler.cc; without a file, `unigrams` holds the counts.
    "FixedUnigramCandidateSampler": ("vocab_file", re.compile(rb"")),
    # core/util/proto/descriptors.cc; anything else is the path of a file.
    "DecodeProtoV2": ("descriptor_source", re.compile(rb"|local://|bytes://.*", re.DOTALL)),
    "EncodeProto": ("descriptor_source", re.compile(rb"|local://|bytes://.*", re.DOTALL)),
}
"""Ops that reach outside the model unless this attribute has one of these values."""


@dataclass(frozen=True)
class CheckOps(VariantPass):
    """Checks every op and attribute that is left.

    Requires: Prune has run, so that only what is used is judged. Ensures: TensorFlow registers
    every op and attribute, and nothing reads or writes outside the model.

    1. An op that neither the release nor the model's library defines is refused by name; so is an
       attribute that the op does not have. Attributes with a leading `_` are annotations.
       An op that is registered for graphs of an old version only is refused too: a function always
       runs as a graph of the current version.
    2. An op that reads or writes files, runs Python or the like is refused by name, and so is one
       that might and that nobody has looked at (bridge/opsets/op-safety.txt). Some are safe by an
       attribute, such as PrintV2, which may print to stderr, but to no file.
    3. A table may be read from an asset of the model only, and in the body of a function not at
       all: there the file's name is an argument, which can be traced to no asset.
    4. A custom gradient, Python code of the exporter or the gradient function of a Defun, has no
       form in a SavedModel: the op stays, the report names the gradient.

    Attributes:
      allowed: ops that rules 1 and 2 let through.
    """

    allowed: frozenset[str] = frozenset()

    name: ClassVar[str] = "check-ops"

    def rewrite(self, variant: Variant, report: Report) -> int:
        """Checks one variant; returns 0, for it changes nothing."""
        graph = variant.graph
        self._check_table_files(variant)
        known: dict[str, frozenset[str] | None] = {}
        for node in graph.all_nodes():
            op = node.op
            is_first = op not in known
            if is_first:
                known[op] = self._attrs(graph, node)
            _check_attrs(graph, node, known[op])
            if is_first or op in _SAFE_TEXT:
                check_safety(graph, node, self.allowed)
        _report_gradients(graph, report)
        return 0

    def _attrs(self, graph: Graph, node: tf_pb.NodeDef) -> frozenset[str] | None:
        """Applies rule 1 to an op; returns the names of its attributes, or None for any."""
        if node.op in graph.functions:
            return None
        if not graph.ops.in_release(node.op):
            if node.op in self.allowed and graph.ops.get(node.op) is not None:
                return None
            raise UnsupportedError(
                f"TensorFlow {CURRENT} has no op {node.op!r}",
                where=graph.at(node.name),
                hint="if a library that you load defines it and the module carries its "
                f"definition, pass --allow-op {node.op}",
            )
        deprecation = graph.op_def(node).deprecation
        if deprecation.version:
            raise UnsupportedError(
                f"op {node.op} was removed from TensorFlow in graph version {deprecation.version}",
                where=graph.at(node.name),
                hint=f"export the module again without it: {deprecation.explanation}",
            )
        return frozenset(attr.name for attr in graph.op_def(node).attr)

    def _check_table_files(self, variant: Variant) -> None:
        graph = variant.graph
        for function in graph.functions.values():
            for node in function.node_def:
                if node.op in TABLE_FROM_FILE and node.op not in self.allowed:
                    raise UnsafeError(
                        f"function {function.signature.name!r} fills a table from a file, which "
                        "need be no asset of the module",
                        where=graph.at(node.name),
                        hint=f"if you trust the module, pass --allow-op {node.op}",
                    )
        for node in graph.nodes.values():
            if node.op not in TABLE_FROM_FILE or node.op in self.allowed:
                continue
            filename = list(graph.inputs(node))[1].node
            while graph.nodes[filename].op == "Identity":
                filename = next(graph.inputs(graph.nodes[filename])).node
            if filename not in variant.assets:
                raise UnsafeError(
                    f"the table is read from {filename!r}, which is no asset of the module",
                    where=graph.at(node.name),
                    hint=f"if you trust the module, pass --allow-op {node.op}",
                )


def _check_attrs(graph: Graph, node: tf_pb.NodeDef, known: frozenset[str] | None) -> None:
    if known is None:
        return
    for name in node.attr:
        if name not in known and not name.startswith("_"):
            raise UnsupportedError(
                f"op {node.op} has no attribute {name!r} in TensorFlow {CURRENT}",
                where=graph.at(node.name),
            )


def check_safety(graph: Graph, node: tf_pb.NodeDef, allowed: Collection[str]) -> None:
    """Refuses a node that reaches outside of the model, or might.

    Args:
      graph: the graph.
      node: a node of it, or of its functions.
      allowed: ops that may.

    Raises:
      UnsafeError: it does.
    """
    if node.op in graph.functions or node.op in allowed:
        return
    found = danger(graph.op_def(node))
    if node.op in _SAFE_TEXT:
        name, safe = _SAFE_TEXT[node.op]
        value = graph.attr(node, name)
        # In the body of a function, a caller may give what is a placeholder here.
        if value.HasField("placeholder") or not safe.fullmatch(value.s):
            found = f"with {name!r} {value.s.decode(errors='replace')!r} reaches a file"
    if found is not None:
        raise UnsafeError(
            f"op {node.op} {found}",
            where=graph.at(node.name),
            hint=f"if you trust the module, pass --allow-op {node.op}",
        )


def _report_gradients(graph: Graph, report: Report) -> None:
    """Names the gradients that the exporter's program had, and a SavedModel can't hold."""
    python: dict[str, str] = {}
    for node in graph.all_nodes():
        if "_gradient_op_type" in node.attr:
            gradient = node.attr["_gradient_op_type"].s.decode(errors="replace")
            if not graph.ops.in_release(gradient):
                python.setdefault(gradient, node.name)
    for gradient, node_name in python.items():
        report.drop(
            "custom_gradient",
            gradient,
            "it was Python code of the exporter; inference is not affected, taking a gradient "
            "through the node raises, as in the old client",
            graph.at(node_name),
        )
    for definition in graph.gradients:
        report.drop(
            "custom_gradient",
            definition.function_name,
            f"function {definition.gradient_func!r} was its gradient; TF2 differentiates the "
            "function itself instead",
            graph.where,
        )
