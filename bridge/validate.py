"""Checks that a graph is one at all, before any pass trusts it."""

from __future__ import annotations

from bridge.errors import MalformedError
from bridge.graph import LOOP_BACK_EDGE, Graph, parse_tensor
from bridge.proto import tf_pb


def check_graph(graph: Graph) -> None:
    """Refuses dangling inputs, data after control inputs, illegal cycles, recursive functions.

    Raises:
      MalformedError: the graph breaks one of these rules; the message names the node.
    """
    for node in graph.nodes.values():
        _check_inputs(graph, node)
    _check_cycles(graph)
    _check_functions(graph)


def _check_inputs(graph: Graph, node: tf_pb.NodeDef) -> None:
    control_seen = False
    for name in node.input:
        tensor = parse_tensor(name)
        if tensor.node not in graph.nodes:
            raise MalformedError(
                f"input {name!r} names a node that is not there", where=graph.at(node.name)
            )
        if control_seen and not tensor.is_control:
            raise MalformedError(
                f"data input {name!r} stands after a control input", where=graph.at(node.name)
            )
        control_seen = tensor.is_control


def _check_cycles(graph: Graph) -> None:
    """Sorts the graph topologically, without the edges that close a while loop."""
    waiting = {
        node.name: sum(1 for _ in _forward_inputs(graph, node)) for node in graph.nodes.values()
    }
    consumers = graph.consumers()
    ready = [name for name, count in waiting.items() if not count]
    done = 0
    while ready:
        name = ready.pop()
        done += 1
        if graph.nodes[name].op in LOOP_BACK_EDGE:
            continue
        for consumer, _ in consumers[name]:
            waiting[consumer.name] -= 1
            if not waiting[consumer.name]:
                ready.append(consumer.name)
    if done < len(waiting):
        stuck = next(name for name, count in waiting.items() if count)
        raise MalformedError("the graph has a cycle that is no loop", where=graph.at(stuck))


def _forward_inputs(graph: Graph, node: tf_pb.NodeDef) -> list[str]:
    return [
        tensor.node
        for tensor in graph.inputs(node)
        if graph.nodes[tensor.node].op not in LOOP_BACK_EDGE
    ]


def _check_functions(graph: Graph) -> None:
    calls = {
        name: {
            called
            for node in function.node_def
            for called in graph.called_functions(node)
            if called in graph.functions
        }
        for name, function in graph.functions.items()
    }
    finished: set[str] = set()
    for root in calls:
        # Depth first with an explicit stack: a stranger's graph may be deep.
        stack, path = [(root, iter(sorted(calls[root])))], {root}
        while stack:
            name, rest = stack[-1]
            called = next(rest, None)
            if called is None:
                stack.pop()
                path.discard(name)
                finished.add(name)
            elif called in path:
                raise MalformedError(f"function {called!r} calls itself", where=graph.where)
            elif called not in finished:
                path.add(called)
                stack.append((called, iter(sorted(calls[called]))))
