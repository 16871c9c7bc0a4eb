"""The function library of the SavedModel under construction."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from bridge.call_graph import CallGraph
from bridge.graph import Graph
from bridge.proto import tf_pb


class Library:
    """Functions by name; equal bodies are kept once."""

    def __init__(self) -> None:
        """Starts empty."""
        self.functions: dict[str, tf_pb.FunctionDef] = {}
        self.gradients: dict[str, tf_pb.GradientDef] = {}
        self._by_content: dict[bytes, str] = {}
        self._last_number = 0

    def add(self, function: tf_pb.FunctionDef, *, share: bool = True) -> str:
        """Adds a function, or finds an equal one.

        Args:
          function: the function; it is kept, and named if need be.
          share: false for a function that must have a name of its own, as every concrete function
            of the object graph must.

        Returns:
          The name of the function in the library.
        """
        content = content_of(function) if share else b""
        if share and content in self._by_content:
            return self._by_content[content]
        name = wanted = function.signature.name
        while name in self.functions:
            self._last_number += 1
            name = f"{wanted}_{self._last_number}"
        function.signature.name = name
        self.functions[name] = function
        if share:
            self._by_content[content] = name
        return name

    def new_name(self, base: str) -> str:
        """Returns a new name in TensorFlow's own form, `__inference_BASE_NUMBER`."""
        self._last_number += 1
        return f"__inference_{re.sub(r'[^A-Za-z0-9_]', '_', base)}_{self._last_number}"

    def add_graph_functions(self, graph: Graph) -> dict[str, str]:
        """Adds the functions that a variant's graph calls.

        Two variants may hold different functions of one name, so a function may get a new name.

        Returns:
          The new name of each function by its name in the graph.
        """
        renamed: dict[str, str] = {}
        for name in CallGraph(graph).callees_first():
            function = tf_pb.FunctionDef()
            function.CopyFrom(graph.functions[name])
            rename_calls(function.node_def, renamed)
            renamed[name] = self.add(function)
        for gradient in graph.gradients:
            name = renamed[gradient.function_name]
            self.gradients[name] = tf_pb.GradientDef(
                function_name=name, gradient_func=renamed[gradient.gradient_func]
            )
        return renamed


def content_of(function: tf_pb.FunctionDef) -> bytes:
    """Returns what tells a function from others, whatever their names."""
    name = function.signature.name
    function.signature.name = ""
    content = function.SerializeToString(deterministic=True)
    function.signature.name = name
    return content


def rename_calls(nodes: Iterable[tf_pb.NodeDef], renamed: Mapping[str, str]) -> None:
    """Makes nodes call functions by their new names."""
    if not renamed:
        return
    for node in nodes:
        node.op = renamed.get(node.op, node.op)
        for value in node.attr.values():
            if value.HasField("func"):
                value.func.name = renamed.get(value.func.name, value.func.name)
            for function in value.list.func if value.HasField("list") else ():
                function.name = renamed.get(function.name, function.name)
