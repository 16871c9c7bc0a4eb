"""Creates a ModuleSpec from a function that builds the module's graph."""

from __future__ import annotations

import contextlib
import contextvars
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.errors import Where
from bridge.hub._tf import tf
from bridge.hub.errors import ArgumentTypeError, ArgumentValueError, CallRuntimeError
from bridge.hub.info import make_tensor_infos
from bridge.hub.spec import ModuleSpec
from bridge.hub_module.names import ASSET_FILEPATHS, SAVED_MODEL_ASSETS, SUPPORTED_COLLECTIONS
from bridge.layout import ATTACHMENTS
from bridge.model import DEFAULT, Tags, format_tags
from bridge.proto import hub_pb

_TENSORS = (tf.Tensor, tf.SparseTensor, tf.RaggedTensor)

TagsAndArgs = Iterable[tuple[Iterable[Any], Mapping[str, Any]]]


@dataclass
class _Variant:
    """What a call of `module_fn` says of the variant whose graph it builds.

    Attributes:
      graph: the tf.Graph.
      where: names the variant in errors.
      signatures: TensorInfos of the inputs and of the outputs, by name, for each signature.
      attachments: message bytes by key.
    """

    graph: Any
    where: Where
    signatures: dict[str, tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=dict)
    attachments: dict[str, bytes] = field(default_factory=dict)


_current: contextvars.ContextVar[_Variant | None] = contextvars.ContextVar("variant", default=None)


def create_module_spec(
    module_fn: Callable[..., object],
    tags_and_args: TagsAndArgs | None = None,
    drop_collections: Iterable[str] | None = None,
) -> ModuleSpec:
    """Creates a spec from a function that builds the module's graph.

    The function is called in a graph of its own, once for each variant, and says with
    `add_signature` what the module can do. Variables are resource variables, unless it asks for
    others: `tf.compat.v1.variable_scope("", use_resource=False)`.

    Args:
      module_fn: the function.
      tags_and_args: for each graph variant its set of tags and the keyword arguments that
        `module_fn` is called with. By default one variant without tags, and no arguments.
      drop_collections: collections of the graph to leave out. A module can hold those of variables,
        update ops, regularization losses, table initializers, assets and control flow.

    Returns:
      The spec, whose variables have no values yet but those of their initializers.

    Raises:
      ValueError: a variant can't be part of a module; the message says why.
    """
    variants = _checked_variants(tags_and_args)
    dropped = [drop_collections] if isinstance(drop_collections, str) else drop_collections or ()
    return ModuleSpec(
        [_build(module_fn, tags, args, list(dropped)) for tags, args in variants.items()]
    )


def add_signature(name: str | None = None, inputs: Any = None, outputs: Any = None) -> None:
    """Adds a signature to the module that is being created; to be called within `module_fn`.

    Args:
      name: its name; `default` if there is none.
      inputs: the tensors that a user gives, by name: dense, sparse or ragged. A single tensor is
        named `default`.
      outputs: the tensors that a user gets, likewise.

    Raises:
      RuntimeError: no `module_fn` is running.
      ValueError: there is a signature of this name already, something is no tensor or one of
        another graph, or an input is colocated with another op.
    """
    variant = _running("add_signature")
    key = name or DEFAULT
    where = Where(variant=variant.where.variant, signature=key)
    if key in variant.signatures:
        raise ArgumentValueError(f"there is a signature {key!r} already", where=where)
    taken, given = _by_name(inputs), _by_name(outputs)
    _check_tensors(taken, given, variant.graph, where)
    _check_inputs(taken, where)
    variant.signatures[key] = (make_tensor_infos(taken), make_tensor_infos(given))


def attach_message(key: Any, message: Any) -> None:
    """Attaches a protocol buffer to the variant that is being created; see `add_signature`.

    Args:
      key: what `get_attached_message` finds it by: a letter, then letters, digits and underscores.
        Of several messages of one key, the last counts.
      message: the message.

    Raises:
      RuntimeError: no `module_fn` is running.
      ValueError: the key is none.
      TypeError: the message is none.
    """
    variant = _running("attach_message")
    if not (isinstance(key, str) and re.fullmatch("[a-zA-Z][a-zA-Z0-9_]*", key)):
        raise ArgumentValueError(
            f"{key!r} can't be the key of a message",
            where=variant.where,
            hint="take a letter, then letters, digits and underscores",
        )
    if not hasattr(message, "SerializeToString"):
        raise ArgumentTypeError(
            f"only protocol buffers can be attached, not {type(message).__name__}",
            where=variant.where,
        )
    variant.attachments[key] = message.SerializeToString()


# -- variants ----------------------------------------------------------------------------------


def _checked_variants(tags_and_args: TagsAndArgs | None) -> dict[Tags, Mapping[str, Any]]:
    variants: dict[Tags, Mapping[str, Any]] = {}
    try:
        pairs: list[tuple[Any, Any]] = [(tags, args) for tags, args in tags_and_args or [((), {})]]
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(
            f"tags_and_args are pairs of tags and arguments, not {tags_and_args!r}",
            hint='give such as [(set(), {}), ({"train"}, {"is_training": True})]',
        ) from error
    for tags, args in pairs:
        if (
            isinstance(tags, str)
            or not isinstance(tags, Iterable)
            or not all(isinstance(tag, str) and tag for tag in tags)
        ):
            raise ArgumentValueError(
                f"the tags of a variant are a set of strings that are not empty, not {tags!r}"
            )
        if frozenset(tags) in variants:
            raise ArgumentValueError(f"two variants have the tags {format_tags(tags)}")
        variants[frozenset(tags)] = args
    return variants


def _build(
    module_fn: Callable[..., object],
    tags: Tags,
    args: Mapping[str, Any],
    drop_collections: Iterable[str],
) -> Any:
    """Calls `module_fn`; returns the MetaGraphDef of what it built."""
    variant = _Variant(tf.Graph(), Where(variant=format_tags(tags)))
    with variant.graph.as_default(), _running_in(variant):
        with tf.compat.v1.variable_scope("", use_resource=True):
            module_fn(**args)
        for key in drop_collections:
            variant.graph.clear_collection(key)
        if not variant.signatures:
            raise ArgumentValueError(
                "module_fn added no signature",
                where=variant.where,
                hint="call hub.add_signature(inputs=..., outputs=...) in it",
            )
        _check_state(variant)
        meta_graph = tf.compat.v1.train.export_meta_graph(strip_default_attrs=True)
    meta_graph.meta_info_def.tags.extend(sorted(tags))
    for name, (inputs, outputs) in variant.signatures.items():
        signature = meta_graph.signature_def[name]
        for key, info in inputs.items():
            signature.inputs[key].CopyFrom(info)
        for key, info in outputs.items():
            signature.outputs[key].CopyFrom(info)
    check_collections(meta_graph, variant.where)
    for key, value in variant.attachments.items():
        attachment = hub_pb.ModuleAttachment(key=key, value=value)
        attached = meta_graph.collection_def[ATTACHMENTS].bytes_list.value
        attached.append(attachment.SerializeToString(deterministic=True))
    _make_assets_absolute(meta_graph, variant.where)
    return meta_graph


@contextlib.contextmanager
def _running_in(variant: _Variant) -> Iterator[None]:
    token = _current.set(variant)
    try:
        yield
    finally:
        _current.reset(token)


def _running(function: str) -> _Variant:
    variant = _current.get()
    if variant is None:
        raise CallRuntimeError(
            f"hub.{function} must be called within a module_fn",
            hint="give the function that calls it to hub.create_module_spec",
        )
    return variant


def check_collections(meta_graph: Any, where: Where) -> None:
    """Refuses collections that a module can't hold.

    Raises:
      ValueError: there is one; the message names all of them.
    """
    unsupported = sorted(meta_graph.collection_def.keys() - SUPPORTED_COLLECTIONS)
    if unsupported:
        names = ", ".join(map(repr, unsupported))
        raise ArgumentValueError(
            f"the graph has collections that a module can't hold: {names}",
            where=where,
            hint=f"leave them out, if the module works without: drop_collections=[{names}]",
        )


def _make_assets_absolute(meta_graph: Any, where: Where) -> None:
    """Lets assets be found whatever the working directory will be."""
    if SAVED_MODEL_ASSETS in meta_graph.collection_def:
        raise ArgumentValueError(
            f"the collection {SAVED_MODEL_ASSETS!r} is made when a module is written",
            where=where,
            hint=f"put the asset's tensor into {ASSET_FILEPATHS!r} instead",
        )
    if ASSET_FILEPATHS not in meta_graph.collection_def:
        return
    listed = meta_graph.collection_def[ASSET_FILEPATHS].node_list.value
    names = {name.partition(":")[0] for name in listed}
    for node in meta_graph.graph_def.node:
        if node.name not in names:
            continue
        value = node.attr["value"].tensor
        if node.op != "Const" or len(value.string_val) != 1:
            raise ArgumentValueError(
                f"an asset is given by a constant scalar of type string, not by op {node.op}",
                where=Where(variant=where.variant, node=node.name),
            )
        path = os.fsdecode(value.string_val[0])
        if "://" not in path:
            value.string_val[0] = os.fsencode(os.path.abspath(path))  # noqa: PTH100 - keeps links


# -- checks ------------------------------------------------------------------------------------


def _by_name(tensors: Any) -> dict[str, Any]:
    if tensors is None:
        return {}
    return dict(tensors) if isinstance(tensors, Mapping) else {DEFAULT: tensors}


def _check_tensors(
    inputs: Mapping[str, Any], outputs: Mapping[str, Any], graph: Any, where: Where
) -> None:
    for kind, tensors in (("input", inputs), ("output", outputs)):
        for name, value in tensors.items():
            if not isinstance(name, str):
                raise ArgumentValueError(f"the name of an {kind} is {name!r}", where=where)
            if not isinstance(value, _TENSORS):
                raise ArgumentValueError(
                    f"{kind} {name!r} is of type {type(value).__name__}",
                    where=where,
                    hint="a signature takes and gives dense, sparse and ragged tensors",
                )
            for part in _parts(value):
                if getattr(part, "graph", None) is not graph:
                    raise ArgumentValueError(
                        f"{kind} {name!r} is none of the graph that module_fn builds", where=where
                    )


def _parts(value: Any) -> list[Any]:
    """Returns the plain tensors that a tensor is made of."""
    return list(tf.nest.flatten(value, expand_composites=True))


def _check_inputs(inputs: Mapping[str, Any], where: Where) -> None:
    """Checks what a client must be able to put other tensors in the place of."""
    for name, value in inputs.items():
        for part in _parts(value):
            op = part.op
            if op.colocation_groups() != [f"loc:@{op.name}".encode()]:
                raise ArgumentValueError(
                    f"input {name!r} is colocated with another op, and its user could put no other "
                    "tensor in its place",
                    where=Where(variant=where.variant, signature=where.signature, node=op.name),
                    hint="colocate the other op with the input",
                )
            if len(op.outputs) != 1:
                tf.get_logger().warning(
                    "hub.add_signature: input %r is one of several outputs of %r. Nothing may be "
                    "colocated with that op, or the module can't be applied.",
                    name,
                    op.name,
                )


def _check_state(variant: _Variant) -> None:
    """Checks the ops that hold state: the stateful ones without inputs.

    A client has them once for each instance of the module, and all other ops once for each call.
    """
    state = {
        op.name: op
        for op in variant.graph.get_operations()
        if op.op_def is not None and op.op_def.is_stateful and not op.op_def.input_arg
    }
    for name, op in state.items():
        where = Where(variant=variant.where.variant, node=name)
        if len(op.outputs) != 1:
            raise ArgumentValueError(
                f"op {op.type} holds state and has {len(op.outputs)} outputs; a module can hold "
                "state with one output only",
                where=where,
            )
        for group in op.colocation_groups():
            if group.decode().removeprefix("loc:@") not in state:
                raise ArgumentValueError(
                    f"op {op.type} holds state, and is colocated with "
                    f"{group.decode().removeprefix('loc:@')!r}, which holds none",
                    where=where,
                    hint="colocate state with state only",
                )
