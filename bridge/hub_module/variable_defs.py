"""Declares variables as TensorFlow 1.15 does, and says what the checkpoint holds of them.

A client finds a variable through its VariableDef, which names its node, and nodes that initialize
and read it (tensorflow/python/ops/resource_variable_ops.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from bridge.attrs import ints_tensor_attr, type_attr
from bridge.bundle import Entry, Slice, TensorSource
from bridge.bundle.slices import covers
from bridge.dtypes import dtype_name, element_bytes
from bridge.errors import UnsupportedError, Where
from bridge.graph import Graph
from bridge.model import Model, Variable
from bridge.ops import RESOURCE_VARIABLE
from bridge.opsets.release import Release
from bridge.proto import tf_pb

_MAX_INT32 = (1 << 31) - 1


def declare_variables(
    graph: Graph, model: Model, trainable: Collection[str], release: Release
) -> dict[str, bytes]:
    """Adds to a graph what makes variables of its resources.

    Variables that the graph lacks are added, too: all variants of a module declare the same ones,
    or a client could not restore the checkpoint of one into another.

    Args:
      graph: the graph; it is changed.
      model: gives the variables.
      trainable: names of those that the variant trains.
      release: the release that must be able to initialize them.

    Returns:
      Serialized VariableDefs by name of the variable, in the order of the model. TensorFlow takes
      two collections to speak of one variable only if both hold the very same bytes.

    Raises:
      UnsupportedError: a variable that no checkpoint or no client can give a value.
    """
    _check_nodes(graph, model)
    result: dict[str, bytes] = {}
    for variable in model.variables.values():
        _check_dtype(variable, graph, release)
        definition = _declare(variable, graph)
        definition.trainable = variable.name in trainable
        result[variable.name] = definition.SerializeToString(deterministic=True)
    return result


def _check_nodes(graph: Graph, model: Model) -> None:
    for name, node in graph.nodes.items():
        if (node.op == RESOURCE_VARIABLE) != (name in model.variables):
            raise UnsupportedError(
                "the variable has no value in the checkpoint"
                if node.op == RESOURCE_VARIABLE
                else f"a node with the name of a variable has op {node.op!r}",
                where=graph.at(name),
                hint="save the model again with all its variables tracked",
            )


def _check_dtype(variable: Variable, graph: Graph, release: Release) -> None:
    # The passes have looked at the nodes of the source, not at those that are added here.
    dtype = frozenset({variable.dtype})
    if (
        (variable.dtype == tf_pb.DT_STRING or element_bytes(variable.dtype))
        and release.has_kernel("AssignVariableOp", {"dtype": dtype})
        and release.has_kernel("Fill", {"T": dtype})
    ):
        return
    raise UnsupportedError(
        f"{release} can't initialize variables of type {dtype_name(variable.dtype)}",
        where=graph.at(variable.name),
        hint="save the model again with this variable in another type",
    )


def _declare(variable: Variable, graph: Graph) -> tf_pb.VariableDef:
    name = variable.name
    dtype = type_attr(variable.dtype)
    # Written anew where it is there: notes on a resource, such as its device or the shape that it
    # had as a reference, are refused by the client or mislead it. No state waits for anything.
    handle = variable.handle()
    if (known := graph.nodes.pop(name, None)) is not None:
        handle.attr["shape"].CopyFrom(graph.attr(known, "shape"))  # it may change while it trains
    graph.nodes[name] = handle
    initial_value = _add_initial_value(variable, graph)
    assign = graph.unique_name(f"{name}/Assign")
    graph.add("AssignVariableOp", assign, [name, initial_value], dtype=dtype)
    read = graph.unique_name(f"{name}/Read/ReadVariableOp")
    graph.add("ReadVariableOp", read, [name], dtype=dtype)
    definition = tf_pb.VariableDef(
        variable_name=f"{name}:0",
        initial_value_name=f"{initial_value}:0",
        initializer_name=assign,
        snapshot_name=f"{read}:0",
        is_resource=True,
    )
    describe_variable(definition, variable)
    return definition


def describe_variable(definition: tf_pb.VariableDef, variable: Variable) -> None:
    """Fills in what a VariableDef says beside names of nodes."""
    definition.synchronization = variable.synchronization  # type: ignore[assignment]
    definition.aggregation = variable.aggregation  # type: ignore[assignment]
    if (part := variable.save_slice) is not None:
        info = definition.save_slice_info_def
        info.full_name = part.full_name
        info.full_shape.extend(part.full_shape)
        info.var_offset.extend(part.var_offset)
        info.var_shape.extend(part.var_shape)


def _add_initial_value(variable: Variable, graph: Graph) -> str:
    """Adds zeros that take no room in the graph; a client reads the checkpoint instead of them."""
    zeros = f"{variable.name}/Initializer/zeros"
    index = tf_pb.DT_INT64 if max(variable.shape, default=0) > _MAX_INT32 else tf_pb.DT_INT32
    dims = graph.add(
        "Const",
        graph.unique_name(f"{zeros}/shape_as_tensor"),
        dtype=type_attr(index),
        value=ints_tensor_attr(index, variable.shape),
    )
    zero = tf_pb.TensorProto(tensor_shape=tf_pb.TensorShapeProto())
    zero.dtype = variable.dtype  # type: ignore[assignment]
    if variable.dtype == tf_pb.DT_STRING:
        zero.string_val.append(b"")
    else:
        zero.tensor_content = bytes(element_bytes(variable.dtype) or 0)
    value = graph.add(
        "Const",
        graph.unique_name(f"{zeros}/Const"),
        dtype=type_attr(variable.dtype),
        value=tf_pb.AttrValue(tensor=zero),
    )
    fill = graph.add(
        "Fill",
        graph.unique_name(zeros),
        [dims.name, value.name],
        T=type_attr(variable.dtype),
        index_type=type_attr(index),
    )
    return fill.name


# -- the checkpoint ----------------------------------------------------------------------------


def checkpoint_tensors(model: Model) -> dict[str, TensorSource | Entry]:
    """Returns what the checkpoint of a module holds: variables by name, slices by their full name.

    Raises:
      UnsupportedError: the parts of a partitioned variable do not make up a whole, or not one that
        a client could put together.
    """
    tensors: dict[str, TensorSource | Entry] = {}
    parts: dict[str, list[Variable]] = defaultdict(list)
    for variable in model.variables.values():
        if variable.save_slice is None:
            tensors[variable.name] = TensorSource(variable.dtype, variable.shape, variable.data)
        else:
            parts[variable.save_slice.full_name].append(variable)
    for name, variables in parts.items():
        if name in tensors:
            raise _no_whole(name, model, "a variable has the same name")
        tensors[name] = _join(name, variables, model)
    return tensors


def _join(name: str, variables: list[Variable], model: Model) -> TensorSource | Entry:
    slices: list[Slice] = []
    wholes: set[tuple[int, tuple[int, ...]]] = set()
    for variable in variables:
        part = variable.save_slice
        assert part is not None
        wholes.add((variable.dtype, part.full_shape))
        extents = tuple(zip(part.var_offset, part.var_shape, strict=True))
        slices.append(Slice(extents, part.var_shape, variable.data))
        if any(part.var_offset[1:]):
            raise _no_whole(name, model, "it is cut along another dimension than the first")
    dtype, shape = wholes.pop()
    if wholes or not covers(shape, [(part.offsets, part.shape) for part in slices]):
        raise _no_whole(name, model, "its parts do not cover it")
    if len(slices) == 1:
        return TensorSource(dtype, shape, slices[0].data)
    return Entry(dtype, shape, None, tuple(slices))


def _no_whole(name: str, model: Model, reason: str) -> UnsupportedError:
    return UnsupportedError(
        f"the partitioned variable {name!r} can't be restored: {reason}",
        where=Where(model.source),
    )
