"""A module that computes at once is the module that the old client ran, in the way of TF2."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.errors import UsageError
from tests.clients.converted import (
    MODULES,
    Case,
    assert_close,
    cases,
    components,
    variables_of,
    whole_arrays,
)
from tests.clients.tf1 import Tf1Client
from tests.conftest import TESTDATA, Golden
from tests.hub.eager import TOY, images, make, names, ordered_names, shared, values

pytestmark = pytest.mark.tf2

CASES = cases()
# As in tests/clients/test_goldens.py, which says why.
NOT_OF_THE_INPUTS = {"calls"}
LOW_PRECISION = {"reduced_precision": 4e-3, "reduced_precision_ref": 4e-3}
ACROSS_RELEASES = 1e-4


def of_case(case: Case, **options: Any) -> Any:
    return shared(case.module, tuple(case.variant["tags"]), **options)


def arrays(outputs: Any) -> dict[str, Any]:
    return {name + part: a for name, v in outputs.items() for part, a in components(v).items()}


# -- what it computes ---------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
def test_every_output_is_what_the_old_client_computed(
    module: str, golden: Callable[[str], Golden]
) -> None:
    recorded, compared = golden(module), 0
    for case in CASES:
        if case.module != module or not case.facts["deterministic"]:
            continue
        instance = of_case(case)
        outputs = instance(case.inputs(recorded), signature=case.signature, as_dict=True)
        found, wanted = arrays(outputs), recorded.under(f"{case.prefix}|out")
        assert sorted(found) == sorted(wanted)
        for name, array in wanted.items():
            assert_close(found[name], array, f"{case} {name}", LOW_PRECISION.get(module, 1e-5))
        compared += len(wanted)
    assert compared


@pytest.mark.parametrize("module", [TOY, "partitioned"])
def test_gradients_are_what_the_old_client_computed(
    module: str, golden: Callable[[str], Golden]
) -> None:
    import tensorflow as tf

    recorded = golden(module)
    for case in CASES:
        if case.module != module or not case.facts.get("grad_outputs"):
            continue
        instance = make(module, tags=case.variant["tags"], trainable=True)
        with tf.GradientTape() as tape:
            outputs = instance(case.inputs(recorded), signature=case.signature, as_dict=True)
            loss = tf.add_n(
                [
                    tf.reduce_sum(outputs[name] * recorded.arrays[f"{case.prefix}|proj|{name}"])
                    for name in case.facts["grad_outputs"]
                ]
            )
        variables = instance.trainable_variables
        gradients = dict(zip(ordered_names(variables), tape.gradient(loss, variables), strict=True))
        found = whole_arrays(
            {n: tf.convert_to_tensor(g).numpy() for n, g in gradients.items() if g is not None},
            case.variant,
        )
        wanted = recorded.under(f"{case.prefix}|grad")
        assert wanted
        assert sorted(found) == sorted(wanted)
        for name, array in wanted.items():
            assert_close(found[name], array, f"{case} {name}", ACROSS_RELEASES)


@pytest.mark.parametrize("module", [TOY, "own_tags", "unused_variable"])
def test_a_call_of_a_trainable_module_runs_the_update_ops(
    module: str, golden: Callable[[str], Golden]
) -> None:
    recorded, moved = golden(module), 0
    for case in CASES:
        if case.module != module or not case.facts.get("after_updates"):
            continue
        instance = make(module, tags=case.variant["tags"], trainable=True)
        instance(case.inputs(recorded), signature=case.signature, as_dict=True)
        after = recorded.under(f"{case.prefix}|after_updates")
        found = whole_arrays(values(instance), case.variant)
        for name, array in (recorded.under("var") | after).items():
            if name in found and name not in NOT_OF_THE_INPUTS:
                assert_close(found[name], array, f"{case} {name}")
                moved += name in after
    assert moved


def test_a_call_of_a_module_that_is_not_trainable_changes_nothing() -> None:
    module = make(TOY, tags={"train"})
    before = values(module)
    outputs = module(images())
    assert all((value == before[name]).all() for name, value in values(module).items())
    assert np.abs(outputs - shared(TOY)(images())).max() > 1e-3, "the batch's own statistics"


@pytest.mark.parametrize(
    "module", ["toy_image_ref", "partitioned_resource", "own_tags", "reduced_precision"]
)
def test_variables_and_losses_are_those_of_the_variant(
    module: str, golden: Callable[[str], Golden]
) -> None:
    recorded = golden(module)
    for variant in recorded.facts["variants"]:
        facts = variables_of(variant)
        instance = shared(module, tuple(variant["tags"]), trainable=True)
        assert names(instance.variables) == sorted(facts)
        trainable = [name for name, one in facts.items() if one["trainable"]]
        assert names(instance.trainable_variables) == sorted(trainable)
        assert sorted(instance.variable_map) == sorted({one["whole"] for one in facts.values()})
        wanted = [a for _, a in sorted(recorded.under(f"{variant['key']}|reg").items())]
        for found, array in zip(instance.losses, wanted, strict=True):
            assert_close(found.numpy(), array, module)
        frozen = shared(module, tuple(variant["tags"]))
        assert names(frozen.variables) == sorted(facts)
        assert list(frozen.trainable_variables) == frozen.losses == []


def test_a_partitioned_variable_is_the_list_of_its_parts() -> None:
    parts = shared("partitioned").variable_map["Parts/embedding"]
    assert [list(part.shape) for part in parts] == [[4, 4], [4, 4], [3, 4]]


def test_two_modules_of_one_spec_share_no_variable() -> None:
    from bridge import hub

    spec = hub.load_module_spec(str(TESTDATA / "modules" / TOY))
    one, other = hub.Module(spec), hub.Module(spec)
    before = other(images())
    for variable in one.variables:
        variable.assign(variable + 1.0)
    assert (one(images()) != before).numpy().any()
    np.testing.assert_array_equal(other(images()), before)


# -- how it is called ---------------------------------------------------------------------------


def test_inputs_that_do_not_fit_are_refused_as_in_the_old_library() -> None:
    import tensorflow as tf

    module = shared(TOY)
    for wrong, said in (
        (None, "missing are \\['images'\\]"),
        ({"image": images()}, "\\['image'\\] are no inputs"),
        (images()[:, :8], "takes TensorSpec"),
        (tf.cast(images(), tf.float64), "not TensorSpec"),
        ("images", "the value is none"),
    ):
        with pytest.raises(TypeError, match=said) as caught:
            module(wrong)
        assert isinstance(caught.value, UsageError)
    with pytest.raises(TypeError, match="several inputs"):
        shared("multi_input")(images())
    with pytest.raises(TypeError, match="no output 'default'"):
        shared("multi_input")({"left": tf.ones([1, 3]), "right": tf.ones([1, 4])})
    with pytest.raises(ValueError, match="no signature 'other'"):
        module(images(), signature="other")
    with pytest.raises(KeyError):
        module(images(), signature="other")
    with pytest.raises(ValueError, match="no graph variant"):
        make(TOY, tags={"gpu"})


def test_arrays_and_lists_are_made_tensors_of_the_signature() -> None:
    module = shared(TOY)
    wanted = module(images())
    np.testing.assert_array_equal(module(images().astype(np.float64)), wanted)
    np.testing.assert_array_equal(module({"images": images().tolist()}), wanted)
    texts = shared("text_vocab")(["hello world", ""])
    np.testing.assert_array_equal(texts, shared("text_vocab")(np.array(["hello world", ""])))


def test_it_can_not_be_called_in_a_graph_of_tensorflow_1() -> None:
    import tensorflow as tf

    module = shared(TOY)
    with tf.Graph().as_default(), pytest.raises(RuntimeError, match="outside of the graph"):
        module(tf.zeros([1, 16, 16, 3]))


def test_the_image_size_and_the_attachments_are_those_of_the_variant() -> None:
    from google.protobuf.struct_pb2 import ListValue

    from bridge import hub

    module = shared("toy_image_resource")
    assert hub.get_expected_image_size(module) == [16, 16]
    assert module.get_input_info_dict()["images"].get_shape().as_list() == [None, 16, 16, 3]
    assert module.get_output_info_dict("image_classification")["default"].dtype.name == "float32"
    assert len(module.get_attached_message("toy_labels", ListValue).values) == 5
    assert module.get_attached_message("nothing", ListValue) is None
    with pytest.raises(KeyError, match="nothing"):
        module.get_attached_message("nothing", ListValue, required=True)


# -- in functions, modules and layers ------------------------------------------------------------


def test_it_works_in_functions_and_data_sets_and_may_be_made_there() -> None:
    import tensorflow as tf

    wanted = shared(TOY)(images())

    @tf.function
    def call(value: Any) -> Any:
        return shared(TOY)(value)

    @tf.function
    def make_and_call(value: Any) -> Any:
        return make(TOY, trainable=True)(value)

    np.testing.assert_allclose(call(images()), wanted, rtol=1e-5)
    np.testing.assert_allclose(make_and_call(images()), wanted, rtol=1e-5)
    gc.collect()
    with tf.GradientTape() as tape:
        np.testing.assert_allclose(make_and_call(images()), wanted, rtol=1e-5)
    assert tape.watched_variables()

    def made(value: Any) -> Any:
        return make(TOY)(value)

    mapped = tf.data.Dataset.from_tensors(images()).map(made)
    gc.collect()
    np.testing.assert_allclose(next(iter(mapped)), wanted, rtol=1e-5)


def test_it_may_be_made_in_a_wrapped_function_as_the_old_library_advised() -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    initializers: list[Any] = []

    def use(value: Any) -> Any:
        module = make(TOY, trainable=True)
        initializers.append(v1.initializers.global_variables())
        return [module(value), module(value, signature="image_classification")]

    function = v1.wrap_function(use, [tf.TensorSpec([None, 16, 16, 3])])
    function.prune([], initializers)()
    features, classes = function(tf.constant(images()))
    np.testing.assert_allclose(features, shared(TOY)(images()), rtol=1e-5)
    wanted = shared(TOY)(images(), signature="image_classification")
    np.testing.assert_allclose(classes, wanted, rtol=1e-5)


def test_it_belongs_to_the_tf_module_that_holds_it(tmp_path: Path) -> None:
    import tensorflow as tf

    class Model(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = make("text_vocab", trainable=True, name="2 words/embed")

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def __call__(self, texts: Any) -> Any:
            return self.embed(texts)

    model = Model()
    assert model.embed.name == "_2_words_embed"
    assert names(model.variables) == names(model.embed.variables)
    assert names(model.trainable_variables) == names(model.embed.trainable_variables) != []
    before = model(["hello", "world"])
    path = tf.train.Checkpoint(model=model).save(os.fspath(tmp_path / "checkpoint"))
    tf.saved_model.save(model, os.fspath(tmp_path / "saved"))
    for variable in model.variables:
        variable.assign(variable * 2.0)
    loaded = tf.saved_model.load(os.fspath(tmp_path / "saved"))
    np.testing.assert_array_equal(loaded(["hello", "world"]), before)
    assert (model(["hello", "world"]) != before).numpy().any()
    tf.train.Checkpoint(model=model).restore(path).assert_consumed()
    np.testing.assert_array_equal(model(["hello", "world"]), before)


# -- writing it ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [TOY, "toy_image_ref", "partitioned", "text_vocab", "no_variables"]
)
def test_the_old_client_reads_what_is_exported_with_present_values(
    name: str, tmp_path: Path, tf1: Tf1Client, golden: Callable[[str], Golden]
) -> None:
    import tensorflow as tf

    from bridge import hub

    recorded = golden(name)
    case = next(c for c in CASES if c.module == name and c.facts["deterministic"])
    module = make(name)
    before = module(case.inputs(recorded), as_dict=True)
    for variable in module.variables:
        variable.assign(variable * 1.25 + 0.125)
    wanted = arrays(module(case.inputs(recorded), as_dict=True))
    module.export(tmp_path / "module")
    found = tf1.hub_apply(tmp_path / "module", recorded.under(f"{case.prefix}|in"))
    assert sorted(found) == sorted(wanted)
    for key, array in wanted.items():
        assert_close(found[key], array, key, ACROSS_RELEASES)
    assert not module.variables or any(
        (tf.convert_to_tensor(value) != before[key]).numpy().any() for key, value in wanted.items()
    )
    again = hub.Module(os.fspath(tmp_path / "module"))
    for key, array in arrays(again(case.inputs(recorded), as_dict=True)).items():
        assert_close(array, wanted[key], key)


def test_no_session_is_taken_where_there_is_no_graph(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="takes no session"):
        shared(TOY).export(tmp_path / "module", object())
