"""IMG02, IMG03, IMG06, IMG08 and IMG09: dtypes and shapes, and the size of images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from google.protobuf.message import DecodeError

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
from bridge.model import DEFAULT, Encoding, format_shape
from bridge.passes.image_conventions import CLASSIFICATION, IMAGE_MODULE_INFO, IMAGES
from bridge.proto import hub_pb, tf_pb

_NOT_LINEAR = frozenset({"Sigmoid", "Softmax"})
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
            breaches.append(
                signature.breach(
                    f"the output ends in {end.place}, so it gives probabilities",
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
    """Returns what makes the main output, behind Identity ops and calls."""
    main = signature.main_output
    if main is None or len(signature.returned[main]) != 1:
        return None
    flow = signature.flow
    seen: set[Point] = set()
    point = signature.returned[main][0]
    while point not in seen:
        seen.add(point)
        if point.node.op != "Identity" and not flow.is_transparent(point):
            return point
        sources = flow.sources(point)
        if len(sources) != 1:
            return None
        point = sources[0]
    return None


# -- inputs ---------------------------------------------------------------------------------------


def images_are_dense(model: SeenModel) -> Judgement:
    """IMG06: images are dense float32[batch, height, width, 3]."""
    signatures = model.image_signatures()
    if not signatures:
        return not_applicable(NO_IMAGES)
    breaches: list[Breach] = []
    for signature in signatures:
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
                mend = "take float32[?, height, width, 3] with values in [0, 1]"
                breaches.append(signature.breach(", ".join(faults), mend, name=name))
    return judged(where(signatures), breaches)


def sizes_are_given(model: SeenModel) -> Judgement:
    """IMG08: the first dimension is unknown, the last is 3, height and width are known.

    They may be unknown where the expected size is attached, and in a SavedModel.
    """
    signatures = model.image_signatures()
    if not signatures:
        return not_applicable(NO_IMAGES)
    breaches: list[Breach] = []
    for variant in model.variants:
        free = not model.is_module or IMAGE_MODULE_INFO in variant.attachments
        for signature in variant.signatures:
            for name in signature.image_inputs:
                faults = _size_faults(signature.inputs[name].shape, free=free)
                if faults:
                    breaches.append(signature.breach(", ".join(faults), _SIZE_MEND, name=name))
    return judged(where(signatures), breaches)


_SIZE_MEND = (
    "take [?, height, width, 3]; where any size will do, attach the expected one: "
    "hub.attach_image_module_info(...)"
)


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
    try:
        size = _attached_size(variant)
    except DecodeError:
        mend = "attach it again with hub.attach_image_module_info(...)"
        return None, variant.breach(
            f"the attachment {IMAGE_MODULE_INFO!r} is no message of its type", mend
        )
    if size is not None:
        return f"{size[0]}x{size[1]}, attached", None
    # tensorflow-hub looks for this name alone; users of a SavedModel need none.
    name = IMAGES if signature.called is None else signature.images
    shape = signature.inputs[name].shape if name is not None and name in signature.inputs else None
    if shape is not None and len(shape) == _RANK and shape[1] and shape[2]:
        return f"{shape[1]}x{shape[2]}, static", None
    return None, None


def _attached_size(variant: SeenVariant) -> tuple[int, int] | None:
    """Returns height and width of the attachment.

    Raises:
      DecodeError: it is no message of its type.
    """
    if IMAGE_MODULE_INFO not in variant.attachments:
        return None
    info = hub_pb.ImageModuleInfo.FromString(variant.attachments[IMAGE_MODULE_INFO])
    size = info.default_image_size
    return (size.height, size.width) if size.height and size.width else None
