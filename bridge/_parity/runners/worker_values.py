"""How arrays travel between a runner and its worker: as bytes in a file, with a header beside them.

What the runner has already, bit for bit, does not travel again: the outputs of equal models cost
little more than looking at them.

The runner and the worker share this file, so it needs numpy only, and Python 3.7. Unlike an .npz
file, this form keeps zero bytes at the ends of strings, and bfloat16. A value is an array, or a
mapping from component to array: a sparse tensor's are `indices`, `values` and `dense_shape`, a
ragged one's `values`, `row_splits_0`, `row_splits_1` and so on, the outermost splits first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

DENSE = ""
"""The component that a dense value has in a header."""

STRING = "string"
BFLOAT16 = "bfloat16"
ALIGNMENT = 64
CHUNK = 1 << 15
MAPPED = 4
"""So many files stay mapped: each is read often, and mapping takes as long as reading."""

_maps: dict[tuple[int, int, int], Any] = {}
"""By device, number and size of a file; no other file gets that number while this one is mapped."""


class TransportError(Exception):
    """An array that has no form here."""


def write_values(
    path: str, values: Mapping[str, Any], known: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Writes values to a file, over what is there; returns the header.

    Args:
      path: the file.
      values: by name.
      known: `file` and `header` of values that whoever reads this has already. What is the same
        bit for bit is not written again: None stands for it in the header.

    Raises:
      TransportError: a value of a dtype that TensorFlow's plain tensors don't have.
    """
    header: dict[str, Any] = {}
    there: Mapping[str, Any] = known["header"] if known else {}
    # An empty file can't be mapped.
    data = _mapped(known["file"]) if known and length(there) else np.empty(0, np.uint8)
    # Not truncated: pages that are there already are faster to write than new ones.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        for name, value in values.items():
            parts = value if isinstance(value, Mapping) else {DENSE: value}
            arrays = {part: np.asarray(array) for part, array in parts.items()}
            if _are_there(arrays, there.get(name, {}), data):
                header[name] = None
            else:
                header[name] = {part: _write(file, a, name) for part, a in arrays.items()}
    return header


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


def length(header: Mapping[str, Mapping[str, Any]]) -> int:
    """Returns how many bytes of a file a header is about."""
    entries = (entry for parts in header.values() for entry in parts.values())
    return max((offset + size for _, _, offset, size in entries), default=0)


def _mapped(path: str) -> Any:
    """Returns what is in a file, now and whenever it is looked at."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        key = (status.st_dev, status.st_ino, status.st_size)
        if key not in _maps:
            while len(_maps) >= MAPPED:
                del _maps[next(iter(_maps))]
            _maps[key] = np.memmap(file, np.uint8, "r")
    return _maps[key]


def _are_there(arrays: Mapping[str, Any], header: Mapping[str, Any], data: Any) -> bool:
    """Whether a header tells of these arrays, and they are the same bit for bit."""
    if arrays.keys() != header.keys():
        return False
    for part, array in arrays.items():
        dtype, shape, offset, size = header[part]
        if [array.dtype.name, list(array.shape)] != [dtype, shape] or not array.dtype.isnative:
            return False
        flat = _flat(array)
        if flat.size != size or not _same(flat, data[offset : offset + size]):
            return False
    return True


def _same(a: Any, b: Any) -> bool:
    """Whether bytes are equal; looks at some at a time, which stay in the processor's cache."""
    whole = a.size // 8 * 8
    x, y = a[:whole].view(np.uint64), b[:whole].view(np.uint64)
    return np.array_equal(a[whole:], b[whole:]) and all(
        (x[start : start + CHUNK] == y[start : start + CHUNK]).all()
        for start in range(0, x.size, CHUNK)
    )


def _flat(array: Any) -> Any:
    """Returns the bytes of numbers."""
    return np.ascontiguousarray(array).ravel().view(np.uint8)


def _write(file: BinaryIO, array: np.ndarray[Any, Any], name: str) -> list[Any]:
    shape = list(array.shape)
    file.write(b"\0" * (-file.tell() % ALIGNMENT))
    offset = file.tell()
    if array.dtype.kind in "OSU":
        texts = [_bytes(item, name) for item in array.ravel().tolist()]
        file.write(np.array([len(text) for text in texts], np.int64).tobytes())
        for text in texts:
            file.write(text)
        return [STRING, shape, offset, file.tell() - offset]
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    dtype = array.dtype.name
    own = array.dtype.kind in "biufc" and array.dtype.type.__module__ == "numpy"
    if not own and dtype != BFLOAT16:
        raise TransportError(f"{name!r} is of the dtype {dtype}, which can't be passed on")
    flat = _flat(array)
    file.write(flat.data)
    return [dtype, shape, offset, flat.size]


def _read(data: Any, entry: Any, dtypes: Mapping[str, Any]) -> Any:
    dtype, shape, offset, size = entry
    piece = data[offset : offset + size]
    if dtype != STRING:
        if dtype == BFLOAT16 and dtype not in dtypes:
            raise TransportError("there is an array of bfloat16, for which ml_dtypes is needed")
        return piece.view(dtypes.get(dtype, dtype)).reshape(shape)
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
