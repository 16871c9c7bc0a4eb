"""Static shapes, as far as they are plain to see.

TensorFlow infers the shapes of a loaded function by itself, but not past an If or a While: what it
is to know of their outputs stands in `output_shapes`. This module finds it, for the ops that image
models are made of. Any other op gives an unknown shape, which is always right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

from bridge.attrs import ints_of
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.model import Shape, shape_from_proto
from bridge.ops import FUSED_BATCH_NORMS
from bridge.passes._functions import handle_data
from bridge.proto import tf_pb

# Ops whose (first) output has the shape of their first input.
# fmt: off
_SAME = frozenset({
    "Abs", "BiasAdd", "Cast", "Ceil", "Cos", "Elu", "Enter", "Exit", "Exp",
    "FakeQuantWithMinMaxVars", "Floor", "FusedBatchNorm", "FusedBatchNormV2",
    "FusedBatchNormV3", "Identity", "LRN", "LeakyRelu", "Log", "Log1p", "LogSoftmax",
    "LoopCond", "Neg", "NextIteration", "OnesLike", "PreventGradient", "Reciprocal", "Relu",
    "Relu6", "Round", "Rsqrt", "Selu", "Sigmoid", "Sign", "Sin", "Softmax", "Softplus",
    "Softsign", "Sqrt", "Square", "StopGradient", "Switch", "Tanh", "ZerosLike"
})
# fmt: on
# Ops whose output has the shape that two inputs broadcast to.
# fmt: off
_BROADCAST = frozenset({
    "Add", "AddV2", "Div", "DivNoNan", "Equal", "FloorDiv", "FloorMod", "Greater",
    "GreaterEqual", "Less", "LessEqual", "LogicalAnd", "LogicalOr", "Maximum", "Minimum", "Mul",
    "Pow", "RealDiv", "SquaredDifference", "Sub"
})
# fmt: on
_BY_INPUTS = _SAME | _BROADCAST
_REDUCE = frozenset({"All", "Any", "Max", "Mean", "Min", "Prod", "Sum"})
_POOL = frozenset({"AvgPool", "MaxPool"})
_CONV = frozenset({"Conv2D", "DepthwiseConv2dNative"})


def common_shape(first: Shape, second: Shape) -> Shape:
    """Returns what two shapes agree on."""
    if first is None or second is None or len(first) != len(second):
        return None
    return tuple(a if a == b else None for a, b in zip(first, second, strict=True))


def invariant_shapes(
    graph: Graph,
    loop_vars: Sequence[tuple[Tensor, tuple[Tensor, ...], Tensor]],
    outside: ShapeReader,
    entered: dict[Tensor, Shape],
) -> list[Shape]:
    """Returns the shapes that loop variables keep over all iterations.

    Args:
      graph: the graph.
      loop_vars: for each, its value before the loop, the tensors that hold it inside, and its
        value after one iteration.
      outside: knows the shapes outside of the loop.
      entered: the shapes of what comes into the loop.
    """
    shapes = [outside.shape(start) for start, _, _ in loop_vars]
    # If the body keeps the shapes that the loop starts with, induction does the rest; if not, what
    # it keeps may be less, and the others may have relied on it.
    while True:
        known = dict(entered)
        for (_, inside, _), shape in zip(loop_vars, shapes, strict=True):
            known.update(dict.fromkeys(inside, shape))
        reader = ShapeReader(graph, known)
        kept = [
            common_shape(shape, reader.shape(result))
            for (_, _, result), shape in zip(loop_vars, shapes, strict=True)
        ]
        if kept == shapes:
            return shapes
        shapes = kept


class _Call(NamedTuple):
    """A node, with its data inputs and their shapes."""

    node: tf_pb.NodeDef
    inputs: list[Tensor]
    shapes: list[Shape]


class ShapeReader:
    """Finds static shapes in a graph that may change, but not in what its tensors are."""

    def __init__(self, graph: Graph, known: dict[Tensor, Shape] | None = None):
        """Creates a reader.

        Args:
          graph: the graph.
          known: shapes to take for granted.
        """
        self._graph = graph
        self._known: dict[Tensor, Shape] = dict(known or {})

    def __contains__(self, tensor: Tensor) -> bool:
        """True if the shape of a tensor was given, or asked for."""
        return tensor in self._known

    def shape(self, tensor: Tensor) -> Shape:
        """Returns the static shape of a tensor."""
        # Without recursion: the graph may be deeper than Python's stack.
        stack = [tensor]
        entered: set[Tensor] = set()
        while stack:
            current = stack[-1]
            if current in self._known:
                stack.pop()
            elif current in entered:
                stack.pop()
                self._known[current] = self._infer(current)
            else:
                entered.add(current)
                node = self._graph.nodes.get(current.node)
                # Past an op whose shape does not follow from its inputs, the walk would be in vain.
                if node is not None and (node.op in _BY_INPUTS or node.op in self._by_op):
                    inputs = [t for t in self._graph.inputs(node) if not t.is_control]
                    stack += [t for t in inputs if t not in self._known and t not in entered]
        return self._known[tensor]

    def _infer(self, tensor: Tensor) -> Shape:
        node = self._graph.nodes.get(tensor.node)
        if node is None:
            return None
        inputs = [t for t in self._graph.inputs(node) if not t.is_control]
        # An input on a cycle is not known yet, and none is that the op has no need of.
        shapes = [self._known.get(t) for t in inputs]
        try:
            return self._infer_node(node, tensor.output, inputs, shapes)
        except (IndexError, ValueError):  # malformed: not this module's to report
            return None

    def _infer_node(
        self, node: tf_pb.NodeDef, output: int, inputs: list[Tensor], shapes: list[Shape]
    ) -> Shape:
        op = node.op
        if op in FUSED_BATCH_NORMS and output > 0:
            return shapes[1] if output < 5 else None
        if op in _SAME:
            return shapes[0]
        if op in _BROADCAST:
            return _broadcast(shapes[0], shapes[1])
        if op == "Const":
            return shape_from_proto(self._graph.attr(node, "value").tensor.tensor_shape)
        if op in ("Placeholder", "PlaceholderWithDefault"):
            return shape_from_proto(self._graph.attr(node, "shape").shape)
        if op == "VarHandleOp":
            return ()
        if op == "ReadVariableOp":
            data = handle_data(self._graph, inputs[0])
            return shape_from_proto(data[0].shape) if data else None
        if op in ("If", "StatelessIf", "While", "StatelessWhile"):
            listed = node.attr["output_shapes"].list.shape
            return shape_from_proto(listed[output]) if output < len(listed) else None
        by_op = self._by_op.get(op)
        return by_op(self, _Call(node, inputs, shapes)) if by_op else None

    def _const(self, tensor: Tensor) -> list[int] | None:
        """Returns the values of an integer Const."""
        node = self._graph.nodes.get(tensor.node)
        while node is not None and node.op == "Identity":
            node = self._graph.nodes.get(parse_tensor(node.input[0]).node)
        if node is None or node.op != "Const":
            return None
        return ints_of(self._graph.attr(node, "value").tensor)

    def _window(self, call: _Call) -> Shape:
        """Convolutions and pools."""
        image = call.shapes[0]
        channels_first = self._graph.attr(call.node, "data_format").s == b"NCHW"
        strides = list(self._graph.attr(call.node, "strides").list.i)
        padding = self._graph.attr(call.node, "padding").s
        if image is None or len(image) != 4 or padding not in (b"SAME", b"VALID"):
            return None
        axes, channel_axis = ((2, 3), 1) if channels_first else ((1, 2), 3)
        size: list[int | None] = [None] * 4
        channels = image[channel_axis]
        if call.node.op in _POOL:
            size = list(self._graph.attr(call.node, "ksize").list.i)
        else:
            kernel = call.shapes[1]
            if kernel is None or len(kernel) != 4:
                return None
            dilations = list(self._graph.attr(call.node, "dilations").list.i)
            for axis, extent in zip(axes, kernel[:2], strict=True):
                size[axis] = None if extent is None else (extent - 1) * dilations[axis] + 1
            channels = kernel[3]
            if call.node.op == "DepthwiseConv2dNative":
                known = kernel[2] is not None and kernel[3] is not None
                channels = kernel[2] * kernel[3] if known else None  # type: ignore[operator]
        result = list(image)
        result[channel_axis] = channels
        for axis in axes:
            extent, window, stride = image[axis], size[axis], strides[axis]
            if extent is not None and padding == b"SAME":
                result[axis] = -(-extent // stride)
            elif extent is not None and window is not None:
                result[axis] = (extent - window) // stride + 1
            else:
                result[axis] = None
        return tuple(result)

    def _reduce(self, call: _Call) -> Shape:
        axes = self._const(call.inputs[1])
        if call.shapes[0] is None or axes is None:
            return None
        reduced = {axis % len(call.shapes[0]) for axis in axes} if call.shapes[0] else set()
        if self._graph.attr(call.node, "keep_dims").b:
            return tuple(1 if i in reduced else d for i, d in enumerate(call.shapes[0]))
        return tuple(d for i, d in enumerate(call.shapes[0]) if i not in reduced)

    def _squeeze(self, call: _Call) -> Shape:
        axes = list(self._graph.attr(call.node, "squeeze_dims").list.i)
        if call.shapes[0] is None or (not axes and None in call.shapes[0]):
            return None
        gone = {axis % len(call.shapes[0]) for axis in axes} if call.shapes[0] else set()
        gone = gone or {i for i, d in enumerate(call.shapes[0]) if d == 1}
        return tuple(d for i, d in enumerate(call.shapes[0]) if i not in gone)

    def _reshape(self, call: _Call) -> Shape:
        wanted = self._const(call.inputs[1])
        if wanted is None:
            return None
        result: list[int | None] = [d if d >= 0 else None for d in wanted]
        if result.count(None) == 1 and call.shapes[0] is not None and None not in call.shapes[0]:
            known = math.prod(d for d in result if d is not None)
            total = math.prod(d for d in call.shapes[0] if d is not None)
            if known > 0 and total % known == 0:
                result[result.index(None)] = total // known
        return tuple(result)

    def _concat(self, call: _Call) -> Shape:
        axes = self._const(call.inputs[-1])
        parts = [shape for shape in call.shapes[:-1] if shape is not None]
        if axes is None or len(parts) < len(call.shapes) - 1:
            return None
        axis = axes[0] % len(parts[0])
        result: Shape = parts[0]
        for part in parts[1:]:
            result = common_shape(result, part)
        if result is None:
            return None
        extents = [part[axis] for part in parts]
        known = [extent for extent in extents if extent is not None]
        total = sum(known) if len(known) == len(extents) else None
        return (*result[:axis], total, *result[axis + 1 :])

    def _matmul(self, call: _Call) -> Shape:
        left, right = call.shapes
        rows = left[1 if self._graph.attr(call.node, "transpose_a").b else 0] if left else None
        columns = right[0 if self._graph.attr(call.node, "transpose_b").b else 1] if right else None
        return (rows, columns)

    def _pad(self, call: _Call) -> Shape:
        pads = self._const(call.inputs[1])
        if call.shapes[0] is None or pads is None or len(pads) != 2 * len(call.shapes[0]):
            return None
        added = [sum(pads[2 * i : 2 * i + 2]) for i in range(len(call.shapes[0]))]
        return tuple(
            None if d is None else d + a for d, a in zip(call.shapes[0], added, strict=True)
        )

    _by_op: ClassVar[dict[str, Callable[[ShapeReader, _Call], Shape]]] = {
        **dict.fromkeys(_POOL | _CONV, _window),
        **dict.fromkeys(_REDUCE, _reduce),
        **dict.fromkeys(("Pad", "PadV2", "MirrorPad"), _pad),
        "ConcatV2": _concat,
        "MatMul": _matmul,
        "Reshape": _reshape,
        "Squeeze": _squeeze,
    }


def _broadcast(first: Shape, second: Shape) -> Shape:
    if first is None or second is None:
        return None
    rank = max(len(first), len(second))
    result: list[int | None] = []
    ones: tuple[int, ...] = (1,)
    for a, b in zip(
        ones * (rank - len(first)) + first, ones * (rank - len(second)) + second, strict=True
    ):
        if b in (a, 1):
            result.append(a)
        elif a == 1:
            result.append(b)
        elif a is None or b is None:
            # The known extent is not 1: the other one is the same, or 1.
            result.append(b if a is None else a)
        else:
            return None
    return tuple(result)
