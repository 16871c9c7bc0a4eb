"""Reads off a graph which nodes are alive in which branch of which v1 conditional."""

from __future__ import annotations

from collections.abc import Collection

from bridge.errors import UnsupportedError
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.passes._functions import has_effect
from bridge.passes._order import Readers, topological_order
from bridge.proto import tf_pb

State = frozenset[tuple[Tensor, bool]]
"""The (predicate, way) pairs that must hold for a node to be alive."""

ALWAYS: State = frozenset()
HINT = "export the module again with plain tf.cond conditionals, or without them"


class BranchStates:
    """The states of the nodes of one loop body, or of the graph outside of loops.

    Attributes:
      states: by node.
      by_state: the nodes of each state, in the order of the graph.
      predicates: of each Switch, past the Identity that tf.cond hangs before it.
      switches: by the state around their conditional and its predicate.
      merges: likewise.
      order: position of each node of the region, and of what was added.
    """

    def __init__(self, graph: Graph, region: Collection[str], readers: Readers):
        """Computes the states.

        Args:
          graph: the graph.
          region: the nodes to look at, in the order of the graph; all others count as always alive.
          readers: of the graph.

        Raises:
          UnsupportedError: a Switch or Merge is not part of a conditional as tf.cond makes them.
        """
        self.graph = graph
        self.states: dict[str, State] = {}
        self.by_state: dict[State, dict[str, None]] = {}
        self.predicates: dict[str, Tensor] = {}
        self.switches: dict[tuple[State, Tensor], list[str]] = {}
        self.merges: dict[tuple[State, Tensor], list[str]] = {}
        self.order = {name: index for index, name in enumerate(region)}
        self._check_value_indexes(
            {name for name in region if graph.nodes[name].op == "Merge"}, readers
        )
        for name in topological_order(graph, region):
            self._classify(graph.nodes[name])
        for state, names in self.by_state.items():
            self.by_state[state] = dict.fromkeys(sorted(names, key=self.order.__getitem__))

    def add(self, name: str, state: State, after: str) -> None:
        """Takes in a new node, which stands where another one stands."""
        self.order[name] = self.order[after]
        self.states[name] = state
        self.by_state.setdefault(state, {})[name] = None

    def remove(self, name: str) -> None:
        """Forgets a node."""
        self.by_state[self.states.pop(name)].pop(name)

    def branches(self, around: State, predicate: Tensor) -> list[dict[str, None]]:
        """Returns the nodes of the else branches and those of the then branches."""
        return [self.by_state.get(around | {(predicate, way)}, {}) for way in (False, True)]

    def pairs(self) -> list[tuple[State, Tensor]]:
        """Returns what conditionals there are: state around, and predicate; innermost first."""
        first: dict[tuple[State, Tensor], int] = {}
        for found in (self.switches, self.merges):
            for pair, names in found.items():
                position = min(self.order[name] for name in names)
                first[pair] = min(position, first.get(pair, position))
        return sorted(first, key=lambda pair: (-len(pair[0]), first[pair]))

    def _classify(self, node: tf_pb.NodeDef) -> None:
        if node.op == "Merge":
            state = self._merge_state(node)
        else:
            state = self._node_state(node)
        self.states[node.name] = state
        self.by_state.setdefault(state, {})[node.name] = None
        if node.op == "Switch":
            predicate = self._predicate(node)
            self.predicates[node.name] = predicate
            self.switches.setdefault((state, predicate), []).append(node.name)

    def _predicate(self, switch: tf_pb.NodeDef) -> Tensor:
        # tf.cond hangs `pred_id`, an Identity, between the predicate and most of its Switches.
        tensor = parse_tensor(switch.input[1])
        while (node := self.graph.node(tensor.node)).op == "Identity":
            tensor = parse_tensor(node.input[0])
        return tensor

    def edge_state(self, tensor: Tensor) -> State:
        """Returns the state that an edge lends to the node it leads to."""
        state = self.states.get(tensor.node, ALWAYS)
        if tensor.node in self.predicates and not tensor.is_control:
            return state | {(self.predicates[tensor.node], tensor.output == 1)}
        return state

    def _node_state(self, node: tf_pb.NodeDef) -> State:
        inputs = list(self.graph.inputs(node))
        data = [self.edge_state(tensor) for tensor in inputs if not tensor.is_control]
        state = ALWAYS.union(*data)
        if _contradicts(state):
            raise UnsupportedError(
                "needs values from both branches of a conditional at once",
                where=self.graph.at(node.name),
                hint=HINT,
            )
        control = [self.edge_state(tensor) for tensor in inputs if tensor.is_control]
        # A pure op with inputs that is alive anyway may run although what it waits for does not.
        if data and not has_effect(self.graph, node):
            control = [
                self.edge_state(tensor)
                for tensor in inputs
                if tensor.is_control and self._is_pivot(tensor.node)
            ]
        whole = state.union(*control)
        if not _contradicts(whole):
            return whole
        # It waits for both branches (tf.group over them): it runs after the If.
        return state.union(pair for pair in whole if (pair[0], not pair[1]) not in whole)

    def _is_pivot(self, name: str) -> bool:
        node = self.graph.nodes[name]
        if node.op != "Identity":
            return False
        return parse_tensor(node.input[0]).node in self.predicates

    def _merge_state(self, node: tf_pb.NodeDef) -> State:
        inputs = [tensor for tensor in self.graph.inputs(node) if not tensor.is_control]
        ways = [self.edge_state(tensor) for tensor in inputs]
        if len(ways) == 2:
            clash = [pair for pair in ways[0] if (pair[0], not pair[1]) in ways[1]]
            if len(clash) == 1:
                predicate, way = clash[0]
                around = ways[0] - {(predicate, way)}
                if around == ways[1] - {(predicate, not way)}:
                    self.merges.setdefault((around, predicate), []).append(node.name)
                    return around
        raise UnsupportedError(
            "this Merge does not join the two branches of one conditional",
            where=self.graph.at(node.name),
            hint=HINT,
        )

    def _check_value_indexes(self, merges: set[str], readers: Readers) -> None:
        # One node may read many Merges: each is looked at once.
        found = {name for merge in merges for name in readers.names(merge)}
        for name in sorted(found & self.graph.nodes.keys()):
            for tensor in self.graph.inputs(self.graph.nodes[name]):
                if tensor.output == 1 and tensor.node in merges:
                    raise UnsupportedError(
                        f"wants to know which branch {tensor.node!r} took",
                        where=self.graph.at(name),
                        hint=HINT,
                    )


def _contradicts(state: State) -> bool:
    return any((predicate, not way) in state for predicate, way in state)
