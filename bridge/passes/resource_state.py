"""Turns reference variables and reference tables into resources."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from bridge.attrs import string_attr, type_attr
from bridge.dtypes import is_ref
from bridge.errors import UnsupportedError
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.model import Component, Endpoint, Signature, Variant
from bridge.ops import REFERENCE_TABLES, REFERENCE_VARIABLES, RESOURCE_TABLE, RESOURCE_VARIABLE
from bridge.passes._infra import VariantPass
from bridge.passes._order import topological_order
from bridge.proto import tf_pb
from bridge.report import Report

# Ops that pass a reference on (control_flow_ops.cc, array_ops.cc) and their plain forms.
FORWARDING = {
    "RefIdentity": "Identity",
    "RefSwitch": "Switch",
    "RefMerge": "Merge",
    "RefEnter": "Enter",
    "RefExit": "Exit",
    "RefNextIteration": "NextIteration",
}

# Ops that change or ask a variable through its reference (state_ops.cc) and their resource
# forms (resource_variable_ops.cc), with the attributes of the latter by those of the former.
_ASSIGN = {"T": "dtype"}
_SCATTER = {"T": "dtype", "Tindices": "Tindices"}
_SCATTER_ND = {"T": "T", "Tindices": "Tindices"}
VARIABLE_USERS = {
    "Assign": ("AssignVariableOp", _ASSIGN),
    "AssignAdd": ("AssignAddVariableOp", _ASSIGN),
    "AssignSub": ("AssignSubVariableOp", _ASSIGN),
    "ScatterUpdate": ("ResourceScatterUpdate", _SCATTER),
    "ScatterAdd": ("ResourceScatterAdd", _SCATTER),
    "ScatterSub": ("ResourceScatterSub", _SCATTER),
    "ScatterMul": ("ResourceScatterMul", _SCATTER),
    "ScatterDiv": ("ResourceScatterDiv", _SCATTER),
    "ScatterMin": ("ResourceScatterMin", _SCATTER),
    "ScatterMax": ("ResourceScatterMax", _SCATTER),
    "ScatterNdUpdate": ("ResourceScatterNdUpdate", _SCATTER_ND),
    "ScatterNdAdd": ("ResourceScatterNdAdd", _SCATTER_ND),
    "ScatterNdSub": ("ResourceScatterNdSub", _SCATTER_ND),
    "StridedSliceAssign": (
        "ResourceStridedSliceAssign",
        {
            name: name
            for name in (
                "T",
                "Index",
                "begin_mask",
                "end_mask",
                "ellipsis_mask",
                "new_axis_mask",
                "shrink_axis_mask",
            )
        },
    ),
    "IsVariableInitialized": ("VarIsInitializedOp", {}),
}

_OUTPUT_SHAPES = "_output_shapes"
"""An annotation with the static shapes of a node's outputs: no handle has those of its variable."""

_READ_ONLY_USERS = frozenset({"IsVariableInitialized"})

# Ops on a table's reference (lookup_ops.cc); the resource forms have the same attributes.
TABLE_USERS = {
    op: op + "V2"
    for op in (
        "InitializeTable",
        "InitializeTableFromTextFile",
        "LookupTableExport",
        "LookupTableFind",
        "LookupTableImport",
        "LookupTableInsert",
        "LookupTableSize",
    )
}


@dataclass(frozen=True)
class _Handle:
    """What a reference tensor has become.

    Attributes:
      tensor: the resource handle.
      dtype: dtype of the variable; of no meaning for a table.
      is_table: whether it is a table's.
      after: nodes that must have run before the handle is read through this tensor, for
        `Assign` gave its reference only when it was done.
    """

    tensor: Tensor
    dtype: int
    is_table: bool = False
    after: tuple[str, ...] = ()


class ResourceState(VariantPass):
    """Rewrites every use of a reference.

    Requires: StripPlacement and Prune have run. Ensures: no tensor is a reference; node names,
    also those of update ops, still stand for the same thing.

    1. `VariableV2` becomes a `VarHandleOp` of the same name, `HashTable` a `HashTableV2`.
    2. Ops that pass a reference on pass the handle on.
    3. Ops that change a variable become their resource forms. These give no reference, so who read
       it reads the variable after them.
    4. `Identity` of a reference is a read: it becomes a `ReadVariableOp` under its own name. Any
       other reader of the value gets a `ReadVariableOp` of its own that runs no earlier than the
       reader would, because a reference is read when its reader runs.
    5. Anything else that takes a reference is refused by name.
    """

    name: ClassVar[str] = "resource-state"

    def rewrite(self, variant: Variant, report: Report) -> int:
        """Rewrites one variant."""
        del report
        return _Rewriter(variant).run()


class _Rewriter:
    def __init__(self, variant: Variant):
        self._variant = variant
        self._graph = variant.graph
        self._handles: dict[Tensor, _Handle] = {}
        self._reads: dict[tuple[str, Tensor], str] = {}
        self._changed = 0
        self._after_writes = _after_writes(variant.graph)

    def run(self) -> int:
        for name in topological_order(self._graph, self._graph.nodes):
            node = self._graph.nodes[name]
            gives_reference = any(arg.is_ref for arg in self._graph.op_def(node).output_arg)
            if gives_reference or any(self._handle(t) for t in self._graph.inputs(node)):
                self._rewrite(node, self._ref_inputs(node))
        self._redirect_outputs()
        return self._changed

    def _ref_inputs(self, node: tf_pb.NodeDef) -> list[bool]:
        """Which data inputs of a node take a reference."""
        types = self._graph.arg_types(node, self._graph.op_def(node).input_arg)
        return [is_ref(entry.dtype) for entry in types]

    def _handle(self, tensor: Tensor) -> _Handle | None:
        return None if tensor.is_control else self._handles.get(tensor)

    def _rewrite(self, node: tf_pb.NodeDef, ref_inputs: list[bool]) -> None:
        self._changed += 1
        op = node.op
        if op in REFERENCE_VARIABLES or op in REFERENCE_TABLES:
            self._state_op(node)
        elif op in FORWARDING:
            self._forward(node)
        elif op in VARIABLE_USERS:
            self._variable_user(node)
        elif op in TABLE_USERS:
            node.op = TABLE_USERS[op]
            self._read_values(node, keep_handle=0)
        elif any(ref_inputs) or any(is_ref(output.dtype) for output in self._graph.outputs(node)):
            raise UnsupportedError(
                f"op {op} takes or gives a reference, and has no form for resource variables",
                where=self._graph.at(node.name),
                hint="export the module from a graph built with use_resource=True",
            )
        elif op == "Identity":
            handle = self._handles[next(self._graph.inputs(node))]
            self._become_read(node, handle)
        else:
            self._read_values(node)

    def _state_op(self, node: tf_pb.NodeDef) -> None:
        tensor = Tensor(node.name, 0)
        if node.op in REFERENCE_TABLES:
            node.op = RESOURCE_TABLE
            self._handles[tensor] = _Handle(tensor, tf_pb.DT_INVALID, is_table=True)
            return
        node.op = RESOURCE_VARIABLE
        if not node.attr["shared_name"].s:
            node.attr["shared_name"].CopyFrom(string_attr(node.name))
        self._handles[tensor] = _Handle(tensor, self._graph.attr(node, "dtype").type)

    def _forward(self, node: tf_pb.NodeDef) -> None:
        data = [tensor for tensor in self._graph.inputs(node) if not tensor.is_control]
        handles = [self._handles[tensor] for tensor in data if tensor in self._handles]
        if not handles:
            raise UnsupportedError(
                f"{node.op} passes on a reference that can't be traced to a variable",
                where=self._graph.at(node.name),
            )
        outputs = len(self._graph.outputs(node))
        is_merge = node.op == "RefMerge"
        node.op = FORWARDING[node.op]
        node.attr["T"].type = tf_pb.DT_RESOURCE
        node.attr.pop(_OUTPUT_SHAPES, None)
        self._take_handles(node, set(range(len(data))))
        for index in range(1 if is_merge else outputs):
            tensor = Tensor(node.name, index)
            self._handles[tensor] = replace(handles[0], tensor=tensor, after=())

    def _variable_user(self, node: tf_pb.NodeDef) -> None:
        handle = self._handles[next(self._graph.inputs(node))]
        resource_op, attrs = VARIABLE_USERS[node.op]
        gives_ref = node.op not in _READ_ONLY_USERS
        self._read_values(node, keep_handle=0)
        values = {new: node.attr[old] for old, new in attrs.items() if old in node.attr}
        kept = {
            name: value
            for name, value in node.attr.items()
            if name.startswith("_") and name != _OUTPUT_SHAPES
        }
        replacement = tf_pb.NodeDef(name=node.name, op=resource_op, input=node.input)
        for name, value in {**kept, **values}.items():
            replacement.attr[name].CopyFrom(value)
        node.CopyFrom(replacement)
        if gives_ref:
            self._handles[Tensor(node.name, 0)] = replace(handle, after=(node.name,))

    def _become_read(self, node: tf_pb.NodeDef, handle: _Handle) -> None:
        if handle.is_table:
            raise UnsupportedError(
                "the value of a table's reference is read", where=self._graph.at(node.name)
            )
        node.op = "ReadVariableOp"
        attrs = {name: value for name, value in node.attr.items() if name.startswith("_")}
        node.ClearField("attr")
        for name, value in attrs.items():
            node.attr[name].CopyFrom(value)
        node.attr["dtype"].CopyFrom(type_attr(handle.dtype))
        self._take_handles(node, {0})

    def _take_handles(self, node: tf_pb.NodeDef, positions: set[int]) -> None:
        """Replaces references at some inputs by handles, and adds what must run before."""
        after: list[str] = []
        for position, tensor in enumerate(list(self._graph.inputs(node))):
            handle = self._handle(tensor)
            if position in positions and handle is not None:
                node.input[position] = str(handle.tensor)
                after.extend(f"^{name}" for name in handle.after)
        node.input.extend(name for name in dict.fromkeys(after) if name not in node.input)

    def _read_values(self, node: tf_pb.NodeDef, keep_handle: int | None = None) -> None:
        """Gives a node the value of each reference among its inputs, or one handle as it is."""
        control = self._runs_after(node)
        for position, tensor in enumerate(list(self._graph.inputs(node))):
            handle = self._handle(tensor)
            if handle is not None and position != keep_handle:
                node.input[position] = self._read(node.name, tensor, handle, control)
        if keep_handle is not None:
            self._take_handles(node, {keep_handle})

    def _runs_after(self, node: tf_pb.NodeDef) -> list[str]:
        """Returns control inputs that make a read happen no earlier than a node runs.

        TensorFlow leaves a control input out where a data input implies it, so data inputs that
        come after a change of state count too.
        """
        control: dict[str, None] = {}
        for tensor in self._graph.inputs(node):
            if tensor.is_control:
                control[str(tensor)] = None
            elif tensor.node in self._after_writes and tensor not in self._handles:
                source = tensor.node
                if self._graph.nodes[source].op == "Switch":
                    # A control edge from a Switch does not tell its branches apart.
                    source = self._identity(node.name, tensor)
                control[f"^{source}"] = None
        return list(control)

    def _identity(self, reader: str, tensor: Tensor) -> str:
        name = self._graph.unique_name(f"{reader}/Identity")
        dtype = self._graph.output(tensor).dtype
        self._graph.add("Identity", name, [str(tensor)], T=type_attr(dtype))
        return name

    def _read(self, reader: str, tensor: Tensor, handle: _Handle, control: list[str]) -> str:
        key = (reader, tensor)
        if key not in self._reads:
            name = self._graph.unique_name(f"{reader}/ReadVariableOp")
            node = self._graph.add("Identity", name, [str(tensor), *control])
            self._become_read(node, handle)
            self._reads[key] = name
        return self._reads[key]

    def _redirect_outputs(self) -> None:
        """Lets signatures and losses that gave a reference give its value."""
        variant = self._variant
        variant.regularization_losses = [
            self._value(name) for name in variant.regularization_losses
        ]
        for key, signature in variant.signatures.items():
            variant.signatures[key] = Signature(
                signature.name,
                signature.inputs,
                {name: self._endpoint(end) for name, end in signature.outputs.items()},
            )

    def _endpoint(self, endpoint: Endpoint) -> Endpoint:
        components = tuple(
            Component(self._value(c.name), c.dtype, c.shape) for c in endpoint.components
        )
        return replace(endpoint, components=components)

    def _value(self, name: str) -> str:
        tensor = parse_tensor(name)
        handle = self._handle(tensor)
        return self._read(tensor.node, tensor, handle, []) if handle else name


def _after_writes(graph: Graph) -> set[str]:
    """Returns the nodes that change a variable through its reference, and all that follow them."""
    writers = {
        node.name
        for node in graph.nodes.values()
        if node.op in VARIABLE_USERS and node.op not in _READ_ONLY_USERS
    }
    return writers | graph.descendants(Tensor(name, -1) for name in writers)
