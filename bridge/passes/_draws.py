"""The random ops of one graph, the seeds that they get, and ops of old that draw instead."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from bridge.attrs import ints_of, ints_tensor_attr, type_attr
from bridge.errors import UnsupportedError
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.passes._functions import has_effect
from bridge.passes._variable_ops import FUNCTIONAL, Use, VariableUses
from bridge.proto import tf_pb

# Ops that get a key and a counter, and the op of old that gets a seed.
_BY_KEY = {
    "StatelessRandomNormalV2": "StatelessRandomNormal",
    "StatelessRandomUniformIntV2": "StatelessRandomUniformInt",
    "StatelessRandomUniformV2": "StatelessRandomUniform",
    "StatelessTruncatedNormalV2": "StatelessTruncatedNormal",
}
_ALL_INTEGERS = "StatelessRandomUniformFullIntV2"  # there is none of old
_KEYS = frozenset({"StatelessRandomGetKeyCounter", "StatelessRandomGetKeyCounterAlg"})

_MAKE_KEYS = _KEYS | {"StatelessRandomGetAlg"}

# Ops that get a seed in both releases, as this input.
_BY_SEED = {
    "StatelessMultinomial": 2,
    "StatelessRandomNormal": 1,
    "StatelessRandomUniform": 1,
    "StatelessRandomUniformInt": 1,
    "StatelessTruncatedNormal": 1,
}

# Ops that draw from a tf.random.Generator by themselves, and what draws the same from nothing.
_BY_GENERATOR = {
    "StatefulStandardNormalV2": "RandomStandardNormal",
    "StatefulTruncatedNormal": "TruncatedNormal",
    "StatefulUniform": "RandomUniform",
    "StatefulUniformInt": "RandomUniformInt",
}

_LOOPS = frozenset({"While", "StatelessWhile"})
REWRITTEN = frozenset({*_BY_KEY, _ALL_INTEGERS, *_BY_SEED, *_BY_GENERATOR})

# tensorflow/core/framework/rng_alg.h: on CPUs and GPUs, 3 (whatever suits the device) is Philox.
_PHILOX = frozenset({1, 3})

_RANGES: dict[int, tuple[int, int]] = {
    tf_pb.DT_INT32: (-(1 << 31), (1 << 31) - 1),
    tf_pb.DT_INT64: (-(1 << 63), (1 << 63) - 1),
}


def seeds_of(node: tf_pb.NodeDef) -> list[str]:
    """Returns the inputs of a random op that decide about the numbers; none of any other op."""
    if node.op in _BY_KEY or node.op == _ALL_INTEGERS:
        return list(node.input[1:3])
    if node.op in _BY_SEED:
        return [node.input[_BY_SEED[node.op]]]
    return []


def first_argument(node: tf_pb.NodeDef) -> int:
    """Returns which input of a node is the first argument of its functions."""
    return 0 if node.op in _LOOPS else 1


class Draws:
    """The random ops of a graph, and the state that they draw from.

    Attributes:
      states: the variables that random ops drew from, each with one of these.
    """

    def __init__(self, graph: Graph, handles: Collection[str] | None, targets: set[str]):
        self.graph = graph
        self.targets = targets
        self.states: dict[str, str] = {}
        find = VariableUses(graph, handles)
        self.uses = {n.name: found for n in graph.nodes.values() if (found := find.of_node(n))}
        self.written = {
            variable
            for found in self.uses.values()
            for variable, use in found.items()
            if Use.WRITE in use
        }
        self._drawn: dict[tuple[str, ...], str] = {}

    def check_bodies(self, seeds: Mapping[str, Collection[int]]) -> None:
        """Refuses a branch or loop that makes a seed of what the function moves on outside of it.

        Args:
          seeds: the positions of the arguments that each function makes seeds of.
        """
        for node in self.graph.nodes.values():
            for name in self.graph.called_functions(node):
                for position in seeds[name]:
                    if self._moving(node, [node.input[position + first_argument(node)]]):
                        raise UnsupportedError(
                            "a random op inside takes its seed from state that moves on outside",
                            where=self.graph.at(node.name),
                            hint="make the seed where the numbers are drawn, and save the model "
                            "again",
                        )

    def run(self) -> int:
        """Rewrites the random ops; returns how many there were, and nodes dropped with them."""
        count = 0
        for node in list(self.graph.nodes.values()):
            if node.op in _BY_KEY or node.op == _ALL_INTEGERS:
                self._rewrite_by_key(node)
            elif node.op in _BY_SEED:
                if not self._rewrite_by_seed(node):
                    continue
            elif node.op in _BY_GENERATOR:
                self._rewrite_by_generator(node)
            else:
                continue
            count += 1
        if not count:
            return 0
        count += sum(self._drop_state(variable) for variable in sorted(self.states))
        return count + self._drop_keys()

    # -- ops ---------------------------------------------------------------------------------

    def _rewrite_by_key(self, node: tf_pb.NodeDef) -> None:
        shape, key, counter, algorithm, *rest = node.input
        attrs = {"dtype": self._type(node, "dtype"), "T": self._type(node, "Tshape")}
        seed = self._seed(key, counter)
        sources = [key, counter] if seed is None else [seed]
        if node.op == _ALL_INTEGERS:
            self._rewrite_all_integers(node, sources)
            return
        if not self._moving(node, sources):
            if seed is None:
                raise UnsupportedError(
                    f"op {node.op} gets a key that StatelessRandomGetKeyCounter did not make",
                    where=self.graph.at(node.name),
                    hint="give the random op a seed and alg='auto_select', and save the model "
                    "again",
                )
            self._check_algorithm(node, algorithm)
            attrs["Tseed"] = self._type(self.graph.nodes[parse_tensor(key).node], "Tseed")
            _become(node, _BY_KEY[node.op], [shape, seed, *rest], **attrs)
            return
        drawn = self._drawn_seed(node, sources)
        attrs["Tseed"] = tf_pb.DT_INT32
        _become(node, _BY_KEY[node.op], [shape, drawn, *rest], **attrs)

    def _rewrite_all_integers(self, node: tf_pb.NodeDef, sources: list[str]) -> None:
        dtype = self._type(node, "dtype")
        if dtype not in _RANGES or not self._moving(node, sources):
            raise UnsupportedError(
                f"op {node.op} has no form in TensorFlow 1 that draws the same numbers",
                where=self.graph.at(node.name),
                hint="give the random op alg='auto_select', a minval and a maxval, and save the "
                "model again",
            )
        controls = [text for text in node.input if text.startswith("^")]
        bounds = [self._const(f"{node.name}/bound", dtype, bound) for bound in _RANGES[dtype]]
        attrs = {"Tout": dtype, "T": self._type(node, "Tshape")}
        _become(node, "RandomUniformInt", [node.input[0], *bounds, *controls], **attrs)

    def _rewrite_by_seed(self, node: tf_pb.NodeDef) -> bool:
        position = _BY_SEED[node.op]
        seed = node.input[position]
        if not self._moving(node, [seed]):
            return False
        node.input[position] = self._drawn_seed(node, [seed])
        node.attr["Tseed"].CopyFrom(type_attr(tf_pb.DT_INT32))
        return True

    def _rewrite_by_generator(self, node: tf_pb.NodeDef) -> None:
        self._note_state(node, self.uses.pop(node.name, {}))
        op = _BY_GENERATOR[node.op]
        attrs = {
            "Tout" if op == "RandomUniformInt" else "dtype": self._type(node, "dtype"),
            "T": self._type(node, "shape_dtype"),
        }
        _become(node, op, list(node.input)[2:], **attrs)

    def _type(self, node: tf_pb.NodeDef, attr: str) -> int:
        return self.graph.attr(node, attr).type

    # -- seeds -------------------------------------------------------------------------------

    def _seed(self, key: str, counter: str) -> str | None:
        """Returns the seed that a key and a counter were made of, if they were made of one."""
        made, rest = parse_tensor(key), parse_tensor(counter)
        source = self.graph.nodes[made.node]
        if source.op not in _KEYS or (made.output, rest) != (0, Tensor(made.node, 1)):
            return None
        return source.input[0]

    def _drawn_seed(self, node: tf_pb.NodeDef, sources: list[str]) -> str:
        """Returns a seed that is drawn anew in each run; one for equal sources."""
        key = tuple(sources)
        if key not in self._drawn:
            self._drawn[key] = self._add_draw(f"{node.name}/seed")
        return self._drawn[key]

    def _moving(self, node: tf_pb.NodeDef, sources: Iterable[str]) -> bool:
        """True if tensors are computed from state that the graph writes; notes the state."""
        seen: set[str] = set()
        stack = [parse_tensor(text).node for text in sources]
        found = False
        while stack:
            name = stack.pop()
            if name in seen:
                continue
            seen.add(name)
            uses = {v: use for v, use in self.uses.get(name, {}).items() if v in self.written}
            found = self._note_state(node, uses) or found
            inputs = self.graph.inputs(self.graph.nodes[name])
            stack += [tensor.node for tensor in inputs if not tensor.is_control]
        return found

    def _note_state(self, node: tf_pb.NodeDef, uses: Iterable[str]) -> bool:
        found = False
        for variable in uses:
            self.states.setdefault(variable, node.name)
            found = True
        return found

    def _add_draw(self, scope: str) -> str:
        low, high = _RANGES[tf_pb.DT_INT32]
        shape = self._const(f"{scope}/shape", tf_pb.DT_INT32, [2])
        bounds = [self._const(f"{scope}/bound", tf_pb.DT_INT32, bound) for bound in (low, high)]
        int32 = type_attr(tf_pb.DT_INT32)
        name = self.graph.unique_name(scope)
        self.graph.add("RandomUniformInt", name, [shape, *bounds], Tout=int32, T=int32)
        return name

    def _const(self, name: str, dtype: int, values: int | list[int]) -> str:
        name = self.graph.unique_name(name)
        value = ints_tensor_attr(dtype, values)
        self.graph.add("Const", name, dtype=type_attr(dtype), value=value)
        return name

    def _check_algorithm(self, node: tf_pb.NodeDef, algorithm: str) -> None:
        source = self.graph.nodes[parse_tensor(algorithm).node]
        if source.op in _MAKE_KEYS:
            return  # the device's own
        numbers = ints_of(source.attr["value"].tensor) if source.op == "Const" else None
        if not numbers or numbers[0] not in _PHILOX:
            raise UnsupportedError(
                f"op {node.op} runs another algorithm than Philox",
                where=self.graph.at(node.name),
                hint="give the random op alg='auto_select', and save the model again",
            )

    # -- state -------------------------------------------------------------------------------

    def _drop_state(self, variable: str) -> int:
        """Drops a variable, its reads and writes, if nothing else needs them."""
        graph = self.graph
        uses = {name: found[variable] for name, found in self.uses.items() if found.get(variable)}
        writes = {name for name, use in uses.items() if Use.WRITE in use}
        if any(graph.nodes[name].op in FUNCTIONAL for name in uses):
            return 0
        consumers = graph.consumers()
        gone = set(writes)
        stack = list(uses)
        while stack:
            name = stack.pop()
            node = graph.nodes[name]
            if name in self.targets or (has_effect(graph, node) and name not in writes):
                return 0
            gone.add(name)
            stack += [
                consumer.name
                for consumer, position in consumers[name]
                if not consumer.input[position].startswith("^") and consumer.name not in gone
            ]
        self._drop(gone)
        return len(gone)

    def _drop_keys(self) -> int:
        """Drops what made keys that nothing reads any more."""
        used = {t for node in self.graph.nodes.values() for t in node.input if t[0] != "^"}
        used = {parse_tensor(text).node for text in used} | self.targets
        nodes = self.graph.nodes.values()
        unused = {node.name for node in nodes if node.op in _MAKE_KEYS and node.name not in used}
        self._drop(unused)
        return len(unused)

    def _drop(self, names: set[str]) -> None:
        """Drops nodes, and the control edges from them."""
        for node in self.graph.nodes.values():
            kept = [text for text in node.input if text[1:] not in names or text[0] != "^"]
            if len(kept) < len(node.input):
                node.input[:] = kept
        self.graph.keep(self.graph.nodes.keys() - names)


def _become(node: tf_pb.NodeDef, op: str, inputs: list[str], **dtypes: int) -> None:
    node.op = op
    node.input[:] = inputs
    node.attr.clear()
    for key, dtype in dtypes.items():
        node.attr[key].CopyFrom(type_attr(dtype))
