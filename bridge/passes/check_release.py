"""Refuses what an older release can't run, or can't train."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from bridge.dtypes import dtype_name
from bridge.graph import Graph
from bridge.model import TRAIN, Model, Variant
from bridge.opsets import CURRENT, not_differentiable_ops, ops_without_gradient
from bridge.opsets.release import Limits, Release
from bridge.passes._findings import Findings, Site, format_attr, sites
from bridge.passes._gradient_paths import TrainedSite, trained_sites
from bridge.passes._infra import VariantPass
from bridge.passes.custom_gradients import lost_gradient
from bridge.passes.stop_gradients import FUNCTION_CALLS
from bridge.proto import tf_pb
from bridge.report import Report

_PREVENTING = frozenset({"PreventGradient"})
"""Ops whose gradient is there to raise, in any release."""

_HINT_OP = "export the model with older ops in its place"
_HINT_TYPE = "cast to another type, such as float32 or int32, when exporting"
_HINT_KERNEL = "export the model without it; the old client must run it on a CPU"


@dataclass(frozen=True)
class CheckRelease(VariantPass):
    """Checks that the release runs every node on a CPU, and trains every variable.

    Requires: LowerControlFlow and FitAttrs have run, and Prune: only what is used is judged.
    Ensures: the release has every op, in the form that the node needs, and a CPU kernel for it; no
    gradient that TensorFlow 2 has is an error in the release, or silently None.

    1. An op that the release does not have is an error, and so is one whose inputs or outputs are
       others there.
    2. So is a type that the release does not know, and one that no CPU kernel of the op takes. Old
       kernels refuse some attributes, or ignore them: bridge/opsets/tf-*.limits.txt says which.
    3. So is an op on the way from a trainable variable to an output or a regularization loss, if
       the release has no gradient for it, or believes that there is none.
    4. Where TensorFlow 2 itself has no gradient for such an op, nothing is lost: the report names
       the op. Where its gradient is None there, training did not go that way.
    5. So is a gradient that was Python code of the exporter, as synchronized BatchNormalization and
       tf.recompute_grad have it, in the variant for training. A model that was a module before had
       no such gradient as that module either.

    Attributes:
      release: the release that must read the result.
      allowed: ops that rule 1 lets through: the client's program registers them.
    """

    release: Release
    allowed: frozenset[str] = frozenset()

    name: ClassVar[str] = "check-release"

    def run(self, model: Model, report: Report) -> int:
        """Checks every variant."""
        if TRAIN in model.variants and not model.was_module:
            self._check_custom_gradients(model.variants[TRAIN])
        return super().run(model, report)

    def rewrite(self, variant: Variant, report: Report) -> int:
        """Checks one variant; returns 0, for it changes nothing."""
        findings = Findings(variant.graph, self.release)
        ops: dict[str, _Op] = {}
        for site in sites(variant.graph):
            if self._check_op(site, ops, findings):
                self._check_types(site, ops[site.node.op], findings)
                self._check_limits(site, self.release.limits, findings)
        self._check_gradients(variant, findings, report)
        findings.check()
        return 0

    def _check_op(self, site: Site, ops: dict[str, _Op], findings: Findings) -> bool:
        """Applies rule 1; returns whether the release has the op in this form.

        Args:
          site: the node.
          ops: takes what the release knows of its op.
          findings: take what is wrong.
        """
        node, graph = site.node, findings.graph
        op = ops.get(node.op)
        if op is not None and op.is_same:
            return True
        if node.op in self.allowed and node.op not in self.release.ops:
            return False
        old = self.release.ops.get(node.op)
        if old is None:
            findings.add(site, f"{self.release} has no op {node.op!r}", _HINT_OP)
            return False
        new = graph.op_def(node)
        if op is None:
            op = ops[node.op] = _Op.of(old, new)
        if op.is_same:
            return True
        for what, old_args, new_args in (
            ("inputs", old.input_arg, new.input_arg),
            ("outputs", old.output_arg, new.output_arg),
        ):
            wanted, given = _dtypes(graph, node, old_args), _dtypes(graph, node, new_args)
            if wanted != given:
                findings.add(
                    site,
                    f"op {node.op} has {what} of type {_names(wanted)} in {self.release}, not "
                    f"{_names(given)}",
                    _HINT_OP,
                )
                return False
        return True

    def _check_types(self, site: Site, op: _Op, findings: Findings) -> None:
        """Applies the first half of rule 2."""
        node = site.node
        types: dict[str, frozenset[int]] = {}
        used: set[int] = set()
        for name, kind, default in op.typed:
            value = node.attr.get(name, default)
            if kind == "tensor":
                used.add(value.tensor.dtype)
            else:
                found = value.list.type if kind == "list(type)" else [value.type]
                types[name] = frozenset(found)
                used.update(found)
        unknown = used - self.release.dtypes
        if unknown:
            findings.add(
                site,
                f"op {node.op} has the type {_names(sorted(unknown))}, which {self.release} does "
                "not know",
                _HINT_TYPE,
            )
        elif not self.release.has_kernel(node.op, types):
            kernels = self.release.kernels.get(node.op, ())
            constrained = {attr for kernel in kernels for attr in kernel}
            given = " and ".join(
                f"{attr}={_names(sorted(found))}"
                for attr, found in types.items()
                if attr in constrained
            )
            findings.add(
                site,
                f"op {node.op} has no CPU kernel{' for ' if given else ''}{given} in "
                f"{self.release}",
                _HINT_TYPE if given else _HINT_KERNEL,
            )

    def _check_limits(self, site: Site, limits: Limits, findings: Findings) -> None:
        """Applies the second half of rule 2."""
        for problem, hint in self._beyond(site.node, limits, findings.graph):
            findings.add(site, f"the CPU kernel of {problem} in {self.release}", hint)

    def _check_gradients(self, variant: Variant, findings: Findings, report: Report) -> None:
        """Applies rules 3 and 4."""
        release, graph = self.release, variant.graph
        without = release.without_gradient | release.not_differentiable | _PREVENTING
        limited = release.gradient_limits
        if not any(node.op in without or node.op in limited for node in graph.all_nodes()):
            return
        new_none = not_differentiable_ops(CURRENT)
        new_without = ops_without_gradient(CURRENT) - FUNCTION_CALLS | _PREVENTING
        no_loss: dict[str, str] = {}
        for site in trained_sites(variant, release.not_differentiable & new_none):
            op = site.node.op
            if lost_gradient(site.node):
                continue  # CustomGradients has named it
            if op in without and op in new_without:
                no_loss.setdefault(op, site.node.name)
            elif op in release.without_gradient:
                findings.add(site, f"op {op} has no gradient in {release}", _hint_gradient(site))
            elif op in release.not_differentiable:
                problem = f"op {op} has a gradient in TensorFlow 2, which is None in {release}"
                findings.add(site, problem, _hint_gradient(site))
            for problem, _ in self._beyond(site.node, limited, graph):
                findings.add(
                    site,
                    f"the CPU kernel of the gradient of {problem} in {release}",
                    _hint_gradient(site),
                )

        for op, name in no_loss.items():
            report.remark(
                "gradient",
                op,
                f"the op has no gradient in {release}, and in TensorFlow {CURRENT} neither, so "
                "training the variables before it raises",
                graph.at(name),
            )

    def _check_custom_gradients(self, variant: Variant) -> None:
        """Applies rule 5."""
        findings = Findings(variant.graph, self.release)
        if not any(lost_gradient(node) for node in variant.graph.all_nodes()):
            return
        stops = self.release.not_differentiable & not_differentiable_ops(CURRENT)
        for site in trained_sites(variant, stops):
            if lost_gradient(site.node):
                findings.add(
                    site,
                    "a gradient for training was Python code of the exporter, which no module has",
                    "save the model again without tf.custom_gradient, tf.recompute_grad and "
                    "synchronized BatchNormalization, or with the variables before it, such as "
                    f"{site.variable!r}, not trainable",
                )
        findings.check()

    def _beyond(
        self, node: tf_pb.NodeDef, limits: Limits, graph: Graph
    ) -> Iterable[tuple[str, str]]:
        """Yields what a node asks for and its kernel can't do, each with a hint."""
        for limit in limits.get(node.op, ()):
            value = graph.attr(node, limit.attr)
            if not limit.allows(value):
                wanted = " or ".join(sorted(limit.values))
                yield (
                    f"{node.op} does not do {limit.attr} {format_attr(value)}",
                    f"export the model with {limit.attr} {wanted}",
                )


class _Op(NamedTuple):
    """What the release knows of an op: there are few ops, and many nodes of each.

    Attributes:
      is_same: whether it takes and gives just what today's op does.
      typed: name, type and default of its attributes that hold a type, or a tensor.
    """

    is_same: bool
    typed: tuple[tuple[str, str, tf_pb.AttrValue], ...]

    @classmethod
    def of(cls, old: tf_pb.OpDef, new: tf_pb.OpDef) -> _Op:
        """Returns what an op is, given its definitions then and today."""
        return cls(
            list(old.input_arg) == list(new.input_arg)
            and list(old.output_arg) == list(new.output_arg),
            tuple(
                (attr.name, attr.type, attr.default_value)
                for attr in old.attr
                if attr.type in ("type", "list(type)", "tensor")
            ),
        )


def _hint_gradient(site: TrainedSite) -> str:
    return (
        f"export the model with other ops in place of {site.node.op}, or with the variables before "
        f"it, such as {site.variable!r}, not trainable"
    )


def _dtypes(graph: Graph, node: tf_pb.NodeDef, args: Iterable[tf_pb.OpDef.ArgDef]) -> list[int]:
    return [entry.dtype for entry in graph.arg_types(node, args)]


def _names(dtypes: Iterable[int]) -> str:
    return ", ".join(map(dtype_name, dtypes)) or "none"
