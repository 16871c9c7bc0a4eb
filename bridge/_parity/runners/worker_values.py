"""How arrays travel between a runner and its worker: as bytes in a file, with a header beside them.

The runner and the worker share this file, so it needs numpy only, and Python 3.7. Unlike an .npz
file, this form keeps zero bytes at the ends of strings, and bfloat16. A value is an array, or a
mapping from component to array: a sparse tensor's are `indices`, `values` and `dense_shape`, a
ragged one's `values`, `row_splits_0`, `row_splits_1` and so on, the outermost splits first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

DENSE = ""
"""The component that a dense value has in a header."""

STRING = "string"
BFLOAT16 = "bfloat16"
ALIGNMENT = 64


class TransportError(Exception):
    """An array that has no form here."""


def write_values(path: str, values: Mapping[str, Any]) -> dict[str, dict[str, list[Any]]]:
    """Writes values to a file; returns the header.

    Raises:
      TransportError: a value of a dtype that TensorFlow's plain tensors don't have.
    """
    header: dict[str, dict[str, list[Any]]] = {}
    with open(path, "wb") as file:
        for name, value in values.items():
            parts = value if isinstance(value, Mapping) else {DENSE: value}
            header[name] = {part: _write(file, np.asarray(a), name) for part, a in parts.items()}
    return header


def read_values(
    path: str, header: Mapping[str, Mapping[str, Any]], dtypes: Mapping[str, Any]
) -> dict[str, Any]:
    """Reads what `write_values` wrote.

    Args:
      path: the file.
      header: what `write_values` returned.
      dtypes: by name, the dtypes that numpy itself does not have, such as bfloat16.

    Raises:
      TransportError: a dtype is not known.
    """
    data = np.fromfile(path, np.uint8)
    values: dict[str, Any] = {}
    for name, parts in header.items():
        arrays = {part: _read(data, entry, dtypes) for part, entry in parts.items()}
        values[name] = arrays.get(DENSE, arrays)
    return values


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
    flat = np.ascontiguousarray(array).ravel().view(np.uint8)
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
