"""IMG02, IMG03, IMG06, IMG08 and IMG09: dtypes and shapes, and the size of images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bridge._check.flow import Point
from bridge._check.results import Breach
from bridge._check.rule import (
    FEATURES,
    NO_IMAGES,
    Judgement,
    class_signatures,
    feature_signatures,
    judged,
    not_applicable,
    where,
)
from bridge._check.seen import CHANNELS, SeenModel, SeenSignature, SeenVariant
from bridge.dtypes import dtype_name
from bridge.errors import MalformedError
from bridge.image_size import expected_image_size
from bridge.model import DEFAULT, Encoding, format_shape
from bridge.passes.image_conventions import CLASSIFICATION, IMAGE_MODULE_INFO, IMAGES, TASKS
from bridge.proto import tf_pb

_NOT_LINEAR = frozenset({"LogSoftmax", "Sigmoid", "Softmax"})
_SAME_VALUES = frozenset(
    {
        *("Cast", "CheckNumerics", "ClipByValue", "EnsureShape", "ExpandDims", "Identity"),
        *("PlaceholderWithDefault", "PreventGradient", "Reshape", "Snapshot", "Squeeze"),
        *("StopGradient", "Transpose"),
    }
)
"""Ops that give the values of their first input; tf.contrib.slim ends a softmax in a Reshape."""

_RANK = 4


# -- outputs --------------------------------------------------------------------------------------


def features_are_vectors(model: SeenModel) -> Judgement:
    """IMG02: feature vectors are float32[?, num_features]."""
    signatures = feature_signatures(model)
    if not signatures:
        return not_applicable(f"no signature is called {FEATURES}, or looks like one without name")
    return judged(where(signatures), _vector_breaches(signatures, "features"))


def classes_are_logits(model: SeenModel) -> Judgement:
    """IMG03: scores of classes are float32[?, num_classes], and linear."""
    signatures = class_signatures(model)
    if not signatures:
        return not_applicable(f"no signature is called {CLASSIFICATION}")
    breaches = list(_vector_breaches(signatures, "classes"))
    for signature in signatures:
        end = _last_op(signature)
        if end is not None and end.node.op in _NOT_LINEAR:
            kind = "logarithms of " if end.node.op == "LogSoftmax" else ""
            breaches.append(
                signature.breach(
                    f"the output ends in {end.place}, so it gives {kind}probabilities",
                    "return what goes into it, the logits",
                    name=signature.main_output,
                    node=end.node.name,
                )
            )
    return judged(where(signatures), breaches)


def _vector_breaches(signatures: Iterable[SeenSignature], what: str) -> Iterator[Breach]:
    for signature in signatures:
        main = signature.main_output
        # A SavedModel may call its only output as it likes; of `default`, IMG11 says so.
        is_lost = main != DEFAULT and signature.called is None and signature.name != DEFAULT
        if main is None or is_lost:
            names = ", ".join(sorted(signature.outputs)) or "none"
            found = f"there is no output `default`, but {names}"
            yield signature.breach(found, f"call the output with the {what} `default`")
            continue
        end = signature.outputs[main]
        shape = end.shape
        faults: list[str] = []
        if end.encoding is not Encoding.DENSE:
            faults.append(f"it is a {end.encoding.value} tensor")
        if end.dtype != tf_pb.DT_FLOAT:
            faults.append(f"it is {dtype_name(end.dtype)}")
        if shape is None or len(shape) != 2:
            faults.append(f"its shape is {format_shape(shape)}")
        else:
            if shape[0] is not None:
                faults.append(f"its batch size is fixed to {shape[0]}")
            if shape[1] is None:
                faults.append(f"the number of {what} is unknown")
        if faults:
            mend = f"return float32[?, number of {what}] for images of any number"
            yield signature.breach(", ".join(faults), mend, name=main)


def _last_op(signature: SeenSignature) -> Point | None:
    """Returns what makes the values of the main output, behind ops that keep them and calls."""
    main = signature.main_output
    if main is None or len(signature.returned[main]) != 1:
        return None
    flow = signature.flow
    seen: set[Point] = set()
    point = signature.returned[main][0]
    while point not in seen:
        seen.add(point)
        is_kept = point.node.op in _SAME_VALUES
        if not is_kept and not flow.is_transparent(point):
            return point
        sources = flow.sources(point)[: 1 if is_kept else None]
        if len(sources) != 1:
            return None
        point = sources[0]
    return None


# -- inputs ---------------------------------------------------------------------------------------


def images_are_dense(model: SeenModel) -> Judgement:
    """IMG06: images are dense float32[batch, height, width, 3], and a task takes some."""
    signatures = [s for s in model.signatures() if s.image_inputs or s.name in TASKS]
    if not signatures:
        return not_applicable(NO_IMAGES)
    breaches: list[Breach] = []
    for signature in signatures:
        if not signature.image_inputs:
            names = ", ".join(sorted(signature.inputs)) or "none"
            found = f"none of its inputs takes images: {names}"
            breaches.append(signature.breach(found, _IMAGES_MEND))
        for name in signature.image_inputs:
            end = signature.inputs[name]
            faults: list[str] = []
            if end.encoding is not Encoding.DENSE:
                faults.append(f"it is a {end.encoding.value} tensor")
            if end.dtype != tf_pb.DT_FLOAT:
                faults.append(f"it is {dtype_name(end.dtype)}")
            if end.shape is None or len(end.shape) != _RANK or end.shape[3] not in (None, CHANNELS):
                faults.append(f"its shape is {format_shape(end.shape)}")
            if faults:
                breaches.append(signature.breach(", ".join(faults), _IMAGES_MEND, name=name))
    return judged(where(signatures), breaches)


_IMAGES_MEND = "take float32[?, height, width, 3] with values in [0, 1]"


def sizes_are_given(model: SeenModel) -> Judgement:
    """IMG08: the first dimension is unknown, the last is 3, height and width are known.

    They may be unknown where the expected size is attached, and in a SavedModel. They must be no
    others than those attached.
    """
    signatures = model.image_signatures()
    if not signatures:
        return not_applicable(NO_IMAGES)
    breaches: list[Breach] = []
    for variant in model.variants:
        attached = _attached_size(variant)
        free = not model.is_module or attached is not None
        for signature in variant.signatures:
            for name in signature.image_inputs:
                shape = signature.inputs[name].shape
                faults = _size_faults(shape, free=free)
                if faults:
                    breaches.append(signature.breach(", ".join(faults), _SIZE_MEND, name=name))
                if attached is not None and name == signature.images:
                    breaches += _misfit(signature, name, attached)
    return judged(where(signatures), breaches)


_SIZE_MEND = (
    "take [?, height, width, 3]; where any size will do, attach the expected one: "
    "hub.attach_image_module_info(...)"
)


def _attached_size(variant: SeenVariant) -> tuple[int, int] | None:
    """Returns height and width as attached; None where there are none that can be read."""
    try:
        size = expected_image_size(variant.attachments.get(IMAGE_MODULE_INFO), None)
    except MalformedError:  # IMG09 says so
        return None
    return None if size is None else (size.height, size.width)


def _misfit(signature: SeenSignature, name: str, size: tuple[int, int]) -> list[Breach]:
    """Returns the breach where an input takes no images of the size that is attached."""
    shape = signature.inputs[name].shape
    if shape is None or len(shape) != _RANK:
        return []
    if all(one in (None, wanted) for one, wanted in zip(shape[1:3], size, strict=True)):
        return []
    found = f"{format_shape(shape)} takes no images of the attached size, {size[0]}x{size[1]}"
    mend = "attach the height and width that the input has: hub.attach_image_module_info(...)"
    return [signature.breach(found, mend, name=name)]


def _size_faults(shape: tuple[int | None, ...] | None, *, free: bool) -> list[str]:
    if shape is None or len(shape) != _RANK:
        return [f"its shape is {format_shape(shape)}"]
    faults: list[str] = []
    if shape[0] is not None:
        faults.append(f"the batch size is fixed to {shape[0]}")
    if shape[3] != CHANNELS:
        last = "unknown" if shape[3] is None else str(shape[3])
        faults.append(f"the last dimension is {last}, not {CHANNELS}")
    if not free and None in shape[1:3]:
        faults.append(f"height or width of {format_shape(shape)} is unknown, and none is attached")
    return faults


def size_is_known(model: SeenModel) -> Judgement:
    """IMG09: get_expected_image_size finds a size, attached or static."""
    variants = [v for v in model.variants if _sized_signature(v) is not None]
    if not variants:
        return not_applicable(NO_IMAGES)
    found: dict[str, list[str]] = {}
    breaches: list[Breach] = []
    for variant in variants:
        signature = _sized_signature(variant)
        assert signature is not None
        size, broken = _expected_size(variant, signature)
        if broken is not None:
            breaches.append(broken)
        elif size is not None:
            if model.is_module and signature.name != DEFAULT and _attached_size(variant) is None:
                size += f", of signature {signature.name}"  # which the client must be told
            found.setdefault(size, []).append(variant.label)
        elif model.is_module:
            breaches.append(
                signature.breach(
                    "the expected size is neither attached nor the static shape of `images`",
                    "attach it with hub.attach_image_module_info(...), or give the input "
                    "`images` a fixed height and width",
                    name=signature.images,
                )
            )
    if not found and not breaches:
        return not_applicable(
            "images of any size are taken, and the documentation of a SavedModel says which"
        )
    sizes = "; ".join(f"{size} in {', '.join(labels)}" for size, labels in found.items())
    return judged(sizes or "no size was found", breaches)


def _sized_signature(variant: SeenVariant) -> SeenSignature | None:
    """Returns the signature that is asked for the size: `default`, else the first with images."""
    found = [s for s in variant.signatures if s.image_inputs]
    return next((s for s in found if s.name == DEFAULT), next(iter(found), None))


def _expected_size(
    variant: SeenVariant, signature: SeenSignature
) -> tuple[str | None, Breach | None]:
    """Returns height and width as text, or what is wrong with what says them."""
    # tensorflow-hub looks for this name alone; users of a SavedModel need none.
    name = IMAGES if signature.called is None else signature.images
    shape = signature.inputs[name].shape if name is not None and name in signature.inputs else None
    try:
        size = expected_image_size(
            variant.attachments.get(IMAGE_MODULE_INFO), shape, is_named=name == IMAGES
        )
    except MalformedError as error:
        mend = "attach it again with hub.attach_image_module_info(...)"
        return None, variant.breach(error.message, mend)
    if size is None:
        return None, None
    how = "attached" if size.is_attached else "static"
    return f"{size.height}x{size.width}, {how}", None
