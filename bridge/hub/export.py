"""Writes a module to disk."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from bridge.convert import staging_directory
from bridge.errors import HubBridgeError
from bridge.hub.as_model import SpecSource
from bridge.hub.checkpoint import copy_values, initial_values
from bridge.hub.errors import ArgumentValueError, OccupiedError, of_old_type
from bridge.hub.python_ops import RefusePython
from bridge.hub.reference_variables import HideReferences, ReferenceWriter
from bridge.hub.spec import ModuleSpec
from bridge.hub.v1_contexts import DropInitializers, KeepContexts, add_contexts
from bridge.hub_module import HubModuleWriter, HubWriteOptions
from bridge.layout import VARIABLES
from bridge.model import Model
from bridge.opsets.release import Release, load_release
from bridge.passes import Pass, run_passes
from bridge.passes.check_release import CheckRelease
from bridge.report import Report

_RELEASE = "1.15"
"""The last release that has hub.Module; modules are written for it."""

_UNTOLD = frozenset({"attachment", "checkpoint_entry"})
"""What is left out by right: messages that others took the place of, and foreign variables."""

_Path = str | os.PathLike[str]


def export_spec(
    spec: ModuleSpec,
    path: _Path,
    checkpoint_path: _Path | None,
    name_transform_fn: Callable[[str], str] | None,
) -> None:
    """Does what `ModuleSpec.export` says."""
    if checkpoint_path is None:
        if name_transform_fn is not None:
            raise ArgumentValueError("name_transform_fn goes with a checkpoint_path")
        checkpoint_path = spec._checkpoint
    if checkpoint_path is None:
        write_module(spec, path, lambda prefix: initial_values(spec, prefix))
    else:
        given = checkpoint_path
        write_module(spec, path, lambda prefix: copy_values(spec, given, name_transform_fn, prefix))


def write_module(spec: ModuleSpec, path: _Path, save_variables: Callable[[str], object]) -> None:
    """Writes a module, as TensorFlow 1.15 reads it.

    Args:
      spec: the module.
      path: directory to make. An empty one may be there.
      save_variables: writes the values of the variables to a checkpoint of the prefix that it is
        given. It is not called if the module has no variables.

    Raises:
      HubBridgeError: the module can't be written; the error is of the old library's types too.
    """
    try:
        destination = _destination(path)
        with tempfile.TemporaryDirectory(prefix="hubbridge-") as folder:
            report = Report(spec._directory or "module_fn", os.fspath(destination), "export")
            source = SpecSource(spec, report)
            prefix = Path(folder, VARIABLES)
            if any(one.declared for one in source.variants.values()):
                save_variables(str(prefix))
            model = source.model(prefix)
            writer = _fitted(model, source, report)
            with staging_directory(destination, False, Path(folder)) as staging:
                writer.write(staging)
        _warn(report)
    except HubBridgeError as error:
        raise of_old_type(error) from error


def _warn(report: Report) -> None:
    """Says what the module can't do that the spec could."""
    for note in report.not_kept:
        if note.kind not in _UNTOLD:
            warnings.warn(
                f"{report.destination}, variant {note.variant}: {note.kind} {note.name!r} is left "
                f"out: {note.reason}",
                stacklevel=4,
            )


def _fitted(model: Model, source: SpecSource, report: Report) -> HubModuleWriter:
    """Makes the model one for the old release."""
    release = load_release(_RELEASE)
    for tags, variant in model.variants.items():
        add_contexts(variant, source.meta_graphs[tags])
    references = HideReferences(release)
    passes = (*_passes(model, release), references, CheckRelease(release))
    run_passes(model, passes, report)
    model.versions = release.versions()
    return ReferenceWriter(model, HubWriteOptions(release, link=True), report, references)


def _passes(model: Model, release: Release) -> tuple[Pass, ...]:
    """Returns what a graph of today's TensorFlow needs to be one for the release, in order.

    They are those of `to-hub-module`, but for what TF2 models do otherwise: the conventions of
    image modules, and forward passes that change state.
    """
    from bridge.passes.batch_norm_average import BatchNormAverage
    from bridge.passes.batch_norm_layout import BatchNormLayout
    from bridge.passes.custom_gradients import CustomGradients
    from bridge.passes.dilated_convolution import DilatedConvolution
    from bridge.passes.einsum import Einsum
    from bridge.passes.explicit_padding import ExplicitPadding
    from bridge.passes.fit_attrs import FitAttrs
    from bridge.passes.grouped_convolution import GroupedConvolution
    from bridge.passes.inline_calls import InlineCalls
    from bridge.passes.lower_control_flow import LowerControlFlow
    from bridge.passes.older_ops import OlderOps

    contexts = KeepContexts()
    return (
        DropInitializers(),
        RefusePython(),
        contexts,
        InlineCalls(),
        CustomGradients(),
        *_random_passes(model),
        DropInitializers(),
        Einsum(),
        GroupedConvolution(),
        DilatedConvolution(),
        ExplicitPadding(),
        BatchNormAverage(),
        BatchNormLayout(),
        OlderOps(),
        contexts,
        DropInitializers(),
        LowerControlFlow(),
        FitAttrs(release),
    )


def _random_passes(model: Model) -> tuple[Pass, ...]:
    """Returns what replaces random ops that the release lacks; most modules have none.

    Merging equal nodes, which the replacement asks for, would else do nothing but rename nodes.
    """
    from bridge.passes._draws import REWRITTEN
    from bridge.passes.merge_equal import MergeEqual
    from bridge.passes.random_ops import RandomOps

    nodes = (node for variant in model.variants.values() for node in variant.graph.all_nodes())
    if any(node.op in REWRITTEN for node in nodes):
        return MergeEqual(), RandomOps()
    return ()


def _destination(path: _Path) -> Path:
    text = os.fsdecode(path)
    if not text or "\0" in text:
        raise ArgumentValueError(f"the module can't be written to {text!r}, which is no path")
    if "://" in text:
        raise ArgumentValueError(
            f"{text} lies on no local disk", hint="export to a local directory, and copy that"
        )
    destination = Path(text)
    if os.path.lexists(destination):
        if not destination.is_dir():
            raise OccupiedError(f"{destination} exists and is no directory")
        if any(destination.iterdir()):
            raise OccupiedError(
                f"{destination} exists and is not empty",
                hint="give another path, or remove the directory yourself",
            )
    return destination
