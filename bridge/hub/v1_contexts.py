"""Keeps the v1 loops and conditionals of a module as they are, with the contexts that say so.

A client of TensorFlow 1 differentiates Switch, Merge, Enter and their like by contexts, which name
their nodes (tensorflow/core/protobuf/control_flow.proto). So no pass may drop one of these nodes,
or put another in its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from google.protobuf.message import DecodeError

from bridge.call_graph import keep_called_functions
from bridge.errors import MalformedError, UnsupportedError
from bridge.graph import parse_tensor
from bridge.hub_module.names import COND_CONTEXT, WHILE_CONTEXT
from bridge.model import Model, Tags, Variant
from bridge.proto import tf_pb
from bridge.report import Report

_Context = tf_pb.CondContextDef | tf_pb.WhileContextDef


def add_contexts(variant: Variant, meta_graph: tf_pb.MetaGraphDef) -> None:
    """Gives a variant the contexts that its MetaGraphDef has in its collections.

    Raises:
      MalformedError: one can't be read.
    """
    collections = meta_graph.collection_def
    try:
        if COND_CONTEXT in collections:
            conds = collections[COND_CONTEXT].bytes_list.value
            variant.cond_contexts = [tf_pb.CondContextDef.FromString(one) for one in conds]
        if WHILE_CONTEXT in collections:
            loops = collections[WHILE_CONTEXT].bytes_list.value
            variant.while_contexts = [tf_pb.WhileContextDef.FromString(one) for one in loops]
    except DecodeError as error:
        raise MalformedError("a broken control flow context", where=variant.graph.where) from error


class DropInitializers:
    """Drops what nothing that a module gives its client needs: initializers, savers, summaries.

    Requires: nothing. Ensures: every node is an ancestor of a signature's tensors, an update op, a
    regularization loss, a table initializer, an asset, or of a node that a context names.

    1. The checkpoint holds the variables' values, so that no client runs an initializer, which may
       need ops that an older release does not have.
    2. A context stays whole if anything of it is needed, and goes if nothing is.
    """

    name: ClassVar[str] = "drop-initializers"

    def run(self, model: Model, report: Report) -> int:
        """Prunes every variant; returns how many nodes were dropped."""
        del report
        return sum(map(_prune, model.variants.values()))


class KeepContexts:
    """Notes the nodes of v1 contexts, and refuses what passes did to them in between.

    It runs twice: before the passes that rewrite ops, and after them. Requires: nothing. Ensures,
    the second time: every node that a context names is there, with the op and the inputs it had.

    1. What a pass puts in the place of a node is in no context: in a loop it would not run, and a
       gradient would not know of it.
    """

    name: ClassVar[str] = "keep-contexts"

    def __init__(self) -> None:
        self._noted: dict[Tags, dict[str, _Content]] | None = None

    def run(self, model: Model, report: Report) -> int:
        """Notes, or compares; returns 0, for it changes nothing.

        Raises:
          UnsupportedError: a node was changed.
        """
        del report
        found = {tags: _contents(variant) for tags, variant in model.variants.items()}
        if self._noted is None:
            self._noted = found
            return 0
        for tags, variant in model.variants.items():
            for name, before in self._noted[tags].items():
                if found[tags].get(name) != before:
                    raise UnsupportedError(
                        f"op {before.op} must be replaced for TensorFlow 1.15, and it stands in a "
                        "v1 loop or conditional",
                        where=variant.graph.at(name),
                        hint="build the module with tf.compat.v1.enable_control_flow_v2(), or with "
                        "older ops",
                    )
        return 0


@dataclass(frozen=True)
class _Content:
    op: str
    inputs: tuple[str, ...]


def _contents(variant: Variant) -> dict[str, _Content]:
    """Returns what the nodes that contexts name do; those that are not there are left out."""
    nodes = variant.graph.nodes
    named = {name for context in _contexts(variant) for name in _named(context)}
    return {
        name: _Content(nodes[name].op, tuple(nodes[name].input)) for name in named if name in nodes
    }


def _prune(variant: Variant) -> int:
    graph = variant.graph
    tensors = list(variant.regularization_losses)
    for signature in variant.signatures.values():
        tensors += [*signature.input_tensors(), *signature.output_tensors()]
    targets = {parse_tensor(name).node for name in tensors}
    targets.update(variant.update_ops.values(), variant.table_initializers, variant.assets)
    kept = graph.ancestors(targets)
    waiting = {id(context): set(_named(context)) for context in _contexts(variant)}
    while touched := [key for key, names in waiting.items() if names & kept]:
        for key in touched:
            kept |= graph.ancestors(waiting.pop(key))
    variant.cond_contexts = [one for one in variant.cond_contexts if id(one) not in waiting]
    variant.while_contexts = [one for one in variant.while_contexts if id(one) not in waiting]
    return graph.keep(kept) + keep_called_functions(graph)


def _contexts(variant: Variant) -> Iterator[_Context]:
    yield from variant.cond_contexts
    yield from variant.while_contexts


def _named(context: _Context) -> Iterator[str]:
    """Yields the nodes that a context and those in it name."""
    for name in _tensors_of(context):
        if name:
            yield parse_tensor(name).node
    for nested in context.nested_contexts:
        inner = nested.cond_ctxt if nested.HasField("cond_ctxt") else nested.while_ctxt
        yield from _named(inner)


def _tensors_of(context: _Context) -> Iterable[str]:
    yield context.pivot_name
    yield from context.values_def.values
    yield from context.values_def.external_values.values()
    if isinstance(context, tf_pb.CondContextDef):
        yield context.pred_name
        return
    yield context.pivot_for_pred_name
    yield context.pivot_for_body_name
    yield context.maximum_iterations_name
    yield from context.loop_enter_names
    yield from context.loop_exit_names
