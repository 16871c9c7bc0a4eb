"""Writes checkpoints of a module's variables, with values from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from bridge.dtypes import dtype_name
from bridge.errors import Where
from bridge.hub._tf import tf
from bridge.hub.errors import ArgumentValueError, MalformedSpecError
from bridge.hub.spec import ModuleSpec
from bridge.hub_module.names import GLOBAL_VARIABLES
from bridge.hub_module.variables import read_save_slice
from bridge.model import SaveSlice, Shape, Tags, format_shape, shape_from_proto
from bridge.proto import tf_pb


@dataclass(frozen=True)
class Declared:
    """A variable of a variant, or a part of one.

    Attributes:
      name: name of its op.
      key: name that a checkpoint has it by: that of the whole variable.
      dtype: DataType number.
      shape: static shape of the whole variable.
      part: what part of it this is; None for all of it.
    """

    name: str
    key: str
    dtype: int
    shape: Shape
    part: SaveSlice | None

    @property
    def spec(self) -> str:
        """Says what part it is, as SaveV2 wants it (tensorflow/core/framework/tensor_slice.h)."""
        if self.part is None:
            return ""
        whole = " ".join(map(str, self.part.full_shape))
        pairs = zip(self.part.var_offset, self.part.var_shape, strict=True)
        return f"{whole} " + ":".join(f"{offset},{size}" for offset, size in pairs)

    def cut(self, whole: Any) -> Any:
        """Returns its part of the whole variable's array."""
        if self.part is None:
            return whole
        pairs = zip(self.part.var_offset, self.part.var_shape, strict=True)
        return whole[tuple(slice(offset, offset + size) for offset, size in pairs)]


_Values = dict[tuple[str, str], Any]
"""Arrays by a variable's name and what part of it they are."""


def declared_variables(spec: ModuleSpec) -> dict[Tags, list[Declared]]:
    """Returns the variables of each variant.

    Raises:
      ValueError: a collection of a variant is broken.
    """
    return {tags: _declared(spec, tags) for tags in spec.get_tags()}


def copy_values(
    spec: ModuleSpec,
    checkpoint_path: str | os.PathLike[str],
    name_transform_fn: Callable[[str], str] | None,
    prefix: str,
) -> None:
    """Writes a checkpoint of a module's variables with the values of another one.

    Args:
      spec: the module.
      checkpoint_path: the other checkpoint: its prefix, or a directory, whose latest it is.
      name_transform_fn: gives the name there for the name here; the same if there is none.
      prefix: prefix of the checkpoint to write.

    Raises:
      ValueError: there is no such checkpoint, or it does not hold a variable as the module has it.
    """
    there = _Checkpoint(checkpoint_path)
    wholes: dict[str, Any] = {}
    values: _Values = {}
    for variables in declared_variables(spec).values():
        for one in variables:
            if (one.key, one.spec) in values:
                continue
            if one.key not in wholes:
                key = name_transform_fn(one.key) if name_transform_fn else one.key
                wholes[one.key] = there.value(key, one)
            values[one.key, one.spec] = one.cut(wholes[one.key])
    _save(prefix, values)


def initial_values(spec: ModuleSpec, prefix: str) -> None:
    """Writes a checkpoint of a module's variables with what their initializers give.

    A variable that several variants have is initialized as the first of them does it.

    Raises:
      tf.errors.OpError: an initializer fails.
    """
    values: _Values = {}
    for tags, variables in declared_variables(spec).items():
        missing = {one.name: one for one in variables if (one.key, one.spec) not in values}
        if not missing:
            continue
        with tf.Graph().as_default():
            tf.compat.v1.train.import_meta_graph(spec._meta_graph(tags))
            instances = {one.op.name: one for one in tf.compat.v1.global_variables()}
            with tf.compat.v1.Session() as session:
                session.run(tf.compat.v1.global_variables_initializer())
                found = session.run({name: instances[name].read_value() for name in missing})
        for name, one in missing.items():
            values[one.key, one.spec] = found[name]
    _save(prefix, values)


class _Checkpoint:
    """A checkpoint, and what it is asked for."""

    def __init__(self, path: str | os.PathLike[str]):
        self._where = Where(path)
        try:
            self._reader = tf.train.load_checkpoint(os.fspath(path))
        except (ValueError, tf.errors.OpError) as error:
            raise ArgumentValueError(
                f"the checkpoint can't be read: {error}", where=self._where
            ) from error
        self._shapes: Mapping[str, list[int]] = self._reader.get_variable_to_shape_map()
        self._dtypes: Mapping[str, Any] = self._reader.get_variable_to_dtype_map()

    def value(self, key: str, wanted: Declared) -> Any:
        """Returns a variable as an array.

        Args:
          key: its name in the checkpoint.
          wanted: what the module says of it.

        Raises:
          ValueError: it is not there, or of another type or shape.
        """
        if key not in self._shapes:
            raise ArgumentValueError(
                f"the checkpoint has no {key!r}, the value of the module's variable {wanted.key!r}",
                where=self._where,
                hint="name_transform_fn gives a variable's name in the checkpoint",
            )
        shape, dtype = tuple(self._shapes[key]), self._dtypes[key].as_datatype_enum
        fits = wanted.shape is None or (
            len(wanted.shape) == len(shape)
            and all(size in (None, found) for size, found in zip(wanted.shape, shape, strict=True))
        )
        if dtype != wanted.dtype or not fits:
            raise ArgumentValueError(
                f"the module's variable {wanted.key!r} is {dtype_name(wanted.dtype)}"
                f"{format_shape(wanted.shape)}, {key!r} in the checkpoint is {dtype_name(dtype)}"
                f"{format_shape(shape)}",
                where=self._where,
            )
        return self._reader.get_tensor(key)


def _declared(spec: ModuleSpec, tags: Tags) -> list[Declared]:
    meta_graph = spec._meta_graph(tags)
    if GLOBAL_VARIABLES not in meta_graph.collection_def:
        return []
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    result: list[Declared] = []
    for packed in meta_graph.collection_def[GLOBAL_VARIABLES].bytes_list.value:
        try:
            definition = tf_pb.VariableDef.FromString(packed)
        except DecodeError as error:
            raise MalformedSpecError("a broken VariableDef", where=spec._where(tags)) from error
        name = definition.variable_name.partition(":")[0]
        if name not in nodes:
            raise MalformedSpecError(f"there is no variable {name!r}", where=spec._where(tags))
        attrs = nodes[name].attr
        shape = shape_from_proto(attrs["shape"].shape)
        part = read_save_slice(definition)
        result.append(
            Declared(
                name,
                part.full_name if part else name,
                attrs["dtype"].type,
                part.full_shape if part else shape,
                part,
            )
        )
    return result


def _save(prefix: str, values: _Values) -> None:
    # Fed, so that no graph holds the values; in a graph, so that it works without eager execution.
    with tf.Graph().as_default():
        tensors = [
            tf.compat.v1.placeholder(tf.dtypes.as_dtype(value.dtype), value.shape)
            for value in values.values()
        ]
        save = tf.raw_ops.SaveV2(
            prefix=prefix,
            tensor_names=[name for name, _ in values],
            shape_and_slices=[spec for _, spec in values],
            tensors=tensors,
        )
        with tf.compat.v1.Session() as session:
            session.run(save, dict(zip(tensors, values.values(), strict=True)))
