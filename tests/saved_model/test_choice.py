"""Which functions of a SavedModel become which signatures of the module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridge.errors import UnsupportedError
from bridge.model import INFERENCE, TRAIN
from bridge.proto import tf_pb
from bridge.report import Report
from bridge.saved_model.choice import Choice, choose
from bridge.saved_model.object_tree import ObjectTree
from bridge.saved_model.structured_value import (
    boolean,
    function_spec,
    mapping,
    none,
    sequence,
    tuple_of,
)
from tests.saved_model.handmade import (
    FLOAT,
    ROOT,
    Handmade,
    Value,
    call,
    function,
    op,
    scaled,
    spec,
)


class Model(Handmade):
    """A SavedModel of functions that do nothing but have names."""

    def traced(self, name: str, *positional: Value, **keywords: Value) -> str:
        """Adds a function; it has one float result."""
        values = [*positional, *(keywords[key] for key in sorted(keywords))]
        tensors = [v.tensor_spec_value for v in values if v.HasField("tensor_spec_value")]
        made = function(name, [], {"y": ""}, {f"a{i}": t.dtype for i, t in enumerate(tensors)})
        return self.trace(made, positional, keywords)


def chosen(model: Handmade) -> tuple[Choice, Report]:
    graph = tf_pb.SavedObjectGraph(nodes=model.objects.nodes)
    report = Report("source", None, "to-hub-module")
    tree = ObjectTree(graph, Path("saved_model.pb"))
    library = {made.signature.name: made for made in model.library.function}
    return choose(tree, dict(model.object_graph.concrete_functions), library, report), report


def names(choice: Choice) -> dict[str, dict[str, str]]:
    tags = {INFERENCE: "{}", TRAIN: "{train}"}
    return {
        tags[variant]: {name: trace.function for name, trace in signatures.items()}
        for variant, signatures in choice.signatures.items()
    }


# -- training --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(False, True), (True, False)])
def test_training_is_found_by_position(order: tuple[bool, bool]) -> None:
    model = Model()
    traces = [model.traced(f"call_{value}", spec("x"), boolean(value)) for value in order]
    model.method("__call__", traces, ["x", "training"], [boolean(False)])
    choice, report = chosen(model)
    assert names(choice) == {
        "{}": {"default": "call_False"},
        "{train}": {"default": "call_True"},
    }
    assert report.not_kept == []


def test_training_is_found_by_keyword_and_before_a_mask() -> None:
    model = Model()
    traces = [
        model.traced(f"call_{value}", spec("x"), mask=none(), training=boolean(value))
        for value in (True, False)
    ]
    model.method("__call__", traces, ["x", "training", "mask"], [boolean(False), none()])
    assert names(chosen(model)[0]) == {
        "{}": {"default": "call_False"},
        "{train}": {"default": "call_True"},
    }


def test_training_as_a_tensor_serves_both_variants() -> None:
    model = Model()
    trace = model.traced("call", spec("x"), spec("training", tf_pb.DT_BOOL, ()))
    model.method("__call__", [trace], ["x", "training"])
    assert names(chosen(model)[0]) == {"{}": {"default": "call"}, "{train}": {"default": "call"}}


def test_training_of_none_is_inference() -> None:
    model = Model()
    model.method("__call__", [model.traced("call", spec("x"), none())], ["x", "training"])
    assert names(chosen(model)[0]) == {"{}": {"default": "call"}}


def test_an_argument_of_another_name_is_not_training() -> None:
    model = Model()
    traces = [model.traced("call", spec("x"), boolean(True))]
    model.method("__call__", traces, ["x", "is_training"])
    assert names(chosen(model)[0]) == {"{}": {"default": "call"}}


def test_of_a_trace_that_differs_in_a_value_the_value_is_said_to_be_the_reason() -> None:
    model = Model()
    traces = [
        model.traced("infer", spec("x"), boolean(False)),
        model.traced("train", spec("x"), boolean(True)),
        model.traced("other", spec("x", tf_pb.DT_INT32), boolean(True)),
    ]
    model.method("__call__", traces, ["x", "is_training"], [boolean(False)])
    choice, report = chosen(model)
    assert names(choice) == {"{}": {"default": "infer"}}
    found = {note.name: note.reason for note in report.not_kept}
    assert (
        "has is_training=False; only by an argument named 'training'"
        in (found["__call__(x: float32[?], is_training=True)"])
    )
    assert "one type of each input" in found["__call__(x: int32[?], is_training=True)"]


def test_a_training_trace_alone_is_no_model() -> None:
    model = Model()
    model.method("__call__", [model.traced("call", spec("x"), boolean(True))], ["x", "training"])
    with pytest.raises(UnsupportedError, match="traced for inference") as caught:
        chosen(model)
    assert "__call__" in str(caught.value.hint)


def test_a_training_trace_alone_trains_where_a_signature_serves() -> None:
    model = Model()
    model.method("__call__", [model.traced("call", spec("x"), boolean(True))], ["x", "training"])
    model.signature("serving_default", model.traced("serve", x=spec("x")))
    assert names(chosen(model)[0]) == {
        "{}": {"default": "serve", "serving_default": "serve"},
        "{train}": {"default": "call", "serving_default": "serve"},
    }


# -- which trace -----------------------------------------------------------------------------------


def test_the_trace_that_fixes_least_is_chosen_and_others_are_named() -> None:
    model = Model()
    shapes = [(2, 3), (None, 3), (None, 4)]
    traces = [model.traced(f"call{i}", spec("x", FLOAT, s)) for i, s in enumerate(shapes)]
    model.method("__call__", traces)
    choice, report = chosen(model)
    assert names(choice) == {"{}": {"default": "call1"}}
    assert [note.name for note in report.not_kept] == [
        "__call__(x: float32[2, 3])",
        "__call__(x: float32[?, 4])",
    ]


def test_of_traces_with_a_nan_each_that_is_left_out_is_named_once() -> None:
    model, nan = Model(), Value(float64_value=float("nan"))
    sizes = [("call0", 3), ("again", 3), ("call1", 4), ("again1", 4)]
    traces = [model.traced(name, spec("x", FLOAT, (n,)), nan) for name, n in sizes]
    model.method("__call__", traces, ["x", "value"], [nan])
    choice, report = chosen(model)
    assert names(choice) == {"{}": {"default": "call0"}}
    assert [note.name for note in report.not_kept] == ["__call__(x: float32[4], value=nan)"]


def test_a_nan_is_the_default_if_the_default_is_one() -> None:
    model, nan = Model(), Value(float64_value=float("nan"))
    traces = [
        model.traced("odd", spec("x"), Value(float64_value=1.0)),
        model.traced("usual", spec("x"), nan),
    ]
    model.method("__call__", traces, ["x", "value"], [nan])
    assert names(chosen(model)[0]) == {"{}": {"default": "usual"}}


def test_one_and_true_are_different_values() -> None:
    model = Model()
    values = [Value(int64_value=1), boolean(True), Value(float64_value=1.0)]
    traces = [model.traced(f"call{i}", spec("x"), value) for i, value in enumerate(values)]
    model.method("__call__", traces, ["x", "value"])
    assert [note.name for note in chosen(model)[1].not_kept] == [
        "__call__(x: float32[?], value=True)",
        "__call__(x: float32[?], value=1.0)",
    ]


def test_default_values_are_preferred_to_fewer_dimensions() -> None:
    model = Model()
    traces = [
        model.traced("odd", spec("x", FLOAT, (None,)), Value(int64_value=9)),
        model.traced("usual", spec("x", FLOAT, (3,)), Value(int64_value=2)),
    ]
    model.method("__call__", traces, ["x", "scale"], [Value(int64_value=2)])
    choice, report = chosen(model)
    assert names(choice) == {"{}": {"default": "usual"}}
    assert [note.name for note in report.not_kept] == ["__call__(x: float32[?], scale=9)"]


def test_training_takes_the_inputs_that_inference_takes() -> None:
    """TensorFlow 2.4's Keras traces each mode for the input's own name, and for `inputs`."""
    model = Model()
    traces = [
        model.traced(f"{name}_{value}", spec(name), boolean(value))
        for name, value in (
            ("picture", False),
            ("inputs", True),
            ("inputs", False),
            ("picture", True),
        )
    ]
    model.method("__call__", traces, ["inputs", "training"], [boolean(False)])
    choice, report = chosen(model)
    assert names(choice) == {
        "{}": {"default": "picture_False"},
        "{train}": {"default": "picture_True"},
    }
    assert report.not_kept == []


def test_a_trace_with_endpoints_is_the_best() -> None:
    model = Model()
    traces = [model.traced(f"call_{value}", spec("x"), boolean(value)) for value in (False, True)]
    model.method("__call__", traces, ["x", "return_endpoints"], [boolean(False)])
    choice, report = chosen(model)
    assert names(choice) == {"{}": {"default": "call_True"}}
    assert report.not_kept == []


# -- signatures ------------------------------------------------------------------------------------


def test_serving_signatures_keep_their_names_beside_call() -> None:
    model = Model()
    model.method("__call__", [model.traced("call", spec("x"))])
    for name in ("serving_default", "extra"):
        model.signature(name, model.traced(name, x=spec("x")))
    assert names(chosen(model)[0]) == {
        "{}": {"default": "call", "extra": "extra", "serving_default": "serving_default"}
    }


@pytest.mark.parametrize(
    ("served", "stand_in"),
    [
        (["serving_default", "a"], "serving_default"),
        (["only"], "only"),
        (["default", "serving_default"], "default"),
    ],
)
def test_without_call_a_serving_signature_stands_in(served: list[str], stand_in: str) -> None:
    model = Model()
    for name in served:
        model.signature(name, model.traced(f"f_{name}", x=spec("x")))
    choice, report = chosen(model)
    assert names(choice)["{}"]["default"] == f"f_{stand_in}"
    assert report.remarks == []


def test_of_several_serving_signatures_none_stands_in() -> None:
    model = Model()
    for name in ("a", "b"):
        model.signature(name, model.traced(name, x=spec("x")))
    choice, report = chosen(model)
    assert names(choice) == {"{}": {"a": "a", "b": "b"}}
    (remark,) = report.remarks
    assert (remark.kind, remark.name) == ("signature", "default")


def test_a_signature_called_default_gives_way_to_call_by_name() -> None:
    model = Model()
    model.method("__call__", [model.traced("call", spec("x"))])
    model.signature("default", model.traced("serve", x=spec("x")))
    choice, report = chosen(model)
    assert names(choice) == {"{}": {"default": "call"}}
    (note,) = report.not_kept
    assert (note.kind, note.name) == ("signature", "default")


def wrapping(name: str, called: str, factor: int = 0) -> tf_pb.FunctionDef:
    """A function that only calls one, as tf.saved_model.save writes it of a loaded model."""
    nodes = [
        call("call", called, "x"),
        op("tie", "NoOp", "^call"),
        op("y", "Identity", "call:output:0", "^tie", T=FLOAT),
        *([op("more", "Neg", "x", T=FLOAT)] * factor),
    ]
    return function(name, nodes, {"y": "y:output:0"})


@pytest.mark.parametrize(
    ("inner", "computes", "same"),
    [("inner", 0, True), ("other", 0, False), ("absent", 0, False), ("inner", 1, False)],
)
def test_a_signature_that_calls_what_call_calls_is_not_said_to_be_lost(
    inner: str, computes: int, same: bool
) -> None:
    model = Model()
    model.library.function.extend([scaled("inner", 2.0), scaled("other", 2.0)])
    model.library.function.append(wrapping("middle", "inner"))
    model.method("__call__", [model.trace(wrapping("call", "middle"), [spec()])])
    served = wrapping("serve", inner, computes)
    output = mapping({"default": spec("y")})
    model.signature("default", model.trace(served, keywords={"x": spec()}, output=output))
    choice, report = chosen(model)
    assert names(choice) == {"{}": {"default": "call"}}
    assert [(note.kind, note.name) for note in report.not_kept] == (
        [] if same else [("signature", "default")]
    )


def test_a_callable_of_a_signature_s_name_trains_it() -> None:
    model = Model()
    for name in ("__call__", "extra", "other"):
        traces = [
            model.traced(f"{name}_{value}", spec("x"), boolean(value)) for value in (False, True)
        ]
        model.method(name, traces, ["x", "training"], [boolean(False)])
    served = mapping({"default": spec("y")})
    model.signature("extra", model.trace(scaled("serve", 1.0), keywords={"x": spec("x")}))
    model.signature(
        "other", model.trace(scaled("serve_other", 1.0), keywords={"z": spec("z")}, output=served)
    )
    choice, report = chosen(model)
    assert names(choice)["{train}"] == {
        "default": "__call___True",
        "extra": "extra_True",
        "other": "serve_other",  # takes another input
    }
    assert report.not_kept == []
    (remark,) = report.remarks
    assert (remark.kind, remark.name) == ("signature", "other")
    assert "takes or gives others" in remark.reason


@pytest.mark.parametrize("trains", [False, True])
def test_a_serving_signature_that_takes_training_is_named(trains: bool) -> None:
    model = Model()
    if trains:
        traces = [
            model.traced(f"call_{value}", spec("x"), boolean(value)) for value in (False, True)
        ]
        model.method("__call__", traces, ["x", "training"])
    training = spec("training", tf_pb.DT_BOOL, ())
    model.signature("serving_default", model.traced("serve", training=training, x=spec("x")))
    choice, report = chosen(model)
    assert set(names(choice)) == ({"{}", "{train}"} if trains else {"{}"})
    (note,) = report.not_kept
    assert (note.kind, note.name, note.signature) == ("input", "training", "serving_default")
    assert ("True in variant {train}" in note.reason) is trains


# -- losses, and what is left out ------------------------------------------------------------------


def with_loss(**shape: Any) -> Model:
    model = Model()
    model.method("__call__", [model.traced("call", spec("x"))])
    made = function("loss", [], shape.pop("results", {"y": ""}), args={})
    output = shape.pop("output", spec("y", FLOAT, ()))
    loss = model.objects.add_function([model.trace(made, output=output)], function_spec([]))
    model.list_of("regularization_losses", [loss])
    return model


def test_regularization_losses_are_functions_without_arguments() -> None:
    choice, _ = chosen(with_loss())
    assert [trace.function for trace in choice.losses] == ["loss"]
    assert [trace.function for trace in choice.traces()] == ["call", "loss"]


def test_a_loss_of_two_results_is_refused() -> None:
    output = mapping({"a": spec("a"), "b": spec("b")})
    with pytest.raises(UnsupportedError, match="'regularization_losses/0'"):
        chosen(with_loss(results={"a": "", "b": ""}, output=output))


def test_functions_and_callables_that_no_signature_is_are_named() -> None:
    model = Model()
    model.method("__call__", [model.traced("call", spec("x"))])
    model.method("encode", [model.traced("encode", spec("x"))])
    model.method("_private", [model.traced("private", spec("x"))])
    model.method("call_and_return_all_conditional_losses", [model.traced("own", spec("x"))])
    part = model.objects.add_object()
    model.objects.link(ROOT, "part", part)
    model.method("__call__", [model.traced("inner", spec("x"))], parent=part)
    layer = model.objects.add_object("_tf_keras_layer")
    model.objects.link(ROOT, "layer", layer)
    model.method("__call__", [model.traced("layer_call", spec("x"))], parent=layer)
    _, report = chosen(model)
    assert [(note.kind, note.name) for note in report.not_kept] == [
        ("function", "encode"),
        ("callable", "part"),
    ]


def test_a_scalar_with_a_default_is_no_input() -> None:
    model = Model()
    momentum = spec("momentum", FLOAT, ())
    traces = [model.traced("infer", spec("x"), boolean(False), momentum)]
    default = Value(float64_value=0.9)
    model.method("__call__", traces, ["x", "training", "momentum"], [boolean(False), default])
    choice, report = chosen(model)
    (trace,) = choice.signatures[INFERENCE].values()
    assert [(leaf.key, leaf.default) for leaf in trace.inputs] == [("x", None), ("momentum", 0.9)]
    assert [(note.kind, note.name) for note in report.not_kept] == [("input", "momentum")]


def test_a_named_callable_alone_makes_the_training_variant() -> None:
    model = Model()
    traces = [model.traced(f"extra_{value}", spec("x"), boolean(value)) for value in (False, True)]
    model.method("extra", traces, ["x", "training"], [boolean(False)])
    model.signature("extra", model.trace(scaled("serve", 1.0), keywords={"x": spec("x")}))
    choice, _ = chosen(model)
    assert names(choice)["{train}"] == {"default": "extra_True", "extra": "extra_True"}


def test_losses_of_the_inputs_are_named() -> None:
    """Keras' call_and_return_all_conditional_losses gives the outputs, and a list of losses."""
    model = Model()
    traces = [model.traced(f"call_{value}", spec("x"), boolean(value)) for value in (False, True)]
    model.method("__call__", traces, ["x", "training"], [boolean(False)])
    with_losses = []
    for training in (False, True):
        count = 2 if training else 1
        keys = ["y", *(f"loss{i}" for i in range(count))]
        made = function(f"losses_{training}", [], dict.fromkeys(keys, "x"))
        output = tuple_of([spec("y"), sequence([spec(key, FLOAT, ()) for key in keys[1:]])])
        with_losses.append(model.trace(made, [spec("x"), boolean(training)], output=output))
    name = "call_and_return_all_conditional_losses"
    model.method(name, with_losses, ["x", "training"], [boolean(False)])
    _, report = chosen(model)
    assert [(note.kind, note.name, note.variant) for note in report.not_kept] == [
        ("loss", name, "{}"),
        ("loss", name, "{train}"),
    ]
    assert "1 loss of" in report.not_kept[0].reason
    assert "2 losses of" in report.not_kept[1].reason


def test_no_loss_is_named_where_keras_has_none() -> None:
    model = Model()
    model.method("__call__", [model.traced("call", spec("x"))])
    made = function("losses", [], {"y": "x"})
    output = tuple_of([spec("y"), sequence([])])
    trace = model.trace(made, [spec("x")], output=output)
    model.method("call_and_return_all_conditional_losses", [trace])
    assert chosen(model)[1].not_kept == []
