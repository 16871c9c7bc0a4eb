"""Reads the structure of v1 loops off a graph."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from bridge.errors import UnsupportedError
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.passes._order import Readers, topological_order
from bridge.proto import tf_pb

Frame = tuple[bytes, ...]
"""Names of the frames around a node, outermost first; any bytes will do for TensorFlow."""

HINT = "export the module again with plain tf.while_loop loops, or without them"


def find_frames(graph: Graph) -> dict[Frame, list[str]]:
    """Returns the nodes of each frame; an Enter is in the frame it opens, an Exit outside."""
    frame_of: dict[str, Frame] = {}
    for name in topological_order(graph, graph.nodes):
        node = graph.nodes[name]
        around: Frame = ()
        for tensor in graph.inputs(node):
            # A Merge comes before the NextIteration that flows back into it.
            frame = frame_of.get(tensor.node, ())
            longer, shorter = (frame, around) if len(frame) > len(around) else (around, frame)
            if longer[: len(shorter)] != shorter:
                raise UnsupportedError(
                    f"takes values from inside two loops, {_text(longer)!r} and {_text(shorter)!r}",
                    where=graph.at(name),
                    hint=HINT,
                )
            around = longer
        if node.op == "Enter":
            around = (*around, graph.attr(node, "frame_name").s)
        elif node.op == "Exit":
            if not around:
                raise UnsupportedError("leaves no loop", where=graph.at(name), hint=HINT)
            around = around[:-1]
        frame_of[name] = around
    frames: dict[Frame, list[str]] = {(): []}
    for name in graph.nodes:  # in the order of the graph, not of the sort
        frames.setdefault(frame_of[name], []).append(name)
    for frame in [frame for frame in frames if frame]:
        for depth in range(1, len(frame)):
            frames.setdefault(frame[:depth], [])
    return frames


@dataclass
class LoopVar:
    """A loop variable: its nodes, of which only Switches and Exits may be absent."""

    enter: tf_pb.NodeDef
    merge: tf_pb.NodeDef
    next_iteration: tf_pb.NodeDef
    switches: list[tf_pb.NodeDef] = field(default_factory=list)
    exits: list[tf_pb.NodeDef] = field(default_factory=list)


@dataclass
class Loop:
    """A v1 loop, taken apart.

    Attributes:
      scope: the name scope it was made in.
      loop_vars: in the order of the graph.
      invariants: Enters with `is_constant`.
      condition: the tensor that LoopCond reads.
      structure: names of all nodes that make up the loop itself, without the Exits.
      members: names of the nodes inside, which end up in cond or body.
    """

    scope: str
    loop_vars: list[LoopVar]
    invariants: list[tf_pb.NodeDef]
    condition: Tensor
    structure: set[str]
    members: list[str]


def read_loop(graph: Graph, frame: Frame, names: list[str], readers: Readers) -> Loop:
    """Takes a loop apart.

    Args:
      graph: the graph.
      frame: the loop's frame.
      names: the nodes in it.
      readers: of the graph.

    Raises:
      UnsupportedError: it is not built as tf.while_loop builds it.
    """
    nodes = [graph.nodes[name] for name in names]
    enters = {node.name: node for node in nodes if node.op == "Enter"}
    conditions = [node for node in nodes if node.op == "LoopCond"]
    if len(conditions) != 1:
        raise UnsupportedError(
            f"the loop {_text(frame)!r} has {len(conditions)} LoopCond nodes instead of one",
            where=graph.at(next(iter(enters), names[0])),
            hint=HINT,
        )
    by_merge = _loop_vars(graph, nodes, conditions[0].name, readers)
    taken = {conditions[0].name}
    for var in by_merge.values():
        taken |= {var.enter.name, var.merge.name, var.next_iteration.name}
        taken |= {switch.name for switch in var.switches}
    invariants = [enter for name, enter in enters.items() if name not in taken]
    for node in nodes:
        loose = node.op == "NextIteration" and node.name not in taken
        if node.op == "Enter":
            loose = graph.attr(node, "is_constant").b == (node.name in taken)
        if loose:
            raise UnsupportedError(
                f"this {node.op} is not part of a loop variable",
                where=graph.at(node.name),
                hint=HINT,
            )
    order = {name: index for index, name in enumerate(enters)}
    return Loop(
        scope=_scope(_text(frame)),
        loop_vars=sorted(by_merge.values(), key=lambda var: order[var.enter.name]),
        invariants=invariants,
        condition=parse_tensor(conditions[0].input[0]),
        structure=taken | set(enters),
        members=[name for name in names if name not in taken and name not in enters],
    )


def _loop_vars(
    graph: Graph, nodes: list[tf_pb.NodeDef], condition: str, readers: Readers
) -> dict[str, LoopVar]:
    """Returns the loop variables by the name of their Merge."""
    by_merge: dict[str, LoopVar] = {}
    own = {node.name for node in nodes}
    for node in nodes:
        if node.op == "Merge":
            inputs = [graph.node(t.node) for t in graph.inputs(node) if not t.is_control]
            if sorted(source.op for source in inputs) == ["Enter", "NextIteration"]:
                enter, following = sorted(inputs, key=lambda source: source.op)
                if enter.name not in own or following.name not in own:
                    raise UnsupportedError(
                        "joins values of two loops", where=graph.at(node.name), hint=HINT
                    )
                by_merge[node.name] = LoopVar(enter, node, following)
    if not by_merge:
        raise UnsupportedError(
            "its loop has no loop variable", where=graph.at(condition), hint=HINT
        )
    for node in nodes:
        if node.op == "Switch" and parse_tensor(node.input[1]).node == condition:
            data = parse_tensor(node.input[0])
            if data.output != 0 or data.node not in by_merge:
                raise UnsupportedError(
                    "lets a value into the loop body that is no loop variable",
                    where=graph.at(node.name),
                    hint=HINT,
                )
            by_merge[data.node].switches.append(node)
    for var in by_merge.values():
        for switch in var.switches:
            for node in readers.of(switch.name):
                if node.op == "Exit" and parse_tensor(node.input[0]) == Tensor(switch.name, 0):
                    var.exits.append(node)
    return by_merge


def _text(frame: Frame) -> str:
    return frame[-1].decode(errors="replace")


def _scope(frame_name: str) -> str:
    """Returns the scope that a loop was made in, in letters that a node's name may have."""
    # tf.while_loop calls its frame `SCOPE/while_context`.
    scope = frame_name.removesuffix("while_context").rstrip("/")
    return re.sub(r"[^A-Za-z0-9_./-]", "_", scope).lstrip("_/-") or "while"
