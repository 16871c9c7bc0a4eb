"""TensorFlow Hub's messages; the names are in hub_pb.proto and hub_pb.pyi."""

from typing import Any

from bridge.proto import _pool


def __getattr__(name: str) -> Any:
    value = _pool.lookup("hub_pb.proto", name)
    globals()[name] = value
    return value
