"""What is different where a module is applied while a function is built.

A function runs every op in its body that has an effect, whether or not a result depends on it, so
only what the outputs need may be in it: no initializers, no other signatures. And tensors of the
graph around it must be captured.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tensorflow.core.protobuf import control_flow_pb2

from bridge.errors import Where
from bridge.hub._graph.ops import CONTROL, data_inputs, full_name, takes_reference
from bridge.hub._tf import tf
from bridge.hub.errors import UnsupportedSpecError
from bridge.ops import PLACEHOLDERS

_CLASS = "_class"
_LOCATION = b"loc:@"
_CONTEXTS = {
    tf.compat.v1.GraphKeys.COND_CONTEXT: control_flow_pb2.CondContextDef,
    tf.compat.v1.GraphKeys.WHILE_CONTEXT: control_flow_pb2.WhileContextDef,
}


@dataclass(frozen=True)
class _Context:
    """A branch of a v1 cond, or a v1 loop.

    Attributes:
      packed: its serialized definition.
      inside: names of the nodes in it.
      named: names of all nodes that the definition needs, and others.
    """

    packed: bytes
    inside: frozenset[str]
    named: frozenset[str]


class Body:
    """The part of a module's graph that goes into the body of a function."""

    def __init__(self, meta_graph: Any, given: Collection[str], state: Collection[str]):
        """Starts with nothing.

        Args:
          meta_graph: the module's MetaGraphDef.
          given: names of the tensors that others take the place of.
          state: names of the nodes that hold state.
        """
        self._meta_graph = meta_graph
        self._nodes = {node.name: node for node in meta_graph.graph_def.node}
        self._given = given
        self._state = state
        self._contexts = _contexts(meta_graph)
        self.kept: set[str] = set()

    def need(self, tensors: Iterable[str]) -> None:
        """Keeps what tensors or nodes depend on, and with a node of a loop or cond all of it."""
        self._walk(_node_of(name) for name in tensors if name not in self._given)
        grown = True
        while grown:
            before = len(self.kept)
            for context in self._contexts:
                if not self.kept.isdisjoint(context.inside):
                    self._walk(context.named & self._nodes.keys())
            grown = len(self.kept) > before

    def can_run(self, name: str) -> bool:
        """Returns whether a node depends on no placeholder that nothing takes the place of."""
        alone = Body(self._meta_graph, self._given, self._state)
        alone.need([name])
        return not any(
            self._nodes[one].op in PLACEHOLDERS and f"{one}:0" not in self._given
            for one in alone.kept
        )

    def cut(self) -> None:
        """Removes all other nodes from the MetaGraphDef, and what speaks of them."""
        for name in sorted(self.kept):
            self._keep_colocated(self._nodes[name])
        graph_def = self._meta_graph.graph_def
        nodes = [node for node in graph_def.node if node.name in self.kept]
        del graph_def.node[:]
        graph_def.node.extend(nodes)
        absent = {one.packed for one in self._contexts if self.kept.isdisjoint(one.inside)}
        for key in _CONTEXTS:
            if key in self._meta_graph.collection_def:
                packed = self._meta_graph.collection_def[key].bytes_list.value
                packed[:] = [one for one in packed if one not in absent]
        for collection in self._meta_graph.collection_def.values():
            if collection.WhichOneof("kind") == "node_list":
                values = collection.node_list.value
                values[:] = [name for name in values if _node_of(name) in self.kept]

    def references(self, tensors: Iterable[str]) -> dict[str, str]:
        """Returns which of the tensors some kept node takes as a reference, and the first such."""
        wanted = set(tensors)
        result: dict[str, str] = {}
        for name in sorted(self.kept):
            node = self._nodes[name]
            for index, source in enumerate(data_inputs(node)):
                if source in wanted and takes_reference(node, index):
                    result.setdefault(source, name)
        return result

    def used(self) -> set[str]:
        """Returns the tensors that kept nodes take as inputs."""
        return {source for name in self.kept for source in data_inputs(self._nodes[name])}

    def _walk(self, names: Iterable[str]) -> None:
        waiting = [name for name in names if name not in self.kept]
        while waiting:
            name = waiting.pop()
            if name in self.kept:
                continue
            self.kept.add(name)
            if name in self._state:
                continue
            for source in self._nodes[name].input:
                # What waits for a replaced node waits for its substitute, see route_control_inputs.
                if source.startswith(CONTROL) or full_name(source) not in self._given:
                    waiting.append(_node_of(source))

    def _keep_colocated(self, node: Any) -> None:
        """Keeps the replaced nodes that a node is colocated with, and forgets the absent ones."""
        if _CLASS not in node.attr:
            return
        values = node.attr[_CLASS].list.s
        for value in values:
            target = value.removeprefix(_LOCATION).decode()
            if value.startswith(_LOCATION) and f"{target}:0" in self._given:
                self.need([target])
        values[:] = [
            value
            for value in values
            if not value.startswith(_LOCATION)
            or value.removeprefix(_LOCATION).decode() in self.kept
        ]


def captured(graph: Any, tensor: Any) -> Any:
    """Returns a tensor of a graph around a function's as one of the function's own.

    A reference can't be captured; its value, read outside of the function, can.
    """
    if tensor.graph is graph:
        return tensor
    if tensor.dtype != tensor.dtype.base_dtype:
        with tensor.graph.as_default(), tf.control_dependencies(None):
            tensor = tf.identity(tensor)
    return graph.capture(tensor)


def check_no_references(body: Body, state: Mapping[str, Any], where: Where) -> None:
    """Refuses a body that needs a reference, which no function can be given.

    Raises:
      ValueError: a node in it must have one.
    """
    references = [name for name, tensor in state.items() if tensor.dtype != tensor.dtype.base_dtype]
    for tensor, node in body.references(references).items():
        raise UnsupportedSpecError(
            f"node {node!r} changes or passes on the reference {tensor}, which no function can",
            where=Where(where.path, where.variant, where.signature, node),
            hint="apply the module outside of functions, or call "
            "tf.compat.v1.disable_control_flow_v2() if the function is a branch of tf.cond or the "
            "body of tf.while_loop",
        )


def _contexts(meta_graph: Any) -> list[_Context]:
    result = []
    for key, message_type in _CONTEXTS.items():
        if key in meta_graph.collection_def:
            for packed in meta_graph.collection_def[key].bytes_list.value:
                definition = message_type.FromString(packed)
                inside = frozenset(map(_node_of, _inside(definition)))
                result.append(
                    _Context(packed, inside, frozenset(map(_node_of, _named(definition))))
                )
    return result


def _inside(definition: Any) -> Iterator[str]:
    """Yields the tensors of a context and of those within it, not the ones from around it."""
    values = definition.values_def
    yield from set(values.values) - set(values.external_values)
    for nested in definition.nested_contexts:
        yield from _inside(getattr(nested, nested.WhichOneof("ctxt")))


def _named(message: Any) -> Iterator[str]:
    """Yields all strings of a message, of which the context's own name is no node's."""
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            yield from value.values()
        elif field.type == field.TYPE_MESSAGE:
            for one in value if field.is_repeated else [value]:
                yield from _named(one)
        elif field.type == field.TYPE_STRING:
            yield from value if field.is_repeated else [value]


def _node_of(name: str) -> str:
    return name.removeprefix(CONTROL).partition(":")[0]
