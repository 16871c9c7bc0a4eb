"""Digests of what graphs compute, whatever their nodes and functions are called.

Two results with one digest are computed by the same ops from the same values. The reverse does not
hold: other ops may compute the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence

from bridge._surfaces.bodies import Bodies
from bridge.errors import MalformedError
from bridge.graph import Graph, Tensor
from bridge.inline import MAX_NODES, called_body
from bridge.proto import tf_pb


def digest(*parts: bytes | str) -> bytes:
    """Returns the digest of some values in this order."""
    result = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        result.update(len(data).to_bytes(8, "little") + data)
    return result.digest()


class Contents:
    """Digests of the results of functions and graphs that share a library."""

    def __init__(self, bodies: Bodies):
        """Takes the functions; the graphs that are given have the same library."""
        self._bodies = bodies
        self._functions: dict[tuple[str, tuple[bytes, ...]], tuple[bytes, ...]] = {}
        self._own: dict[str, dict[str, bytes]] = {}
        self._defaults: dict[str, dict[str, bytes]] = {}
        self._nodes = 0

    def of_function(self, name: str, arguments: Sequence[bytes]) -> tuple[bytes, ...]:
        """Returns the digests of a function's results.

        Args:
          name: the function.
          arguments: what its arguments are, as digests.

        Raises:
          MalformedError: functions call one another too often.
        """
        key = name, tuple(arguments)
        if key not in self._functions:
            body = self._bodies[name]
            given = body.given(name, arguments)
            own = self._own.setdefault(name, {})
            nodes = self._of_nodes(body.graph, {t.node for t in body.outputs}, given, own)
            self._functions[key] = tuple(_of_tensor(nodes, tensor) for tensor in body.outputs)
        return self._functions[key]

    def of_tensors(
        self, graph: Graph, tensors: Iterable[Tensor], given: Mapping[str, bytes]
    ) -> list[bytes]:
        """Returns the digests of tensors of a graph.

        Args:
          graph: the graph.
          tensors: the tensors.
          given: the digests of nodes that stand for something else, by name.
        """
        tensors = list(tensors)
        nodes = self._of_nodes(graph, {tensor.node for tensor in tensors}, given, {})
        return [_of_tensor(nodes, tensor) for tensor in tensors]

    def _of_nodes(
        self,
        graph: Graph,
        targets: Collection[str],
        given: Mapping[str, bytes],
        own: dict[str, bytes],
    ) -> dict[str, list[bytes]]:
        """Returns the digests of nodes: one for all their outputs, or one for each.

        Args:
          graph: the graph.
          targets: the nodes.
          given: as for `of_tensors`.
          own: keeps the digest of each node without its inputs, for functions that are called again
            with others.
        """
        found: dict[str, list[bytes]] = {name: [value] for name, value in given.items()}
        members = graph.ancestors(targets, lambda tensor: tensor.node in given)
        for name in graph.topological_order(members):
            if name not in found:
                found[name] = self._of_node(graph, graph.nodes[name], found, own)
        return found

    def _of_node(
        self,
        graph: Graph,
        node: tf_pb.NodeDef,
        found: Mapping[str, list[bytes]],
        own: dict[str, bytes],
    ) -> list[bytes]:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise MalformedError(
                f"its functions call one another so often that they have over {MAX_NODES} nodes",
                where=graph.where,
            )
        inputs = [_of_tensor(found, tensor) for tensor in graph.inputs(node)]
        is_ordered = any(tensor.is_control for tensor in graph.inputs(node))
        if node.op == "Identity" and not is_ordered:
            return inputs
        body = called_body(graph, node)
        if body is not None and not is_ordered:
            return list(self.of_function(body.signature.name, inputs)) or [b""]
        inner: list[bytes] = []
        for name in graph.called_functions(node):
            arguments = graph.functions[name].signature.input_arg
            places = [digest("argument", str(place)) for place in range(len(arguments))]
            inner += self.of_function(name, places)
        if node.name not in own:
            own[node.name] = digest(node.op, *self.attrs(graph, node))
        return [digest(own[node.name], "from", *inputs, "running", *inner)]

    def attrs(self, graph: Graph, node: tf_pb.NodeDef) -> list[bytes]:
        """Returns the attributes that are neither hints nor defaults, which an exporter strips."""
        if node.op not in self._defaults:
            op_def = graph.ops.get(node.op)
            self._defaults[node.op] = {
                attr.name: attr.default_value.SerializeToString(deterministic=True)
                for attr in (op_def.attr if op_def else ())
                if attr.HasField("default_value")
            }
        defaults = self._defaults[node.op]
        result: list[bytes] = []
        for name in sorted(node.attr):
            attr = node.attr[name]
            if name.startswith("_") or attr.HasField("func") or attr.list.func:
                continue
            value = attr.SerializeToString(deterministic=True)
            if value != defaults.get(name):
                result += [name.encode(), value]
        return result


def _of_tensor(found: Mapping[str, list[bytes]], tensor: Tensor) -> bytes:
    if tensor.node not in found:
        return b"what a loop has computed before"
    outputs = found[tensor.node]
    if tensor.is_control:
        return digest("after", *outputs)
    if len(outputs) > tensor.output:
        # One digest of a node of several outputs is that of its first, and each is told apart.
        return outputs[tensor.output]
    return digest(outputs[0], str(tensor.output))
