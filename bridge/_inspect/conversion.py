"""Tries the conversion that fits a model, without writing anything."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from bridge._inspect.results import TF2_SAVED_MODEL, ConversionInfo, Obstacle
from bridge.convert import ToHubModuleOptions, ToSavedModelOptions, to_hub_module, to_saved_model
from bridge.errors import HubBridgeError
from bridge.opsets import CURRENT, load_opset
from bridge.opsets.safety import danger
from bridge.report import Report

_TO_HUB_MODULE = "to-hub-module"
_TO_SAVED_MODEL = "to-saved-model"


def try_conversion(directory: Path, format: str, ops: Iterable[str]) -> ConversionInfo:
    """Runs the conversion with default options as a dry run.

    What stops it at an op that is unsafe or unknown is not all that there is: it runs once more
    with these allowed, to see what comes then.

    Args:
      directory: the model.
      format: what it is.
      ops: its ops.
    """
    directory = directory.resolve()
    direction = _TO_HUB_MODULE if format == TF2_SAVED_MODEL else _TO_SAVED_MODEL
    try:
        report = _run(direction, directory)
    except HubBridgeError as error:
        obstacles = [_obstacle(error, directory)]
        if refused := frozenset(filter(_is_refused, ops)):
            try:
                _run(direction, directory, refused)
            except HubBridgeError as further:
                obstacles.append(_obstacle(further, directory))
        return ConversionInfo(direction, False, list(dict.fromkeys(obstacles)), None, [], [])
    return ConversionInfo(direction, True, [], report.kept, report.not_kept, report.remarks)


def _run(direction: str, directory: Path, allowed: frozenset[str] = frozenset()) -> Report:
    dest = directory.with_name(f".hubbridge-{os.urandom(8).hex()}")  # nothing is written to it
    if direction == _TO_HUB_MODULE:
        to_module = ToHubModuleOptions(dry_run=True, verify=False, allow_ops=allowed)
        return to_hub_module(directory, dest, to_module)
    options = ToSavedModelOptions(dry_run=True, verify=False, allow_ops=allowed)
    return to_saved_model(directory, dest, options)


def _is_refused(op: str) -> bool:
    op_def = load_opset(CURRENT).get(op)
    return op_def is None or danger(op_def) is not None


def _obstacle(error: HubBridgeError, directory: Path) -> Obstacle:
    where = error.where
    return Obstacle(
        kind=type(error).__name__,
        message=error.message,
        file=None if where.path is None else _inside(Path(where.path), directory),
        variant=where.variant,
        signature=where.signature,
        node=where.node,
        hint=error.hint,
    )


def _inside(path: Path, directory: Path) -> str | None:
    """Returns a path from the model's directory on, which may be unpacked somewhere."""
    if path == directory:
        return None
    return str(path.relative_to(directory)) if path.is_relative_to(directory) else str(path)
