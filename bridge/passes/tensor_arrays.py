"""Lowers TensorArrays to TensorLists, whose gradient works inside a While.

A TensorArray is a resource: ops change it by its handle, and a float `flow` that runs from one to
the next only keeps them in order. A TensorList is a value. The lowering lets the list run where the
flow ran: this is the same as long as the flow tells the whole story, that is, as long as no write
is lost whose flow goes nowhere.

| TensorArray op | becomes |
| --- | --- |
| TensorArrayV3 | TensorListReserve |
| TensorArrayWriteV3 | TensorListSetItem, growing the list if the array had `dynamic_size` |
| TensorArrayReadV3 | TensorListGetItem |
| TensorArrayGatherV3 | TensorListGather |
| TensorArrayScatterV3 | TensorListScatterIntoExistingList |
| TensorArrayConcatV3 | TensorListConcatV2 |
| TensorArraySplitV3 | TensorListSplit |
| TensorArraySizeV3 | TensorListLength |
| TensorArrayCloseV3 | NoOp |

All keep their names. `clear_after_read`, which only saves memory, has no counterpart.
"""

from __future__ import annotations

from bridge.attrs import bool_attr, ints_tensor_attr, type_attr
from bridge.errors import UnsupportedError
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.model import Shape, shape_from_proto
from bridge.passes._functions import add_int_const
from bridge.proto import tf_pb

_ARRAY = "TensorArrayV3"
_HANDLE_GATES = frozenset({"Enter", "Identity", "Switch"})
_FLOW_GATES = frozenset({"Enter", "Exit", "Identity", "Merge", "NextIteration", "Switch"})
# Position of `flow_in` among the inputs.
_FLOW_INPUT = {
    "TensorArrayWriteV3": 3,
    "TensorArrayScatterV3": 3,
    "TensorArraySplitV3": 3,
    "TensorArrayReadV3": 2,
    "TensorArrayGatherV3": 2,
    "TensorArrayConcatV3": 1,
    "TensorArraySizeV3": 1,
}
_WRITERS = frozenset({"TensorArrayWriteV3", "TensorArrayScatterV3", "TensorArraySplitV3"})
_CLOSE = "TensorArrayCloseV3"
_HINT = "export the module again without this use of a TensorArray"


def lower_tensor_arrays(graph: Graph) -> int:
    """Turns every TensorArray into a TensorList.

    Runs on v1 control flow, before functionalization.

    Args:
      graph: is changed.

    Returns:
      How many arrays there were.

    Raises:
      UnsupportedError: an op of an older or a gradient TensorArray, or a flow that does not tell in
        which order the array is written.
    """
    if not any(node.op.startswith("TensorArray") for node in graph.nodes.values()):
        return 0
    return _Lowering(graph).run()


class _Lowering:
    """Lowers the arrays of one graph."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.consumers = graph.consumers()
        self.shapes: dict[tuple[str, Shape], str] = {}
        # For each op, the array it works on.
        self.arrays = {
            node.name: self._array(node)
            for node in graph.nodes.values()
            if node.op.startswith("TensorArray")
        }

    def run(self) -> int:
        graph = self.graph
        arrays = [node for node in graph.nodes.values() if node.op == _ARRAY]
        gates = self._handle_gates([Tensor(node.name, 0) for node in arrays])
        flows = self._flows()
        self._check_flows(flows)
        for tensor in flows:
            node = graph.nodes[tensor.node]
            if node.op in _FLOW_GATES:
                node.attr["T"].type = tf_pb.DT_VARIANT
                node.attr.pop("_output_shapes", None)
        ops = [graph.nodes[name] for name in self.arrays]
        # Attributes of the array node are needed until its last op is done.
        for node in sorted(ops, key=lambda node: node.op == _ARRAY):
            self._lower(node)
        self._drop(gates)
        flow_of = {Tensor(node.name, 1): node.name for node in arrays}
        for node in graph.nodes.values():
            for position, tensor in enumerate(graph.inputs(node)):
                if tensor in flow_of:
                    node.input[position] = flow_of[tensor]
        return len(arrays)

    def _unsupported(self, node: tf_pb.NodeDef, message: str) -> UnsupportedError:
        return UnsupportedError(message, where=self.graph.at(node.name), hint=_HINT)

    def _array(self, op: tf_pb.NodeDef) -> tf_pb.NodeDef:
        if op.op not in (_ARRAY, _CLOSE, *_FLOW_INPUT):
            raise self._unsupported(op, f"op {op.op} can't be lowered to a TensorList")
        node = op
        while node.op in _HANDLE_GATES or node is op:
            if node.op == _ARRAY:
                return node
            node = self.graph.node(parse_tensor(node.input[0]).node)
        if node.op != _ARRAY:
            raise self._unsupported(op, "its TensorArray can't be told")
        return node

    def _handle_gates(self, handles: list[Tensor]) -> list[tuple[str, str]]:
        """Returns the nodes that only pass on a handle, each with the array it comes from."""
        gates: list[tuple[str, str]] = []
        stack = [(handle, handle.node) for handle in handles]
        while stack:
            handle, array = stack.pop()
            for node, position in self.consumers[handle.node]:
                tensor = parse_tensor(node.input[position])
                is_handle = not tensor.is_control and (
                    tensor == handle or tensor.node != array  # a Switch has two
                )
                if is_handle and node.op in _HANDLE_GATES:
                    gates.append((node.name, array))
                    stack.append((Tensor(node.name, 0), array))
                elif is_handle and (node.name not in self.arrays or position != 0):
                    raise self._unsupported(node, f"reads the handle of TensorArray {array!r}")
        return list(dict.fromkeys(gates))

    def _flows(self) -> dict[Tensor, None]:
        """Returns all flow tensors."""
        flows: dict[Tensor, None] = {}
        stack = [
            Tensor(name, 1 if self.graph.nodes[name].op == _ARRAY else 0)
            for name in self.arrays
            if self.graph.nodes[name].op in (_ARRAY, *_WRITERS)
        ]
        while stack:
            flow = stack.pop()
            if flow in flows:
                continue
            flows[flow] = None
            for node in self._readers(flow):
                if node.op in _FLOW_GATES:
                    stack += [Tensor(node.name, 0)]
                    stack += [Tensor(node.name, 1)] if node.op == "Switch" else []
        return flows

    def _readers(self, tensor: Tensor) -> list[tf_pb.NodeDef]:
        return [
            node
            for node, position in self.consumers[tensor.node]
            if parse_tensor(node.input[position]) == tensor
        ]

    def _check_flows(self, flows: dict[Tensor, None]) -> None:
        for flow in flows:
            readers = self._readers(flow)
            node = self.graph.nodes[flow.node]
            for reader in readers:
                if reader.op not in (*_FLOW_GATES, *_FLOW_INPUT):
                    raise self._unsupported(reader, "reads the flow of a TensorArray")
            if sum(reader.op in _WRITERS for reader in readers) > 1:
                raise self._unsupported(node, "two writes to a TensorArray start from here")
            if node.op in _WRITERS and not readers:
                raise self._unsupported(node, "writes to a TensorArray, and its flow goes nowhere")
        for name in self.arrays:
            node = self.graph.nodes[name]
            if node.op in _FLOW_INPUT:
                self._check_is_flow(node, node.input[_FLOW_INPUT[node.op]], flows)
        for flow in flows:
            node = self.graph.nodes[flow.node]
            if node.op == "Merge":
                for tensor in self.graph.inputs(node):
                    if not tensor.is_control:
                        self._check_is_flow(node, str(tensor), flows)

    def _check_is_flow(self, node: tf_pb.NodeDef, text: str, flows: dict[Tensor, None]) -> None:
        if parse_tensor(text) not in flows:
            raise self._unsupported(node, f"{text!r} is not the flow of a TensorArray")

    # -- rewriting -----------------------------------------------------------------------

    def _lower(self, node: tf_pb.NodeDef) -> None:
        array = self.arrays[node.name]
        dtype = self.graph.attr(array, "dtype").type
        own_shape = shape_from_proto(self.graph.attr(array, "element_shape").shape)
        data = [str(tensor) for tensor in self.graph.inputs(node) if not tensor.is_control]
        controls = [str(tensor) for tensor in self.graph.inputs(node) if tensor.is_control]
        old = node.op
        attrs = {"element_dtype": type_attr(dtype)}
        int32 = type_attr(tf_pb.DT_INT32)
        if old == _ARRAY:
            node.op, attrs["shape_type"] = "TensorListReserve", int32
            inputs = [self._shape(array, own_shape), data[0]]
        elif old == "TensorArrayWriteV3":
            node.op = "TensorListSetItem"
            grows = self.graph.attr(array, "dynamic_size").b
            attrs["resize_if_index_out_of_bounds"] = bool_attr(grows)
            inputs = [data[3], data[1], data[2]]
        elif old == "TensorArrayReadV3":
            node.op = "TensorListGetItem"
            inputs = [data[2], data[1], self._shape(array, own_shape)]
        elif old == "TensorArrayGatherV3":
            shape = shape_from_proto(self.graph.attr(node, "element_shape").shape)
            node.op = "TensorListGather"
            shape = own_shape if shape is None else shape
            inputs = [data[2], data[1], self._shape(array, shape)]
        elif old == "TensorArrayScatterV3":
            node.op = "TensorListScatterIntoExistingList"
            inputs = [data[3], data[2], data[1]]
        elif old == "TensorArrayConcatV3":
            shape = shape_from_proto(self.graph.attr(node, "element_shape_except0").shape)
            node.op, attrs["shape_type"] = "TensorListConcatV2", int32
            shape = None if shape is None else (None, *shape)
            inputs = [data[1], self._shape(array, shape), self._no_lengths(array)]
        elif old == "TensorArraySplitV3":
            node.op, attrs["shape_type"] = "TensorListSplit", int32
            inputs = [data[1], self._shape(array, own_shape), data[2]]
        elif old == "TensorArraySizeV3":
            node.op, attrs, inputs = "TensorListLength", {}, [data[1]]
        else:
            node.op, attrs, inputs = "NoOp", {}, []
        node.input[:] = [*inputs, *controls]
        node.attr.clear()
        for name, value in attrs.items():
            node.attr[name].CopyFrom(value)

    def _shape(self, array: tf_pb.NodeDef, shape: Shape) -> str:
        """Returns a Const with an element shape, where -1 alone stands for an unknown rank."""
        key = (array.name, shape)
        if key not in self.shapes:
            value = -1 if shape is None else [-1 if d is None else d for d in shape]
            self.shapes[key] = add_int_const(self.graph, f"{array.name}/element_shape", value)
        return self.shapes[key]

    def _no_lengths(self, array: tf_pb.NodeDef) -> str:
        """Returns the `leading_dims` of a list all of whose items are there: an empty vector."""
        name = self.graph.unique_name(f"{array.name}/leading_dims")
        value = ints_tensor_attr(tf_pb.DT_INT64, [])
        self.graph.add("Const", name, dtype=type_attr(tf_pb.DT_INT64), value=value)
        return name

    def _drop(self, gates: list[tuple[str, str]]) -> None:
        """Drops the nodes that passed on handles; what waited for one waits for its array."""
        for name, array in gates:
            for node, _ in self.consumers[name]:
                waits = f"^{name}"
                if waits in node.input:
                    kept = [text for text in node.input if text not in (waits, f"^{array}")]
                    node.input[:] = [*kept, f"^{array}"]
        for name, _ in gates:
            self.graph.nodes.pop(name, None)
