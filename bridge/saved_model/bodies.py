"""Cuts functions out of a variant's graph.

A body computes outputs of the graph from given inputs. The state it touches (variables, tables,
paths of assets) becomes further arguments, which the loader binds to objects: captures.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from bridge.attrs import HandleData, shapes_attr
from bridge.call_graph import CallGraph
from bridge.errors import MalformedError, UnsupportedError
from bridge.function_body import FunctionArg, build_function
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.model import Endpoint, Shape, Variant
from bridge.ops import PLACEHOLDERS, PLACEHOLDERS_WITH_DEFAULT, WRITING_OPS
from bridge.proto import tf_pb
from bridge.saved_model.library import Library, rename_calls
from bridge.saved_model.structured_value import parts_of


@dataclass(frozen=True)
class Captured:
    """State that a function reads through an argument.

    Attributes:
      key: kind and name, `("variable", "conv/kernel")`.
      number: its number in the object graph.
      dtype: of the argument: DT_RESOURCE, or DT_STRING for the path of an asset.
      handle_data: what a resource points to.
      shape: of the argument itself. That of a handle is left unknown: some shape functions take it
        for the variable's.
    """

    key: tuple[str, str]
    number: int = field(compare=False)
    dtype: int = field(compare=False)
    handle_data: HandleData = field(default=(), compare=False)
    shape: Shape = field(default=None, compare=False)


@dataclass
class VariantState:
    """What a body of one variant may refer to.

    Attributes:
      variant: the variant.
      captured: the state by the name of its node.
      renamed: the library's names of the functions that the graph calls.
      writing: the functions of the graph that change a variable.
    """

    variant: Variant
    captured: dict[str, Captured]
    renamed: dict[str, str]
    writing: frozenset[str]


@dataclass(frozen=True)
class Body:
    """A function of the library, with what its arguments and outputs are.

    Attributes:
      name: its name in the library.
      inputs: by key, sorted; each makes one argument per component.
      outputs: by key, sorted; each makes one output per component.
      captures: the last arguments.
      stateful: whether it touches state.
      writers: the nodes that change a variable whenever the body runs, besides those that were
        asked for by name.
    """

    name: str
    inputs: dict[str, Endpoint]
    outputs: dict[str, Endpoint]
    captures: tuple[Captured, ...]
    stateful: bool
    writers: tuple[str, ...] = ()

    def output_shapes(self) -> tf_pb.AttrValue:
        """The static shapes of the outputs, which a node that calls the function can't infer."""
        return shapes_attr(part.component.shape for part in parts_of(self.outputs))


def update_ops_of(variant: Variant, inputs: Mapping[str, Endpoint]) -> dict[str, str]:
    """Returns the update ops that a call with these inputs runs: those that depend on them.

    Each is given by its name in the source, with the node that runs it.

    One that needs a further placeholder, which only another signature feeds, can't run.
    """
    if not variant.update_ops:
        return {}
    tensors = _input_tensors(inputs)
    graph = variant.graph
    consumers = graph.consumers()
    fed = {tensor.node for tensor in tensors}
    unfed = [
        Tensor(name, 0)
        for name, node in graph.nodes.items()
        if node.op in PLACEHOLDERS and name not in fed
    ]
    can_run = graph.descendants(tensors, consumers=consumers)
    can_run -= graph.descendants(unfed, stop=tensors, consumers=consumers)
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
    flat_outputs = [(part.name, parse_tensor(part.component.name)) for part in parts_of(outputs)]
    targets = [tensor.node for _, tensor in flat_outputs if tensor not in tensors]
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
        FunctionArg(
            part.name,
            (parse_tensor(part.component.name),),
            part.component.dtype,
            part.component.shape,
        )
        for part in parts_of(inputs)
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
        outputs=flat_outputs,
        control_outputs=sorted(set(run)),
    )
    rename_calls(function.node_def, state.renamed)
    name = library.add(function, share=share)
    unasked = (graph.nodes[member] for member in members.difference(run))
    return Body(
        name,
        dict(sorted(inputs.items())),
        dict(sorted(outputs.items())),
        captures,
        function.signature.is_stateful,
        tuple(sorted(node.name for node in unasked if _writes(graph, node, state.writing))),
    )


def writing_functions(graph: Graph) -> frozenset[str]:
    """Returns the functions of a graph that change a variable, themselves or by one they call."""
    writing: set[str] = set()
    for name in CallGraph(graph).callees_first():
        if any(_writes(graph, node, writing) for node in graph.functions[name].node_def):
            writing.add(name)
    return frozenset(writing)


def _writes(graph: Graph, node: tf_pb.NodeDef, writing: Collection[str]) -> bool:
    """True if a node changes a variable, or calls one of the functions that do."""
    return node.op.startswith(WRITING_OPS) or any(
        name in writing for name in graph.called_functions(node)
    )


def _input_tensors(inputs: Mapping[str, Endpoint]) -> set[Tensor]:
    return {parse_tensor(part.component.name) for part in parts_of(inputs)}
