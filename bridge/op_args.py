"""The arguments of ops as plain Python values: there are few ops, and many nodes of each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from bridge.dtypes import REF_OFFSET
from bridge.proto import tf_pb


class Arg(NamedTuple):
    """An OpDef.ArgDef.

    Attributes:
      name: its name.
      dtype: its type, where the op fixes it.
      ref: what is added to the type for a reference, or 0.
      type_attr: the attribute that gives the type otherwise, or empty.
      number_attr: the attribute that says how many tensors of the type it is, or empty.
      type_list_attr: the attribute that gives the types of its tensors, or empty.
    """

    name: str
    dtype: int
    ref: int
    type_attr: str
    number_attr: str
    type_list_attr: str


class OpArgs(NamedTuple):
    """What an op, or a function, takes and gives.

    Attributes:
      inputs: the arguments that it takes.
      outputs: those that it gives.
      values: attributes of its nodes that are no functions, nor lists of functions.
    """

    inputs: tuple[Arg, ...]
    outputs: tuple[Arg, ...]
    values: frozenset[str]


def op_args(op_def: tf_pb.OpDef) -> OpArgs:
    """Returns the arguments of an op."""
    values = {attr.name for attr in op_def.attr if attr.type not in ("func", "list(func)")}
    values.add("_output_shapes")  # which all nodes of a SavedModel have
    return OpArgs(plain_args(op_def.input_arg), plain_args(op_def.output_arg), frozenset(values))


def plain_args(args: Iterable[tf_pb.OpDef.ArgDef]) -> tuple[Arg, ...]:
    """Returns arguments as plain values."""
    return tuple(
        Arg(
            arg.name,
            arg.type,
            REF_OFFSET if arg.is_ref else 0,
            arg.type_attr,
            arg.number_attr,
            arg.type_list_attr,
        )
        for arg in args
    )
