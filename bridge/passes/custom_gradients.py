"""Does what can be done for gradients that are Python code of the exporter."""

from __future__ import annotations

from typing import ClassVar

from bridge.attrs import string_attr, type_attr
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.model import Variant
from bridge.passes._bodies import open_body
from bridge.passes._gradient_paths import DIFFERENTIABLE
from bridge.passes._infra import VariantPass
from bridge.proto import tf_pb
from bridge.report import Report

_MARKER = "_gradient_op_type"
_WAS_PYTHON = (
    "was Python code of the program that exported the model; it is not part of the module."
)


class CustomGradients(VariantPass):
    """Takes off the names of gradients that no other program has.

    Requires: InlineCalls has run. Ensures: no node names a gradient that is not the one of an op.

    1. tf.custom_gradient leaves an IdentityN of the results and the arguments, and the name under
       which the exporter's program had registered the gradient. What it computes is a function of
       no fixed place in the model, and an old client, which finds no such gradient, raises.
    2. Swish (SiLU), as tf.nn.silu makes it, is recognized: its gradient only saves memory, and is
       that of `x * sigmoid(beta * x)`. The name goes, and the IdentityN with it.
    3. No other gradient can be told from the forward pass: it may clip, reverse or pass straight
       through. What comes out of such a node goes through a PreventGradient that names it:
       inference is not affected, and training through it raises instead of going wrong. The report
       says so. Where the variant is there for training, CheckRelease refuses it.
    4. The names differ from trace to trace: MergeEqual finds equal nodes only without them.
    """

    name: ClassVar[str] = "custom-gradients"

    def rewrite(self, variant: Variant, report: Report) -> int:
        """Rewrites one variant."""
        graph = variant.graph
        count = 0
        for name, function in list(graph.functions.items()):
            if not any(_MARKER in node.attr for node in function.node_def):
                continue
            body = open_body(graph, name)
            moved = _rewrite(body.graph, report)
            body.outputs = [(key, moved.get(t, t)) for key, t in body.outputs]
            graph.functions[name] = body.close()
            count += len(moved)
        moved = _rewrite(graph, report)

        def moved_name(name: str) -> str:
            tensor = parse_tensor(name)
            return str(moved[tensor]) if tensor in moved else name

        if moved:
            variant.retarget(moved_name)
        return count + len(moved)


def _rewrite(graph: Graph, report: Report) -> dict[Tensor, Tensor]:
    """Rewrites the nodes of a graph; returns which tensors others have taken the place of."""
    moved: dict[Tensor, Tensor] = {}
    prevented: set[str] = set()
    for node in list(graph.nodes.values()):
        if _MARKER not in node.attr:
            continue
        gradient = node.attr[_MARKER].s.decode(errors="replace")
        if graph.ops.in_release(gradient):
            continue
        del node.attr[_MARKER]
        if _is_swish(graph, node):
            moved[Tensor(node.name, 0)] = parse_tensor(node.input[0])
        else:
            found = _prevent(graph, node, gradient)
            moved |= found
            prevented |= {tensor.node for tensor in found.values()}
            report.drop(
                "custom_gradient",
                gradient,
                "it was Python code of the exporter; inference is not affected, taking a gradient "
                "through the node raises",
                graph.at(node.name),
            )
    for source in moved:
        while moved[source] in moved:
            moved[source] = moved[moved[source]]
    for node in graph.nodes.values() if moved else ():
        if node.name in prevented:
            continue
        for position, text in enumerate(node.input):
            tensor = parse_tensor(text)
            if tensor in moved:
                node.input[position] = str(moved[tensor])
    return moved


def _prevent(graph: Graph, node: tf_pb.NodeDef, gradient: str) -> dict[Tensor, Tensor]:
    """Puts a PreventGradient behind each output that could have a gradient."""
    moved: dict[Tensor, Tensor] = {}
    message = f"The gradient {gradient} of {node.name} {_WAS_PYTHON}"
    for position, output in enumerate(graph.outputs(node)):
        if output.dtype in DIFFERENTIABLE:
            name = graph.unique_name(f"{node.name}/PreventGradient")
            source = Tensor(node.name, position)
            attrs = {"T": type_attr(output.dtype), "message": string_attr(message)}
            graph.add("PreventGradient", name, [str(source)], **attrs)
            moved[source] = Tensor(name, 0)
    return moved


def lost_gradient(node: tf_pb.NodeDef) -> bool:
    """True for a node that CustomGradients has put behind one whose gradient was Python code."""
    return node.op == "PreventGradient" and node.attr["message"].s.endswith(_WAS_PYTHON.encode())


def _is_swish(graph: Graph, node: tf_pb.NodeDef) -> bool:
    """True for what tf.nn.silu makes: the IdentityN of its result, `x` and perhaps `beta`."""
    if node.op != "IdentityN" or len(node.input) not in (2, 3):
        return False
    result, x, *betas = node.input
    product = graph.nodes[parse_tensor(result).node]
    if product.op != "Mul" or x not in product.input:
        return False
    sigmoid = _other_factor(graph, product, x)
    if sigmoid.op != "Sigmoid":
        return False
    if not betas and sigmoid.input[0] == x:
        return True
    scaled = graph.nodes[parse_tensor(sigmoid.input[0]).node]
    if scaled.op != "Mul" or x not in scaled.input:
        return False
    beta = next((text for text in scaled.input[:2] if text != x), x)
    # TensorFlow 2.8 does not pass `beta` on. Another one than 1 could be somebody else's function.
    return _is_const(graph, beta) and (betas == [beta] or (not betas and _is_one(graph, beta)))


def _other_factor(graph: Graph, product: tf_pb.NodeDef, factor: str) -> tf_pb.NodeDef:
    first, second = product.input[:2]
    return graph.nodes[parse_tensor(second if first == factor else first).node]


def _is_one(graph: Graph, tensor: str) -> bool:
    """True for a scalar 1, as TensorFlow writes it."""
    node = graph.nodes[parse_tensor(tensor).node]
    while node.op in ("Cast", "Identity"):
        node = graph.nodes[parse_tensor(node.input[0]).node]
    value = node.attr["value"].tensor
    return list(value.float_val) == [1.0] and not value.tensor_shape.dim


def _is_const(graph: Graph, tensor: str) -> bool:
    node = graph.nodes[parse_tensor(tensor).node]
    while node.op in ("Cast", "Identity"):
        node = graph.nodes[parse_tensor(node.input[0]).node]
    return node.op == "Const"
