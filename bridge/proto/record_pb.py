"""hubbridge's own messages; the names are in record_pb.proto and record_pb.pyi."""

from typing import Any

from bridge.proto import _pool


def __getattr__(name: str) -> Any:
    value = _pool.lookup("record_pb.proto", name)
    globals()[name] = value
    return value
