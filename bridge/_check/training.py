"""Two known faults of old modules, which training shows: they are no clauses of a page."""

from __future__ import annotations

from collections.abc import Iterable

from bridge._check.flow import Point
from bridge._check.results import Breach
from bridge._check.rule import Judgement, judged, not_applicable
from bridge._check.seen import SeenModel, SeenSignature, SeenVariable, SeenVariant
from bridge.ops import FUSED_BATCH_NORMS

_TRAIN = "train"
_STATISTICS = slice(3, 5)
"""Which inputs of a fused batch norm are the moving averages; training does not read them."""

_MAX_NAMED = 3


def updates_are_there(model: SeenModel) -> Judgement:
    """update-ops-empty: what inference reads in place of a batch's statistics moves in training."""
    pairs = _pairs(model)
    if not pairs:
        return not_applicable("no variant is for training beside one for inference")
    breaches: list[Breach] = []
    count = 0
    for inference, training in pairs:
        averages = _averages(inference, training)
        count += len(averages)
        still = sorted(averages - training.written)
        if still:
            what = "update op" if model.is_module else "call with training=True"
            breaches.append(
                training.breach(
                    f"no {what} writes {_named(still)}, which inference reads and training does "
                    "not: fine-tuning leaves them as they are",
                    "build the training variant so that its update ops are in UPDATE_OPS when it "
                    "is exported"
                    if model.is_module
                    else "assign the moving averages in the call with training=True",
                    name=still[0],
                )
            )
    if not count:
        return not_applicable("there are no moving averages: training reads what inference reads")
    return judged(f"{count} moving {'average' if count == 1 else 'averages'}", breaches)


def training_has_variables(model: SeenModel) -> Judgement:
    """train-without-variables: a variant for training has something to train."""
    variants = [v for v in model.variants if _TRAIN in v.tags]
    if not variants:
        return not_applicable("no variant is for training")
    if not model.variables:
        return not_applicable("the model has no variables")
    breaches = [
        variant.breach(
            "none of the variables is trainable, so fine-tuning changes nothing",
            "make the variables with trainable=True in this variant"
            if model.is_module
            else "let the list `trainable_variables` name what fine-tuning may change",
        )
        for variant in variants
        if not variant.trainable
    ]
    counts = " and ".join(f"{len(v.trainable)} in {v.label}" for v in variants)
    return judged(f"trainable variables: {counts}", breaches)


def _pairs(model: SeenModel) -> list[tuple[SeenVariant, SeenVariant]]:
    """Returns each variant for training, after the one for inference with the same other tags."""
    return [
        (inference, variant)
        for variant in model.variants
        if _TRAIN in variant.tags
        and (inference := model.variant(variant.tags - {_TRAIN})) is not None
    ]


def _averages(inference: SeenVariant, training: SeenVariant) -> set[str]:
    """Returns the variables that only inference reads, and that are not trained."""
    found: set[str] = set()
    for signature in inference.signatures:
        trained = training.named(signature.name)
        if trained is not None:
            found |= _read_by(signature) - _read_by(trained)
    return found - training.trainable


def _read_by(signature: SeenSignature) -> set[str]:
    """Returns the variables that outputs are made of."""
    flow = signature.flow

    def variable(point: Point) -> SeenVariable | None:
        return signature.state.get(point.tensor.node) if point.frame is flow.root else None

    def follow(point: Point) -> Iterable[Point]:
        if variable(point) is not None:
            return ()
        sources = flow.sources(point)
        node = point.node
        if node.op in FUSED_BATCH_NORMS and point.frame.graph.attr(node, "is_training").b:
            return [*sources[: _STATISTICS.start], *sources[_STATISTICS.stop :]]
        return sources

    outputs = [point for points in signature.returned.values() for point in points]
    read = (variable(point) for point in flow.walk(outputs, follow))
    return {found.name for found in read if found is not None}


def _named(names: list[str]) -> str:
    more = len(names) - _MAX_NAMED
    shown = ", ".join(repr(name) for name in names[:_MAX_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown
