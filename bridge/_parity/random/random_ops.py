"""Which random ops a model has, and which of its computations they reach.

An op counts as random where it may draw other numbers in the next call: ops that draw from a state
of their own, and stateless ones whose seed is made of anything but constants, variables that
nothing writes, and what callers give.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bridge._parity.called import CalledFunctions
from bridge._parity.random.made_of import TOP, Found, MadeOf
from bridge._parity.random.seeds import Seed, seeds_of
from bridge._parity.random.settled import entries_of, tensors_of, unwritten_of
from bridge._surfaces.bodies import Bodies
from bridge._surfaces.surface import Call
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
      is_known: False where nobody can tell whether its seed moves, or it does in some calls only.
    """

    node: str
    op: str
    place: str
    is_known: bool = True

    def __str__(self) -> str:
        unknown = "" if self.is_known else ", whose seed may move or not"
        return f"{self.op} {self.node!r} of {self.place}{unknown}"


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
            tags: _Drawing(open_graph(meta_graph, path), meta_graph)
            for tags, meta_graph in self._meta_graphs.items()
        }
        self._path = path
        self._called: CalledFunctions | None = None
        found = [op for drawing in self._graphs.values() for op in drawing.all()]
        self.ops = tuple(dict.fromkeys(found))

    def of(
        self, call: Call, *, training: bool = False, output: str | None = None
    ) -> tuple[RandomOp, ...]:
        """Returns the random ops that decide about the outputs of a call.

        Args:
          call: the call. Where it can't be told which trace of a callable it runs, those of all
            are returned.
          training: of a module, whether to return also what the update ops and regularization
            losses of the variant need.
          output: its output that counts; all by default.
        """
        if not self.ops:
            return ()
        if call.kind == "module":
            return self._of_module(frozenset(call.tags), call.name, training, output)
        (tags,) = (t for t, m in self._meta_graphs.items() if m.HasField("object_graph_def"))
        if self._called is None:
            self._called = CalledFunctions(self._meta_graphs[tags], self._path)
        drawing = self._graphs[tags]
        found: list[RandomOp] = []
        for trace in self._called.traces(call):
            if output is None:
                found += drawing.of_function(trace.function)
                continue
            for position in self._called.results(trace, call.outputs[output]):
                found += drawing.of_output(trace.function, position)
        return tuple(dict.fromkeys(found))

    def to_pin(self, tags: Tags) -> Mapping[str, Collection[str]]:
        """Returns the nodes of a graph that surely draw anew, by function; TOP is the graph."""
        return self._graphs[tags].to_pin()

    def _of_module(
        self, tags: Tags, signature: str, training: bool, output: str | None
    ) -> tuple[RandomOp, ...]:
        meta_graph = self._meta_graphs[tags]
        targets = [
            tensor for name, info in meta_graph.signature_def[signature].outputs.items()
            for tensor in tensors_of(info) if output in (None, name)
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


class _Drawing:
    """The random ops of a graph and of its functions."""

    def __init__(self, graph: Graph, meta_graph: tf_pb.MetaGraphDef):
        self._graph = graph
        self._bodies = Bodies(graph)
        nodes: dict[str, list[tf_pb.NodeDef]] = {TOP: list(graph.nodes.values())}
        nodes |= {name: list(function.node_def) for name, function in graph.functions.items()}
        by_seed = {
            place: {node.name: found for node in members if (found := self._seed_inputs(node))}
            for place, members in nodes.items()
        }
        seeds: Mapping[tuple[str, str], Seed] = {}
        if any(by_seed.values()):
            entries = entries_of(meta_graph, self._bodies)
            unwritten = () if entries else unwritten_of(meta_graph, graph, self._bodies)
            seeds = seeds_of(graph, self._bodies, by_seed, entries, unwritten)
        self._found: dict[str, dict[str, RandomOp]] = {}
        for place, members in nodes.items():
            text = f"variant {graph.where.variant}" if place == TOP else f"function {place}"
            self._found[place] = {
                node.name: RandomOp(node.name, node.op, text, seed is not Seed.UNKNOWN)
                for node in members
                if self._draws_from_state(node)
                or (seed := seeds.get((place, node.name), Seed.SETTLED)) is not Seed.SETTLED
            }
        self._made_of = MadeOf(self._bodies, self._look, with_order=True)

    def all(self) -> Iterator[RandomOp]:
        """Yields all of them."""
        for found in self._found.values():
            yield from found.values()

    def to_pin(self) -> dict[str, list[str]]:
        """Returns the names of those that surely are random, by function."""
        return {
            place: [name for name, op in found.items() if op.is_known]
            for place, found in self._found.items()
        }

    def of_nodes(self, targets: set[str]) -> tuple[RandomOp, ...]:
        """Returns those that nodes of the graph depend on, in the functions they call too."""
        needed = self._graph.ancestors(targets)
        found = [op for name, op in self._found[TOP].items() if name in needed]
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
            found += self._found.get(function, {}).values()
            body = self._graph.functions.get(function)
            for node in body.node_def if body is not None else ():
                for called in self._graph.called_functions(node):
                    if called not in order:
                        order[called] = None
                        stack.append(called)
        return tuple(found)

    def of_output(self, name: str, position: int) -> tuple[RandomOp, ...]:
        """Returns those that one result of a function is made of."""
        found = self._made_of.of_output(name, position)
        return tuple(
            sorted(
                (op for op in found if isinstance(op, RandomOp)), key=lambda op: (op.place, op.node)
            )
        )

    def _look(self, place: str, node: tf_pb.NodeDef) -> tuple[Found, bool]:
        op = self._found[place].get(node.name)
        return frozenset(() if op is None else (op,)), True

    def _draws_from_state(self, node: tf_pb.NodeDef) -> bool:
        op_def = self._graph.op_def(node)
        attrs = {attr.name for attr in op_def.attr}
        if "dropout" in attrs and "rnn_mode" in attrs:  # cuDNN's, which draw for dropout only
            return self._graph.attr(node, "dropout").f != 0
        # Some of today have `seed2` among their inputs.
        return node.op in _DRAWING or "seed2" in attrs | {arg.name for arg in op_def.input_arg}

    def _seed_inputs(self, node: tf_pb.NodeDef) -> list[int]:
        """Returns which inputs decide what a stateless random op draws; other ops have none."""
        names = [arg.name for arg in self._graph.op_def(node).input_arg]
        if "seed" not in names and not {"key", "counter"} <= set(names):
            return []
        # All these ops have one tensor for each argument.
        return [position for position, name in enumerate(names) if name in _SETTLED_BY]
