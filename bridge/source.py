"""Opens SOURCE, whatever form it has, as a plain directory.

Models come from strangers: archives are unpacked by hand (_archive.py), and links inside a model
are refused.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bridge.errors import (
    HubBridgeError,
    MissingExtraError,
    SourceNotFoundError,
    UnsafeError,
    UsageError,
    Where,
    WrongKindError,
)

_MODEL_FILES = ("saved_model.pb", "tfhub_module.pb")
_KERAS_SUFFIXES = frozenset({".keras", ".h5", ".hdf5"})
_URL_SCHEMES = ("http://", "https://", "gs://", "s3://", "hdfs://")


@contextlib.contextmanager
def open_source(source: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields the directory that SOURCE stands for.

    Args:
      source: a directory, a .tar.gz, .tgz, .tar or .zip file, or a URL handle, which goes through
        `tensorflow_hub.resolve`. Archives are unpacked to a temporary directory, which is gone
        afterwards.

    Raises:
      SourceNotFoundError: there is nothing, or it can't be read.
      MissingExtraError: a URL handle without tensorflow-hub installed.
      WrongKindError: a file that is no archive, or a directory of a model's versions.
      MalformedError: a broken archive.
      UnsafeError: an archive that would unpack outside its directory, or a link in the model.
    """
    text = os.fspath(source)
    if text.startswith(_URL_SCHEMES):
        path = _resolve_handle(text)
    else:
        path = Path(text)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise SourceNotFoundError(
            f"{text} can't be read: {error.strerror}",
            hint="give the directory, archive or URL of a TF1 Hub module or SavedModel",
        ) from error
    if stat.S_ISDIR(mode):
        check_tree(path)
        _check_no_versions(path)
        yield path
    elif stat.S_ISREG(mode):
        if path.suffix.lower() in _KERAS_SUFFIXES:
            raise WrongKindError(
                f"{text} is a file of Keras, which only Keras can read",
                hint="load it with keras.models.load_model and write a SavedModel with "
                "model.export(DIR)",
            )
        with _temporary_directory() as directory:
            from bridge._archive import unpack  # tarfile and zipfile take a while to import

            unpack(path, directory)
            root = _model_root(directory)
            try:
                yield root
            except HubBridgeError as error:
                _name_archive(error, directory, path)
                raise
    else:
        raise WrongKindError(f"{text} is neither a directory nor a file")


def check_tree(root: Path) -> None:
    """Refuses links and special files below a directory; the directory itself may be a link.

    Raises:
      UnsafeError: an entry is a link or no plain file or directory.
      SourceNotFoundError: a directory can't be listed.
    """

    def fail(error: OSError) -> None:
        raise SourceNotFoundError(f"{error.filename} can't be read: {error.strerror}") from error

    for directory, subdirectories, files in os.walk(root, onerror=fail):
        for name in subdirectories + files:
            path = Path(directory, name)
            try:
                mode = path.lstat().st_mode
            except OSError as error:  # of a directory that may be listed, but not entered
                raise SourceNotFoundError(f"{path} can't be read: {error.strerror}") from error
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                raise UnsafeError(
                    "a model may hold plain files and directories only, this is a link or a "
                    "special file",
                    where=Where(path),
                    hint="copy the model with its links resolved (cp -rL)",
                )


@contextlib.contextmanager
def _temporary_directory() -> Iterator[Path]:
    try:
        directory = Path(tempfile.mkdtemp(prefix="hubbridge-"))
    except OSError as error:
        from bridge._archive import cannot_unpack

        raise cannot_unpack(error) from error
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _name_archive(error: HubBridgeError, directory: Path, archive: Path) -> None:
    """Lets an error speak of the archive, not of a directory that nobody has seen."""
    path = error.where.path
    if path is not None and Path(path).is_relative_to(directory):
        error.where = replace(error.where, path=archive / Path(path).relative_to(directory))


def _resolve_handle(handle: str) -> Path:
    try:
        import tensorflow_hub
    except ImportError as error:
        raise MissingExtraError(
            f"{handle} is a URL, and downloading needs tensorflow-hub",
            hint="pip install 'hubbridge[parity]', or download the module and give its path",
        ) from error
    try:
        return Path(tensorflow_hub.resolve(handle))
    except Exception as error:  # tensorflow_hub raises whatever its resolvers do
        raise SourceNotFoundError(f"{handle} can't be downloaded: {error}") from error


def _holds_model(path: Path) -> bool:
    return any((path / name).is_file() for name in _MODEL_FILES)


def _model_root(directory: Path) -> Path:
    """Returns where the model lies in an unpacked archive: at the top, or one directory down."""
    below = [path for path in directory.iterdir() if _holds_model(path)]
    return below[0] if len(below) == 1 and not _holds_model(directory) else directory


def _check_no_versions(directory: Path) -> None:
    """Refuses a directory of numbered versions, as TensorFlow Serving wants models to lie."""
    if _holds_model(directory):
        return
    versions = [
        path
        for path in directory.iterdir()
        if re.fullmatch("[0-9]{1,20}", path.name) and _holds_model(path)
    ]
    if versions:
        newest = max(versions, key=lambda path: int(path.name))
        raise WrongKindError(
            "there is no model in it, but a directory for each of its versions",
            where=Where(directory),
            hint=f"did you mean {newest}?",
        )


def source_name(source: str | os.PathLike[str]) -> str:
    """Returns SOURCE as reports print it.

    Raises:
      UsageError: it is empty, or can be no path.
    """
    text = os.fspath(source)
    if not text or "\0" in text:
        raise UsageError(f"SOURCE is no path: {text!r}")
    return text
