"""Converted test modules, and how to call them with what the goldens hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.conftest import TESTDATA, Golden

Arrays = Mapping[str, NDArray[Any]]

MODULES = sorted(path.name for path in (TESTDATA / "modules").iterdir())


@dataclass(frozen=True)
class Case:
    """One signature of one variant of a test module.

    Attributes:
      module: name of the test module.
      variant: its facts in the golden JSON.
      signature: name of the signature.
    """

    module: str
    variant: Mapping[str, Any]
    signature: str

    def __str__(self) -> str:
        return f"{self.module}-{self.variant['key'] or 'inference'}-{self.signature}"

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the golden JSON says of the signature, or of the one it is the same as."""
        signatures = self.variant["signatures"]
        facts = signatures[self.signature]
        return signatures[facts["same_as"]] if facts["same_as"] else facts

    @property
    def prefix(self) -> str:
        """The start of the golden arrays' keys."""
        same_as = self.variant["signatures"][self.signature]["same_as"]
        return f"{self.variant['key']}|{same_as or self.signature}"

    def training(self, golden: Golden) -> bool:
        """The value of `training` that stands for this variant in the converted model.

        Where a variant has an object of its own, `training=True` is what the old client did with
        `trainable=True`: it adds the update ops and nothing else.
        """
        keys = {variant["key"] for variant in golden.facts["variants"]}
        return self.variant["key"] != "" or "train" not in keys

    def owner(self, root: Any, golden: Golden) -> Any:
        """The object of the converted model that stands for this variant."""
        keys = {variant["key"] for variant in golden.facts["variants"]}
        key = self.variant["key"]
        return root if key == "" or (key == "train" and "" in keys) else getattr(root, key)

    def callable_of(self, root: Any, golden: Golden) -> Any:
        """The callable of the converted model that stands for this signature and variant."""
        owner = self.owner(root, golden)
        return owner if self.signature == "default" else getattr(owner, self.signature)

    def inputs(self, golden: Golden) -> dict[str, Any]:
        """The recorded inputs, as tensors."""
        return assemble(golden.under(f"{self.prefix}|in"), self.facts["inputs"])


def variables_of(variant: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The variables of a variant by name, parts of partitioned ones by themselves."""
    result = {}
    for whole in variant["variables"]:
        for part in whole.get("partitions", [whole]):
            result[part["name"]] = {**whole, **part, "whole": whole["name"]}
    return result


def whole_arrays(found: Mapping[str, Any], variant: Mapping[str, Any]) -> dict[str, Any]:
    """Joins the parts of partitioned variables, which are all cut along the first dimension."""
    parts: dict[str, list[Any]] = {}
    for name, facts in variables_of(variant).items():
        if name in found:
            parts.setdefault(facts["whole"], []).append(found[name])
    return {
        name: arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        for name, arrays in parts.items()
    }


def cases() -> list[Case]:
    """Every signature of every variant of every test module."""
    import json

    result = []
    for module in MODULES:
        facts = json.loads((TESTDATA / "golden" / f"{module}.json").read_text(encoding="utf-8"))
        for variant in facts["variants"]:
            result.extend(Case(module, variant, name) for name in sorted(variant["signatures"]))
    return result


def assemble(arrays: Arrays, infos: Mapping[str, Any]) -> dict[str, Any]:
    """Makes tensors, sparse and ragged ones too, of golden arrays stored by component."""
    import tensorflow as tf

    values: dict[str, Any] = {}
    for name, info in infos.items():
        dtype = tf.as_dtype(info["dtype"])

        def constant(key: str, dtype: Any = dtype) -> Any:
            array = arrays[key]
            if dtype == tf.string:
                return tf.constant(array.astype(object), tf.string)
            return tf.cast(tf.constant(array), dtype)

        if info["kind"] == "dense":
            values[name] = constant(name)
        elif info["kind"] == "sparse":
            values[name] = tf.SparseTensor(
                arrays[f"{name}|indices"], constant(f"{name}|values"), arrays[f"{name}|dense_shape"]
            )
        else:
            splits = sorted(key for key in arrays if key.startswith(f"{name}|row_splits"))
            values[name] = tf.RaggedTensor.from_nested_row_splits(
                constant(f"{name}|values"), [arrays[key] for key in splits]
            )
    return values


def components(value: Any) -> dict[str, NDArray[Any]]:
    """The plain arrays of a tensor, named as in the goldens (a dense one has an empty name)."""
    import tensorflow as tf

    if isinstance(value, tf.SparseTensor):
        return {
            f"|{part}": getattr(value, part).numpy()
            for part in ("indices", "values", "dense_shape")
        }
    if isinstance(value, tf.RaggedTensor):
        parts = {"|values": value.flat_values.numpy()}
        for depth, splits in enumerate(value.nested_row_splits):
            parts[f"|row_splits_{depth}"] = splits.numpy()
        return parts
    return {"": value.numpy()}


def assert_close(found: NDArray[Any], wanted: NDArray[Any], what: str, rtol: float = 1e-5) -> None:
    """Floats agree within rtol × max|wanted|; anything else is equal."""
    found = np.asarray(found)
    if wanted.dtype.kind == "S":
        assert found.astype(bytes).tolist() == wanted.tolist(), what
    elif wanted.dtype.kind == "f":
        assert found.shape == wanted.shape, what
        found, wanted = found.astype(np.float64), wanted.astype(np.float64)
        scale = max(float(np.max(np.abs(wanted), initial=0.0)), 1e-3)
        worst = float(np.max(np.abs(found - wanted), initial=0.0))
        assert worst <= rtol * scale, f"{what}: differs by {worst}, largest value {scale}"
    else:
        np.testing.assert_array_equal(found, wanted, what)


def converted(module: str, directory: Path) -> Path:
    """Converts a test module, once per directory."""
    from bridge.convert import to_saved_model

    dest = directory / module
    if not dest.exists():
        to_saved_model(TESTDATA / "modules" / module, dest)
    return dest
