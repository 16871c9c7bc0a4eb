"""Cuts functions out of a variant's graph.

A body computes outputs of the graph from given inputs. The state it touches (variables, tables,
paths of assets) becomes further arguments, which the loader binds to objects: captures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bridge.errors import MalformedError, UnsupportedError
from bridge.function_body import FunctionArg, HandleData, build_function
from bridge.graph import Tensor, parse_tensor
from bridge.model import Endpoint, Shape, Variant, shape_to_proto
from bridge.passes.prune import PLACEHOLDERS
from bridge.proto import tf_pb
from bridge.saved_model.library import Library, rename_calls
from bridge.saved_model.structured_value import component_name

PLACEHOLDERS_WITH_DEFAULT = PLACEHOLDERS | {"PlaceholderWithDefault"}


@dataclass(frozen=True)
class Captured:
    """State that a function reads through an argument.

    Attributes:
      key: kind and name, `("variable", "conv/kernel")`.
      number: its number in the object graph.
      dtype: of the argument: DT_RESOURCE, or DT_STRING for the path of an asset.
      handle_data: what a resource points to.
      shape: of the argument itself.
    """

    key: tuple[str, str]
    number: int = field(compare=False)
    dtype: int = field(compare=False)
    handle_data: HandleData = field(default=(), compare=False)
    shape: Shape = field(default=(), compare=False)


@dataclass
class VariantState:
    """What a body of one variant may refer to.

    Attributes:
      variant: the variant.
      captured: the state by the name of its node.
      renamed: the library's names of the functions that the graph calls.
    """

    variant: Variant
    captured: dict[str, Captured]
    renamed: dict[str, str]


@dataclass(frozen=True)
class Body:
    """A function of the library, with what its arguments and outputs are.

    Attributes:
      name: its name in the library.
      inputs: by key, sorted; each makes one argument per component.
      outputs: by key, sorted; each makes one output per component.
      captures: the last arguments.
      stateful: whether it touches state.
    """

    name: str
    inputs: dict[str, Endpoint]
    outputs: dict[str, Endpoint]
    captures: tuple[Captured, ...]
    stateful: bool

    def output_shapes(self) -> tf_pb.AttrValue:
        """The static shapes of the outputs, which a node that calls the function can't infer."""
        shapes = [shape_to_proto(shape) for _, _, _, shape in _components(self.outputs)]
        return tf_pb.AttrValue(list=tf_pb.AttrValue.ListValue(shape=shapes))


def update_ops_of(variant: Variant, inputs: Mapping[str, Endpoint]) -> dict[str, str]:
    """Returns the update ops that a call with these inputs runs: those that depend on them.

    Each is given by its name in the source, with the node that runs it.

    One that needs a further placeholder, which only another signature feeds, can't run.
    """
    tensors = _input_tensors(inputs)
    graph = variant.graph
    fed = {tensor.node for tensor in tensors}
    unfed = [
        Tensor(name, 0)
        for name, node in graph.nodes.items()
        if node.op in PLACEHOLDERS and name not in fed
    ]
    can_run = graph.descendants(tensors) - graph.descendants(unfed, stop=tensors)
    return {name: node for name, node in variant.update_ops.items() if node in can_run}


def build_body(
    state: VariantState,
    library: Library,
    base_name: str,
    inputs: Mapping[str, Endpoint],
    outputs: Mapping[str, Endpoint],
    run: Iterable[str] = (),
    signature: str | None = None,
    *,
    share: bool = True,
) -> Body:
    """Adds a function to the library.

    Args:
      state: the variant to cut from.
      library: takes the function.
      base_name: part of its name.
      inputs: what the function is given.
      outputs: what it returns.
      run: nodes that must run besides.
      signature: the signature it is for, for error messages.
      share: false for a function that the object graph names, which must be the only one to have
        that name.

    Raises:
      MalformedError: an output needs a placeholder that is no input.
      UnsupportedError: two inputs are the same tensor.
    """
    graph = state.variant.graph
    run = list(run)
    tensors = _input_tensors(inputs)
    flat_outputs = _components(outputs)
    targets = [tensor.node for _, tensor, _, _ in flat_outputs if tensor not in tensors]
    members = graph.ancestors([*targets, *run], tensors.__contains__)
    # Several nodes may stand for one thing, such as the Consts that hold the path of one asset.
    captured: dict[Captured, list[Tensor]] = {}
    for node in sorted(members & state.captured.keys()):
        captured.setdefault(state.captured[node], []).append(Tensor(node, 0))
    captures = tuple(captured)
    members -= state.captured.keys()
    members -= {t.node for t in tensors if graph.nodes[t.node].op in PLACEHOLDERS_WITH_DEFAULT}
    for name in sorted(members):
        if graph.nodes[name].op in PLACEHOLDERS:
            raise MalformedError(
                f"an output depends on the placeholder {name!r}, which is no input",
                where=graph.at(name, signature),
            )
    args = [
        FunctionArg(name, (tensor,), dtype, shape)
        for name, tensor, dtype, shape in _components(inputs)
    ]
    if len({tensor for arg in args for tensor in arg.replaces}) < len(args):
        raise UnsupportedError("two inputs are the same tensor", where=graph.at(None, signature))
    for capture, replaced in captured.items():
        args.append(
            FunctionArg(
                capture.key[1], tuple(replaced), capture.dtype, capture.shape, capture.handle_data
            )
        )
    function = build_function(
        graph,
        library.new_name(base_name),
        members,
        args,
        outputs=[(name, tensor) for name, tensor, _, _ in flat_outputs],
        control_outputs=sorted(set(run)),
    )
    rename_calls(function.node_def, state.renamed)
    name = library.add(function, share=share)
    return Body(
        name,
        dict(sorted(inputs.items())),
        dict(sorted(outputs.items())),
        captures,
        function.signature.is_stateful,
    )


def _components(endpoints: Mapping[str, Endpoint]) -> list[tuple[str, Tensor, int, Shape]]:
    """Returns name, tensor, dtype and shape of every plain tensor, by sorted key."""
    return [
        (component_name(key, endpoints[key], c), parse_tensor(c.name), c.dtype, c.shape)
        for key in sorted(endpoints)
        for c in endpoints[key].components
    ]


def _input_tensors(inputs: Mapping[str, Endpoint]) -> set[Tensor]:
    return {tensor for _, tensor, _, _ in _components(inputs)}


def variable_handle_data(dtype: int, shape: tf_pb.TensorShapeProto) -> HandleData:
    """What the handle of a variable points to."""
    data = tf_pb.ResourceHandleProto.DtypeAndShape(shape=shape)
    data.dtype = dtype  # type: ignore[assignment]
    return (data,)
