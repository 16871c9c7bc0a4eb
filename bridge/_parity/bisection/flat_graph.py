"""A signature as one flat graph, whose nodes have the names that both formats share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bridge._parity.called import CalledFunctions, input_names
from bridge._surfaces.surface import Call, Computation
from bridge._surfaces.templates import paths_of
from bridge.attrs import strings_tensor_attr
from bridge.bundle import read_index
from bridge.bundle.files import index_name
from bridge.call_graph import keep_called_functions
from bridge.errors import MalformedError, Where
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.hub_module import read_hub_module
from bridge.layout import ASSETS, SAVED_MODEL, VARIABLES
from bridge.model import Endpoint, Model, Variable, Variant, format_tags
from bridge.opsets import OpTable
from bridge.passes.inline_calls import InlineCalls
from bridge.passes.strip_placement import StripPlacement
from bridge.proto import tf_pb
from bridge.proto_file import read_proto
from bridge.report import Report
from bridge.saved_model.calls import VariantBuilder
from bridge.saved_model.choice import Choice
from bridge.saved_model.names import TRAINING
from bridge.saved_model.state_reader import StateReader
from bridge.validate import check_graph


@dataclass
class FlatGraph:
    """One signature of one model.

    Attributes:
      graph: what the outputs depend on; calls of a SavedModel are inlined.
      inputs: the Placeholders of each input, or of a part of one, by name.
      outputs: the tensors of each output, by name.
      variables: those of the graph, by their node.
      shards: the files that hold their values.
      initializers: nodes that fill tables.
    """

    graph: Graph
    inputs: dict[str, list[Tensor]]
    outputs: dict[str, list[Tensor]]
    variables: dict[str, Variable]
    shards: list[Path]
    initializers: list[str]


def read_flat_graph(model: Path, computation: Computation) -> FlatGraph:
    """Reads a signature.

    Args:
      model: directory of the model.
      computation: the signature as the model's surface has it; of its ways the first counts, and
        of what that returns, the outputs that are listed.

    Raises:
      UnsupportedError: it needs something that can't be in a TF1 Hub module.
      MalformedError: the model is broken, or has no such signature.
    """
    call = computation.calls[0]
    if call.kind == "module":
        flat = _of_module(model, call)
    else:
        flat = _of_saved_model(model, computation, call)
    graph = flat.graph
    flat.outputs = {name: t for name, t in flat.outputs.items() if name in computation.outputs}
    targets = {tensor.node for tensors in flat.outputs.values() for tensor in tensors}
    targets |= {tensor.node for tensors in flat.inputs.values() for tensor in tensors}
    graph.keep(graph.ancestors([*targets, *flat.initializers]))
    keep_called_functions(graph)
    flat.variables = {name: v for name, v in flat.variables.items() if name in graph.nodes}
    return flat


def _of_module(model: Path, call: Call) -> FlatGraph:
    read = read_hub_module(model, Report("", None, ""))
    tags = frozenset(call.tags)
    if tags not in read.variants or call.name not in read.variants[tags].signatures:
        raise MalformedError(
            f"there is no signature {call.name!r}", where=Where(model, format_tags(tags))
        )
    variant = read.variants[tags]
    signature = variant.signatures[call.name]
    return _flat(read, variant, _tensors(signature.inputs), _tensors(signature.outputs))


def _of_saved_model(model: Path, computation: Computation, call: Call) -> FlatGraph:
    path = model / SAVED_MODEL
    saved_model = read_proto(tf_pb.SavedModel, path)
    (meta_graph,) = (m for m in saved_model.meta_graphs if m.HasField("object_graph_def"))
    functions = CalledFunctions(meta_graph, path)
    trace = functions.traces(call)[0]
    tags, name = computation.variant, computation.signature
    prefix = model / VARIABLES / VARIABLES
    index = read_index(prefix) if prefix.with_name(index_name(prefix.name)).exists() else None
    report = Report("", None, "")
    state = StateReader(functions.tree, meta_graph, functions.library, index, report).read(
        Choice({tags: {name: trace}}), model
    )
    graph = Graph(
        [],
        OpTable(meta_graph.meta_info_def.stripped_op_list.op),
        functions.library.values(),
        where=Where(path, format_tags(tags)),
    )
    variant = Variant(tags, graph)
    mode = call.kwargs.get(TRAINING, {"value": "train" in tags})
    VariantBuilder(variant, state, training=bool(mode.get("value"))).add_signature(name, trace)
    keep_called_functions(graph)
    check_graph(graph)
    read = Model(
        source=model,
        variants={tags: variant},
        variables=state.by_name(),
        assets=state.files,
        shards=list(index.shards) if index else [],
        versions=meta_graph.graph_def.versions,
        producer="",
    )
    InlineCalls().run(read, report)
    signature = variant.signatures[name]
    keys = [leaf.key for leaf in trace.inputs if not leaf.is_fixed]
    given = dict(zip(keys, input_names(call), strict=True))
    where = Where(path, format_tags(tags), name)
    paths = paths_of(functions.concrete[trace.function], trace, where)
    returned = {path: _tensors(signature.outputs)[key] for key, path in paths.items()}
    return _flat(
        read,
        variant,
        {given[key]: tensors for key, tensors in _tensors(signature.inputs).items()},
        {output: returned[path] for output, path in call.outputs.items() if path in returned},
    )


def _tensors(endpoints: Mapping[str, Endpoint]) -> dict[str, list[Tensor]]:
    return {
        name: [parse_tensor(part.name) for part in endpoint.components]
        for name, endpoint in endpoints.items()
    }


def _flat(
    model: Model,
    variant: Variant,
    inputs: dict[str, list[Tensor]],
    outputs: dict[str, list[Tensor]],
) -> FlatGraph:
    StripPlacement().rewrite(variant, Report("", None, ""))
    for node, filename in variant.assets.items():
        file = str(model.source.absolute() / ASSETS / filename).encode()
        variant.graph.nodes[node].attr["value"].CopyFrom(strings_tensor_attr(file))
    return FlatGraph(
        variant.graph,
        inputs,
        outputs,
        model.variables,
        model.shards,
        list(variant.table_initializers),
    )
