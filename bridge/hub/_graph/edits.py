"""What is changed in a module's MetaGraphDef before it becomes part of another graph."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping
from typing import Any

from bridge.hub._graph.ops import CONTROL
from bridge.hub._tf import tf
from bridge.ops import PLACEHOLDERS


def keep_collections(meta_graph: Any, kept: Container[str]) -> None:
    """Removes all other collections."""
    for key in list(meta_graph.collection_def):
        if key not in kept:
            del meta_graph.collection_def[key]


def prefix_shared_names(meta_graph: Any, scope: str) -> None:
    """Puts `scope` before the names that resources are shared by, so that no two modules meet."""
    for node in meta_graph.graph_def.node:
        if "shared_name" in node.attr and (shared := node.attr["shared_name"].s):
            node.attr["shared_name"].s = f"{scope}/".encode() + shared


def stub_out(nodes: Iterable[Any]) -> None:
    """Makes placeholders of nodes whose outputs are replaced, so that they hold no state.

    They keep their names, which other nodes are colocated with.
    """
    for node in nodes:
        stub = type(node)(name=node.name, op="Placeholder")
        stub.attr["dtype"].type = tf.resource.as_datatype_enum
        if "shape" in node.attr:
            stub.attr["shape"].CopyFrom(node.attr["shape"])
        node.CopyFrom(stub)


def route_control_inputs(meta_graph: Any, state: Collection[str], given: Mapping[str, Any]) -> None:
    """Lets nodes that wait for a replaced node wait for what takes its place.

    The import replaces data inputs only. A placeholder that something waits for would have to be
    fed, although nobody sees it. A node that holds state does nothing that could be waited for.

    Args:
      meta_graph: the MetaGraphDef to change.
      state: names of the nodes that hold state.
      given: the tensors that take the place of the module's, by name.
    """
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    waited: dict[str, str] = {}
    for node in nodes.values():
        if not any(name.startswith(CONTROL) for name in node.input):
            continue
        inputs = []
        for name in node.input:
            target = name.removeprefix(CONTROL)
            if target == name:
                inputs.append(name)
            elif target in state:
                continue
            elif f"{target}:0" in given and nodes[target].op in PLACEHOLDERS:
                inputs.append(
                    CONTROL + waited.setdefault(target, _unused(f"{target}_given", nodes))
                )
            else:
                inputs.append(name)
        node.input[:] = inputs
    for target, name in waited.items():
        identity = meta_graph.graph_def.node.add(name=name, op="Identity", input=[f"{target}:0"])
        identity.attr["T"].type = given[f"{target}:0"].dtype.base_dtype.as_datatype_enum


def _unused(name: str, names: Container[str]) -> str:
    while name in names:
        name += "_"
    return name
