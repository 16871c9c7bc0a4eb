"""What functions do to variables: which they change, and which only hold the state of random ops.

A graph is looked at as a whole, with the functions that it calls and the branches and loops that
it runs. A variable is known by the node that makes its handle, or in a function by the argument
that is its handle.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bridge._surfaces.bodies import Bodies
from bridge.dtypes import is_ref
from bridge.errors import UnsupportedError
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.ops import CALLS, CONDITIONALS, REFERENCE_VARIABLES, RESOURCE_VARIABLE, WRITING_OPS
from bridge.passes._variable_ops import FUNCTIONAL, GENERATOR_OPS
from bridge.proto import tf_pb

Booleans = tuple[tuple[int, bool], ...]
"""Positions of arguments whose values are known, with these values."""

_VARIABLES = REFERENCE_VARIABLES | {RESOURCE_VARIABLE}

_HANDING_ON = frozenset(
    {
        *("Identity", "Enter", "Exit", "Merge", "NextIteration", "Switch"),
        *("RefIdentity", "RefEnter", "RefExit", "RefMerge", "RefNextIteration", "RefSwitch"),
        "RefSelect",
    }
)
"""Ops that hand the handle of a variable, or the reference to one, on as it is."""

_WRITES = (*WRITING_OPS, *GENERATOR_OPS)
_REFERENCE_READS = _HANDING_ON | {"IsVariableInitialized"}
_LOOPS = frozenset({"While", "StatelessWhile"})
_SEEDS = frozenset({"alg", "algorithm", "counter", "key", "seed"})
"""Names of the inputs of random ops that decide about the numbers and nothing else."""


def draws_by_seed(op: str) -> bool:
    """True for a random op whose numbers a seed, a key or a generator decides."""
    return op.startswith(GENERATOR_OPS) or (op.startswith("Stateless") and op not in FUNCTIONAL)


@dataclass(frozen=True)
class Effects:
    """What a graph does to variables, by the names of their nodes or arguments.

    Attributes:
      written: those that it changes, each with those that the new value is made of.
      needed: for each output, those that it is made of otherwise than by the seeds of random ops.
      handles: for each output, those whose handle it may be.
      seeds: those that random ops make their seeds of.
    """

    written: Mapping[str, frozenset[str]]
    needed: tuple[frozenset[str], ...]
    handles: tuple[frozenset[str], ...]
    seeds: frozenset[str]

    def needed_otherwise(self) -> frozenset[str]:
        """Returns those that an output, or the new value of another one, is made of."""
        found = frozenset[str]().union(*self.needed)
        for name, made_of in self.written.items():
            found |= made_of - {name}
        return found


class EffectsReader:
    """Finds the effects of graphs, and of the functions that they share."""

    def __init__(self, bodies: Bodies, *, with_values: bool = True):
        """Takes what it reads.

        Args:
          bodies: the functions; the graphs that are given have the same library.
          with_values: whether to find out what variables and outputs are made of, and seeds, which
            takes long; without, only the names in `Effects.written` and `Effects.handles` are told.
        """
        self._bodies = bodies
        self.with_values = with_values
        self._functions: dict[tuple[str, Booleans], tuple[list[str], Effects]] = {}

    def of_function(self, name: str, booleans: Booleans = ()) -> tuple[list[str], Effects]:
        """Returns the names of a function's arguments, and its effects.

        Args:
          name: the function.
          booleans: positions of arguments that are known, with their values.
        """
        key = name, booleans
        if key not in self._functions:
            body = self._bodies[name]
            names = body.arguments
            known = {names[position]: value for position, value in booleans}
            effects = self.of_graph(body.graph, body.outputs, body.controls, names, known)
            self._functions[key] = names, effects
        return self._functions[key]

    def given(self, name: str, values: Sequence[Tensor]) -> dict[str, Tensor]:
        """Returns what each argument of a function gets."""
        return self._bodies[name].given(name, values)

    def of_graph(
        self,
        graph: Graph,
        outputs: Iterable[Tensor],
        run: Iterable[str],
        arguments: Collection[str] = (),
        booleans: Mapping[str, bool] | None = None,
    ) -> Effects:
        """Returns the effects of running a part of a graph.

        Args:
          graph: the graph.
          outputs: what it is run for.
          run: nodes that run besides.
          arguments: names of nodes that may be handles.
          booleans: the values of some of these.

        Raises:
          UnsupportedError: a function that is run in a way that is not known changes a variable.
        """
        outputs = list(outputs)
        walk = _Walk(graph, self, frozenset(arguments), booleans or {})
        members = graph.ancestors([*(tensor.node for tensor in outputs), *run])
        written: dict[str, frozenset[str]] = {}
        seeds: frozenset[str] = frozenset()
        for name in sorted(members):
            node = graph.nodes[name]
            for variable, made_of in walk.writes(node):
                written[variable] = written.get(variable, frozenset()) | made_of
            if self.with_values:
                seeds |= walk.needed([*walk.seeds(node), *walk.inner_seeds(node)])
        return Effects(
            written,
            tuple(walk.needed([tensor]) for tensor in outputs) if self.with_values else (),
            tuple(walk.handles([tensor]) for tensor in outputs),
            seeds,
        )


class _Walk:
    """Walks over a graph, from tensors back to variables."""

    def __init__(
        self,
        graph: Graph,
        reader: EffectsReader,
        arguments: Collection[str],
        booleans: Mapping[str, bool],
    ):
        self._graph = graph
        self._reader = reader
        self._arguments = arguments
        self._booleans = booleans
        self._runs: dict[str, list[tuple[Effects, dict[str, Tensor]]]] = {}

    def _is_variable(self, name: str) -> bool:
        return name in self._arguments or self._graph.nodes[name].op in _VARIABLES

    def _data(self, node: tf_pb.NodeDef) -> list[Tensor]:
        return [tensor for tensor in self._graph.inputs(node) if not tensor.is_control]

    def handles(self, tensors: Iterable[Tensor]) -> frozenset[str]:
        """Returns the variables whose handles tensors may be."""
        return self._walk(tensors, self._handed_on)

    def needed(self, tensors: Iterable[Tensor]) -> frozenset[str]:
        """Returns the variables that tensors are made of, otherwise than by seeds."""
        return self._walk(tensors, self._made_of)

    def _walk(
        self, tensors: Iterable[Tensor], before: Callable[[Tensor], Iterable[Tensor]]
    ) -> frozenset[str]:
        found: set[str] = set()
        seen: set[Tensor] = set()
        stack = list(tensors)
        while stack:
            tensor = stack.pop()
            if tensor in seen:
                continue
            seen.add(tensor)
            if self._is_variable(tensor.node):
                found.add(tensor.node)
            else:
                stack += before(tensor)
        return frozenset(found)

    def _handed_on(self, tensor: Tensor) -> Iterable[Tensor]:
        node = self._graph.nodes[tensor.node]
        if node.op in _HANDING_ON:
            return self._data(node)
        if node.op in _LOOPS:
            return [self._data(node)[tensor.output]]  # a loop changes no handle
        return [
            given[name]
            for effects, given in self._run(node)
            for name in effects.handles[tensor.output]
        ]

    def _made_of(self, tensor: Tensor) -> Iterable[Tensor]:
        node = self._graph.nodes[tensor.node]
        runs = self._run(node)
        if not runs:
            seeds = self.seeds(node)
            return [given for given in self._data(node) if given not in seeds]
        if node.op in _LOOPS:
            return self._made_of_loop(node, tensor.output)
        made_of = [given[name] for effects, given in runs for name in effects.needed[tensor.output]]
        return [*self._data(node)[:1], *made_of] if node.op in FUNCTIONAL else made_of

    def _made_of_loop(self, node: tf_pb.NodeDef, output: int) -> Iterable[Tensor]:
        """Returns the first values of all that a loop's result may be made of."""
        given = self._data(node)
        names, condition = self._reader.of_function(node.attr["cond"].func.name)
        positions = {output, *(names.index(name) for name in condition.needed[0])}
        names, body = self._reader.of_function(node.attr["body"].func.name)
        stack = list(positions)
        while stack:
            more = {names.index(name) for name in body.needed[stack.pop()]} - positions
            positions |= more
            stack += more
        return [given[position] for position in sorted(positions)]

    def _run(self, node: tf_pb.NodeDef) -> list[tuple[Effects, dict[str, Tensor]]]:
        """Returns the effects of the functions that a node runs, and what their arguments get."""
        if node.name not in self._runs:
            self._runs[node.name] = list(self._find_runs(node))
        return self._runs[node.name]

    def _find_runs(self, node: tf_pb.NodeDef) -> Iterator[tuple[Effects, dict[str, Tensor]]]:
        called_functions = self._graph.called_functions(node)
        if not called_functions:
            return
        given = self._data(node)
        if node.op in CONDITIONALS and (value := self._boolean(given[0])) is not None:
            called_functions = [node.attr["then_branch" if value else "else_branch"].func.name]
        if node.op in FUNCTIONAL - _LOOPS:
            given = given[1:]  # without the predicate, or the index of the branch
        is_known = node.op in FUNCTIONAL | CALLS or node.op in self._graph.functions
        booleans: Booleans = ()
        if is_known and node.op not in _LOOPS:  # what a loop is given changes
            found = ((i, self._boolean(tensor)) for i, tensor in enumerate(given))
            booleans = tuple((i, value) for i, value in found if value is not None)
        for called in called_functions:
            _, effects = self._reader.of_function(called, booleans)
            if is_known:
                yield effects, self._reader.given(called, given)
            elif effects.written:
                raise UnsupportedError(
                    f"op {node.op} runs the function {called!r}, which changes a variable, and "
                    "which one is not known",
                    where=self._graph.at(node.name),
                    hint="save the model again with the variable assigned outside of it",
                )

    def _boolean(self, tensor: Tensor) -> bool | None:
        """Returns the value of a tensor, if it is one that is known."""
        node = self._graph.nodes[tensor.node]
        while node.op == "Identity":
            node = self._graph.nodes[parse_tensor(node.input[0]).node]
        if node.name in self._booleans:
            return self._booleans[node.name]
        if node.op != "Const" or node.attr["dtype"].type != tf_pb.DT_BOOL:
            return None
        value = node.attr["value"].tensor
        is_scalar = len(value.bool_val) == 1 and not value.tensor_shape.dim
        return value.bool_val[0] if is_scalar else None

    # -- effects -------------------------------------------------------------------------------

    def seeds(self, node: tf_pb.NodeDef) -> list[Tensor]:
        """Returns what decides about the numbers that a random op draws."""
        if node.op.startswith(GENERATOR_OPS):
            return self._data(node)[:1]
        if not draws_by_seed(node.op):
            return []
        args = self._graph.arg_types(node, self._graph.op_def(node).input_arg)
        pairs = zip(args, self._data(node), strict=True)
        return [tensor for arg, tensor in pairs if arg.arg in _SEEDS]

    def inner_seeds(self, node: tf_pb.NodeDef) -> list[Tensor]:
        """Returns the inputs of which functions that a node runs make seeds."""
        return [given[name] for effects, given in self._run(node) for name in effects.seeds]

    def writes(self, node: tf_pb.NodeDef) -> Iterator[tuple[str, frozenset[str]]]:
        """Yields the variables that a node changes, and what their new values are made of."""
        for effects, given in self._run(node):
            for name, made_of in effects.written.items():
                value = self._value(given[argument] for argument in made_of)
                for variable in self.handles([given[name]]):
                    yield variable, value
        data = self._data(node)
        for position in self._written_inputs(node):
            others = [*data[:position], *data[position + 1 :]]
            value = self._value([] if node.op.startswith(GENERATOR_OPS) else others)
            for variable in self.handles([data[position]]):
                yield variable, value

    def _value(self, tensors: Iterable[Tensor]) -> frozenset[str]:
        return self.needed(tensors) if self._reader.with_values else frozenset()

    def _written_inputs(self, node: tf_pb.NodeDef) -> list[int]:
        args = self._graph.op_args(node).inputs
        if not (node.op.startswith(_WRITES) or any(arg.ref for arg in args)):
            return []
        if node.op in _REFERENCE_READS:
            return []
        types = self._graph.arg_types(node, self._graph.op_def(node).input_arg)
        return [
            position
            for position, arg in enumerate(types)
            if is_ref(arg.dtype) or arg.dtype == tf_pb.DT_RESOURCE
        ]
