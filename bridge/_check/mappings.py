"""IMG01, IMG04, IMG07 and IMG11: which signatures there are, and how they are called."""

from __future__ import annotations

from collections.abc import Iterator

from bridge._check.results import Breach
from bridge._check.rule import NO_IMAGES, Judgement, gives_vectors, judged, not_applicable, where
from bridge._check.seen import SeenModel, SeenSignature, SeenVariant
from bridge.dtypes import dtype_name
from bridge.model import DEFAULT, Encoding, Endpoint, format_shape
from bridge.passes.image_conventions import IMAGES, TASKS

_MIN_ACTIVATION = 3
"""A hidden activation has that many dimensions; scores and vectors have fewer."""


def default_is_named(model: SeenModel) -> Judgement:
    """IMG01: `default` is the same mapping as a signature that a task is named after."""
    tasks = [s for s in model.signatures() if s.name in TASKS]
    vectors = [s for s in model.signatures() if s.name == DEFAULT and gives_vectors(s)]
    if not tasks and not model.is_module:
        return not_applicable("a SavedModel need not name its tasks, and this one does not")
    if not tasks and not vectors:
        return not_applicable("no signature is one of an image task")
    breaches: list[Breach] = []
    same: list[SeenSignature] = []
    for variant in model.variants:
        named = [s for s in variant.signatures if s.name in TASKS]
        default = variant.named(DEFAULT)
        if default is None and named:
            breaches.append(
                variant.breach(
                    "there is no signature `default`",
                    f"add one with the tensors of {named[0].name}: hub.add_signature(None, ...)"
                    if model.is_module
                    else f"give the object a `__call__` that does what {named[0].name} does",
                )
            )
        elif default is not None and named:
            found, faults = _compare(default, named)
            same += found
            breaches += [] if found else faults
        elif model.is_module and default is not None and gives_vectors(default):
            breaches.append(
                default.breach(
                    f"no signature has the name of its task, {' or '.join(TASKS)}",
                    "add the same tensors under that name too: hub.add_signature(NAME, ...), or "
                    "--task NAME where hubbridge converts the model",
                )
            )
    reason = f"the same as {where(same)}" if same else "it is the same as none"
    return judged(reason, breaches)


def _compare(
    default: SeenSignature, named: list[SeenSignature]
) -> tuple[list[SeenSignature], list[Breach]]:
    """Returns which signatures `default` is the same as, and why not the others."""
    same: list[SeenSignature] = []
    faults: list[Breach] = []
    for other in named:
        difference = _difference(default, other)
        if difference is None:
            same.append(other)
        else:
            mend = f"export `default` with the inputs and outputs of {other.name}"
            faults.append(default.breach(f"it is not {other.name}: {difference}", mend))
    return same, faults


def _difference(default: SeenSignature, named: SeenSignature) -> str | None:
    """Says what tells two signatures apart; None where they are one mapping.

    Further outputs may stand in one of them only.
    """
    inputs = _described(default), _described(named)
    if inputs[0] != inputs[1]:
        return f"it takes {inputs[0]}, the other {inputs[1]}"
    main, other = default.main_output, named.main_output
    if main is None or other is None:
        return f"{'it' if main is None else 'the other'} has no output `default`"
    mine, theirs = default.digests(), named.digests()
    if mine[main] != theirs[other]:
        return "its output `default` is computed in another way"
    odd = [key for key in sorted({*mine} & {*theirs} - {main, other}) if mine[key] != theirs[key]]
    return f"its output {odd[0]!r} is computed in another way" if odd else None


def _described(signature: SeenSignature) -> str:
    ends = signature.inputs
    if signature.called is not None and len(ends) == 1:
        return next(_describe(end) for end in ends.values())  # whatever its name
    return ", ".join(f"{name}: {_describe(end)}" for name, end in sorted(ends.items()))


def _describe(endpoint: Endpoint) -> str:
    kind = "" if endpoint.encoding is Encoding.DENSE else f"{endpoint.encoding.value} "
    return f"{kind}{dtype_name(endpoint.dtype)}{format_shape(endpoint.shape)}"


def outputs_have_prefixes(model: SeenModel) -> Judgement:
    """IMG04: hidden activations carry the name of the architecture as a prefix of their key."""
    judged_ones = [
        s for s in model.image_signatures() if any(key != s.main_output for key in s.outputs)
    ]
    if not model.image_signatures():
        return not_applicable(NO_IMAGES)
    if not judged_ones:
        return not_applicable("no signature has outputs beside `default`")
    breaches = [
        signature.breach(
            f"{_describe(end)} is a hidden activation, and its key names no architecture",
            f"call it ARCHITECTURE/{key}, as in InceptionV3/Mixed_5c",
            name=key,
        )
        for signature in judged_ones
        for key, end in sorted(signature.outputs.items())
        if key != signature.main_output and "/" not in key.strip("/") and _is_activation(end)
    ]
    return judged(f"further outputs of {where(judged_ones)}", breaches)


def _is_activation(endpoint: Endpoint) -> bool:
    return endpoint.shape is not None and len(endpoint.shape) >= _MIN_ACTIVATION


def input_is_called_images(model: SeenModel) -> Judgement:
    """IMG07: the one image input is called `images`, or in Python is the first argument."""
    signatures = [s for s in model.image_signatures() if s.called is None or s.python is not None]
    if not signatures:
        return not_applicable(NO_IMAGES if model.is_module else "no callable takes images")
    clear = [s for s in signatures if s.images is not None]
    if not clear:
        return not_applicable("several inputs may be images, and none is the principal one")
    breaches: list[Breach] = []
    for signature in clear:
        images = signature.images
        if signature.python is None and images != IMAGES:
            breaches.append(
                signature.breach(
                    f"the image input is called {images!r}",
                    "call it `images` in hub.add_signature(NAME, inputs={'images': ...}, ...)",
                    name=images,
                )
            )
        elif signature.python is not None and images not in (IMAGES, signature.python.takes):
            breaches.append(
                signature.breach(
                    "the images are neither its first argument nor called `images`",
                    "let the function take the images first, as a tensor",
                    name=images,
                )
            )
    return judged(where(clear), breaches)


def takes_images_alone(model: SeenModel) -> Judgement:
    """IMG11: `module(images)`, or `obj(images)`, gives the output `default`."""
    judged_ones = [v for v in model.variants if any(s.image_inputs for s in v.signatures)]
    judged_ones = [v for v in judged_ones if _is_for_images(v)]
    if not judged_ones:
        return not_applicable(
            "`default` takes no images" if model.image_signatures() else NO_IMAGES
        )
    call = "module(images)" if model.is_module else "obj(images)"
    breaches = [b for v in judged_ones for b in _call_breaches(v, call)]
    return judged(f"{call} in {', '.join(v.label for v in judged_ones)}", breaches)


def _is_for_images(variant: SeenVariant) -> bool:
    """True unless `default` takes something else than images."""
    default = variant.named(DEFAULT)
    if default is None or default.image_inputs:
        return True
    tasks = [s for s in variant.signatures if s.name in TASKS and s.image_inputs]
    return any(_described(task) == _described(default) for task in tasks)


def _call_breaches(variant: SeenVariant, call: str) -> Iterator[Breach]:
    default = variant.named(DEFAULT)
    if default is None:
        what = f"there is no signature `default`, which {call} gives"
        yield variant.breach(what, "add one for the primary task of the model")
        return
    if default.called is not None and default.python is None:
        yield default.breach(
            f"{call} has nothing to call: there is no `__call__`, only serving signatures",
            "save an object with a tf.function `__call__`, or name the signature in "
            "hub.KerasLayer(..., signature=..., output_key=...)",
        )
        return
    if len(default.inputs) != 1:
        names = ", ".join(sorted(default.inputs))
        what = f"{call} gives one of the inputs {names}, and all are required"
        yield default.breach(what, "put what else it needs into a signature of its own")
    if default.called is None and DEFAULT not in default.outputs:
        names = ", ".join(sorted(default.outputs)) or "none"
        what = f"{call} gives the output `default`, and there is no such: {names}"
        yield default.breach(what, "call the main output `default`")
    if default.python is not None and not default.python.gives_tensor:
        names = ", ".join(sorted(default.outputs)) or "none"
        what = f"{call} gives no single tensor, but a structure of {names}"
        yield default.breach(what, "let `__call__` return the main output alone")
