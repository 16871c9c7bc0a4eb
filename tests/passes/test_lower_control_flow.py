"""Functional control flow runs, and is differentiated, as v1 control flow in TensorFlow 1.15."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bridge
from bridge.errors import UnsupportedError
from bridge.passes.forward_identities import ForwardIdentities
from bridge.passes.lower_control_flow import LowerControlFlow
from bridge.passes.prune import Prune
from bridge.passes.random_ops import RandomOps
from bridge.passes.separate_updates import SeparateUpdates
from bridge.proto import tf_pb
from tests.clients.tf1 import Tf1Client, Tf1Error, tf1_environ
from tests.passes.flat_graphs import (
    FlatFunction,
    assert_close,
    check_equal,
    in_tf1,
    in_tf2,
    tf1_graph_def,
)
from tests.passes.stateful import check_calls, rewritten
from tests.saved_model.handmade import FLOAT, Handmade, function, op, scaled, spec

pytestmark = pytest.mark.tf2

X = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]], np.float32)
W = np.array([[0.3, -0.2, 0.1], [0.5, 0.7, -0.6], [-0.4, 0.1, 0.2]], np.float32)


def one_branch(tf: Any, w: Any, b: Any) -> Callable[..., Any]:
    return lambda x: tf.cond(tf.reduce_sum(x) > 0.0, lambda: tf.matmul(x, w), lambda: x * 2.0)


def other_branch(tf: Any, w: Any, b: Any) -> Callable[..., Any]:
    def call(x: Any) -> Any:
        both = tf.cond(
            tf.reduce_sum(x) < 0.0,
            lambda: (tf.matmul(x, w), x, tf.constant(1.0)),
            lambda: (x * b, x, tf.reduce_sum(x)),
        )
        return both[0] + both[1], both[2]

    return call


def nested_branches(tf: Any, w: Any, b: Any) -> Callable[..., Any]:
    def inner(x: Any, scale: float) -> Any:
        return tf.cond(x[0, 1] > 0.0, lambda: x * b * scale, lambda: tf.matmul(x, w) * scale)

    def call(x: Any) -> Any:
        return tf.cond(
            x[0, 0] > 0.0, lambda: inner(x, 2.0) + b, lambda: tf.sin(inner(tf.matmul(x, w), 3.0))
        )

    return call


def case(tf: Any, w: Any, b: Any) -> Callable[..., Any]:
    def call(x: Any) -> Any:
        return [
            tf.switch_case(
                tf.cast(x[0, 0], tf.int32) + shift,
                [lambda: tf.matmul(x, w), lambda: x * b, lambda: tf.sin(x) + b, lambda: x],
            )
            for shift in (-1, 0, 1, 7)
        ]

    return call


def loop(tf: Any, w: Any, b: Any) -> Callable[..., Any]:
    def call(x: Any) -> Any:
        i, y = tf.while_loop(
            lambda i, y: i < 4, lambda i, y: (i + 1, tf.tanh(tf.matmul(y, w) + b)), (0, x)
        )
        return y, tf.cast(i, tf.float32)

    return call


def loop_of_data(tf: Any, w: Any, b: Any) -> Callable[..., Any]:
    def call(x: Any) -> Any:
        total = tf.zeros_like(x)
        while tf.reduce_sum(total) < 20.0:
            total += tf.nn.softplus(tf.matmul(x, w)) + 0.5
        return total

    return call


def loop_with_branch(tf: Any, w: Any, b: Any) -> Callable[..., Any]:
    def call(x: Any) -> Any:
        for i in tf.range(5):
            if i % 2 == 0:
                x = tf.tanh(tf.matmul(x, w))
            else:
                x = x * b + tf.cast(i, tf.float32)
        return x

    return call


def branch_with_loop(tf: Any, w: Any, b: Any) -> Callable[..., Any]:
    def call(x: Any) -> Any:
        if x[0, 0] > 0.0:
            for _ in tf.range(3):
                x = tf.tanh(tf.matmul(x, w))
        else:
            x = x * b
        return x

    return call


def nested_loops(tf: Any, w: Any, b: Any) -> Callable[..., Any]:
    def call(x: Any) -> Any:
        y = x
        for i in tf.range(3):
            z = tf.ones_like(x) * 0.1
            for _ in tf.range(i + 1):
                z = tf.sin(tf.matmul(z, w) + y)
            u = x  # comes from outside of both loops
            for _ in tf.range(2):
                u = tf.sin(tf.matmul(u, w))
            y = y * 0.5 + z * b + u
        return y

    return call


def map_fn(tf: Any, w: Any, b: Any) -> Callable[..., Any]:
    def call(x: Any) -> Any:
        mapped = tf.map_fn(lambda row: tf.linalg.matvec(w, row) * b, x)
        scanned = tf.scan(lambda a, row: tf.tanh(a + row * b), x)
        return mapped, scanned

    return call


def growing_array(tf: Any, w: Any, b: Any) -> Callable[..., Any]:
    def call(x: Any) -> Any:
        array = tf.TensorArray(tf.float32, 0, dynamic_size=True, element_shape=[None, 3])
        for i in tf.range(4):
            x = tf.tanh(tf.matmul(x, w))
            array = array.write(i, x)
        return array.stack(), array.read(2), array.gather([3, 1]), array.concat()

    return call


def array_in_branches(tf: Any, w: Any, b: Any) -> Callable[..., Any]:
    def call(x: Any) -> Any:
        array = tf.TensorArray(tf.float32, 3, element_shape=[None, 3])
        for i in tf.range(3):
            if i == 1:
                array = array.write(i, x * b)
            else:
                array = array.write(i, tf.matmul(x, w))
        return array.stack()

    return call


def loops_from_one_list(tf: Any, w: Any, b: Any) -> Callable[..., Any]:
    def call(x: Any) -> Any:
        first = second = tf.TensorArray(tf.float32, 2, element_shape=[3])
        for i in tf.range(2):
            first = first.write(i, tf.sin(x[i] * b))
        for i in tf.range(2):
            second = second.write(1 - i, x[i] * b)
        return first.stack(), tf.matmul(second.stack(), w)

    return call


def loops_from_one_list_in_a_branch(tf: Any, w: Any, b: Any) -> Callable[..., Any]:
    both = loops_from_one_list(tf, w, b)
    return lambda x: tf.cond(tf.reduce_sum(x) > 0.0, lambda: both(x), lambda: (x, x))


def recurrent(tf: Any, w: Any, b: Any) -> Callable[..., Any]:
    import keras

    keras.utils.set_random_seed(1)
    layer = keras.layers.LSTM(4, return_sequences=True)
    layer.build([None, 2, 3])
    gru = keras.layers.GRU(3, go_backwards=True)
    gru.build([None, 2, 4])
    return lambda x: gru(layer(tf.stack([x, tf.matmul(x, w)], 1)))


def tf_keras_recurrent(tf: Any, w: Any, b: Any) -> Callable[..., Any]:
    import tf_keras

    tf_keras.utils.set_random_seed(1)
    cell = tf_keras.layers.SimpleRNNCell(4)
    layer = tf_keras.layers.Bidirectional(tf_keras.layers.RNN(cell, return_sequences=True))
    layer(tf.zeros([1, 2, 3]))
    return lambda x: layer(tf.stack([x, tf.matmul(x, w)], 1))


def embedding(tf: Any, w: Any, b: Any) -> Callable[..., Any]:
    def call(x: Any) -> Any:
        y = x
        for i in tf.range(3):
            y += tf.nn.embedding_lookup(w, [i, 0]) * b
        return tf.cond(x[0, 0] > 0.0, lambda: y * tf.gather(w, [1, 1]), lambda: y)

    return call


def guarded(tf: Any, w: Any, b: Any) -> Callable[..., Any]:
    def call(x: Any) -> Any:
        tf.debugging.assert_less(tf.reduce_max(x), 5.0)
        for i in tf.range(3):
            tf.debugging.assert_less(i, 4)
            x = tf.matmul(x, w)
        return x

    return call


def no_iteration(tf: Any, w: Any, b: Any) -> Callable[..., Any]:
    def call(x: Any) -> Any:
        for i in tf.range(tf.cast(x[0, 0], tf.int32) - 1):
            x = tf.matmul(x, w) + tf.cast(i, tf.float32)
        return x

    return call


CASES = {
    function.__name__: function
    for function in (
        one_branch,
        other_branch,
        nested_branches,
        case,
        loop,
        loop_of_data,
        loop_with_branch,
        branch_with_loop,
        nested_loops,
        map_fn,
        growing_array,
        array_in_branches,
        loops_from_one_list,
        loops_from_one_list_in_a_branch,
        recurrent,
        tf_keras_recurrent,
        embedding,
        guarded,
        no_iteration,
    )
}

CLIENT = """
import json, sys, traceback
import numpy as np
import tensorflow as tf

for path in sys.argv[1:]:
    facts = json.load(open(path + ".json"))
    meta_graph = tf.MetaGraphDef()
    meta_graph.ParseFromString(open(path + ".pb", "rb").read())
    arrays = dict(np.load(path + ".npz"))
    results = {}
    try:
        for scope in ("a", "b/c"):
            with tf.Graph().as_default() as graph, tf.Session() as session:
                x = tf.placeholder(tf.float32, [None, 3])
                # Once more beside it: frames and contexts must not get mixed up.
                for prefix in ("first", scope):
                    tf.train.import_meta_graph(
                        meta_graph, import_scope=prefix, input_map={facts["input"]: x}
                    )
                tensors = [graph.get_tensor_by_name(scope + "/" + n) for n in facts["outputs"]]
                sources = [graph.get_tensor_by_name(scope + "/" + n) for n in facts["sources"]]
                loss = tf.add_n([
                    tf.reduce_sum(t * arrays["weight%d" % i]) for i, t in enumerate(tensors)
                ])
                session.run([scope + "/" + name for name in facts["initializers"]])
                found = tf.gradients(loss, [x, *sources])
                feed = {x: arrays["x"]}
                fetches = {"output%d" % i: value for i, value in enumerate(tensors)}
                for i, value in enumerate(found):
                    if value is not None:
                        fetches["gradient%d" % i] = tf.convert_to_tensor(value)
                for name, value in session.run(fetches, feed).items():
                    results[scope + "|" + name] = value
    except Exception:
        results = {"error": np.array(traceback.format_exc())}
    np.savez(path + ".out.npz", **results)
"""


PASSES = (RandomOps(), SeparateUpdates(), ForwardIdentities(), Prune(), LowerControlFlow())


def lowered(make: Callable[[Any, Any, Any], Callable[..., Any]]) -> FlatFunction:
    import tensorflow as tf

    w, b = tf.Variable(W), tf.Variable([0.5, -1.5, 2.0])
    return rewritten(make(tf, w, b), X, passes=PASSES)


@pytest.fixture(scope="module")
def results(
    tf1_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[FlatFunction, dict[str, Any], Any]]:
    """What TensorFlow 1.15 made of all cases: one process for all of them."""
    folder = tmp_path_factory.mktemp("cases")
    random = np.random.default_rng(8)
    found: dict[str, Any] = {}
    for name, make in CASES.items():
        flat = lowered(make)

        def weigh(outputs: Any) -> Any:
            return [random.normal(size=output.shape).astype(np.float32) for output in outputs]

        outputs, gradients, weights = in_tf2(flat, weigh)
        write_meta_graph(flat, folder / name)
        assert weights is not None
        np.savez(folder / f"{name}.npz", x=X, **{f"weight{i}": w for i, w in enumerate(weights)})
        found[name] = flat, outputs, gradients
    program = folder / "client.py"
    program.write_text(CLIENT, encoding="utf-8")
    command = [tf1_python, "-W", "ignore", program, *(folder / name for name in CASES)]
    subprocess.run(command, check=True, env=tf1_environ(), capture_output=True)
    return {
        name: (*entry, dict(np.load(folder / f"{name}.out.npz"))) for name, entry in found.items()
    }


def write_meta_graph(flat: FlatFunction, path: Path) -> None:
    meta_graph = tf_pb.MetaGraphDef()
    meta_graph.graph_def.ParseFromString(tf1_graph_def(flat))
    for key, contexts in (
        ("cond_context", flat.variant.cond_contexts),
        ("while_context", flat.variant.while_contexts),
    ):
        if contexts:
            values = [context.SerializeToString() for context in contexts]
            meta_graph.collection_def[key].bytes_list.value.extend(values)
    path.with_suffix(".pb").write_bytes(meta_graph.SerializeToString())
    (source,) = flat.signature.input_tensors()
    full = [name if ":" in name else f"{name}:0" for name in flat.signature.output_tensors()]
    facts = {
        "input": source.removesuffix(":0") + ":0",
        "outputs": full,
        "sources": [f"{name}:0" for name in flat.variant.trainable_variables],
        "initializers": flat.initializers,
    }
    path.with_suffix(".json").write_text(json.dumps(facts), encoding="utf-8")


@pytest.mark.parametrize("scope", ["a", "b/c"])
@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_are_those_of_tensorflow_2(
    results: dict[str, Any], name: str, scope: str
) -> None:
    flat, outputs, gradients, found = results[name]
    assert "error" not in found, str(found["error"])
    for i, expected in enumerate(outputs):
        assert_close(found[f"{scope}|output{i}"], expected, 1e-5, f"output {i}")
    (source,) = flat.signature.input_tensors()
    sources = [source.removesuffix(":0") + ":0"]
    sources += [f"{variable}:0" for variable in flat.variant.trainable_variables]
    by_name = {key.removesuffix(":0") + ":0": value for key, value in gradients.items()}
    for i, tensor in enumerate(sources):
        key = f"{scope}|gradient{i}"
        assert (key in found) == (by_name[tensor] is not None), tensor
        if key in found:
            assert_close(found[key], by_name[tensor], 1e-4, f"gradient by {tensor}")


@pytest.mark.parametrize("name", CASES)
def test_no_functional_control_flow_is_left(results: dict[str, Any], name: str) -> None:
    flat = results[name][0]
    assert not flat.graph.functions
    assert (
        not {"If", "Case", "While", "StatelessIf", "StatelessCase", "StatelessWhile"} & flat.ops()
    )
    assert not any(op.startswith("TensorList") for op in flat.ops())
    assert {"Merge", "Switch"} <= flat.ops()


def test_assertions_in_branches_and_loops_still_guard_the_output(tf1: Tf1Client) -> None:
    import tensorflow as tf

    flat = lowered(guarded)
    flat.inputs = [tf.constant(X * 2.0)]
    with pytest.raises(Tf1Error, match="assertion failed"):
        in_tf1(tf1, flat)

    def call(x: Any) -> Any:
        for i in tf.range(4):
            tf.debugging.assert_less(i, 3)
        return x * 2.0

    with pytest.raises(Tf1Error, match="assertion failed"):
        in_tf1(tf1, rewritten(call, X, passes=PASSES))


def update_in_branch(tf: Any) -> Callable[..., Any]:
    seen = tf.Variable([0.0, 0.0, 0.0], trainable=False)
    calls = tf.Variable(0.0, trainable=False)

    def call(x: Any) -> Any:
        calls.assign_add(1.0)
        if tf.reduce_sum(x) > calls * 2.0:
            seen.assign_add(tf.reduce_sum(x, 0) + seen)
        return x * 2.0 + calls

    return call


def update_in_loop(tf: Any) -> Callable[..., Any]:
    seen = tf.Variable([1.0, 2.0, 3.0], trainable=False)
    last = tf.Variable(0.0, trainable=False)

    def call(x: Any) -> Any:
        for i in tf.range(12):
            seen.assign(seen * 0.9 + x[0])
            if i % 5 == 3:
                last.assign(tf.reduce_sum(seen))
        return x * 2.0

    return call


def update_after_branch(tf: Any) -> Callable[..., Any]:
    seen = tf.Variable([1.0, 2.0, 3.0], trainable=False)

    def call(x: Any) -> Any:
        y = tf.cond(tf.reduce_sum(x) > 0.0, lambda: x * seen.read_value(), lambda: x)
        seen.assign_add([1.0, 1.0, 1.0])
        return y

    return call


@pytest.mark.parametrize("make", [update_in_branch, update_in_loop, update_after_branch])
def test_an_update_op_that_is_a_branch_or_a_loop_does_what_it_did(
    tf1: Tf1Client, make: Callable[[Any], Callable[..., Any]]
) -> None:
    import tensorflow as tf

    flat = rewritten(make(tf), X, passes=PASSES)
    assert not flat.graph.functions
    check_calls(tf1, flat)


def test_loops_of_a_variant_with_update_ops_run_many_iterations_at_a_time() -> None:
    import tensorflow as tf

    mean = tf.Variable(0.0, trainable=False)

    def call(x: Any) -> Any:
        x = tf.map_fn(tf.sin, x)
        mean.assign(tf.reduce_mean(x))
        return x

    flat = rewritten(call, X, passes=PASSES)
    enters = [node for node in flat.graph.nodes.values() if node.op == "Enter"]
    assert {node.attr["parallel_iterations"].i for node in enters} == {10_000}
    (context,) = flat.variant.while_contexts
    assert context.parallel_iterations == 10_000


def test_two_writes_that_start_from_one_list_are_refused() -> None:
    import tensorflow as tf

    def call(x: Any) -> Any:
        raw = tf.raw_ops
        items = raw.TensorListReserve(element_shape=[3], num_elements=3, element_dtype=tf.float32)
        items = raw.TensorListSetItem(input_handle=items, index=2, item=x[0])
        first = raw.TensorListSetItem(input_handle=items, index=0, item=x[1])
        second = raw.TensorListSetItem(input_handle=items, index=1, item=x[0])
        stacks = [
            raw.TensorListStack(input_handle=one, element_shape=[3], element_dtype=tf.float32)
            for one in (first, second)
        ]
        return tf.cond(x[0, 0] > 0.0, lambda: stacks[0], lambda: stacks[1])

    with pytest.raises(UnsupportedError, match="two writes to a list"):
        rewritten(call, X, passes=PASSES)


def test_two_loops_that_start_from_one_list_with_an_item_are_refused() -> None:
    import tensorflow as tf

    def call(x: Any) -> Any:
        first = second = tf.TensorArray(tf.float32, 3, element_shape=[3]).write(2, x[0])
        for i in tf.range(2):
            first = first.write(i, x[i] * 2.0)
        for i in tf.range(2):
            second = second.write(i, x[i] * 3.0)
        return first.stack() + second.stack()

    with pytest.raises(UnsupportedError, match="two writes to a list"):
        rewritten(call, X, passes=PASSES)


def one_item_twice(tf: Any, array: Any, x: Any) -> Any:
    return array.write(1, x[0]).write(0, x[1]).write(1, x[1])


def filled_list(tf: Any, array: Any, x: Any) -> Any:
    return array.unstack(x).write(tf.cast(x[0, 0], tf.int32), x[1])


def filled_list_in_a_loop(tf: Any, array: Any, x: Any) -> Any:
    array = array.unstack(x)
    for i in tf.range(2):
        array = array.write(i, x[i] * 2.0)
    return array


def item_written_in_both_branches(tf: Any, array: Any, x: Any) -> Any:
    if x[0, 0] > 0.0:
        array = array.write(1, x[0])
    else:
        array = array.write(1, x[1]).write(0, x[1])
    return array.write(1, x[0])


@pytest.mark.parametrize(
    "write", [one_item_twice, filled_list, filled_list_in_a_loop, item_written_in_both_branches]
)
def test_an_item_that_is_written_twice_is_refused(write: Callable[[Any, Any, Any], Any]) -> None:
    import tensorflow as tf

    write = tf.autograph.to_graph(write)

    def call(x: Any) -> Any:
        array = write(tf, tf.TensorArray(tf.float32, 2, element_shape=[3]), x)
        return tf.cond(x[0, 0] > 0.0, array.stack, lambda: x)

    with pytest.raises(UnsupportedError, match="is written again") as caught:
        rewritten(call, X, passes=PASSES)
    assert caught.value.where.node


def test_what_may_be_written_once_only_is_not_refused(tf1: Tf1Client) -> None:
    import tensorflow as tf

    def call(x: Any) -> Any:
        array = tf.TensorArray(tf.float32, 3, element_shape=[3], dynamic_size=True)
        if x[0, 0] > 0.0:
            array = array.write(0, x[0])
        else:
            array = array.write(1, x[1])
        if x[0, 0] > 0.0:
            array = array.write(1, x[1])
        else:
            array = array.write(0, x[0])
        grown = tf.TensorArray(tf.float32, 2, element_shape=[3], dynamic_size=True).unstack(x)
        grown = grown.write(2, x[0])
        return array.write(2, x[0]).stack(), grown.stack()

    check_equal(tf1, rewritten(call, X, passes=PASSES))


def test_two_lists_that_meet_are_refused() -> None:
    import tensorflow as tf

    def call(x: Any) -> Any:
        arrays = [tf.TensorArray(tf.float32, 2, element_shape=[3]).unstack(x * i) for i in (1, 2)]
        flow = tf.cond(x[0, 0] > 0.0, lambda: arrays[0].flow, lambda: arrays[1].flow)
        return tf.raw_ops.TensorListStack(
            input_handle=flow, element_shape=[3], element_dtype=tf.float32
        )

    with pytest.raises(UnsupportedError, match="two lists of tensors meet"):
        rewritten(call, X, passes=PASSES)


def test_a_list_that_is_pushed_to_is_refused() -> None:
    import tensorflow as tf

    def call(x: Any) -> Any:
        raw = tf.raw_ops
        items = raw.EmptyTensorList(
            element_shape=[3], max_num_elements=-1, element_dtype=tf.float32
        )
        for i in tf.range(2):
            items = raw.TensorListPushBack(input_handle=items, tensor=x[i])
        return raw.TensorListStack(input_handle=items, element_shape=[3], element_dtype=tf.float32)

    with pytest.raises(UnsupportedError, match="EmptyTensorList has no form"):
        rewritten(call, X, passes=PASSES)


def test_predicates_are_true_where_tensorflow_2_says_so(tf1: Tf1Client, tmp_path: Path) -> None:
    import tensorflow as tf

    scalar = tf.TensorSpec([], tf.float32)
    then, otherwise = (
        tf.function(lambda x, factor=factor: x * factor).get_concrete_function(scalar)
        for factor in (2.0, 3.0)
    )

    def choose(predicate: Any) -> Any:
        return tf.raw_ops.If(
            cond=predicate,
            input=[tf.constant(1.0)],
            Tout=[tf.float32],
            then_branch=then,
            else_branch=otherwise,
        )[0]

    module = tf.Module()

    def call(x: Any) -> Any:
        return {
            "float": choose(x),
            "int64": choose(tf.cast(x * 2.0**40, tf.int64)),
            "text": choose(tf.strings.regex_replace(tf.as_string(tf.cast(x, tf.int32)), "0", "")),
            "bools": choose(tf.reshape(x, [-1]) > 0.0),
        }

    module.__call__ = tf.function(call, input_signature=[tf.TensorSpec(None, tf.float32)])
    tf.saved_model.save(module, tmp_path / "source")
    bridge.to_hub_module(tmp_path / "source", tmp_path / "module")
    for value in (0.0, 2.0, 0.5, np.nan, [0.0], [0.0, 0.0], np.zeros([0, 2])):
        array = np.array(value, np.float32)
        found = tf1.hub_apply(tmp_path / "module", {"x": array})
        expected = {key: tensor.numpy() for key, tensor in module.__call__(array).items()}
        assert found == expected, value


def test_a_loop_runs_while_its_condition_gives_elements(tf1: Tf1Client, tmp_path: Path) -> None:
    import tensorflow as tf

    specs = [tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.float32)]
    condition = tf.function(lambda x, i: x).get_concrete_function(*specs)
    body = tf.function(lambda x, i: (x[1:], i + 1.0)).get_concrete_function(*specs)
    module = tf.Module()
    module.__call__ = tf.function(
        lambda x: tf.raw_ops.While(input=[x, tf.constant(0.0)], cond=condition, body=body)[1],
        input_signature=specs[:1],
    )
    tf.saved_model.save(module, tmp_path / "source")
    bridge.to_hub_module(tmp_path / "source", tmp_path / "module")
    found = tf1.hub_apply(tmp_path / "module", {"x": np.zeros(3, np.float32)})
    assert found["default"] == 3.0


def test_a_predicate_of_which_tensorflow_makes_no_bool_is_refused(tmp_path: Path) -> None:
    half = tf_pb.DT_HALF
    choice = op("y", "If", "p:y:0", "x", Tcond=half)
    choice.attr["then_branch"].func.name = choice.attr["else_branch"].func.name = "double"
    choice.attr["Tin"].list.type.append(FLOAT)
    choice.attr["Tout"].list.type.append(FLOAT)
    cast = op("p", "Cast", "x", SrcT=FLOAT, DstT=half)
    model = Handmade()
    model.library.function.append(scaled("double", 2.0))
    trace = model.trace(function("main", [cast, choice], {"y": "y:output:0"}), [spec()])
    model.method("__call__", [trace])
    path = model.write(tmp_path / "source")
    with pytest.raises(UnsupportedError, match="predicate is float16"):
        bridge.to_hub_module(path, tmp_path / "module")
