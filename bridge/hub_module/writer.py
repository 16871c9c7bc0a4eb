"""Writes a Model as a TF1 Hub module.

The layout is that of tensorflow_hub 0.12 (native_module.py, saved_model_lib.py): a ModuleDef, a
SavedModel with one MetaGraphDef per graph variant, one checkpoint, and asset files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bridge.attrs import strings_tensor_attr
from bridge.counts import count_model
from bridge.errors import UnsupportedError, Where
from bridge.graph import Graph
from bridge.hub_module.description import describe_variant
from bridge.hub_module.names import MODULE_DEF
from bridge.hub_module.variable_defs import checkpoint_tensors, declare_variables
from bridge.model import Model, Variant
from bridge.ops import REFERENCE_TABLES, RESOURCE_TABLE
from bridge.opsets.release import Release
from bridge.output import write_model_files
from bridge.proto import MAX_MESSAGE_BYTES, hub_pb, tf_pb
from bridge.report import Report, SignatureReport
from bridge.tensor_info import describe

ASSET_PLACEHOLDER = b"SAVEDMODEL-ASSET"
"""What stands in an asset's Const on disk; the client puts the path there when it loads it."""

_FIRST_WITH_TRAINABLE = (1, 9)


@dataclass(frozen=True)
class HubWriteOptions:
    """How to write a TF1 Hub module.

    Attributes:
      release: the oldest TensorFlow release that must read it.
      link: hard-link data shards instead of copying them.
      progress: called with the number of checkpoint bytes done so far.
    """

    release: Release
    link: bool = False
    progress: Callable[[int], None] | None = None


class HubModuleWriter:
    """Builds a module in memory, without its variables; `write` puts it on disk."""

    def __init__(self, model: Model, options: HubWriteOptions, report: Report):
        """Builds everything but the files.

        Args:
          model: the model, with resource variables; v1 loops and conditionals have their contexts
            in its variants. It is not changed.
          options: how to write it.
          report: told what is kept.

        Raises:
          UnsupportedError: the model has no form as a TF1 Hub module.
        """
        self._model = model
        self._options = options
        self._tensors = checkpoint_tensors(model)
        # Built in place: every message that is put into another is copied.
        self._saved_model = tf_pb.SavedModel()
        for variant in model.variants.values():
            self._add_variant(variant, self._saved_model.meta_graphs.add())
        size = self._saved_model.ByteSize()
        if size > MAX_MESSAGE_BYTES:
            raise UnsupportedError(
                f"the module's graphs would take {size} bytes, and protobuf holds "
                f"{MAX_MESSAGE_BYTES}: the model has large constants in its graph",
                where=Where(model.source),
                hint="save the model again with variables instead of constants",
            )
        _count(model, report)

    def _add_variant(self, variant: Variant, meta_graph: tf_pb.MetaGraphDef) -> None:
        source = variant.graph
        # A graph of its own, with the same nodes: what is added here is no part of the model.
        graph = Graph(
            source.nodes.values(),
            source.ops,
            source.functions.values(),
            source.gradients,
            source.where,
        )
        variables = declare_variables(
            graph, self._model, frozenset(variant.trainable_variables), self._options.release
        )
        _hide_asset_paths(variant, graph)
        meta_graph.graph_def.node.extend(graph.nodes.values())
        meta_graph.graph_def.versions.CopyFrom(self._model.versions)
        meta_graph.graph_def.library.function.extend(graph.functions.values())
        meta_graph.graph_def.library.gradient.extend(graph.gradients)
        info = meta_graph.meta_info_def
        info.tensorflow_version = _version_for_client(self._model.producer)
        info.stripped_default_attrs = True
        info.stripped_op_list.op.extend(self._op_defs(graph))
        describe_variant(meta_graph, variant, variables)

    def _op_defs(self, graph: Graph) -> Iterator[tf_pb.OpDef]:
        """Yields the definitions of all ops, those of the release where it has them.

        The client looks for attributes that only a newer release knows by comparing them with its
        own, and refuses the module if an op of this list is none that it has.
        """
        users = {node.op: node for node in graph.all_nodes() if node.op not in graph.functions}
        for op, node in sorted(users.items()):
            yield self._options.release.ops.get(op) or graph.op_def(node)

    def write(self, directory: Path) -> None:
        """Writes the module into an existing, empty directory.

        Raises:
          MalformedError: the bytes of a variable do not match their checksum.
          SourceNotFoundError: a file of the source can't be read.
          OSError: a file can't be written.
        """
        write_model_files(
            directory,
            self._saved_model,
            self._model,
            self._tensors,
            link=self._options.link,
            progress=self._options.progress,
        )
        module = hub_pb.ModuleDef(format=hub_pb.ModuleDef.FORMAT_V3)
        (directory / MODULE_DEF).write_bytes(module.SerializeToString(deterministic=True))


def _version_for_client(producer: str) -> str:
    """Returns the producer's release, unless the client would misunderstand it.

    For a release before 1.9 the client ignores VariableDef.trainable, and it can't compare what
    does not start with a number (import_scoped_meta_graph in python/framework/meta_graph.py).
    """
    version = re.match(r"(\d+)\.(\d+)", producer)
    if version is None or tuple(map(int, version.groups())) < _FIRST_WITH_TRAINABLE:
        return ""
    return producer


def _hide_asset_paths(variant: Variant, graph: Graph) -> None:
    """Writes the placeholder where a path is, which would be one of the machine that saved it."""
    for name in variant.assets:
        node = tf_pb.NodeDef()
        node.CopyFrom(graph.node(name))
        node.attr["value"].CopyFrom(strings_tensor_attr(ASSET_PLACEHOLDER))
        graph.nodes[name] = node


# -- the report ------------------------------------------------------------------------------------


def _count(model: Model, report: Report) -> None:
    kept = report.kept
    count_model(model, kept)
    variants = list(model.variants.values())
    report.signatures = [
        SignatureReport(name, variant.label, describe(one.inputs), describe(one.outputs))
        for variant in variants
        for name, one in variant.signatures.items()
    ]
    # A pass may have dropped some that the reader named.
    report.variables = [one for one in report.variables if one.name in model.variables]
    kept.update_ops = sum(len(variant.update_ops) for variant in variants)
    kept.regularization_losses = sum(len(variant.regularization_losses) for variant in variants)
    kept.functions = sum(len(variant.graph.functions) for variant in variants)
    nodes = (node for variant in variants for node in variant.graph.nodes.values())
    kept.tables = len({n.name for n in nodes if n.op == RESOURCE_TABLE or n.op in REFERENCE_TABLES})
