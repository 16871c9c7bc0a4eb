"""What an older release can't run or train is refused, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bridge.attrs import (
    function_attr,
    int_attr,
    ints_tensor_attr,
    string_attr,
    type_attr,
    types_attr,
)
from bridge.errors import UnsupportedError
from bridge.model import INFERENCE, TRAIN, Component, Encoding, Endpoint, Model, Signature
from bridge.passes import run_passes
from bridge.passes.check_release import CheckRelease
from bridge.passes.custom_gradients import CustomGradients
from bridge.proto import tf_pb
from bridge.report import Report
from tests.clients.tf1 import Tf1Client, Tf1Error
from tests.passes.release_nets import FLOAT, INT32, RELEASE, Net, T, body_of

# -- ops and their form ---------------------------------------------------------------------


def test_an_op_that_the_release_does_not_have_is_named() -> None:
    net = Net()
    net.ints("shape", 2, 2)
    for name in ("key", "counter"):
        net.input(name, tf_pb.DT_UINT64)
    net.input("alg", INT32)
    attrs = {"dtype": T, "Tshape": type_attr(INT32)}
    net.add("StatelessRandomUniformV2", "random", "shape", "key", "counter", "alg", **attrs)
    error = net.refusal("random")
    assert error.message == "TensorFlow 1.15 has no op 'StatelessRandomUniformV2'"
    assert error.where.node == "random"


def test_an_op_with_other_inputs_or_outputs_is_refused() -> None:
    net = Net()
    net.input("k", tf_pb.DT_INT64)
    net.add("TopKV2", "top", "read", "k", Tk=type_attr(tf_pb.DT_INT64))
    error = net.refusal("top")
    wanted = "op TopKV2 has inputs of type float32, int32 in TensorFlow 1.15, not float32, int64"
    assert error.message == wanted
    net = Net()
    net.ints("k", 2)
    net.add("TopKV2", "top", "read", "k", index_type=type_attr(tf_pb.DT_INT64))
    assert "has outputs of type float32, int32" in net.refusal("top").message
    net = Net()
    net.ints("k", 2)
    net.add("TopKV2", "top", "read", "k")
    net.check("top")


def test_a_type_that_the_release_does_not_know_is_refused() -> None:
    net = Net()
    net.input("x", 24)
    assert "op Placeholder has the type dtype#24" in net.refusal().message
    net = Net()
    const = net.graph.add("Const", "c", dtype=T)
    const.attr["value"].tensor.dtype = 25  # type: ignore[assignment]
    assert "has the type dtype#25, which TensorFlow 1.15 does not know" in net.refusal().message


def test_all_that_is_wrong_is_told_at_once_grouped_by_op() -> None:
    net = Net()
    net.input("x", tf_pb.DT_UINT32)
    uint = type_attr(tf_pb.DT_UINT32)
    for number in range(5):
        net.add("Add", f"add{number}", "x", "x", T=uint)
    net.add("Einsum", "einsum", "read", equation=string_attr("ab->ba"), N=int_attr(1))
    error = net.refusal("einsum")
    assert error.message == (
        "TensorFlow 1.15 can't take 6 nodes: op Add has no CPU kernel for T=uint32 in TensorFlow "
        "1.15 (nodes 'add0', 'add1', 'add2' and 2 more); op Einsum has no gradient in TensorFlow "
        "1.15 (node 'einsum')"
    )
    assert "cast to another type" in str(error.hint)
    assert "such as 'w', not trainable" in str(error.hint)


def test_bodies_of_functions_are_checked() -> None:
    net = Net()
    args = {"x": FLOAT}
    body = body_of(args)
    body.add("Ndtri", "y", ["x"], T=T)
    net.function("branch", args, body, "y")
    error = net.refusal()
    assert error.message == "TensorFlow 1.15 has no op 'Ndtri', in the body of function 'branch'"
    assert error.where.node == "y"


# -- gradients ------------------------------------------------------------------------------


def trained_by(op: str, *consts: str, **attrs: tf_pb.AttrValue) -> Net:
    net = Net()
    net.ints("zero", 0)
    net.ints("ids", 0, 1)
    net.ints("two", 2)
    net.add(op, "y", "read", *consts, **attrs)
    return net


LOST = {
    "raises": {
        "ClipByValue": trained_by("ClipByValue", "read", "read"),
        "Einsum": trained_by("Einsum", equation=string_attr("ab->ba"), N=int_attr(1)),
        "RandomShuffle": trained_by("RandomShuffle"),
        "SegmentProd": trained_by("SegmentProd", "ids", Tindices=type_attr(INT32)),
    },
    "is None": {
        "EuclideanNorm": trained_by("EuclideanNorm", "zero", Tidx=type_attr(INT32)),
    },
}
KEPT = {
    "Sum": trained_by("Sum", "zero", Tidx=type_attr(INT32)),
    "Square": trained_by("Square"),
    "GatherV2": trained_by(
        "GatherV2",
        "ids",
        "zero",
        Tparams=T,
        Tindices=type_attr(INT32),
        Taxis=type_attr(INT32),
    ),
    "SegmentSum": trained_by("SegmentSum", "ids", Tindices=type_attr(INT32)),
}


@pytest.mark.parametrize("op", LOST["raises"])
def test_an_op_whose_gradient_raises_is_refused(op: str, tf1: Tf1Client) -> None:
    net = LOST["raises"][op]
    error = net.refusal("y")
    assert error.message == f"op {op} has no gradient in TensorFlow 1.15"
    assert f"other ops in place of {op}, or with the variables before it, such as 'w'" in str(
        error.hint
    )
    with pytest.raises(Tf1Error, match="No gradient defined for operation 'y'"):
        net.real_gradient(tf1, "y")


@pytest.mark.parametrize("op", LOST["is None"])
def test_an_op_whose_gradient_silently_is_none_is_refused(op: str, tf1: Tf1Client) -> None:
    net = LOST["is None"][op]
    message = f"op {op} has a gradient in TensorFlow 2, which is None in TensorFlow 1.15"
    assert net.refusal("y").message == message
    assert net.real_gradient(tf1, "y") is None


@pytest.mark.parametrize("op", KEPT)
def test_an_op_with_a_gradient_is_let_through(op: str, tf1: Tf1Client) -> None:
    net = KEPT[op]
    assert net.check("y").remarks == []
    assert net.real_gradient(tf1, "y") is not None


def test_where_tensorflow_2_has_no_gradient_either_the_report_says_so(tf1: Tf1Client) -> None:
    net = Net()
    net.ints("shape", 1, 2, 3, 1)
    net.ints("size", 4, 4)
    net.add("Reshape", "image", "read", "shape", Tshape=type_attr(INT32))
    net.add("ResizeArea", "y", "image", "size")
    net.add("ResizeArea", "again", "image", "size")
    (remark,) = net.check("y", "again").remarks
    assert (remark.kind, remark.name, remark.node) == ("gradient", "ResizeArea", "y")
    assert "in TensorFlow 2.21 neither" in remark.reason
    with pytest.raises(Tf1Error, match="No gradient defined"):
        net.real_gradient(tf1, "y")


def test_only_the_way_from_a_trainable_variable_to_a_float_output_counts() -> None:
    def net(trainable: bool = True) -> Net:
        result = Net(trainable)
        result.input("x")
        return result

    clip = ("ClipByValue", "clip")
    no_variable = net()
    no_variable.add(*clip, "x", "x", "x")
    no_variable.add("Sub", "y", "clip", "read")
    no_variable.check("y")
    frozen = net(trainable=False)
    frozen.add(*clip, "read", "read", "read")
    frozen.check("clip")
    no_output = net()
    no_output.add(*clip, "read", "read", "read")
    no_output.check("read")
    stopped = net()
    stopped.add("StopGradient", "stop", "read")
    stopped.add(*clip, "stop", "stop", "stop")
    stopped.check("clip")
    behind = net()
    behind.add(*clip, "read", "read", "read")
    behind.add("StopGradient", "stop", "clip")
    behind.check("stop")
    integer = net()
    integer.add(*clip, "read", "read", "read")
    integer.add("Cast", "y", "clip", SrcT=T, DstT=type_attr(INT32))
    integer.check("y")
    through_integers = net()
    through_integers.add("Cast", "cast", "read", SrcT=T, DstT=type_attr(INT32))
    through_integers.add("Cast", "back", "cast", SrcT=type_attr(INT32), DstT=T)
    through_integers.add(*clip, "back", "back", "back")
    through_integers.check("clip")
    loss = net()
    loss.add(*clip, "read", "read", "read")
    loss.variant.regularization_losses.append("clip:0")
    assert loss.refusal().where.node == "clip"


def test_a_call_that_is_left_is_refused() -> None:
    """The old client would differentiate it by C++ gradients, which few ops have."""
    net = Net()
    body = body_of({"x": FLOAT})
    body.add("Square", "square", ["x"], T=T)
    net.function("body", {"x": FLOAT}, body, "square")
    types = types_attr([FLOAT])
    net.add("PartitionedCall", "y", "read", Tin=types, Tout=types, f=function_attr("body"))
    assert net.refusal("y").message == "op PartitionedCall has no gradient in TensorFlow 1.15"


def test_the_real_release_has_no_gradient_of_an_imported_loop(tf1: Tf1Client) -> None:
    """Its Python code is loaded only by a program that builds such loops itself."""
    net = Net()
    args = {"i": INT32, "x": FLOAT}
    for name, outputs in (("cond", ["less"]), ("body", ["next", "square"])):
        body = body_of(args)
        body.add("Const", "one", dtype=type_attr(INT32), value=ints_tensor_attr(INT32, 1))
        body.add("Less", "less", ["i", "one"], T=type_attr(INT32))
        body.add("Add", "next", ["i", "one"], T=type_attr(INT32))
        body.add("Square", "square", ["x"], T=T)
        net.function(name, args, body, *outputs)
    net.ints("zero", 0)
    attrs = {name: function_attr(name) for name in ("cond", "body")}
    net.add("While", "loop", "zero", "read", **attrs, T=types_attr(args.values()))
    net.graph.add("Identity", "y", ["loop:1"], T=T)
    assert net.refusal("y").message == "op While has no gradient in TensorFlow 1.15"
    with pytest.raises(Tf1Error, match="No gradient defined for operation 'loop'"):
        net.real_gradient(tf1, "y")


# -- gradients that were Python code --------------------------------------------------------


def with_custom_gradient(tags: frozenset[str], source: str = "read", **model: bool) -> Report:
    """Checks a variant with one tf.custom_gradient behind a node."""
    net = Net()
    net.input("x")
    marked = net.graph.add("IdentityN", "marked", [source, "x"], T=types_attr([FLOAT, FLOAT]))
    marked.attr["_gradient_op_type"].s = b"CustomGradient-7"
    net.add("Exp", "y", "marked")
    end = Endpoint(Encoding.DENSE, FLOAT, None, (Component("y:0", FLOAT, None),))
    variant = replace(net.variant, tags=tags)
    variant.signatures["default"] = Signature("default", {}, {"default": end})
    whole = Model(Path(), {tags: variant}, {}, {}, [], tf_pb.VersionDef(), "", **model)
    report = Report("", None, "to-hub-module")
    run_passes(whole, [CustomGradients(), CheckRelease(RELEASE)], report)
    return report


def test_a_gradient_that_was_python_code_is_an_error_where_it_is_for_training() -> None:
    with pytest.raises(UnsupportedError, match="gradient for training was Python code") as caught:
        with_custom_gradient(TRAIN)
    assert caught.value.where.node == "marked/PreventGradient"
    assert "such as 'w', not trainable" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("tags", "source", "was_module"),
    [(INFERENCE, "read", False), (TRAIN, "x", False), (TRAIN, "read", True)],
    ids=["inference", "nothing trainable before it", "module"],
)
def test_a_gradient_that_was_python_code_is_named_elsewhere(
    tags: frozenset[str], source: str, was_module: bool
) -> None:
    report = with_custom_gradient(tags, source, was_module=was_module)
    assert [(note.kind, note.name) for note in report.not_kept] == [
        ("custom_gradient", "CustomGradient-7")
    ]
    assert report.remarks == []


def test_a_gradient_that_tensorflow_2_prevents_too_is_told_of(tf1: Tf1Client) -> None:
    net = trained_by("PreventGradient", message=string_attr("not this way"))
    (remark,) = net.check("y").remarks
    assert (remark.kind, remark.name, remark.node) == ("gradient", "PreventGradient", "y")
    with pytest.raises(Tf1Error, match="not this way"):
        net.real_gradient(tf1, "y")
