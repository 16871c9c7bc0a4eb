"""Gives an image model the names and attachments that image modules have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

from bridge.attrs import shape_attr
from bridge.dtypes import dtype_name
from bridge.errors import UnsupportedError, UsageError, Where
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.model import (
    DEFAULT,
    Component,
    Encoding,
    Endpoint,
    Model,
    Signature,
    Variant,
    format_shape,
)
from bridge.proto import hub_pb, tf_pb
from bridge.report import Report

IMAGES = "images"
IMAGE_MODULE_INFO = "image_module_info"
CLASSIFICATION = "image_classification"
TASKS = ("image_feature_vector", CLASSIFICATION)

_MOVING = frozenset({"Identity", "Reshape", "Squeeze"})
"""Ops that at most put the values of their first input elsewhere."""


@dataclass(frozen=True)
class ImageOptions:
    """What the user says of the model's images.

    Attributes:
      inputs: for a new name of an input of the signature `default`, its name in the source.
      task: the named signature that is the same as `default`, one of TASKS.
      image_size: height and width that the model expects.
      logits: return what goes into the softmax at the end of `default`.
    """

    inputs: Mapping[str, str] = field(default_factory=dict)
    task: str | None = None
    image_size: tuple[int, int] | None = None
    logits: bool = False

    def __post_init__(self) -> None:
        """Checks what can be checked without a model.

        Raises:
          UsageError: there is no such task, or no such size.
        """
        if self.task is not None and self.task not in TASKS:
            raise UsageError(
                f"there is no task {self.task!r}", hint=f"it is one of {', '.join(TASKS)}"
            )
        sizes = [] if self.image_size is None else list(self.image_size)
        if self.image_size is not None and (
            len(sizes) != 2 or not all(0 < size < 1 << 20 for size in sizes)
        ):
            raise UsageError(
                f"the image size {self.image_size!r} is no height and width in pixels",
                hint="give both, such as (224, 224), or --image-size 224x224",
            )

    @property
    def given(self) -> bool:
        """True if the user said anything."""
        return bool(self.inputs or self.task or self.image_size or self.logits)


class ImageConventions:
    """Applies the conventions of TensorFlow Hub's common image signatures to `default`.

    Requires: InlineCalls has run. Ensures: an image input is called `images`, and its size stands
    in the attached ImageModuleInfo.

    1. The one image input of `default` becomes `images`; where there are several, or none that
       looks like one, the user says which it is. Other inputs and signatures keep their names.
    2. A task's signature is the same mapping as `default`, and what the task prescribes is checked.
    3. An image classifier gives logits. One that ends in a softmax is named, and cut off before it
       where the user wants that; what stands behind it and only reshapes stays.
    4. A model that was a TF1 Hub module before stays what it was.
    """

    name: ClassVar[str] = "image-conventions"

    def __init__(self, options: ImageOptions):
        """Creates the pass; `options` is what the user says."""
        self._options = options

    def run(self, model: Model, report: Report) -> int:
        """Applies the conventions; returns in how many places."""
        if model.was_module and not self._options.given:
            return 0
        changed = 0
        variants = [v for v in model.variants.values() if DEFAULT in v.signatures]
        if not variants and self._options.given:
            raise UsageError(
                "the model has no signature `default`, which --input, --task, --image-size and "
                "--logits speak of",
                where=Where(model.source),
            )
        for variant in variants:
            names = self._names(variant, report)
            before = dict(variant.signatures)
            variant.signatures[DEFAULT] = _renamed(variant.signatures[DEFAULT], names)
            self._set_image_size(variant, report)
            self._cut_softmax(variant, report)
            self._add_task(variant, report)
            changed += before != variant.signatures
            changed += self._attach(variant)
        return changed

    # -- names ---------------------------------------------------------------------------------

    def _names(self, variant: Variant, report: Report) -> dict[str, str]:
        """Returns the new name of each input of `default` that gets one."""
        inputs = variant.signatures[DEFAULT].inputs
        given: dict[str, str] = {}
        for new, old in self._options.inputs.items():
            if old in given:
                raise UsageError(
                    f"--input: {old!r} can't be called both {given[old]!r} and {new!r}"
                )
            given[old] = new
            if old not in inputs:
                raise UsageError(
                    f"--input {new}={old}: `default` has no input {old!r}",
                    where=variant.graph.where,
                    hint=f"it has {', '.join(sorted(inputs)) or 'none'}",
                )
        if IMAGES not in given.values() and IMAGES not in inputs:
            found = [key for key in sorted(inputs.keys() - given.keys()) if _is_image(inputs[key])]
            if len(found) == 1:
                given[found[0]] = IMAGES
            elif found:
                report.remark(
                    "input",
                    ", ".join(found),
                    "several inputs may be images, so none is called 'images'; --input images=NAME "
                    "says which",
                    variant.graph.at(None, DEFAULT),
                )
        renamed = [given.get(key, key) for key in inputs]
        if len(set(renamed)) < len(renamed):
            twice = next(name for name in renamed if renamed.count(name) > 1)
            raise UsageError(
                f"--input: two inputs of `default` would be called {twice!r}",
                where=variant.graph.where,
            )
        return given

    # -- size ----------------------------------------------------------------------------------

    def _set_image_size(self, variant: Variant, report: Report) -> None:
        signature = variant.signatures[DEFAULT]
        images = signature.inputs.get(IMAGES)
        where = variant.graph.at(None, DEFAULT)
        if images is None:
            if self._options.image_size or self._options.task:
                option = "--image-size" if self._options.image_size else "--task"
                raise UsageError(
                    f"{option}: `default` has no image input",
                    where=where,
                    hint="say which it is with --input images=NAME; it has "
                    f"{', '.join(sorted(signature.inputs)) or 'none'}",
                )
            return
        if images.shape and images.shape[0] is not None:
            report.remark(
                "input",
                IMAGES,
                f"its batch size is fixed to {images.shape[0]}: the source was traced so",
                where,
            )
        if self._options.image_size is None:
            return
        shape = images.shape
        if images.encoding is not Encoding.DENSE or shape is None or len(shape) != 4:
            raise UsageError(
                f"--image-size: the images are {format_shape(shape)}, not of four dimensions",
                where=where,
            )
        for known, wanted in zip(shape[1:3], self._options.image_size, strict=True):
            if known not in (None, wanted):
                raise UsageError(
                    f"--image-size: the images are {format_shape(shape)} already", where=where
                )
        sized = (shape[0], *self._options.image_size, shape[3])
        component = images.components[0]
        node = variant.graph.nodes[parse_tensor(component.name).node]
        node.attr["shape"].CopyFrom(shape_attr(sized))
        variant.signatures = {
            name: _with_shape(other, component.name, sized)
            for name, other in variant.signatures.items()
        }

    def _attach(self, variant: Variant) -> bool:
        """Attaches the size of the images, unless the variant has one already."""
        images = variant.signatures[DEFAULT].inputs.get(IMAGES)
        if images is None or images.encoding is not Encoding.DENSE:
            return False
        if images.shape is None or len(images.shape) != 4:
            return False
        if IMAGE_MODULE_INFO in variant.attachments and self._options.image_size is None:
            return False
        height, width = images.shape[1:3]
        if height is None or width is None:
            return False
        info = hub_pb.ImageModuleInfo()
        info.default_image_size.height, info.default_image_size.width = height, width
        variant.attachments[IMAGE_MODULE_INFO] = info.SerializeToString(deterministic=True)
        return True

    # -- the task ------------------------------------------------------------------------------

    def _cut_softmax(self, variant: Variant, report: Report) -> None:
        signature = variant.signatures[DEFAULT]
        output = signature.outputs.get(DEFAULT)
        softmax = None if output is None else _softmax(variant, output)
        if self._options.logits:
            if output is None or softmax is None:
                raise UnsupportedError(
                    "--logits: the output `default` is no softmax",
                    where=variant.graph.at(None, DEFAULT),
                    hint="leave --logits out; the output may be logits already",
                )
            cut: dict[str, str] = {}
            for name, other in list(variant.signatures.items()):
                # The source's own task signature stays the same mapping as `default`.
                found = other.outputs.get(DEFAULT) if name in (DEFAULT, CLASSIFICATION) else None
                same = None if found is None else _softmax(variant, found)
                if found is not None and same is not None and same.logits == softmax.logits:
                    tensor = found.components[0].name
                    if tensor not in cut:
                        cut[tensor] = _without(same, variant.graph)
                    outputs = other.outputs | {DEFAULT: found.moved(cut.__getitem__)}
                    variant.signatures[name] = replace(other, outputs=outputs)
        if self._options.task == CLASSIFICATION and self._options.logits:
            return
        classes = variant.signatures.get(CLASSIFICATION, signature).outputs.get(DEFAULT)
        named = self._options.task == CLASSIFICATION or CLASSIFICATION in variant.signatures
        if named and classes is not None and _softmax(variant, classes) is not None:
            report.remark(
                "output",
                CLASSIFICATION,
                "it ends in a softmax, so it gives probabilities where users of the signature "
                "expect logits; --logits returns these",
                variant.graph.at(None, CLASSIFICATION),
            )

    def _add_task(self, variant: Variant, report: Report) -> None:
        task = self._options.task
        if task is None:
            return
        signature = variant.signatures[DEFAULT]
        where = variant.graph.at(None, task)
        images = signature.inputs[IMAGES]
        if not _is_image(images):
            raise UnsupportedError(
                f"{task}: `images` is {dtype_name(images.dtype)}{format_shape(images.shape)}, "
                "float32[?, height, width, 3] is prescribed",
                where=where,
            )
        output = signature.outputs.get(DEFAULT)
        if output is None:
            raise UnsupportedError(
                f"{task}: `default` has no output `default`, but {', '.join(signature.outputs)}",
                where=where,
            )
        known = output.shape is not None and len(output.shape) == 2 and output.shape[1] is not None
        if output.dtype != tf_pb.DT_FLOAT or not known:
            raise UnsupportedError(
                f"{task}: the output is {dtype_name(output.dtype)}{format_shape(output.shape)}, "
                "float32[?, N] with a known N is prescribed",
                where=where,
            )
        if task in variant.signatures:
            report.remark(
                "signature", task, "it now is the same as `default`, as --task asks", where
            )
        variant.signatures[task] = replace(signature, name=task)
        variant.signatures = dict(sorted(variant.signatures.items()))


def _is_image(endpoint: Endpoint) -> bool:
    """True for float32[?, height, width, 3], of whatever batch and size."""
    shape = endpoint.shape
    dense = endpoint.encoding is Encoding.DENSE and endpoint.dtype == tf_pb.DT_FLOAT
    return dense and shape is not None and len(shape) == 4 and shape[3] == 3


def _renamed(signature: Signature, names: Mapping[str, str]) -> Signature:
    inputs = {names.get(key, key): endpoint for key, endpoint in signature.inputs.items()}
    return replace(signature, inputs=dict(sorted(inputs.items())))


def _with_shape(signature: Signature, tensor: str, shape: tuple[int | None, ...]) -> Signature:
    """Returns a signature whose input that is this tensor has another shape."""
    inputs = dict(signature.inputs)
    for key, endpoint in inputs.items():
        if endpoint.components[0].name == tensor:
            component = Component(tensor, endpoint.dtype, shape)
            inputs[key] = replace(endpoint, shape=shape, components=(component,))
    return replace(signature, inputs=inputs)


class _Softmax(NamedTuple):
    """A softmax at the end of an output.

    Attributes:
      logits: what goes into it.
      behind: the ops behind it that put its values elsewhere, the last one first.
    """

    logits: Tensor
    behind: list[tf_pb.NodeDef]


def _softmax(variant: Variant, output: Endpoint) -> _Softmax | None:
    """Returns the softmax that an output is, if it is one."""
    node = variant.graph.nodes[parse_tensor(output.components[0].name).node]
    behind: list[tf_pb.NodeDef] = []
    while node.op in _MOVING:
        behind.append(node)
        node = variant.graph.nodes[parse_tensor(node.input[0]).node]
    return _Softmax(parse_tensor(node.input[0]), behind) if node.op == "Softmax" else None


def _without(softmax: _Softmax, graph: Graph) -> str:
    """Returns the tensor of the logits, where the ops behind the softmax put its values."""
    tensor = softmax.logits
    for node in reversed(softmax.behind):
        if node.op != "Identity":
            name = graph.unique_name(f"{node.name}/logits")
            graph.add(node.op, name, [str(tensor), *node.input[1:]], **node.attr)
            tensor = Tensor(name, 0)
    return str(tensor)
