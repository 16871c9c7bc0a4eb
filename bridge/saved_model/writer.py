"""Writes a Model as a reusable TF2 SavedModel.

The layout is that of tensorflow/python/saved_model/save.py: `saved_model.pb` with one MetaGraphDef,
a checkpoint below `variables/`, and asset files.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bridge.bundle import StringTensor, TensorSource, write_bundle
from bridge.errors import UnsupportedError
from bridge.graph import parse_tensor
from bridge.model import Component, Encoding, Endpoint, Model, Tags, Variant
from bridge.proto import hub_pb, tf_pb
from bridge.report import Report
from bridge.saved_model.bodies import Body, build_body
from bridge.saved_model.callables import (
    RESERVED,
    Mode,
    add_callable,
    add_serving_function,
    build_modes,
    report_callable,
)
from bridge.saved_model.interfaces import DEFAULT, Interface, plan_interfaces, subobject_name
from bridge.saved_model.objects import OBJECT_GRAPH_KEY, ROOT, checkpoint_key
from bridge.saved_model.serving import INIT_OP, SERVING_DEFAULT, ServingGraph, ops_used
from bridge.saved_model.state import build_state
from bridge.saved_model.structured_value import component_name, tensor_spec

ATTACHMENTS = "hub_module_attachments"
MAIN_OP = "saved_model_main_op"
SERVE = "serve"

# protobuf itself reads no message over 2 GiB.
MAX_PROTO_BYTES = (2 << 30) - 1

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
    """Builds the MetaGraphDef of a model; `write` puts it on disk."""

    def __init__(self, model: Model, options: WriteOptions, report: Report):
        """Builds everything but the files.

        Args:
          model: the model; to_saved_model_passes must have run.
          options: how to write it.
          report: told what is kept, and what is not.
        """
        self._model = model
        self._options = options
        self._report = report
        self._state = build_state(model, report)
        self._modes: dict[tuple[str, ...], tuple[dict[bool, Mode], int]] = {}
        self._served: dict[str, Body] = {}
        interfaces = plan_interfaces(model, options.root, report)
        for interface in interfaces:
            self._add_interface(interface)
        if interfaces[0].name:
            self._add_lists(ROOT, list(model.variants.values()), None)
        self._report_update_ops(interfaces)
        self.meta_graph = self._build_meta_graph()
        self._count()

    # -- objects -------------------------------------------------------------------------------

    def _add_interface(self, interface: Interface) -> None:
        objects = self._state.objects
        parent = objects.add_object() if interface.name else ROOT
        variants = interface.variants if interface.name else list(self._model.variants.values())
        self._add_lists(parent, variants, interface.modes[True])
        for signature in interface.signatures():
            modes = build_modes(interface, signature, self._state)
            function = self._function(modes)
            if signature == DEFAULT:
                objects.link(parent, "__call__", function)
            name = self._attribute(parent, signature, interface)
            objects.link(parent, name, function)
            shown = "__call__" if signature == DEFAULT else name
            report_callable(interface, shown, signature, modes, self._report)
            self._serve(interface, signature, modes)
        if interface.name:
            objects.link(ROOT, self._attribute(ROOT, interface.name, interface), parent)

    def _function(self, modes: dict[bool, Mode]) -> int:
        """Adds a callable, or finds that of a signature with the same functions."""
        key = tuple(f"{training}:{mode.body.name}" for training, mode in sorted(modes.items()))
        inputs = next(iter(modes.values())).body.inputs
        key = (*key, *inputs, "->", *(k for m in modes.values() for k in m.body.outputs))
        if key not in self._modes:
            self._modes[key] = (modes, add_callable(modes, self._state))
        return self._modes[key][1]

    def _attribute(self, parent: int, wanted: str, interface: Interface) -> str:
        """Returns the attribute name that a signature or subobject gets."""
        taken = RESERVED | self._state.objects.children(parent)
        name = wanted
        while name in taken or name.startswith("_"):
            name = f"{name.lstrip('_')}_"
        if name != wanted:
            self._report.remark(
                "name",
                wanted,
                f"as an attribute it is called {name!r}, for {wanted!r} has a meaning of its own",
            )
        del interface
        return name

    def _add_lists(self, parent: int, variants: list[Variant], trained: Variant | None) -> None:
        """Adds `variables`, `trainable_variables`, `regularization_losses` and tracked state.

        `model_variables` is no part of a reusable SavedModel's interface; it keeps a collection.
        """
        state, objects = self._state, self._state.objects
        whole = len(variants) == len(self._model.variants)
        tags = {variant.tags for variant in variants}
        variables = [
            variable
            for variable in self._model.variables.values()
            if whole or variable.variants & tags
        ]
        trainable = {name for variant in variants for name in variant.trainable_variables}
        inference = {name for variant in variants for name in variant.model_variables}
        lists = {
            "variables": [state.variables[v.name] for v in variables],
            "trainable_variables": [
                state.variables[v.name] for v in variables if v.name in trainable
            ],
            "regularization_losses": self._losses(trained, variants) if trained else [],
        }
        if inference:
            lists["model_variables"] = [
                state.variables[v.name] for v in variables if v.name in inference
            ]
        if state.tables:
            lists["_tables"] = [table.captured.number for table in state.tables.values()]
        if state.assets:
            lists["_assets"] = list(state.assets.values())
        for name, items in lists.items():
            objects.link(parent, name, objects.add_list(items))

    def _losses(self, trained: Variant, variants: list[Variant]) -> list[int]:
        """Adds the regularization losses of the variant that training uses."""
        result = []
        for name in trained.regularization_losses:
            graph = trained.graph
            dtype = graph.output(parse_tensor(name)).dtype
            component = Component(name, dtype, ())
            loss = Endpoint(Encoding.DENSE, dtype, (), (component,))
            body = build_body(
                self._state.variants[trained.label],
                self._state.library,
                "regularization_loss",
                {},
                {"loss": loss},
                share=False,
            )
            spec = tensor_spec("loss", dtype, ())
            result.append(
                self._state.add_function_without_arguments(body.name, body.captures, spec)
            )
        for variant in variants:
            for name in variant.regularization_losses:
                own_object = variant is not trained and self._has_own_object(variant)
                if name not in trained.regularization_losses and not own_object:
                    self._report.drop(
                        "regularization_loss",
                        name,
                        f"training uses variant {trained.label}, which does not have it",
                        variant.graph.at(parse_tensor(name).node),
                    )
        return result

    def _has_own_object(self, variant: Variant) -> bool:
        children = self._state.objects.children(ROOT)
        return subobject_name(variant.tags) in children or bool(variant.tags - {"train"})

    # -- serving -------------------------------------------------------------------------------

    def _serve(self, interface: Interface, signature: str, modes: dict[bool, Mode]) -> None:
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
        if DEFAULT in served and SERVING_DEFAULT in served:
            if served[DEFAULT].name != served[SERVING_DEFAULT].name:
                self._report.remark(
                    "serving_signature",
                    SERVING_DEFAULT,
                    "the module has a signature of this name, so it is not the same as `default`",
                )
        elif DEFAULT in served:
            served[SERVING_DEFAULT] = served[DEFAULT]
        return served

    def _add_signature_map(self, served: dict[str, Body]) -> None:
        objects = self._state.objects
        signature_map = objects.add_object("signature_map")
        functions: dict[tuple[str, ...], int] = {}
        for name, body in served.items():
            key = (body.name, *body.inputs, "->", *body.outputs)
            if key not in functions:
                keywords = [
                    component_name(input_key, endpoint, component)
                    for input_key, endpoint in body.inputs.items()
                    for component in endpoint.components
                ]
                concrete = add_serving_function(body, self._state)
                functions[key] = objects.add_signature(concrete, keywords)
            objects.link(signature_map, name, functions[key])
        objects.link(ROOT, "signatures", signature_map)

    # -- the MetaGraphDef ----------------------------------------------------------------------

    def _build_meta_graph(self) -> tf_pb.MetaGraphDef:
        state, model = self._state, self._model
        served = self._served_names()
        self._add_signature_map(served)
        serving = ServingGraph(model, state)
        for name, body in served.items():
            serving.add_signature(name, body)
        init_op = serving.finish()
        functions = list(state.library.functions.values())
        meta_graph = tf_pb.MetaGraphDef(
            graph_def=tf_pb.GraphDef(
                node=serving.graph.nodes.values(),
                versions=model.versions,
                library=tf_pb.FunctionDefLibrary(
                    function=functions, gradient=state.library.gradients.values()
                ),
            ),
            saver_def=serving.saver_def,
            signature_def=serving.signatures,
            asset_file_def=serving.assets,
            object_graph_def=tf_pb.SavedObjectGraph(
                nodes=state.objects.nodes, concrete_functions=state.concrete
            ),
        )
        info = meta_graph.meta_info_def
        info.tags.append(SERVE)
        info.tensorflow_version = model.producer
        info.stripped_default_attrs = True
        ops = next(iter(model.variants.values())).graph.ops
        for op in sorted(ops_used(serving.graph.nodes, functions)):
            definition = ops.get(op)
            if definition is not None:
                info.stripped_op_list.op.append(definition)
        meta_graph.collection_def[MAIN_OP].node_list.value.append(init_op)
        self._add_attachments(meta_graph)
        self._report.serving_signatures = list(served)
        return meta_graph

    def _add_attachments(self, meta_graph: tf_pb.MetaGraphDef) -> None:
        """Keeps the attachments, those of a variant that has other ones under its own name."""
        variants = sorted(self._model.variants.values(), key=lambda v: sorted(v.tags))
        main = variants[0].attachments
        for variant in variants:
            if variant.attachments == main and variant is not variants[0]:
                continue
            key = ATTACHMENTS
            if variant is not variants[0]:
                key = f"{ATTACHMENTS}/{subobject_name(variant.tags)}"
            for name, value in variant.attachments.items():
                attachment = hub_pb.ModuleAttachment(key=name, value=value)
                meta_graph.collection_def[key].bytes_list.value.append(
                    attachment.SerializeToString(deterministic=True)
                )

    # -- the report ----------------------------------------------------------------------------

    def _report_update_ops(self, interfaces: list[Interface]) -> None:
        run: dict[str, set[str]] = {}
        for modes, _ in self._modes.values():
            for mode in modes.values():
                run.setdefault(mode.variant.label, set()).update(mode.update_ops)
        del interfaces
        for variant in self._model.variants.values():
            for name in variant.update_ops:
                if name in run.get(variant.label, ()):
                    continue
                self._report.drop(
                    "update_op",
                    name,
                    "it depends on the inputs of no signature that training=True runs, so no call "
                    "runs it",
                    variant.graph.at(variant.update_ops[name]),
                )

    def _count(self) -> None:
        kept, model = self._report.kept, self._model
        kept.variants = len(model.variants)
        kept.signatures = sum(len(variant.signatures) for variant in model.variants.values())
        kept.variables = len(model.variables)
        kept.variable_bytes = sum(v.data.size for v in model.variables.values())
        kept.trainable_variables = sum(v.trainable for v in model.variables.values())
        kept.reference_variables = sum(v.was_ref for v in model.variables.values())
        kept.partitioned_variables = len(
            {v.save_slice.full_name for v in model.variables.values() if v.save_slice}
        )
        kept.update_ops = len(
            {
                (mode.variant.label, name)
                for modes, _ in self._modes.values()
                for mode in modes.values()
                for name in mode.update_ops
            }
        )
        kept.regularization_losses = sum(
            name.startswith("__inference_regularization_loss_") for name in self._state.concrete
        )
        kept.tables = len(self._state.tables)
        kept.assets = len(model.assets)
        kept.asset_bytes = sum(asset.size for asset in model.assets.values())
        kept.attachments = sum(len(v.attachments) for v in model.variants.values())
        kept.functions = len(self._state.library.functions)

    # -- files ---------------------------------------------------------------------------------

    def write(self, directory: Path) -> None:
        """Writes the SavedModel.

        Args:
          directory: an existing, empty directory.

        Raises:
          MalformedError: the bytes of a variable do not match their checksum.
        """
        saved_model = tf_pb.SavedModel(saved_model_schema_version=1, meta_graphs=[self.meta_graph])
        if saved_model.ByteSize() > MAX_PROTO_BYTES:
            raise UnsupportedError(
                f"the SavedModel's graph would take {saved_model.ByteSize()} bytes, and protobuf "
                f"holds {MAX_PROTO_BYTES}: the module has large constants in its graph",
                where=next(iter(self._model.variants.values())).graph.where,
                hint="export the module again with variables instead of constants",
            )
        (directory / "saved_model.pb").write_bytes(
            saved_model.SerializeToString(deterministic=True)
        )
        variables = directory / "variables"
        variables.mkdir()
        write_bundle(
            variables,
            "variables",
            self._model.shards,
            {
                checkpoint_key(v.name): TensorSource(v.dtype, v.shape, v.data)
                for v in self._model.variables.values()
            },
            {OBJECT_GRAPH_KEY: StringTensor((self._state.objects.checkpoint_graph(),))},
            link=self._options.link,
            progress=self._options.progress,
        )
        assets = directory / "assets"
        assets.mkdir()
        for asset in self._model.assets.values():
            target = assets / asset.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(asset.source, target)
        extra = self._model.source / "assets.extra"
        if extra.is_dir():
            shutil.copytree(extra, directory / "assets.extra")
