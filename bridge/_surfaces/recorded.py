"""Which variables the variants of a module trained, as the SavedModel made of it records."""

from __future__ import annotations

import base64

from google.protobuf.message import DecodeError

from bridge.collection_def import messages
from bridge.errors import MalformedError, Where
from bridge.graph import parse_tensor
from bridge.hub_module.names import TRAINABLE_VARIABLES
from bridge.model import Tags
from bridge.proto import record_pb, tf_pb
from bridge.saved_model.record import RECORD, VERSION


def trained_by_variants(meta_graph: tf_pb.MetaGraphDef, where: Where) -> dict[Tags, frozenset[str]]:
    """Returns the names of the variables that each variant of the module trained.

    A SavedModel without a record has none, and neither has one with a record of a newer version.

    Args:
      meta_graph: the SavedModel's.
      where: for error messages.

    Raises:
      MalformedError: the record is broken.
    """
    result: dict[Tags, frozenset[str]] = {}
    if RECORD not in meta_graph.collection_def:
        return result
    for data in meta_graph.collection_def[RECORD].bytes_list.value:
        try:
            record = record_pb.VariantRecord.FromString(base64.b64decode(data, validate=True))
        except (DecodeError, ValueError) as error:
            raise MalformedError(f"collection {RECORD!r} is broken", where=where) from error
        if record.version > VERSION:
            return {}
        definition = record.meta_graph
        result[frozenset(definition.meta_info_def.tags)] = frozenset(
            parse_tensor(variable.variable_name).node
            for variable in messages(tf_pb.VariableDef, definition, TRAINABLE_VARIABLES, where)
        )
    return result
