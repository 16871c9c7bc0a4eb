"""TensorFlow's messages and DataType numbers; the names are in tf_pb.proto and tf_pb.pyi."""

from typing import Any

from bridge.proto import _pool


def __getattr__(name: str) -> Any:
    value = _pool.lookup("tf_pb.proto", name)
    globals()[name] = value
    return value
