"""A program for TensorFlow 1 and tensorflow-hub, run with TensorFlow 2 and bridge.hub.

    python -m tests.hub.legacy_program OUT_DIR [names...]

It runs testdata/golden.py, the very file that recorded the goldens with the legacy client, and
writes `OUT_DIR/<name>.npz` and `OUT_DIR/<name>.json`. Then it changes the variables of each module,
exports it to `OUT_DIR/<name>`, and writes `OUT_DIR/<name>_exported.npz`: the outputs before that.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import tensorflow as tf

from bridge import hub as bridge_hub
from tests.conftest import TESTDATA, Golden
from tests.hub.programs import TRAINED

NEEDED = ("Module", "load_module_spec", "get_expected_image_size")
HALVED = ("float16", "bfloat16", "float32", "float64")


def legacy_modules() -> Any:
    """Returns testdata/golden.py, imported with today's TensorFlow, and with bridge.hub."""

    class Handler:
        """What tensorflow-hub's own reader tells of a module, beyond its public functions."""

        def __init__(self, path: str):
            self._spec = bridge_hub.load_module_spec(path)

        def get_attached_bytes_map(self, tags: Any) -> dict[str, bytes]:
            return self._spec._attachments(frozenset(tags))

        def get_meta_graph(self, tags: Any) -> Any:
            return self._spec._meta_graph(tags)

    hub: Any = ModuleType("tensorflow_hub")
    hub.__dict__.update({name: getattr(bridge_hub, name) for name in NEEDED})
    hub.__version__ = "bridge.hub"
    hub.saved_model_lib = SimpleNamespace(load=Handler)
    sys.modules |= {"tensorflow": tf.compat.v1, "tensorflow_hub": hub}
    sys.path.append(str(TESTDATA))
    try:
        import golden
    finally:
        sys.modules["tensorflow"] = tf
    return golden


def input_values(recorded: Golden) -> dict[str, Any]:
    """The recorded inputs by `signature/name`, as what a session is fed."""
    parts: dict[str, dict[str, Any]] = {}
    for key, array in recorded.arrays.items():
        _, signature, kind, *name = [*key.split("|"), "", ""]
        if kind == "in":
            parts.setdefault(f"{signature}/{name[0]}", {})[name[1]] = array
    return {name: _value(**arrays) for name, arrays in parts.items()}


def _value(**parts: Any) -> Any:
    if "dense_shape" in parts:
        return tf.compat.v1.SparseTensorValue(**parts)
    if "row_splits_0" in parts:
        return tf.compat.v1.ragged.RaggedTensorValue(parts["values"], parts["row_splits_0"])
    return parts[""]


def export_changed(path: Path, inputs: Mapping[str, Any], golden: Any, out: Path) -> None:
    """Halves what floats there are, exports the module, and writes what it computed."""
    spec = bridge_hub.load_module_spec(path)
    tags = min(spec.get_tags(), key=len)
    signature = sorted(spec.get_signature_names(tags))[0]
    with tf.Graph().as_default():
        with tf.compat.v1.variable_scope("around"):
            module = bridge_hub.Module(spec, tags=tags, name="inner")
        tensors = {
            key: golden._placeholder(info)
            for key, info in module.get_input_info_dict(signature).items()
        }
        outputs = module(tensors, signature=signature, as_dict=True)
        halves = [
            tf.compat.v1.assign(one, one * tf.cast(0.5, one.dtype.base_dtype))
            for one in module.variables
            if one.dtype.base_dtype.name in HALVED
        ]
        feeds = {
            tensor: golden._input_value(
                signature, key, module.get_input_info_dict(signature)[key], inputs
            )
            for key, tensor in tensors.items()
        }
        init = [tf.compat.v1.global_variables_initializer(), tf.compat.v1.tables_initializer()]
        # As the sessions of tf.compat.v1.train do, after which nothing can be added.
        tf.compat.v1.get_default_graph().finalize()
        with tf.compat.v1.Session(config=golden.session_config()) as session:
            session.run(init)
            session.run(halves)
            module.export(out, session)
            values = session.run(outputs, feeds)
    arrays: dict[str, Any] = {}
    for key, value in values.items():
        golden.put(arrays, f"out|{key}", value)
    for tensor_key, tensor in tensors.items():
        golden.put(arrays, f"in|{tensor_key}", feeds[tensor])
    np.savez(f"{out}_exported.npz", **arrays)
    Path(f"{out}_exported.json").write_text(json.dumps([sorted(tags), signature]))


def main(out: Path, names: list[str]) -> None:
    """Runs the modules of these names."""
    tf.compat.v1.disable_v2_behavior()
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
    golden = legacy_modules()
    for name in names:
        path, prefix = TESTDATA / "modules" / name, TESTDATA / "golden" / name
        with np.load(prefix.with_suffix(".npz")) as arrays:
            recorded = Golden(dict(arrays), json.loads(prefix.with_suffix(".json").read_text()))
        inputs = input_values(recorded)
        arrays, facts = golden.record(str(path), inputs, name in TRAINED)
        np.savez(out / f"{name}.npz", **arrays)
        (out / f"{name}.json").write_text(json.dumps(facts))
        export_changed(path, inputs, golden, out / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
