"""A graph of NodeDefs, indexed: by name, by consumer, by output argument.

Tensor names. A GraphDef says `node` or `node:1` for data and `^node` for control; a FunctionDef
body says `node:output_arg:index` for data, and plain `arg` for its own arguments
(tensorflow/core/framework/function.proto). This module speaks the GraphDef form.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from bridge.errors import MalformedError, UnsupportedError, Where
from bridge.op_args import Arg, OpArgs, op_args, plain_args
from bridge.ops import LOOP_BACK_EDGE, MERGES
from bridge.opsets import OpTable
from bridge.proto import tf_pb

_MAX_OUTPUT = (1 << 31) - 1  # TensorFlow keeps the index of an output in an int32

Consumers = dict[str, list[tuple[tf_pb.NodeDef, int]]]
"""For every node the (consumer, input position) pairs, control edges too."""


class Tensor(NamedTuple):
    """One output of a node; output -1 stands for a control edge from the node."""

    node: str
    output: int

    @property
    def is_control(self) -> bool:
        """True for a control edge."""
        return self.output < 0

    def __str__(self) -> str:
        """The form that NodeDef.input uses."""
        node, output = self
        if output > 0:
            return f"{node}:{output}"
        return node if output == 0 else f"^{node}"


@functools.lru_cache(maxsize=1 << 17)
def parse_tensor(name: str) -> Tensor:
    """Parses `node`, `node:1` or `^node`.

    Raises:
      MalformedError: the index is not a number, or none that an output can have.
    """
    if name.startswith("^"):
        return Tensor(name[1:], -1)
    node, colon, index = name.rpartition(":")
    if not colon:
        return Tensor(name, 0)
    # Python itself refuses to read a number of thousands of digits.
    if not (index.isascii() and index.isdecimal() and len(index) <= 10):
        raise MalformedError(f"{name[:200]!r} is not a tensor name")
    output = int(index)
    if output > _MAX_OUTPUT:
        raise MalformedError(f"{name!r} is not a tensor name: no output has such a number")
    return Tensor(node, output)


def unique_name(name: str, is_taken: Callable[[str], bool], suffixes: dict[str, int]) -> str:
    """Returns `name`, or `name_1`, `name_2` …, whichever is not taken yet.

    Args:
      name: the wanted name.
      is_taken: tells whether a name is taken.
      suffixes: takes the last suffix of each name, so that the next search starts there. Without
        it, many equal names would take quadratic time.
    """
    if not is_taken(name):
        return name
    suffix = suffixes.get(name, 1)
    while is_taken(candidate := f"{name}_{suffix}"):
        suffix += 1
    suffixes[name] = suffix
    return candidate


class OutputArg(NamedTuple):
    """An output of a node as function bodies name it."""

    arg: str
    number: int
    dtype: int


class Graph:
    """Nodes by name, a function library, and the op definitions that give them meaning."""

    def __init__(
        self,
        nodes: Iterable[tf_pb.NodeDef],
        ops: OpTable,
        functions: Iterable[tf_pb.FunctionDef] = (),
        gradients: Iterable[tf_pb.GradientDef] = (),
        where: Where | None = None,
    ):
        """Indexes the nodes.

        Args:
          nodes: the NodeDefs; they are kept, not copied.
          ops: definitions of their ops.
          functions: the function library.
          gradients: gradient definitions of the library.
          where: the place to name in errors.

        Raises:
          MalformedError: two nodes or two functions have one name.
        """
        self.where = where or Where()
        self.ops = ops
        self.nodes: dict[str, tf_pb.NodeDef] = {}
        self.functions: dict[str, tf_pb.FunctionDef] = {}
        self.gradients = list(gradients)
        self._op_args: dict[str, OpArgs] = {}
        self._node_suffixes: dict[str, int] = {}
        self._function_suffixes: dict[str, int] = {}
        for node in nodes:
            if node.name in self.nodes:
                raise MalformedError("two nodes have the same name", where=self.at(node.name))
            self.nodes[node.name] = node
        for function in functions:
            name = function.signature.name
            if name in self.functions:
                raise MalformedError(f"two functions are named {name!r}", where=self.where)
            self.functions[name] = function

    def at(self, node: str | None, signature: str | None = None) -> Where:
        """Returns the place of a node of this graph, for an error message."""
        return Where(self.where.path, self.where.variant, signature, node)

    # -- nodes ---------------------------------------------------------------------------

    def node(self, name: str) -> tf_pb.NodeDef:
        """Returns a node.

        Raises:
          MalformedError: there is no such node.
        """
        try:
            return self.nodes[name]
        except KeyError:
            raise MalformedError("the graph has no such node", where=self.at(name)) from None

    def all_nodes(self) -> Iterator[tf_pb.NodeDef]:
        """Yields the nodes of the graph, then those in the bodies of its functions."""
        yield from self.nodes.values()
        for function in self.functions.values():
            yield from function.node_def

    def add(
        self, op: str, name: str, inputs: Sequence[str] = (), **attrs: tf_pb.AttrValue
    ) -> tf_pb.NodeDef:
        """Adds a node; its control inputs are put after the data inputs, as a NodeDef wants them.

        Raises:
          MalformedError: a node has the name already.
        """
        if name in self.nodes:
            raise MalformedError("two nodes have the same name", where=self.at(name))
        ordered = sorted(inputs, key=lambda text: text.startswith("^"))
        node = tf_pb.NodeDef(name=name, op=op, input=ordered)
        for key, value in attrs.items():
            node.attr[key].CopyFrom(value)
        self.nodes[name] = node
        return node

    def unique_name(self, name: str) -> str:
        """Returns `name`, or `name_1`, `name_2` …, whichever no node has yet."""
        return unique_name(name, self.nodes.__contains__, self._node_suffixes)

    def unique_function_name(self, name: str) -> str:
        """Returns `name`, or `name_1`, `name_2` …, whichever no function and no op has yet.

        What a function may not have in its name becomes `_`.
        """
        return unique_name(
            re.sub(r"[^A-Za-z0-9_]", "_", name), self._names_op, self._function_suffixes
        )

    def _names_op(self, name: str) -> bool:
        return name in self.functions or self.ops.get(name) is not None

    def keep(self, names: Iterable[str]) -> int:
        """Drops every node that is not in `names`; returns how many were dropped."""
        kept = set(names)
        before = len(self.nodes)
        self.nodes = {name: node for name, node in self.nodes.items() if name in kept}
        return before - len(self.nodes)

    # -- edges ---------------------------------------------------------------------------

    def inputs(self, node: tf_pb.NodeDef) -> Iterator[Tensor]:
        """Yields the inputs of a node, data first, then control."""
        return map(parse_tensor, node.input)

    def consumers(self) -> Consumers:
        """Returns who reads each node, as the graph is now: it walks over all of it."""
        result: Consumers = {name: [] for name in self.nodes}
        for node in self.nodes.values():
            for position, name in enumerate(node.input):
                result[parse_tensor(name).node].append((node, position))
        return result

    def ancestors(
        self, targets: Iterable[str], stop: Callable[[Tensor], bool] | None = None
    ) -> set[str]:
        """Returns the names of the target nodes and all they depend on, through control too.

        Args:
          targets: names of nodes.
          stop: edges for which it is true are not followed.
        """
        seen: set[str] = set()
        stack = list(targets)
        while stack:
            name = stack.pop()
            if name in seen:
                continue
            seen.add(name)
            for tensor in self.inputs(self.node(name)):
                source = tensor[0]
                if source not in seen and not (stop and stop(tensor)):
                    stack.append(source)
        return seen

    def descendants(
        self,
        tensors: Iterable[Tensor],
        stop: Collection[Tensor] = (),
        consumers: Consumers | None = None,
    ) -> set[str]:
        """Returns the names of the nodes that depend on any of the tensors, not their own.

        Args:
          tensors: where to start.
          stop: tensors that are not followed.
          consumers: what `consumers()` gave, for callers that ask more than once.
        """
        consumers = self.consumers() if consumers is None else consumers
        seen: set[str] = set()
        stack = list(tensors)
        while stack:
            tensor = stack.pop()
            for node, position in consumers[tensor.node]:
                edge = parse_tensor(node.input[position])
                follows = edge == tensor or edge.is_control or tensor.is_control
                if node.name not in seen and follows and edge not in stop:
                    seen.add(node.name)
                    stack.append(Tensor(node.name, -1))
        return seen

    def topological_order(self, names: Collection[str] | None = None) -> list[str]:
        """Sorts nodes so that each comes after its inputs, data and control.

        An edge from a NextIteration to a Merge, which closes a v1 loop, does not count; any other
        cycle is none of a valid graph.

        Args:
          names: the nodes to sort, all by default; edges from other nodes don't count either.

        Returns:
          The names. Nodes on a cycle, and those that depend on one, are left out: the graph has
          a cycle exactly if the result is shorter than `names`.
        """
        nodes = self.nodes
        followers: dict[str, list[str]] = {name: [] for name in (nodes if names is None else names)}
        missing: dict[str, int] = {}
        for name in followers:
            node = nodes[name]
            closes = LOOP_BACK_EDGE if node.op in MERGES else ()
            count = 0
            for source, _ in map(parse_tensor, node.input):
                if source in followers and not (closes and nodes[source].op in closes):
                    followers[source].append(name)
                    count += 1
            missing[name] = count
        order = [name for name, count in missing.items() if count == 0]
        for name in order:  # grows while it runs
            for follower in followers[name]:
                missing[follower] -= 1
                if missing[follower] == 0:
                    order.append(follower)
        return order

    # -- types ---------------------------------------------------------------------------

    def op_def(self, node: tf_pb.NodeDef) -> tf_pb.OpDef:
        """Returns the definition of a node's op, or the signature of the function it calls.

        Raises:
          UnsupportedError: nobody knows the op.
        """
        if node.op in self.functions:
            return self.functions[node.op].signature
        op_def = self.ops.get(node.op)
        if op_def is None:
            raise UnsupportedError(
                f"no definition of op {node.op!r} is known",
                where=self.at(node.name),
                hint="neither TensorFlow nor the model's own op list has it; export the module "
                "again without it",
            )
        return op_def

    def attr(self, node: tf_pb.NodeDef, name: str) -> tf_pb.AttrValue:
        """Returns an attribute, or its default where the exporter stripped it.

        Raises:
          MalformedError: there is neither.
        """
        value = node.attr.get(name)
        if value is not None:
            return value
        for attr in self.op_def(node).attr:
            if attr.name == name and attr.HasField("default_value"):
                return attr.default_value
        raise MalformedError(f"attribute {name!r} is absent", where=self.at(node.name))

    def op_args(self, node: tf_pb.NodeDef) -> OpArgs:
        """Returns what a node's op, or the function it calls, takes and gives.

        Raises:
          UnsupportedError: nobody knows the op.
        """
        if node.op in self.functions:
            return op_args(self.functions[node.op].signature)
        if node.op not in self._op_args:
            self._op_args[node.op] = op_args(self.op_def(node))
        return self._op_args[node.op]

    def arg_types(self, node: tf_pb.NodeDef, args: Iterable[tf_pb.OpDef.ArgDef]) -> list[OutputArg]:
        """Resolves input or output arguments to one entry per tensor.

        Reference types are given as `dtype + 100`, as in types.proto.
        """
        return self._resolve(node, plain_args(args))

    def outputs(self, node: tf_pb.NodeDef) -> list[OutputArg]:
        """Returns the outputs of a node, in order."""
        return self._resolve(node, self.op_args(node).outputs)

    def _resolve(self, node: tf_pb.NodeDef, args: Iterable[Arg]) -> list[OutputArg]:
        result: list[OutputArg] = []
        for name, fixed, ref, type_attr, number_attr, type_list_attr in args:
            if type_list_attr:
                dtypes = self.attr(node, type_list_attr).list.type
                result += [OutputArg(name, i, dtype + ref) for i, dtype in enumerate(dtypes)]
                continue
            dtype = (self.attr(node, type_attr).type if type_attr else fixed) + ref
            if number_attr:
                count = self.attr(node, number_attr).i
                result += [OutputArg(name, i, dtype) for i in range(count)]
            else:
                result.append(OutputArg(name, 0, dtype))
        return result

    def output(self, tensor: Tensor) -> OutputArg:
        """Returns what a tensor is an output of.

        Raises:
          MalformedError: the node has no such output.
        """
        outputs = self.outputs(self.node(tensor.node))
        if not 0 <= tensor.output < len(outputs):
            raise MalformedError(
                f"output {tensor.output} is used, the node has {len(outputs)}",
                where=self.at(tensor.node),
            )
        return outputs[tensor.output]

    def output_name(self, tensor: Tensor) -> str:
        """Returns a tensor's name in a function body, `node:output_arg:number`.

        Raises:
          MalformedError: the node has no such output.
        """
        node = self.node(tensor.node)
        args = self.op_def(node).output_arg
        if tensor.output == 0 and args and not (args[0].number_attr or args[0].type_list_attr):
            # By far the most common case needs no attribute of the node.
            return f"{tensor.node}:{args[0].name}:0"
        output = self.output(tensor)
        return f"{tensor.node}:{output.arg}:{output.number}"

    def called_functions(self, node: tf_pb.NodeDef) -> list[str]:
        """Returns the names of the library functions that a node refers to, by sorted attribute."""
        if not self.functions:
            return []
        called = [node.op] if node.op in self.functions else []
        known = self._op_args.get(node.op)
        if known is None and self.ops.get(node.op) is not None:
            known = self.op_args(node)
        values = known.values if known else frozenset()
        attrs = node.attr
        if values.issuperset(attrs):
            return called
        found: list[tuple[str, list[str]]] = []
        for name in attrs:
            if name not in values:
                value = attrs[name]
                kind = value.WhichOneof("value")
                if kind == "func":
                    found.append((name, [value.func.name]))
                elif kind == "list":
                    found.append((name, [function.name for function in value.list.func]))
        # Protobuf gives the attributes in another order in each process.
        for _, names in sorted(found):
            called += names
        return called
