"""The real release runs on a CPU what is let through, and can't run what is refused."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bridge.attrs import (
    bool_attr,
    int_attr,
    shape_attr,
    string_attr,
    type_attr,
    types_attr,
)
from bridge.dtypes import dtype_name
from bridge.errors import UnsupportedError
from bridge.graph import Graph
from bridge.model import INFERENCE, Variant
from bridge.opsets import OpTable
from bridge.passes.check_release import CheckRelease
from bridge.passes.fit_attrs import FitAttrs
from bridge.proto import tf_pb
from bridge.report import Report
from tests.clients.tf1 import Tf1Client, Tf1Error, tf1_environ
from tests.passes.release_nets import FLOAT, INT32, RELEASE, Net, T, ints_attr

# -- kernels --------------------------------------------------------------------------------

# Soft placement, which the client of the tests has, would let an experimental XLA device step in.
RUN_ON_CPU = """
import json, pathlib, sys
import tensorflow as tf

messages = {}
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    graph_def = tf.compat.v1.GraphDef.FromString(path.read_bytes())
    for node in graph_def.node:
        node.device = "/device:CPU:0"
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        try:
            tf.import_graph_def(graph_def, name="")
            session.run("y")
            messages[path.name] = "ran"
        except Exception as error:
            messages[path.name] = str(error)
print(json.dumps(messages))
"""

OPS_OF_ONE_TYPE = """
Abs AddN AddV2 ArgMax BatchMatMulV2 BiasAdd BroadcastTo Concat Cumsum Elu Equal Exp ExpandDims Fill
FloorDiv GatherV2 Identity IdentityN LeakyRelu Less LogSoftmax MatMul Max Maximum Mean Mul Neg
OneHot Pack PadV2 Range RealDiv Relu ResizeBilinear Reverse Round SelectV2 Sigmoid Sign Softmax
Softplus SplitV Sqrt Square Squeeze StridedSlice Sub Sum Tanh Tile Transpose Unpack Where ZerosLike
Conv2D DepthwiseConv2dNative MaxPool AvgPool FusedBatchNormV3 UnsortedSegmentSum
"""

WANTED = {
    "axis": int_attr(0),
    "ksize": ints_attr(1, 1, 1, 1),
    "padding": string_attr("SAME"),
    "strides": ints_attr(1, 1, 1, 1),
}


def graph_of_one_op(op: str, dtype: int) -> tf_pb.GraphDef:
    """Node `y`, with placeholders as inputs and one type wherever the op leaves it open."""
    node = tf_pb.NodeDef(name="y", op=op)
    for attr in RELEASE.ops[op].attr:
        if attr.name in WANTED:
            node.attr[attr.name].CopyFrom(WANTED[attr.name])
        elif attr.HasField("default_value"):
            continue
        elif attr.name in ("T", "dtype"):
            is_list = attr.type == "list(type)"
            node.attr[attr.name].CopyFrom(types_attr([dtype]) if is_list else type_attr(dtype))
        elif attr.type == "type":
            node.attr[attr.name].type = INT32
        else:
            node.attr[attr.name].i = max(attr.minimum, 1)
    graph_def = tf_pb.GraphDef(versions=RELEASE.versions())
    types = Graph([node], OpTable()).arg_types(node, RELEASE.ops[op].input_arg)
    for position, entry in enumerate(types):
        placeholder = graph_def.node.add(name=f"x{position}", op="Placeholder")
        placeholder.attr["dtype"].type = entry.dtype  # type: ignore[assignment]
        placeholder.attr["shape"].CopyFrom(shape_attr(None))
        node.input.append(placeholder.name)
    graph_def.node.add().CopyFrom(node)
    return graph_def


def is_taken(variant: Variant) -> bool:
    """Returns what the two last passes say."""
    report = Report("", None, "to-hub-module")
    try:
        FitAttrs(RELEASE).rewrite(variant, report)
        CheckRelease(RELEASE).rewrite(variant, report)
    except UnsupportedError:
        return False
    return True


@pytest.mark.slow
def test_the_real_release_has_a_kernel_where_the_check_finds_one(
    tf1_python: Path, tmp_path: Path
) -> None:
    """A graph without a kernel can't start; one that has them all asks for its inputs first."""
    found = {}
    graphs = tmp_path / "graphs"
    graphs.mkdir()
    for op, dtype in itertools.product(OPS_OF_ONE_TYPE.split(), sorted(RELEASE.dtypes)):
        graph_def = graph_of_one_op(op, dtype)
        name = f"{op} of {dtype_name(dtype)}"
        (graphs / name).write_bytes(graph_def.SerializeToString())
        variant = Variant(INFERENCE, Graph(graph_def.node, OpTable()))
        found[name] = is_taken(variant)
    command = [tf1_python, "-W", "ignore", "-c", RUN_ON_CPU, graphs]
    done = subprocess.run(command, check=True, capture_output=True, env=tf1_environ())
    messages = json.loads(done.stdout)
    starts = re.compile("ran|You must feed a value")
    refuses = re.compile(
        "not in the list of allowed values|no supported kernel for CPU|No OpKernel"
    )
    for name, message in messages.items():
        assert bool(starts.match(message)) != bool(refuses.search(message)), f"{name}: {message}"
    real = {name: bool(starts.match(message)) for name, message in messages.items()}
    assert [name for name in found if found[name] != real[name]] == []
    assert 300 < sum(real.values()) < len(real) - 300


# -- what kernels can't do although they take the types --------------------------------------

INPUTS = {
    "AvgPool": "i",
    "AvgPool3D": "i",
    "Conv2D": "if",
    "Conv2DBackpropInput": "sfi",
    "Conv3D": "if",
    "Conv3DBackpropInputV2": "sfi",
    "DepthToSpace": "i",
    "DepthwiseConv2dNative": "id",
    "FusedBatchNorm": "ivvvv",
    "FusedBatchNormV2": "ivvvv",
    "FusedBatchNormV3": "ivvvv",
    "MaxPool": "i",
    "MaxPool3D": "i",
    "MaxPoolV2": "ikk",
    "SpaceToDepth": "i",
}
"""For each op with a limit its inputs: an image, its shape, a filter, a depthwise filter, a vector
or a kernel size."""


def limited_graph(op: str, **attrs: tf_pb.AttrValue) -> tuple[Net, dict[str, NDArray[np.float32]]]:
    """Returns the op as node `y`, and what to feed."""
    space = 3 if "3D" in op else 2
    is_first = attrs.get("data_format", string_attr("")).s.startswith(b"NC")
    image = (1, 4, *[4] * space) if is_first else (1, *[4] * space, 4)
    ones = [1] * (space + 2)
    shapes = {"i": image, "f": (*[3] * space, 4, 4), "d": (*[3] * space, 4, 1), "v": (4,)}
    net = Net()
    feeds = {}
    inputs = []
    for number, kind in enumerate(INPUTS[op]):
        name = f"x{number}"
        if kind in shapes:
            inputs.append(net.input(name, FLOAT, shapes[kind]))
            numbers = np.linspace(0.5, 2.0, np.prod(shapes[kind]), dtype=np.float32)
            feeds[f"{name}:0"] = numbers.reshape(shapes[kind])
        else:
            inputs.append(net.ints(name, *(image if kind == "s" else ones)))
    every = {
        "U": T,
        "block_size": int_attr(2),
        "is_training": bool_attr(False),
        "ksize": ints_attr(*ones),
        "padding": string_attr("SAME"),
        "strides": ints_attr(*ones),
        **attrs,
    }
    names = {attr.name for attr in RELEASE.ops[op].attr}
    net.add(op, "y", *inputs, **{name: value for name, value in every.items() if name in names})
    return net, feeds


def beyond(op: str, attr: str) -> tf_pb.AttrValue:
    """Returns a value of an attribute that a limit forbids."""
    if attr == "data_format":
        return string_attr("NCDHW" if "3D" in op else "NCHW")
    return ints_attr(1, *[2] * (3 if "3D" in op else 2), 1)


RUN_LIMITS = [(op, limit.attr) for op, found in RELEASE.limits.items() for limit in found]
GRADIENT_LIMITS = [(op, x.attr) for op, found in RELEASE.gradient_limits.items() for x in found]


@pytest.mark.parametrize(("op", "attr"), RUN_LIMITS)
def test_what_a_kernel_can_not_do_is_refused(op: str, attr: str, tf1: Tf1Client) -> None:
    net, feeds = limited_graph(op)
    net.check("y")
    plain = tf1.run_graph(net.graph_def(), feeds, ["y:0"])[0]["y:0"]
    net, feeds = limited_graph(op, **{attr: beyond(op, attr)})
    assert f"{op} does not do {attr} " in net.refusal().message
    if (op, attr) == ("DepthwiseConv2dNative", "dilations"):
        ignored = tf1.run_graph(net.graph_def(), feeds, ["y:0"])[0]["y:0"]
        np.testing.assert_array_equal(ignored, plain)
        return
    with pytest.raises(Tf1Error, match=r"only support|supported on CPU|not yet support"):
        tf1.run_graph(net.graph_def(), feeds, ["y:0"])


@pytest.mark.parametrize(("op", "attr"), GRADIENT_LIMITS)
def test_what_the_kernel_of_a_gradient_can_not_do_is_refused_where_it_is_trained(
    op: str, attr: str, tf1: Tf1Client
) -> None:
    def gradient(**attrs: tf_pb.AttrValue) -> Net:
        net, feeds = limited_graph(op, **attrs)
        ones = np.ones_like(tf1.run_graph(net.graph_def(), feeds, ["y:0"])[0]["y:0"])
        net.check("y")  # the variable is not before it
        tf1.run_graph(
            net.graph_def(), feeds, ["y:0"], gradients=["x1:0"], projections={"y:0": ones}
        )
        return net

    gradient()
    with pytest.raises(Tf1Error, match="not yet support"):
        gradient(**{attr: beyond(op, attr)})
    net, _ = limited_graph(op, **{attr: beyond(op, attr)})
    net.ints("shape", 1, 4, 4, 4)
    net.add("BroadcastTo", "trained", "read", "shape", Tidx=type_attr(INT32))
    net.graph.nodes["y"].input[0] = "trained"
    assert f"the gradient of {op} does not do {attr} " in net.refusal("y").message
