"""Reads what a check looks at from a TF1 Hub module.

A signature `serving_default`, which conversions keep, is TF Serving's and is not judged.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from bridge._check.comparable import comparable
from bridge._check.flow import Flow, Frame, Point
from bridge._check.seen import Digests, SeenModel, SeenSignature, SeenVariable, SeenVariant
from bridge._surfaces.bodies import Bodies
from bridge._surfaces.contents import Contents, digest
from bridge._surfaces.surface import HUB_MODULE
from bridge._surfaces.writes import EffectsReader
from bridge.graph import Graph, parse_tensor
from bridge.hub_module import read_hub_module
from bridge.model import Model, Signature, Variant
from bridge.proto import tf_pb
from bridge.report import Report
from bridge.saved_model.names import SERVING_DEFAULT


def read_module(directory: Path) -> SeenModel:
    """Reads a module.

    Raises:
      UnsupportedError: the module has something that is not known.
      MalformedError: it is broken.
      UnsafeError: a link, or a name that leaves the module.
    """
    report = Report(str(directory), None, "check")
    model = read_hub_module(directory, report)
    variants = sorted(model.variants.values(), key=lambda v: (len(v.tags), sorted(v.tags)))
    return SeenModel(
        format=HUB_MODULE,
        is_module=True,
        producer=model.producer,
        variants=[_read_variant(model, variant) for variant in variants],
        variables=frozenset(model.variables),
        remarks=[
            f"variant {note.name} is not judged: {note.reason}"
            for note in report.not_kept
            if note.kind == "variant"
        ],
    )


def _read_variant(model: Model, variant: Variant) -> SeenVariant:
    graph = variant.graph
    bodies = Bodies(graph)
    digester = _Digester(graph)
    state = {
        name: SeenVariable(name, variable.shape)
        for name, variable in model.variables.items()
        if name in graph.nodes
    }
    # Some modules wait for their updates in the forward pass, and have none in UPDATE_OPS.
    outputs = {
        parse_tensor(part.name).node
        for signature in variant.signatures.values()
        for end in signature.outputs.values()
        for part in end.components
    }
    writes = EffectsReader(bodies, with_values=False).of_graph(
        graph, [], [*variant.update_ops.values(), *outputs]
    )
    return SeenVariant(
        tags=variant.tags,
        signatures=[
            _read_signature(variant, signature, bodies, digester, state)
            for name, signature in sorted(variant.signatures.items())
            if name != SERVING_DEFAULT
        ],
        attachments=variant.attachments,
        trainable=frozenset(variant.trainable_variables),
        written=frozenset(writes.written),
    )


def _read_signature(
    variant: Variant,
    signature: Signature,
    bodies: Bodies,
    digester: _Digester,
    state: Mapping[str, SeenVariable],
) -> SeenSignature:
    root = Frame(variant.graph)
    fed = {parse_tensor(name).node for name in signature.input_tensors()}
    return SeenSignature(
        tags=variant.tags,
        name=signature.name,
        called=None,
        python=None,
        inputs=signature.inputs,
        outputs=signature.outputs,
        flow=Flow(bodies, root, fed),
        returned={
            key: [Point(root, parse_tensor(part.name)) for part in end.components]
            for key, end in signature.outputs.items()
        },
        state=state,
        digests=functools.cache(lambda: digester.of(signature)),
    )


class _Digester:
    """Finds out by what the outputs of a variant's signatures are computed, when it is asked."""

    def __init__(self, graph: Graph):
        self._whole = graph

    @functools.cached_property
    def _graph(self) -> Graph:
        return comparable(self._whole)

    @functools.cached_property
    def _contents(self) -> Contents:
        return Contents(Bodies(self._graph))

    @functools.cached_property
    def _state(self) -> dict[str, bytes]:
        # The op of a reference variable does not say its name.
        nodes = self._graph.nodes.values()
        return {n.name: digest("state", n.name) for n in nodes if self._is_state(n)}

    def _is_state(self, node: tf_pb.NodeDef) -> bool:
        op_def = self._graph.ops.get(node.op)
        return op_def is not None and op_def.is_stateful and not op_def.input_arg

    def of(self, signature: Signature) -> Digests:
        """Returns by what each output is computed, of inputs by their names and of the state."""
        given = self._state | {
            parse_tensor(part.name).node: digest("input", key, str(position))
            for key, end in signature.inputs.items()
            for position, part in enumerate(end.components)
        }
        ends = signature.outputs
        tensors = [parse_tensor(part.name) for end in ends.values() for part in end.components]
        found = iter(self._contents.of_tensors(self._graph, tensors, given))
        return {key: tuple(next(found) for _ in end.components) for key, end in ends.items()}
