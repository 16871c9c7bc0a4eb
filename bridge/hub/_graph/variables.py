"""The variables of an instantiated module by their names in the module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tensorflow.core.framework import variable_pb2

from bridge.errors import Where
from bridge.hub.errors import MalformedSpecError


def variable_map(meta_graph: Any, instances: Mapping[str, Any], where: Where) -> dict[str, Any]:
    """Returns each variable by its name in the module; of a partitioned one, the list of its parts.

    Args:
      meta_graph: the module's MetaGraphDef.
      instances: the variables of the graph, by the names that they have in it without the scope.
      where: the variant, for messages.

    Raises:
      ValueError: two variables have one name, or two parts one place.
    """
    result: dict[str, Any] = {}
    parts: dict[str, dict[tuple[int, ...], Any]] = {}
    for definition in _definitions(meta_graph):
        name = definition.variable_name.rpartition(":")[0]
        if not definition.HasField("save_slice_info_def"):
            _add(result, name, instances[name], where)
            continue
        info = definition.save_slice_info_def
        _add(parts.setdefault(info.full_name, {}), tuple(info.var_offset), instances[name], where)
    for name, by_offset in parts.items():
        _add(result, name, [part for _, part in sorted(by_offset.items())], where)
    return result


def flat_variables(variables: Mapping[str, Any]) -> list[Any]:
    """Returns all variables, sorted by name, the parts of a partitioned one in their order."""
    result = []
    for _, value in sorted(variables.items()):
        result += value if isinstance(value, list) else [value]
    return result


def _definitions(meta_graph: Any) -> list[Any]:
    if "variables" not in meta_graph.collection_def:
        return []
    values = meta_graph.collection_def["variables"].bytes_list.value
    # Serialized maps and fields come in one order, so that equal definitions have equal bytes.
    return [variable_pb2.VariableDef.FromString(value) for value in dict.fromkeys(values)]


def _add(target: dict[Any, Any], key: Any, value: Any, where: Where) -> None:
    if key in target:
        raise MalformedSpecError(f"there are two variables, or parts of one, {key!r}", where=where)
    target[key] = value
