"""The object graph of a SavedModel: what tf.saved_model.load makes Python objects from.

Source: tensorflow/core/protobuf/saved_object_graph.proto and python/saved_model/load.py.
"""

from __future__ import annotations

from collections.abc import Iterable

from bridge.model import Variable, shape_to_proto
from bridge.proto import tf_pb
from bridge.saved_model.structured_value import function_spec

ROOT = 0
ATTRIBUTE = "VARIABLE_VALUE"
OBJECT_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"


def checkpoint_key(variable: str) -> str:
    """The key of a variable in the new checkpoint.

    Every loader takes any key that contains `/.ATTRIBUTES/`; starting it with the variable's own
    name keeps the checkpoint readable.
    """
    return f"{variable}/.ATTRIBUTES/{ATTRIBUTE}"


class ObjectGraph:
    """Nodes by number, and their named children."""

    def __init__(self) -> None:
        """Starts with the root, a plain object."""
        self.nodes: list[tf_pb.SavedObject] = []
        self._attributes: dict[int, str] = {}
        self.add_object()

    def _add(self, **kind: object) -> int:
        self.nodes.append(tf_pb.SavedObject(**kind))  # type: ignore[arg-type]
        return len(self.nodes) - 1

    def add_object(self, identifier: str = "_generic_user_object") -> int:
        """Adds an object whose class TensorFlow finds by its registered identifier."""
        version = tf_pb.VersionDef(producer=1, min_consumer=1)
        return self._add(user_object=tf_pb.SavedUserObject(identifier=identifier, version=version))

    def add_list(self, items: Iterable[int]) -> int:
        """Adds a tracked list."""
        number = self.add_object("trackable_list_wrapper")
        for position, item in enumerate(items):
            self.link(number, str(position), item)
        return number

    def add_variable(self, variable: Variable) -> int:
        """Adds a variable, and its value's place in the checkpoint."""
        saved = tf_pb.SavedVariable(
            shape=shape_to_proto(variable.shape), trainable=variable.trainable, name=variable.name
        )
        saved.dtype = variable.dtype  # type: ignore[assignment]
        saved.synchronization = variable.synchronization  # type: ignore[assignment]
        saved.aggregation = variable.aggregation  # type: ignore[assignment]
        number = self._add(variable=saved)
        self._attributes[number] = variable.name
        return number

    def add_asset(self, index: int) -> int:
        """Adds the path of an asset file, by its index in `asset_file_def`."""
        return self._add(asset=tf_pb.SavedAsset(asset_file_def_index=index))

    def add_resource(self) -> int:
        """Adds a resource that functions among its children create and initialize."""
        return self._add(resource=tf_pb.SavedResource())

    def add_function(self, concrete: Iterable[str], spec: tf_pb.FunctionSpec) -> int:
        """Adds a function that picks one of its concrete functions by the arguments."""
        function = tf_pb.SavedFunction(concrete_functions=concrete, function_spec=spec)
        return self._add(function=function)

    def add_signature(self, concrete: str, keywords: list[str]) -> int:
        """Adds a serving signature, which is called with keywords, or with its one argument."""
        return self._add(
            bare_concrete_function=tf_pb.SavedBareConcreteFunction(
                concrete_function_name=concrete,
                argument_keywords=keywords,
                allowed_positional_arguments=1 if len(keywords) == 1 else 0,
                function_spec=function_spec([], kwonlyargs=keywords),
            )
        )

    def link(self, parent: int, name: str, child: int) -> None:
        """Makes one object an attribute of another."""
        reference = tf_pb.TrackableObjectGraph.TrackableObject.ObjectReference
        self.nodes[parent].children.append(reference(node_id=child, local_name=name))

    def children(self, parent: int) -> set[str]:
        """Returns the names of an object's attributes."""
        return {child.local_name for child in self.nodes[parent].children}

    def checkpoint_graph(self) -> bytes:
        """Returns the TrackableObjectGraph that the checkpoint holds, with the same numbers."""
        graph = tf_pb.TrackableObjectGraph()
        for number, node in enumerate(self.nodes):
            entry = graph.nodes.add()
            entry.children.extend(node.children)
            if number in self._attributes:
                name = self._attributes[number]
                attribute = tf_pb.TrackableObjectGraph.TrackableObject.SerializedTensor(
                    name=ATTRIBUTE, full_name=name, checkpoint_key=checkpoint_key(name)
                )
                entry.attributes.append(attribute)
        return graph.SerializeToString(deterministic=True)
