"""Leaves to each node the attributes that an older release knows."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from bridge.errors import MalformedError
from bridge.model import Variant
from bridge.opsets import CURRENT, load_opset
from bridge.opsets.release import Release
from bridge.passes._findings import Findings, Site, format_attr, sites
from bridge.passes._infra import VariantPass
from bridge.proto import tf_pb
from bridge.report import Report

_CUSTOM_GRADIENT = "_gradient_op_type"

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
       them. One of them stands for a custom gradient; a pass must have taken care of it, for
       without the mark the gradient would be another.
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
        changes: dict[str, _Change | None] = {}
        changed = 0
        for site in sites(graph):
            node = site.node
            if node.op not in changes:
                changes[node.op] = _Change.of(node.op, self.release)
            change = changes[node.op]
            before = set(node.attr)
            if _CUSTOM_GRADIENT in before:
                findings.add(
                    site,
                    f"op {node.op} has a custom gradient, which {self.release} can't have",
                    _HINT_GRADIENT,
                )
            annotations = {attr for attr in before if attr.startswith("_")}
            for attr in annotations:
                del node.attr[attr]
            if change is None:
                changed += bool(annotations)
                continue
            unknown = before - annotations - change.known.keys()
            self._drop_unknown(site, sorted(unknown), change, findings)
            unwritten = change.written.keys() - before
            for attr in unwritten:
                node.attr[attr].CopyFrom(change.written[attr])
            self._check_values(site, change, findings)
            changed += bool(annotations or unknown or unwritten)
        for function in graph.functions.values():
            _drop_annotations(function.attr)
            for arg in function.arg_attr.values():
                _drop_annotations(arg.attr)
        findings.check()
        return changed

    def _drop_unknown(
        self, site: Site, unknown: Sequence[str], change: _Change, findings: Findings
    ) -> None:
        """Applies rule 2."""
        node = site.node
        for attr in unknown:
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

    def _check_values(self, site: Site, change: _Change, findings: Findings) -> None:
        """Applies rule 4."""
        node = site.node
        for name, known in change.known.items():
            value = node.attr.get(name)
            if value is None:
                continue
            if value.WhichOneof("value") != known.kind:
                raise MalformedError(
                    f"attribute {name!r} is no {known.type}", where=findings.graph.at(node.name)
                )
            if not known.allows(value):
                hint = _HINT_TYPE if "type" in known.type else _HINTS.get(name, _HINT_VALUE)
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

    known: Mapping[str, _Known]
    defaults: Mapping[str, tf_pb.AttrValue]
    written: Mapping[str, tf_pb.AttrValue]

    @classmethod
    def of(cls, op: str, release: Release) -> _Change | None:
        """Returns the change; None where the release does not have the op."""
        if op not in release.ops:
            return None
        then = {attr.name: attr for attr in release.ops[op].attr}
        today = load_opset(CURRENT).get(op, release.ops[op])
        defaults = {
            attr.name: attr.default_value for attr in today.attr if attr.HasField("default_value")
        }
        written = {
            name: value
            for name, value in defaults.items()
            if name in then
            and not (then[name].HasField("default_value") and then[name].default_value == value)
        }
        return cls({name: _Known.of(attr) for name, attr in then.items()}, defaults, written)


@dataclass(frozen=True)
class _Known:
    """An OpDef.AttrDef as plain values: there are few, and many nodes that have each.

    Attributes:
      type: its type, as OpDefs name it.
      kind: the same, as AttrValues name it.
      minimum: the least number, or length of a list; None if there is none.
      dtypes: the types that it may have; empty if it may have any.
      texts: the strings that it may have, likewise.
    """

    type: str
    kind: str
    minimum: int | None
    dtypes: frozenset[int]
    texts: frozenset[bytes]

    @classmethod
    def of(cls, attr: tf_pb.OpDef.AttrDef) -> _Known:
        """Returns what an AttrDef says."""
        return cls(
            attr.type,
            _KINDS.get(attr.type, "list"),
            attr.minimum if attr.has_minimum else None,
            frozenset(attr.allowed_values.list.type),
            frozenset(attr.allowed_values.list.s),
        )

    def allows(self, value: tf_pb.AttrValue) -> bool:
        """True if it may have a value (core/framework/op_def_util.cc, ValidateAttrValue)."""
        if self.minimum is not None:
            size = value.i if self.type == "int" else _length(value.list)
            if size < self.minimum:
                return False
        if self.dtypes:
            dtypes = value.list.type if self.type == "list(type)" else [value.type]
            if not self.dtypes.issuperset(dtypes):
                return False
        if self.texts:
            texts = value.list.s if self.type == "list(string)" else [value.s]
            return self.texts.issuperset(texts)
        return True


def _length(items: tf_pb.AttrValue.ListValue) -> int:
    return sum(len(values) for _, values in items.ListFields())


def _drop_annotations(attrs: MutableMapping[str, tf_pb.AttrValue]) -> None:
    for name in [name for name in attrs if name.startswith("_")]:
        del attrs[name]


def _is_training(node: tf_pb.NodeDef) -> bool:
    return "is_training" not in node.attr or node.attr["is_training"].b
