"""Writes a Model as a reusable TF2 SavedModel.

The layout is that of tensorflow/python/saved_model/save.py: one MetaGraphDef with an object graph,
functions, and a plain graph for loaders that know no objects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import UnsupportedError
from bridge.layout import ATTACHMENTS
from bridge.model import DEFAULT, Model, Tags, Variant
from bridge.proto import MAX_MESSAGE_BYTES, hub_pb, tf_pb
from bridge.report import Report
from bridge.saved_model.accounting import Facts, count, report_callable
from bridge.saved_model.bodies import Body
from bridge.saved_model.callables import Modes, add_callable, add_serving_signature, build_modes
from bridge.saved_model.files import write_files
from bridge.saved_model.interfaces import RESERVED, Interface, attribute_name, plan_interfaces
from bridge.saved_model.losses import add_losses, report_other_losses
from bridge.saved_model.names import SERVING_DEFAULT
from bridge.saved_model.objects import ROOT
from bridge.saved_model.record import RECORD, write_record
from bridge.saved_model.serving import INIT_OP, ServingGraph, ops_used
from bridge.saved_model.state import build_state

MAIN_OP = "saved_model_main_op"
SERVE = "serve"

_RESERVED_SIGNATURES = frozenset({INIT_OP, "__saved_model_train_op"})


@dataclass(frozen=True)
class WriteOptions:
    """How to write a SavedModel.

    Attributes:
      root: tags of the variant that answers for the root, where the module has none without tags.
      link: hard-link data shards instead of copying them.
      progress: called with the number of checkpoint bytes done so far.
    """

    root: Tags | None = None
    link: bool = False
    progress: Callable[[int], None] | None = None


class SavedModelWriter:
    """Builds a SavedModel in memory, without its variables; `write` puts it on disk."""

    def __init__(self, model: Model, options: WriteOptions, report: Report):
        """Builds everything but the files.

        Args:
          model: the model; to_saved_model_passes must have run.
          options: how to write it.
          report: told what is kept, and what is not.

        Raises:
          UsageError: `options.root` can't be the root.
          UnsupportedError: the model has no form as a SavedModel.
        """
        self._model = model
        self._options = options
        self._report = report
        self._facts = Facts()
        self._state = build_state(model, report)
        self._functions: dict[tuple[str, ...], int] = {}
        self._served: dict[str, Body] = {}
        self._interfaces = plan_interfaces(model, options.root, report)
        for interface in self._interfaces:
            self._add_interface(interface)
        if self._interfaces[0].name:
            self._add_lists(ROOT, list(model.variants.values()), None)
        self._saved_model = self._build_saved_model()
        count(model, self._state, self._facts, report)

    # -- objects -------------------------------------------------------------------------------

    def _add_interface(self, interface: Interface) -> None:
        objects = self._state.objects
        if interface.name:
            parent = objects.add_object()
            objects.link(ROOT, interface.name, parent)
            variants, taken = interface.variants, RESERVED
        else:
            parent = ROOT
            variants = list(self._model.variants.values())
            taken = RESERVED.union(other.name for other in self._interfaces)
        self._add_lists(parent, variants, interface.modes[True])
        for other in interface.variants:
            if other is not interface.modes[True]:
                report_other_losses(other, interface.modes[True], self._state, self._report)
        for signature in interface.signatures():
            modes = build_modes(interface, signature, self._state)
            self._facts.add_modes(modes)
            function = self._add_function(modes)
            if signature == DEFAULT:
                objects.link(parent, "__call__", function)
            name = attribute_name(signature, taken, self._report)
            taken |= {name}
            objects.link(parent, name, function)
            shown = "__call__" if signature == DEFAULT else name
            report_callable(interface, shown, signature, modes, self._report)
            self._serve(interface, signature, modes)

    def _add_function(self, modes: Modes) -> int:
        """Adds a callable, or finds that of a signature with the same functions."""
        key: list[str] = []
        for training, mode in sorted(modes.items()):
            key += [str(training), mode.body.name, *mode.body.inputs, "->", *mode.body.outputs]
        if tuple(key) not in self._functions:
            self._functions[tuple(key)] = add_callable(modes, self._state)
        return self._functions[tuple(key)]

    def _add_lists(self, parent: int, variants: list[Variant], trained: Variant | None) -> None:
        """Adds `variables`, `trainable_variables`, `regularization_losses` and tracked state.

        `model_variables` is no part of a reusable SavedModel's interface; it keeps a collection.
        """
        state, objects = self._state, self._state.objects
        whole = len(variants) == len(self._model.variants)
        tags = {variant.tags for variant in variants}
        names = [
            variable.name
            for variable in self._model.variables.values()
            if whole or variable.variants & tags
        ]
        trainable = {name for variant in variants for name in variant.trainable_variables}
        model_variables = {name for variant in variants for name in variant.model_variables}
        lists = {
            "variables": [state.variables[name] for name in names],
            "trainable_variables": [state.variables[name] for name in names if name in trainable],
            "regularization_losses": add_losses(trained, state) if trained else [],
        }
        if trained:
            self._facts.losses[trained.label] = trained
        if model_variables:
            lists["model_variables"] = [
                state.variables[name] for name in names if name in model_variables
            ]
        # What functions refer to must be reachable, or TensorFlow can't save the object again.
        if state.tables:
            lists["_tables"] = [table.captured.number for table in state.tables.values()]
        if state.assets:
            lists["_assets"] = list(state.assets.values())
        for name, items in lists.items():
            objects.link(parent, name, objects.add_list(items))

    # -- serving -------------------------------------------------------------------------------

    def _serve(self, interface: Interface, signature: str, modes: Modes) -> None:
        if interface.serving_prefix is None:
            return
        name = interface.serving_prefix + signature
        if False not in modes:
            self._report.drop(
                "serving_signature",
                name,
                f"only variant {modes[True].variant.label} has it, which is for training; it is "
                "a callable",
            )
            return
        if name in _RESERVED_SIGNATURES:
            raise UnsupportedError(
                f"the signature name {name!r} is TensorFlow's own",
                where=modes[False].variant.graph.where,
            )
        self._served[name] = modes[False].body

    def _served_names(self) -> dict[str, Body]:
        served = dict(sorted(self._served.items()))
        if DEFAULT in served and SERVING_DEFAULT not in served:
            served[SERVING_DEFAULT] = served[DEFAULT]
        elif DEFAULT in served and served[DEFAULT].name != served[SERVING_DEFAULT].name:
            self._report.remark(
                "serving_signature",
                SERVING_DEFAULT,
                "the module has a signature of this name, so it is not the same as `default`",
            )
        return served

    def _add_signature_map(self, served: dict[str, Body]) -> None:
        objects = self._state.objects
        signature_map = objects.add_object("signature_map")
        functions: dict[tuple[str, ...], int] = {}
        for name, body in served.items():
            key = (body.name, *body.inputs, "->", *body.outputs)
            if key not in functions:
                functions[key] = add_serving_signature(body, self._state, self._report)
            objects.link(signature_map, name, functions[key])
        objects.link(ROOT, "signatures", signature_map)

    # -- the message ---------------------------------------------------------------------------

    def _build_saved_model(self) -> tf_pb.SavedModel:
        state, model = self._state, self._model
        served = self._served_names()
        self._report.serving_signatures = list(served)
        self._add_signature_map(served)
        serving = ServingGraph(model, state)
        for name, body in served.items():
            serving.add_signature(name, body)
        init_op = serving.finish()
        functions = list(state.library.functions.values())
        # Built in place: every message that is put into another is copied.
        saved_model = tf_pb.SavedModel(saved_model_schema_version=1)
        meta_graph = saved_model.meta_graphs.add(
            saver_def=serving.saver_def,
            signature_def=serving.signatures,
            asset_file_def=serving.assets,
        )
        meta_graph.graph_def.node.extend(serving.graph.nodes.values())
        meta_graph.graph_def.versions.CopyFrom(model.versions)
        meta_graph.graph_def.library.function.extend(functions)
        meta_graph.graph_def.library.gradient.extend(state.library.gradients.values())
        meta_graph.object_graph_def.nodes.extend(state.objects.nodes)
        for name, function in sorted(state.concrete.items()):
            meta_graph.object_graph_def.concrete_functions[name].CopyFrom(function)
        info = meta_graph.meta_info_def
        info.tags.append(SERVE)
        info.tensorflow_version = model.producer
        info.stripped_default_attrs = True
        info.stripped_op_list.op.extend(self._op_defs(ops_used(serving.graph.nodes, functions)))
        meta_graph.collection_def[MAIN_OP].node_list.value.append(init_op)
        self._add_attachments(meta_graph)
        self._add_record(meta_graph)
        if saved_model.ByteSize() > MAX_MESSAGE_BYTES:
            raise UnsupportedError(
                f"the SavedModel's graph would take {saved_model.ByteSize()} bytes, and protobuf "
                f"holds {MAX_MESSAGE_BYTES}: the module has large constants in its graph",
                hint="export the module again with variables instead of constants",
            )
        return saved_model

    def _op_defs(self, ops: set[str]) -> list[tf_pb.OpDef]:
        """Returns the definitions of ops, those of custom ops from the variant that has them."""
        tables = [variant.graph.ops for variant in self._model.variants.values()]
        found = (next(filter(None, (t.get(op) for t in tables)), None) for op in sorted(ops))
        return [definition for definition in found if definition is not None]

    def _add_attachments(self, meta_graph: tf_pb.MetaGraphDef) -> None:
        """Keeps the attachments, those of a variant that has other ones under its own name.

        The main variant, whose attachments have the collection of the old format, is the one that
        answers for inference.
        """
        main = self._interfaces[0].modes[False]
        names = {i.modes[True].label: i.name or "_".join(sorted(i.modes[True].tags))
                 for i in self._interfaces}  # fmt: skip
        for variant in self._model.variants.values():
            key = ATTACHMENTS
            if variant is not main:
                if variant.attachments == main.attachments:
                    continue
                key = f"{ATTACHMENTS}/{names[variant.label]}"
            elif not variant.attachments:
                continue
            values = meta_graph.collection_def[key].bytes_list
            values.SetInParent()  # an empty list says that the variant has none
            for name, value in variant.attachments.items():
                attachment = hub_pb.ModuleAttachment(key=name, value=value)
                values.value.append(attachment.SerializeToString(deterministic=True))

    def _add_record(self, meta_graph: tf_pb.MetaGraphDef) -> None:
        """Adds what leads back to the module."""
        values = meta_graph.collection_def[RECORD].bytes_list.value
        for variant in self._model.variants.values():
            bodies = {
                body.name: body
                for (label, *_), (body, _) in self._state.bodies.items()
                if label == variant.label
            }
            values.append(write_record(variant, self._model, bodies.values(), self._state))

    def write(self, directory: Path) -> None:
        """Writes the SavedModel into an existing, empty directory.

        Raises:
          MalformedError: the bytes of a variable do not match their checksum.
          SourceNotFoundError: a file of the source can't be read.
          OSError: a file can't be written.
        """
        write_files(
            directory,
            self._saved_model,
            self._state.objects.checkpoint_graph(),
            self._model,
            link=self._options.link,
            progress=self._options.progress,
        )
