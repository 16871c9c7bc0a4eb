"""Finds the first node whose output differs although its inputs agree.

Conversion keeps the names of nodes. So both signatures become flat graphs, which today's TensorFlow
runs side by side, node by node and on the CPU, and every tensor that both have is compared. What
differs first is then computed alone, fed with the reference's values on both sides.
"""

from __future__ import annotations

import base64
import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge._parity.bisection.flat_graph import FlatGraph, read_flat_graph
from bridge._parity.bisection.regions import (
    Region,
    SideGraph,
    find_twins,
    inner_nodes,
    ranks,
    share_a_consumer,
)
from bridge._parity.bisection.script import publish
from bridge._parity.bisection.side_by_side import SIDES, SideBySide, named_tensor
from bridge._parity.results import Bisection
from bridge._parity.rule import Tolerance
from bridge._parity.runners.protocol import RunnerError, Values
from bridge._surfaces.bodies import Bodies
from bridge._surfaces.contents import Contents, digest
from bridge._surfaces.surface import Pair
from bridge.dtypes import dtype_name
from bridge.errors import HubBridgeError
from bridge.graph import Graph, Tensor
from bridge.model import format_tags
from bridge.ops import RESOURCE_VARIABLE
from bridge.proto import tf_pb

_TRIES = 8
"""So many nodes are computed alone before the search ends."""

_CLOSER = 1e-2
"""Where no node differs by more than the tolerance, it is taken so many times."""

_NO_NODE = (
    "today's TensorFlow computes the same at all {count} nodes that both sides have: the "
    "difference comes from how the runtimes run them"
)


def bisect(
    reference: Path,
    candidate: Path,
    pair: Pair,
    inputs: Values,
    tolerance: Tolerance,
    python: Path,
    script: Path,
    *,
    time_limit: float = 600.0,
) -> Bisection:
    """Finds the first node that differs.

    What can't be read, run or written is no error: the result says so.

    Args:
      reference: directory of the one model.
      candidate: directory of the other one.
      pair: the signature; of the ways to call it the first one of each side counts, and of what
        these return, the outputs of the pair.
      inputs: what to feed it, by the reference's names.
      tolerance: what outputs are allowed; constants and variables must be equal.
      python: an interpreter with TensorFlow 2.
      script: becomes a script that shows the difference, with its data beside it; its directory
        is made. Nothing is written where no node is found.
      time_limit: seconds that each of the two runs may take.
    """
    variant, signature = format_tags(pair.reference.variant), pair.reference.signature
    try:
        graphs = (
            read_flat_graph(reference, pair.reference),
            read_flat_graph(candidate, pair.candidate),
        )
        with tempfile.TemporaryDirectory(prefix="hubbridge-bisect-") as folder:
            written = Path(folder) / "repro.py"
            search = _Search(graphs, pair, tolerance, written)
            if not search.names:
                reason = "the two sides have no node of the same name"
                return Bisection(variant, signature, None, reason=reason)
            with SideBySide(
                graphs, pair.inputs, inputs, Path(folder), python, time_limit
            ) as process:
                found = search.run(process)
            if found["node"] is not None:
                found |= publish(written, script, found["reason"])
    except (HubBridgeError, RunnerError, OSError) as error:
        return Bisection(variant, signature, None, reason=f"it can't be searched: {error}")
    return Bisection(variant, signature, **found)


@dataclass(frozen=True)
class _Suspect:
    """Something that differs although what it is computed from agrees.

    Attributes:
      name: the node.
      fetched: its tensor on each side.
      regions: what computes it, on each side.
      reason: what is special about it.
      exact: whether any difference is one.
    """

    name: str
    fetched: tuple[Tensor, Tensor]
    regions: tuple[Region, Region]
    reason: str = ""
    exact: bool = False


class _Search:
    """The search in one pair of graphs.

    Attributes:
      names: the nodes that both have.
    """

    def __init__(
        self,
        graphs: tuple[FlatGraph, FlatGraph],
        pair: Pair,
        tolerance: Tolerance,
        script: Path,
    ):
        self._flat = graphs
        self._pair = pair
        self._tolerance = tolerance
        self._script = script
        first, second = (SideGraph(flat.graph, inner_nodes(flat.graph)) for flat in graphs)
        self._sides = first, second
        self._contents = [Contents(Bodies(flat.graph)) for flat in graphs]
        self.names = find_twins(first, second, self._inputs())
        self._ranks = ranks(graphs[0].graph, [first for first, _ in self._inputs()])

    def run(self, process: SideBySide) -> dict[str, Any]:
        """Returns the fields of a Bisection."""
        names = set(self.names)
        tensors = [tensor for tensor in self._sides[0].twins if tensor.node in names]
        outputs = list(self._outputs())
        found = process.compare(
            [*((tensor, tensor) for tensor in tensors), *((a, b) for _, a, b in outputs)]
        )
        suspects = list(self._suspects(dict(zip(tensors, found, strict=False))))[:_TRIES]
        repros = [self._repro(suspect) for suspect in suspects]
        for suspect, result in zip(suspects, process.try_alone(repros), strict=False):
            if result["differs"]:
                return self._found(suspect, result)
        return {"node": None, "reason": self._nothing(outputs, found[len(tensors) :], suspects)}

    # -- what is compared ----------------------------------------------------------------------

    def _inputs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the tensors of the inputs on both sides, where both feed the same parts."""
        for name, tensors in self._flat[0].inputs.items():
            others = self._flat[1].inputs.get(self._pair.inputs.get(name, name), [])
            if len(tensors) == len(others):
                yield from zip(tensors, others, strict=True)

    def _outputs(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        for name, tensors in self._flat[0].outputs.items():
            others = self._flat[1].outputs.get(self._pair.outputs.get(name, name), [])
            if len(tensors) == len(others):
                for first, second in zip(tensors, others, strict=True):
                    yield name, first, second

    def _differs(self, found: Sequence[float], scale: float = 1.0) -> bool:
        difference, largest = found
        return difference > scale * self._tolerance.limit(largest)

    # -- suspects ------------------------------------------------------------------------------

    def _suspects(self, differences: Mapping[Tensor, Sequence[float]]) -> Iterator[_Suspect]:
        """Yields what may be the cause, the likeliest first."""
        exact = [*self._variables(), *self._constants(differences)]
        seen: set[str] = set()
        for scale in (1.0, _CLOSER):
            differing = {t for t, found in differences.items() if self._differs(found, scale)}
            nodes = [s for s in self._nodes(differing) if s.name not in seen]
            seen.update(s.name for s in nodes)
            yield from sorted([*exact, *nodes], key=lambda s: self._ranks[s.name])
            exact = []

    def _variables(self) -> Iterator[_Suspect]:
        first, second = (flat.variables for flat in self._flat)
        for name in first:
            if name in second and (first[name].data.crc32c, first[name].data.size) != (
                second[name].data.crc32c,
                second[name].data.size,
            ):
                tensor = Tensor(name, 0)
                region = Region({name: None})
                reason = "the value of the variable differs"
                yield _Suspect(name, (tensor, tensor), (region, region), reason, exact=True)

    def _constants(self, differences: Mapping[Tensor, Sequence[float]]) -> Iterator[_Suspect]:
        first, second = (side.graph for side in self._sides)
        for tensor, (difference, _) in differences.items():
            name = tensor.node
            if difference and first.nodes[name].op == second.nodes[name].op == "Const":
                region = Region({name: None})
                if share_a_consumer(name, first, second):
                    reason = "the constant differs"
                    yield _Suspect(name, (tensor, tensor), (region, region), reason, exact=True)

    def _nodes(self, differing: set[Tensor]) -> Iterator[_Suspect]:
        seen: set[str] = set()
        for tensor in differing:
            name = tensor.node
            if name in seen or self._sides[0].graph.nodes[name].op == "Const":
                continue
            seen.add(name)
            regions = self._sides[0].region(name), self._sides[1].region(name)
            boundary = [
                side.twins[edge]
                for side, region in zip(self._sides, regions, strict=True)
                for edge in region.boundary
            ]
            if not differing.intersection(boundary):
                first = min(t for t in differing if t.node == name)
                reason = self._describe(name, regions)
                yield _Suspect(name, (first, first), regions, reason)

    def _describe(self, name: str, regions: Sequence[Region]) -> str:
        first, second = (side.graph.nodes[name] for side in self._sides)
        if any(node in side.inner for side, region in zip(self._sides, regions, strict=True)
               for node in region.nodes):  # fmt: skip
            return "it stands for the whole loop or conditional that it ends"
        if first.op != second.op:
            return f"it is {first.op} in the reference, {second.op} in the candidate"
        fed = [
            {side.twins[edge] for edge in region.boundary}
            for side, region in zip(self._sides, regions, strict=True)
        ]
        if fed[0] != fed[1]:
            inputs = [", ".join(sorted(map(str, tensors))) or "nothing" for tensors in fed]
            return f"it is computed from {inputs[0]} in the reference, {inputs[1]} in the candidate"
        attrs = sorted(
            key
            for key in {*first.attr, *second.attr}
            if not key.startswith("_") and self._attr(0, first, key) != self._attr(1, second, key)
        )
        if attrs:
            return f"its attributes differ: {', '.join(attrs)}"
        return ""

    def _attr(self, side: int, node: tf_pb.NodeDef, key: str) -> object:
        """Returns an attribute; of functions, what they compute, for each side names its own."""
        graph = self._sides[side].graph
        with contextlib.suppress(HubBridgeError):
            attr = graph.attr(node, key)
            names = [f.name for f in (*attr.list.func, *([attr.func] if attr.func.name else []))]
            if not all(name in graph.functions for name in names):
                return attr
            return [self._computed(side, graph.functions[name]) for name in names] or attr
        return None

    def _computed(self, side: int, function: tf_pb.FunctionDef) -> tuple[bytes, ...]:
        places = range(len(function.signature.input_arg))
        arguments = [digest("argument", str(place)) for place in places]
        return self._contents[side].of_function(function.signature.name, arguments)

    # -- one node alone ------------------------------------------------------------------------

    def _repro(self, suspect: _Suspect) -> dict[str, Any]:
        """Returns what the worker writes beside the script that shows a suspect."""
        keys: dict[Tensor, str] = {}
        sides: dict[str, Any] = {}
        for which, side in enumerate(self._sides):
            region, fetched = suspect.regions[which], suspect.fetched[which]
            definition, placeholders = side.alone(region)
            for edge in region.boundary:
                keys.setdefault(side.twins[edge], f"value_{len(keys)}")
            variables = self._flat[which].variables
            fetch = _add_read(definition, side.graph, fetched)
            sides[SIDES[which]] = {
                "graph": base64.b64encode(definition.SerializeToString()).decode(),
                "fetch": fetch,
                "feeds": {
                    name: (keys[side.twins[edge]], dtype_name(side.graph.output(edge).dtype))
                    for edge, name in placeholders.items()
                },
                "variables": {
                    name: (f"{SIDES[which]}_variable_{i}", dtype_name(variables[name].dtype))
                    for i, name in enumerate(region.nodes)
                    if name in variables
                },
            }
        tolerance = Tolerance(0.0) if suspect.exact else self._tolerance
        return {
            "node": suspect.name,
            "op": self._op(suspect.name),
            "rtol": tolerance.rtol,
            "atol": tolerance.atol,
            "path": str(self._script.absolute()),
            "taken": {key: named_tensor(0, tensor) for tensor, key in keys.items()},
            **sides,
        }

    def _op(self, name: str) -> str:
        return self._sides[0].graph.nodes[name].op

    # -- what is said --------------------------------------------------------------------------

    def _found(self, suspect: _Suspect, result: Mapping[str, Any]) -> dict[str, Any]:
        reason = suspect.reason
        shapes = result["shapes"]
        if shapes[0] != shapes[1]:
            reason = f"{reason + '; ' if reason else ''}its shape is {shapes[0]}, then {shapes[1]}"
        return {
            "node": suspect.name,
            "op": self._op(suspect.name),
            "confirmed": True,
            "difference": result["difference"],
            "limit": result["limit"],
            "reference": tuple(result["reference"]),
            "candidate": tuple(result["candidate"]),
            "reason": reason,
        }

    def _nothing(
        self,
        outputs: Sequence[tuple[str, Tensor, Tensor]],
        found: Sequence[Sequence[float]],
        suspects: Sequence[_Suspect],
    ) -> str:
        differing = [
            (name, self._sources(0, first), self._sources(1, second))
            for (name, first, second), result in zip(outputs, found, strict=True)
            if self._differs(result)
        ]
        for name, *sources in differing:
            if sources[0] != sources[1]:
                first, second = (", ".join(sorted(map(str, tensors))) for tensors in sources)
                return (
                    f"output {name!r} is computed from {first or 'nothing'} in the reference, from "
                    f"{second or 'nothing'} in the candidate"
                )
        if suspects:
            return (
                f"{suspects[0].name!r} is the first node that differs, but fed with the same "
                "values it does not"
            )
        for name, common, _ in differing:
            inputs = ", ".join(sorted(map(str, common)))
            return (
                f"output {name!r} is computed from {inputs} by nodes of which only one side has "
                "the name"
            )
        return _NO_NODE.format(count=len(self.names))

    def _sources(self, side: int, tensor: Tensor) -> set[Tensor]:
        """Returns the tensors that both sides have and from which an output is computed."""
        known = self._sides[side]
        if tensor in known.twins:
            return {known.twins[tensor]}
        return {known.twins[edge] for edge in known.region(tensor.node).boundary}


def _add_read(definition: tf_pb.GraphDef, graph: Graph, fetched: Tensor) -> str:
    """Returns the tensor to fetch; of a variable, one that is added to read it."""
    node = graph.nodes[fetched.node]
    if node.op != RESOURCE_VARIABLE:
        return f"{fetched.node}:{fetched.output}"
    name = f"{node.name}/value"
    read = definition.node.add(name=name, op="ReadVariableOp", input=[node.name])
    read.attr["dtype"].CopyFrom(graph.attr(node, "dtype"))
    return f"{name}:0"
