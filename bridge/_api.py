"""The commands as Python functions: same names, same options.

What they need is imported when they are called, so that `import bridge` is fast.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.errors import DestinationError

if TYPE_CHECKING:
    from bridge._check.results import CheckReport
    from bridge._inspect.results import InspectReport
    from bridge._parity.results import ParityReport
    from bridge.report import Report


def to_saved_model(
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    link: bool = False,
    dry_run: bool = False,
    verify: bool | None = None,
    variant: Iterable[str] | None = None,
    allow_ops: Iterable[str] = (),
    progress: Callable[[int, int], None] | None = None,
    verify_progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Converts a TF1 Hub module to a reusable TF2 SavedModel.

    TensorFlow is not needed, and no variable is loaded into memory.

    Args:
      source: directory, .tar.gz, .zip or URL of the module. It is never written to.
      dest: directory to make. It appears whole or not at all.
      overwrite: replace a DEST that is there; it must be empty, or hold a SavedModel.
      link: hard-link the checkpoint's data where the file system lets, instead of copying it.
      dry_run: read, check and report, but write nothing.
      verify: run both models and compare them before DEST appears; by default where TensorFlow is
        installed, unless the environment variable HUBBRIDGE_VERIFY is 0.
      variant: tags of the variant that the root answers for, in a module that has no variant
        without tags.
      allow_ops: ops to let through although they are unsafe, or unknown to TensorFlow.
      progress: called with the checkpoint bytes done, and how many there are.
      verify_progress: called with what is compared, how many batches are done, and how many there
        are.

    Returns:
      What was kept, and each thing that could not be, with its name and reason.

    Raises:
      VerificationError: the result does not compute what the source does.
      UsageError: SOURCE is absent, DEST exists or can't be written.
      UnsupportedError: the module needs something that has no form in a SavedModel.
      RefusedError: SOURCE is malformed, unsafe, or no TF1 Hub module.
      TypeError: `variant` or `allow_ops` is one string, not several.
    """
    from bridge.convert import ToSavedModelOptions
    from bridge.convert import to_saved_model as convert

    options = ToSavedModelOptions(
        overwrite=overwrite,
        link=link,
        dry_run=dry_run,
        verify=verify,
        variant=None if variant is None else _names("variant", variant),
        allow_ops=_names("allow_ops", allow_ops),
    )
    return convert(source, dest, options, progress=progress, verify_progress=verify_progress)


def to_hub_module(
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    link: bool = False,
    dry_run: bool = False,
    verify: bool | None = None,
    tf: str = "1.15",
    task: str | None = None,
    inputs: Mapping[str, str] | None = None,
    image_size: tuple[int, int] | None = None,
    logits: bool = False,
    allow_ops: Iterable[str] = (),
    progress: Callable[[int, int], None] | None = None,
    verify_progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Converts a TF2 SavedModel to a TF1 Hub module.

    TensorFlow is not needed, and no variable is loaded into memory.

    Args:
      source: directory, .tar.gz, .zip or URL of the SavedModel. It is never written to.
      dest: directory to make. It appears whole or not at all.
      overwrite: replace a DEST that is there; it must be empty, or hold a SavedModel.
      link: hard-link the checkpoint's data where the file system lets, instead of copying it.
      dry_run: read, check and report, but write nothing.
      verify: run both models and compare them before DEST appears; by default where TensorFlow is
        installed, unless the environment variable HUBBRIDGE_VERIFY is 0.
      tf: the oldest TensorFlow release that must run and differentiate the module.
      task: `image_feature_vector` or `image_classification`: also name the signature `default` so.
      inputs: new names of inputs of the signature `default`, each with the name in the source.
      image_size: height and width of the images, where the source leaves them open.
      logits: let `default` return what goes into its softmax.
      allow_ops: ops to let through although they are unsafe.
      progress: called with the checkpoint bytes done, and how many there are.
      verify_progress: called with what is compared, how many batches are done, and how many there
        are.

    Returns:
      What was kept, and each thing that could not be, with its name and reason.

    Raises:
      UsageError: SOURCE is absent, DEST exists or can't be written, an option does not fit.
      UnsupportedError: the model needs something that the release can't run or differentiate.
      RefusedError: SOURCE is malformed, unsafe, or no TF2 SavedModel.
      TypeError: `allow_ops` is one string, not several.
    """
    from bridge.convert import ToHubModuleOptions
    from bridge.convert import to_hub_module as convert
    from bridge.passes import ImageOptions

    options = ToHubModuleOptions(
        overwrite=overwrite,
        link=link,
        dry_run=dry_run,
        verify=verify,
        allow_ops=_names("allow_ops", allow_ops),
        tf=tf,
        images=ImageOptions(dict(inputs or {}), task, image_size, logits),
    )
    return convert(source, dest, options, progress=progress, verify_progress=verify_progress)


def parity(
    reference: str | os.PathLike[str],
    candidate: str | os.PathLike[str],
    *,
    device: str = "cpu",
    require_gpu: bool = False,
    tf1_python: str | os.PathLike[str] | None = None,
    images: str | os.PathLike[str] | None = None,
    inputs: str | os.PathLike[str] | None = None,
    samples: int = 8,
    batch_size: int = 4,
    seed: int = 0,
    rtol: float | None = None,
    atol: float = 0.0,
    tolerances: Mapping[str, tuple[float, float]] | None = None,
    train: bool = False,
    bisect: bool = False,
    time_limit: float = 600.0,
    artifacts: str | os.PathLike[str] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> ParityReport:
    """Runs two models on the same inputs and compares everything that a user could see.

    It needs TensorFlow (`pip install 'hubbridge[parity]'`), which runs in processes of its own.

    Args:
      reference: a TF1 Hub module or a SavedModel: directory, .tar.gz, .zip or URL.
      candidate: what is compared with it: a module or a SavedModel too.
      device: `cpu`, `gpu`, or `all`: each of both, and one against the other.
      require_gpu: fail where there is no GPU; without it what needs one is skipped.
      tf1_python: a Python with TensorFlow 1.x and tensorflow-hub, whose `hub.Module` runs modules
        too; the environment variable HUBBRIDGE_TF1_PYTHON by default.
      images: a directory of photos to feed image signatures.
      inputs: an .npz file of inputs, by name, to feed instead of generated ones.
      samples: how many generated inputs of each kind each signature gets.
      batch_size: how many of them, and of the photos, are fed at once; batches of one come too.
      seed: the seed of the inputs and of random ops.
      rtol: allowed difference relative to the largest value of the reference's output; by default
        1e-5 on one device and in one TensorFlow, and 1e-4 across.
      atol: allowed difference on top of that; 0 by default.
      tolerances: (rtol, atol) of single outputs, by `OUTPUT` or `SIGNATURE/OUTPUT`.
      train: also compare gradients, regularization losses, and variables after training steps.
      bisect: name the first node that differs, for each signature that fails.
      time_limit: seconds that one request to a runtime may take.
      artifacts: directory for what `bisect` writes; the working directory by default.
      progress: called with what is being done, how much of it is done, and how much there is.

    Returns:
      Everything that was compared, and the verdict.

    Raises:
      UsageError: a path is absent, an option does not fit, or TensorFlow is not installed.
      UnsupportedError: a model needs something that this version can't do.
      RefusedError: a model is malformed, or neither a module nor a SavedModel.
    """
    from bridge._parity.options import ParityOptions, optional_path
    from bridge._parity.rule import Tolerance
    from bridge._parity.run import parity as run

    options = ParityOptions(
        device=device,
        require_gpu=require_gpu,
        tf1_python=optional_path(tf1_python),
        images=optional_path(images),
        inputs=optional_path(inputs),
        samples=samples,
        batch_size=batch_size,
        seed=seed,
        rtol=rtol,
        atol=atol,
        overrides={name: Tolerance(*pair) for name, pair in (tolerances or {}).items()},
        train=train,
        bisect=bisect,
        time_limit=time_limit,
    )
    folder = Path(artifacts) if artifacts is not None else Path()
    try:
        return run(reference, candidate, options, artifacts=folder, progress=progress)
    except OSError as error:  # what is wrong with the models' own files has been told by then
        raise DestinationError(
            f"the models can't be run: {error.strerror or error}",
            hint=f"temporary files go to {tempfile.tempdir}; TMPDIR names another folder",
        ) from error


def inspect(path: str | os.PathLike[str], *, conversion: bool = True) -> InspectReport:
    """Says what is in a TF1 Hub module or a SavedModel, from its files alone.

    TensorFlow is not needed, unless to fetch a URL. Of the checkpoint only the index is read, and
    of a TF2 SavedModel its graph of objects.

    Args:
      path: directory, .tar.gz, .zip or URL of the model. It is never written to.
      conversion: also try whether it can be converted to the other format.

    Returns:
      Everything that is in it.

    Raises:
      UsageError: the path is absent or can't be read.
      UnsupportedError: the checkpoint is of a kind that is not known.
      RefusedError: it is malformed, unsafe, or no model.
    """
    from bridge._inspect.run import inspect as look

    return look(path, conversion=conversion)


def check(path: str | os.PathLike[str], *, only: Iterable[str] = ()) -> CheckReport:
    """Judges whether a model keeps the common image signatures, clause by clause.

    TensorFlow is not needed; the model is judged by its files alone. docs/check.md explains each
    clause.

    Args:
      path: directory, .tar.gz, .zip or URL of a TF1 Hub module or a TF2 SavedModel. It is never
        written to.
      only: the clauses to judge, such as `IMG05`; all by default.

    Returns:
      What became of each clause.

    Raises:
      UsageError: the path is absent or can't be read, or there is no such clause.
      UnsupportedError: the model has something that is not known.
      RefusedError: it is malformed, unsafe, or neither a module nor a TF2 SavedModel.
      TypeError: `only` is one string, not several.
    """
    from bridge._check.run import check as judge

    return judge(path, _names("only", only))


def _names(option: str, names: Iterable[str]) -> frozenset[str]:
    # A string is an iterable of its letters, which nobody means.
    if isinstance(names, str):
        raise TypeError(f"{option} takes several names, such as [{names!r}], not one string")
    return frozenset(names)
