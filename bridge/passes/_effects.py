"""Which stateful ops do something that a forward pass may do, and which do not."""

from __future__ import annotations

from collections.abc import Collection

from bridge.errors import UnsupportedError
from bridge.graph import Graph
from bridge.passes._variable_ops import FUNCTIONAL, uses_variable
from bridge.proto import tf_pb

GUARDS = frozenset({"Assert", "CheckNumerics", "CheckNumericsV2", "Print", "PrintV2"})
"""Ops that stop the program or talk to its user, and change nothing."""

_ONLY_COMPUTE = frozenset(
    {
        "AllCandidateSampler",
        "CudnnRNN",
        "CudnnRNNV2",
        "CudnnRNNV3",
        "Empty",
        "FixedUnigramCandidateSampler",
        "GuaranteeConst",
        "HashTableV2",
        "LearnedUnigramCandidateSampler",
        "LogUniformCandidateSampler",
        "LookupTableExportV2",
        "LookupTableFindV2",
        "LookupTableSizeV2",
        "Multinomial",
        "ParameterizedTruncatedNormal",
        "RandomCrop",
        "RandomGamma",
        "RandomPoisson",
        "RandomPoissonV2",
        "RandomShuffle",
        "RandomStandardNormal",
        "RandomUniform",
        "RandomUniformInt",
        "SampleDistortedBoundingBox",
        "SampleDistortedBoundingBoxV2",
        "StatelessRandomGetAlg",
        "ThreadUnsafeUnigramCandidateSampler",
        "TruncatedNormal",
        "UniformCandidateSampler",
        "VarHandleOp",
    }
)
"""Ops that OpDefs call stateful for the state they hold, or for the random numbers they draw."""


def check_effects(graph: Graph, exempt: Collection[str]) -> None:
    """Refuses nodes that change something other than variables.

    Args:
      graph: the graph; the functions of its library are looked at too.
      exempt: nodes of the graph that may do so.

    Raises:
      UnsupportedError: such a node is found.
    """
    for node in graph.all_nodes():
        if node.name not in exempt:
            _check(graph, node)


def _check(graph: Graph, node: tf_pb.NodeDef) -> None:
    if node.op in _ONLY_COMPUTE or node.op in GUARDS or node.op in FUNCTIONAL:
        return
    if uses_variable(node.op):
        return
    op_def = graph.op_def(node)
    if op_def.is_stateful and not op_def.name.startswith("Placeholder"):
        raise UnsupportedError(
            f"op {node.op} has an effect beside its outputs, and what becomes of that in a module, "
            "whose forward pass must change nothing, is not known",
            where=graph.at(node.name),
            hint="save the model again without it",
        )
