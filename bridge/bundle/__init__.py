"""The tensor bundle, TensorFlow's V2 checkpoint: an index and data shards.

    PREFIX.index                     table: key → data type, shape, shard, offset, size, checksum
    PREFIX.data-00000-of-00002       bytes of the tensors, back to back
    PREFIX.data-00001-of-00002

Only the index is ever read into memory; the bytes of the tensors are copied and verified.
"""

from bridge.bundle.coding import Extent
from bridge.bundle.index import BundleIndex, Entry, Slice, read_index
from bridge.bundle.writer import (
    BundleStats,
    BytesTensor,
    StringTensor,
    TensorSource,
    total_bytes,
    write_bundle,
)

__all__ = [
    "BundleIndex",
    "BundleStats",
    "BytesTensor",
    "Entry",
    "Extent",
    "Slice",
    "StringTensor",
    "TensorSource",
    "read_index",
    "total_bytes",
    "write_bundle",
]
