"""Replaces single nodes by others that compute the same, in graphs and in bodies of functions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import ClassVar

from bridge.attrs import int_attr, ints_of, ints_tensor_attr, type_attr
from bridge.errors import Where
from bridge.graph import Graph, OutputArg, Tensor, parse_tensor
from bridge.model import Shape, Variant, shape_from_proto, shape_to_proto
from bridge.passes._bodies import open_body
from bridge.passes._infra import VariantPass
from bridge.passes._shapes import ShapeReader
from bridge.proto import tf_pb
from bridge.report import Report

_SHAPES = "_output_shapes"

Size = int | str
"""An extent: a number, or the name of an int32 scalar that holds it when the graph runs."""


class ReplaceNodes(VariantPass):
    """Base of passes that look at one node after another.

    A node that is replaced keeps its name and its control edges: it becomes the last of the nodes
    that do its work. So whoever reads its first output, or waits for it, need not change.
    """

    ops: ClassVar[frozenset[str]]
    """The ops of the nodes that `replace` gets."""

    def rewrite(self, variant: Variant, report: Report) -> int:
        """Rewrites one variant, and the functions that its graph has."""
        del report
        graph = variant.graph
        count, moved = self._replace_all(graph)
        variant.retarget(lambda name: moved.get(parse_tensor(name), name))
        for name, function in list(graph.functions.items()):
            if any(node.op in self.ops for node in function.node_def):
                body = open_body(graph, name)
                replaced, moved = self._replace_all(body.graph)
                body.outputs = [
                    (output, parse_tensor(moved.get(tensor, str(tensor))))
                    for output, tensor in body.outputs
                ]
                graph.functions[name] = body.close()
                count += replaced
        return count

    def replace(self, new: Replacement) -> bool:
        """Replaces a node, if it must be.

        Args:
          new: the node, which has one of `ops`, and what adds nodes in its place.

        Returns:
          Whether anything was changed.
        """
        raise NotImplementedError

    def _replace_all(self, graph: Graph) -> tuple[int, dict[Tensor, str]]:
        """Returns how many nodes were replaced, and what to read instead of some tensors."""
        shapes = functools.cache(lambda: ShapeReader(graph, _recorded_shapes(graph)))
        moved: dict[Tensor, str] = {}
        movers: dict[Tensor, set[str]] = {}
        count = 0
        for node in [node for node in graph.nodes.values() if node.op in self.ops]:
            new = Replacement(graph, node, shapes)
            count += self.replace(new)
            moved |= new.moved
            movers |= dict.fromkeys(new.moved, new.added)
        if moved:
            for node in graph.nodes.values():
                if moved.keys().isdisjoint(graph.inputs(node)):
                    continue
                for position, tensor in enumerate(graph.inputs(node)):
                    # What stands for a tensor may itself be made of it.
                    if tensor in moved and node.name not in movers[tensor]:
                        node.input[position] = moved[tensor]
        return count, moved


class Replacement:
    """A node, and what adds the nodes that take its place, in its scope.

    Tensors go by name, as `NodeDef.input` has them.

    Attributes:
      name: name of the node.
      op: its op.
      added: names of the nodes that were added.
      moved: for outputs of the node, the tensors to read instead.
    """

    def __init__(self, graph: Graph, node: tf_pb.NodeDef, shapes: Callable[[], ShapeReader]):
        """Takes the node's graph, and who knows its shapes."""
        self.name = node.name
        self.op = node.op
        self.added: set[str] = set()
        self.moved: dict[Tensor, str] = {}
        self._graph = graph
        self._node = node
        self._shapes = shapes
        self._shape_ops: dict[str, str] = {}
        self._sizes: dict[tuple[str, int], str] = {}

    # -- what is there -----------------------------------------------------------------------

    @property
    def where(self) -> Where:
        """The node's place, for an error."""
        return self._graph.at(self._node.name)

    @property
    def inputs(self) -> list[str]:
        """The node's data inputs."""
        return [name for name in self._node.input if not name.startswith("^")]

    @property
    def outputs(self) -> list[OutputArg]:
        """The node's outputs."""
        return self._graph.outputs(self._node)

    def attr(self, name: str) -> tf_pb.AttrValue:
        """Returns an attribute of the node, or its default."""
        return self._graph.attr(self._node, name)

    def attrs(self) -> dict[str, tf_pb.AttrValue]:
        """Returns copies of the node's attributes, but for notes of the exporter."""
        result = {name: tf_pb.AttrValue() for name in self._node.attr if not name.startswith("_")}
        for name, value in result.items():
            value.CopyFrom(self._node.attr[name])
        return result

    def dtype(self, tensor: str) -> int:
        """Returns the type of a tensor."""
        return self._graph.output(parse_tensor(tensor)).dtype

    def shape(self, tensor: str) -> Shape:
        """Returns the static shape of a tensor."""
        return self._shapes().shape(parse_tensor(tensor))

    def const(self, tensor: str) -> list[int] | None:
        """Returns the elements of an int32 Const of at most one axis; None for anything else."""
        node = self._graph.nodes.get(parse_tensor(tensor).node)
        if node is None or node.op != "Const":
            return None
        value = self._graph.attr(node, "value").tensor
        if value.dtype != tf_pb.DT_INT32 or len(value.tensor_shape.dim) > 1:
            return None
        return ints_of(value)

    # -- what comes --------------------------------------------------------------------------

    def add(self, op: str, name: str, inputs: Sequence[str], **attrs: tf_pb.AttrValue) -> str:
        """Adds a node; returns its first output."""
        name = self._graph.unique_name(f"{self._node.name}/{name}")
        self._graph.add(op, name, inputs, **attrs)
        self.added.add(name)
        return name

    def become(self, op: str, inputs: Sequence[str], **attrs: tf_pb.AttrValue) -> None:
        """Makes the node another one, which runs after the same nodes as before."""
        node = self._node
        controls = [name for name in node.input if name.startswith("^")]
        shapes = list(node.attr[_SHAPES].list.shape) if _SHAPES in node.attr else []
        node.op = op
        node.input[:] = [*inputs, *controls]
        node.attr.clear()
        if shapes:  # that of the first output stays true, and later passes may ask for it
            node.attr[_SHAPES].list.shape.add().CopyFrom(shapes[0])
        for key, value in attrs.items():
            node.attr[key].CopyFrom(value)

    def become_identity(self, tensor: str) -> None:
        """Lets the node hand on a tensor."""
        self.become("Identity", [tensor], T=type_attr(self.dtype(tensor)))

    def math(self, op: str, *inputs: str) -> str:
        """Adds a node whose inputs have one type, given by attribute `T`; returns its output."""
        return self.add(op, op, inputs, T=type_attr(self.dtype(inputs[0])))

    def cast(self, tensor: str, dtype: int) -> str:
        """Converts a tensor, unless it has the type."""
        own = self.dtype(tensor)
        if own == dtype:
            return tensor
        return self.add("Cast", "Cast", [tensor], SrcT=type_attr(own), DstT=type_attr(dtype))

    def ints(self, name: str, values: int | Sequence[int]) -> str:
        """Adds an int32 Const, scalar or vector."""
        value = ints_tensor_attr(tf_pb.DT_INT32, values)
        return self.add("Const", name, (), dtype=type_attr(tf_pb.DT_INT32), value=value)

    def numbers(self, name: str, values: float | Sequence[float], dtype: int) -> str:
        """Adds a Const of a float type, scalar or vector."""
        numbers = [values] if isinstance(values, (int, float)) else list(values)
        shape = shape_to_proto(() if isinstance(values, (int, float)) else (len(numbers),))
        value = tf_pb.TensorProto(dtype=tf_pb.DT_FLOAT, tensor_shape=shape, float_val=numbers)
        const = self.add(
            "Const",
            name,
            (),
            dtype=type_attr(tf_pb.DT_FLOAT),
            value=tf_pb.AttrValue(tensor=value),
        )
        return self.cast(const, dtype)

    def size(self, tensor: str, axis: int) -> Size:
        """Returns the extent of a tensor along an axis, which must not be negative."""
        shape = self.shape(tensor)
        extent = shape[axis] if shape is not None and axis < len(shape) else None
        if extent is not None:
            return extent
        if (tensor, axis) not in self._sizes:
            self._sizes[tensor, axis] = self._measure(tensor, axis)
        return self._sizes[tensor, axis]

    def shape_of(self, tensor: str) -> str:
        """Returns the shape of a tensor as an int32 vector, read when the graph runs."""
        if tensor not in self._shape_ops:
            self._shape_ops[tensor] = self.add(
                "Shape",
                "Shape",
                [tensor],
                T=type_attr(self.dtype(tensor)),
                out_type=type_attr(tf_pb.DT_INT32),
            )
        return self._shape_ops[tensor]

    def _measure(self, tensor: str, axis: int) -> str:
        ints = type_attr(tf_pb.DT_INT32)
        begin, end = self.ints("begin", [axis]), self.ints("end", [axis + 1])
        return self.add(
            "StridedSlice",
            "size",
            [self.shape_of(tensor), begin, end, self.ints("strides", [1])],
            T=ints,
            Index=ints,
            shrink_axis_mask=int_attr(1),
        )

    def scalar(self, size: Size) -> str:
        """Returns the scalar that holds an extent."""
        return self.ints("value", size) if isinstance(size, int) else size

    def combine(self, op: str, first: Size, second: Size) -> Size:
        """Computes `Mul`, `AddV2`, `Sub` or `FloorMod` of two extents, now if both are known."""
        if isinstance(first, int) and isinstance(second, int):
            return {
                "Mul": first * second,
                "AddV2": first + second,
                "Sub": first - second,
                "FloorMod": first % (second or 1),
            }[op]
        if op == "Mul" and 1 in (first, second):
            return second if first == 1 else first
        return self.math(op, self.scalar(first), self.scalar(second))

    def product(self, sizes: Sequence[Size]) -> Size:
        """Returns the product of extents."""
        result: Size = 1
        for size in sizes:
            result = self.combine("Mul", result, size)
        return result

    def vector(self, sizes: Sequence[Size]) -> str:
        """Returns an int32 vector of extents."""
        known = [size for size in sizes if isinstance(size, int)]
        if len(known) == len(sizes):
            return self.ints("values", known)
        scalars = [self.scalar(size) for size in sizes]
        return self.add(
            "Pack", "values", scalars, N=int_attr(len(sizes)), T=type_attr(tf_pb.DT_INT32)
        )

    def reshape(self, tensor: str, sizes: Sequence[Size]) -> str:
        """Gives a tensor another shape; one size may be -1, which stands for what is left."""
        unknown = [size for size in sizes if not isinstance(size, int)]
        if len(unknown) == 1 and 0 not in sizes and -1 not in sizes:
            # Reshape finds it by itself; an empty tensor would not tell it.
            sizes = [size if isinstance(size, int) else -1 for size in sizes]
        return self.add(
            "Reshape",
            "Reshape",
            [tensor, self.vector(sizes)],
            T=type_attr(self.dtype(tensor)),
            Tshape=type_attr(tf_pb.DT_INT32),
        )

    def reduce(self, op: str, tensor: str, axes: Sequence[int]) -> str:
        """Adds a reduction, such as `Sum`, over axes that go; there may be none."""
        if not axes:
            return tensor
        return self.add(
            op,
            op,
            [tensor, self.ints("axes", axes)],
            T=type_attr(self.dtype(tensor)),
            Tidx=type_attr(tf_pb.DT_INT32),
        )

    def transpose(self, tensor: str, order: Sequence[int]) -> str:
        """Moves axis `order[i]` to position `i`, unless all are there already."""
        if list(order) == sorted(order):
            return tensor
        return self.add(
            "Transpose",
            "Transpose",
            [tensor, self.ints("perm", order)],
            T=type_attr(self.dtype(tensor)),
            Tperm=type_attr(tf_pb.DT_INT32),
        )


def _recorded_shapes(graph: Graph) -> dict[Tensor, Shape]:
    """Returns the shapes that the exporter noted at nodes, where it knew the rank."""
    return {
        Tensor(node.name, position): shape_from_proto(shape)
        for node in graph.nodes.values()
        if _SHAPES in node.attr
        for position, shape in enumerate(node.attr[_SHAPES].list.shape)
        if not shape.unknown_rank
    }
