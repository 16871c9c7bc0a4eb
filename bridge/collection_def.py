"""Reads the collections of a MetaGraphDef, whatever a stranger has put into them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from bridge.errors import MalformedError, Where
from bridge.proto import tf_pb

_Proto = TypeVar("_Proto", bound=Message)


def node_list(meta_graph: tf_pb.MetaGraphDef, key: str, where: Where) -> list[str]:
    """Returns the names in a collection of nodes or tensors; an absent one has none.

    Raises:
      MalformedError: it is a collection of something else.
    """
    if key not in meta_graph.collection_def:
        return []
    collection = meta_graph.collection_def[key]
    if collection.WhichOneof("kind") != "node_list":
        raise MalformedError(f"collection {key!r} is no list of nodes", where=where)
    return list(collection.node_list.value)


def messages(
    kind: type[_Proto],
    meta_graph: tf_pb.MetaGraphDef,
    key: str,
    where: Where,
    *,
    packed: bool = False,
) -> Iterator[_Proto]:
    """Yields the messages of a collection; an absent one has none.

    Args:
      kind: what messages they are.
      meta_graph: the graph.
      key: name of the collection.
      where: for error messages.
      packed: whether each is in a message `Any`, as those of assets are.

    Raises:
      MalformedError: it holds something else.
    """
    if key not in meta_graph.collection_def:
        return
    collection = meta_graph.collection_def[key]
    if collection.WhichOneof("kind") != ("any_list" if packed else "bytes_list"):
        raise MalformedError(f"collection {key!r} is no list of messages", where=where)
    values = [one.value for one in collection.any_list.value]  # empty, unless they are packed
    for value in (*values, *collection.bytes_list.value):
        yield parse_message(kind, value, f"collection {key!r}", where)


def parse_message(kind: type[_Proto], value: bytes, what: str, where: Where) -> _Proto:
    """Parses a message.

    Raises:
      MalformedError: it is none of this kind; `what` holds it.
    """
    try:
        return kind.FromString(value)
    except DecodeError as error:
        name = kind.DESCRIPTOR.name
        raise MalformedError(f"{what} holds a broken {name}", where=where) from error
