"""The clauses, in their order; docs/check.md says what each looks at."""

from __future__ import annotations

from bridge._check.dropout import features_are_not_dropped
from bridge._check.layout import is_channels_last
from bridge._check.mappings import (
    default_is_named,
    input_is_called_images,
    outputs_have_prefixes,
    takes_images_alone,
)
from bridge._check.rule import Judgement, Rule, judged, not_applicable
from bridge._check.seen import SeenModel
from bridge._check.shapes import (
    classes_are_logits,
    features_are_vectors,
    images_are_dense,
    size_is_known,
    sizes_are_given,
)
from bridge._check.training import training_has_variables, updates_are_there


def _is_reusable(model: SeenModel) -> Judgement:
    """reusable-saved-model: the objects offer what hub.KerasLayer needs."""
    if model.is_module:
        return not_applicable("it is a TF1 Hub module")
    if model.reuse is None:
        return not_applicable("no object has a `__call__`: the model is for serving only")
    return judged("`__call__` and its lists", model.reuse)


RULES: tuple[Rule, ...] = (
    Rule("IMG01", "`default` is the same as the signature of a task", default_is_named),
    Rule("IMG02", "feature vectors are float32[?, features]", features_are_vectors),
    Rule("IMG03", "classes are scored by float32[?, classes], linear", classes_are_logits),
    Rule("IMG04", "hidden activations name their architecture", outputs_have_prefixes),
    Rule("IMG05", "no dropout acts on feature vectors", features_are_not_dropped),
    Rule("IMG06", "images are dense float32[?, height, width, 3]", images_are_dense),
    Rule("IMG07", "the image input is called `images`", input_is_called_images),
    Rule("IMG08", "batches are open, size and channels fixed", sizes_are_given),
    Rule("IMG09", "the expected size of images is known", size_is_known),
    Rule("IMG10", "tensors are laid out channels_last", is_channels_last),
    Rule("IMG11", "the model is called with images alone", takes_images_alone),
    Rule("update-ops-empty", "training moves the moving averages", updates_are_there),
    Rule("train-without-variables", "there is something to train", training_has_variables),
    Rule("reusable-saved-model", "its objects can be reused", _is_reusable),
)
