"""Modules that are computed without a program around them."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.errors import HubBridgeError

pytestmark = pytest.mark.tf2


def test_every_signature_computes_what_the_old_client_did(module_dir, golden) -> None:
    import tensorflow as tf

    from bridge import hub

    recorded = golden("multi_input")
    with hub.eval_function_for_module(str(module_dir("multi_input"))) as evaluate:
        # The program around it stays as it is.
        assert tf.executing_eagerly()
        for signature in ("default", "scored"):
            inputs = recorded.under(f"|{signature}|in")
            outputs = evaluate(inputs, signature=signature, as_dict=True)
            wanted = recorded.under(f"|{signature}|out")
            assert outputs.keys() == wanted.keys()
            for key, value in wanted.items():
                np.testing.assert_allclose(outputs[key], value, rtol=1e-5, atol=1e-6)
        with pytest.raises(TypeError, match="no output 'default'"):
            evaluate(recorded.under("|default|in"))


def test_tables_are_filled_and_variants_chosen_in_a_graph_too(module_dir, golden) -> None:
    import tensorflow as tf

    from bridge import hub

    text = golden("text_vocab")
    train = golden("toy_train_nodropout_ref")
    with tf.Graph().as_default() as graph:
        with (
            hub.eval_function_for_module(hub.load_module_spec(module_dir("text_vocab"))) as words,
            hub.eval_function_for_module(
                module_dir("toy_train_nodropout_ref"), tags={"train"}
            ) as images,
        ):
            assert tf.compat.v1.get_default_graph() is graph
            np.testing.assert_allclose(
                words(text.arrays["|default|in|text"]),
                text.arrays["|default|out|default"],
                rtol=1e-5,
            )
            np.testing.assert_allclose(
                images({"images": train.arrays["train|default|in|images"]}),
                train.arrays["train|default|out|default"],
                rtol=1e-4,
                atol=1e-6,
            )
        assert not graph.get_operations()


def test_sparse_and_ragged_values_go_in_and_out(module_dir, golden) -> None:
    import tensorflow as tf

    from bridge import hub

    given, wanted = (golden("sparse_input").under(f"|scaled|{kind}") for kind in ("in", "out"))
    with hub.eval_function_for_module(module_dir("sparse_input")) as evaluate:
        names = {key.split("|")[0] for key in given}
        values = {
            name: tf.compat.v1.SparseTensorValue(
                *(given[f"{name}|{part}"] for part in ("indices", "values", "dense_shape"))
            )
            for name in names
        }
        scaled = evaluate(values, signature="scaled")
    np.testing.assert_allclose(scaled.values, wanted["default|values"], rtol=1e-5)
    np.testing.assert_array_equal(scaled.indices, wanted["default|indices"])

    given, wanted = (golden("ragged_input").under(f"|scores|{kind}") for kind in ("in", "out"))
    with hub.eval_function_for_module(module_dir("ragged_input")) as evaluate:
        value = tf.compat.v1.ragged.RaggedTensorValue(
            given["ids|values"], given["ids|row_splits_0"]
        )
        scores = evaluate(value, signature="scores")
    np.testing.assert_allclose(scores.flat_values, wanted["default|values"], rtol=1e-5)
    np.testing.assert_array_equal(scores.row_splits, wanted["default|row_splits_0"])


def test_wrong_calls_are_the_errors_of_a_module(module_dir) -> None:
    from bridge import hub

    with pytest.raises(ValueError, match="no graph variant"):
        hub.eval_function_for_module(module_dir("multi_input"), tags={"absent"}).__enter__()
    with hub.eval_function_for_module(module_dir("digits")) as evaluate:
        for kind, arguments, options in (
            (KeyError, (1.0,), {"signature": "absent"}),
            (TypeError, (), {}),
            (TypeError, ({"images": 1.0, "more": 2.0},), {}),
            (TypeError, (1.0, "default"), {}),
        ):
            with pytest.raises(kind) as caught:
                evaluate(*arguments, **options)
            assert isinstance(caught.value, HubBridgeError)
