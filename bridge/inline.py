"""Puts the bodies of called functions into the graph that calls them.

The inverse of `bridge.function_body`: where that one cuts nodes out of a graph and names tensors
`node:output_arg:index`, this one names them `node:index` again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from bridge.call_graph import Call, CallGraph
from bridge.errors import MalformedError, UnsupportedError
from bridge.graph import Graph, Tensor, parse_tensor, unique_name
from bridge.ops import CALLS, CONDITIONALS
from bridge.proto import tf_pb

MAX_NODES = 500_000
"""Functions that call one another twice grow without bound: more nodes are no model's."""

MAX_BYTES = 1 << 32
"""So many bytes may all nodes have: each call of a function copies its constants."""

MAX_DEPTH = 40
"""Conditionals and loops may be nested so deep: protobuf reads no more than 100 levels, and the
contexts of v1 control flow take two for each."""

MAX_CONTROL_EDGES = 1_000_000
"""So many may calls leave: what waits for a call waits for all that the function must run."""

ENTRY = "_hubbridge_entry"
"""An attribute of calls that each stand for one call of the source by its user."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_./-]")
_PLAIN_CALL = re.compile(r"(Stateful)?PartitionedCall(_\d+)?")


def node_name(name: str) -> str:
    """Returns the nearest name that a node may have in every release of TensorFlow.

    `>` is newer than 1.15 (IsValidOpName in tensorflow/core/framework/node_def_util.cc).
    """
    return _NOT_IN_NAMES.sub("_", name)


def called_body(graph: Graph, node: tf_pb.NodeDef) -> tf_pb.FunctionDef | None:
    """Returns the function that a node does nothing but call; None for any other node."""
    if node.op in graph.functions:
        return graph.functions[node.op]
    if node.op not in CALLS:
        return None
    return _function(graph, node, "f")


def _function(graph: Graph, node: tf_pb.NodeDef, attr: str) -> tf_pb.FunctionDef:
    name = graph.attr(node, attr).func.name
    if name not in graph.functions:
        raise MalformedError(
            f"there is no function {name!r}, which it calls", where=graph.at(node.name)
        )
    return graph.functions[name]


def flat_output(graph: Graph, node: tf_pb.NodeDef, arg: str, number: int) -> int:
    """Returns which output of a node the body of a function calls `node:arg:number`.

    Raises:
      MalformedError: the node has no such output.
    """
    args = graph.op_args(node).outputs
    if args and args[0].name == arg and number == 0:
        return 0  # by far the most common case
    for position, output in enumerate(graph.outputs(node)):
        if (output.arg, output.number) == (arg, number):
            return position
    raise MalformedError(f"it has no output {arg}:{number}", where=graph.at(node.name))


class Body:
    """The nodes of a function with the names of a graph's tensors."""

    def __init__(
        self,
        graph: Graph,
        function: tf_pb.FunctionDef,
        arguments: Mapping[str, str],
        names: Mapping[str, str] | None = None,
    ):
        """Takes the function.

        Args:
          graph: knows the function's ops and the functions that it calls.
          function: the function.
          arguments: the tensor that stands for each argument.
          names: new names of its nodes; they keep theirs by default.
        """
        self._graph = graph
        self._function = function
        self._arguments = arguments
        self._nodes = {node.name: node for node in function.node_def}
        self._names = names

    def name(self, node: str) -> str:
        """Returns the name that a node of the body gets."""
        return node if self._names is None else self._names[node]

    def tensor(self, text: str) -> str:
        """Returns the graph's name for a tensor that the body reads or returns."""
        if text in self._arguments:
            return self._arguments[text]
        name, arg, number = text.split(":")
        output = flat_output(self._graph, self._nodes[name], arg, int(number))
        return str(Tensor(self.name(name), output))

    def nodes(self) -> Iterator[tf_pb.NodeDef]:
        """Yields copies of the nodes, named and connected."""
        for original in self._function.node_def:
            node = tf_pb.NodeDef()
            node.CopyFrom(original)
            node.name = self.name(original.name)
            node.input[:] = map(self._input, original.input)
            yield node

    def _input(self, text: str) -> str:
        if not text.startswith("^"):
            return self.tensor(text)
        if text[1:] in self._nodes:
            return f"^{self.name(text[1:])}"
        return f"^{parse_tensor(self._arguments[text[1:]]).node}"


class _Size(NamedTuple):
    """What nodes become where every function that they refer to takes the place of its node.

    Attributes:
      nodes: so many nodes.
      names: so many names of nodes, with those among the inputs.
      bytes: the bytes of all.
      depth: how deep conditionals and loops are nested.
    """

    nodes: int
    names: int
    bytes: int
    depth: int


def check_size(graph: Graph) -> None:
    """Refuses functions whose nodes would be too many, too large or nested too deep.

    They are counted as if all were inlined, those of conditionals and loops too, without being
    made.

    Raises:
      MalformedError: they would be more than MAX_NODES, or larger than MAX_BYTES.
      UnsupportedError: they would be nested deeper than MAX_DEPTH.
    """
    calls = CallGraph(graph)
    sizes: dict[str, _Size] = {}
    for name in calls.callees_first():
        function = graph.functions[name]
        names = sum(1 + len(node.input) for node in function.node_def)
        own = _Size(len(function.node_def), names, function.ByteSize(), 0)
        sizes[name] = _size(own, calls.of_function(name), graph, sizes)
    top = calls.of_nodes(graph.nodes.values())
    size = _size(_Size(len(graph.nodes), 0, 0, 0), top, graph, sizes)
    if size.nodes > MAX_NODES or size.bytes > MAX_BYTES:
        what = f"{MAX_NODES} nodes" if size.nodes > MAX_NODES else f"{MAX_BYTES} bytes"
        raise MalformedError(
            f"its functions call one another so often that the graph would have over {what}",
            where=graph.where,
        )
    if size.depth > MAX_DEPTH:
        raise UnsupportedError(
            f"its conditionals and loops are nested {size.depth} deep, {MAX_DEPTH} is the most",
            where=graph.where,
            hint="write a chain of conditionals as tf.switch_case, and save the model again",
        )


def _size(own: _Size, calls: Iterable[Call], graph: Graph, sizes: Mapping[str, _Size]) -> _Size:
    nodes, names, size, depth = own
    for node, called in calls:
        scope = len(_scope(node.name))
        level = 0 if called_body(graph, node) is not None else 1
        for one in (sizes[name] for name in called):
            nodes += one.nodes
            names += one.names
            size += one.bytes + one.names * scope
            depth = max(depth, one.depth + level)
    return _Size(nodes, names, size, depth)


class Inliner:
    """Replaces calls in a graph by what they call, and calls in there, until none is left.

    A call's outputs become the tensors that the function returns. What must run before the call
    runs before each node of the body that touches state, and what must run after it runs after the
    function's control outputs. An If whose predicate is a Const is a call of the branch it takes.

    Two entries, calls with the attribute ENTRY, often call the same function with the same inputs:
    `default` and the signature that it is. Of such calls one is made, so that a client that asks
    for both gets one dropout and one update. Calls that one entry makes stay apart.
    """

    def __init__(self, graph: Graph):
        """Takes the graph; `run` changes it."""
        self._graph = graph
        self._made: dict[tuple[str, ...], list[str]] = {}
        self._repeated: Counter[tuple[str, ...]] = Counter()
        self._taken = set(graph.nodes)
        self._suffixes: dict[str, int] = {}
        self._outputs: dict[Tensor, str] = {}
        self._controls: dict[str, list[str]] = {}
        self._booleans: dict[str, bool] = {}
        self._control_edges = 0

    def run(self) -> int:
        """Inlines all calls; returns how many there were.

        Raises:
          MalformedError: a function does not fit its call, or leaves too many control edges.
          UnsupportedError: a function takes or returns lists of tensors.
        """
        graph = self._graph
        originals = list(graph.nodes.values())
        self._note_booleans(originals)
        result: dict[str, tf_pb.NodeDef] = {}
        count = 0
        entry = ""
        stack: list[Iterator[tf_pb.NodeDef]] = [iter(originals)]
        while stack:
            node = next(stack[-1], None)
            if node is None:
                stack.pop()
                continue
            if len(stack) == 1:
                entry = node.name if ENTRY in node.attr else ""
            body = self._body(node)
            if body is None:
                result[node.name] = node
                continue
            count += 1
            if entry and self._is_made(node, body, entry):
                continue
            nodes = self._instantiate(node, body)
            self._note_booleans(nodes)
            stack.append(iter(nodes))
        graph.nodes = result
        for node in result.values():
            self._resolve_inputs(node)
        return count

    def resolve(self, name: str) -> str:
        """Returns what a tensor is called now, where it was the output of a call."""
        passed: list[Tensor] = []
        while (tensor := parse_tensor(name)) in self._outputs:
            passed.append(tensor)
            name = self._outputs[tensor]
        for tensor in passed:  # what comes next needs not go all the way again
            self._outputs[tensor] = name
        return name

    def resolve_control(self, name: str) -> list[str]:
        """Returns the nodes after which a node has run, where it was a call."""
        found: dict[str, None] = {}
        stack = [name]
        while stack:
            node = stack.pop()
            if node in self._controls:
                stack.extend(reversed(self._controls[node]))
            else:
                found[node] = None
        return list(found)

    # -- what is called ----------------------------------------------------------------------

    def _note_booleans(self, nodes: list[tf_pb.NodeDef]) -> None:
        for node in nodes:
            if node.op == "Const" and node.attr["dtype"].type == tf_pb.DT_BOOL:
                values = node.attr["value"].tensor
                if len(values.bool_val) == 1 and not values.tensor_shape.dim:
                    self._booleans[node.name] = values.bool_val[0]

    def _body(self, node: tf_pb.NodeDef) -> tf_pb.FunctionDef | None:
        """Returns the function that a node calls; of an If with a known predicate, the branch."""
        if node.op in CONDITIONALS:
            value = self._booleans.get(parse_tensor(self.resolve(node.input[0])).node)
            if value is not None:
                return _function(self._graph, node, "then_branch" if value else "else_branch")
        return called_body(self._graph, node)

    def _is_made(self, call: tf_pb.NodeDef, body: tf_pb.FunctionDef, entry: str) -> bool:
        """Lets a call be the same one of another entry, if there is one."""
        inputs = (
            n if n.startswith("^") else str(parse_tensor(self.resolve(n))) for n in call.input
        )
        key = (body.signature.name, *inputs)
        made = self._made.setdefault(key, [])
        position = self._repeated[(entry, *key)]
        self._repeated[(entry, *key)] += 1
        if position == len(made):
            made.append(call.name)
            return False
        first = made[position]
        for number in range(len(body.signature.output_arg)):
            self._outputs[Tensor(call.name, number)] = str(Tensor(first, number))
        self._controls[call.name] = [first]
        return True

    # -- bodies ------------------------------------------------------------------------------

    def _instantiate(self, call: tf_pb.NodeDef, body: tf_pb.FunctionDef) -> list[tf_pb.NodeDef]:
        """Returns the nodes of a body, named and connected for one call of it."""
        prefix = _scope(call.name)
        names = {node.name: self._new_name(prefix + node_name(node.name)) for node in body.node_def}
        inner = Body(self._graph, body, self._arguments(call, body), names)
        nodes = list(inner.nodes())
        before = [text for text in call.input if text.startswith("^")]
        if len(before) > 1:
            begin = self._new_name(f"{prefix}begin")
            nodes.append(tf_pb.NodeDef(name=begin, op="NoOp", input=before))
            before = [f"^{begin}"]
        if before:
            for original, node in zip(body.node_def, nodes, strict=False):
                if self._graph.op_def(original).is_stateful:
                    node.input.extend(before)
        for position, output in enumerate(body.signature.output_arg):
            self._outputs[Tensor(call.name, position)] = inner.tensor(body.ret[output.name])
        self._controls[call.name] = [
            names[body.control_ret[control]] for control in body.signature.control_output
        ]
        return nodes

    def _arguments(self, call: tf_pb.NodeDef, body: tf_pb.FunctionDef) -> dict[str, str]:
        """Returns the tensor that stands for each argument."""
        signature = body.signature
        for arg in (*signature.input_arg, *signature.output_arg):
            if arg.number_attr or arg.type_list_attr or arg.type_attr:
                raise UnsupportedError(
                    f"function {signature.name!r} has argument {arg.name!r}, whose type the call "
                    "decides",
                    where=self._graph.at(call.name),
                    hint="save the model again from functions that tf.function traced",
                )
        given = [text for text in call.input if not text.startswith("^")]
        if call.op in CONDITIONALS:
            given = given[1:]
        if len(given) != len(signature.input_arg):
            raise MalformedError(
                f"function {signature.name!r} takes {len(signature.input_arg)} arguments, the "
                f"call gives {len(given)}",
                where=self._graph.at(call.name),
            )
        return {arg.name: text for arg, text in zip(signature.input_arg, given, strict=True)}

    def _new_name(self, wanted: str) -> str:
        name = unique_name(wanted, self._taken.__contains__, self._suffixes)
        self._taken.add(name)
        return name

    def _resolve_inputs(self, node: tf_pb.NodeDef) -> None:
        given = list(node.input)
        inputs: dict[str, None] = {}
        data: list[str] = []
        for text in given:
            if not text.startswith("^"):
                data.append(self.resolve(text))
                continue
            found = self.resolve_control(text[1:])
            inputs.update((f"^{name}", None) for name in found)
            self._control_edges += len(found)
        if self._control_edges > MAX_CONTROL_EDGES:
            raise MalformedError(
                f"its functions order so much that the graph would have over {MAX_CONTROL_EDGES} "
                "control edges",
                where=self._graph.where,
            )
        if (resolved := [*data, *inputs]) != given:
            node.input[:] = resolved


def _scope(call: str) -> str:
    """Returns the scope of a call's nodes: its own, or its name's if that says anything."""
    scope, slash, name = call.rpartition("/")
    return scope + slash if _PLAIN_CALL.fullmatch(name) else f"{call}/"
