"""Seeded values for variables, inputs and projections.

Every value depends on a name and a fixed seed only, not on the order of calls, so that two runs of
`make_modules.py` give the same bytes, and no value is 0 or 1 by accident.
"""

import zlib

import numpy as np
import tensorflow as tf

SEED = 20180315
STEPS_PER_UNIT = 16


def rng(*names):
    """Returns a `RandomState` that is seeded with a fixed seed and the names."""
    text = "|".join(str(name) for name in names)
    return np.random.RandomState((zlib.crc32(text.encode("utf-8")) + SEED) % 2**32)


def _float_value(name, shape, random):
    """Returns a plausible float64 value for a variable, by its role in the net."""
    last = name.split("/")[-1]
    if last == "moving_variance":
        return random.uniform(0.4, 2.0, shape)
    if last == "moving_mean":
        return random.normal(0.2, 0.3, shape)
    if last == "gamma":
        return random.uniform(0.7, 1.4, shape)
    if last in ("beta", "bias", "biases"):
        return random.normal(0.1, 0.2, shape)
    fan_in = int(np.prod(shape[:-1])) if len(shape) > 1 else 1
    return random.normal(0.0, 1.0, shape) * np.sqrt(2.0 / max(fan_in, 1))


def variable_value(name, dtype, shape):
    """Returns the value that a module's variable gets before its export.

    Args:
        name: The name of the variable, without the scope of the `hub.Module`.
        dtype: A `tf.DType`.
        shape: A list of ints.

    Returns:
        An array (NumPy dtype `dtype.as_numpy_dtype`; objects for strings).
    """
    random = rng("variable", name)
    if dtype == tf.string:
        words = [f"{name}[{i}] \u00fc".encode() for i in range(int(np.prod(shape)))]
        return np.array(words, dtype=object).reshape(shape)
    if dtype == tf.bool:
        return random.uniform(size=shape) < 0.5
    if dtype.is_integer:
        return np.asarray(random.randint(2, 100, size=shape), dtype.as_numpy_dtype)
    return np.asarray(_float_value(name, shape, random)).astype(dtype.as_numpy_dtype)


def assign_variables(session, variables, scope):
    """Overwrites all variables of a module in a session with `variable_value()`.

    Args:
        session: The `tf.Session`.
        variables: The `hub.Module`'s list of variables.
        scope: The prefix of their names that is the client's (`module/`).
    """
    for variable in variables:
        name = variable.op.name
        assert name.startswith(scope), (name, scope)
        value = variable_value(
            name[len(scope) :], variable.dtype.base_dtype, variable.shape.as_list()
        )
        variable.load(value, session)


def dense_input(name, dtype, shape):
    """Returns the default input of a signature: float values are multiples of 1/16 in [0, 1]."""
    random = rng("input", name)
    if dtype.is_floating:
        return (random.randint(0, STEPS_PER_UNIT + 1, size=shape) / STEPS_PER_UNIT).astype(
            dtype.as_numpy_dtype
        )
    if dtype == tf.bool:
        return random.uniform(size=shape) < 0.5
    if dtype.is_integer:
        return np.asarray(random.randint(0, 5, size=shape), dtype.as_numpy_dtype)
    raise ValueError(f"Input {name!r} of dtype {dtype.name} needs a value of its own.")


def projection(key, shape):
    """Returns the weights of an output in the loss: multiples of 1/16 in [-1/2, 1/2]."""
    random = rng("projection", key)
    half = STEPS_PER_UNIT // 2
    return np.asarray(random.randint(-half, half + 1, size=shape) / STEPS_PER_UNIT, np.float32)
