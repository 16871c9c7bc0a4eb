"""Which ops must be on one device, after tensors of a module were replaced by others.

A node says `loc:@x` in its attribute `_class` if it is to be where node x is. The import puts the
scope before x. Where the outputs of x were replaced by those of an op z, x computes nothing, and
what was to be where x is has to be where z is: it gets the constraints of z.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.errors import Where
from bridge.hub.errors import UnsupportedSpecError

_CLASS = "_class"
_LOCATION = b"loc:@"


@dataclass(frozen=True)
class _Constraint:
    """What takes the place of `loc:@x` for one output of x, and why."""

    groups: tuple[bytes, ...]
    reason: str


def rewrite_colocations(
    graph: Any, scope: str, names: Iterable[str], given: Mapping[str, Any], where: Where
) -> None:
    """Rewrites the colocations of imported nodes, and their devices with them.

    Args:
      graph: the graph that was imported into.
      scope: the absolute name of the scope of the import.
      names: names of the imported nodes that have a colocation, within the scope.
      given: the tensors that took the place of the module's, by name within the scope.
      where: the signature, for messages.

    Raises:
      ValueError: several outputs of a node were replaced by ops of different constraints, or not
        all were, and some node is to be where that node is.
    """
    constraints = _constraints(graph, scope, given)
    for name in names:
        op = graph.get_operation_by_name(f"{scope}/{name}")
        groups: set[bytes] = set()
        others: list[bytes] = []
        for value in op.get_attr(_CLASS):
            if not value.startswith(_LOCATION):
                others.append(value)
                continue
            found = constraints.get(value, [_Constraint((value,), "")])
            if len({one.groups for one in found}) > 1:
                raise UnsupportedSpecError(
                    f"node {op.name!r} is to be on the device of {_name(value)!r}, and its "
                    "outputs may now be on several: "
                    + "; ".join(
                        f"{', '.join(map(_name, one.groups))} ({one.reason})" for one in found
                    ),
                    where=Where(where.path, where.variant, where.signature, name),
                    hint="give inputs whose ops have the same colocation",
                )
            groups.update(found[0].groups)
        _set(graph, op, others, sorted(groups))


def _constraints(
    graph: Any, scope: str, given: Mapping[str, Any]
) -> dict[bytes, list[_Constraint]]:
    """Returns for each replaced node's `loc:@…` the constraints that took its place."""
    replaced: dict[str, dict[int, Any]] = {}
    for name, tensor in given.items():
        node, _, index = name.rpartition(":")
        replaced.setdefault(node, {})[int(index)] = tensor
    result = {}
    for node, tensors in replaced.items():
        name = f"{scope}/{node}"
        own = _LOCATION + name.encode()
        found = [
            _Constraint(
                tuple(sorted(tensor.op.colocation_groups())),
                f"{node}:{index} is replaced by {tensor.name}",
            )
            for index, tensor in sorted(tensors.items())
        ]
        try:
            count = len(graph.get_operation_by_name(name).outputs)
        except KeyError:
            continue  # Left out of a function, so that nothing is to be where it is.
        if kept := [index for index in range(count) if index not in tensors]:
            found.append(_Constraint((own,), f"{node}:{kept[0]} is not replaced"))
        result[own] = found
    return result


def _name(group: bytes) -> str:
    return group.removeprefix(_LOCATION).decode()


def _set(graph: Any, op: Any, others: list[bytes], groups: list[bytes]) -> None:
    """Sets the constraints of an op and the device that follows from them."""
    from tensorflow.core.framework import attr_value_pb2

    value = attr_value_pb2.AttrValue()
    value.list.s.extend([*others, *groups])
    op._set_attr(_CLASS, value)
    if not groups:
        return
    # As tf.import_graph_def does: the constraints win over the device of the place of the call.
    targets = (graph.get_operation_by_name(_name(one)) for one in groups)
    op._set_device(next((target.device for target in targets if target.device), ""))
