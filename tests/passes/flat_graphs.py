"""TF2 functions as flat variants, run by TensorFlow 1.15 beside TensorFlow 2.

TensorFlow's own optimizer inlines the calls, so that what is tested here does not depend on the
passes that do so in a conversion. Importing this module imports no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bridge.attrs import shape_attr, string_attr, type_attr
from bridge.graph import Graph, parse_tensor
from bridge.model import (
    INFERENCE,
    Component,
    Encoding,
    Endpoint,
    Model,
    Signature,
    Variant,
    shape_from_proto,
)
from bridge.opsets import OpTable
from bridge.opsets.release import load_release
from bridge.passes import Pass, run_passes
from bridge.passes.fit_attrs import FitAttrs
from bridge.proto import tf_pb
from bridge.report import Report
from tests.clients.tf1 import Tf1Client

RELATIVE_TOLERANCE = 1e-5
"""Of the largest number of a tensor; gradients may differ ten times as much."""

_NOT_INLINED = ("_XlaMustCompile", "_noinline", "_nospecialize")


@dataclass
class FlatFunction:
    """A TF2 function as the variant that the rewriting passes see.

    Attributes:
      model: a model with the one variant.
      function: the function, for TensorFlow 2 to run.
      inputs: what to call it with; signature `default` has inputs `0`, `1` … and outputs likewise.
      variables: the variables it reads, by the name of their VarHandleOp.
      initializers: names of the nodes that assign the variables.
    """

    model: Model
    function: Callable[..., Any]
    inputs: list[Any]
    variables: dict[str, Any]
    initializers: list[str]
    report: Report = field(default_factory=lambda: Report("", None, "to-hub-module"))

    @staticmethod
    def of(graph: Graph) -> FlatFunction:
        """Returns a plain graph, which no function was traced to."""
        return FlatFunction(_model(Variant(INFERENCE, graph)), lambda: None, [], {}, [])

    @property
    def variant(self) -> Variant:
        return self.model.variants[INFERENCE]

    @property
    def signature(self) -> Signature:
        return self.variant.signatures["default"]

    @property
    def graph(self) -> Graph:
        return self.variant.graph

    def ops(self) -> set[str]:
        """Returns the ops of all nodes, those of functions too."""
        return {node.op for node in self.graph.all_nodes()}

    def rewrite(self, *passes: Pass) -> FlatFunction:
        """Runs passes over the model."""
        run_passes(self.model, passes, self.report)
        return self


def flatten(
    function: Callable[..., Any], *inputs: ArrayLike, specs: Sequence[Any] = ()
) -> FlatFunction:
    """Traces a function and inlines what it calls.

    Args:
      function: takes tensors, and returns a tensor or a sequence of them.
      inputs: what it is to be called with; Python lists become float32.
      specs: the TensorSpecs to trace it with; by default those of the inputs, the first dimension
        unknown.
    """
    import tensorflow as tf

    tensors = [tf.constant(array, getattr(array, "dtype", tf.float32)) for array in inputs]
    specs = specs or [
        tf.TensorSpec([None, *tensor.shape[1:]] if tensor.shape.rank else [], tensor.dtype)
        for tensor in tensors
    ]
    concrete = tf.function(function).get_concrete_function(*specs)
    graph_def = tf_pb.GraphDef.FromString(_inlined(concrete).SerializeToString())
    graph = Graph(graph_def.node, OpTable(), graph_def.library.function)
    _record_shapes(graph, concrete)
    variables, initializers = _hold_captures(graph, concrete)
    names = [tensor.name for tensor in concrete.inputs[: len(tensors)]]
    signature = Signature(
        "default",
        {str(i): _endpoint(graph, name) for i, name in enumerate(names)},
        {str(i): _endpoint(graph, tensor.name) for i, tensor in enumerate(concrete.outputs)},
    )
    variant = Variant(INFERENCE, graph, {"default": signature})
    variant.trainable_variables = [name for name, v in variables.items() if v.trainable]
    model = _model(variant)
    return FlatFunction(model, function, tensors, variables, initializers)


def _model(variant: Variant) -> Model:
    return Model(Path(), {INFERENCE: variant}, {}, {}, [], tf_pb.VersionDef(), "")


def _inlined(concrete: Any) -> Any:
    """Returns the function's graph as a SavedModel has it, with its calls inlined."""
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
    from tensorflow.python.grappler import tf_optimizer

    meta_graph = meta_graph_pb2.MetaGraphDef(graph_def=concrete.graph.as_graph_def(add_shapes=True))
    library = meta_graph.graph_def.library.function
    for function in library:
        # TensorFlow's LSTM has another implementation for GPUs, which it would rather call.
        function.attr.pop("api_implements", None)
        for mark in _NOT_INLINED:
            function.attr.pop(mark, None)
    for nodes in (meta_graph.graph_def.node, *(function.node_def for function in library)):
        for node in nodes:
            for mark in (*_NOT_INLINED, "_lower_using_switch_merge"):
                node.attr.pop(mark, None)
    kept = [tensor.name for tensor in (*concrete.inputs, *concrete.outputs)]
    meta_graph.collection_def["train_op"].node_list.value.extend(kept)
    config = config_pb2.ConfigProto()
    config.graph_options.rewrite_options.min_graph_nodes = -1
    config.graph_options.rewrite_options.optimizers.append("function")
    return tf_optimizer.OptimizeGraph(config, meta_graph)


def _record_shapes(graph: Graph, concrete: Any) -> None:
    """Notes the shapes of the function's own tensors, which a SavedModel has and inlining lost."""
    for operation in concrete.graph.get_operations():
        if operation.name in graph.nodes:
            shapes = [tf_pb.TensorShapeProto() for _ in operation.outputs]
            for shape, tensor in zip(shapes, operation.outputs, strict=True):
                shape.ParseFromString(tensor.shape.as_proto().SerializeToString())
            listed = graph.nodes[operation.name].attr["_output_shapes"].list
            listed.shape.extend(shapes)


def _hold_captures(graph: Graph, concrete: Any) -> tuple[dict[str, Any], list[str]]:
    """Makes captured variables VarHandleOps that a node assigns, and other captures Consts."""
    import tensorflow as tf

    by_handle = {id(variable.handle): variable for variable in concrete.graph.variables}
    variables: dict[str, Any] = {}
    initializers: list[str] = []
    for captured, placeholder in concrete.graph.captures:
        node = graph.nodes.get(placeholder.op.name)
        if node is None:
            continue
        variable = by_handle.get(id(captured))
        value = tf_pb.TensorProto.FromString(
            tf.make_tensor_proto(
                (captured if variable is None else variable).numpy()
            ).SerializeToString()
        )
        if variable is None:
            node.op = "Const"
            node.attr.clear()
            _set_const(node, value)
            continue
        node.op = "VarHandleOp"
        node.attr.clear()
        node.attr["dtype"].CopyFrom(type_attr(value.dtype))
        node.attr["shape"].CopyFrom(shape_attr(shape_from_proto(value.tensor_shape)))
        node.attr["shared_name"].CopyFrom(string_attr(node.name))
        _set_const(graph.add("Const", f"{node.name}/initial"), value)
        graph.add(
            "AssignVariableOp",
            f"{node.name}/assign",
            [node.name, f"{node.name}/initial"],
            dtype=type_attr(value.dtype),
        )
        variables[node.name] = variable
        initializers.append(f"{node.name}/assign")
    return variables, initializers


def _set_const(node: tf_pb.NodeDef, value: tf_pb.TensorProto) -> None:
    node.attr["dtype"].CopyFrom(type_attr(value.dtype))
    node.attr["value"].tensor.CopyFrom(value)


def _endpoint(graph: Graph, name: str) -> Endpoint:
    dtype = graph.output(parse_tensor(name)).dtype
    return Endpoint(Encoding.DENSE, dtype, None, (Component(name, dtype, None),))


# -- running -------------------------------------------------------------------------------


def tf1_graph_def(flat: FlatFunction) -> bytes:
    """Returns the graph as TensorFlow 1.15 imports it."""
    release = load_release("1.15")
    flat.rewrite(FitAttrs(release))
    library = tf_pb.FunctionDefLibrary(function=flat.graph.functions.values())
    graph_def = tf_pb.GraphDef(node=flat.graph.nodes.values(), library=library)
    graph_def.versions.producer = release.producer
    return graph_def.SerializeToString()


def in_tf1(
    tf1: Tf1Client, flat: FlatFunction, weights: Sequence[ArrayLike] | None = None
) -> tuple[list[NDArray[Any]], dict[str, NDArray[Any] | None]]:
    """Runs a function in TensorFlow 1.15.

    Args:
      tf1: the client.
      flat: the function.
      weights: for each output an array of its shape; gradients are those of `sum(output * weight)`
        over all of them. Without weights none are taken.

    Returns:
      Its outputs, and gradients by the names of tensors.
    """
    # TensorFlow 1.15 fetches no tensor twice, and each output has weights of its own.
    fetches = []
    for name in _tensors(flat.signature.outputs):
        dtype = flat.graph.output(parse_tensor(name)).dtype
        fetch = flat.graph.add(
            "Identity", flat.graph.unique_name("fetch"), [name], T=type_attr(dtype)
        )
        fetches.append(f"{fetch.name}:0")
    feeds = zip(_tensors(flat.signature.inputs), flat.inputs, strict=True)
    arrays, gradients = tf1.run_graph(
        tf1_graph_def(flat),
        {name: tensor.numpy() for name, tensor in feeds},
        fetches,
        steps=[flat.initializers] if flat.initializers else [],
        gradients=[] if weights is None else list(_sources(flat)),
        projections=None if weights is None else dict(zip(fetches, weights, strict=True)),
    )
    return [arrays[name] for name in fetches], gradients


def in_tf2(
    flat: FlatFunction, weigh: Callable[[Sequence[Any]], Sequence[ArrayLike]] | None = None
) -> tuple[list[NDArray[Any]], dict[str, NDArray[Any] | None], list[ArrayLike] | None]:
    """Runs the same in TensorFlow 2; returns the weights too, which `weigh` gives the outputs."""
    import tensorflow as tf

    if weigh is None:
        return (
            [o.numpy() for o in tf.nest.flatten(tf.function(flat.function)(*flat.inputs))],
            {},
            None,
        )
    sources = _sources(flat)
    with tf.GradientTape() as tape:
        for source in sources.values():
            tape.watch(source)
        outputs = tf.nest.flatten(tf.function(flat.function)(*flat.inputs))
        weights = list(weigh(outputs))
        loss = tf.add_n(
            [
                tf.reduce_sum(output * tf.cast(weight, output.dtype))
                for output, weight in zip(outputs, weights, strict=True)
            ]
        )
    found = tape.gradient(loss, list(sources.values()))
    gradients = {
        name: None if value is None else tf.convert_to_tensor(value).numpy()
        for name, value in zip(sources, found, strict=True)
    }
    return [output.numpy() for output in outputs], gradients, weights


def _sources(flat: FlatFunction) -> dict[str, Any]:
    """Returns what gradients are taken by, by the name of its tensor in the graph."""
    inputs = zip(_tensors(flat.signature.inputs), flat.inputs, strict=True)
    found = {name: tensor for name, tensor in inputs if tensor.dtype.is_floating}
    trainable = flat.variant.trainable_variables
    return found | {f"{name}:0": flat.variables[name] for name in trainable}


def _tensors(endpoints: Mapping[str, Endpoint]) -> list[str]:
    tensors = [parse_tensor(end.components[0].name) for end in endpoints.values()]
    return [f"{tensor.node}:{tensor.output}" for tensor in tensors]


def check_equal(
    tf1: Tf1Client,
    flat: FlatFunction,
    *,
    gradients: bool = True,
    tolerance: float = RELATIVE_TOLERANCE,
) -> None:
    """Fails unless TensorFlow 1.15 computes what TensorFlow 2 does, gradients too.

    The gradients are those of a scalar, in which every number of every output has its own weight,
    by each float input and each trainable variable.
    """
    random = np.random.default_rng(8)

    def weigh(outputs: Sequence[Any]) -> list[ArrayLike]:
        return [random.normal(size=output.shape).astype(np.float32) for output in outputs]

    expected, expected_gradients, weights = in_tf2(flat, weigh if gradients else None)
    outputs, found = in_tf1(tf1, flat, weights)
    for i, (ours, theirs) in enumerate(zip(outputs, expected, strict=True)):
        assert_close(ours, theirs, tolerance, f"output {i}")
    assert found.keys() == expected_gradients.keys()
    # A gradient that is zero but for rounding is as wrong as rounding of the others makes it.
    norms = [np.max(np.abs(g), initial=0.0) for g in expected_gradients.values() if g is not None]
    floor = 1e-2 * float(max(norms, default=0.0))
    for name, theirs in expected_gradients.items():
        assert (found[name] is None) == (theirs is None), f"gradient by {name}"
        if theirs is not None:
            assert_close(found[name], theirs, 10 * tolerance, f"gradient by {name}", floor)


def assert_close(
    ours: NDArray[Any], theirs: NDArray[Any], tolerance: float, what: str = "", floor: float = 0.0
) -> None:
    """Fails unless two arrays differ by at most `tolerance × max(|theirs|, floor)`."""
    assert ours.shape == theirs.shape, what
    if theirs.dtype.kind not in "fc":
        np.testing.assert_array_equal(ours, theirs, err_msg=what)
        return
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs), err_msg=what)
    scale = float(np.max(np.abs(np.nan_to_num(theirs)), initial=floor))
    np.testing.assert_allclose(
        np.nan_to_num(ours), np.nan_to_num(theirs), rtol=0, atol=tolerance * scale, err_msg=what
    )
