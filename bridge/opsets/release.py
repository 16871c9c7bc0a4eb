"""A TensorFlow release that modules are written for: what it can run and differentiate."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import UsageError
from bridge.opsets import load_opset, not_differentiable_ops, ops_without_gradient
from bridge.proto import tf_pb

Kernel = Mapping[str, frozenset[int]]
"""The DataType numbers that each constrained attribute may have; any other may have all."""

_KERNELS = ".kernels.txt"
_LIMITS = ".limits.txt"


@dataclass(frozen=True)
class Limit:
    """What the kernels of an op, or of its gradient, can't do although they take the types.

    Attributes:
      attr: an attribute.
      values: the values that work, as text; of a list, every element must be one of them.
    """

    attr: str
    values: frozenset[str]

    def allows(self, value: tf_pb.AttrValue) -> bool:
        """True if the kernels can do what the attribute says."""
        found = [str(number) for number in value.list.i] or [value.s.decode(errors="replace")]
        return self.values.issuperset(found)


Limits = Mapping[str, tuple[Limit, ...]]
"""Limits by op."""


@dataclass(frozen=True, eq=False)
class Release:
    """What a real release says of itself.

    Attributes:
      name: such as `1.15`.
      ops: the ops that it registers, by name.
      dtypes: the DataType numbers that it knows.
      kernels: for each op the kernels that run on a CPU; absent if there are none.
      limits: what those kernels can't do.
      gradient_limits: what the kernels of an op's gradient can't do.
      without_gradient: the ops through which taking a gradient raises.
      not_differentiable: the ops whose gradient is None, and that says nothing.
      producer: the version of the graphs that it writes (GRAPH_DEF_VERSION).
      min_consumer: the oldest version that reads them.
    """

    name: str
    ops: Mapping[str, tf_pb.OpDef]
    dtypes: frozenset[int]
    kernels: Mapping[str, tuple[Kernel, ...]]
    limits: Limits
    gradient_limits: Limits
    without_gradient: frozenset[str]
    not_differentiable: frozenset[str]
    producer: int
    min_consumer: int

    def __str__(self) -> str:
        return f"TensorFlow {self.name}"

    def versions(self) -> tf_pb.VersionDef:
        """Returns the versions of a graph that it writes."""
        return tf_pb.VersionDef(producer=self.producer, min_consumer=self.min_consumer)

    def has_kernel(self, op: str, types: Mapping[str, frozenset[int]]) -> bool:
        """True if a CPU runs the op with these types.

        Args:
          op: the op.
          types: DataType numbers by attribute: one for an attribute of kind `type`, and all that
            stand in one of kind `list(type)`.
        """
        return any(
            all(types.get(attr, frozenset()) <= allowed for attr, allowed in kernel.items())
            for kernel in self.kernels.get(op, ())
        )


def known_releases() -> list[str]:
    """Returns the names of the releases that modules can be written for, oldest first."""
    files = Path(__file__).parent.glob(f"tf-*{_KERNELS}")
    names = [file.name.removeprefix("tf-").removesuffix(_KERNELS) for file in files]
    return sorted(names, key=lambda name: [int(part) for part in name.split(".")])


def load_release(name: str) -> Release:
    """Returns what is known of a release.

    Args:
      name: such as `1.15`; a patch release, such as `1.15.5`, is the release that it patches.

    Raises:
      UsageError: nothing is known of it.
    """
    patched = re.fullmatch(r"(\d+\.\d+)\.\d+", name)
    known = known_releases()
    if (minor := patched[1] if patched else name) not in known:
        raise UsageError(
            f"no module can be written for TensorFlow {name!r}",
            hint=f"known releases: {', '.join(known)}",
        )
    return _load_release(minor)


@functools.cache
def _load_release(name: str) -> Release:
    facts = json.loads(_read(name, ".json"))
    limits = _load_limits(name)
    return Release(
        name=name,
        ops=load_opset(name),
        dtypes=frozenset(map(_dtype, facts["data_types"])),
        kernels=_load_kernels(name),
        limits=limits.get("run", {}),
        gradient_limits=limits.get("gradient", {}),
        without_gradient=ops_without_gradient(name),
        not_differentiable=not_differentiable_ops(name),
        producer=facts["graph_def_version"],
        min_consumer=facts["graph_def_version_min_consumer"],
    )


def _read(name: str, suffix: str) -> str:
    return Path(__file__).with_name(f"tf-{name}{suffix}").read_text(encoding="utf-8")


def _dtype(name: str) -> int:
    return tf_pb.DataType.Value(f"DT_{name.upper()}")


def _load_kernels(name: str) -> dict[str, tuple[Kernel, ...]]:
    kernels: dict[str, tuple[Kernel, ...]] = {}
    for line in _read(name, _KERNELS).splitlines():
        op, *constraints = line.split(" ")
        kernel = {
            attr: frozenset(map(_dtype, types.split(",")))
            for attr, _, types in (constraint.partition("=") for constraint in constraints)
        }
        kernels[op] = (*kernels.get(op, ()), kernel)
    return kernels


def _load_limits(name: str) -> dict[str, dict[str, tuple[Limit, ...]]]:
    """Returns the limits by heading and op; a release need not have any."""
    sections: dict[str, dict[str, tuple[Limit, ...]]] = {}
    if not Path(__file__).with_name(f"tf-{name}{_LIMITS}").exists():
        return sections
    limits: dict[str, tuple[Limit, ...]] = {}
    for line in _read(name, _LIMITS).splitlines():
        if line.startswith("["):
            limits = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            rule, _, ops = line.partition(":")
            attr, _, values = rule.partition(" = ")
            for op in ops.split():
                limits[op] = (*limits.get(op, ()), Limit(attr, frozenset(values.split())))
    return sections
