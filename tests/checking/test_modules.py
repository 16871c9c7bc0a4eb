"""Every clause on real modules of TensorFlow 1.15: it holds, it is broken, it does not apply."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import bridge
from bridge._check.rules import RULES
from tests.attacks.edit import copy_module, meta_graph, saved_model
from tests.checking.lines import BROKEN, HOLDS, NOT_APPLICABLE, broken, line, places, statuses
from tests.conftest import TESTDATA, Golden

FEATURES = "image_feature_vector"

# What is broken in each of broken_modules.py, and nothing else is.
FAULTS: dict[str, set[str]] = {
    "good": set(),
    "default_in_other_tensors": set(),
    "default_differs": {"IMG01"},
    "default_of_other_weights": {"IMG01"},
    "default_only": {"IMG01"},
    "named_only": {"IMG01", "IMG11"},
    "features_not_pooled": {"IMG02"},
    "features_of_unknown_number": {"IMG02"},
    "features_of_another_key": {"IMG02"},
    "probabilities": {"IMG03"},
    "probabilities_reshaped": {"IMG03"},
    "logarithms_of_probabilities": {"IMG03"},
    "logits": set(),
    "key_without_prefix": {"IMG04"},
    "dropped_out": {"IMG05"},
    "dropped_out_in_cond": {"IMG05"},
    "dropped_out_behind_a_flag": set(),
    "weights_behind_dropout": set(),
    "scaled_behind_dropout": set(),
    "dropped_out_before_much": {"IMG05"},
    "bytes_as_images": {"IMG06"},
    "grey": {"IMG06", "IMG08"},
    "other_name": {"IMG07", "IMG09"},
    "fixed_batch": {"IMG02", "IMG08"},
    "any_size": {"IMG08", "IMG09"},
    "any_size_attached": set(),
    "any_size_attached_without_one": {"IMG08", "IMG09"},
    "other_size_attached": {"IMG08"},
    "images_channels_first": {"IMG06", "IMG08", "IMG10"},
    "ops_channels_first": {"IMG10"},
    "two_inputs": {"IMG11"},
    "two_inputs_and_grey": {"IMG06", "IMG07", "IMG08", "IMG09", "IMG11"},
    "no_default_output": {"IMG01", "IMG11"},
    "empty_updates": {"update-ops-empty"},
    "updates_in_the_forward_pass": set(),
    "nothing_to_train": {"update-ops-empty", "train-without-variables"},
}

# For each clause, what is said of one of its breaches: variant, signature, name, words.
SAID = [
    ("default_differs", "IMG01", ("{train}", "default", None), "not image_feature_vector: its out"),
    ("default_only", "IMG01", ("{}", "default", None), "no signature has the name of its task"),
    ("named_only", "IMG01", ("{train}", None, None), "there is no signature `default`"),
    ("features_not_pooled", "IMG02", ("{}", FEATURES, "default"), "its shape is [?, 6, 6, 5]"),
    (
        "features_of_unknown_number",
        "IMG02",
        ("{}", FEATURES, "default"),
        "it is float64, the number of features is unknown",
    ),
    ("features_of_another_key", "IMG02", ("{}", FEATURES, None), "no output `default`, but vector"),
    ("fixed_batch", "IMG02", ("{train}", FEATURES, "default"), "batch size is fixed to 2"),
    (
        "probabilities",
        "IMG03",
        ("{}", "image_classification", "default"),
        "ends in 'Softmax' (Softmax), so it gives probabilities",
    ),
    (
        "probabilities_reshaped",
        "IMG03",
        ("{train}", "image_classification", "default"),
        "ends in 'Softmax' (Softmax), so it gives probabilities",
    ),
    (
        "logarithms_of_probabilities",
        "IMG03",
        ("{}", "image_classification", "default"),
        "ends in 'LogSoftmax' (LogSoftmax), so it gives logarithms of probabilities",
    ),
    ("key_without_prefix", "IMG04", ("{}", FEATURES, "top"), "float32[?, 6, 6, 5] is a hidden"),
    (
        "dropped_out",
        "IMG05",
        ("{train}", FEATURES, "default"),
        "'last/dropout/random_uniform/RandomUniform' (RandomUniform) acts on the output itself",
    ),
    (
        "dropped_out_in_cond",
        "IMG05",
        ("{train}", FEATURES, "default"),
        "'cond/dropout/random_uniform/RandomUniform'",
    ),
    ("bytes_as_images", "IMG06", ("{}", "default", "images"), "it is uint8"),
    ("other_name", "IMG07", ("{}", "default", "pictures"), "is called 'pictures'"),
    ("fixed_batch", "IMG08", ("{train}", "default", "images"), "batch size is fixed to 2"),
    ("grey", "IMG08", ("{}", FEATURES, "images"), "the last dimension is 1, not 3"),
    ("any_size", "IMG08", ("{}", "default", "images"), "height or width of [?, ?, ?, 3] is unk"),
    ("any_size_attached_without_one", "IMG08", ("{}", "default", "images"), "none is attached"),
    (
        "other_size_attached",
        "IMG08",
        ("{}", "default", "images"),
        "[?, 8, 8, 3] takes no images of the attached size, 16x16",
    ),
    ("any_size", "IMG09", ("{train}", "default", "images"), "neither attached nor"),
    ("images_channels_first", "IMG10", ("{}", "default", "images"), "[?, 3, 8, 8], channels fir"),
    ("ops_channels_first", "IMG10", ("{}", FEATURES, None), "'conv/BiasAdd' (BiasAdd)"),
    ("two_inputs_and_grey", "IMG06", ("{}", FEATURES, "pixels"), "its shape is [?, 8, 8, 1]"),
    ("named_only", "IMG11", ("{}", None, None), "which module(images) gives"),
    ("two_inputs", "IMG11", ("{}", "default", None), "one of the inputs images, scale"),
    ("no_default_output", "IMG11", ("{}", "default", None), "there is no such: vector"),
    (
        "empty_updates",
        "update-ops-empty",
        ("{train}", None, "bn/moving_mean"),
        "'bn/moving_mean', 'bn/moving_variance', which inference reads and training does not",
    ),
    ("nothing_to_train", "train-without-variables", ("{train}", None, None), "none of the varia"),
]


def test_every_planted_fault_is_tried(broken_modules: Path) -> None:
    assert {path.name for path in broken_modules.iterdir() if path.is_dir()} == set(FAULTS)


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_broken_is_named_and_nothing_else(name: str, broken_modules: Path) -> None:
    report = bridge.check(broken_modules / name)
    assert broken(report) == FAULTS[name]
    for clause in report.clauses:
        assert bool(clause.breaches) == (clause.status is BROKEN)
        assert all(breach.found and breach.mend for breach in clause.breaches)


@pytest.mark.parametrize(("name", "clause", "place", "words"), SAID)
def test_a_breach_says_what_was_found_and_where(
    name: str,
    clause: str,
    place: tuple[str | None, ...],
    words: str,
    broken_modules: Path,
) -> None:
    breaches = line(bridge.check(broken_modules / name), clause).breaches
    found = [b for b in breaches if (b.variant, b.signature, b.name) == place]
    assert [words in breach.found for breach in found] == [True]


def test_size_and_call_are_judged_as_the_real_client_does(broken_modules: Path) -> None:
    client = json.loads((broken_modules / "client.json").read_text(encoding="utf-8"))
    assert client.keys() == FAULTS.keys()
    assert {name for name, said in client.items() if said["size"] is None} == {
        name for name, faults in FAULTS.items() if "IMG09" in faults
    }
    assert {name for name, said in client.items() if not said["called"]} == {
        name for name, faults in FAULTS.items() if "IMG11" in faults
    }
    # Where both work, but not with each other, the attached size is another than the static one.
    assert {
        name for name, said in client.items() if said["size"] and said["called"] > said["fits"]
    } == {"other_size_attached"}
    for name, said in client.items():
        if said["size"] is not None:
            size = "x".join(map(str, said["size"]))
            assert line(bridge.check(broken_modules / name), "IMG09").reason.startswith(size)


def test_a_size_that_only_a_named_signature_tells_is_told_with_the_name(
    broken_modules: Path,
) -> None:
    reason = line(bridge.check(broken_modules / "named_only"), "IMG09").reason
    assert reason == f"8x8, static, of signature {FEATURES} in {{}}, {{train}}"


@pytest.mark.parametrize("name", ["toy_image_ref", "digits", "no_variables", "multi_variant"])
def test_the_size_is_the_one_that_the_real_client_found(
    name: str, golden: Callable[[str], Golden]
) -> None:
    sizes = {tuple(v["expected_image_size"]) for v in golden(name).facts["variants"]}
    ((height, width),) = sizes
    reason = line(bridge.check(TESTDATA / "modules" / name), "IMG09").reason
    assert reason.startswith(f"{height}x{width}, ")


def test_what_only_the_training_variant_breaks_is_said_of_it_alone(broken_modules: Path) -> None:
    for name, clause in (("dropped_out", "IMG05"), ("default_differs", "IMG01")):
        breaches = line(bridge.check(broken_modules / name), clause).breaches
        assert {variant for variant, _, _ in places(breaches)} == {"{train}"}
    (breach,) = line(bridge.check(broken_modules / "dropped_out"), "IMG05").breaches
    assert breach.node == "last/dropout/random_uniform/RandomUniform"


def test_a_good_module_keeps_all_clauses(broken_modules: Path) -> None:
    found = statuses(bridge.check(broken_modules / "good"))
    open_ones = {"IMG03", "reusable-saved-model"}
    assert found == {
        rule.id: NOT_APPLICABLE if rule.id in open_ones else HOLDS for rule in RULES
    }  # no classification, and no SavedModel


def test_the_test_module_of_both_tasks_keeps_all_clauses(module_dir: Callable[[str], Path]) -> None:
    report = bridge.check(module_dir("toy_image_ref"))
    assert {i for i, s in statuses(report).items() if s is not HOLDS} == {"reusable-saved-model"}
    assert line(report, "IMG01").reason == "the same as image_feature_vector in {}, {train}"
    assert line(report, "IMG09").reason == "16x16, attached in {}, {train}"
    assert line(report, "update-ops-empty").reason == "4 moving averages"
    assert (report.format, report.producer) == ("TF1 Hub module", "1.15.5")


def test_a_static_size_is_found_in_every_variant(module_dir: Callable[[str], Path]) -> None:
    report = bridge.check(module_dir("multi_variant"))
    assert line(report, "IMG09").reason == "8x8, static in {}, {gpu}, {train}"
    assert not broken(report)


@pytest.mark.parametrize("name", ["text_vocab", "rnn", "sparse_input", "ragged_input"])
def test_no_clause_applies_to_a_module_without_images(name: str) -> None:
    report = bridge.check(TESTDATA / "modules" / name)
    assert set(statuses(report).values()) == {NOT_APPLICABLE}
    assert not report.applies
    assert all(clause.reason for clause in report.clauses)


def test_variants_with_other_tags_are_paired_for_training(
    module_dir: Callable[[str], Path],
) -> None:
    report = bridge.check(module_dir("own_tags"))
    assert line(report, "update-ops-empty").reason == "2 moving averages"
    assert line(report, "train-without-variables").reason == (
        "trainable variables: 5 in {bs16, train}"
    )


def test_a_broken_attachment_is_no_size(tmp_path: Path) -> None:
    module = copy_module("toy_image_resource", tmp_path)
    with meta_graph(module) as graph:
        collection = graph.collection_def["hub_module_attachments"].bytes_list
        whole = next(v for v in collection.value if b"image_module_info" in v)
        collection.value.remove(whole)
        # The key, and a value of two bytes that is no message.
        collection.value.append(b"\x0a\x11image_module_info\x12\x02\xff\xff")
    (breach,) = line(bridge.check(module), "IMG09").breaches
    assert "'image_module_info' is no message of its type" in breach.found


def test_a_variant_without_its_values_is_remarked(tmp_path: Path) -> None:
    module = copy_module("multi_variant", tmp_path)
    with saved_model(module) as message:
        variant = next(m for m in message.meta_graphs if list(m.meta_info_def.tags) == ["train"])
        # A name of the same length, which the checkpoint does not have.
        renamed = variant.SerializeToString().replace(b"Variant/bn/gamma", b"Variant/bn/gamme")
        variant.ParseFromString(renamed)
    report = bridge.check(module)
    assert ["variant {train} is not judged" in remark for remark in report.remarks] == [True]
    assert line(report, "train-without-variables").status is NOT_APPLICABLE


def test_a_task_that_takes_no_images_breaks_a_clause(tmp_path: Path) -> None:
    module = copy_module("toy_image_resource", tmp_path)
    with saved_model(module) as message:
        for graph in message.meta_graphs:
            inputs = graph.signature_def[FEATURES].inputs
            inputs["images"].tensor_shape.unknown_rank = True
            del inputs["images"].tensor_shape.dim[:]
            for name in ("left", "right"):
                inputs[name].CopyFrom(inputs["images"])
            del inputs["images"]
    breaches = line(bridge.check(module), "IMG06").breaches
    assert places(breaches) == {("{}", FEATURES, None), ("{train}", FEATURES, None)}
    assert breaches[0].found == "none of its inputs takes images: left, right"
