"""Models to write as modules: genuine ones read from testdata/, and tiny ones made by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.attrs import shape_attr, string_attr, type_attr
from bridge.bundle import crc
from bridge.graph import Graph, Tensor
from bridge.hub_module import HubModuleWriter, HubWriteOptions, read_hub_module
from bridge.model import (
    INFERENCE,
    ByteRange,
    Component,
    Encoding,
    Endpoint,
    Model,
    Signature,
    Tags,
    Variable,
    Variant,
)
from bridge.opsets import OpTable
from bridge.opsets.release import load_release
from bridge.passes import Pass, run_passes
from bridge.passes.functional_control_flow import FunctionalControlFlow
from bridge.passes.prune import Prune
from bridge.passes.resource_state import ResourceState
from bridge.passes.strip_placement import StripPlacement
from bridge.proto import tf_pb
from bridge.report import Report
from tests.conftest import TESTDATA

RELEASE = load_release("1.15")
FLOAT = tf_pb.DT_FLOAT
LOOPS = ["control_flow_ref", "control_flow_resource", "rnn"]
REFERENCES = (StripPlacement(), Prune(), ResourceState())
DIRECTION = "to-hub-module"


def passes_for(name: str, model: Model) -> tuple[Pass, ...]:
    """What a module needs to be what the writer takes: nothing, if it is already."""
    if name in LOOPS:
        return (*REFERENCES, FunctionalControlFlow())
    return REFERENCES if any(v.was_ref for v in model.variables.values()) else ()


def read(name: str) -> tuple[Model, Report]:
    """Reads a module of testdata, ready to be written."""
    report = Report(name, None, DIRECTION)
    model = read_hub_module(TESTDATA / "modules" / name, report)
    run_passes(model, passes_for(name, model), report)
    for variant in model.variants.values():
        for node in variant.graph.all_nodes():
            node.attr.pop("resize_if_index_out_of_bounds", None)  # 1.15 has no such attribute
    return model, report


def write(model: Model, directory: Path, report: Report | None = None, **options: Any) -> Path:
    """Writes a model as a module, into a new directory."""
    directory.mkdir()
    report = report or Report("model", None, DIRECTION)
    HubModuleWriter(model, HubWriteOptions(RELEASE, **options), report).write(directory)
    return directory


def meta_graphs(directory: Path) -> dict[Tags, tf_pb.MetaGraphDef]:
    """The graph variants of a module on disk, by their tags."""
    message = tf_pb.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    return {frozenset(graph.meta_info_def.tags): graph for graph in message.meta_graphs}


def digest(directory: Path) -> str:
    """The hash of all files of a directory."""
    result = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        result.update(str(path.relative_to(directory)).encode())
        result.update(path.read_bytes() if path.is_file() else b"")
    return result.hexdigest()


GARBAGE = b"\x07" * 64


def tiny(
    directory: Path, values: Mapping[str, NDArray[Any]], dtypes: Mapping[str, int] | None = None
) -> Model:
    """A model that returns its float input, with variables and garbage between their bytes."""
    directory.mkdir(parents=True)
    shard = directory / "data"
    data, variables = b"", {}
    for name, value in sorted(values.items()):
        stored_bytes = value.tobytes()
        place = ByteRange(0, len(data), len(stored_bytes), crc.mask(crc.value(stored_bytes)))
        dtype = (dtypes or {}).get(name, FLOAT)
        variables[name] = Variable(name, dtype, value.shape, False, place)
        data += stored_bytes + GARBAGE
    shard.write_bytes(data)
    graph = Graph((), OpTable())
    graph.add("Placeholder", "x", dtype=type_attr(FLOAT), shape=shape_attr((None,)))
    graph.add("Identity", "y", ["x"], T=type_attr(FLOAT))
    variant = Variant(INFERENCE, graph)
    variant.signatures["default"] = signature(graph, {"x": "x"}, {"default": "y"})
    return Model(
        source=directory,
        variants={INFERENCE: variant},
        variables=variables,
        assets={},
        shards=[shard],
        versions=tf_pb.VersionDef(producer=RELEASE.producer),
        producer="2.21.0",
    )


def signature(graph: Graph, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> Signature:
    """The signature `default` of vectors, by the nodes that give them."""

    def endpoint(name: str) -> Endpoint:
        part = Component(name, graph.output(Tensor(name, 0)).dtype, (None,))
        return Endpoint(Encoding.DENSE, part.dtype, part.shape, (part,))

    return Signature(
        "default",
        {key: endpoint(name) for key, name in inputs.items()},
        {key: endpoint(name) for key, name in outputs.items()},
    )


TWO = {"a/kernel": np.arange(6, dtype="<f4").reshape(2, 3), "b": np.float32(2.5)}


def two(directory: Path) -> Model:
    """The tiny model with the variables `TWO`."""
    return tiny(directory, {name: np.asarray(value) for name, value in TWO.items()})


def add_variable(graph: Graph, name: str, **attrs: tf_pb.AttrValue) -> None:
    """Adds the node of one of the variables `TWO`."""
    shape, dtype = shape_attr(TWO[name].shape), type_attr(FLOAT)
    graph.add("VarHandleOp", name, dtype=dtype, shape=shape, shared_name=string_attr(name), **attrs)
