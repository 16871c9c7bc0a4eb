"""What needed tf.estimator, which TensorFlow 2.16 removed: names that say what to use instead."""

from __future__ import annotations

from typing import Any, NoReturn

from bridge.errors import UnsupportedError


class NoEstimatorError(UnsupportedError, NotImplementedError):
    """The call works for Estimators only, and there are none any more."""


class LatestModuleExporter:
    """Exported modules from the graph of an Estimator; can't be made any more."""

    def __init__(self, name: str, serving_input_fn: Any, exports_to_keep: int | None = 5):
        """Refuses.

        Raises:
          UnsupportedError: always. The error is a NotImplementedError too.
        """
        del name, serving_input_fn, exports_to_keep
        _refuse("LatestModuleExporter")


def register_module_for_export(module: Any, export_name: str) -> NoReturn:
    """Refuses: nothing would export the module.

    Raises:
      UnsupportedError: always. The error is a NotImplementedError too.
    """
    del module, export_name
    _refuse("register_module_for_export")


def _refuse(name: str) -> NoReturn:
    raise NoEstimatorError(
        f"hub.{name} works for tf.estimator, which TensorFlow 2.16 removed",
        hint="export where the training loop saves: module.export(path, session) in a graph, "
        "module.export(path) without one; or afterwards, from a checkpoint: spec.export(path, "
        "checkpoint_path=model_dir, name_transform_fn=lambda name: 'module/' + name)",
    )
