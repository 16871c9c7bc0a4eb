"""Expresses ops that TensorFlow 1.15 lacks, or can't differentiate, by ops that it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from bridge.attrs import int_attr, ints_tensor_attr, type_attr
from bridge.dtypes import FLOATS
from bridge.errors import UnsupportedError
from bridge.passes._replacing import Replacement, ReplaceNodes
from bridge.proto import tf_pb


class OlderOps(ReplaceNodes):
    """Replaces single ops by older ones that compute the same, and have the same gradient.

    Requires: InlineCalls has run. Ensures: none of `ops` is left where its rule applies.

    1. BatchMatMulV3 differs from BatchMatMulV2 in that its types may differ: they are cast first.
    2. MatrixDiagV3, MatrixDiagPartV3 and MatrixSetDiagV3 differ from V2 in how they align several
       diagonals. Of one they are the same; the gradients of old know only the main one.
    3. DenseBincount counts the ones of a OneHot.
    4. Xlog1py is a product, whose second factor is 0 where the first is.
    5. DeviceIndex, which chooses between implementations, says that a CPU runs the graph: any
       device runs what is for CPUs.
    6. Old: ClipByValue has no gradient, EuclideanNorm a gradient of None, and Atan2 one that does
       not broadcast. The definitions of the first two have one, and so have equal shapes.
    7. GatherV2 of batches, along an axis behind the batch ones: its gradient of old is wrong. The
       axis is moved to them, and what was gathered is moved back. Of old, indices are more than
       one a batch.
    8. SparseSegmentMean and its like, which look up embeddings of sparse ids, number segments by
       int32 of old: the numbers are cast.
    9. TensorStridedSliceUpdate of old kills the process where it may write into its input. The
       values are spread over zeros, and chosen where the slice is.
    """

    name: ClassVar[str] = "older-ops"

    def replace(self, new: Replacement) -> bool:
        """Replaces a node by the rule of its op."""
        return _RULES[new.op](new)


def _batch_mat_mul(new: Replacement) -> bool:
    attrs = new.attrs()
    dtype = attrs["Tout"].type
    operands = [new.cast(tensor, dtype) for tensor in new.inputs]
    adjoint = {name: attrs[name] for name in ("adj_x", "adj_y") if name in attrs}
    new.become("BatchMatMulV2", operands, T=type_attr(dtype), **adjoint)
    return True


def _matrix_diagonals(new: Replacement) -> bool:
    position = 2 if new.op == "MatrixSetDiagV3" else 1
    if set(new.const(new.inputs[position]) or (None,)) != {0}:
        return False
    new.become(f"{new.op[:-2]}V2", new.inputs, T=new.attr("T"))
    return True


def _dense_bincount(new: Replacement) -> bool:
    values, size, weights = new.inputs
    shape = new.shape(weights)
    dtype = new.attr("T").type
    binary = new.attr("binary_output").b
    if shape is None and not binary:
        return False
    weighted = not binary and shape is not None and 0 not in shape
    zero, one = (new.cast(new.ints(name, i), dtype) for i, name in enumerate(("zero", "one")))
    ones = new.add(
        "OneHot",
        "OneHot",
        [values, new.cast(size, tf_pb.DT_INT32), one, zero],
        T=type_attr(dtype),
        TI=type_attr(new.dtype(values)),
    )
    if weighted:
        index = type_attr(tf_pb.DT_INT32)
        column = new.add(
            "ExpandDims",
            "ExpandDims",
            [weights, new.ints("last", -1)],
            T=type_attr(dtype),
            Tdim=index,
        )
        ones = new.math("Mul", ones, new.math("StopGradient", column))
    count = new.reduce("Sum", ones, [-2])
    new.become_identity(new.math("Minimum", count, one) if binary else count)
    return True


def _xlog1py(new: Replacement) -> bool:
    x, y = new.inputs
    dtype = type_attr(new.dtype(x))
    zeros = new.math("ZerosLike", x)
    is_zero = new.math("Equal", x, zeros)
    safe = new.add("SelectV2", "SelectV2", [is_zero, zeros, y], T=dtype)
    new.become("Mul", [x, new.math("Log1p", safe)], T=dtype)
    return True


def _device_index(new: Replacement) -> bool:
    names = list(new.attr("device_names").list.s)
    index = names.index(b"CPU") if b"CPU" in names else len(names)
    value = ints_tensor_attr(tf_pb.DT_INT32, index)
    new.become("Const", [], dtype=type_attr(tf_pb.DT_INT32), value=value)
    return True


def _clip_by_value(new: Replacement) -> bool:
    tensor, low, high = new.inputs
    dtype = type_attr(new.dtype(tensor))
    new.become("Maximum", [new.math("Minimum", tensor, high), low], T=dtype)
    return True


def _euclidean_norm(new: Replacement) -> bool:
    tensor, axes = new.inputs
    dtype = new.dtype(tensor)
    if dtype not in FLOATS:
        return False
    total = new.add("Sum", "Sum", [new.math("Square", tensor), axes], **new.attrs())
    new.become("Sqrt", [total], T=type_attr(dtype))
    return True


def _atan2(new: Replacement) -> bool:
    first, second = (new.shape(tensor) for tensor in new.inputs)
    if first is not None and first == second and None not in first:
        return False
    index = type_attr(tf_pb.DT_INT32)
    shapes = [new.shape_of(tensor) for tensor in new.inputs]
    shape = new.add("BroadcastArgs", "BroadcastArgs", shapes, T=index)
    dtype = new.attr("T")
    operands = [
        new.add("BroadcastTo", "BroadcastTo", [tensor, shape], T=dtype, Tidx=index)
        for tensor in new.inputs
    ]
    new.become(new.op, operands, T=dtype)
    return True


def _gather(new: Replacement) -> bool:
    params, indices, axis_tensor = new.inputs
    batch = new.attr("batch_dims").i
    shape, index_shape, axes = new.shape(params), new.shape(indices), new.const(axis_tensor)
    # One index for each batch leaves nothing to gather, which the op of old does not understand.
    single = index_shape is not None and batch == len(index_shape)
    if batch == 0 or (not single and (axes == [batch] or new.dtype(params) not in FLOATS)):
        return False
    if shape is None or index_shape is None or not axes:
        raise UnsupportedError(
            "it gathers in batches, along an axis or from a tensor of which too little is known: "
            "TensorFlow 1.15 would compute a wrong gradient",
            where=new.where,
            hint="save the model again with inputs of known rank",
        )
    batch += len(index_shape) if batch < 0 else 0
    axis = axes[0] % len(shape)
    if single:
        indices = new.reshape(indices, [*(new.size(indices, i) for i in range(batch)), 1])
    between = list(range(batch, axis))
    before, after = list(range(batch)), list(range(axis + 1, len(shape)))
    moved = new.transpose(params, [*before, axis, *between, *after])
    attrs = new.attrs()
    attrs["batch_dims"].CopyFrom(int_attr(batch))
    attrs["Taxis"].CopyFrom(type_attr(tf_pb.DT_INT32))
    gathered = new.add("GatherV2", "GatherV2", [moved, indices, new.ints("axis", batch)], **attrs)
    found = 1 if single else len(index_shape) - batch
    order = [*before, *(i + found for i in between), *range(batch, batch + found)]
    result = new.transpose(gathered, [*order, *range(len(order), len(order) + len(after))])
    if single:
        dtype = type_attr(new.dtype(params))
        axes_gone = tf_pb.AttrValue(list=tf_pb.AttrValue.ListValue(i=[axis]))
        new.become("Squeeze", [result], T=dtype, squeeze_dims=axes_gone)
    else:
        new.become_identity(result)
    return True


def _sparse_segments(new: Replacement) -> bool:
    data, indices, segments, *count = new.inputs
    if new.dtype(segments) == tf_pb.DT_INT32:
        return False
    attrs = new.attrs()
    attrs.pop("Tsegmentids", None)
    new.become(new.op, [data, indices, new.cast(segments, tf_pb.DT_INT32), *count], **attrs)
    return True


def _strided_slice_update(new: Replacement) -> bool:
    tensor, *bounds, values = new.inputs
    attrs, count = new.attrs(), type_attr(tf_pb.DT_INT32)
    shape = new.add("Shape", "Shape", [tensor], T=attrs["T"], out_type=attrs["Index"])
    spread = new.add("StridedSliceGrad", "values", [shape, *bounds, values], **attrs)
    ones = new.cast(new.math("OnesLike", values), count.type)
    mask = new.add("StridedSliceGrad", "mask", [shape, *bounds, ones], **attrs | {"T": count})
    new.become("Select", [new.cast(mask, tf_pb.DT_BOOL), spread, tensor], T=attrs["T"])
    return True


_RULES: Mapping[str, Callable[[Replacement], bool]] = {
    "Atan2": _atan2,
    "BatchMatMulV3": _batch_mat_mul,
    "ClipByValue": _clip_by_value,
    "DenseBincount": _dense_bincount,
    "DeviceIndex": _device_index,
    "EuclideanNorm": _euclidean_norm,
    "GatherV2": _gather,
    "MatrixDiagPartV3": _matrix_diagonals,
    "MatrixDiagV3": _matrix_diagonals,
    "MatrixSetDiagV3": _matrix_diagonals,
    "SparseSegmentMean": _sparse_segments,
    "SparseSegmentMeanWithNumSegments": _sparse_segments,
    "SparseSegmentSqrtN": _sparse_segments,
    "SparseSegmentSqrtNWithNumSegments": _sparse_segments,
    "SparseSegmentSum": _sparse_segments,
    "SparseSegmentSumWithNumSegments": _sparse_segments,
    "TensorStridedSliceUpdate": _strided_slice_update,
    "Xlog1py": _xlog1py,
}

OlderOps.ops = frozenset(_RULES)
