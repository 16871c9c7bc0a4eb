"""Raises TensorLists to TensorArrays, whose gradient works in the loops of TensorFlow 1.

The inverse of `bridge.passes.tensor_arrays`. A TensorList is a value; a TensorArray is a resource
that ops change by its handle, while a float `flow` that runs from one to the next keeps them in
order. The flow runs where the list ran; the handle never changes, and comes into branches and loops
from where the array was made.

An item of a TensorArray can be written once. Where a program writes one again, TensorFlow 1 raises.
But the recurrent layers of Keras keep their last output in a list of one item, which each step
writes: such a list becomes the item itself.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.attrs import bool_attr, int_attr, shape_attr, type_attr
from bridge.errors import UnsupportedError
from bridge.graph import Graph, Tensor
from bridge.model import Shape, shape_to_proto
from bridge.passes._contexts import Context
from bridge.proto import tf_pb

_HINT = "save the model again without this use of a TensorArray or of a list of tensors"


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


class Lists:
    """The TensorArrays that stand for the lists of a graph."""

    def __init__(self, graph: Graph):
        """Takes the graph, whose library tells whether any list grows."""
        self._graph = graph
        self._arrays: dict[Tensor, _Array | _Item] = {}
        self._written: set[Tensor] = set()
        self._grow = any(
            node.op == "TensorListSetItem" and node.attr["resize_if_index_out_of_bounds"].b
            for node in graph.all_nodes()
        )

    def __contains__(self, tensor: Tensor) -> bool:
        """True for the flow of an array, and for what stands for a list of one item."""
        return tensor in self._arrays

    def same(self, tensor: Tensor, source: Tensor) -> None:
        """Notes that a tensor holds the same list as another one, if that is a list."""
        if source in self._arrays:
            self._arrays[tensor] = self._arrays[source]

    def check_same(self, first: Tensor, second: Tensor, where: str) -> None:
        """Refuses to let one of two lists flow on where these are two arrays.

        Raises:
          UnsupportedError: they are.
        """
        if self._arrays.get(first) != self._arrays.get(second):
            raise UnsupportedError(
                "two lists of tensors meet here that are not made from the same one",
                where=self._graph.at(where),
                hint=_HINT,
            )

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
        local = [context.bring_in(tensor) for tensor in inputs]
        dtype = node.attr["element_dtype"].type
        if node.op == "TensorListReserve":
            if self._is_one(inputs[1]):
                return [self._no_item(dtype, self._shape(inputs[0]), context, name)]
            return [self._new(dtype, self._shape(inputs[0]), local[1], context, name)]
        if node.op == "TensorListFromTensor":
            size = self._size(local[0], context, name)
            flow = self._new(dtype, self._shape(inputs[1]), size, context, name)
            items = self._range(size, context, name)
            return [self._scatter(flow, items, local[0], context, name)]
        if node.op in ("TensorListScatter", "TensorListScatterV2"):
            size = self._size(local[1], context, name)
            if node.op == "TensorListScatterV2":
                # -1 stands for as many as it takes.
                size = local[3]
            flow = self._new(dtype, self._shape(inputs[2]), size, context, name)
            return [self._scatter(flow, local[1], local[0], context, name)]
        if node.op == "TensorListSplit":
            size = self._size(local[2], context, name)
            flow = self._new(dtype, self._shape(inputs[1]), size, context, name)
            handle = self._handle(flow, context)
            args = [handle, local[0], local[2], flow]
            return [self._write("TensorArraySplitV3", flow, args, context, name)]
        array = self._array(node, inputs)
        if isinstance(array, _Item):
            return [self._use_item(node, inputs, local, context, name)]
        handle = context.bring_in(array.handle)
        if node.op == "TensorListSetItem":
            args = [handle, local[1], local[2], local[0]]
            return [self._write("TensorArrayWriteV3", inputs[0], args, context, name)]
        if node.op == "TensorListScatterIntoExistingList":
            return [self._scatter(inputs[0], local[2], local[1], context, name)]
        flow = local[0]
        if node.op == "TensorListGetItem":
            return self._read("TensorArrayReadV3", [handle, local[1], flow], array, context, name)
        if node.op == "TensorListGather":
            shape = self._shape(inputs[2]) or array.shape
            return self._gather(handle, local[1], flow, array.dtype, shape, context, name)
        length = context.add("TensorArraySizeV3", f"{name}/size", [handle, flow])
        size = Tensor(length.name, 0)
        if node.op == "TensorListLength":
            return [size]
        if node.op == "TensorListStack":
            shape = self._shape(inputs[1]) or array.shape
            items = self._range(size, context, name)
            return self._gather(handle, items, flow, array.dtype, shape, context, name)
        if node.op == "TensorListConcatV2":
            found = context.add(
                "TensorArrayConcatV3",
                name,
                [handle, flow],
                dtype=type_attr(array.dtype),
                element_shape_except0=shape_attr((self._shape(inputs[1]) or (None,))[1:] or None),
            )
            return [Tensor(found.name, 0), Tensor(found.name, 1)]
        raise UnsupportedError(
            f"op {node.op} has no form in the loops of TensorFlow 1",
            where=self._graph.at(name),
            hint=_HINT,
        )

    def _handle(self, flow: Tensor, context: Context) -> Tensor:
        array = self._arrays[flow]
        assert isinstance(array, _Array)
        return context.bring_in(array.handle)

    def _array(self, node: tf_pb.NodeDef, inputs: Sequence[Tensor]) -> _Array | _Item:
        if not inputs or inputs[0] not in self._arrays:
            raise UnsupportedError(
                f"op {node.op} has no form in the loops of TensorFlow 1, or its list is made in a "
                "way that has none",
                where=self._graph.at(node.name),
                hint=_HINT,
            )
        return self._arrays[inputs[0]]

    # -- lists of one item -------------------------------------------------------------------

    def _is_one(self, size: Tensor) -> bool:
        node = self._graph.nodes[size.node]
        return node.op == "Const" and _ints(node.attr["value"].tensor) == [1]

    def _no_item(self, dtype: int, shape: Shape, context: Context, name: str) -> Tensor:
        """Adds what stands for an item that is yet to be written; its shape may change then."""
        sizes = context.add_ints(f"{name}/shape", [size or 0 for size in shape or ()])
        value = tf_pb.TensorProto(tensor_shape=shape_to_proto(()))
        value.dtype = dtype  # type: ignore[assignment]  # DataType members are ints
        pivot = [] if context.pivot is None else [Tensor(context.pivot.node, -1)]
        attrs = {"dtype": type_attr(dtype), "value": tf_pb.AttrValue(tensor=value)}
        zero = context.add("Const", f"{name}/zero", pivot, **attrs)
        node = context.add(
            "Fill",
            name,
            [sizes, Tensor(zero.name, 0)],
            T=type_attr(dtype),
            index_type=type_attr(tf_pb.DT_INT32),
        )
        result = Tensor(node.name, 0)
        self._arrays[result] = _Item(dtype, shape)
        return result

    def _use_item(
        self,
        node: tf_pb.NodeDef,
        inputs: Sequence[Tensor],
        local: list[Tensor],
        context: Context,
        name: str,
    ) -> Tensor:
        item = self._arrays[inputs[0]]
        dtype = type_attr(item.dtype)
        if node.op == "TensorListSetItem" and not node.attr["resize_if_index_out_of_bounds"].b:
            written = Tensor(context.add("Identity", name, [local[2]], T=dtype).name, 0)
            self.same(written, inputs[0])
            return written
        if node.op == "TensorListGetItem":
            return Tensor(context.add("Identity", name, [local[0]], T=dtype).name, 0)
        if node.op == "TensorListStack":
            axis = context.add_ints(f"{name}/axis", 0)
            int32 = type_attr(tf_pb.DT_INT32)
            found = context.add("ExpandDims", name, [local[0], axis], T=dtype, Tdim=int32)
            return Tensor(found.name, 0)
        if node.op == "TensorListLength":
            return context.add_ints(name, 1)
        raise UnsupportedError(
            f"op {node.op} of a list of one item has no form in the loops of TensorFlow 1",
            where=self._graph.at(name),
            hint=_HINT,
        )

    # -- nodes -------------------------------------------------------------------------------

    def _new(self, dtype: int, shape: Shape, size: Tensor, context: Context, name: str) -> Tensor:
        node = context.add(
            "TensorArrayV3",
            f"{name}/TensorArray",
            [size],
            dtype=type_attr(dtype),
            element_shape=shape_attr(shape),
            dynamic_size=bool_attr(self._grow),
            clear_after_read=bool_attr(False),
            identical_element_shapes=bool_attr(False),
        )
        flow = Tensor(node.name, 1)
        self._arrays[flow] = _Array(Tensor(node.name, 0), dtype, shape)
        return flow

    def _scatter(
        self, flow: Tensor, items: Tensor, values: Tensor, context: Context, name: str
    ) -> Tensor:
        handle = self._handle(flow, context)
        args = [handle, items, values, context.bring_in(flow)]
        return self._write("TensorArrayScatterV3", flow, args, context, name)

    def _write(
        self, op: str, flow: Tensor, inputs: list[Tensor], context: Context, name: str
    ) -> Tensor:
        if inputs[-1] in self._written:
            raise UnsupportedError(
                "two writes to a list of tensors start from the same one",
                where=self._graph.at(name),
                hint=_HINT,
            )
        self._written.add(inputs[-1])
        node = context.add(op, name, inputs, T=type_attr(self._arrays[flow].dtype))
        result = Tensor(node.name, 0)
        self.same(result, flow)
        return result

    def _read(
        self, op: str, inputs: list[Tensor], array: _Array, context: Context, name: str
    ) -> list[Tensor]:
        node = context.add(op, name, inputs, dtype=type_attr(array.dtype))
        return [Tensor(node.name, 0)]

    def _gather(
        self,
        handle: Tensor,
        items: Tensor,
        flow: Tensor,
        dtype: int,
        shape: Shape,
        context: Context,
        name: str,
    ) -> list[Tensor]:
        node = context.add(
            "TensorArrayGatherV3",
            name,
            [handle, items, flow],
            dtype=type_attr(dtype),
            element_shape=shape_attr(shape),
        )
        return [Tensor(node.name, 0)]

    def _range(self, size: Tensor, context: Context, name: str) -> Tensor:
        """Adds the numbers of all items of an array."""
        start, step = (context.add_ints(f"{name}/range/Const", value) for value in (0, 1))
        int32 = type_attr(tf_pb.DT_INT32)
        node = context.add("Range", f"{name}/range", [start, size, step], Tidx=int32)
        return Tensor(node.name, 0)

    def _size(self, tensor: Tensor, context: Context, name: str) -> Tensor:
        """Adds the first dimension of a tensor."""
        dtype = type_attr(self._graph.output(tensor).dtype)
        int32 = type_attr(tf_pb.DT_INT32)
        shape = context.add("Shape", f"{name}/Shape", [tensor], T=dtype, out_type=int32)
        zero, one = (context.add_ints(f"{name}/size/Const", [value]) for value in (0, 1))
        node = context.add(
            "StridedSlice",
            f"{name}/size",
            [Tensor(shape.name, 0), zero, one, one],
            T=int32,
            Index=int32,
            shrink_axis_mask=int_attr(1),
        )
        return Tensor(node.name, 0)

    def _shape(self, tensor: Tensor) -> Shape:
        """Returns the shape that a Const holds; -1 alone stands for an unknown rank."""
        node = self._graph.nodes[tensor.node]
        if node.op != "Const":
            return None
        proto = node.attr["value"].tensor
        sizes = _ints(proto)
        if not proto.tensor_shape.dim:
            return None
        return tuple(None if size < 0 else size for size in sizes)


def _ints(proto: tf_pb.TensorProto) -> list[int]:
    """Returns the numbers of an int32 or int64 tensor."""
    count = math.prod(dim.size for dim in proto.tensor_shape.dim)
    wide = proto.dtype == tf_pb.DT_INT64
    if proto.tensor_content:
        return list(struct.unpack(f"<{count}{'q' if wide else 'i'}", proto.tensor_content))
    values = list(proto.int64_val if wide else proto.int_val) or [0]
    # The last value stands for all that follow.
    return (values + [values[-1]] * (count - len(values)))[:count]
