"""How a concrete function is called, read from what a SavedModel says of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from bridge.errors import HubBridgeError, MalformedError, UnsupportedError, Where
from bridge.model import Encoding, shape_to_proto
from bridge.proto import tf_pb
from bridge.saved_model.structured_value import (
    boolean,
    function_spec,
    mapping,
    none,
    sequence,
    string,
    tuple_of,
)
from bridge.saved_model.traces import (
    Trace,
    argument_defaults,
    argument_names,
    read_trace,
)
from tests.saved_model.handmade import FLOAT, Value, function, spec

INT, BOOL, INT64 = tf_pb.DT_INT32, tf_pb.DT_BOOL, tf_pb.DT_INT64


def named_tuple(name: str, **values: Value) -> Value:
    pairs = [tf_pb.PairValue(key=key, value=value) for key, value in values.items()]
    return Value(named_tuple_value=tf_pb.NamedTupleValue(name=name, values=pairs))


def sparse(shape: tuple[int | None, ...]) -> Value:
    dtype = Value()
    dtype.tensor_dtype_value = FLOAT  # type: ignore[assignment]
    state = tuple_of([Value(tensor_shape_value=shape_to_proto(shape)), dtype])
    return Value(
        type_spec_value=tf_pb.TypeSpecProto(
            type_spec_class=tf_pb.TypeSpecProto.SPARSE_TENSOR_SPEC, type_state=state
        )
    )


def ragged(shape: tuple[int | None, ...], rank: int) -> Value:
    dtype = Value()
    dtype.tensor_dtype_value = FLOAT  # type: ignore[assignment]
    size = Value(tensor_shape_value=shape_to_proto(shape))
    state = tuple_of([size, dtype, Value(int64_value=rank), dtype])
    return Value(
        type_spec_value=tf_pb.TypeSpecProto(
            type_spec_class=tf_pb.TypeSpecProto.RAGGED_TENSOR_SPEC, type_state=state
        )
    )


def read(
    positional: Sequence[Value] = (),
    output: Value | None = None,
    *,
    takes: Sequence[int] = (),
    gives: Sequence[int] = (),
    arguments: Sequence[str] = (),
    captures: Sequence[int] = (),
    **keywords: Value,
) -> Trace:
    """Reads a function with arguments and results of the types that are given."""
    made = function(
        "f", [], {}, {f"a{i}": dtype for i, dtype in enumerate([*takes, *[20] * len(captures)])}
    )
    for i, dtype in enumerate(gives):
        made.signature.output_arg.add(name=f"r{i}", type=dtype)  # type: ignore[arg-type]
    concrete = tf_pb.SavedConcreteFunction(bound_inputs=captures)
    pair = [tuple_of(list(positional)), mapping(keywords)]
    concrete.canonicalized_input_signature.CopyFrom(tuple_of(pair))
    if output is not None:
        concrete.output_signature.CopyFrom(output)
    return read_trace("f", concrete, made, arguments, Where("saved_model.pb"))


def keys(trace: Trace) -> tuple[list[str], list[str]]:
    return [leaf.key for leaf in trace.inputs], [leaf.key for leaf in trace.outputs]


# -- names -----------------------------------------------------------------------------------------


def test_a_tensor_without_a_name_is_called_like_its_argument() -> None:
    trace = read([spec(""), spec("own"), spec("")], takes=[1, 1, 1], arguments=["x", "y"])
    assert keys(trace)[0] == ["x", "own", "args_2"]
    assert [leaf.argument for leaf in trace.inputs] == ["x", "y", "args_2"]


def test_keyword_arguments_follow_sorted() -> None:
    trace = read([spec("x")], takes=[FLOAT, INT, BOOL], b=spec("", BOOL), a=spec("", INT))
    assert keys(trace)[0] == ["x", "a", "b"]
    assert [leaf.endpoint.dtype for leaf in trace.inputs] == [FLOAT, INT, BOOL]


def test_a_dictionary_gives_its_keys_sorted() -> None:
    value = mapping({"b": spec("own", INT), "a": spec(""), "c": mapping({"d": spec("")})})
    trace = read([value], value, takes=[FLOAT, INT, FLOAT], gives=[FLOAT, INT, FLOAT])
    assert keys(trace) == (["a", "b", "c/d"], ["a", "b", "c/d"])


def test_sequences_give_numbers() -> None:
    value = tuple_of([spec(""), sequence([spec(""), tuple_of([spec("")])])])
    trace = read([value], value, takes=[1] * 3, gives=[1] * 3, arguments=["x"])
    assert keys(trace) == (
        ["x_0", "x_1_0", "x_1_1_0"],
        ["output_0", "output_1_0", "output_1_1_0"],
    )


def test_named_tuples_give_their_fields_in_their_order() -> None:
    value = named_tuple("Pair", second=spec("", INT), first=spec(""))
    trace = read([value], value, takes=[INT, FLOAT], gives=[INT, FLOAT])
    assert keys(trace) == (["second", "first"], ["second", "first"])


def test_equal_names_are_numbered() -> None:
    value = mapping({"x": spec("")})
    trace = read([value, value, spec("x_1")], takes=[1] * 3)
    assert keys(trace)[0] == ["x", "x_1", "x_1_1"]


def test_one_plain_result_is_default() -> None:
    assert keys(read((), spec(""), gives=[FLOAT]))[1] == ["default"]
    assert keys(read((), mapping({"y": spec("")}), gives=[FLOAT]))[1] == ["y"]
    assert keys(read((), none()))[1] == []


# -- values ----------------------------------------------------------------------------------------


def test_values_of_python_are_kept_by_argument() -> None:
    values = [boolean(True), Value(int64_value=3), Value(float64_value=0.5), string("a"), none()]
    trace = read([*values, spec("x")], takes=[FLOAT], arguments=list("abcdex"), k=boolean(False))
    expected = {"a": True, "b": 3, "c": 0.5, "d": "a", "e": None, "k": False}
    assert trace.values == expected
    assert keys(trace)[0] == ["x"]


def test_an_empty_structure_is_a_value() -> None:
    trace = read([mapping({}), tuple_of([]), sequence([])], arguments=["a", "b", "c"])
    assert trace.values == {"a": None, "b": None, "c": None}
    assert trace.inputs == ()


@pytest.mark.parametrize(
    ("argument", "value", "found"),
    [
        ("training", spec("", BOOL, ()), True),
        ("training", spec("other", BOOL, ()), True),
        ("training", spec("", BOOL, (1,)), False),
        ("training", spec("", FLOAT, ()), False),
        ("mask", spec("training", BOOL, ()), False),
    ],
    ids=["scalar", "another name", "vector", "float", "another argument"],
)
def test_training_is_a_bool_scalar_of_this_argument(
    argument: str, value: Value, found: bool
) -> None:
    trace = read([value], takes=[value.tensor_spec_value.dtype], arguments=[argument])
    assert trace.inputs[0].is_training is found


# -- composite tensors -----------------------------------------------------------------------------


def test_sparse_tensors_have_three_components() -> None:
    trace = read([sparse((None, 3))], takes=[INT64, FLOAT, INT64], arguments=["x"])
    (leaf,) = trace.inputs
    assert (leaf.key, leaf.endpoint.encoding) == ("x", Encoding.SPARSE)
    assert (leaf.endpoint.dtype, leaf.endpoint.shape) == (FLOAT, (None, 3))
    assert [(part.dtype, part.shape) for part in leaf.endpoint.components] == [
        (INT64, (None, 2)),
        (FLOAT, (None,)),
        (INT64, (2,)),
    ]


def test_ragged_tensors_have_one_component_more_than_their_rank() -> None:
    trace = read([ragged((None, None, None, 5), 2)], takes=[FLOAT, INT64, INT64], arguments=["x"])
    (leaf,) = trace.inputs
    assert leaf.endpoint.encoding is Encoding.COMPOSITE
    assert [(part.dtype, part.shape) for part in leaf.endpoint.components] == [
        (FLOAT, (None, 5)),
        (INT64, (None,)),
        (INT64, (None,)),
    ]


def test_what_follows_a_composite_tensor_gets_its_own_types() -> None:
    trace = read(
        [sparse((2, 2)), spec("n", INT), ragged((None, None), 1)],
        takes=[INT64, FLOAT, INT64, INT, FLOAT, INT64],
    )
    assert [leaf.endpoint.dtype for leaf in trace.inputs] == [FLOAT, INT, FLOAT]


# -- captures --------------------------------------------------------------------------------------


def test_the_last_arguments_are_captures() -> None:
    trace = read([spec("x")], takes=[FLOAT], captures=[7, 5])
    assert keys(trace)[0] == ["x"]
    assert trace.captures == (7, 5)


# -- what does not fit -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reading", "error", "said"),
    [
        (lambda: read([spec("x")]), MalformedError, "more tensors than it"),
        (lambda: read(takes=[FLOAT]), MalformedError, "1 tensors, its description fewer"),
        (lambda: read([spec("x")], takes=[INT]), MalformedError, "another dtype"),
        (lambda: read((), spec("y"), gives=[INT]), MalformedError, "another dtype"),
        (lambda: read([sparse((2,))], takes=[INT64, FLOAT]), MalformedError, "more tensors"),
        (lambda: read([ragged((2, 2), 1)], takes=[FLOAT]), MalformedError, "more tensors"),
        (lambda: read([ragged((2, 2), -2)], takes=[FLOAT]), MalformedError, "1 tensors"),
        (
            lambda: read(
                [Value(type_spec_value=tf_pb.TypeSpecProto(type_spec_class_name="VariableSpec"))],
                takes=[20],
            ),
            UnsupportedError,
            "a VariableSpec, which no TF1 Hub module can",
        ),
    ],
    ids=["more", "fewer", "dtype", "result", "sparse", "ragged", "negative rank", "variable"],
)
def test_a_description_must_fit_its_function(
    reading: Any, error: type[HubBridgeError], said: str
) -> None:
    with pytest.raises(error) as caught:
        reading()
    assert "function 'f'" in str(caught.value)
    assert said in str(caught.value)
    assert "saved_model.pb" in str(caught.value)


def test_a_function_that_nothing_is_said_of_takes_nothing() -> None:
    made = function("f", [], {}, {})
    trace = read_trace("f", tf_pb.SavedConcreteFunction(), made, [], Where())
    assert (trace.inputs, trace.outputs, trace.values) == ((), (), {})


# -- the Python function ---------------------------------------------------------------------------


def test_names_and_defaults_of_arguments() -> None:
    made = function_spec(["x", "training", "mask"], [boolean(False), none()])
    assert argument_names(made) == ["x", "training", "mask"]
    assert argument_defaults(made) == {"training": False, "mask": None}


def test_self_is_no_argument() -> None:
    made = function_spec(["self", "x", "training"], [boolean(True)])
    made.is_method = True
    assert argument_names(made) == ["x", "training"]
    assert argument_defaults(made) == {"training": True}


def test_keyword_only_arguments_have_defaults_too() -> None:
    made = function_spec(["x"], kwonlyargs=["training"])
    for pair in made.fullargspec.named_tuple_value.values:
        if pair.key == "kwonlydefaults":
            pair.value.CopyFrom(mapping({"training": boolean(False)}))
    assert argument_names(made) == ["x"]
    assert argument_defaults(made) == {"training": False}


def test_a_spec_that_says_nothing_names_nothing() -> None:
    assert argument_names(tf_pb.FunctionSpec()) == []
    assert argument_defaults(tf_pb.FunctionSpec()) == {}


def test_more_defaults_than_arguments_do_no_harm() -> None:
    made = function_spec(["x"], [boolean(False), boolean(True), none()])
    assert set(argument_defaults(made)) <= {"x"}
