"""Fails unless two SavedModels of an image module compute the same, in inference and training.

python benchmarks/compare.py ONE OTHER
"""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

TOLERANCE = 1e-5  # Relative to the greatest value of an output.


def compute(path: str) -> dict[str, np.ndarray]:
    """Returns what the model computes of some images, and what a step of training changes."""
    model = tf.saved_model.load(path)
    signature = model.signatures["serving_default"]
    (spec,) = signature.structured_input_signature[1].values()
    size = [1 if dim is None else dim for dim in spec.shape]
    images = np.random.default_rng(0).random(size, np.float32)
    results = dict(model(images, training=False, return_endpoints=True))
    for name in sorted(set(model.signatures) - {"serving_default"}):
        served = model.signatures[name](**{spec.name: tf.constant(images)})
        results |= {f"{name}: {key}": value for key, value in served.items()}
    for number, loss in enumerate(model.regularization_losses):
        results[f"loss {number}"] = loss()
    model(images, training=True)  # its outputs are random where there is dropout
    if not any("dropout" in name.lower() for name in op_names(model)):
        results |= {variable.name: variable for variable in model.variables}
    return {key: np.asarray(value) for key, value in results.items()}


def op_names(model: Any) -> list[str]:
    """Returns the names of the nodes that training runs."""
    function = model.__call__.concrete_functions[-1]
    return [
        node.name for f in function.graph.as_graph_def().library.function for node in f.node_def
    ]


def main() -> int:
    """Compares; returns the exit status."""
    one, other = compute(sys.argv[1]), compute(sys.argv[2])
    if one.keys() != other.keys():
        print(f"only one has {sorted(one.keys() ^ other.keys())}", file=sys.stderr)
        return 1
    for key, value in one.items():
        difference = np.abs(value - other[key]).max() / max(np.abs(value).max(), 1e-30)
        if not difference <= TOLERANCE:
            print(f"{key} differs by {difference:.1e}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
