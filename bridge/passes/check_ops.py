"""Refuses ops that today's TensorFlow can't run, and ops that would reach outside the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from bridge.errors import UnsafeError, UnsupportedError
from bridge.graph import Graph
from bridge.model import Variant
from bridge.opsets import CURRENT
from bridge.passes._infra import VariantPass
from bridge.proto import tf_pb
from bridge.report import Report

UNSAFE_OPS = frozenset(
    {
        # Run code of the process that loads the model.
        "PyFunc",
        "PyFuncStateless",
        "EagerPyFunc",
        # Read or write files that a tensor names.
        "ReadFile",
        "WriteFile",
        "MatchingFiles",
        "Save",
        "SaveSlices",
        "SaveV2",
        "ShardedFilename",
        "ShardedFilespec",
        "MergeV2Checkpoints",
        "Restore",
        "RestoreSlice",
        "RestoreV2",
        "LoadAndRemapMatrix",
        "GenerateVocabRemapping",
        "ImmutableConst",
        "CacheDataset",
        "CacheDatasetV2",
        "FixedLengthRecordDataset",
        "FixedLengthRecordDatasetV2",
        "FixedLengthRecordReader",
        "FixedLengthRecordReaderV2",
        "LMDBDataset",
        "LMDBReader",
        "SqlDataset",
        "TFRecordDataset",
        "TFRecordDatasetV2",
        "TFRecordReader",
        "TFRecordReaderV2",
        "TextLineDataset",
        "TextLineReader",
        "TextLineReaderV2",
        "WholeFileReader",
        "WholeFileReaderV2",
        "SaveDataset",
        "SaveDatasetV2",
        "LoadDataset",
        "SnapshotDataset",
        "SnapshotDatasetV2",
        "CreateSummaryFileWriter",
        "CreateSummaryDbWriter",
        "PrintV2",
        # Talk to other machines, or to a debugger.
        "Rpc",
        "TryRpc",
        "BigQueryReader",
        "GcsConfigureBlockCache",
        "GcsConfigureCredentials",
        "DebugIdentity",
        "DebugIdentityV2",
        "DebugIdentityV3",
        "RemoteFusedGraphExecute",
    }
)
"""Ops that read or write files, run Python, or reach other machines.

PrintV2 is among them because its `output_stream` may be `file://…`.
"""

TABLE_FROM_FILE = frozenset({"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"})
"""Ops that may read a file, if it is an asset of the model."""


@dataclass(frozen=True)
class CheckOps(VariantPass):
    """Checks every op and attribute that is left.

    Requires: Prune has run, so that only what is used is judged. Ensures: TensorFlow registers
    every op and attribute, and nothing reads or writes outside the model.

    1. An op that neither the release nor the model's library defines is refused by name; so is an
       attribute that the op does not have. Attributes with a leading `_` are annotations.
       An op that is registered for graphs of an old version only is refused too: a function always
       runs as a graph of the current version.
    2. An op of UNSAFE_OPS is refused by name.
    3. A table may be read from an asset of the model only.
    4. A custom gradient is Python code of the exporter: the op stays, the report names it.

    Attributes:
      allowed: ops that rules 1 and 2 let through.
    """

    allowed: frozenset[str] = frozenset()

    name: ClassVar[str] = "check-ops"

    def rewrite(self, variant: Variant, report: Report) -> int:
        """Checks one variant; returns 0, for it changes nothing."""
        graph = variant.graph
        self._check_table_files(variant)
        gradients: dict[str, str] = {}
        for node in _all_nodes(graph):
            self._check_op(graph, node)
            if "_gradient_op_type" in node.attr:
                gradient = node.attr["_gradient_op_type"].s.decode(errors="replace")
                gradients.setdefault(gradient, node.name)
        for gradient, node_name in gradients.items():
            report.drop(
                "custom_gradient",
                gradient,
                "it was Python code of the exporter; inference is not affected, taking a gradient "
                "through the node raises, as in the old client",
                graph.at(node_name),
            )
        return 0

    def _check_op(self, graph: Graph, node: tf_pb.NodeDef) -> None:
        where = graph.at(node.name)
        if node.op in graph.functions:
            return
        if node.op in UNSAFE_OPS and node.op not in self.allowed:
            raise UnsafeError(
                f"op {node.op} reads or writes outside the model, or runs code",
                where=where,
                hint=f"if you trust the module, pass --allow-op {node.op}",
            )
        if not graph.ops.in_release(node.op):
            if node.op in self.allowed and graph.ops.get(node.op) is not None:
                return
            raise UnsupportedError(
                f"TensorFlow {CURRENT} has no op {node.op!r}",
                where=where,
                hint="if a library that you load defines it and the module carries its "
                f"definition, pass --allow-op {node.op}",
            )
        deprecation = graph.op_def(node).deprecation
        if deprecation.version:
            raise UnsupportedError(
                f"op {node.op} was removed from TensorFlow in graph version {deprecation.version}",
                where=where,
                hint=f"export the module again without it: {deprecation.explanation}",
            )
        known = {attr.name for attr in graph.op_def(node).attr}
        for name in node.attr:
            if not name.startswith("_") and name not in known:
                raise UnsupportedError(
                    f"op {node.op} has no attribute {name!r} in TensorFlow {CURRENT}", where=where
                )

    def _check_table_files(self, variant: Variant) -> None:
        graph = variant.graph
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


def _all_nodes(graph: Graph) -> Iterator[tf_pb.NodeDef]:
    yield from graph.nodes.values()
    for function in graph.functions.values():
        yield from function.node_def
