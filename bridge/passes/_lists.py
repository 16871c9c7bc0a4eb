"""Raises TensorLists to TensorArrays, whose gradient works in the loops of TensorFlow 1.

The inverse of `bridge.passes.tensor_arrays`. A TensorList is a value; a TensorArray is a resource
that ops change by its handle, while a float `flow` that runs from one to the next keeps them in
order. The flow runs where the list ran; the handle never changes, and comes into branches and loops
from where the array was made.

So a list that several start from, each with a value of its own, must be as many arrays.

An item of a TensorArray can be written once. Where a program writes one again, TensorFlow 1 raises,
so that is refused where it can be seen. But the recurrent layers of Keras keep their last output in
a list of one item, which each step writes: such a list becomes the item itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bridge.attrs import bool_attr, int_attr, ints_of, shape_attr, type_attr
from bridge.errors import UnsupportedError
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.model import Shape, shape_to_proto
from bridge.passes._contexts import Context
from bridge.proto import tf_pb

_Written = frozenset[int]
"""The numbers of items that have been written whenever a flow is there, as far as is known."""

_EVERY: _Written = frozenset({-1})
"""All items, but those by which the array grows later."""

HINT = "save the model again without this use of a TensorArray or of a list of tensors"


def is_list_op(op: str) -> bool:
    """True for an op on lists of tensors."""
    return op.startswith(("TensorList", "EmptyTensorList"))


def _grows(node: tf_pb.NodeDef) -> bool:
    return node.op == "TensorListSetItem" and node.attr["resize_if_index_out_of_bounds"].b


def give_each_its_own(graph: Graph) -> None:
    """Gives each reader of a list that is yet to be filled one of its own.

    Equal lists may have become one node, such as those of the two directions of a recurrent layer.
    """
    consumers = graph.consumers()
    for node in [node for node in graph.nodes.values() if node.op == "TensorListReserve"]:
        readers = [
            (reader, position)
            for reader, position in consumers[node.name]
            if not parse_tensor(reader.input[position]).is_control
        ]
        for reader, position in readers[1:]:
            copy = tf_pb.NodeDef()
            copy.CopyFrom(node)
            copy.name = graph.unique_name(node.name)
            graph.nodes[copy.name] = copy
            reader.input[position] = copy.name


@dataclass(frozen=True)
class _Item:
    """The list of one item, as that item: its dtype and shape."""

    dtype: int
    shape: Shape


@dataclass(frozen=True)
class _Array:
    """A TensorArray: its handle, where it was made, and the dtype and shape of its items."""

    handle: Tensor
    dtype: int
    shape: Shape


@dataclass(frozen=True)
class _Op:
    """An op on lists that is to be replaced.

    Attributes:
      node: the op.
      inputs: its data inputs, of the context or outer ones.
      local: the same as they are in the context.
      context: where to add what replaces it.
      name: the wanted name.
    """

    node: tf_pb.NodeDef
    inputs: Sequence[Tensor]
    local: Sequence[Tensor]
    context: Context
    name: str

    def add(self, op: str, name: str, inputs: Sequence[Tensor], **attrs: tf_pb.AttrValue) -> Tensor:
        """Adds a node; returns its first output."""
        return Tensor(self.context.add(op, name, inputs, **attrs).name, 0)


class Lists:
    """The TensorArrays that stand for the lists of a graph."""

    def __init__(self, graph: Graph):
        """Takes the graph, whose library tells whether any list grows."""
        self._graph = graph
        self._arrays: dict[Tensor, _Array | _Item] = {}
        self._taken: set[Tensor] = set()
        self._written: dict[Tensor, _Written] = {}
        self._grow = any(_grows(node) for node in graph.all_nodes())

    def __contains__(self, tensor: Tensor) -> bool:
        """True for the flow of an array, and for what stands for a list of one item."""
        return tensor in self._arrays

    def same(self, tensor: Tensor, source: Tensor) -> None:
        """Notes that a tensor holds the same list as another one, if that is a list."""
        if source in self._arrays:
            self._arrays[tensor] = self._arrays[source]
            self._written[tensor] = self._written.get(source, frozenset())

    def merge(self, tensor: Tensor, first: Tensor, second: Tensor) -> None:
        """Notes that a tensor holds the one or the other of two lists, if they are lists.

        Raises:
          UnsupportedError: they are two arrays.
        """
        self.check_same(first, second, tensor.node)
        self.same(tensor, first)
        if tensor in self._arrays:
            self._written[tensor] &= self._written.get(second, frozenset())

    def check_same(self, first: Tensor, second: Tensor, where: str) -> None:
        """Refuses to let one of two lists flow on where these are two arrays.

        Raises:
          UnsupportedError: they are.
        """
        if self._arrays.get(first) != self._arrays.get(second):
            raise UnsupportedError(
                "two lists of tensors meet here that are not made from the same one",
                where=self._graph.at(where),
                hint=HINT,
            )

    def enter(self, tensor: Tensor, where: str) -> None:
        """Notes that a loop goes on with a list, if a tensor is one.

        Raises:
          UnsupportedError: something else has done so already.
        """
        if isinstance(self._arrays.get(tensor), _Array):
            self._take(tensor, where)

    def _take(self, flow: Tensor, where: str) -> None:
        if flow in self._taken:
            raise UnsupportedError(
                "two writes to a list of tensors start from the same one",
                where=self._graph.at(where),
                hint=HINT,
            )
        self._taken.add(flow)

    def convert(
        self, node: tf_pb.NodeDef, inputs: Sequence[Tensor], context: Context, name: str
    ) -> list[Tensor]:
        """Adds what does the same as an op on lists.

        Args:
          node: the op.
          inputs: its data inputs, of this context or outer ones.
          context: where to add it.
          name: the wanted name.

        Returns:
          Its outputs; for a list the flow.

        Raises:
          UnsupportedError: the op has no counterpart.
        """
        op = _Op(node, inputs, [context.bring_in(tensor) for tensor in inputs], context, name)
        if node.op in _MAKERS:
            return [_MAKERS[node.op](self, op)]
        array = self._arrays.get(inputs[0]) if inputs else None
        if isinstance(array, _Item) and node.op in _ITEM_USERS:
            return [_ITEM_USERS[node.op](self, op, array)]
        if isinstance(array, _Array) and node.op in _USERS:
            return _USERS[node.op](self, op, array)
        raise self._unsupported(op, f"op {node.op} has no form here in the loops of TensorFlow 1")

    def _unsupported(self, op: _Op, message: str) -> UnsupportedError:
        return UnsupportedError(message, where=self._graph.at(op.name), hint=HINT)

    # -- ops that make a list ----------------------------------------------------------------

    def _reserve(self, op: _Op) -> Tensor:
        shape = self._shape(op.inputs[0])
        if self._is_one(op.inputs[1]):
            return self._no_item(op, shape)
        return self._new(op, shape, op.local[1])

    def _from_tensor(self, op: _Op) -> Tensor:
        size = self._size(op, op.local[0])
        flow = self._new(op, self._shape(op.inputs[1]), size)
        return self._scatter(op, flow, self._range(op, size), op.local[0], _EVERY)

    def _scattered(self, op: _Op) -> Tensor:
        flow = self._new(op, self._shape(op.inputs[2]), self._size(op, op.local[1]))
        return self._scatter(op, flow, op.local[1], op.local[0], self._items(op.inputs[1]))

    def _split(self, op: _Op) -> Tensor:
        flow = self._new(op, self._shape(op.inputs[1]), self._size(op, op.local[2]))
        return self._write(op, "TensorArraySplitV3", flow, [op.local[0], op.local[2]], _EVERY)

    def _new(self, op: _Op, shape: Shape, size: Tensor) -> Tensor:
        """Adds an array; returns its flow."""
        dtype = op.node.attr["element_dtype"].type
        handle = op.add(
            "TensorArrayV3",
            f"{op.name}/TensorArray",
            [size],
            dtype=type_attr(dtype),
            element_shape=shape_attr(shape),
            dynamic_size=bool_attr(self._grow),
            clear_after_read=bool_attr(False),
            identical_element_shapes=bool_attr(False),
        )
        flow = Tensor(handle.node, 1)
        self._arrays[flow] = _Array(handle, dtype, shape)
        return flow

    # -- ops that use one --------------------------------------------------------------------

    def _set_item(self, op: _Op, _: _Array) -> list[Tensor]:
        flow, item = op.inputs[0], self._items(op.inputs[1])
        return [self._write(op, "TensorArrayWriteV3", flow, op.local[1:3], item)]

    def _scatter_into(self, op: _Op, _: _Array) -> list[Tensor]:
        flow, items = op.inputs[0], self._items(op.inputs[2])
        return [self._scatter(op, flow, op.local[2], op.local[1], items)]

    def _get_item(self, op: _Op, array: _Array) -> list[Tensor]:
        inputs = [op.context.bring_in(array.handle), op.local[1], op.local[0]]
        return [op.add("TensorArrayReadV3", op.name, inputs, dtype=type_attr(array.dtype))]

    def _gather(self, op: _Op, array: _Array) -> list[Tensor]:
        return [self._gathered(op, array, op.local[1], self._shape(op.inputs[2]))]

    def _stack(self, op: _Op, array: _Array) -> list[Tensor]:
        (size,) = self._length(op, array)
        return [self._gathered(op, array, self._range(op, size), self._shape(op.inputs[1]))]

    def _length(self, op: _Op, array: _Array) -> list[Tensor]:
        inputs = [op.context.bring_in(array.handle), op.local[0]]
        return [op.add("TensorArraySizeV3", f"{op.name}/size", inputs)]

    def _concat(self, op: _Op, array: _Array) -> list[Tensor]:
        shape = self._shape(op.inputs[1]) or array.shape
        found = op.add(
            "TensorArrayConcatV3",
            op.name,
            [op.context.bring_in(array.handle), op.local[0]],
            dtype=type_attr(array.dtype),
            element_shape_except0=shape_attr(None if shape is None else shape[1:]),
        )
        return [found, Tensor(found.node, 1)]

    def _gathered(self, op: _Op, array: _Array, items: Tensor, shape: Shape) -> Tensor:
        return op.add(
            "TensorArrayGatherV3",
            op.name,
            [op.context.bring_in(array.handle), items, op.local[0]],
            dtype=type_attr(array.dtype),
            element_shape=shape_attr(array.shape if shape is None else shape),
        )

    def _scatter(
        self, op: _Op, flow: Tensor, items: Tensor, values: Tensor, written: _Written
    ) -> Tensor:
        return self._write(op, "TensorArrayScatterV3", flow, [items, values], written)

    def _write(
        self, op: _Op, kind: str, flow: Tensor, inputs: Sequence[Tensor], written: _Written
    ) -> Tensor:
        """Adds a node that writes to an array; returns the flow after it.

        Raises:
          UnsupportedError: something that it writes has been written before.
        """
        array = self._arrays[flow]
        assert isinstance(array, _Array)
        before = self._written.get(flow, frozenset())
        grows = op.node.op != "TensorListSetItem" or _grows(op.node)
        if before & written or (before >= _EVERY and not grows):
            raise self._unsupported(
                op, "an item of a list of tensors is written again, which TensorFlow 1 can't do"
            )
        local = op.context.bring_in(flow)
        self._take(local, op.name)
        handle = op.context.bring_in(array.handle)
        after = op.add(kind, op.name, [handle, *inputs, local], T=type_attr(array.dtype))
        self.same(after, flow)
        self._written[after] = before | written
        return after

    # -- lists of one item -------------------------------------------------------------------

    def _is_one(self, size: Tensor) -> bool:
        node = self._graph.nodes[size.node]
        return node.op == "Const" and ints_of(node.attr["value"].tensor) == [1]

    def _no_item(self, op: _Op, shape: Shape) -> Tensor:
        """Adds what stands for an item that is yet to be written; its shape may change then."""
        dtype = op.node.attr["element_dtype"].type
        sizes = op.context.add_ints(f"{op.name}/shape", [size or 0 for size in shape or ()])
        value = tf_pb.TensorProto(tensor_shape=shape_to_proto(()))
        value.dtype = dtype
        pivot = [] if op.context.pivot is None else [Tensor(op.context.pivot.node, -1)]
        attrs = {"dtype": type_attr(dtype), "value": tf_pb.AttrValue(tensor=value)}
        zero = op.add("Const", f"{op.name}/zero", pivot, **attrs)
        attrs = {"T": type_attr(dtype), "index_type": type_attr(tf_pb.DT_INT32)}
        result = op.add("Fill", op.name, [sizes, zero], **attrs)
        self._arrays[result] = _Item(dtype, shape)
        return result

    def _write_item(self, op: _Op, item: _Item) -> Tensor:
        if _grows(op.node):
            raise self._unsupported(op, "a list that starts with one item grows")
        written = op.add("Identity", op.name, [op.local[2]], T=type_attr(item.dtype))
        self.same(written, op.inputs[0])
        return written

    def _read_item(self, op: _Op, item: _Item) -> Tensor:
        return op.add("Identity", op.name, [op.local[0]], T=type_attr(item.dtype))

    def _stack_item(self, op: _Op, item: _Item) -> Tensor:
        axis = op.context.add_ints(f"{op.name}/axis", 0)
        attrs = {"T": type_attr(item.dtype), "Tdim": type_attr(tf_pb.DT_INT32)}
        return op.add("ExpandDims", op.name, [op.local[0], axis], **attrs)

    def _count_item(self, op: _Op, _: _Item) -> Tensor:
        return op.context.add_ints(op.name, 1)

    # -- numbers -----------------------------------------------------------------------------

    def _items(self, tensor: Tensor) -> _Written:
        """Returns the items whose numbers a tensor holds, if that is a Const."""
        node = self._graph.nodes[tensor.node]
        numbers = ints_of(node.attr["value"].tensor) if node.op == "Const" else None
        return frozenset(numbers or ())

    def _range(self, op: _Op, size: Tensor) -> Tensor:
        """Adds the numbers of all items of an array."""
        name = f"{op.name}/range"
        start, step = (op.context.add_ints(f"{name}/Const", value) for value in (0, 1))
        return op.add("Range", name, [start, size, step], Tidx=type_attr(tf_pb.DT_INT32))

    def _size(self, op: _Op, tensor: Tensor) -> Tensor:
        """Adds the first dimension of a tensor."""
        name = f"{op.name}/size"
        dtype = type_attr(self._graph.output(tensor).dtype)
        int32 = type_attr(tf_pb.DT_INT32)
        shape = op.add("Shape", f"{op.name}/Shape", [tensor], T=dtype, out_type=int32)
        zero, one = (op.context.add_ints(f"{name}/Const", [value]) for value in (0, 1))
        attrs = {"T": int32, "Index": int32, "shrink_axis_mask": int_attr(1)}
        return op.add("StridedSlice", name, [shape, zero, one, one], **attrs)

    def _shape(self, tensor: Tensor) -> Shape:
        """Returns the shape that a Const holds; -1 alone stands for an unknown rank."""
        node = self._graph.nodes[tensor.node]
        if node.op != "Const":
            return None
        value = node.attr["value"].tensor
        if not value.tensor_shape.dim:
            return None
        return tuple(None if size < 0 else size for size in ints_of(value) or ())


_MAKERS = {
    "TensorListFromTensor": Lists._from_tensor,
    "TensorListReserve": Lists._reserve,
    "TensorListScatter": Lists._scattered,
    "TensorListSplit": Lists._split,
}
_USERS = {
    "TensorListConcatV2": Lists._concat,
    "TensorListGather": Lists._gather,
    "TensorListGetItem": Lists._get_item,
    "TensorListLength": Lists._length,
    "TensorListScatterIntoExistingList": Lists._scatter_into,
    "TensorListSetItem": Lists._set_item,
    "TensorListStack": Lists._stack,
}
_ITEM_USERS = {
    "TensorListGetItem": Lists._read_item,
    "TensorListLength": Lists._count_item,
    "TensorListSetItem": Lists._write_item,
    "TensorListStack": Lists._stack_item,
}
