"""What image modules say of their input: the utilities of tensorflow-hub for image modules."""

from __future__ import annotations

import os
from typing import Any, Protocol

from bridge.hub.create import attach_message
from bridge.hub.errors import ArgumentTypeError, ArgumentValueError
from bridge.hub.info import ParsedTensorInfo
from bridge.hub.saved_model_info import LoadedInfo, spec_of_any
from bridge.image_size import attached_image_size, static_image_size
from bridge.passes.image_conventions import IMAGE_MODULE_INFO, IMAGES
from bridge.proto.hub_pb import ImageModuleInfo

__all__ = [
    "ImageModuleInfo",
    "attach_image_module_info",
    "get_expected_image_size",
    "get_image_module_info",
    "get_num_image_channels",
]


class _Described(Protocol):
    """A spec, a module, or what stands for a SavedModel."""

    def get_attached_message(
        self, key: str, message_type: type[Any], *, required: bool = False
    ) -> Any: ...

    def get_input_info_dict(self, signature: str | None = None) -> dict[str, ParsedTensorInfo]: ...


def attach_image_module_info(image_module_info: ImageModuleInfo) -> None:
    """Attaches the message to the module that is being created; see `attach_message`."""
    attach_message(IMAGE_MODULE_INFO, image_module_info)


def get_image_module_info(module_or_spec: Any, required: bool = False) -> ImageModuleInfo | None:
    """Returns the ImageModuleInfo that is attached to a module.

    Args:
      module_or_spec: as `get_expected_image_size` takes it.
      required: what to do if there is none: raise an error, or return None.

    Raises:
      KeyError: there is none, and it is required.
    """
    message: ImageModuleInfo | None = _described(module_or_spec).get_attached_message(
        IMAGE_MODULE_INFO, ImageModuleInfo, required=required
    )
    return message


def get_expected_image_size(
    module_or_spec: Any, signature: str | None = None, input_name: str | None = None
) -> list[int]:
    """Returns the size of the images that a module wants.

    That is what an attached ImageModuleInfo says, else the static shape of the input.

    Args:
      module_or_spec: a Module, a ModuleSpec, a path or URL of a module or SavedModel, an object
        that `hub.load` or `tf.saved_model.load` returned, or a `hub.KerasLayer`. An object does not
        say what is attached to its SavedModel; its path does.
      signature: name of the signature; `default` if there is none. In a SavedModel,
        `serving_default` is that.
      input_name: name of the input; `images` if there is none.

    Returns:
      Height and width.

    Raises:
      ValueError: neither says a size, or there is no such input or signature.
    """
    described = _described(module_or_spec)
    info = described.get_attached_message(IMAGE_MODULE_INFO, ImageModuleInfo)
    if info is not None and (attached := attached_image_size(info)) is not None:
        return list(attached)
    shape = _image_shape(described, signature, input_name)
    if (size := static_image_size(shape)) is None:
        raise _no_such_shape(shape, "height and width")
    return list(size)


def get_num_image_channels(
    module_or_spec: Any, signature: str | None = None, input_name: str | None = None
) -> int:
    """Returns how many channels the images of a module have, which mostly is 3.

    Args:
      module_or_spec: as `get_expected_image_size` takes it, and so are the other arguments.
      signature: name of the signature.
      input_name: name of the input.

    Raises:
      ValueError: the input does not say it, or there is no such input or signature.
    """
    shape = _image_shape(_described(module_or_spec), signature, input_name)
    channels = shape[3] if shape is not None else None
    if channels is None:
        raise _no_such_shape(shape, "number of channels")
    return channels


def _described(module_or_spec: Any) -> _Described:
    if isinstance(handle := getattr(module_or_spec, "_handle", None), str):
        module_or_spec = handle  # a KerasLayer that was given a path
    elif (loaded := getattr(module_or_spec, "resolved_object", None)) is not None:
        module_or_spec = loaded  # a KerasLayer that was given an object
    if isinstance(module_or_spec, str | os.PathLike):
        return spec_of_any(module_or_spec)
    if hasattr(module_or_spec, "get_attached_message"):
        described: _Described = module_or_spec
        return described
    if hasattr(module_or_spec, "signatures"):
        return LoadedInfo(module_or_spec)
    raise ArgumentTypeError(
        "an image module is given by a Module, a ModuleSpec, a path or a loaded SavedModel, not "
        f"by {type(module_or_spec).__name__}"
    )


def _image_shape(
    described: _Described, signature: str | None, input_name: str | None
) -> list[int | None] | None:
    """Returns the static shape of the input; None if not even its rank is known.

    Raises:
      ValueError: it is no batch of images, or there is no such input.
    """
    name = input_name or IMAGES
    inputs = described.get_input_info_dict(signature)
    if name not in inputs:
        there = ", ".join(map(repr, inputs)) or "none"
        raise ArgumentValueError(
            f"signature {signature or 'default'!r} has no input {name!r}",
            hint=f"its inputs are {there}; input_name=... says which is the image",
        )
    shape = inputs[name].get_shape()
    if shape.rank is None:
        return None
    sizes: list[int | None] = shape.as_list()
    if len(sizes) != 4:
        raise _no_such_shape(sizes, "four dimensions")
    return sizes


def _no_such_shape(shape: list[int | None] | None, what: str) -> ArgumentValueError:
    return ArgumentValueError(
        f"the images have the shape {shape}, of which the {what} can't be told",
        hint="it should be [batch, height, width, channels]; a module for images of any size has "
        "an ImageModuleInfo attached",
    )
