"""What a SavedModel tells of its signatures and attachments, in the words of modules."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bridge.errors import Where
from bridge.hub._tf import tf
from bridge.hub.errors import NoSuchError, WrongKindSpecError
from bridge.hub.info import ParsedTensorInfo
from bridge.hub.loading import load_module_spec, open_module
from bridge.hub.spec import ModuleSpec
from bridge.hub_module.names import MODULE_DEF
from bridge.layout import ATTACHMENTS, SAVED_MODEL
from bridge.model import DEFAULT, format_tags
from bridge.proto import tf_pb
from bridge.proto_file import read_proto
from bridge.saved_model.names import SERVING_DEFAULT

_SERVE = frozenset({"serve"})


def spec_of_any(path: str | os.PathLike[str]) -> ModuleSpec:
    """Returns the spec of a module, or one that tells what a SavedModel's signatures do.

    The latter has one variant, without tags and without a graph: it can't be instantiated. Its
    signature `default` is `serving_default`.

    Raises:
      ValueError: there is neither.
      tf.errors.NotFoundError: there is nothing.
    """
    spec = open_module(path, _read_saved_model, keep=False)
    return load_module_spec(path) if spec is None else spec


def _read_saved_model(directory: Path) -> ModuleSpec | None:
    if (directory / MODULE_DEF).is_file():
        return None
    path = directory / SAVED_MODEL
    if not path.is_file():
        raise WrongKindSpecError(
            f"neither a TF1 Hub module nor a SavedModel: there is no {SAVED_MODEL}",
            where=Where(directory),
        )
    meta_graphs = list(read_proto(tf_pb.SavedModel, path).meta_graphs)
    serving = [one for one in meta_graphs if set(one.meta_info_def.tags) == _SERVE]
    chosen = serving or meta_graphs
    if len(chosen) != 1:
        there = ", ".join(format_tags(one.meta_info_def.tags) for one in meta_graphs) or "none"
        raise WrongKindSpecError(
            "the SavedModel has not just one graph for serving", where=Where(path), hint=there
        )
    told = tf_pb.MetaGraphDef()
    for name, signature in chosen[0].signature_def.items():
        told.signature_def[name].CopyFrom(signature)
    if SERVING_DEFAULT in told.signature_def and DEFAULT not in told.signature_def:
        told.signature_def[DEFAULT].CopyFrom(told.signature_def[SERVING_DEFAULT])
    if ATTACHMENTS in chosen[0].collection_def:
        told.collection_def[ATTACHMENTS].CopyFrom(chosen[0].collection_def[ATTACHMENTS])
    meta_graph = tf.compat.v1.MetaGraphDef.FromString(told.SerializeToString())
    return ModuleSpec([meta_graph], directory=str(directory))


class LoadedInfo:
    """Tells what the signatures of a loaded SavedModel take; it has no attachments any more."""

    def __init__(self, loaded: Any):
        """Takes what `tf.saved_model.load` returned."""
        self._signatures = loaded.signatures

    def get_attached_message(
        self, key: str, message_type: type[Any], *, required: bool = False
    ) -> Any:
        """Returns None: TensorFlow drops attachments when it loads a SavedModel.

        Raises:
          KeyError: the message is required.
        """
        del message_type
        if required:
            raise NoSuchError(
                f"a loaded SavedModel does not say whether a message {key!r} is attached to it",
                hint="give its path instead",
            )

    def get_input_info_dict(self, signature: str | None = None) -> dict[str, ParsedTensorInfo]:
        """Describes what a signature takes, as `ModuleSpec.get_input_info_dict` does.

        Raises:
          KeyError: there is no such signature. The error is a ValueError too.
        """
        names = [signature] if signature else [DEFAULT, SERVING_DEFAULT]
        found = next((name for name in names if name in self._signatures), None)
        if found is None:
            there = ", ".join(map(repr, self._signatures)) or "none"
            raise NoSuchError(
                f"there is no signature {names[-1]!r}", hint=f"its signatures are {there}"
            )
        _, inputs = self._signatures[found].structured_input_signature
        return {name: ParsedTensorInfo(spec) for name, spec in inputs.items()}
