"""Copies of models whose random ops draw the same numbers, whichever TensorFlow runs them.

What draws at random can't be compared. In a pinned copy, every random op is its stateless
counterpart with a constant seed: the same one for all, so that nobody needs to know which op of
one model stands for which of the other. Ops whose seed is the same in each call keep it: what they
draw is a part of what the model computes. Two ops of one kind then draw the same stream, of which
each takes as much as its shape asks for. The stateless ops of old are those that TensorFlow 1.15
and TensorFlow 2 both have, and that give the same numbers in both, bit for bit
(tensorflow/core/kernels/stateless_random_ops.cc).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge._parity.random.made_of import TOP
from bridge._parity.random.random_ops import RandomOps, open_graph
from bridge.attrs import ints_tensor_attr, type_attr
from bridge.errors import SourceNotFoundError
from bridge.graph import Graph, unique_name
from bridge.layout import SAVED_MODEL
from bridge.opsets import CURRENT, load_opset
from bridge.proto import tf_pb
from bridge.proto_file import read_proto
from bridge.saved_model.record import RECORD
from bridge.source import check_tree

_UNIFORM = "StatelessRandomUniform"
_NORMAL = "StatelessRandomNormal"
_TRUNCATED = "StatelessTruncatedNormal"
_INTEGERS = "StatelessRandomUniformInt"
_ALL_INTEGERS = "StatelessRandomUniformFullInt"

_STATELESS = {
    "Multinomial": "StatelessMultinomial",
    "RandomStandardNormal": _NORMAL,
    "RandomUniform": _UNIFORM,
    "RandomUniformInt": _INTEGERS,
    "StatefulStandardNormal": _NORMAL,
    "StatefulStandardNormalV2": _NORMAL,
    "StatefulTruncatedNormal": _TRUNCATED,
    "StatefulUniform": _UNIFORM,
    "StatefulUniformFullInt": _ALL_INTEGERS,
    "StatefulUniformInt": _INTEGERS,
    "StatelessRandomNormalV2": _NORMAL,
    "StatelessRandomUniformFullIntV2": _ALL_INTEGERS,
    "StatelessRandomUniformIntV2": _INTEGERS,
    "StatelessRandomUniformV2": _UNIFORM,
    "StatelessTruncatedNormalV2": _TRUNCATED,
    "TruncatedNormal": _TRUNCATED,
}
"""The op that draws the same from a seed. Inputs of one name are the same in both."""

_ATTRS = {
    "T": ("T", "Tshape", "shape_dtype"),
    "dtype": ("dtype", "Tout"),
    "output_dtype": ("output_dtype",),
}
"""For each attribute of those, what the op that is replaced calls it."""

_LIMITS = {
    tf_pb.DT_INT32: (-(1 << 31), (1 << 31) - 1),
    tf_pb.DT_INT64: (-(1 << 63), (1 << 63) - 1),
}

_LEFT_OUT = frozenset({SAVED_MODEL, "fingerprint.pb"})
"""What is not as it was."""


@dataclass(frozen=True)
class Pinned:
    """A pinned copy.

    Attributes:
      path: its directory.
      count: how many ops were pinned.
      unpinned: the ops of the copy that still are random; `unpinned.of(call)` tells which of them
        decide about a call.
    """

    path: Path
    count: int
    unpinned: RandomOps


def pin(model: Path, dest: Path, seed: int) -> Pinned:
    """Makes a copy of a model whose random ops draw from a constant seed.

    Nodes and their outputs keep their names. Of a SavedModel that was a TF1 Hub module, the copy
    says no more that it was one.

    Args:
      model: directory of a TF1 Hub module or a SavedModel.
      dest: the copy, which must not exist; files that are the same are hard-linked where possible.
      seed: decides about the numbers.

    Raises:
      MalformedError: the directory holds a broken model.
      UnsafeError: a link.
      UnsupportedError: an op that nobody knows.
    """
    check_tree(model)
    path = model / SAVED_MODEL
    saved_model = read_proto(tf_pb.SavedModel, path)
    count = 0
    random = RandomOps(saved_model, path)
    for meta_graph in saved_model.meta_graphs:
        graph = open_graph(meta_graph, path)
        to_pin = random.to_pin(frozenset(meta_graph.meta_info_def.tags))
        definition = meta_graph.graph_def
        pins = _Pins(definition.node, to_pin[TOP], graph, None, seed)
        definition.node.extend(pins.added)
        count += pins.count
        for function in definition.library.function:
            arguments = [arg.name for arg in function.signature.input_arg]
            wanted = to_pin[function.signature.name]
            pins = _Pins(function.node_def, wanted, graph, arguments, seed)
            function.node_def.extend(pins.added)
            count += pins.count
        meta_graph.collection_def.pop(RECORD, None)
    try:
        _copy(model, dest)
    except OSError as error:
        raise SourceNotFoundError(f"{model} can't be copied to {dest}: {error}") from error
    (dest / SAVED_MODEL).write_bytes(saved_model.SerializeToString(deterministic=True))
    return Pinned(dest, count, RandomOps(saved_model, path))


def _copy(model: Path, dest: Path) -> None:
    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, target)

    def left_out(folder: str, names: list[str]) -> Iterable[str]:
        return _LEFT_OUT.intersection(names) if Path(folder) == model else ()

    shutil.copytree(model, dest, ignore=left_out, copy_function=link)


class _Pins:
    """Pins the random ops among the nodes of a graph, or of a function with its arguments.

    Attributes:
      count: how many were pinned.
      added: nodes that must be put beside the others.
    """

    def __init__(
        self,
        nodes: Iterable[tf_pb.NodeDef],
        wanted: Iterable[str],
        graph: Graph,
        arguments: Iterable[str] | None,
        seed: int,
    ):
        self._graph = graph
        # Any two numbers are a seed; the run's may be of any size.
        self._seed = [seed % (1 << 63), 1]
        self._nodes = {node.name: node for node in nodes}
        self._taken = {*self._nodes, *(arguments or ())}
        # As the body of a function names the output of a constant.
        self._suffix = "" if arguments is None else ":output:0"
        self._suffixes: dict[str, int] = {}
        self.added: list[tf_pb.NodeDef] = []
        self.count = sum(self._pin(self._nodes[name]) for name in wanted)

    def _pin(self, node: tf_pb.NodeDef) -> bool:
        if node.op in _STATELESS or node.op == _ALL_INTEGERS:
            return self._replace(node)
        positions = _seeds(node.op)
        for position in positions:
            node.input[position] = self._const(node, "seed", tf_pb.DT_INT64, self._seed)
            node.attr["Tseed"].CopyFrom(type_attr(tf_pb.DT_INT64))
        return bool(positions)

    def _replace(self, node: tf_pb.NodeDef) -> bool:
        """Makes a random op another one; returns false if it draws a type that none draws."""
        old = self._graph.op_def(node)
        target = _STATELESS.get(node.op, node.op)
        bounds: tuple[int, int] | None = None
        if target == _ALL_INTEGERS:
            # TensorFlow 1.15 has none: there, a module draws from one limit to the other.
            bounds = _LIMITS.get(self._graph.attr(node, "dtype").type)
            target = _INTEGERS if bounds else target
        new = load_opset(CURRENT)[target]
        attrs = {key: self._attr(node, key) for key in _attr_names(new)}
        attrs["Tseed"] = tf_pb.DT_INT64
        for attr in new.attr:
            allowed = attr.allowed_values.list.type
            if allowed and attrs[attr.name] not in allowed:
                return False
        inputs = {arg.name: node.input[i] for i, arg in enumerate(old.input_arg)}
        controls = list(node.input)[len(inputs) :]
        inputs["seed"] = self._const(node, "seed", tf_pb.DT_INT64, self._seed)
        if bounds:
            for key, bound in zip(("minval", "maxval"), bounds, strict=True):
                inputs[key] = self._const(node, key, attrs["dtype"], bound)
        kept = {key: node.attr[key] for key in list(node.attr) if key.startswith("_")}
        for key in list(node.attr):
            if key not in kept:
                del node.attr[key]
        for key, dtype in attrs.items():
            node.attr[key].CopyFrom(type_attr(dtype))
        node.op = target
        node.input[:] = [*(inputs[arg.name] for arg in new.input_arg), *controls]
        return True

    def _attr(self, node: tf_pb.NodeDef, key: str) -> int:
        known = {attr.name for attr in self._graph.op_def(node).attr}
        (name,) = (name for name in _ATTRS[key] if name in known)
        return self._graph.attr(node, name).type

    def _const(
        self, node: tf_pb.NodeDef, name: str, dtype: int, values: int | Sequence[int]
    ) -> str:
        """Adds a constant where a node stands: in a v1 loop, it belongs to the node's frame."""
        name = unique_name(f"{node.name}/pinned_{name}", self._taken.__contains__, self._suffixes)
        self._taken.add(name)
        const = tf_pb.NodeDef(name=name, op="Const", device=node.device)
        const.attr["dtype"].CopyFrom(type_attr(dtype))
        const.attr["value"].CopyFrom(ints_tensor_attr(dtype, values))
        # What makes the first input stands in that frame too; an argument stands in none.
        source = node.input[0].split(":")[0]
        if source in self._nodes:
            const.input.append(f"^{source}")
        self.added.append(const)
        return name + self._suffix


def _attr_names(op_def: tf_pb.OpDef) -> list[str]:
    return [attr.name for attr in op_def.attr if attr.name != "Tseed"]


def _seeds(op: str) -> list[int]:
    """Returns which input of a stateless random op is its seed; others have none."""
    op_def = load_opset(CURRENT).get(op)
    if op_def is None or not any(attr.name == "Tseed" for attr in op_def.attr):
        return []
    return [position for position, arg in enumerate(op_def.input_arg) if arg.name == "seed"]
