"""Expresses Einsum by products that have gradients."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from bridge.attrs import int_attr, type_attr
from bridge.errors import MalformedError, UnsupportedError
from bridge.passes._replacing import Replacement, ReplaceNodes, Size
from bridge.proto import tf_pb

_SUBSCRIPT = re.compile(r"([A-Za-z]*)(\.\.\.)?([A-Za-z]*)")

Labels = tuple[str, ...]
"""Names of axes: letters, and `...0`, `...1` and so on for those of an ellipsis, from its end."""


@dataclass(frozen=True)
class _Operand:
    """A tensor whose axes have names.

    Attributes:
      tensor: the tensor.
      labels: names of its axes.
      measured: for each label, a tensor and which of its axes has that extent.
    """

    tensor: str
    labels: Labels
    measured: Mapping[str, tuple[str, int]]


class Einsum(ReplaceNodes):
    """Makes every Einsum transposes, reshapes and one product.

    Requires: InlineCalls has run. Ensures: no node is an Einsum.

    1. TensorFlow 1.15 runs Einsum, but can't differentiate it.
    2. A label that an operand repeats (`ii`) stands for its diagonal: the axes become one, of which
       every n+1-th element stays.
    3. A label of one operand that nothing else has is summed over.
    4. What is left of two operands is a batch of matrix products: axes of both that the result
       keeps are the batch, those that it does not keep are contracted, axes of one operand are its
       rows or columns. Axes that an ellipsis stands for are broadcast, as batches are. Where
       nothing is contracted, a plain product does the same.
    5. A label that the result repeats puts it on the diagonal of zeros: rule 2 in reverse.
    6. Extents that are not known are read when the graph runs. What an ellipsis stands for must be
       known.
    """

    name: ClassVar[str] = "einsum"
    ops: ClassVar[frozenset[str]] = frozenset({"Einsum"})

    def replace(self, new: Replacement) -> bool:
        """Replaces an Einsum."""
        operands, wanted = _parse(new)
        operands = [_take_diagonals(operand, new) for operand in operands]
        if len(operands) == 1:
            result = _sum_all_but(operands[0], wanted, new)
        else:
            left, right = operands
            left = _sum_all_but(left, {*wanted, *right.labels}, new)
            right = _sum_all_but(right, {*wanted, *left.labels}, new)
            result = _product(left, right, wanted, new)
        result = _fill_diagonals(result, wanted, new)
        new.become_identity(_arranged(result, wanted, new))
        return True


# -- the equation ----------------------------------------------------------------------------


def _parse(new: Replacement) -> tuple[list[_Operand], Labels]:
    """Returns the operands, and the labels of the result."""
    equation = new.attr("equation").s.decode(errors="replace")
    left, arrow, right = equation.replace(" ", "").partition("->")
    subscripts = left.split(",")
    if not arrow or len(subscripts) != len(new.inputs) or len(subscripts) > 2:
        raise MalformedError(
            f"{equation!r} is no equation of {len(new.inputs)} operands", where=new.where
        )
    labels = [
        _labels(text, _rank(text, tensor, new), new)
        for text, tensor in zip(subscripts, new.inputs, strict=True)
    ]
    hidden = max(sum(label.startswith(".") for label in one) for one in labels)
    wanted = _labels(right, len(right.replace("...", "")) + hidden, new)
    if missing := {*wanted} - {label for one in labels for label in one}:
        raise MalformedError(
            f"no operand of {equation!r} has {min(missing)!r}, which the result has",
            where=new.where,
        )
    axes = list(zip(new.inputs, labels, strict=True))
    operands = []
    for tensor, own in axes:
        # All axes that a letter stands for are equally long; those of an ellipsis need not be.
        measured = {
            label: _measured(label, [(tensor, own)] if label.startswith(".") else axes, new)
            for label in own
        }
        operands.append(_Operand(tensor, own, measured))
    return operands, wanted


def _rank(subscript: str, tensor: str, new: Replacement) -> int:
    letters = len(subscript.replace("...", ""))
    shape = new.shape(tensor)
    if shape is None:
        if letters == len(subscript):
            return letters
        raise UnsupportedError(
            f"the number of axes that the ellipsis of {subscript!r} stands for is not known",
            where=new.where,
            hint="save the model again with inputs of known rank, or without an ellipsis in the "
            "equation",
        )
    if len(shape) < letters or (letters == len(subscript) and len(shape) > letters):
        raise MalformedError(
            f"{subscript!r} does not fit an operand of {len(shape)} axes", where=new.where
        )
    return len(shape)


def _labels(subscript: str, rank: int, new: Replacement) -> Labels:
    """Returns a name for each axis."""
    match = _SUBSCRIPT.fullmatch(subscript)
    if match is None:
        raise MalformedError(f"{subscript!r} is no subscript of an Einsum", where=new.where)
    before, ellipsis, after = match.groups()
    hidden = rank - len(before) - len(after)
    if hidden and not ellipsis:
        raise MalformedError(
            "the result has no ellipsis, though one of an operand stands for axes", where=new.where
        )
    return (*before, *(f"...{number}" for number in reversed(range(hidden))), *after)


def _measured(
    label: str, operands: Sequence[tuple[str, Labels]], new: Replacement
) -> tuple[str, int]:
    """Returns a tensor and an axis of it that tell the extent of a label, best without running."""
    places = [(tensor, labels.index(label)) for tensor, labels in operands if label in labels]
    return next((place for place in places if _known(place, new) is not None), places[0])


def _known(place: tuple[str, int], new: Replacement) -> int | None:
    tensor, axis = place
    shape = new.shape(tensor)
    return shape[axis] if shape is not None and axis < len(shape) else None


def _sizes(operand: _Operand, labels: Collection[str], new: Replacement) -> list[Size]:
    return [new.size(*operand.measured[label]) for label in labels]


# -- the steps -------------------------------------------------------------------------------


def _arranged(operand: _Operand, labels: Labels, new: Replacement) -> str:
    """Returns the operand's tensor with its axes in another order."""
    left = list(enumerate(operand.labels))
    order = []
    for label in labels:
        found = next(entry for entry in left if entry[1] == label)
        left.remove(found)
        order.append(found[0])
    return new.transpose(operand.tensor, order)


def _sum_all_but(operand: _Operand, kept: Collection[str], new: Replacement) -> _Operand:
    axes = [axis for axis, label in enumerate(operand.labels) if label not in kept]
    total = new.reduce("Sum", operand.tensor, axes)
    labels = tuple(label for label in operand.labels if label in kept)
    return _Operand(total, labels, operand.measured)


def _product(left: _Operand, right: _Operand, wanted: Labels, new: Replacement) -> _Operand:
    """Multiplies two operands; the result has the labels of `wanted`, each once."""
    kept = tuple(dict.fromkeys(wanted))
    batch = tuple(label for label in kept if label in left.labels and label in right.labels)
    rows = tuple(label for label in kept if label not in right.labels)
    columns = tuple(label for label in kept if label not in left.labels)
    inner = tuple(label for label in left.labels if label not in kept)
    labels = batch + rows + columns
    first = _arranged(left, batch + rows + inner, new)
    second = _arranged(right, batch + inner + columns, new)
    row_sizes, column_sizes = _sizes(left, rows, new), _sizes(right, columns, new)
    if not inner:
        if rows and columns:
            shape = _sizes(left, batch, new) + row_sizes + [1] * len(columns)
            first = new.reshape(first, shape)
        if rows:
            shape = _sizes(right, batch, new) + [1] * len(rows) + column_sizes
            second = new.reshape(second, shape)
        elif columns:
            first = new.reshape(first, _sizes(left, batch, new) + [1] * len(columns))
        result = new.math("Mul", first, second)
    else:
        first = _as_matrices(first, left, (batch, rows, inner), new)
        second = _as_matrices(second, right, (batch, inner, columns), new)
        result = new.math("BatchMatMulV2" if batch else "MatMul", first, second)
    measured = {**left.measured, **right.measured}
    for axis, label in enumerate(batch):
        measured[label] = _broadcast(
            left.measured[label], right.measured[label], (result, axis), new
        )
    if inner and not len(rows) == len(columns) == 1:
        batch_sizes = [new.size(*measured[label]) for label in batch]
        result = new.reshape(result, batch_sizes + row_sizes + column_sizes)
    return _Operand(result, labels, measured)


def _as_matrices(
    tensor: str, operand: _Operand, parts: tuple[Labels, Labels, Labels], new: Replacement
) -> str:
    """Makes one axis each of the last two groups of axes."""
    batch, first, second = parts
    if len(first) == len(second) == 1:
        return tensor
    sizes = [new.product(_sizes(operand, part, new)) for part in (first, second)]
    return new.reshape(tensor, _sizes(operand, batch, new) + sizes)


def _broadcast(
    first: tuple[str, int], second: tuple[str, int], result: tuple[str, int], new: Replacement
) -> tuple[str, int]:
    """Returns what tells the extent that two axes broadcast to."""
    if first == second:
        return first
    one, other = _known(first, new), _known(second, new)
    if one == 1 or other not in (1, None):
        return second
    if other == 1 or one is not None:
        return first
    return result


def _take_diagonals(operand: _Operand, new: Replacement) -> _Operand:
    """Lets each label stand for one axis of an operand."""
    for label in dict.fromkeys(operand.labels):
        count = operand.labels.count(label)
        if count > 1:
            others = tuple(other for other in operand.labels if other != label)
            tensor = _arranged(operand, others + (label,) * count, new)
            size = new.size(*operand.measured[label])
            tensor = new.reshape(
                tensor, [*_sizes(operand, others, new), new.product([size] * count)]
            )
            tensor = new.add(
                "StridedSlice",
                "diagonal",
                [tensor, *_diagonal(size, count, new)],
                T=type_attr(new.dtype(tensor)),
                **_LAST_AXIS,
            )
            operand = _Operand(tensor, (*others, label), operand.measured)
    return operand


def _fill_diagonals(operand: _Operand, wanted: Labels, new: Replacement) -> _Operand:
    """Lets each label stand for as many axes of the result as are wanted."""
    for label in operand.labels:
        count = wanted.count(label)
        if count > 1:
            others = tuple(other for other in operand.labels if other != label)
            tensor = _arranged(operand, (*others, label), new)
            size, sizes = new.size(*operand.measured[label]), _sizes(operand, others, new)
            tensor = new.add(
                "StridedSliceGrad",
                "diagonal",
                [
                    new.vector([*sizes, new.product([size] * count)]),
                    *_diagonal(size, count, new),
                    tensor,
                ],
                T=type_attr(new.dtype(tensor)),
                **_LAST_AXIS,
            )
            tensor = new.reshape(tensor, sizes + [size] * count)
            operand = _Operand(tensor, others + (label,) * count, operand.measured)
    return operand


# x[..., ::step]
_LAST_AXIS = {
    "Index": type_attr(tf_pb.DT_INT32),
    "begin_mask": int_attr(2),
    "ellipsis_mask": int_attr(1),
    "end_mask": int_attr(2),
}


def _diagonal(size: Size, count: int, new: Replacement) -> list[str]:
    """Returns begin, end and strides of the diagonal of a flattened cube."""
    step: Size = 1
    for _ in range(count - 1):
        step = new.combine("AddV2", new.combine("Mul", step, size), 1)
    none = new.ints("zeros", [0, 0])
    return [none, none, new.vector([1, step])]
