"""Makes SavedModels of real size from the nets of Keras; none is checked in.

    python benchmarks/make_saved_models.py OUT_DIR keras-export keras-train keras-big

The weights are random, as they are before training.

- `keras-export`: ResNet50 of Keras 3 by `model.export`, which keeps inference only. It stores each
  variable twice.
- `keras-train`: ResNet50 of tf_keras by `tf.saved_model.save`, which keeps training too.
- `keras-big`: VGG16 of Keras 3 with 28,500 classes by `tf.saved_model.save`, 1 GB of variables.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import tensorflow as tf
import tf_keras

SEED = 11


def keras_export(path: Path) -> None:
    keras.utils.set_random_seed(SEED)
    keras.applications.ResNet50(weights=None).export(str(path), verbose=False)


def keras_train(path: Path) -> None:
    tf_keras.utils.set_random_seed(SEED)
    tf.saved_model.save(tf_keras.applications.ResNet50(weights=None), str(path))


def keras_big(path: Path) -> None:
    keras.utils.set_random_seed(SEED)
    tf.saved_model.save(keras.applications.VGG16(weights=None, classes=28500), str(path))


MAKERS: dict[str, Callable[[Path], None]] = {
    "keras-export": keras_export,
    "keras-train": keras_train,
    "keras-big": keras_big,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("names", nargs="+", choices=MAKERS)
    args = parser.parse_args()
    for name in args.names:
        MAKERS[name](args.out_dir / name)


if __name__ == "__main__":
    main()
