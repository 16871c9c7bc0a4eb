"""The arithmetic of training that is the same in all workers, whatever takes the gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def real_parts(tf: Any, output: Any) -> Any:
    """Returns what is projected of an output, a float tensor; None where it has no gradient.

    A complex output is an array of pairs, its real and its imaginary part.
    """
    dtype = output.dtype.base_dtype
    if dtype.is_complex:
        return tf.stack([tf.math.real(output), tf.math.imag(output)], axis=-1)
    return output if dtype.is_floating else None


def is_differentiable(dtype: Any) -> bool:
    """Returns whether gradients by variables of a dtype are taken."""
    return bool(dtype.base_dtype.is_floating or dtype.base_dtype.is_complex)


def projection(shape: Any, dtype: str) -> Any:
    """Returns what an output is multiplied with, so that the sum is mean(output · projection).

    That is cos(0.37 · k + 1) for the k-th value in row-major order, over the number of values.

    Args:
      shape: of the output.
      dtype: of the result, as numpy names it.
    """
    count = int(np.prod(shape, dtype=np.int64))
    weights = np.cos(0.37 * np.arange(count) + 1) / max(count, 1)
    return weights.reshape(shape).astype(dtype)


def working_dtype(name: str) -> str:
    """Returns the dtype that the loss of an output is computed in."""
    return "float64" if name == "float64" else "float32"


def descend(value: Any, gradient: Any, rate: float) -> Any:
    """Returns value - rate · gradient, rounded once."""
    if value.dtype.kind == "c":
        # Its gradient points where the loss grows, as that of a pair of floats does.
        moved = value.astype(np.complex128) - rate * gradient.astype(np.complex128)
        return moved.astype(value.dtype)
    # bfloat16 knows the way to and from float32 only, in the numpy of TensorFlow 1.15.
    wide = np.float64 if value.dtype == np.float64 else np.float32
    moved = value.astype(wide).astype(np.float64)
    moved = moved - rate * gradient.astype(wide).astype(np.float64)
    return moved.astype(wide).astype(value.dtype)


def moved_apart(value: Any) -> Any:
    """Returns the value of a variable at which the gradients of losses are taken.

    The k-th value in row-major order has 1.5 + cos(0.37 · k + 1) added. Variables that are equal or
    zero tell by that which of them a loss is made of: at zero, a square has no gradient.
    """
    away = 1.5 + np.cos(0.37 * np.arange(value.size) + 1)
    return descend(value, -away.reshape(value.shape), 1.0)


def descended(
    values: Mapping[str, Any], gradients: Mapping[str, Any], rate: float
) -> dict[str, Any]:
    """Returns the variables that have a gradient, moved against it."""
    return {name: descend(values[name], gradient, rate) for name, gradient in gradients.items()}
