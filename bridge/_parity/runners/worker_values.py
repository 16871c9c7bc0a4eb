"""How arrays travel between a runner and its worker: as bytes in a file, with a header beside them.

What the runner has already, bit for bit, does not travel again: the outputs of equal models cost
little more than looking at them.

The runner and the worker share this file, so it needs numpy only, and Python 3.7. Unlike an .npz
file, this form keeps zero bytes at the ends of strings, bfloat16 and quantized dtypes. A value is
an array, or a mapping from component to array: a sparse tensor's are `indices`, `values` and
`dense_shape`, a ragged one's `values`, `row_splits_0`, `row_splits_1` and so on, the outermost
splits first.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

DENSE = ""
"""The component that a dense value has in a header."""

STRING = "string"
BFLOAT16 = "bfloat16"
QUANTIZED = {"qint8": "i1", "quint8": "u1", "qint16": "i2", "quint16": "u2", "qint32": "i4"}
"""TensorFlow's dtypes that are integers, and what numpy calls these.

Its arrays of them are structures with one field, which has the name of the dtype."""

ALIGNMENT = 64
MAPPED = 8
"""So many files stay mapped: each is used often, and mapping takes as long as reading."""

_maps: dict[tuple[str, int, int, int], Any] = {}
"""By mode, and device, number and size of a file; while one is mapped, no other has its number."""

_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class TransportError(Exception):
    """An array that has no form here."""


def write_values(
    space: Callable[[int], Any], values: Mapping[str, Any], known: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Writes values over what is there; returns the header.

    Args:
      space: returns bytes to write to, as many as it is told at least.
      values: by name.
      known: `file` and `header` of values that whoever reads this has already. What is the same
        bit for bit is not written again: None stands for it in the header.

    Raises:
      TransportError: a value of a dtype that TensorFlow's plain tensors don't have.
      OSError: there is no space.
    """
    header: dict[str, Any] = {}
    there: Mapping[str, Any] = known["header"] if known else {}
    # An empty file can't be mapped.
    data = _readable(known["file"]) if known and length(there) else np.empty(0, np.uint8)
    pieces: list[tuple[int, Any]] = []
    end = 0
    for name, value in values.items():
        parts = value if isinstance(value, Mapping) else {DENSE: value}
        arrays = {part: np.asarray(array) for part, array in parts.items()}
        header[name] = None
        if not _are_there(arrays, there.get(name, {}), data):
            header[name] = {}
            for part, array in arrays.items():
                dtype, flat = _plain(array, name)
                offset = end + -end % ALIGNMENT
                end = offset + flat.size
                pieces.append((offset, flat))
                header[name][part] = [dtype, list(array.shape), offset, flat.size]
    if end:
        target = space(end)
        for offset, flat in pieces:
            target[offset : offset + flat.size] = flat
    return header


def writable(path: str, size: int) -> Any:
    """Returns the bytes of a file, to be written to; it is made, and made longer, if need be."""
    # Not truncated: pages that are there already are faster to write than new ones.
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        lengthen(file.fileno(), size)
        return _mapped(file, "r+")


def lengthen(file: int, size: int) -> None:
    """Makes a file of fewer bytes longer.

    Raises:
      OSError: there is no space.
    """
    if os.fstat(file).st_size < size:
        if hasattr(os, "posix_fallocate"):
            # Where a mapping turns out to have no space behind it, the process would be killed.
            os.posix_fallocate(file, 0, size)
        else:
            os.truncate(file, size)


def read_values(
    data: Any, header: Mapping[str, Mapping[str, Any]], dtypes: Mapping[str, Any]
) -> dict[str, Any]:
    """Reads what `write_values` wrote.

    Args:
      data: the bytes in the file; the arrays are views of them.
      header: what `write_values` returned, without what was known.
      dtypes: by name, the dtypes that numpy itself does not have, such as bfloat16.

    Raises:
      TransportError: a dtype is not known.
    """
    values: dict[str, Any] = {}
    for name, parts in header.items():
        arrays = {part: _read(data, entry, dtypes) for part, entry in parts.items()}
        values[name] = arrays.get(DENSE, arrays)
    return values


def name_of(dtype: np.dtype[Any]) -> str:
    """Returns what TensorFlow calls the dtype of an array of numbers."""
    names = dtype.names or ()
    return names[0] if len(names) == 1 and names[0] in QUANTIZED else dtype.name


def steps_of(path: str) -> list[str]:
    """Returns the steps of the path to a callable; a dot in a step has a backslash before it."""
    return [step.replace("\\.", ".") for step in re.split(r"(?<!\\)\.", path)]


def length(header: Mapping[str, Mapping[str, Any]]) -> int:
    """Returns how many bytes of a file a header is about."""
    entries = (entry for parts in header.values() for entry in parts.values())
    return max((offset + size for _, _, offset, size in entries), default=0)


def _readable(path: str) -> Any:
    """Returns what is in a file, now and whenever it is looked at."""
    with open(path, "rb") as file:
        return _mapped(file, "r")


def _mapped(file: Any, mode: Any) -> Any:
    status = os.fstat(file.fileno())
    key = (mode, status.st_dev, status.st_ino, status.st_size)
    if key not in _maps:
        while len(_maps) >= MAPPED:
            del _maps[next(iter(_maps))]
        _maps[key] = np.memmap(file, np.uint8, mode)
    return _maps[key]


def _are_there(arrays: Mapping[str, Any], header: Mapping[str, Any], data: Any) -> bool:
    """Whether a header tells of these arrays, and they are the same bit for bit."""
    if arrays.keys() != header.keys():
        return False
    for part, array in arrays.items():
        dtype, shape, offset, size = header[part]
        if [name_of(array.dtype), list(array.shape)] != [dtype, shape]:
            return False
        if not array.dtype.isnative:
            return False
        flat = _flat(array)
        if flat.size != size or not _same(flat, data[offset : offset + size]):
            return False
    return True


def _same(a: Any, b: Any) -> bool:
    """Whether as many bytes are equal; numpy would write down of each whether it is."""
    return bool(_memcmp(a.ctypes.data, b.ctypes.data, a.size) == 0)


def _flat(array: Any) -> Any:
    """Returns the bytes of numbers."""
    return np.ascontiguousarray(array).ravel().view(np.uint8)


def _plain(array: np.ndarray[Any, Any], name: str) -> tuple[str, Any]:
    """Returns the dtype and the bytes that are written."""
    if array.dtype.kind in "OSU":
        texts = [_bytes(item, name) for item in array.ravel().tolist()]
        lengths = np.array([len(text) for text in texts], np.int64)
        return STRING, np.frombuffer(lengths.tobytes() + b"".join(texts), np.uint8)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    dtype = name_of(array.dtype)
    own = array.dtype.kind in "biufc" and array.dtype.type.__module__ == "numpy"
    if not own and dtype != BFLOAT16 and dtype not in QUANTIZED:
        raise TransportError(f"{name!r} is of the dtype {dtype}, which can't be passed on")
    return dtype, _flat(array)


def _read(data: Any, entry: Any, dtypes: Mapping[str, Any]) -> Any:
    dtype, shape, offset, size = entry
    piece = data[offset : offset + size]
    if dtype != STRING:
        if dtype == BFLOAT16 and dtype not in dtypes:
            raise TransportError("there is an array of bfloat16, for which ml_dtypes is needed")
        own = [(dtype, QUANTIZED[dtype])] if dtype in QUANTIZED else dtype
        return piece.view(dtypes.get(dtype, own)).reshape(shape)
    count = int(np.prod(shape, dtype=np.int64))
    ends = 8 * count + np.cumsum(piece[: 8 * count].view(np.int64))
    text = piece.tobytes()
    result = np.empty(count, object)
    start = 8 * count
    for index, end in enumerate(ends.tolist()):
        result[index] = text[start:end]
        start = end
    return result.reshape(shape)


def _bytes(item: Any, name: str) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode()
    raise TransportError(f"{name!r} holds a {type(item).__name__} where a string should be")
