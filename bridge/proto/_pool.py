"""The private descriptor pool that `tf_pb` and `hub_pb` take their classes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

_DESCRIPTOR_SET = Path(__file__).with_name("messages.binpb")


def _build_pool() -> descriptor_pool.DescriptorPool:
    files = descriptor_pb2.FileDescriptorSet.FromString(_DESCRIPTOR_SET.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL = _build_pool()
# protobuf before 4.22 makes classes by a factory object, and later ones by a function.
_FACTORY: Any = (
    None if hasattr(message_factory, "GetMessageClass") else message_factory.MessageFactory(_POOL)
)


def lookup(file_name: str, name: str) -> Any:
    """Returns the message class, enum wrapper or enum number called `name` in `file_name`.

    Args:
      file_name: `tf_pb.proto` or `hub_pb.proto`.
      name: an unqualified top-level name of that file.

    Raises:
      AttributeError: the file defines no such name.
    """
    file = _POOL.FindFileByName(file_name)
    if name in file.message_types_by_name:
        return _message_class(file.message_types_by_name[name])
    if name in file.enum_types_by_name:
        return EnumTypeWrapper(file.enum_types_by_name[name])
    for enum in file.enum_types_by_name.values():
        if name in enum.values_by_name:
            return enum.values_by_name[name].number
    raise AttributeError(f"{file_name} defines no {name!r}")


def _message_class(descriptor: Any) -> Any:
    if hasattr(message_factory, "GetMessageClass"):
        message_class = message_factory.GetMessageClass(descriptor)
    else:
        message_class = _FACTORY.GetPrototype(descriptor)
    for nested in descriptor.nested_types:
        # protobuf before 4 leaves the classes of nested messages out.
        if not hasattr(message_class, nested.name):
            setattr(message_class, nested.name, _message_class(nested))
    return message_class
