"""Leaves to each node the attributes that an older release knows."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import ClassVar

from bridge.errors import MalformedError, Where
from bridge.model import Variant
from bridge.opsets import CURRENT, load_opset
from bridge.opsets.release import Release
from bridge.passes._findings import Findings, Site, format_attr, sites
from bridge.passes._infra import VariantPass
from bridge.proto import tf_pb
from bridge.report import Report

_KEPT = frozenset(
    {
        # An If or While so marked runs as Switch and Merge: only what is needed of it runs, and
        # the iterations of a loop side by side (core/common_runtime/lower_functional_ops.cc).
        "_lower_using_switch_merge",
        # The gradient of a While skips the outputs that an earlier one added (ops/while_v2.py).
        "_num_original_outputs",
    }
)
"""Annotations of nodes that old releases understand as today's does."""

_CUSTOM_GRADIENT = "_gradient_op_type"

_KEPT_OF_FUNCTIONS = frozenset({"_input_shapes"})
_KEPT_OF_ARGUMENTS = frozenset({"_output_shapes"})
"""Static shapes, which the gradient of an If or While builds on (framework/function_def_to_graph.py
of release 1.15)."""

_HARMLESS = frozenset(
    {
        # Marks for the optimizer: this operand is a gradient.
        ("BatchMatMul", "grad_x"),
        ("BatchMatMul", "grad_y"),
        ("BatchMatMulV2", "grad_x"),
        ("BatchMatMulV2", "grad_y"),
        ("MatMul", "grad_a"),
        ("MatMul", "grad_b"),
        # Says that a wrong shape is an error. Shape inference says so too, and the right shapes of
        # a finished model stay right.
        ("AssignVariableOp", "validate_shape"),
        # Where the copies of a variable may lie, and what messages call it.
        ("VarHandleOp", "allowed_devices"),
        ("VarHandleOp", "debug_name"),
        # Whether the gradient is a dense tensor or slices of one: the numbers are the same.
        ("SparseSegmentMean", "sparse_gradient"),
        ("SparseSegmentMeanWithNumSegments", "sparse_gradient"),
        ("SparseSegmentSqrtN", "sparse_gradient"),
        ("SparseSegmentSqrtNWithNumSegments", "sparse_gradient"),
        ("SparseSegmentSum", "sparse_gradient"),
        ("SparseSegmentSumWithNumSegments", "sparse_gradient"),
    }
)
"""Attributes by op that change no result, whatever their value."""

_TRAINING_ONLY = frozenset(
    {
        ("FusedBatchNorm", "exponential_avg_factor"),
        ("FusedBatchNormV2", "exponential_avg_factor"),
        ("FusedBatchNormV3", "exponential_avg_factor"),
    }
)
"""Attributes by op that say nothing unless `is_training` is true."""

_HINTS = {
    "explicit_paddings": "pad with tf.pad before the op when exporting",
    "resize_if_index_out_of_bounds": "give the TensorArray its full size instead of "
    "dynamic_size=True",
    "exponential_avg_factor": "export the batch normalization with exponential_avg_factor=1.0",
}
_HINT = "export the model without it"
_HINT_VALUE = "export the model with another value of the attribute"
_HINT_TYPE = "cast to another type, such as float32 or int32, when exporting"
_HINT_GRADIENT = "take the custom gradient away before exporting, where autodiff finds the same"

_KINDS = {
    "string": "s",
    "int": "i",
    "float": "f",
    "bool": "b",
    "type": "type",
    "shape": "shape",
    "tensor": "tensor",
    "func": "func",
}
"""Kinds of attributes as OpDefs name them, and as AttrValues do."""


@dataclass(frozen=True)
class FitAttrs(VariantPass):
    """Leaves to each node the attributes that the release knows, with values that it knows.

    Requires: every op is one of today's TensorFlow, or of the release; the passes that rewrite
    custom gradients and the like have run. Ensures: the release takes the attributes of each node
    whose op it has, and they mean the same there.

    1. Annotations, the attributes with a leading `_`, go: they speak to the release that wrote
       them. A few stay that the old release understands. One of them stands for a custom gradient;
       a pass must have taken care of it, for without the mark the gradient would be another.
    2. An attribute that the release does not know goes where it has its default, which is what the
       op did before it had the attribute, and where it changes no result. Else it is an error.
    3. What a node leaves to its default is written out where the release has another default, or
       none.
    4. A value that the release does not allow is an error.

    Ops that the release does not have are left to CheckRelease.

    Attributes:
      release: the release that must read the result.
    """

    release: Release

    name: ClassVar[str] = "fit-attrs"

    def rewrite(self, variant: Variant, report: Report) -> int:
        """Fits the attributes of one variant; returns how many nodes changed."""
        del report
        graph = variant.graph
        findings = Findings(graph, self.release)
        changes = {op: _Change.of(op, self.release) for op in {s.node.op for s in sites(graph)}}
        changed = 0
        for site in sites(graph):
            before = set(site.node.attr)
            self._drop_annotations(site, findings)
            change = changes[site.node.op]
            if change is not None:
                self._drop_unknown(site, change, findings)
                for attr, value in change.written.items():
                    if attr not in site.node.attr:
                        site.node.attr[attr].CopyFrom(value)
                self._check_values(site, change, findings, graph.at(site.node.name))
            changed += before != set(site.node.attr)
        for function in graph.functions.values():
            _keep(function.attr, _KEPT_OF_FUNCTIONS)
            for arg in function.arg_attr.values():
                _keep(arg.attr, _KEPT_OF_ARGUMENTS)
        findings.check()
        return changed

    def _drop_annotations(self, site: Site, findings: Findings) -> None:
        """Applies rule 1."""
        node = site.node
        if _CUSTOM_GRADIENT in node.attr:
            findings.add(
                site,
                f"op {node.op} has a custom gradient, which {self.release} can't have",
                _HINT_GRADIENT,
            )
        # The body of a function does not tell the shape of a variable that it gets as argument.
        is_read = site.function is not None and node.op == "ReadVariableOp"
        _keep(node.attr, _KEPT | {"_output_shapes"} if is_read else _KEPT)

    def _drop_unknown(self, site: Site, change: _Change, findings: Findings) -> None:
        """Applies rule 2."""
        node = site.node
        unknown = [attr for attr in node.attr if attr[0] != "_" and attr not in change.known]
        for attr in sorted(unknown):
            value = node.attr[attr]
            key = (node.op, attr)
            if not (
                value == change.defaults.get(attr)
                or key in _HARMLESS
                or (key in _TRAINING_ONLY and not _is_training(node))
            ):
                findings.add(
                    site,
                    f"op {node.op} has no attribute {attr!r} in {self.release}, which here is "
                    f"{format_attr(value)}",
                    _HINTS.get(attr, _HINT),
                )
            del node.attr[attr]

    def _check_values(self, site: Site, change: _Change, findings: Findings, where: Where) -> None:
        """Applies rule 4."""
        node = site.node
        for name, attr in change.known.items():
            if name not in node.attr:
                continue
            value = node.attr[name]
            kind = _KINDS.get(attr.type, "list")
            if value.WhichOneof("value") != kind:
                raise MalformedError(f"attribute {name!r} is no {attr.type}", where=where)
            if not _is_allowed(attr, value):
                hint = _HINT_TYPE if "type" in attr.type else _HINTS.get(name, _HINT_VALUE)
                findings.add(
                    site,
                    f"op {node.op} with {name!r} {format_attr(value)} is not in {self.release}",
                    hint,
                )


@dataclass(frozen=True)
class _Change:
    """How the attributes of an op differ between a release and today's TensorFlow.

    Attributes:
      known: the attributes that the release knows, by name.
      defaults: today's defaults.
      written: those of them that the release has otherwise, or not at all.
    """

    known: Mapping[str, tf_pb.OpDef.AttrDef]
    defaults: Mapping[str, tf_pb.AttrValue]
    written: Mapping[str, tf_pb.AttrValue]

    @classmethod
    def of(cls, op: str, release: Release) -> _Change | None:
        """Returns the change; None where the release does not have the op."""
        if op not in release.ops:
            return None
        known = {attr.name: attr for attr in release.ops[op].attr}
        today = load_opset(CURRENT).get(op, release.ops[op])
        defaults = {
            attr.name: attr.default_value for attr in today.attr if attr.HasField("default_value")
        }
        written = {
            name: value
            for name, value in defaults.items()
            if name in known
            and not (known[name].HasField("default_value") and known[name].default_value == value)
        }
        return cls(known, defaults, written)


def _keep(attrs: MutableMapping[str, tf_pb.AttrValue], kept: frozenset[str]) -> None:
    """Drops the annotations that are not to be kept."""
    for name in [name for name in attrs if name.startswith("_") and name not in kept]:
        del attrs[name]


def _is_training(node: tf_pb.NodeDef) -> bool:
    return "is_training" not in node.attr or node.attr["is_training"].b


def _is_allowed(attr: tf_pb.OpDef.AttrDef, value: tf_pb.AttrValue) -> bool:
    """True if an OpDef allows a value (core/framework/op_def_util.cc, ValidateAttrValue)."""
    allowed, items = attr.allowed_values.list, value.list
    if attr.has_minimum:
        size = value.i if attr.type == "int" else _length(items)
        if size < attr.minimum:
            return False
    types = items.type if attr.type == "list(type)" else [value.type]
    texts = items.s if attr.type == "list(string)" else [value.s]
    return (not allowed.type or set(types) <= set(allowed.type)) and (
        not allowed.s or set(texts) <= set(allowed.s)
    )


def _length(items: tf_pb.AttrValue.ListValue) -> int:
    return sum(len(values) for _, values in items.ListFields())
