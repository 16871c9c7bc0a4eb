"""Names, tasks and sizes of image models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.attrs import shape_attr, type_attr
from bridge.errors import HubBridgeError, UnsupportedError, UsageError
from bridge.graph import Graph
from bridge.model import (
    INFERENCE,
    TRAIN,
    Component,
    Encoding,
    Endpoint,
    Model,
    Shape,
    Signature,
    Tags,
    Variant,
)
from bridge.opsets import OpTable
from bridge.passes.image_conventions import IMAGE_MODULE_INFO, ImageConventions, ImageOptions
from bridge.proto import hub_pb, tf_pb
from bridge.report import Report
from tests.clients.tf1 import Tf1Client

FLOAT = tf_pb.DT_FLOAT
IMAGE: Shape = (None, 8, 8, 3)
OPEN: Shape = (None, None, None, 3)
SCORES: Shape = (None, 5)


def dense(name: str, shape: Shape, dtype: int = FLOAT) -> Endpoint:
    return Endpoint(Encoding.DENSE, dtype, shape, (Component(f"{name}:0", dtype, shape),))


def sparse(name: str, shape: Shape) -> Endpoint:
    parts = tuple(Component(f"{name}:0", FLOAT, None) for _ in range(3))
    return Endpoint(Encoding.SPARSE, FLOAT, shape, parts)


def variant_of(
    inputs: Mapping[str, Endpoint | Shape],
    outputs: Mapping[str, Endpoint | Shape] | None = None,
    *,
    tags: Tags = INFERENCE,
    name: str = "default",
    last: str = "Identity",
) -> Variant:
    """A variant whose outputs come out of ops `last`; an output is named like its node."""
    graph = Graph([], OpTable(()))
    taken = {
        key: end if isinstance(end, Endpoint) else dense(key, end) for key, end in inputs.items()
    }
    given = {
        key: end if isinstance(end, Endpoint) else dense(f"out/{key}", end)
        for key, end in (outputs or {"default": SCORES}).items()
    }
    for key, end in taken.items():
        shape = shape_attr(end.shape)
        graph.add("Placeholder", key, dtype=type_attr(end.dtype), shape=shape)
    for end in given.values():
        node = end.components[0].name.removesuffix(":0")
        graph.add("Relu", f"{node}/logits", [next(iter(taken))], T=type_attr(FLOAT))
        graph.add(last, node, [f"{node}/logits"], T=type_attr(FLOAT))
    return Variant(tags, graph, {name: Signature(name, taken, given)})


def model_of(*variants: Variant) -> Model:
    named = {variant.tags: variant for variant in variants}
    return Model(Path("source"), named, {}, {}, [], tf_pb.VersionDef(), "2.21.0")


def run(model: Model | Variant, **options: Any) -> Report:
    report = Report("source", None, "to-hub-module")
    model = model_of(model) if isinstance(model, Variant) else model
    ImageConventions(ImageOptions(**options)).run(model, report)
    return report


def refused(model: Model | Variant, error: type[HubBridgeError], **options: Any) -> str:
    with pytest.raises(error) as caught:
        run(model, **options)
    assert type(caught.value) is error
    return f"{caught.value} {caught.value.hint}"


def size_of(variant: Variant) -> tuple[int, int]:
    info = hub_pb.ImageModuleInfo.FromString(variant.attachments[IMAGE_MODULE_INFO])
    return info.default_image_size.height, info.default_image_size.width


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [IMAGE, OPEN, (1, 8, 8, 3), (None, None, 8, 3)])
def test_the_one_image_input_is_called_images(shape: Shape) -> None:
    variant = variant_of({"picture": shape, "scale": (), "vector": (None, 3)})
    run(variant)
    inputs = variant.signatures["default"].inputs
    assert sorted(inputs) == ["images", "scale", "vector"]
    assert inputs["images"].components[0].name == "picture:0"


@pytest.mark.parametrize(
    "end",
    [
        dense("x", (None, 8, 8, 1)),
        dense("x", (None, 8, 8, None)),
        dense("x", (None, 3)),
        dense("x", None),
        dense("x", IMAGE, tf_pb.DT_UINT8),
        sparse("x", IMAGE),
    ],
    ids=["grey", "unknown channels", "vector", "unknown", "uint8", "sparse"],
)
def test_what_is_no_image_keeps_its_name(end: Endpoint) -> None:
    variant = variant_of({"x": end})
    report = run(variant)
    assert list(variant.signatures["default"].inputs) == ["x"]
    assert variant.attachments == {}
    assert report.remarks == []


def test_of_several_images_none_is_called_so_and_the_report_says_how() -> None:
    variant = variant_of({"left": IMAGE, "right": IMAGE})
    report = run(variant)
    assert list(variant.signatures["default"].inputs) == ["left", "right"]
    (remark,) = report.remarks
    assert (remark.kind, remark.name) == ("input", "left, right")
    assert "--input images=NAME" in remark.reason


def test_the_user_says_which_is_the_image() -> None:
    variant = variant_of({"left": IMAGE, "right": IMAGE})
    report = run(variant, inputs={"images": "right"})
    inputs = variant.signatures["default"].inputs
    assert {key: end.components[0].name for key, end in inputs.items()} == {
        "images": "right:0",
        "left": "left:0",
    }
    assert report.remarks == []


def test_other_inputs_are_renamed_too_and_may_swap_names() -> None:
    variant = variant_of({"x": (), "y": (), "z": ()})
    run(variant, inputs={"x": "y", "y": "x"})
    inputs = variant.signatures["default"].inputs
    assert {key: end.components[0].name for key, end in inputs.items()} == {
        "x": "y:0",
        "y": "x:0",
        "z": "z:0",
    }


def test_an_input_that_the_user_names_otherwise_is_no_image() -> None:
    variant = variant_of({"x": IMAGE})
    run(variant, inputs={"photo": "x"})
    assert list(variant.signatures["default"].inputs) == ["photo"]


def test_an_input_that_is_called_images_stays_though_another_looks_like_one() -> None:
    variant = variant_of({"images": (None, 3), "x": IMAGE})
    run(variant)
    assert sorted(variant.signatures["default"].inputs) == ["images", "x"]


def test_only_default_is_renamed_and_in_each_variant() -> None:
    variants = [variant_of({"x": IMAGE}, tags=tags) for tags in (INFERENCE, TRAIN)]
    for variant in variants:
        served = replace(variant.signatures["default"], name="served")
        variant.signatures["served"] = served
    run(model_of(*variants))
    for variant in variants:
        assert list(variant.signatures["default"].inputs) == ["images"]
        assert list(variant.signatures["served"].inputs) == ["x"]


def test_a_model_that_was_a_module_stays_what_it_was() -> None:
    variant = variant_of({"x": IMAGE})
    model = model_of(variant)
    model.was_module = True
    run(model)
    assert list(variant.signatures["default"].inputs) == ["x"]
    assert variant.attachments == {}
    run(model, inputs={"images": "x"})
    assert list(variant.signatures["default"].inputs) == ["images"]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"images": "z"}, "`default` has no input 'z' it has x, y"),
        ({"y": "x"}, "two inputs of `default` would be called 'y'"),
        ({"a": "x", "b": "x"}, "'x' can't be called both 'a' and 'b'"),
    ],
    ids=["absent", "name taken", "twice"],
)
def test_new_names_must_fit(inputs: dict[str, str], said: str) -> None:
    text = refused(variant_of({"x": IMAGE, "y": ()}), UsageError, inputs=inputs)
    assert said in text


def test_new_names_must_fit_in_training_too() -> None:
    model = model_of(variant_of({"x": IMAGE}), variant_of({"x": IMAGE, "y": ()}, tags=TRAIN))
    assert "would be called 'y'" in refused(model, UsageError, inputs={"y": "x"})


@pytest.mark.parametrize(
    "options",
    [
        {"inputs": {"images": "x"}},
        {"task": "image_classification"},
        {"image_size": (8, 8)},
        {"logits": True},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_need_a_signature_called_default(options: dict[str, Any]) -> None:
    variant = variant_of({"x": IMAGE}, name="other")
    assert "no signature `default`" in refused(variant, UsageError, **options)


def test_a_model_without_the_signature_default_is_left_alone() -> None:
    variant = variant_of({"x": IMAGE}, name="other")
    run(variant)
    assert list(variant.signatures["other"].inputs) == ["x"]
    assert variant.attachments == {}


# -- size ------------------------------------------------------------------------------------------


def test_a_known_size_is_attached() -> None:
    variant = variant_of({"x": (None, 8, 9, 3)})
    run(variant)
    assert size_of(variant) == (8, 9)


@pytest.mark.parametrize(
    "end",
    [sparse("images", IMAGE), dense("images", (None, 8)), dense("images", None)],
    ids=["sparse", "vector", "unknown"],
)
def test_only_dense_images_have_a_size(end: Endpoint) -> None:
    variant = variant_of({"images": end})
    run(variant)
    assert variant.attachments == {}


def test_an_unknown_size_is_attached_if_the_user_says_it() -> None:
    variant = variant_of({"x": OPEN})
    run(variant)
    assert variant.attachments == {}
    run(variant, image_size=(6, 7))
    assert size_of(variant) == (6, 7)
    end = variant.signatures["default"].inputs["images"]
    assert end.shape == end.components[0].shape == (None, 6, 7, 3)
    shape = variant.graph.nodes["x"].attr["shape"].shape
    assert [dim.size for dim in shape.dim] == [-1, 6, 7, 3]


def test_a_size_reaches_the_other_signatures_of_the_same_input() -> None:
    variant = variant_of({"x": OPEN})
    variant.signatures["served"] = replace(variant.signatures["default"], name="served")
    run(variant, image_size=(6, 7))
    assert variant.signatures["served"].inputs["x"].shape == (None, 6, 7, 3)


def test_a_size_is_attached_to_each_variant() -> None:
    variants = [variant_of({"x": OPEN}, tags=tags) for tags in (INFERENCE, TRAIN)]
    run(model_of(*variants), image_size=(6, 7))
    assert [size_of(variant) for variant in variants] == [(6, 7), (6, 7)]


def test_an_attached_size_is_kept_unless_the_user_says_another() -> None:
    variant = variant_of({"images": OPEN})
    variant.attachments[IMAGE_MODULE_INFO] = hub_pb.ImageModuleInfo(
        default_image_size={"height": 3, "width": 4}
    ).SerializeToString()
    run(variant)
    assert size_of(variant) == (3, 4)
    run(variant, image_size=(6, 7))
    assert size_of(variant) == (6, 7)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (dense("images", (None, 8, 8, 3)), "are [?, 8, 8, 3] already"),
        (dense("images", (None, 3)), "are [?, 3], not of four dimensions"),
        (dense("images", None), "are <unknown>, not of four dimensions"),
        (sparse("images", OPEN), "not of four dimensions"),
        (dense("text", (None,)), "`default` has no image input"),
    ],
    ids=["another size", "vector", "unknown rank", "sparse", "no image"],
)
def test_a_size_must_fit(end: Endpoint, said: str) -> None:
    variant = variant_of({end.components[0].name.removesuffix(":0"): end})
    text = refused(variant, UsageError, image_size=(6, 7))
    assert "--image-size" in text
    assert said in text


def test_the_size_that_the_images_have_may_be_said() -> None:
    variant = variant_of({"x": (None, 8, None, 3)})
    run(variant, image_size=(8, 7))
    assert size_of(variant) == (8, 7)


def test_a_fixed_batch_is_remarked() -> None:
    report = run(variant_of({"x": (4, 8, 8, 3)}))
    (remark,) = report.remarks
    assert (remark.name, remark.signature) == ("images", "default")
    assert "fixed to 4" in remark.reason


# -- tasks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["image_feature_vector", "image_classification"])
def test_a_task_is_the_same_mapping_as_default(task: str) -> None:
    variant = variant_of({"x": IMAGE})
    run(variant, task=task)
    assert list(variant.signatures) == ["default", task]
    assert variant.signatures[task] == replace(variant.signatures["default"], name=task)


def test_a_task_that_is_there_becomes_the_same_mapping_and_that_is_said() -> None:
    task = "image_feature_vector"
    variant = variant_of({"x": IMAGE})
    variant.signatures[task] = variant_of({"y": IMAGE}, name=task).signatures[task]
    report = run(variant, task=task)
    assert variant.signatures[task] == replace(variant.signatures["default"], name=task)
    assert [(remark.kind, remark.name) for remark in report.remarks] == [("signature", task)]


def test_a_task_is_one_that_is_known() -> None:
    text = refused(variant_of({"x": IMAGE}), UsageError, task="image_generation")
    assert "'image_generation'" in text
    assert "image_feature_vector, image_classification" in text


@pytest.mark.parametrize(
    ("inputs", "outputs", "error", "said"),
    [
        ({"text": (None,)}, {"default": SCORES}, UsageError, "no image input"),
        ({"a": IMAGE, "b": IMAGE}, {"default": SCORES}, UsageError, "it has a, b"),
        ({"images": (None, 3)}, {"default": SCORES}, UnsupportedError, "`images` is float32[?, 3]"),
        ({"x": IMAGE}, {"probabilities": SCORES}, UnsupportedError, "but probabilities"),
        ({"x": IMAGE}, {"default": (None, None)}, UnsupportedError, "float32[?, ?]"),
        ({"x": IMAGE}, {"default": (None, 2, 2)}, UnsupportedError, "float32[?, 2, 2]"),
        ({"x": IMAGE}, {"default": None}, UnsupportedError, "float32<unknown>"),
        (
            {"x": IMAGE},
            {"default": dense("out/default", SCORES, tf_pb.DT_HALF)},
            UnsupportedError,
            "float16[?, 5]",
        ),
    ],
    ids=["no image", "two images", "vector", "no default", "unknown", "map", "rank", "half"],
)
def test_what_a_task_prescribes_is_checked(
    inputs: Any, outputs: Any, error: type[HubBridgeError], said: str
) -> None:
    variant = variant_of(inputs, outputs)
    assert said in refused(variant, error, task="image_feature_vector")


# -- logits ----------------------------------------------------------------------------------------


def test_logits_are_what_goes_into_the_softmax() -> None:
    variant = variant_of({"x": IMAGE}, {"default": SCORES, "same": SCORES}, last="Softmax")
    run(variant, logits=True, task="image_classification")
    for name in ("default", "image_classification"):
        outputs = variant.signatures[name].outputs
        assert outputs["default"].components[0].name == "out/default/logits"
        assert outputs["default"].shape == SCORES
        assert outputs["same"].components[0].name == "out/same:0"


def test_logits_are_found_behind_an_identity() -> None:
    variant = variant_of({"x": IMAGE}, last="Softmax")
    variant.graph.add("Identity", "i", ["out/default"], T=type_attr(FLOAT))
    signature = variant.signatures["default"]
    moved = signature.outputs["default"].moved(lambda _: "i:0")
    variant.signatures["default"] = replace(signature, outputs={"default": moved})
    run(variant, logits=True)
    found = variant.signatures["default"].outputs["default"].components[0].name
    assert found == "out/default/logits"


def test_logits_are_reshaped_as_the_softmax_was() -> None:
    variant = variant_of({"x": IMAGE}, last="Softmax")
    graph = variant.graph
    graph.add("Shape", "shape", ["out/default/logits"], T=type_attr(FLOAT))
    graph.add("Reshape", "r", ["out/default", "shape"], T=type_attr(FLOAT))
    graph.add("Squeeze", "s", ["r"], T=type_attr(FLOAT))
    signature = variant.signatures["default"]
    moved = {"default": signature.outputs["default"].moved(lambda _: "s:0")}
    for name in ("default", "image_classification"):
        variant.signatures[name] = Signature(name, signature.inputs, moved)
    run(variant, logits=True)
    names = {
        variant.signatures[name].outputs["default"].components[0].name
        for name in ("default", "image_classification")
    }
    assert names == {"s/logits"}
    assert list(graph.nodes["s/logits"].input) == ["r/logits"]
    assert list(graph.nodes["r/logits"].input) == ["out/default/logits", "shape"]
    assert graph.nodes["r/logits"].attr["T"] == type_attr(FLOAT)
    assert list(graph.nodes["r"].input) == ["out/default", "shape"]


@pytest.mark.parametrize(
    "variant",
    [
        variant_of({"x": IMAGE}),
        variant_of({"x": IMAGE}, {"other": SCORES}, last="Softmax"),
    ],
    ids=["no softmax", "no default"],
)
def test_without_a_softmax_there_are_no_logits(variant: Variant) -> None:
    text = refused(variant, UnsupportedError, logits=True)
    assert "--logits" in text
    assert "may be logits already" in text


def test_a_classifier_that_ends_in_a_softmax_is_remarked() -> None:
    report = run(variant_of({"x": IMAGE}, last="Softmax"), task="image_classification")
    (remark,) = report.remarks
    assert remark.name == "image_classification"
    assert "--logits" in remark.reason
    for options, last in (
        ({}, "Softmax"),
        ({"task": "image_feature_vector"}, "Softmax"),
        ({"task": "image_classification"}, "Relu"),
    ):
        assert run(variant_of({"x": IMAGE}, last=last), **options).remarks == []


# -- in the client ---------------------------------------------------------------------------------


def test_the_client_reads_the_size_back(tmp_path: Path, tf1: Tf1Client) -> None:
    import bridge
    from tests.saved_model.images import image_model

    source = image_model((None, None, None, 3)).write(tmp_path / "source")
    module = tmp_path / "module"
    bridge.to_hub_module(
        source, module, task="image_classification", image_size=(6, 7), logits=True
    )
    images = np.arange(2 * 6 * 7 * 3, dtype=np.float32).reshape(2, 6, 7, 3) / 252
    uses = tf1.hub_client(module, {"images": images}, signature="image_classification")
    assert uses.facts["image_size"] == [6, 7]
    assert uses.facts["channels"] == 3
    assert uses.facts["infos"]["default"] == uses.facts["infos"]["image_classification"]
    for outputs in uses.outputs.values():
        np.testing.assert_allclose(outputs["default"], images.mean((1, 2)), rtol=1e-5)
