"""What a rule is, and the verdicts that rules give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bridge._check.results import Breach, ClauseStatus
from bridge._check.seen import SeenModel, SeenSignature
from bridge.dtypes import FLOATS
from bridge.model import DEFAULT, format_tags
from bridge.passes.image_conventions import CLASSIFICATION, TASKS

FEATURES = TASKS[0]
"""The signature of feature vectors."""

NO_IMAGES = "no signature takes images"


@dataclass(frozen=True)
class Judgement:
    """What a rule says of a model.

    Attributes:
      status: what became of the clause.
      reason: what was looked at, or why the clause does not apply.
      breaches: where it is broken.
    """

    status: ClauseStatus
    reason: str
    breaches: tuple[Breach, ...] = ()


@dataclass(frozen=True)
class Rule:
    """A clause and how it is judged.

    Attributes:
      id: such as `IMG05`.
      title: what the clause asks for.
      judge: finds out.
    """

    id: str
    title: str
    judge: Callable[[SeenModel], Judgement]


def not_applicable(reason: str) -> Judgement:
    """The clause has nothing to say about the model."""
    return Judgement(ClauseStatus.DOES_NOT_APPLY, reason)


def judged(reason: str, breaches: Iterable[Breach]) -> Judgement:
    """The clause holds, unless there are breaches.

    Args:
      reason: what was looked at.
      breaches: where it is broken; the same one in two signatures of one mapping is kept twice.
    """
    found = tuple(breaches)
    return Judgement(ClauseStatus.BROKEN if found else ClauseStatus.HOLDS, reason, found)


def where(signatures: Sequence[SeenSignature]) -> str:
    """Names signatures and their variants: `default, image_feature_vector in {}, {train}`."""
    by_variant: dict[str, list[str]] = {}
    for signature in signatures:
        by_variant.setdefault(format_tags(signature.tags), []).append(signature.name)
    groups: dict[str, list[str]] = {}
    for variant, names in by_variant.items():
        groups.setdefault(", ".join(dict.fromkeys(names)), []).append(variant)
    return "; ".join(f"{names} in {', '.join(labels)}" for names, labels in groups.items())


def feature_signatures(model: SeenModel) -> list[SeenSignature]:
    """Returns the signatures that give feature vectors."""
    return _of_task(model, FEATURES) + _unnamed(model)


def class_signatures(model: SeenModel) -> list[SeenSignature]:
    """Returns the signatures that give scores of classes."""
    return _of_task(model, CLASSIFICATION)


def _of_task(model: SeenModel, name: str) -> list[SeenSignature]:
    return [s for s in model.signatures() if s.name == name]


def _unnamed(model: SeenModel) -> list[SeenSignature]:
    """Returns each `default` that gives a vector for each image, where no name says of what.

    SavedModels know no names of tasks, and those that have some often have them for inference
    alone. What is asked of feature vectors is asked of scores, too.
    """
    if {s.name for s in model.signatures() if s.name in TASKS} == {CLASSIFICATION}:
        return []
    nameless = [v for v in model.variants if not any(s.name in TASKS for s in v.signatures)]
    defaults = [d for v in nameless if (d := v.named(DEFAULT)) is not None]
    return [default for default in defaults if gives_vectors(default)]


def gives_vectors(signature: SeenSignature) -> bool:
    """True where images go in and floats of two dimensions come out."""
    main = signature.main_output
    if main is None or not signature.image_inputs:
        return False
    output = signature.outputs[main]
    return output.dtype in FLOATS and output.shape is not None and len(output.shape) == 2
