"""Which random ops a model has, and which of its computations they reach.

An op counts as random where it may draw other numbers in the next call: ops that draw from a state
of their own, and stateless ones whose seed is computed from anything but constants.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bridge._parity.called import CalledFunctions
from bridge._parity.surfaces.surface import Call
from bridge.errors import Where
from bridge.graph import Graph, parse_tensor
from bridge.hub_module.names import REGULARIZATION_LOSSES, UPDATE_OPS
from bridge.layout import SAVED_MODEL
from bridge.model import Tags, format_tags
from bridge.opsets import OpTable
from bridge.proto import tf_pb
from bridge.proto_file import read_proto
from bridge.validate import check_graph

_SETTLED_BY = ("seed", "key", "counter")
"""Names of the inputs that decide alone what a stateless op draws."""

_DRAWING = frozenset(
    {
        "NonDeterministicInts",
        "RiscRandomUniform",
        "StatefulRandomBinomial",
        "StatefulStandardNormal",
        "StatefulStandardNormalV2",
        "StatefulTruncatedNormal",
        "StatefulUniform",
        "StatefulUniformFullInt",
        "StatefulUniformInt",
        "Timestamp",
    }
)
"""Random ops that neither an attribute nor an input `seed2` gives away."""


@dataclass(frozen=True)
class RandomOp:
    """A random op.

    Attributes:
      node: its node.
      op: the op.
      place: where the node stands: `variant {train}`, or `function NAME`.
    """

    node: str
    op: str
    place: str

    def __str__(self) -> str:
        return f"{self.op} {self.node!r} of {self.place}"


def random_ops(model: Path) -> RandomOps:
    """Finds the random ops of a model.

    Args:
      model: directory of a TF1 Hub module or a SavedModel.

    Raises:
      MalformedError: the directory holds a broken model, or none.
      UnsupportedError: an op that nobody knows.
    """
    path = model / SAVED_MODEL
    return RandomOps(read_proto(tf_pb.SavedModel, path), path)


class RandomOps:
    """The random ops of a model.

    Attributes:
      ops: all of them.
    """

    def __init__(self, saved_model: tf_pb.SavedModel, path: Path):
        """Finds them.

        Args:
          saved_model: the content of `saved_model.pb`.
          path: the file it comes from, for error messages.
        """
        self._meta_graphs = {
            frozenset(meta_graph.meta_info_def.tags): meta_graph
            for meta_graph in saved_model.meta_graphs
        }
        self._graphs = {
            tags: _Drawing(open_graph(meta_graph, path))
            for tags, meta_graph in self._meta_graphs.items()
        }
        self._path = path
        self._called: CalledFunctions | None = None
        found = [op for drawing in self._graphs.values() for op in drawing.all()]
        self.ops = tuple(dict.fromkeys(found))

    def of(self, call: Call, *, training: bool = False) -> tuple[RandomOp, ...]:
        """Returns the random ops that decide about the outputs of a call.

        Args:
          call: the call. Where it can't be told which trace of a callable it runs, those of all
            are returned, and of a function all that it holds.
          training: of a module, whether to return also what the update ops and regularization
            losses of the variant need.
        """
        if not self.ops:
            return ()
        if call.kind == "module":
            return self._of_module(frozenset(call.tags), call.name, training)
        (tags,) = (t for t, m in self._meta_graphs.items() if m.HasField("object_graph_def"))
        if self._called is None:
            self._called = CalledFunctions(self._meta_graphs[tags], self._path)
        found = [
            op
            for trace in self._called.traces(call)
            for op in self._graphs[tags].of_function(trace.function)
        ]
        return tuple(dict.fromkeys(found))

    def _of_module(self, tags: Tags, signature: str, training: bool) -> tuple[RandomOp, ...]:
        meta_graph = self._meta_graphs[tags]
        targets = [
            tensor for info in meta_graph.signature_def[signature].outputs.values()
            for tensor in _tensors(info)
        ]  # fmt: skip
        for key in (UPDATE_OPS, REGULARIZATION_LOSSES) if training else ():
            targets += meta_graph.collection_def[key].node_list.value
        return self._graphs[tags].of_nodes({parse_tensor(text).node for text in targets})


def open_graph(meta_graph: tf_pb.MetaGraphDef, path: Path) -> Graph:
    """Returns the graph of a MetaGraphDef, which is well-formed.

    Raises:
      MalformedError: it is not.
    """
    graph = Graph(
        meta_graph.graph_def.node,
        OpTable(meta_graph.meta_info_def.stripped_op_list.op),
        meta_graph.graph_def.library.function,
        where=Where(path, format_tags(meta_graph.meta_info_def.tags)),
    )
    check_graph(graph)
    return graph


def _tensors(info: tf_pb.TensorInfo) -> list[str]:
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


class _Drawing:
    """The random ops of a graph and of its functions."""

    def __init__(self, graph: Graph):
        self._graph = graph
        place = f"variant {graph.where.variant}"
        self._own = self._find(graph.nodes, place)
        self._in_functions = {
            name: self._find({n.name: n for n in function.node_def}, f"function {name}")
            for name, function in graph.functions.items()
        }

    def all(self) -> Iterator[RandomOp]:
        """Yields all of them."""
        yield from self._own.values()
        for found in self._in_functions.values():
            yield from found.values()

    def of_nodes(self, targets: set[str]) -> tuple[RandomOp, ...]:
        """Returns those that nodes of the graph depend on, in the functions they call too."""
        needed = self._graph.ancestors(targets)
        found = [op for name, op in self._own.items() if name in needed]
        for name in self._graph.nodes:
            if name in needed:
                for function in self._graph.called_functions(self._graph.nodes[name]):
                    found += self.of_function(function)
        return tuple(dict.fromkeys(found))

    def of_function(self, name: str) -> tuple[RandomOp, ...]:
        """Returns those of a function and of all that it refers to."""
        found: list[RandomOp] = []
        order = {name: None}
        stack = [name]
        while stack:
            function = stack.pop()
            found += self._in_functions.get(function, {}).values()
            body = self._graph.functions.get(function)
            for node in body.node_def if body is not None else ():
                for called in self._graph.called_functions(node):
                    if called not in order:
                        order[called] = None
                        stack.append(called)
        return tuple(found)

    def _find(self, nodes: Mapping[str, tf_pb.NodeDef], place: str) -> dict[str, RandomOp]:
        return {
            node.name: RandomOp(node.name, node.op, place)
            for node in nodes.values()
            if self._is_random(node, nodes)
        }

    def _is_random(self, node: tf_pb.NodeDef, nodes: Mapping[str, tf_pb.NodeDef]) -> bool:
        op_def = self._graph.op_def(node)
        names = [arg.name for arg in op_def.input_arg]
        attrs = {attr.name for attr in op_def.attr}
        if "dropout" in attrs and "rnn_mode" in attrs:  # cuDNN's, which draw for dropout only
            return self._graph.attr(node, "dropout").f != 0
        if node.op in _DRAWING or "seed2" in attrs or "seed2" in names:
            return True
        if "seed" not in names and not {"key", "counter"} <= set(names):
            return False
        # All these ops have one tensor for each argument.
        return not all(
            _is_constant(node.input[position], nodes, self._graph)
            for position, name in enumerate(names)
            if name in _SETTLED_BY
        )


def _is_constant(text: str, nodes: Mapping[str, tf_pb.NodeDef], graph: Graph) -> bool:
    """True for a tensor that is computed of constants alone."""
    seen: set[str] = set()
    stack = [text]
    while stack:
        name = stack.pop().split(":")[0]
        if name in seen or name.startswith("^"):
            continue
        seen.add(name)
        node = nodes.get(name)
        if node is None:  # an argument of the function
            return False
        op_def = graph.op_def(node)
        source = not op_def.input_arg and node.op != "Const"
        if op_def.is_stateful or source or node.op in graph.functions:
            return False
        stack.extend(node.input)
    return True
