"""ModuleSpec: a module before it is instantiated."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from bridge.errors import Where
from bridge.hub.errors import ArgumentTypeError, MalformedSpecError, NoSuchError
from bridge.hub.info import ParsedTensorInfo, parse_tensor_infos
from bridge.layout import ATTACHMENTS
from bridge.model import DEFAULT, Tags, format_tags
from bridge.proto import hub_pb

_Path = str | os.PathLike[str]


class ModuleSpec:
    """The blueprint of a module, from which `Module` makes instances.

    Made by `load_module_spec`, `create_module_spec` or `create_module_spec_from_saved_model`, and
    by nothing else.
    """

    def __init__(
        self,
        meta_graphs: Sequence[Any],
        *,
        checkpoint: str | None = None,
        directory: str | None = None,
    ):
        """Holds a module; not for users.

        Args:
          meta_graphs: TensorFlow's MetaGraphDef of each graph variant, their sets of tags unique,
            the paths of assets absolute in their Const nodes. They are taken over, not copied.
          checkpoint: prefix of the checkpoint with the variables' values, if there is one.
          directory: where the module lies, if it does.
        """
        self._meta_graphs: dict[Tags, Any] = {
            frozenset(meta_graph.meta_info_def.tags): meta_graph for meta_graph in meta_graphs
        }
        self._checkpoint = checkpoint
        self._directory = directory

    def get_tags(self) -> list[Tags]:
        """Returns the set of tags of each graph variant."""
        return sorted(self._meta_graphs, key=sorted)

    def get_signature_names(self, tags: Iterable[str] | None = None) -> list[str]:
        """Returns the names of the signatures of a variant.

        Args:
          tags: the variant's tags; none for the variant without tags.

        Raises:
          KeyError: there is no such variant.
        """
        return sorted(self._meta_graphs[self._checked_tags(tags)].signature_def)

    def get_input_info_dict(
        self, signature: str | None = None, tags: Iterable[str] | None = None
    ) -> dict[str, ParsedTensorInfo]:
        """Describes what a signature takes.

        Args:
          signature: its name; `default` if there is none.
          tags: the variant's tags; none for the variant without tags.

        Returns:
          For each input's name an object with `dtype`, `get_shape()`, `is_sparse`, `is_composite`
          and `type_spec`.

        Raises:
          KeyError: there is no such signature or variant. The error is a ValueError too.
        """
        return parse_tensor_infos(self._signature_def(signature, tags).inputs)

    def get_output_info_dict(
        self, signature: str | None = None, tags: Iterable[str] | None = None
    ) -> dict[str, ParsedTensorInfo]:
        """Describes what a signature returns, as `get_input_info_dict` does what it takes."""
        return parse_tensor_infos(self._signature_def(signature, tags).outputs)

    def get_attached_message(
        self,
        key: str,
        message_type: type[Any],
        tags: Iterable[str] | None = None,
        required: bool = False,
    ) -> Any:
        """Returns a message that the module's publisher attached.

        Args:
          key: the key that it was attached under.
          message_type: its protocol buffer class.
          tags: tags of the variant that it was attached to; none for the variant without tags.
          required: what to do if there is no such message: raise an error, or return None.

        Raises:
          KeyError: there is no such variant, or, if it is required, no such message.
          ValueError: the message is none of this type, or the attachments are broken.
        """
        chosen = self._checked_tags(tags)
        value = self._attachments(chosen).get(key)
        if value is None:
            if required:
                raise NoSuchError(
                    f"no message is attached under {key!r}", where=self._where(chosen)
                )
            return None
        return _parse(message_type, value, f"attachment {key!r}", self._where(chosen))

    def export(
        self,
        path: _Path,
        _unused: None = None,
        checkpoint_path: _Path | None = None,
        name_transform_fn: Callable[[str], str] | None = None,
    ) -> None:
        """Writes the module to disk, as a TF1 Hub module that TensorFlow 1.15 reads.

        Args:
          path: directory to make. An empty one may be there.
          _unused: takes nothing: what follows is given by name.
          checkpoint_path: prefix or directory of the checkpoint to take the variables from. Without
            it, they have the values that the module was loaded with, or, for one that was just
            created, what their initializers give. (tensorflow-hub asked for it always.)
          name_transform_fn: gives the name in the checkpoint for the name of a variable in the
            module; the same name if there is none.

        Raises:
          ValueError: the checkpoint can't be read, or lacks a variable.
          UnsupportedError: the module has an op or attribute that TensorFlow 1.15 does not know.
          DestinationError: something is at `path` already, or it can't be written.
        """
        if _unused is not None:
            raise ArgumentTypeError(
                "export takes no second argument without a name",
                hint="write checkpoint_path=...",
            )
        from bridge.hub.export import export_spec

        export_spec(self, path, checkpoint_path, name_transform_fn)

    # -- for the other modules of this package --------------------------------------------------

    def _checked_tags(self, tags: Iterable[str] | None) -> Tags:
        """Returns a variant's tags as they are here.

        Raises:
          KeyError: there is no such variant. The error is a ValueError too.
        """
        if isinstance(tags, str):
            raise ArgumentTypeError(
                f"tags are a set of strings, not the string {tags!r}", hint=f"give {{{tags!r}}}"
            )
        chosen = frozenset(tags or ())
        if chosen not in self._meta_graphs:
            there = ", ".join(format_tags(one) for one in self.get_tags())
            raise NoSuchError(
                f"the module has no graph variant with the tags {format_tags(chosen)}",
                where=Where(self._directory),
                hint=f"its variants are {there}",
            )
        return chosen

    def _checked_signature(self, signature: str | None, tags: Iterable[str] | None) -> str:
        """Returns the signature's name: `default` if none is given.

        Raises:
          KeyError: there is no such signature or variant. The error is a ValueError too.
        """
        name = signature or DEFAULT
        chosen = self._checked_tags(tags)
        if name not in self._meta_graphs[chosen].signature_def:
            raise NoSuchError(
                f"there is no signature {name!r}",
                where=self._where(chosen),
                hint="its signatures are " + ", ".join(map(repr, self.get_signature_names(chosen))),
            )
        return name

    def _meta_graph(self, tags: Iterable[str] | None) -> Any:
        """Returns a copy of a variant's MetaGraphDef, with the assets' absolute paths."""
        return copy.deepcopy(self._meta_graphs[self._checked_tags(tags)])

    def _signature_def(self, signature: str | None, tags: Iterable[str] | None) -> Any:
        name = self._checked_signature(signature, tags)
        return self._meta_graphs[self._checked_tags(tags)].signature_def[name]

    def _attachments(self, tags: Tags) -> dict[str, bytes]:
        """Returns the attached messages of a variant; of one key, the last counts."""
        collections = self._meta_graphs[tags].collection_def
        if ATTACHMENTS not in collections:
            return {}
        result: dict[str, bytes] = {}
        for packed in collections[ATTACHMENTS].bytes_list.value:
            one = _parse(hub_pb.ModuleAttachment, packed, "an attachment", self._where(tags))
            result[one.key] = one.value
        return result

    def _where(self, tags: Tags) -> Where:
        return Where(self._directory, format_tags(tags))


def _parse(message_type: type[Any], value: bytes, what: str, where: Where) -> Any:
    from google.protobuf.message import DecodeError

    message = message_type()
    try:
        message.ParseFromString(value)
    except DecodeError as error:
        name = message_type.__name__
        raise MalformedSpecError(f"{what} is no message of type {name}", where=where) from error
    return message
