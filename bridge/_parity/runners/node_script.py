"""Computes a node as two models have it, fed with the same values, and shows the difference.

    python NAME.py

needs TensorFlow, and NAME.npz beside it: the node in a graph of its own, once for each model, and
the values that it is fed.
"""

from __future__ import annotations

import base64
import json
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

AROUND = 2
"""So many values on each side of the worst one are shown."""


def differ(reference: Any, candidate: Any, rtol: float, atol: float) -> dict[str, Any]:
    """Compares two arrays: floats within `atol + rtol * max|reference|`, all others exactly.

    Returns:
      `difference`, the largest; `largest`, the largest finite absolute value of the reference;
      `limit`; `differs`; the shapes; and the values around the worst place.
    """
    shapes = [list(np.shape(reference)), list(np.shape(candidate))]
    a, b = np.ravel(reference), np.ravel(candidate)
    exact = a.dtype.kind in "biuOSU"
    if not exact:  # also bfloat16, which numpy takes for no float
        a, b = (x.astype(np.complex128 if x.dtype.kind == "c" else np.float64) for x in (a, b))
    difference = largest = 0.0
    worst = 0
    if shapes[0] != shapes[1]:
        difference = float("inf")
    elif exact:
        unequal = a != b
        worst = int(np.argmax(unequal)) if a.size else 0
        difference = float("inf") if np.any(unequal) else 0.0
    elif a.size:
        finite = np.isfinite(a) & np.isfinite(b)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        distance = np.where(same, 0.0, np.inf)
        distance[finite] = np.abs(a[finite] - b[finite])
        worst = int(np.argmax(distance))
        difference = float(distance[worst])
        largest = float(np.max(np.abs(a[np.isfinite(a)]), initial=0.0))
    limit = 0.0 if exact else atol + rtol * largest
    start = max(0, worst - AROUND)
    return {
        "difference": difference,
        "largest": largest,
        "limit": limit,
        "differs": difference > limit,
        "shapes": shapes,
        "worst": worst,
        "reference": numbers(a[start : worst + AROUND + 1]),
        "candidate": numbers(b[start : worst + AROUND + 1]),
    }


def numbers(values: Any) -> list[float]:
    """Returns values as floats; text has none, and of complex ones it is the size."""
    if values.dtype.kind in "OSU":
        return []
    return [float(abs(x) if isinstance(x, complex) else x) for x in values.tolist()]


def assign(tf: Any, session: Any, name: str, value: Any) -> None:
    """Gives a variable of the session's graph its value."""
    variable = session.graph.get_tensor_by_name(name + ":0")
    resource = variable.dtype == tf.resource
    dtype = tf.as_dtype(value.dtype) if resource else variable.dtype.base_dtype
    with session.graph.as_default():
        fed = tf.compat.v1.placeholder(dtype, value.shape)
        if resource:
            operation = tf.raw_ops.AssignVariableOp(resource=variable, value=fed)
        else:
            operation = tf.raw_ops.Assign(ref=variable, value=fed)
    session.run(operation, {fed: value})


def compute(tf: Any, side: Mapping[str, Any], arrays: Mapping[str, Any]) -> Any:
    """Returns the node's output on one side."""
    definition = tf.compat.v1.GraphDef.FromString(base64.b64decode(side["graph"]))
    graph = tf.Graph()
    with graph.as_default():
        tf.compat.v1.import_graph_def(definition, name="")

    def value(key: str, dtype: str) -> Any:
        array = arrays[key]
        # numpy writes a type that it does not know as bare bytes.
        return array.view(tf.as_dtype(dtype).as_numpy_dtype) if array.dtype.kind == "V" else array

    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    with tf.compat.v1.Session(graph=graph, config=config) as session:
        for name, (key, dtype) in side["variables"].items():
            assign(tf, session, name, value(key, dtype))
        feeds = {name + ":0": value(key, dtype) for name, (key, dtype) in side["feeds"].items()}
        return session.run(side["fetch"], feeds)


def compare(path: pathlib.Path) -> dict[str, Any]:
    """Returns how the two sides differ."""
    import tensorflow as tf

    with np.load(path) as arrays:
        description = json.loads(arrays["description"].tobytes().decode())
        reference = compute(tf, description["reference"], arrays)
        candidate = compute(tf, description["candidate"], arrays)
    return {
        **description,
        **differ(reference, candidate, description["rtol"], description["atol"]),
    }


def main() -> int:
    """Prints what differs; returns 1 if anything does."""
    found = compare(pathlib.Path(__file__).with_suffix(".npz"))
    print("node       {node} ({op})".format(**found))
    print("difference {difference:g}, {limit:g} is allowed".format(**found))
    print("around element {worst} of shapes {shapes}:".format(**found))
    for side in ("reference", "candidate"):
        print("  " + side, *(f"{number:.9g}" for number in found[side]))
    return 1 if found["differs"] else 0


if __name__ == "__main__":
    sys.exit(main())
