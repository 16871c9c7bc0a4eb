"""Keeps reference variables what they are, where the rest of hubbridge knows resources only."""

from __future__ import annotations

from typing import ClassVar

from bridge.attrs import type_attr
from bridge.hub_module import HubModuleWriter, HubWriteOptions
from bridge.hub_module.names import GLOBAL_VARIABLES, MODEL_VARIABLES, TRAINABLE_VARIABLES
from bridge.model import Model, Tags, Variant
from bridge.ops import REFERENCE_VARIABLES
from bridge.opsets.release import Release
from bridge.proto import tf_pb
from bridge.report import Report

_OP = "VariableV2"
"""What TensorFlow 1.15 makes reference variables of; `Variable` is the same of 2015."""


class HideReferences:
    """Puts a resource in the place of each reference variable, until the graphs are written.

    Requires: FitAttrs has run. Ensures: every variable is a VarHandleOp, also for those who read
    it; `CheckRelease` finds what is trained, and `HubModuleWriter` declares it. The graphs can't
    run; `restore` makes what was written of them graphs again.
    """

    name: ClassVar[str] = "hide-references"

    def __init__(self, release: Release) -> None:
        """Takes the release that must read the graphs."""
        self._release = release
        self._hidden: dict[Tags, dict[str, tf_pb.NodeDef]] = {}

    def run(self, model: Model, report: Report) -> int:
        """Hides the references of every variant; returns how many there are."""
        del report
        for tags, variant in model.variants.items():
            nodes = variant.graph.nodes
            # A variant gets the variables that others have, and of the same kind.
            self._hidden[tags] = {
                variable.name: nodes.get(variable.name) or _reference(variable.handle())
                for variable in model.variables.values()
                if variable.was_ref
                and (variable.name not in nodes or nodes[variable.name].op in REFERENCE_VARIABLES)
            }
            for name in self._hidden[tags].keys() & nodes.keys():
                shape = variant.graph.attr(nodes[name], "shape")
                nodes[name] = model.variables[name].handle()
                nodes[name].attr["shape"].CopyFrom(shape)  # it may change while it trains
        return sum(map(len, self._hidden.values()))

    def restore(self, tags: Tags, meta_graph: tf_pb.MetaGraphDef) -> None:
        """Makes the variables of a written variant references again.

        Args:
          tags: the variant's tags.
          meta_graph: what HubModuleWriter made of it.
        """
        hidden = self._hidden[tags]
        if not hidden:
            return
        nodes = {node.name: node for node in meta_graph.graph_def.node}
        for key in (GLOBAL_VARIABLES, TRAINABLE_VARIABLES, MODEL_VARIABLES):
            if key in meta_graph.collection_def:
                values = meta_graph.collection_def[key].bytes_list.value
                values[:] = [_redeclared(value, hidden, nodes) for value in values]
        for name, node in hidden.items():
            nodes[name].CopyFrom(_reference(node))
        known = {op.name for op in meta_graph.meta_info_def.stripped_op_list.op}
        ops = self._release.ops
        listed = meta_graph.meta_info_def.stripped_op_list.op
        listed.extend(ops[name] for name in sorted({"Assign", "Identity", _OP} - known))


class ReferenceWriter(HubModuleWriter):
    """A HubModuleWriter of a model whose references are hidden."""

    def __init__(
        self, model: Model, options: HubWriteOptions, report: Report, references: HideReferences
    ):
        """Builds everything but the files, as HubModuleWriter does."""
        self._references = references
        super().__init__(model, options, report)

    def _add_variant(self, variant: Variant, meta_graph: tf_pb.MetaGraphDef) -> None:
        super()._add_variant(variant, meta_graph)
        self._references.restore(variant.tags, meta_graph)


def _reference(node: tf_pb.NodeDef) -> tf_pb.NodeDef:
    """Returns a reference variable as TensorFlow 1.15 makes it, of the type and shape of a node."""
    result = tf_pb.NodeDef(name=node.name, op=_OP)
    for attr in ("dtype", "shape"):
        result.attr[attr].CopyFrom(node.attr[attr])
    return result


def _redeclared(
    value: bytes, hidden: dict[str, tf_pb.NodeDef], nodes: dict[str, tf_pb.NodeDef]
) -> bytes:
    """Returns the VariableDef of a resource as that of a reference, and changes its nodes."""
    definition = tf_pb.VariableDef.FromString(value)
    name = definition.variable_name.partition(":")[0]
    if name not in hidden:
        return value
    dtype = type_attr(hidden[name].attr["dtype"].type)
    for node, op in (
        (nodes[definition.initializer_name], "Assign"),
        (nodes[definition.snapshot_name.partition(":")[0]], "Identity"),
    ):
        node.op = op
        node.attr.clear()
        node.attr["T"].CopyFrom(dtype)
    definition.is_resource = False
    return definition.SerializeToString(deterministic=True)
