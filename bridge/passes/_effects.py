"""What nodes do beside giving their outputs, and for whom."""

from __future__ import annotations

from collections.abc import Collection

from bridge.errors import UnsupportedError
from bridge.graph import Graph, parse_tensor
from bridge.model import Variant
from bridge.passes._variable_ops import FUNCTIONAL, uses_variable
from bridge.passes.check_ops import check_safety
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


def check_effects(graph: Graph, exempt: Collection[str], allowed: Collection[str]) -> None:
    """Refuses nodes that change something other than variables.

    Args:
      graph: the graph; the functions of its library are looked at too.
      exempt: nodes of the graph that may do so.
      allowed: ops that may reach outside of the model.

    Raises:
      UnsafeError: such a node reaches outside of the model.
      UnsupportedError: such a node is found.
    """
    found = [n for n in graph.all_nodes() if n.name not in exempt and _has_unknown_effect(graph, n)]
    for node in found:
        check_safety(graph, node, allowed)
    for node in found:
        raise UnsupportedError(
            f"op {node.op} has an effect beside its outputs, and what becomes of that in a module, "
            "whose forward pass must change nothing, is not known",
            where=graph.at(node.name),
            hint="save the model again without it",
        )


def _has_unknown_effect(graph: Graph, node: tf_pb.NodeDef) -> bool:
    op = node.op
    if op in _ONLY_COMPUTE or op in GUARDS or op in FUNCTIONAL or uses_variable(op):
        return False
    op_def = graph.op_def(node)
    return bool(op_def.is_stateful) and not op_def.name.startswith("Placeholder")


def signatures_that_wait(variant: Variant, names: Collection[str]) -> dict[str, set[str]]:
    """Returns the names of the signatures whose outputs depend on each node, by data or control.

    Args:
      variant: the variant.
      names: the nodes.
    """
    found: dict[str, set[str]] = {name: set() for name in names}
    for key, signature in variant.signatures.items() if names else ():
        targets = [parse_tensor(tensor).node for tensor in signature.output_tensors()]
        for name in variant.graph.ancestors(targets) & found.keys():
            found[name].add(key)
    return found
