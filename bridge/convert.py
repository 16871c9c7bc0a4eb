"""The conversions: reader → passes → writer → staging directory → DEST."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import DestinationError, UsageError, Where
from bridge.hub_module import read_hub_module
from bridge.passes import run_passes, to_saved_model_passes
from bridge.report import Report
from bridge.saved_model import SavedModelWriter, WriteOptions
from bridge.source import open_source, source_name

Progress = Callable[[int, int], None]
"""Called with the checkpoint bytes done, and how many there are."""


@dataclass(frozen=True)
class ToSavedModelOptions:
    """How `to_saved_model` converts.

    Attributes:
      overwrite: replace an existing DEST; without it, one is refused.
      link: hard-link the checkpoint's data where the file system lets, instead of copying it.
      dry_run: read, check and report, but write nothing.
      variant: tags of the variant that the root answers for, in a module that has no variant
        without tags.
      allow_ops: ops to let through although they are unsafe, or unknown to TensorFlow.
    """

    overwrite: bool = False
    link: bool = False
    dry_run: bool = False
    variant: frozenset[str] | None = None
    allow_ops: frozenset[str] = frozenset()


def to_saved_model(
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    options: ToSavedModelOptions | None = None,
    *,
    progress: Progress | None = None,
) -> Report:
    """Converts a TF1 Hub module to a reusable TF2 SavedModel.

    TensorFlow is not needed, and no variable is loaded into memory.

    Args:
      source: directory, .tar.gz, .zip or URL of the module. It is never written to.
      dest: directory to make. It appears whole or not at all.
      options: how to convert.
      progress: told how far the copy of the checkpoint is.

    Returns:
      What was kept, and each thing that could not be, with its name and reason.

    Raises:
      UsageError: SOURCE is absent, DEST exists or can't be written.
      UnsupportedError: the module needs something that has no form in a SavedModel.
      RefusedError: SOURCE is malformed, unsafe, or no TF1 Hub module.
    """
    options = options or ToSavedModelOptions()
    started = time.monotonic()
    destination = _destination(dest)
    report = Report(
        source=source_name(source),
        destination=None if options.dry_run else os.fspath(dest),
        direction="to-saved-model",
    )
    _check_destination(destination, options.overwrite)
    with open_source(source) as directory:
        _check_apart(directory, destination)
        _check_apart(Path(source), destination)  # where it is an archive
        model = read_hub_module(directory, report)
        report.producer = model.producer
        run_passes(model, to_saved_model_passes(options.allow_ops), report)
        total = sum(variable.data.size for variable in model.variables.values())
        write_options = WriteOptions(
            root=options.variant,
            link=options.link,
            progress=(lambda done: progress(done, total)) if progress else None,
        )
        writer = SavedModelWriter(model, write_options, report)
        if not options.dry_run:
            with _staging(destination, options.overwrite) as staging:
                writer.write(staging)
    report.seconds = time.monotonic() - started
    return report


def _destination(dest: str | os.PathLike[str]) -> Path:
    text = os.fspath(dest)
    if not text or "\0" in text:
        raise UsageError(f"DEST is no path: {text!r}")
    return Path(text)


def _check_destination(destination: Path, overwrite: bool) -> None:
    if not os.path.lexists(destination):
        return
    if destination.is_symlink() or not destination.is_dir():
        raise DestinationError(f"{destination} exists and is no directory")
    if not overwrite:
        raise DestinationError(
            f"{destination} exists already", hint="give another DEST, or pass --overwrite"
        )


def _check_apart(source: Path, destination: Path) -> None:
    """Refuses a DEST that would overwrite SOURCE, or lie inside it."""
    source, destination = source.resolve(), destination.resolve()
    if source == destination or source in destination.parents or destination in source.parents:
        raise DestinationError(
            "SOURCE and DEST lie inside one another",
            where=Where(destination),
            hint="give a DEST elsewhere; SOURCE is never written to",
        )


@contextlib.contextmanager
def _staging(destination: Path, overwrite: bool) -> Iterator[Path]:
    """Yields a directory beside DEST, which becomes DEST if all goes well."""
    parent = destination.absolute().parent
    try:
        if parent.exists() and not parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(parent))
        parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=parent))
    except OSError as error:
        raise _cannot_write(destination, error) from error
    try:
        staging.chmod(0o777 & ~_umask())
        yield staging
        _publish(staging, destination, overwrite)
    except OSError as error:
        raise _cannot_write(destination, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _publish(staging: Path, destination: Path, overwrite: bool) -> None:
    """Renames the staging directory to DEST."""
    if overwrite and destination.is_dir():
        # Two renames: DEST is never half of each. The old one goes only when the new one is there,
        # and comes back whatever happens in between, Ctrl-C too.
        trash = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=staging.parent))
        old = trash / "old"
        try:
            destination.rename(old)
            staging.rename(destination)
        except BaseException:
            if old.exists() and not destination.exists():
                old.rename(destination)
            raise
        finally:
            shutil.rmtree(trash, ignore_errors=True)
    else:
        # os.rename replaces an empty directory only; whatever came up meanwhile is kept.
        staging.rename(destination)


def _cannot_write(destination: Path, error: OSError) -> DestinationError:
    place = f" ({error.filename})" if error.filename else ""
    return DestinationError(f"{destination} can't be written: {error.strerror}{place}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
