"""Reads what a user sees of a TF1 Hub module.

What the old client does with the files is what bridge/hub_module knows. A part of a partitioned
variable is a variable of its own, as the module's graph has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from bridge._surfaces.bodies import Bodies
from bridge._surfaces.contents import Contents
from bridge._surfaces.digests import digest_of_ranges, digests_of_assets
from bridge._surfaces.image_size import image_size
from bridge._surfaces.module_updates import ModuleUpdates
from bridge._surfaces.surface import HUB_MODULE, Call, Computation, SeenVariable, Surface
from bridge._surfaces.tables import (
    Filling,
    TableReader,
    asset_given,
    keys_of,
    seen_tables,
)
from bridge.graph import parse_tensor
from bridge.hub_module import read_hub_module
from bridge.model import INFERENCE, Endpoint, Model, Shape, Tags, Variant, shape_from_proto
from bridge.ops import REFERENCE_TABLES, RESOURCE_TABLE
from bridge.proto import tf_pb
from bridge.report import Report

_TABLES = REFERENCE_TABLES | {RESOURCE_TABLE}


def read_module_surface(directory: Path) -> Surface:
    """Reads a TF1 Hub module.

    A variant that the checkpoint lacks values for is none: the old client can't use it.

    Raises:
      UnsupportedError: the module has something that is not known.
      MalformedError: it is broken.
      UnsafeError: a link, or a name that leaves the module.
    """
    model = read_hub_module(directory, Report(str(directory), None, "parity"))
    assets = digests_of_assets(directory)
    updates = {tags: ModuleUpdates(variant) for tags, variant in model.variants.items()}
    computations = tuple(
        c for tags, variant in model.variants.items() for c in _computations(variant, updates[tags])
    )
    tables = seen_tables(_tables(model, directory, assets))
    attachments = {tags: variant.attachments for tags, variant in model.variants.items()}
    return Surface(
        path=directory,
        format=HUB_MODULE,
        producer=model.producer,
        computations=computations,
        variables={
            name: SeenVariable(
                name,
                variable.dtype,
                variable.shape,
                variable.trainable,
                digest_of_ranges([variable.data], model.shards),
            )
            for name, variable in model.variables.items()
        },
        declared={
            tags: frozenset(n for n, v in model.variables.items() if tags in v.variants)
            for tags in model.variants
        },
        trained={tags: frozenset(v.trainable_variables) for tags, v in model.variants.items()},
        regularization_losses={
            tags: len(variant.regularization_losses) for tags, variant in model.variants.items()
        },
        updated={tags: found.of_all() for tags, found in updates.items()},
        updated_apart={tags: f.of_all() - f.of_calls() for tags, f in updates.items()},
        assets=assets,
        tables=tables,
        attachments=attachments,
        image_size=image_size(computations, attachments.get(_main(model), {}), _main(model)),
        table_keys=keys_of(tables.values()),
    )


def variables_by_update_op(directory: Path) -> dict[tuple[str, str], frozenset[str]]:
    """Returns the variables that each update op of a module writes, by variant and name of the op.

    Raises:
      UnsupportedError: the module has something that is not known.
      MalformedError: it is broken.
      UnsafeError: a link, or a name that leaves the module.
    """
    model = read_hub_module(directory, Report(str(directory), None, "parity"))
    result: dict[tuple[str, str], frozenset[str]] = {}
    for variant in model.variants.values():
        updates = ModuleUpdates(variant)
        for name, node in variant.update_ops.items():
            result[variant.label, name] = updates.written([node])
    return result


def _main(model: Model) -> Tags:
    """The variant that says how large images are: the one without tags, else the first."""
    return INFERENCE if INFERENCE in model.variants else next(iter(model.variants))


def _computations(variant: Variant, updates: ModuleUpdates) -> Iterator[Computation]:
    for name, signature in variant.signatures.items():
        call = Call(
            "module",
            name,
            tuple(sorted(variant.tags)),
            outputs={key: (key,) for key in signature.outputs},
        )
        yield Computation(
            variant.tags,
            name,
            _endpoints(signature.inputs),
            _endpoints(signature.outputs),
            (call,),
            updates=(updates.of_call(call),),
        )


def _endpoints(endpoints: Mapping[str, Endpoint]) -> dict[str, Endpoint]:
    """Returns inputs or outputs with the static shape of ragged ones, which only their type has."""
    return {name: replace(end, shape=_shape(end)) for name, end in endpoints.items()}


def _shape(endpoint: Endpoint) -> Shape:
    spec = endpoint.type_spec
    if spec is None or spec.type_spec_class != tf_pb.TypeSpecProto.RAGGED_TENSOR_SPEC:
        return endpoint.shape
    shape = spec.type_state.tuple_value.values[:1]
    return shape_from_proto(shape[0].tensor_shape_value) if shape else None


def _tables(
    model: Model, directory: Path, assets: Mapping[str, str]
) -> Iterator[tuple[str, list[Filling]]]:
    """Yields the tables that signatures use, by name, and what fills them."""
    for variant in model.variants.values():
        graph = variant.graph
        bodies = Bodies(graph)
        reader = TableReader(bodies, Contents(bodies), directory)
        given = {node: asset_given(name, assets) for node, name in variant.assets.items()}
        filled = reader.of_graph(graph, variant.table_initializers, given)
        tensors = [t for s in variant.signatures.values() for t in s.output_tensors()]
        used = graph.ancestors([parse_tensor(tensor).node for tensor in tensors])
        for name, fillings in filled.items():
            if name in used and graph.nodes[name].op in _TABLES:
                yield name, fillings
