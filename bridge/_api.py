"""The commands as Python functions: same names, same options.

What they need is imported when they are called, so that `import bridge` is fast.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.report import Report


def to_saved_model(
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    link: bool = False,
    dry_run: bool = False,
    variant: Iterable[str] | None = None,
    allow_ops: Iterable[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Converts a TF1 Hub module to a reusable TF2 SavedModel.

    TensorFlow is not needed, and no variable is loaded into memory.

    Args:
      source: directory, .tar.gz, .zip or URL of the module. It is never written to.
      dest: directory to make. It appears whole or not at all.
      overwrite: replace a DEST that is there; it must be empty, or hold a SavedModel.
      link: hard-link the checkpoint's data where the file system lets, instead of copying it.
      dry_run: read, check and report, but write nothing.
      variant: tags of the variant that the root answers for, in a module that has no variant
        without tags.
      allow_ops: ops to let through although they are unsafe, or unknown to TensorFlow.
      progress: called with the checkpoint bytes done, and how many there are.

    Returns:
      What was kept, and each thing that could not be, with its name and reason.

    Raises:
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
        variant=None if variant is None else _names("variant", variant),
        allow_ops=_names("allow_ops", allow_ops),
    )
    return convert(source, dest, options, progress=progress)


def to_hub_module(
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    link: bool = False,
    dry_run: bool = False,
    tf: str = "1.15",
    task: str | None = None,
    inputs: Mapping[str, str] | None = None,
    image_size: tuple[int, int] | None = None,
    logits: bool = False,
    allow_ops: Iterable[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Converts a TF2 SavedModel to a TF1 Hub module.

    TensorFlow is not needed, and no variable is loaded into memory.

    Args:
      source: directory, .tar.gz, .zip or URL of the SavedModel. It is never written to.
      dest: directory to make. It appears whole or not at all.
      overwrite: replace a DEST that is there; it must be empty, or hold a SavedModel.
      link: hard-link the checkpoint's data where the file system lets, instead of copying it.
      dry_run: read, check and report, but write nothing.
      tf: the oldest TensorFlow release that must run and differentiate the module.
      task: `image_feature_vector` or `image_classification`: also name the signature `default` so.
      inputs: new names of inputs of the signature `default`, each with the name in the source.
      image_size: height and width of the images, where the source leaves them open.
      logits: let `default` return what goes into its softmax.
      allow_ops: ops to let through although they are unsafe.
      progress: called with the checkpoint bytes done, and how many there are.

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
        allow_ops=_names("allow_ops", allow_ops),
        tf=tf,
        images=ImageOptions(dict(inputs or {}), task, image_size, logits),
    )
    return convert(source, dest, options, progress=progress)


def _names(option: str, names: Iterable[str]) -> frozenset[str]:
    # A string is an iterable of its letters, which nobody means.
    if isinstance(names, str):
        raise TypeError(f"{option} takes several names, such as [{names!r}], not one string")
    return frozenset(names)
