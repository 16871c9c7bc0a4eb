"""TensorFlow 1.15 computes and differentiates every Einsum as TensorFlow 2 does."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.errors import MalformedError, UnsupportedError
from bridge.graph import Graph
from bridge.opsets import OpTable
from bridge.passes.einsum import Einsum
from bridge.proto import tf_pb
from tests.clients.tf1 import Tf1Client
from tests.passes.flat_graphs import FlatFunction, check_equal, flatten

pytestmark = pytest.mark.tf2

TOLERANCE = 1e-6

SIZES = dict(zip("BTSNHabcdeijkl", (2, 3, 4, 2, 5, 2, 3, 4, 5, 2, 3, 4, 5, 2), strict=True))

EQUATIONS = [
    # What attention layers and EinsumDense ask for.
    "BTNH,BSNH->BNTS",
    "BNTS,BSNH->BTNH",
    "abc,cde->abde",
    "abcd,cde->abe",
    # One of each kind of axis, in each order.
    "ij,jk->ik",
    "bij,bjk->bik",
    "abc,bad->dc",
    "ab,bc->ca",
    "ij,ij->ij",
    "ij,ij->",
    "i,j->ji",
    "ab,c->cab",
    ",ab->ba",
    ",->",
    # Sums of one operand.
    "ij->ji",
    "ij->i",
    "ij->",
    "ij,k->k",
    # Diagonals, taken and filled.
    "ii->i",
    "ii->",
    "iij->ij",
    "iji->j",
    "iii->i",
    "iij,jkk->ik",
    "i->ii",
    "ij->jiij",
    "ij,jk->iik",
]

ELLIPSES = {
    "...x,xy->...y": ([2, 3, 4], [4, 5]),
    "...ij,...jk->...ik": ([3, 1, 3, 4], [2, 4, 5]),
    "b...i,b...i->b...": ([2, 3, 4], [2, 1, 4]),
    "i...j,j...->...i": ([2, 3, 4, 5], [5, 1, 4]),
    "...,...->...": ([2, 3], [3]),
    "...abc,bd->...adc": ([2, 3, 4, 5], [4, 3]),
    "a...,b...->ab...": ([2, 3], [4, 3]),
    "...ii->...i": ([2, 3, 3],),
    "...i->...ii": ([2, 1, 3],),
    "ij...,jk...->ik": ([2, 3], [3, 4]),
}

CASES = {
    equation: tuple(
        [SIZES[label] for label in labels] for labels in equation.partition("->")[0].split(",")
    )
    for equation in EQUATIONS
} | ELLIPSES


def einsum_of(equation: str, *, known: bool) -> FlatFunction:
    import tensorflow as tf

    random = np.random.default_rng(1)
    inputs = [random.normal(size=shape).astype(np.float32) for shape in CASES[equation]]
    flat = flatten(
        lambda *operands: tf.raw_ops.Einsum(inputs=operands, equation=equation),
        *inputs,
        specs=[tf.TensorSpec(array.shape if known else [None] * array.ndim) for array in inputs],
    )
    assert "Einsum" in flat.ops()
    return flat


@pytest.mark.parametrize("known", [True, False], ids=["known sizes", "unknown sizes"])
@pytest.mark.parametrize("equation", CASES)
def test_an_equation_gives_the_same_numbers_and_gradients(
    tf1: Tf1Client, equation: str, known: bool
) -> None:
    flat = einsum_of(equation, known=known).rewrite(Einsum())
    assert "Einsum" not in flat.ops()
    check_equal(tf1, flat, tolerance=TOLERANCE)


def test_one_tensor_may_be_both_operands(tf1: Tf1Client) -> None:
    import tensorflow as tf

    x = np.random.default_rng(2).normal(size=(3, 4)).astype(np.float32)
    flat = flatten(lambda x: tf.einsum("ij,kj->ik", x, x), x).rewrite(Einsum())
    check_equal(tf1, flat, tolerance=TOLERANCE)


def test_sizes_that_are_known_need_no_shape_ops() -> None:
    flat = einsum_of("abc,cde->abde", known=True).rewrite(Einsum())
    assert not flat.ops() & {"Shape", "StridedSlice", "Pack"}


def test_a_size_that_only_the_other_operand_tells_is_known() -> None:
    import tensorflow as tf

    flat = flatten(
        lambda x, w: tf.raw_ops.Einsum(inputs=[x, w], equation="abc,cde->abde"),
        np.ones((2, 3, 4), np.float32),
        np.ones((4, 5, 2), np.float32),
        specs=[tf.TensorSpec([None, 3, None]), tf.TensorSpec([4, 5, 2])],
    )
    flat.rewrite(Einsum())
    # The batch is read, but Reshape finds it by itself.
    assert sum(node.op == "StridedSlice" for node in flat.graph.nodes.values()) == 1
    assert "Pack" not in flat.ops()


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_attention_layers(tf1: Tf1Client, package: str) -> None:
    layers = pytest.importorskip(package).layers
    layer = layers.MultiHeadAttention(2, 4, value_dim=3)
    x = np.random.default_rng(3).normal(size=(2, 7, 6)).astype(np.float32)
    layer(x, x)
    flat = flatten(lambda x: layer(x, x, use_causal_mask=True), x)
    assert "Einsum" in flat.ops()
    check_equal(tf1, flat.rewrite(Einsum()))


def test_an_einsum_in_the_body_of_a_loop(tf1: Tf1Client) -> None:
    import tensorflow as tf

    def function(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        def body(i: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return i + 1, tf.einsum("ij,jk->ik", y, x)

        return tf.while_loop(lambda i, _: i < 3, body, [0, y])[1]

    random = np.random.default_rng(4)
    x, y = random.normal(size=(3, 3)), random.normal(size=(2, 3))
    flat = flatten(function, x.astype(np.float32), y.astype(np.float32))
    assert "Einsum" in flat.ops()
    flat.rewrite(Einsum())
    assert "Einsum" not in flat.ops()
    check_equal(tf1, flat, gradients=False)


def test_the_node_keeps_its_name_and_runs_after_the_same_nodes() -> None:
    flat = einsum_of("ij,jk->ik", known=True)
    (node,) = (node for node in flat.graph.nodes.values() if node.op == "Einsum")
    flat.graph.add("NoOp", "first")
    node.input.append("^first")
    flat.rewrite(Einsum())
    assert flat.graph.nodes[node.name].input[-1] == "^first"


def test_an_ellipsis_of_unknown_length_is_refused_by_name() -> None:
    import tensorflow as tf

    flat = flatten(
        lambda x: tf.raw_ops.Einsum(inputs=[x], equation="...i->..."),
        np.ones((2, 3), np.float32),
        specs=[tf.TensorSpec(None)],
    )
    with pytest.raises(UnsupportedError, match=r"ellipsis of '\.\.\.i' .*node 'Einsum'"):
        flat.rewrite(Einsum())


@pytest.mark.parametrize(
    "equation",
    ["ij,jk", "ij,jk,kl->il", "ij->ij", "i1,jk->ik", "ijk,jk->ik", "ij,jk->il", "...,...->"],
)
def test_what_is_no_equation_of_the_operands_is_malformed(equation: str) -> None:
    value = tf_pb.AttrValue(s=equation.encode())
    two = tf_pb.TensorProto(dtype=tf_pb.DT_FLOAT)
    two.tensor_shape.CopyFrom(
        tf_pb.TensorShapeProto(dim=[tf_pb.TensorShapeProto.Dim(size=2) for _ in range(2)])
    )
    flat = FlatFunction.of(Graph([], OpTable()))
    for name in "xy":
        flat.graph.add(
            "Const",
            name,
            dtype=tf_pb.AttrValue(type=tf_pb.DT_FLOAT),
            value=tf_pb.AttrValue(tensor=two),
        )
    flat.graph.add(
        "Einsum",
        "z",
        ["x", "y"],
        equation=value,
        N=tf_pb.AttrValue(i=2),
        T=tf_pb.AttrValue(type=tf_pb.DT_FLOAT),
    )
    with pytest.raises(MalformedError, match="node 'z'"):
        flat.rewrite(Einsum())
