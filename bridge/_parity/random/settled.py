"""What of a model stays as it was loaded, so that the seeds that are made of it stay too."""

from __future__ import annotations

from collections.abc import Collection

from bridge._parity.random.seeds import Seed
from bridge._surfaces.bodies import Bodies
from bridge._surfaces.writes import EffectsReader
from bridge.errors import UnsupportedError
from bridge.graph import Graph, parse_tensor
from bridge.hub_module.names import REGULARIZATION_LOSSES, UPDATE_OPS
from bridge.ops import REFERENCE_VARIABLES, RESOURCE_VARIABLE
from bridge.proto import tf_pb

_SETTLED_OBJECTS = frozenset({"asset", "constant"})
"""Kinds of captured objects that stay as they are."""


def entries_of(meta_graph: tf_pb.MetaGraphDef, bodies: Bodies) -> dict[str, list[Seed]]:
    """Returns what is known of the arguments of the functions that users call.

    Args:
      meta_graph: the SavedModel's; of a module, there are no such functions.
      bodies: the functions.
    """
    objects = meta_graph.object_graph_def
    arguments = {
        f.signature.name: f.signature.input_arg for f in meta_graph.graph_def.library.function
    }
    written = _written_objects(meta_graph, bodies)
    result: dict[str, list[Seed]] = {}
    for name, concrete in objects.concrete_functions.items():
        captured = [
            Seed.SETTLED
            if 0 <= number < len(objects.nodes) and _stays(objects.nodes[number], number, written)
            else Seed.MOVING
            for number in concrete.bound_inputs
        ]
        given = max(0, len(arguments.get(name, ())) - len(captured))
        if name in arguments:
            result[name] = [*[Seed.SETTLED] * given, *captured]
    return result


def _stays(node: tf_pb.SavedObject, number: int, written: Collection[int]) -> bool:
    kind = node.WhichOneof("kind")
    return kind in _SETTLED_OBJECTS or (kind == "variable" and number not in written)


def _written_objects(meta_graph: tf_pb.MetaGraphDef, bodies: Bodies) -> set[int]:
    """Returns the objects that functions may change, but those that run only to load the model."""
    objects = meta_graph.object_graph_def
    library = {function.signature.name for function in meta_graph.graph_def.library.function}
    loading = _run_by_loading(objects)
    reader = EffectsReader(bodies, with_values=False)
    found: set[int] = set()
    for name, concrete in objects.concrete_functions.items():
        if name not in library or name in loading:
            continue
        captured = list(concrete.bound_inputs)
        try:
            names, effects = reader.of_function(name)
        except UnsupportedError:
            found |= set(captured)  # nobody knows which
            continue
        places = {names[len(names) - len(captured) + i]: n for i, n in enumerate(captured)}
        found |= {places[argument] for argument in effects.written if argument in places}
    return found


def _run_by_loading(objects: tf_pb.SavedObjectGraph) -> set[str]:
    """Returns the concrete functions that set objects up."""
    numbers = {
        child.node_id
        for node in objects.nodes
        if node.HasField("resource")
        for child in node.children
        if child.local_name == "_initialize"
    }
    numbers |= {
        saveable.restore_function
        for node in objects.nodes
        for saveable in node.saveable_objects.values()
    }
    found: set[str] = set()
    for number in numbers:
        if 0 <= number < len(objects.nodes):
            node = objects.nodes[number]
            found |= set(node.function.concrete_functions)
            found.add(node.bare_concrete_function.concrete_function_name)
    return found


def unwritten_of(meta_graph: tf_pb.MetaGraphDef, graph: Graph, bodies: Bodies) -> frozenset[str]:
    """Returns the variables of a module that neither its signatures nor its update ops write.

    What initializes and restores them is run once, to load it.

    Args:
      meta_graph: a variant of the module.
      graph: its graph.
      bodies: the functions.
    """
    found = {
        name
        for name, node in graph.nodes.items()
        if node.op in REFERENCE_VARIABLES or node.op == RESOURCE_VARIABLE
    }
    if not found:
        return frozenset()
    run = [
        text
        for signature in meta_graph.signature_def.values()
        for info in signature.outputs.values()
        for text in tensors_of(info)
    ]
    for key in (UPDATE_OPS, REGULARIZATION_LOSSES):
        if key in meta_graph.collection_def:  # to ask for it would make one
            run += meta_graph.collection_def[key].node_list.value
    nodes = graph.nodes.keys() & {parse_tensor(text).node for text in run}
    try:
        effects = EffectsReader(bodies, with_values=False).of_graph(graph, (), nodes)
    except UnsupportedError:
        return frozenset()  # nobody knows which
    return frozenset(found - effects.written.keys())


def tensors_of(info: tf_pb.TensorInfo) -> list[str]:
    """Returns the names of the tensors of an output."""
    if info.HasField("coo_sparse"):
        sparse = info.coo_sparse
        return [
            sparse.indices_tensor_name,
            sparse.values_tensor_name,
            sparse.dense_shape_tensor_name,
        ]
    if info.HasField("composite_tensor"):
        return [component.name for component in info.composite_tensor.components]
    return [info.name]
