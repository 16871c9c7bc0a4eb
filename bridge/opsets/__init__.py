"""What TensorFlow releases know of ops, as data.

Each `tf-*.opset` file is the op registry of a real release, `tf-*.no-gradient.txt` and
`tf-*.not-differentiable.txt` name its ops without gradient. A release that modules are written for
has its CPU kernels and versions beside them, and `load_release` of bridge/opsets/release.py gives
all of it: another release is another few files. tools/dump_opset.py dumps them.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from bridge.proto import tf_pb

CURRENT = "2.21"
"""The release whose registry tells what today's TensorFlow runs."""


@functools.cache
def load_opset(release: str) -> Mapping[str, tf_pb.OpDef]:
    """Returns the ops that a TensorFlow release registers, by name.

    Args:
      release: such as `2.21`; a file `tf-RELEASE.opset` must stand beside this one.
    """
    data = Path(__file__).with_name(f"tf-{release}.opset").read_bytes()
    return {op.name: op for op in tf_pb.OpList.FromString(zlib.decompress(data)).op}


@functools.cache
def ops_without_gradient(release: str) -> frozenset[str]:
    """Returns the ops through which taking a gradient raises in a TensorFlow release.

    Ops that are registered as not differentiable are not among them: their gradient is None.
    """
    return _names(f"tf-{release}.no-gradient.txt")


@functools.cache
def not_differentiable_ops(release: str) -> frozenset[str]:
    """Returns the ops that a TensorFlow release registers as not differentiable.

    Their gradient is None, and nobody hears of it.
    """
    return _names(f"tf-{release}.not-differentiable.txt")


def _names(file: str) -> frozenset[str]:
    return frozenset(Path(__file__).with_name(file).read_text(encoding="utf-8").split())


class OpTable:
    """Op definitions for one graph: the release's own first, then what the model brought along.

    A model carries the definitions of its ops (`stripped_op_list`), which is the only source for
    custom ops that TensorFlow itself does not have.
    """

    def __init__(self, carried: Iterable[tf_pb.OpDef] = ()):
        """Creates the table from a model's own op definitions."""
        self._release = load_opset(CURRENT)
        self._carried = {op.name: op for op in carried}

    def get(self, op: str) -> tf_pb.OpDef | None:
        """Returns the definition of an op, or None where nobody knows it."""
        return self._release.get(op) or self._carried.get(op)

    def in_release(self, op: str) -> bool:
        """True if TensorFlow itself registers the op."""
        return op in self._release
