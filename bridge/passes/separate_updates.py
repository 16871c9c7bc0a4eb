"""Takes the writes of variables out of the forward pass."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from bridge.attrs import int_attr, ints_tensor_attr, type_attr
from bridge.dtypes import FLOATS
from bridge.errors import UnsupportedError
from bridge.graph import Graph, parse_tensor
from bridge.model import INFERENCE, Variant
from bridge.passes._effects import GUARDS, check_effects, signatures_that_wait
from bridge.passes._infra import VariantPass
from bridge.passes._variable_ops import FUNCTIONAL, READS, Use, VariableUses
from bridge.proto import tf_pb
from bridge.report import Report

# The op that gives, as a new tensor, what the other op leaves in the variable.
_AS_VALUES = {
    "AssignAddVariableOp": "AddV2",
    "AssignSubVariableOp": "Sub",
    "ResourceScatterNdAdd": "TensorScatterAdd",
    "ResourceScatterNdSub": "TensorScatterSub",
    "ResourceScatterNdUpdate": "TensorScatterUpdate",
    "ResourceStridedSliceAssign": "TensorStridedSliceUpdate",
}


@dataclass(frozen=True)
class SeparateUpdates(VariantPass):
    """Makes the writes of variables update ops, which the client runs, and no part of the rest.

    Requires: MergeEqual has run, and RandomOps, which takes generators away. Ensures: no output,
    loss or table initializer depends on a write, by data or by control; all writes are in
    `update_ops`, and running these leaves in each variable what a call of the TF2 function does.

    1. A TF2 function writes in the midst of its forward pass, and what follows waits for that. A
       forward pass of a TF1 Hub module changes nothing: its client runs the update ops or does not.
    2. A read after a write, as control dependencies order them, gets the value that the write would
       leave in the variable. Its gradient stays that of a read: it goes to the variable, not to
       what was assigned, so a trainable variable's read adds to the value a difference of zero.
    3. All other reads of such a variable come first: nothing orders them but that the variable's
       writes wait for them. A client runs a forward pass and the update ops at once, and both must
       see the variable as it was.
    4. Several writes of a variable stay, one after the other, as they were.
    5. An If, While or Case that writes is one update op as a whole. It is refused by name if
       something else needs its outputs, or reads what it has written.
    6. What only guards, Assert and CheckNumerics, or prints, stays where it is, as it does in a
       module of the old exporter. Any other effect, that of a queue or of an insertion into a
       table, is refused by name: as unsafe where it reaches outside of the model.
    7. Writes of the inference variant become update ops too, with a remark: the old client adds
       them to UPDATE_OPS where `trainable=True`, and there they can be run; dropped, the counter or
       the cache that the model keeps could not be kept by anyone.
    8. A write of a slice becomes a write of the whole: TensorFlow 1.15 has been seen to crash where
       ResourceStridedSliceAssign runs beside another reader of the variable.

    Attributes:
      allowed: ops that may reach outside of the model.
    """

    allowed: frozenset[str] = frozenset()

    name: ClassVar[str] = "separate-updates"

    def rewrite(self, variant: Variant, report: Report) -> int:
        """Separates the writes of one variant."""
        graph = variant.graph
        find = VariableUses(graph)
        initializing = graph.ancestors(variant.table_initializers)
        uses = {
            name: found
            for name, node in graph.nodes.items()
            if name not in initializing and (found := find.of_node(node))
        }
        check_effects(graph, initializing, self.allowed)
        separation = _Separation(graph, uses, frozenset(variant.trainable_variables))
        if not separation.writes:
            return 0
        signatures = signatures_that_wait(variant, separation.writes)
        separation.replace_reads()
        separation.assign_whole()
        separation.order_writes()
        separation.cut()
        separation.check(_targets(variant))
        # A model that was a module before has update ops, which run writes already.
        known = graph.ancestors(variant.update_ops.values())
        new = {name: name for name in separation.writes if name not in known}
        variant.update_ops |= new
        _remark(variant, separation, new, signatures, report)
        return len(new)


def _targets(variant: Variant) -> list[str]:
    """Returns the names of the nodes that must not depend on a write."""
    names = list(variant.regularization_losses)
    for signature in variant.signatures.values():
        names += signature.output_tensors()
    return [*(parse_tensor(name).node for name in names), *variant.table_initializers]


def _remark(
    variant: Variant,
    separation: _Separation,
    new: Collection[str],
    signatures: Mapping[str, set[str]],
    report: Report,
) -> None:
    graph = variant.graph
    for variable, writes in separation.writes_of.items():
        names = [name for name in writes if name in new]
        if not names:
            continue
        if variant.tags == INFERENCE:
            report.remark(
                "update_op",
                names[0],
                f"inference writes variable {variable!r}: TF2 does so in each call, the client "
                "only if it is told trainable=True and runs UPDATE_OPS",
                graph.at(names[0]),
            )
        for first, second in itertools.pairwise(names):
            known = signatures[first] and signatures[second]
            writers = "two calls, of which TF2 makes one at a time," if known else "two nodes"
            shared = signatures[first] & signatures[second]
            if not shared and not separation.follows(second, first):
                report.remark(
                    "update_op",
                    second,
                    f"{writers} write variable {variable!r}: a client that runs all of UPDATE_OPS "
                    f"runs this one and {first!r}",
                    graph.at(second),
                )


class _Separation:
    """The writes of a graph, what they wait for and who waits for them."""

    def __init__(self, graph: Graph, uses: dict[str, dict[str, Use]], trainable: frozenset[str]):
        self.graph = graph
        self.trainable = trainable
        written = {v for found in uses.values() for v, use in found.items() if Use.WRITE in use}
        self.order = graph.topological_order() if written else []
        self.uses = {
            name: {v: use for v, use in uses[name].items() if v in written and use}
            for name in self.order
            if name in uses and not written.isdisjoint(uses[name])
        }
        self.writes = {
            name: None
            for name, found in self.uses.items()
            if any(Use.WRITE in use for use in found.values())
        }
        self.writes_of: dict[str, list[str]] = {variable: [] for variable in sorted(written)}
        for name in self.writes:
            for variable, use in self.uses[name].items():
                if Use.WRITE in use:
                    self.writes_of[variable].append(name)
        # Bit i of a number stands for the i-th node that uses a written variable.
        self._bits = {name: 1 << i for i, name in enumerate(self.uses)}
        self._before = self._find_before()
        self._values: dict[str, str] = {}
        self._seen: dict[str, str] = {}
        self._initial: dict[str, str] = {}

    def _find_before(self) -> dict[str, int]:
        """Returns which uses of written variables each node depends on, by data or control."""
        result: dict[str, int] = {}
        for name in self.order:
            found = 0
            for tensor in self.graph.inputs(self.graph.nodes[name]):
                found |= result[tensor.node] | self._bits.get(tensor.node, 0)
            result[name] = found
        return result

    def follows(self, name: str, earlier: str) -> bool:
        """True if a node depends on a use of a written variable."""
        return bool(self._before[name] & self._bits[earlier])

    def _last_write(self, name: str, variable: str) -> str | None:
        """Returns the write whose result a node finds in a variable; None if it is the first."""
        earlier = [w for w in self.writes_of[variable] if self.follows(name, w)]
        if not earlier:
            return None
        last = earlier[-1]
        for write in earlier[:-1]:
            if not self.follows(last, write):
                raise UnsupportedError(
                    f"variable {variable!r} is used after {write!r} and {last!r}, which write it "
                    "in no order",
                    where=self.graph.at(name),
                    hint="order them by tf.control_dependencies and save the model again",
                )
        return last

    # -- reads -------------------------------------------------------------------------------

    def replace_reads(self) -> None:
        """Gives reads after writes what was written, and frees the others from any order."""
        for name, found in list(self.uses.items()):
            node = self.graph.nodes[name]
            if name in self.writes:
                continue
            for variable in found:
                write = self._last_write(name, variable)
                if write is not None:
                    self._replace_read(node, variable, write)
                    del self.uses[name]
                    break
                if node.op == "ReadVariableOp":
                    del node.input[1:]
                    self._initial.setdefault(variable, name)

    def _replace_read(self, node: tf_pb.NodeDef, variable: str, write: str) -> None:
        if node.op not in READS:
            raise UnsupportedError(
                f"op {node.op} reads variable {variable!r} in its body, after {write!r} has "
                "written it",
                where=self.graph.at(node.name),
                hint="read the variable before, outside of the body, and save the model again",
            )
        value = self._value_seen(write, variable)
        dtype = type_attr(node.attr["dtype"].type)
        rest = list(node.input)[1:]
        if node.op == "ReadVariableOp":
            node.op = "Identity"
            attrs = {"T": dtype}
        else:
            attrs = {"Tparams": dtype, "Tindices": node.attr["Tindices"]}
            if node.op == "ResourceGather":
                node.op = "GatherV2"
                axis = self.graph.unique_name(f"{node.name}/axis")
                int32 = type_attr(tf_pb.DT_INT32)
                zero = ints_tensor_attr(tf_pb.DT_INT32, 0)
                self.graph.add("Const", axis, dtype=int32, value=zero)
                attrs |= {"Taxis": int32, "batch_dims": int_attr(node.attr["batch_dims"].i)}
                rest.insert(1, axis)
            else:
                node.op = "GatherNd"
        attrs = {key: tf_pb.AttrValue.FromString(a.SerializeToString()) for key, a in attrs.items()}
        node.attr.clear()
        for key, attr in attrs.items():
            node.attr[key].CopyFrom(attr)
        node.input[:] = [value, *rest]

    def _value_seen(self, write: str, variable: str) -> str:
        """Returns the tensor that reads after a write get."""
        if write not in self._seen:
            self._seen[write] = self._add_value_seen(write, variable)
        return self._seen[write]

    def _add_value_seen(self, write: str, variable: str) -> str:
        value = self._value_after(write, variable)
        dtype = self.graph.attr(self.graph.nodes[variable], "dtype").type
        if dtype not in FLOATS:
            return value
        value = self._add("StopGradient", write, dtype, value)
        if variable not in self.trainable:
            return value
        read = self._initial_read(variable)
        stopped = self._add("StopGradient", write, dtype, read)
        zero = self._add("Sub", write, dtype, read, stopped)
        return self._add("AddV2", write, dtype, value, zero)

    def _value_after(self, write: str, variable: str) -> str:
        """Returns the tensor that a write leaves in a variable."""
        if write not in self._values:
            node = self.graph.nodes[write]
            if node.op == "AssignVariableOp":
                self._values[write] = node.input[1]
            else:
                self._values[write] = self._add_value_after(node, variable)
        return self._values[write]

    def _add_value_after(self, node: tf_pb.NodeDef, variable: str) -> str:
        op = _AS_VALUES.get(node.op)
        if op is None:
            inside = " in its body" if node.op in FUNCTIONAL else ""
            raise UnsupportedError(
                f"op {node.op} writes variable {variable!r}{inside}, and the forward pass needs "
                "what it has written",
                where=self.graph.at(node.name),
                hint="a TF1 Hub module writes variables apart from the forward pass; compute the "
                "new value first, assign it by Variable.assign, and save the model again",
            )
        earlier = self._last_write(node.name, variable)
        old = self._value_after(earlier, variable) if earlier else self._initial_read(variable)
        operands = [text for text in list(node.input)[1:] if not text.startswith("^")]
        if op == "TensorStridedSliceUpdate" or op.startswith("TensorScatter"):
            known = {attr.name for attr in self.graph.op_def(node).attr} - {"use_locking"}
            attrs = {key: value for key, value in node.attr.items() if key in known}
        else:
            attrs = {"T": node.attr["dtype"]}
        name = self.graph.unique_name(f"{node.name}/value")
        self.graph.add(op, name, [old, *operands], **attrs)
        return name

    def _initial_read(self, variable: str) -> str:
        """Returns a read of a variable that comes before all of its writes."""
        if variable not in self._initial:
            dtype = type_attr(self.graph.attr(self.graph.nodes[variable], "dtype").type)
            name = self.graph.unique_name(f"{variable}/Read/ReadVariableOp")
            self.graph.add("ReadVariableOp", name, [variable], dtype=dtype)
            self._initial[variable] = name
            self.uses[name] = {variable: Use.READ}
        return self._initial[variable]

    def _add(self, op: str, scope: str, dtype: int, *inputs: str) -> str:
        name = self.graph.unique_name(f"{scope}/{op}")
        self.graph.add(op, name, inputs, T=type_attr(dtype))
        return name

    # -- writes ------------------------------------------------------------------------------

    def assign_whole(self) -> None:
        """Lets writes of slices write the whole variable."""
        for write in self.writes:
            node = self.graph.nodes[write]
            if node.op == "ResourceStridedSliceAssign":
                (variable,) = self.uses[write]
                value = self._value_after(write, variable)
                dtype = type_attr(node.attr["T"].type)
                node.op = "AssignVariableOp"
                node.input[:] = [node.input[0], value, *(t for t in node.input if t[0] == "^")]
                node.attr.clear()
                node.attr["dtype"].CopyFrom(dtype)

    def order_writes(self) -> None:
        """Lets each write wait for the uses of its variables that come before it."""
        first_reads: dict[str, list[str]] = {variable: [] for variable in self.writes_of}
        users: dict[str, list[str]] = {variable: [] for variable in self.writes_of}
        for name, found in self.uses.items():
            for variable in found:
                if self.graph.nodes[name].op == "ReadVariableOp":
                    first_reads[variable].append(name)
                else:
                    users[variable].append(name)
        for write in self.writes:
            node = self.graph.nodes[write]
            waits: dict[str, None] = {}
            for variable, use in self.uses[write].items():
                if Use.WRITE in use:
                    waits.update(dict.fromkeys(first_reads[variable]))
                for user in users[variable]:
                    both = use | self.uses[user][variable]
                    if user != write and Use.WRITE in both and self.follows(write, user):
                        waits[user] = None
            present = {parse_tensor(text).node for text in node.input}
            node.input.extend(f"^{name}" for name in waits if name not in present)

    def cut(self) -> None:
        """Drops the control edges from writes, and from what only passes on their outputs."""
        guarded: dict[str, bool] = {}  # of what depends on a write: does a guard too?
        for name in self.order:
            node = self.graph.nodes[name]
            if name in self.writes:
                guarded[name] = False
                continue
            kept = [t for t in node.input if t[0] != "^" or guarded.get(t[1:], True)]
            if len(kept) < len(node.input):
                node.input[:] = kept
            before = [guarded[t.node] for t in self.graph.inputs(node) if t.node in guarded]
            if before:
                guarded[name] = any(before) or node.op in GUARDS or node.op in FUNCTIONAL

    def check(self, targets: Iterable[str]) -> None:
        """Refuses writes that something else still needs.

        Raises:
          UnsupportedError: there is one.
        """
        needed = self.graph.ancestors(targets)
        for name in self.writes:
            if name in needed:
                node = self.graph.nodes[name]
                variable = next(v for v, use in self.uses[name].items() if Use.WRITE in use)
                raise UnsupportedError(
                    f"op {node.op} writes variable {variable!r}, and the forward pass needs its "
                    "outputs",
                    where=self.graph.at(name),
                    hint="a TF1 Hub module writes variables apart from the forward pass; assign "
                    "the variable outside of the conditional or loop, and save the model again",
                )
