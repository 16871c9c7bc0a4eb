"""Control flow becomes functional in a variant as a whole, and takes time in proportion to it."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from bridge.errors import HubBridgeError
from bridge.graph import Graph, parse_tensor
from bridge.model import INFERENCE, Variant
from bridge.opsets import OpTable
from bridge.passes.functional_control_flow import FunctionalControlFlow
from bridge.proto import tf_pb
from bridge.report import Report
from bridge.validate import check_graph
from tests.passes.v1_graphs import Tf2Function, V1Graph, build, build_only

pytestmark = pytest.mark.tf2

X = np.array([1.0, -2.0, 3.0], np.float32)
YES, NO = np.array(True), np.array(False)


def rewrite(graph, **fields):
    variant = Variant(INFERENCE, graph, **fields)
    FunctionalControlFlow().rewrite(variant, Report("", None, "to-saved-model"))
    return variant


def consts(graph):
    bodies = (function.node_def for function in graph.functions.values())
    return {node.name for node in itertools.chain(*bodies) if node.op == "Const"}


# -- paths of assets -------------------------------------------------------------------------


def path_in_cond(v1):
    p, path = v1.placeholder("bool", []), v1.constant("exporter/vocab", name="path")
    y = v1.cond(p, lambda: v1.strings.join([path, "!"]), lambda: v1.constant("no"))
    return V1Graph({p: YES}, [y])


def path_made_in_cond(v1):
    p = v1.placeholder("bool", [])

    def then():
        return v1.strings.join([v1.constant("exporter/vocab", name="path"), "!"])

    return V1Graph({p: YES}, [v1.cond(p, then, lambda: v1.constant("no"))])


def path_returned_by_cond(v1):
    p = v1.placeholder("bool", [])
    y = v1.cond(p, lambda: v1.constant("exporter/vocab", name="path"), lambda: v1.constant("no"))
    return V1Graph({p: YES}, [v1.strings.join([y, "!"])])


def path_in_loop(v1):
    p, path = v1.placeholder("bool", []), v1.constant("exporter/vocab", name="path")
    n = v1.where(p, 1, 0)
    y = v1.while_loop(
        lambda i, y: i < n, lambda i, y: (i + 1, v1.strings.join([path, y])), [0, v1.constant("!")]
    )[1]
    return V1Graph({p: YES}, [y])


def path_made_in_loop(v1):
    p = v1.placeholder("bool", [])
    n = v1.where(p, 1, 0)

    def body(i, y):
        return i + 1, v1.strings.join([v1.constant("exporter/vocab", name="path"), y])

    y = v1.while_loop(lambda i, y: i < n, body, [0, v1.constant("!")])[1]
    return V1Graph({p: YES}, [y])


def path_in_cond_in_loop(v1):
    p, path = v1.placeholder("bool", []), v1.constant("exporter/vocab", name="path")

    def body(i, y):
        made = v1.cond(p, lambda: v1.strings.join([path, "!"]), lambda: v1.constant("no"))
        return i + 1, made

    return V1Graph({p: YES}, [v1.while_loop(lambda i, y: i < 1, body, [0, v1.constant("")])[1]])


@pytest.mark.parametrize(
    "make",
    [
        path_in_cond,
        path_made_in_cond,
        path_returned_by_cond,
        path_in_loop,
        path_made_in_loop,
        path_in_cond_in_loop,
    ],
)
def test_the_path_of_an_asset_stays_a_node_that_can_be_captured(make):
    built = build(make, [NO], gradients=False)
    graph = built.graph()
    (path,) = (name for name in graph.nodes if name.rpartition("/")[2] == "path")
    rewrite(graph, assets={path: "vocab"})
    assert path in graph.nodes
    assert not graph.nodes[path].input
    assert path not in consts(graph)
    # As if the model had been loaded from elsewhere.
    graph.nodes[path].attr["value"].tensor.string_val[:] = [b"loader/vocab"]
    function = Tf2Function(built, graph, [])
    for feed, want in zip(built.feeds, built.expected, strict=True):
        (found,) = function.run(feed, gradients=False).outputs
        assert found == want.outputs[0].replace(b"exporter", b"loader")
    assert function.run(built.feeds[0], gradients=False).outputs == [b"loader/vocab!"]


def test_other_consts_are_copied_into_branches():
    graph = build(path_in_cond, gradients=False).graph()
    rewrite(graph)
    assert "path" in consts(graph)


def test_a_variable_whose_handle_a_branch_made_stays_a_variable():
    def make(v1):
        x, p = v1.placeholder("float32", [3]), v1.placeholder("bool", [])
        w = v1.get_variable("w", initializer=X, use_resource=True)
        return V1Graph({x: X, p: YES}, [v1.cond(p, lambda: x * w, lambda: x)])

    built = build(make, [X, NO], gradients=False)
    graph = Graph(tf_pb.GraphDef.FromString(built.graph_def).node, OpTable())
    consumers = graph.consumers()
    for switch, _ in consumers["w"]:
        if switch.op == "Switch":  # let the branch read a handle of its own making
            for reader, position in consumers[switch.name]:
                reader.input[position] = "w"
    graph.nodes["w"].input.append("^cond/switch_t")
    graph.keep(graph.ancestors([parse_tensor(t).node for t in built.outputs]))
    rewrite(graph)
    function = Tf2Function(built, graph, [])
    for feed, want in zip(built.feeds, built.expected, strict=True):
        found = function.run(feed, gradients=False)
        np.testing.assert_array_equal(found.outputs[0], want.outputs[0])


# -- time ------------------------------------------------------------------------------------


def many_loops(number):
    def make(v1):
        x = y = v1.placeholder("float32", [3])
        for _ in range(number):
            y = v1.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 2.0), [0, y])[1]
        return V1Graph({x: X}, [y])

    return make


def many_loops_with_conditionals(number):
    def make(v1):
        x, p = v1.placeholder("float32", [3]), v1.placeholder("bool", [])

        def body(i, y):
            return i + 1, v1.cond(p, lambda: y * x, lambda: v1.sin(y))

        loops = [v1.while_loop(lambda i, y: i < 3, body, [0, x])[1] for _ in range(number)]
        return V1Graph({x: X, p: YES}, [v1.add_n(loops)])

    return make


def many_conditionals(number):
    def make(v1):
        x, p = v1.placeholder("float32", [3]), v1.placeholder("bool", [])
        made = [v1.cond(p, lambda: x * 2.0, lambda: v1.sin(x)) for _ in range(number)]
        return V1Graph({x: X, p: YES}, [v1.add_n(made)])

    return make


@pytest.mark.parametrize("make", [many_loops, many_loops_with_conditionals, many_conditionals])
def test_the_work_grows_with_the_graph_and_not_with_its_square(make, monkeypatch):
    def work(number):
        graph = build_only(make(number))
        calls = 0
        inputs = Graph.inputs

        def counted(self, node):
            nonlocal calls
            calls += 1
            return inputs(self, node)

        with monkeypatch.context() as patched:
            patched.setattr(Graph, "inputs", counted)
            rewrite(graph)
        return calls

    assert work(64) < 2.2 * work(32)


# -- graphs that no TensorFlow made ----------------------------------------------------------


def fuzzed(v1):
    x, p = v1.placeholder("float32", [3]), v1.placeholder("bool", [])
    w = v1.get_variable("w", initializer=0.5, use_resource=True)

    def body(i, y, ta):
        def inner():
            return v1.while_loop(lambda j, z: j < 2, lambda j, z: (j + 1, v1.cos(z) * w), [0, y])[1]

        z = v1.cond(v1.equal(i % 2, 0), inner, lambda: y * x)
        return i + 1, v1.cond(p, lambda: z + w, lambda: z), ta.write(i, z)

    ta = v1.TensorArray("float32", 3, element_shape=[3])
    _, y, ta = v1.while_loop(lambda i, y, ta: i < 3, body, [0, x, ta])
    with v1.control_dependencies([v1.cond(p, lambda: w.assign_add(1.0), lambda: w + 0.0)]):
        z = v1.identity(y)
    return V1Graph({x: X, p: YES}, [v1.add_n([z, v1.reduce_sum(ta.stack(), 0)])])


class Mutator:
    """Changes nodes in ways that keep data inputs before control inputs."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def change(self, nodes):
        node = self.random.choice(nodes)
        other = self.random.choice(nodes)
        flow = [n for n in nodes if n.op in ("Switch", "Merge", "Enter", "Exit", "NextIteration")]
        kind = self.random.randrange(7)
        data = [i for i, text in enumerate(node.input) if not text.startswith("^")]
        if kind == 0 and data:
            suffix = self.random.choice(["", ":0", ":1"])
            node.input[self.random.choice(data)] = other.name + suffix
        elif kind == 1:
            node.input.append(f"^{other.name}")
        elif kind == 2:
            node.op = self.random.choice(flow).op
        elif kind == 3 and node.input:
            del node.input[self.random.randrange(len(node.input))]
        elif kind == 4:
            loop = self.random.choice([n for n in flow if n.op == "Enter"] or nodes)
            loop.attr["frame_name"].s = self.random.choice([b"\xff\xfe", b"", b"^a:1", b"w/ h"])
        elif kind == 5 and node.attr:
            del node.attr[self.random.choice(sorted(node.attr))]
        elif data and flow:
            gate, source = self.random.choice(flow), node.input[data[0]]
            gate.input[:] = [source, *gate.input[1:]]


def test_a_changed_graph_is_rewritten_or_refused():
    mutator = Mutator(7)
    original = build_only(fuzzed)
    rewritten = refused = 0
    for _ in range(400):
        nodes = []
        for node in original.nodes.values():
            copy = tf_pb.NodeDef()
            copy.CopyFrom(node)
            nodes.append(copy)
        for _ in range(mutator.random.randint(1, 3)):
            mutator.change(nodes)
        graph = Graph(nodes, OpTable())
        try:
            check_graph(graph)
        except HubBridgeError:
            continue
        try:
            rewrite(graph)
            rewritten += 1
        except HubBridgeError:
            refused += 1
    # Not all changes are harmless, and not all are fatal.
    assert rewritten > 20
    assert refused > 20
