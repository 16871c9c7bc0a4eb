"""One graph variant of a module as a SavedModel that TensorFlow 2 loads.

It is what `bridge.to_saved_model` makes, of one variant alone: so the root answers for this variant
whatever its tags are, `training=False` runs its graph and `training=True` its update ops too.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bridge.errors import HubBridgeError
from bridge.hub._tf import tf
from bridge.hub.as_model import SpecSource
from bridge.hub.errors import of_old_type
from bridge.hub.graph_module import GraphModule
from bridge.hub.spec import ModuleSpec
from bridge.layout import VARIABLES
from bridge.model import DEFAULT, INFERENCE, Model, SaveSlice, Tags, format_tags
from bridge.passes import run_passes, to_saved_model_passes
from bridge.report import Report
from bridge.saved_model import SavedModelWriter, WriteOptions
from bridge.saved_model.interfaces import RESERVED, attribute_name

_TOLD = frozenset({"custom_gradient", "regularization_loss", "update_op"})
"""What a conversion may leave out and training would miss; the rest concerns files only."""

_Key = tuple[object, ...]


@dataclass(frozen=True)
class Converted:
    """A converted variant.

    Attributes:
      directory: the SavedModel.
      variables: name, and place in a partitioned variable, of each of its `variables`, in order.
      callables: the attribute that each signature is called by.
    """

    directory: Path
    variables: tuple[tuple[str, SaveSlice | None], ...]
    callables: dict[str, str]


class _Workspace:
    """A directory for what this process makes, which goes when the process ends."""

    def __init__(self) -> None:
        self.directory: Path | None = None
        self._owner = 0

    def new_directory(self) -> Path:
        """Returns a new, empty directory."""
        if self.directory is None:
            self.directory = Path(tempfile.mkdtemp(prefix="hubbridge-"))
            self._owner = os.getpid()
            atexit.register(self._remove)
        return Path(tempfile.mkdtemp(dir=self.directory))

    def _remove(self) -> None:
        # A forked process inherits the handler, and must leave its parent's files alone.
        if self.directory is not None and self._owner == os.getpid():
            shutil.rmtree(self.directory, ignore_errors=True)


_workspace = _Workspace()
_converted: dict[_Key, Converted] = {}


def convert(spec: ModuleSpec, tags: Tags, *, trainable: bool) -> Converted:
    """Converts a variant, once in a process for each state of a module on disk.

    A module that is on no disk, because `create_module_spec` made it, is converted anew each time:
    each instance draws its own initial values, as in a graph.

    Args:
      spec: the module.
      tags: tags of the variant.
      trainable: whether the variables are trained, losses given and update ops run.

    Raises:
      ValueError: the module is malformed, unsafe, or needs what TensorFlow 2 can't do. The error
        is one of `bridge.errors` too.
    """
    if spec._directory is None:
        return _convert(spec, tags, trainable)
    directory = Path(spec._directory)
    graph = spec._meta_graph(tags).SerializeToString(deterministic=True)
    key = (hashlib.sha256(graph).digest(), tags, trainable, *_state(directory))
    if key not in _converted:
        _converted[key] = _convert(spec, tags, trainable)
    return _converted[key]


def _state(directory: Path) -> list[object]:
    """Returns what changes when somebody writes other variables or assets to a directory."""
    return [
        (path.absolute(), status.st_size, status.st_mtime_ns, status.st_ino)
        for path in sorted(directory.rglob("*"))
        for status in [path.stat()]
    ]


def _convert(spec: ModuleSpec, tags: Tags, trainable: bool) -> Converted:
    report = Report(spec._directory or "module_fn", None, "to-saved-model")
    target = _workspace.new_directory()
    try:
        with _model(spec, tags, report) as model:
            if not trainable:
                _freeze(model)
            run_passes(model, to_saved_model_passes(), report)
            _call_it_inference(model, tags)
            writer = SavedModelWriter(model, WriteOptions(link=True), report)
            writer.write(target)
    except BaseException as error:
        shutil.rmtree(target, ignore_errors=True)
        if not isinstance(error, HubBridgeError):
            raise
        if error.hint and "--allow-op" in error.hint:  # an option that a program can't give
            error.hint += " to `hubbridge to-saved-model`, and load what it makes"
        raise of_old_type(error) from error
    _warn(report, tags)
    return Converted(
        target,
        tuple((variable.name, variable.save_slice) for variable in model.variables.values()),
        _callables(model),
    )


@contextlib.contextmanager
def _model(spec: ModuleSpec, tags: Tags, report: Report) -> Iterator[Model]:
    """Yields a model of one variant, while its files are there."""
    source = SpecSource(spec, report)
    source.variants = {tags: source.variants[tags]}
    with tempfile.TemporaryDirectory(prefix="hubbridge-") as folder:
        checkpoint = Path(spec._checkpoint or Path(folder, VARIABLES))
        if spec._directory is None and spec._checkpoint is None:
            _save_initial_values(spec, tags, checkpoint)
        yield source.model(checkpoint)


def _save_initial_values(spec: ModuleSpec, tags: Tags, checkpoint: Path) -> None:
    """Writes what the initializers of a created module give."""
    v1 = tf.compat.v1
    with tf.Graph().as_default():
        variables = GraphModule(spec, False, "module", tags).variable_map
        if not variables:
            return
        saver = v1.train.Saver(variables)
        initialize = [v1.tables_initializer(), v1.global_variables_initializer()]
        with v1.Session() as session:
            for step in initialize:
                session.run(step)
            saver.save(session, str(checkpoint), write_meta_graph=False, write_state=False)


def _freeze(model: Model) -> None:
    """Takes from a model what an instance that is not trained does not have."""
    for variant in model.variants.values():
        variant.trainable_variables = []
        variant.update_ops = {}
        variant.regularization_losses = []
    for variable in model.variables.values():
        variable.trainable = False


def _call_it_inference(model: Model, tags: Tags) -> None:
    """Takes the tags off the one variant, so that it is the root and no subobject besides."""
    model.variants = {INFERENCE: replace(model.variants[tags], tags=INFERENCE)}
    for variable in model.variables.values():
        variable.variants = {INFERENCE}


def _callables(model: Model) -> dict[str, str]:
    """Returns the attribute of each signature, as the writer names them."""
    names: dict[str, str] = {}
    scratch = Report("", None, "")
    for signature in sorted(model.variants[INFERENCE].signatures):
        names[signature] = attribute_name(signature, RESERVED.union(names.values()), scratch)
    if DEFAULT in names:
        names[DEFAULT] = "__call__"
    return names


def _warn(report: Report, tags: Tags) -> None:
    """Tells what training would miss: there is no report that anybody could read."""
    for note in report.not_kept:
        if note.kind in _TOLD:
            warnings.warn(
                f"{report.source}, variant {format_tags(tags)}: {note.kind} {note.name!r} is left "
                f"out: {note.reason}",
                stacklevel=2,
            )
