"""Fails unless a module computes in TensorFlow 1.15 what the SavedModel that it was made of does.

    python benchmarks/compare_module.py SAVED_MODEL MODULE TF1_PYTHON

Compares what images give in inference and, where the SavedModel was saved with it, in training.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

import bridge
from tests.clients.tf1 import Tf1Client

# Relative to the greatest value of an output. In training, an untrained net with the statistics of
# few images amplifies rounding: TensorFlow 2 differs by 1e-4 from itself, with oneDNN and without.
TOLERANCES = {"": 1e-5, "train": 1e-3}
BATCH = 4


def compute(path: str, *, training: bool) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns images, and by the tags of a variant what the SavedModel gives for them."""
    model = tf.saved_model.load(path)
    served = model.signatures["serving_default"]
    (spec,) = served.structured_input_signature[1].values()
    size = [BATCH if dim is None else dim for dim in spec.shape]
    images = tf.constant(np.random.default_rng(0).random(size, np.float32))
    (logits,) = served(**{spec.name: images}).values()
    outputs = {"": logits.numpy()}
    if training:
        outputs["train"] = model(images, training=True).numpy()
    return images.numpy(), outputs


def main() -> int:
    """Compares; returns the exit status."""
    source, module, python = sys.argv[1:]
    signatures = bridge.to_hub_module(source, f"{module}.none", dry_run=True).signatures
    images, outputs = compute(source, training=any(s.variant == "{train}" for s in signatures))
    with Tf1Client(Path(python)) as client:
        for tags, expected in outputs.items():
            found = client.hub_apply(
                Path(module), {"images": images}, tags=tags.split(), trainable=bool(tags)
            )["default"]
            difference = np.abs(found - expected).max() / np.abs(expected).max()
            if not difference <= TOLERANCES[tags]:
                print(f"variant {{{tags}}} differs by {difference:.1e}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
