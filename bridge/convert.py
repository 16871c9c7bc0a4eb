"""The conversion: reader → passes → writer → staging directory → DEST."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from bridge.bundle import TensorSource, total_bytes
from bridge.errors import DestinationError, SourceNotFoundError, UsageError, Where
from bridge.hub_module import HubModuleWriter, HubWriteOptions, read_hub_module
from bridge.layout import SAVED_MODEL
from bridge.model import Model
from bridge.opsets.release import load_release
from bridge.passes import (
    ImageOptions,
    run_passes,
    to_hub_module_passes,
    to_saved_model_passes,
)
from bridge.report import Report
from bridge.saved_model import SavedModelWriter, WriteOptions, read_saved_model
from bridge.source import open_source, source_name
from bridge.verify import LOGITS, is_expected, should_verify, verify_conversion, why_not

Progress = Callable[[int, int], None]
"""Called with the checkpoint bytes done, and how many there are."""

VerifyProgress = Callable[[str, int, int], None]
"""Called with what is compared, how many batches are done, and how many there are."""

Done = Callable[[int], None]
"""Called with the checkpoint bytes done."""


class Writer(Protocol):
    """What puts the result on disk; everything but files is made before."""

    def write(self, directory: Path) -> None:
        """Writes into an existing, empty directory."""
        ...


@dataclass(frozen=True)
class ConvertOptions:
    """The options that both directions have; `bridge.to_saved_model` says what each means."""

    overwrite: bool = False
    link: bool = False
    dry_run: bool = False
    verify: bool | None = None
    allow_ops: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ToSavedModelOptions(ConvertOptions):
    """The options of `bridge.to_saved_model`, which says what each means."""

    variant: frozenset[str] | None = None


@dataclass(frozen=True)
class ToHubModuleOptions(ConvertOptions):
    """The options of `bridge.to_hub_module`, which says what each means."""

    tf: str = "1.15"
    images: ImageOptions = field(default_factory=ImageOptions)


def to_saved_model(
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    options: ToSavedModelOptions | None = None,
    *,
    progress: Progress | None = None,
    verify_progress: VerifyProgress | None = None,
) -> Report:
    """Does what `bridge.to_saved_model` says, with its options as one object."""
    options = options or ToSavedModelOptions()

    def build(directory: Path, report: Report, done: Done | None) -> tuple[Model, Writer]:
        model = read_hub_module(directory, report)
        report.producer = model.producer
        run_passes(model, to_saved_model_passes(options.allow_ops), report)
        write_options = WriteOptions(root=options.variant, link=options.link, progress=done)
        return model, SavedModelWriter(model, write_options, report)

    return _convert(source, dest, options, "to-saved-model", build, progress, verify_progress)


def to_hub_module(
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    options: ToHubModuleOptions | None = None,
    *,
    progress: Progress | None = None,
    verify_progress: VerifyProgress | None = None,
) -> Report:
    """Does what `bridge.to_hub_module` says, with its options as one object."""
    options = options or ToHubModuleOptions()
    not_verified = ""
    if options.images.logits:
        if options.verify:
            raise UsageError(
                "--verify does not go with --logits, which lets `default` return something else",
                hint="compare another signature with hubbridge parity",
            )
        not_verified = LOGITS if is_expected(options.verify) else ""
        options = replace(options, verify=False)
    release = load_release(options.tf)

    def build(directory: Path, report: Report, done: Done | None) -> tuple[Model, Writer]:
        model = read_saved_model(directory, report)
        report.producer = model.producer
        passes = to_hub_module_passes(release, options.images, options.allow_ops)
        run_passes(model, passes, report)
        model.versions = release.versions()
        write_options = HubWriteOptions(release, link=options.link, progress=done)
        return model, HubModuleWriter(model, write_options, report)

    return _convert(
        source, dest, options, "to-hub-module", build, progress, verify_progress, not_verified
    )


def _convert(
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    options: ConvertOptions,
    direction: str,
    build: Callable[[Path, Report, Done | None], tuple[Model, Writer]],
    progress: Progress | None,
    verify_progress: VerifyProgress | None,
    not_verified: str = "",
) -> Report:
    started = time.monotonic()
    destination = _destination(dest)
    if options.dry_run and options.verify:
        raise UsageError(
            "--verify does not go with --dry-run, which makes nothing that could be verified",
            hint="leave one of them out",
        )
    verify = not options.dry_run and should_verify(options.verify)
    if not verify and is_expected(options.verify):
        not_verified = why_not()
    report = Report(
        source=source_name(source),
        destination=None if options.dry_run else os.fspath(dest),
        direction=direction,
        not_verified="" if options.dry_run else not_verified,
    )
    total = 0

    def done(count: int) -> None:
        if progress:
            progress(count, total)

    _check_destination(destination, options.overwrite)
    with open_source(source) as directory:
        _check_apart(directory, destination)
        _check_apart(Path(source), destination)  # where it is an archive
        model, writer = build(directory, report, done if progress else None)
        total = total_bytes(
            {v.name: TensorSource(v.dtype, v.shape, v.data) for v in model.variables.values()}
        )
        if not options.dry_run:
            with staging_directory(destination, options.overwrite, directory) as staging:
                writer.write(staging)
                report.seconds = time.monotonic() - started
                if verify:
                    verify_conversion(directory, staging, destination, report, verify_progress)
    if not report.verification:
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
    try:
        replaceable = (destination / SAVED_MODEL).is_file() or not any(destination.iterdir())
    except OSError as error:
        raise _cannot_write(destination, error) from error
    if not replaceable:
        # A slip of the hand must not cost somebody a home directory.
        raise DestinationError(
            f"{destination} holds something else than a SavedModel, which is not overwritten",
            hint="give another DEST, or remove the directory yourself",
        )


def _check_apart(source: Path, destination: Path) -> None:
    """Refuses a DEST that would overwrite SOURCE, or lie inside it."""
    source = source.resolve()
    try:
        destination = destination.resolve()
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError before Python 3.13
        raise DestinationError(f"{destination} can't be found: {error}") from error
    if source == destination or source in destination.parents or destination in source.parents:
        raise DestinationError(
            "SOURCE and DEST lie inside one another",
            where=Where(destination),
            hint="give a DEST elsewhere; SOURCE is never written to",
        )


@contextlib.contextmanager
def staging_directory(destination: Path, overwrite: bool, source: Path) -> Iterator[Path]:
    """Yields a directory beside DEST, which becomes DEST if all goes well."""
    parent = destination.absolute().parent
    try:
        if parent.exists() and not parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(parent))
        parent.mkdir(parents=True, exist_ok=True)
        staging = _new_directory(parent, destination.name)
    except OSError as error:
        raise _cannot_write(destination, error) from error
    try:
        yield staging
        _publish(staging, destination, overwrite)
    except OSError as error:
        if _is_about(error, source):
            raise SourceNotFoundError(
                f"can't read the file: {error.strerror}", where=Where(error.filename)
            ) from error
        raise _cannot_write(destination, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _new_directory(parent: Path, name: str) -> Path:
    """Makes a hidden directory with the permissions that any new directory gets."""
    # Not tempfile.mkdtemp: nobody else may enter what it makes, and to open that up one must know
    # the umask, which can only be read by changing it, for all threads.
    while True:
        path = parent / f".{name}.{os.urandom(4).hex()}"
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path


def _publish(staging: Path, destination: Path, overwrite: bool) -> None:
    """Renames the staging directory to DEST."""
    if overwrite and destination.is_dir():
        # Two renames: DEST is never half of each. The old one goes only when the new one is there,
        # and comes back whatever happens in between, Ctrl-C too.
        trash = _new_directory(staging.parent, destination.name)
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


def _is_about(error: OSError, directory: Path) -> bool:
    """True if an error is about reading a file below a directory."""
    # A copy that finds no room names both files.
    if error.filename is None or error.filename2 is not None or error.errno == errno.ENOSPC:
        return False
    return Path(os.fsdecode(error.filename)).is_relative_to(directory)


def _cannot_write(destination: Path, error: OSError) -> DestinationError:
    place = f" ({error.filename})" if error.filename else ""
    return DestinationError(f"{destination} can't be written: {error.strerror}{place}")
