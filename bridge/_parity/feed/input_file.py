"""Inputs that the user gives as arrays in a .npz file.

An array is named `INPUT`, which gives it to every signature with such an input, or
`SIGNATURE/INPUT` or `SIGNATURE|INPUT`, which come before. The parts of a sparse tensor x are
`x|indices`, `x|values` and `x|dense_shape`; of a ragged one `x|values`, `x|row_splits_0`, ….
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge._parity.feed.values import Part, as_bytes, parts, to_bfloat16
from bridge._parity.runners.protocol import Value
from bridge._surfaces.surface import Computation
from bridge.dtypes import dtype_name
from bridge.errors import SourceNotFoundError, UsageError
from bridge.model import format_shape
from bridge.proto import tf_pb

Array = NDArray[Any]


class InputFile:
    """An open .npz file; arrays are read when asked for."""

    def __init__(self, path: Path):
        """Opens it.

        Raises:
          UsageError: it can't be read, or is no .npz file.
        """
        self._path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise SourceNotFoundError(f"can't open {path}: {error.strerror}") from error
        try:
            # np.load would read other formats too.
            if not zipfile.is_zipfile(self._file):
                raise ValueError("it is none")
            self._file.seek(0)
            self._arrays = np.load(self._file, allow_pickle=False)
        except Exception as error:  # zipfile and numpy raise a dozen kinds
            self._file.close()
            raise UsageError(
                f"can't read {path} as a .npz file: {error}", hint="np.savez writes such a file"
            ) from error

    def __enter__(self) -> InputFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._arrays.close()
        self._file.close()

    def check_names(self, computations: Iterable[Computation]) -> None:
        """Checks that every array is an input of one of the signatures.

        Raises:
          UsageError: one that is not would have no effect; or there is none.
        """
        if not self._arrays.files:
            raise self._error(f"{self._path} has no array")
        known = {
            _join(prefix, part)
            for computation in computations
            for name, endpoint in computation.inputs.items()
            for part in parts(name, endpoint)
            for prefix in _prefixes(computation.signature, name)
        }
        for name in self._arrays.files:
            if name not in known:
                raise self._error(f"{self._path} has an array {name!r}, which is no input")

    def covers(self, computation: Computation) -> bool:
        """Says whether it has the inputs of a signature.

        Raises:
          UsageError: it has some of them only.
        """
        missing = [name for name in computation.inputs if self._prefix(computation, name) is None]
        if len(missing) == len(computation.inputs):
            return False
        if missing:
            raise self._error(
                f"{self._path} has no array for input {missing[0]!r} of signature "
                f"{computation.signature!r}, but has others of its inputs"
            )
        return True

    def values(self, computation: Computation) -> dict[str, Value]:
        """Returns the inputs of a signature that it covers.

        Raises:
          UsageError: one has another dtype or does not fit the static shape.
        """
        return {name: self._value(computation, name) for name in computation.inputs}

    def _prefix(self, computation: Computation, name: str) -> str | None:
        """Returns what the arrays of an input are named; None where there are none."""
        wanted = parts(name, computation.inputs[name])
        for prefix in _prefixes(computation.signature, name):
            if any(_join(prefix, part) in self._arrays.files for part in wanted):
                return prefix
        return None

    def _value(self, computation: Computation, name: str) -> Value:
        prefix = self._prefix(computation, name)
        assert prefix is not None
        wanted = parts(name, computation.inputs[name])
        arrays = {key: self._array(_join(prefix, key), part) for key, part in wanted.items()}
        return arrays.get("", arrays)

    def _array(self, key: str, part: Part) -> Array:
        if key not in self._arrays.files:
            raise self._error(f"{self._path} has no array {key!r}")
        try:
            array: Array = self._arrays[key]
        except Exception as error:  # likewise
            raise self._error(f"can't read array {key!r} of {self._path}: {error}") from error
        if not isinstance(array, np.ndarray):
            raise self._error(f"{key!r} of {self._path} is no array")
        if not array.dtype.isnative:
            # The same numbers, as a machine of another kind wrote them.
            array = array.astype(array.dtype.newbyteorder("="))
        is_text = array.dtype.kind in "SU"
        if is_text if part.dtype != tf_pb.DT_STRING else not is_text:
            fits = False
        else:
            fits = is_text or array.dtype == part.numpy
        if not fits:
            raise self._error(
                f"array {key!r} of {self._path} is {array.dtype.name} instead of "
                f"{dtype_name(part.dtype)}"
                + (", for which float32 stands" if part.dtype == tf_pb.DT_BFLOAT16 else "")
            )
        if part.shape is not None and not (
            len(part.shape) == array.ndim
            and all(a in (None, b) for a, b in zip(part.shape, array.shape, strict=True))
        ):
            raise self._error(
                f"array {key!r} of {self._path} has shape {list(array.shape)}, which does not fit "
                f"{format_shape(part.shape)}"
            )
        if is_text:
            return as_bytes(array)
        return to_bfloat16(array) if part.dtype == tf_pb.DT_BFLOAT16 else array

    def _error(self, message: str) -> UsageError:
        return UsageError(
            message,
            hint="name arrays INPUT or SIGNATURE/INPUT, with the dtype and shape of the input",
        )


def _prefixes(signature: str, name: str) -> tuple[str, ...]:
    return f"{signature}/{name}", f"{signature}|{name}", name


def _join(prefix: str, part: str) -> str:
    return f"{prefix}|{part}" if part else prefix
