"""What is read of test modules, and of the SavedModels that are made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import bridge
from bridge._parity.structure import compare_structure
from bridge._surfaces.read import read_surface
from bridge._surfaces.surface import HUB_MODULE, SAVED_MODEL, Computation, Surface
from bridge.model import INFERENCE, TRAIN, Encoding
from bridge.proto.hub_pb import ImageModuleInfo
from bridge.saved_model.structured_value import none, string
from tests.conftest import Golden
from tests.parity.models import Converted, attach, copy, only_graph, variant
from tests.saved_model.handmade import FLOAT, Handmade, doubling, scaled, spec
from tests.saved_model.images import image_model

TOY = "toy_image_resource"
IMAGES = {"input": "images"}


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return Converted(tmp_path_factory.mktemp("converted"))


def computation(surface: Surface, name: str = "default", *tags: str) -> Computation:
    found = {(c.variant, c.signature): c for c in surface.computations}
    return found[frozenset(tags), name]


def labels(surface: Surface, name: str = "default", *tags: str) -> list[str]:
    return [call.label for call in computation(surface, name, *tags).calls]


# -- which format ----------------------------------------------------------------------------------


def test_a_directory_that_holds_neither_is_refused(tmp_path: Path, converted: Converted) -> None:
    with pytest.raises(bridge.WrongKindError) as caught:
        read_surface(tmp_path)
    assert "saved_model.pb" in f"{caught.value} {caught.value.hint}"
    module = copy(converted.module(TOY), tmp_path)
    (module / "tfhub_module.pb").unlink()
    with pytest.raises(bridge.WrongKindError) as caught:
        read_surface(module)
    assert "TF1 SavedModel" in str(caught.value)
    assert "create_module_spec_from_saved_model" in str(caught.value.hint)


def test_a_saved_model_with_nothing_to_call_is_refused(tmp_path: Path) -> None:
    with pytest.raises(bridge.UnsupportedError, match="neither a `__call__`"):
        read_surface(Handmade().write(tmp_path / "model"))


def test_a_broken_capture_is_refused(tmp_path: Path, converted: Converted) -> None:
    path = copy(converted.saved_model("partitioned"), tmp_path)
    with only_graph(path) as graph:
        for function in graph.object_graph_def.concrete_functions.values():
            function.bound_inputs[:] = [99999] * len(function.bound_inputs)
    with pytest.raises(bridge.MalformedError, match="captures object 99999"):
        read_surface(path)


# -- modules ---------------------------------------------------------------------------------------


def test_a_module_has_its_own_signatures(converted: Converted) -> None:
    surface = read_surface(converted.module(TOY))
    assert (surface.format, surface.producer) == (HUB_MODULE, "1.15.5")
    for tags in (INFERENCE, TRAIN):
        names = [c.signature for c in surface.computations if c.variant == tags]
        assert names == ["default", "image_classification", "image_feature_vector"]
    (call,) = computation(surface, "default", "train").calls
    assert (call.kind, call.name, call.tags) == ("module", "default", ("train",))
    assert surface.image_size == (16, 16)
    assert surface.attachments[TRAIN]["toy_labels"]
    assert surface.regularization_losses == {INFERENCE: 3, TRAIN: 3}
    assert surface.updated == {
        INFERENCE: frozenset(),
        TRAIN: frozenset(
            f"Toy/{layer}/{name}"
            for layer in ("bn1", "block2/BatchNorm")
            for name in ("moving_mean", "moving_variance")
        ),
    }


def digest(value: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()


@pytest.mark.parametrize("name", ["toy_image_ref", "rnn", "digits"])
def test_digests_are_those_of_the_values(
    name: str, converted: Converted, golden: Callable[[str], Golden]
) -> None:
    wanted = {key: digest(value) for key, value in golden(name).under("var").items()}
    assert wanted
    for path in (converted.module(name), converted.saved_model(name)):
        found = read_surface(path).variables
        assert {key: variable.digest for key, variable in found.items()} == wanted


def test_a_part_of_a_partitioned_variable_is_a_variable(
    converted: Converted, golden: Callable[[str], Golden]
) -> None:
    whole = golden("partitioned").under("var")["Parts/embedding"]
    for path in (converted.module("partitioned"), converted.saved_model("partitioned")):
        found = read_surface(path).variables
        parts = [v for name, v in sorted(found.items()) if name.startswith("Parts/embedding/")]
        assert len(parts) == 3
        start = 0
        for part in parts:
            assert part.shape is not None
            assert part.shape[0] is not None
            rows = whole[start : start + part.shape[0]]
            start += part.shape[0]
            assert part.digest == digest(rows)
        assert start == len(whole)


def test_update_ops_without_inputs_stand_apart(converted: Converted) -> None:
    surface = read_surface(converted.module("unused_variable"))
    assert surface.updated_apart[TRAIN] == {"calls"}
    assert surface.updated_apart[TRAIN] < surface.updated[TRAIN]
    saved_model = read_surface(converted.saved_model("unused_variable"))
    assert saved_model.updated[TRAIN] == surface.updated[TRAIN] - {"calls"}


def test_updates_in_branches_are_found(converted: Converted) -> None:
    wanted = {"Flow/BatchNorm/moving_mean", "Flow/BatchNorm/moving_variance"}
    for name in ("control_flow_ref", "control_flow_resource"):
        assert read_surface(converted.module(name)).updated[INFERENCE] == wanted
        assert read_surface(converted.saved_model(name)).updated[TRAIN] == wanted


def test_tables_count_by_their_content(converted: Converted) -> None:
    for name, wanted in (("assets_many", 5), ("text_vocab", 1), (TOY, 0)):
        for path in (converted.module(name), converted.saved_model(name)):
            assert len(read_surface(path).tables) == wanted


def test_only_tables_that_a_signature_uses_count(converted: Converted, tmp_path: Path) -> None:
    module = copy(converted.module("assets_many"), tmp_path)
    with variant(module) as graph:
        del graph.signature_def["words_of_ids"]
        for name in ("default", "french", "french_ids"):
            del graph.signature_def["default"].outputs[name]
    assert 0 < len(read_surface(module).tables) < 5


def test_an_image_size_comes_from_the_signature_where_nothing_is_attached(
    converted: Converted, tmp_path: Path
) -> None:
    module = copy(converted.module(TOY), tmp_path)
    with variant(module) as graph:
        attach(graph, "image_module_info", None)
        graph.signature_def["default"].inputs["images"].tensor_shape.dim[1].size = 15
    assert read_surface(module).image_size == (15, 16)


@pytest.mark.parametrize(("height", "width"), [(0, 20), (20, 0)])
def test_an_attached_size_that_lacks_a_side_says_nothing(
    height: int, width: int, converted: Converted, tmp_path: Path
) -> None:
    module = copy(converted.module(TOY), tmp_path)
    info = ImageModuleInfo()
    info.default_image_size.height, info.default_image_size.width = height, width
    with variant(module) as graph:
        attach(graph, "image_module_info", info.SerializeToString())
    assert read_surface(module).image_size == (16, 16)


# -- SavedModels made of modules -------------------------------------------------------------------


def test_the_ways_of_a_saved_model_are_those_of_the_mapping(converted: Converted) -> None:
    surface = read_surface(converted.saved_model(TOY))
    assert surface.format == SAVED_MODEL
    assert labels(surface) == [
        "__call__(training=False, return_endpoints=True)",
        "__call__(training=False)",
        "signatures['default']",
        "signatures['serving_default']",
    ]
    assert labels(surface, "default", "train") == [
        "__call__(training=True, return_endpoints=True)",
        "__call__(training=True)",
    ]
    assert labels(surface, "image_classification")[-1] == "signatures['image_classification']"
    assert computation(surface, "serving_default").same_as == (INFERENCE, "default")
    assert computation(surface, "default", "train").same_as is None
    assert surface.image_size == (16, 16)


def test_calls_are_templates(converted: Converted) -> None:
    full, plain, served, _ = computation(read_surface(converted.saved_model(TOY))).calls
    training = {"training": {"value": False}}
    assert full.args == ({"dict": {"images": IMAGES}},)
    assert full.kwargs == {**training, "return_endpoints": {"value": True}}
    assert full.outputs["Toy/conv1"] == ("Toy/conv1",)
    assert (plain.args, plain.kwargs, plain.outputs) == ((IMAGES,), training, {"default": ()})
    assert (served.args, served.kwargs) == ((), {"images": IMAGES})
    assert served.outputs == full.outputs


def test_serving_signatures_take_the_parts_of_composite_tensors(converted: Converted) -> None:
    sparse = computation(read_surface(converted.saved_model("sparse_input")))
    assert {end.encoding for end in sparse.inputs.values()} == {Encoding.SPARSE}
    *_, served = sparse.calls
    assert served.kwargs["ids_dense_shape"] == {"input": "ids|dense_shape"}
    assert len(served.kwargs) == 6
    ragged = computation(read_surface(converted.saved_model("ragged_input")))
    *_, served = ragged.calls
    assert served.kwargs == {
        "ids_0": {"input": "ids|values"},
        "ids_1": {"input": "ids|row_splits_0"},
    }


def test_an_input_called_training_is_an_input(converted: Converted) -> None:
    found = computation(read_surface(converted.saved_model("control_flow_ref")), "flagged")
    assert list(found.inputs) == ["features", "training"]
    assert found.calls[-1].kwargs["training"] == {"input": "training"}


def test_subobjects_are_variants(converted: Converted) -> None:
    surface = read_surface(converted.saved_model("own_tags"))
    assert labels(surface, "default", "bs16", "train") == [
        "bs16_train.__call__(training=False, return_endpoints=True)",
        "bs16_train.__call__(training=False)",
        "signatures['bs16_train/default']",
    ]
    assert {c.variant for c in surface.computations} == {
        frozenset(["bs16"]),
        frozenset(["bs16", "train"]),
    }
    single = read_surface(converted.saved_model("single_tag"))
    assert computation(single).same_as == (frozenset(["special"]), "default")


def test_training_is_told_apart_only_where_its_graph_is_another(converted: Converted) -> None:
    same = read_surface(converted.saved_model("partitioned"))
    assert computation(same, "default", "train").same_as == (INFERENCE, "default")
    # Only the update ops differ: they are no part of what is computed.
    updating = read_surface(converted.saved_model("control_flow_resource"))
    assert computation(updating, "default", "train").same_as == (INFERENCE, "default")
    assert updating.updated[TRAIN] != updating.updated[INFERENCE]


# -- other SavedModels -----------------------------------------------------------------------------


def test_the_only_output_of_default_is_also_called_so(tmp_path: Path) -> None:
    surface = read_surface(image_model().write(tmp_path / "model"))
    assert list(computation(surface).inputs) == ["picture"]
    assert computation(surface).calls[0].outputs == {"default": ()}
    assert list(computation(surface, "serving_default").outputs) == ["scores"]
    assert surface.image_size == (8, 8)
    model = Handmade()
    model.signature("only", model.trace(scaled("serve", 2.0), keywords={"x": spec()}))
    surface = read_surface(model.write(tmp_path / "other"))
    stands_in = computation(surface)
    assert stands_in.calls[0].label == "signatures['only']"
    assert list(computation(surface, "only").outputs) == ["default"]


def test_arguments_that_have_their_default_are_left_out(tmp_path: Path) -> None:
    model = Handmade()
    traces = [
        model.trace(scaled(f"f_{mode}", 2.0), [spec(), string(mode), none()])
        for mode in ("other", "usual")
    ]
    model.method("__call__", traces, ["x", "mode", "bias"], [string("usual"), none()])
    (call,) = computation(read_surface(model.write(tmp_path / "model"))).calls
    assert (call.args, call.kwargs) == (({"input": "x"},), {})


def test_a_variable_must_be_marked_and_listed_to_be_trainable(tmp_path: Path) -> None:
    model = doubling()
    numbers = [
        model.variable(name, attribute=name, trainable=name != "unmarked")
        for name in ("both", "unmarked", "unlisted")
    ]
    model.list_of("trainable_variables", numbers[:2])
    found = read_surface(model.write(tmp_path / "model")).variables
    assert {name for name, v in found.items() if v.trainable} == {"both"}
    assert {v.dtype for v in found.values()} == {FLOAT}


@pytest.mark.tf2
def test_a_module_that_updates_as_it_computes_needs_no_update_op(tmp_path: Path) -> None:
    import tensorflow as tf

    from bridge import hub

    def counting() -> None:
        x = tf.compat.v1.placeholder(tf.float32, [None])
        count = tf.compat.v1.get_variable("count", [], use_resource=True, trainable=False)
        with tf.control_dependencies([count.assign_add(tf.reduce_sum(x))]):
            hub.add_signature(inputs=x, outputs=tf.identity(x))

    hub.create_module_spec(counting).export(tmp_path / "module")
    module = read_surface(tmp_path / "module")
    assert module.updated == {INFERENCE: {"count"}}
    assert module.updated_apart == {INFERENCE: frozenset()}
    bridge.to_saved_model(tmp_path / "module", tmp_path / "saved_model", verify=False)
    checks = compare_structure(module, read_surface(tmp_path / "saved_model")).checks
    assert [check for check in checks if check.status is not bridge.Status.PASS] == []
