"""The state of a module in a graph, and the applications that share it."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# tf.compat.v1.train.import_meta_graph does the same and makes a Saver of all variables each time.
from tensorflow.python.framework.meta_graph import import_scoped_meta_graph

from bridge.errors import Where
from bridge.hub._graph.colocation import rewrite_colocations
from bridge.hub._graph.edits import (
    keep_collections,
    prefix_shared_names,
    route_control_inputs,
    stub_out,
)
from bridge.hub._graph.functions import Body, captured, check_no_references
from bridge.hub._graph.ops import data_inputs, state_nodes
from bridge.hub._graph.tensor_infos import component_names, input_tensors, output_tensors
from bridge.hub._graph.variables import variable_map
from bridge.hub._tf import tf

_KEYS = tf.compat.v1.GraphKeys
_CONTEXTS = frozenset({_KEYS.COND_CONTEXT, _KEYS.WHILE_CONTEXT})
_OF_STATE = _CONTEXTS | {
    _KEYS.GLOBAL_VARIABLES,
    _KEYS.MODEL_VARIABLES,
    _KEYS.TABLE_INITIALIZERS,
    _KEYS.ASSET_FILEPATHS,
}
_OF_TRAINABLE_STATE = {_KEYS.TRAINABLE_VARIABLES, _KEYS.REGULARIZATION_LOSSES}
# An application has the nodes of the assets once more, so that their files count as its own.
_OF_APPLICATION = _CONTEXTS | {_KEYS.ASSET_FILEPATHS}


@dataclass(frozen=True)
class Instance:
    """A module's graph variant, and its state in a graph.

    Attributes:
      meta_graph: the variant's MetaGraphDef, which is not changed.
      where: the variant, for messages.
      trainable: whether the module's variables are to be trained.
      variables: the variables by name in the module, lists of the partitioned ones' parts.
      state: the tensors that hold the state, by name in the module.
    """

    meta_graph: Any
    where: Where
    trainable: bool
    variables: dict[str, Any]
    state: dict[str, Any]


def create_state(meta_graph: Any, name: str, trainable: bool, where: Where) -> Instance:
    """Adds the state of a module to the default graph, and to the graph's collections.

    Args:
      meta_graph: the graph variant's MetaGraphDef, which is not changed.
      name: an unused scope, within the current one.
      trainable: whether variables and losses are put into the collections for training.
      where: the variant, for messages.

    Raises:
      ValueError: the graph is not that of a module.
    """
    graph = tf.compat.v1.get_default_graph()
    scope = graph.unique_name(name, mark_as_used=False)
    part = copy.deepcopy(meta_graph)
    holders = state_nodes(part, where)
    keep_collections(part, _OF_STATE | (_OF_TRAINABLE_STATE if trainable else set()))
    prefix_shared_names(part, scope)
    import_scoped_meta_graph(part, import_scope=name)
    inside = f"{scope}/"
    variables = {
        variable.op.name.removeprefix(inside): variable
        for variable in tf.compat.v1.global_variables(scope=re.escape(inside))
    }
    return Instance(
        meta_graph=meta_graph,
        where=where,
        trainable=trainable,
        variables=variable_map(meta_graph, variables, where),
        state={f"{node}:0": graph.get_tensor_by_name(f"{inside}{node}:0") for node in holders},
    )


def apply_signature(
    instance: Instance, signature: str, inputs: Mapping[str, Any], name: str, where: Where
) -> dict[str, Any]:
    """Adds the ops of a signature to the default graph.

    Args:
      instance: the module.
      signature: name of the signature.
      inputs: a dense, sparse or ragged tensor for each of its inputs.
      name: the scope; a number is added to it if it is used.
      where: the signature, for messages.

    Returns:
      The outputs.

    Raises:
      ValueError: the module can't be applied here, or to these inputs.
    """
    graph = tf.compat.v1.get_default_graph()
    part = copy.deepcopy(instance.meta_graph)
    definition = part.signature_def[signature]
    given = instance.state | input_tensors(definition.inputs, inputs)
    holders = {
        node.name: node for node in part.graph_def.node if f"{node.name}:0" in instance.state
    }
    keep_collections(part, _OF_APPLICATION | ({_KEYS.UPDATE_OPS} if instance.trainable else set()))
    updates: list[str] = []
    if graph.building_function:
        given = _cut_to_body(part, definition, instance, given, where)
        holders = {node.name: node for node in part.graph_def.node if node.name in holders}
        # The collection may be that of the graph around, which can't wait for an op of a body.
        updates = list(part.collection_def[_KEYS.UPDATE_OPS].node_list.value)
        part.collection_def.pop(_KEYS.UPDATE_OPS, None)
    given = {key: captured(graph, tensor) for key, tensor in given.items()}
    if context := graph._get_control_flow_context():
        given = {key: context.AddValue(tensor) for key, tensor in sorted(given.items())}
    route_control_inputs(part, holders, given)
    stub_out(holders.values())
    scope = graph.unique_name(name, mark_as_used=False)
    prefix_shared_names(part, scope)
    taken = {source for node in part.graph_def.node for source in data_inputs(node)}
    import_scoped_meta_graph(
        part,
        input_map={key: tensor for key, tensor in given.items() if key in taken},
        import_scope=scope.rpartition("/")[2],
    )
    colocated = [node.name for node in part.graph_def.node if "_class" in node.attr]
    rewrite_colocations(graph, scope, colocated, given, where)

    def tensor(name: str) -> Any:
        # An output that is an input too is no node of the application.
        return given[name] if name in given else graph.get_tensor_by_name(f"{scope}/{name}")

    outputs = output_tensors(definition.outputs, tensor)
    if not updates:
        return outputs
    # Bodies of tf.cond and tf.while_loop run nothing but what their results need.
    nodes = [graph.get_operation_by_name(f"{scope}/{name.partition(':')[0]}") for name in updates]
    with tf.control_dependencies(nodes):
        held: dict[str, Any] = tf.nest.map_structure(tf.identity, outputs, expand_composites=True)
        return held


def _cut_to_body(
    part: Any, definition: Any, instance: Instance, given: Mapping[str, Any], where: Where
) -> dict[str, Any]:
    """Leaves in a MetaGraphDef what a function's body may have; returns the tensors it needs."""
    outputs = [name for info in definition.outputs.values() for name in component_names(info)]
    state = {name.removesuffix(":0") for name in instance.state}
    body = Body(part, given.keys(), state)
    body.need(outputs)
    if _KEYS.UPDATE_OPS in part.collection_def:
        # An update op of another signature waits for that one's input, and would be run.
        updates = part.collection_def[_KEYS.UPDATE_OPS].node_list.value
        body.need([name for name in updates if body.can_run(name)])
    body.cut()
    check_no_references(body, instance.state, where)
    used = body.used() | set(outputs)
    # Of what is kept, these are the nodes that others are colocated with.
    used.update(f"{name}:0" for name in body.kept)
    return {name: tensor for name, tensor in given.items() if name in used}
