"""The first node that differs is found, confirmed, and shown by a script that runs by itself."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge._parity.bisection.regions import inner_nodes
from bridge._parity.bisection.script import publish, script_name
from bridge._parity.bisection.search import bisect
from bridge._parity.results import Bisection
from bridge._parity.rule import Tolerance
from bridge._surfaces.read import read_surface
from bridge._surfaces.surface import Computation, Pair
from bridge.attrs import float_tensor_attr
from bridge.convert import (
    ToHubModuleOptions,
    ToSavedModelOptions,
    to_hub_module,
    to_saved_model,
)
from bridge.graph import Graph
from bridge.kinds import read_model_with_objects
from bridge.opsets import OpTable
from bridge.proto import tf_pb

pytestmark = pytest.mark.tf2

ModuleDir = Callable[[str], Path]
Node = tf_pb.NodeDef

IMAGES = {"images": np.random.default_rng(0).random((2, 16, 16, 3), np.float32)}
PICTURES = {"images": np.random.default_rng(1).random((1, 64, 64, 3), np.float32)}


def converted(module: Path, dest: Path) -> Path:
    to_saved_model(module, dest, ToSavedModelOptions(verify=False))
    return dest


def edit(model: Path, change: Callable[[Node], None]) -> None:
    """Changes nodes of graphs and functions."""
    path = model / "saved_model.pb"
    saved_model = tf_pb.SavedModel.FromString(path.read_bytes())
    for meta_graph in saved_model.meta_graphs:
        for node in meta_graph.graph_def.node:
            change(node)
        for function in meta_graph.graph_def.library.function:
            for node in function.node_def:
                change(node)
    path.write_bytes(saved_model.SerializeToString())


def search(
    reference: Path,
    candidate: Path,
    inputs: Mapping[str, Any],
    work: Path,
    signature: str = "default",
    **options: Any,
) -> Bisection:
    sides = [
        next(
            found
            for found in read_surface(path).computations
            if (found.variant, found.signature) == (frozenset(), signature)
        )
        for path in (reference, candidate)
    ]
    names = dict(zip(sides[0].inputs, sides[1].inputs, strict=True))
    inputs = dict(zip(names, inputs.values(), strict=True))
    pair = Pair(sides[0], sides[1], names, {name: name for name in sides[0].outputs})
    python = Path(sys.executable)
    script = work / "found" / "script.py"
    return bisect(reference, candidate, pair, inputs, Tolerance(1e-5), python, script, **options)


def test_another_op_in_a_converted_module_is_found_and_shown(
    module_dir: ModuleDir, tmp_path: Path
) -> None:
    module, wrong = module_dir("toy_image_ref"), "Toy/block2/Relu"
    candidate = converted(module, tmp_path / "saved")

    def change(node: Node) -> None:
        if node.name == wrong:
            assert node.op == "Relu"
            node.op = "Elu"

    edit(candidate, change)
    found = search(module, candidate, IMAGES, tmp_path)
    assert (found.node, found.op, found.confirmed) == (wrong, "Relu", True), found.reason
    assert found.difference > found.limit > 0
    assert min(found.reference) == 0 > min(found.candidate)
    assert found.reason == "it is Relu in the reference, Elu in the candidate"
    # The script needs nothing of the models, nor of this package.
    for path in (candidate / "saved_model.pb", *candidate.glob("variables/*")):
        path.unlink()
    script = Path(found.repro or "")
    assert sorted(script.parent.iterdir()) == [script.with_suffix(".npz"), script]
    shown = subprocess.run(
        [sys.executable, "-I", script], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert shown.returncode == 1, shown.stderr
    assert wrong in shown.stdout
    assert f"difference {found.difference:g}" in shown.stdout


def test_swapped_outputs_are_no_fault_of_a_node(module_dir: ModuleDir, tmp_path: Path) -> None:
    module = module_dir("multi_input")
    candidate = converted(module, tmp_path / "saved")
    path = candidate / "saved_model.pb"
    saved_model = tf_pb.SavedModel.FromString(path.read_bytes())
    swapped = 0
    for function in saved_model.meta_graphs[0].graph_def.library.function:
        ret, calls = function.ret, any("Partitioned" in node.op for node in function.node_def)
        if {"sum", "product"} <= set(ret) and not calls:
            ret["sum"], ret["product"] = ret["product"], ret["sum"]
            swapped += 1
    assert swapped
    path.write_bytes(saved_model.SerializeToString())
    inputs = {"left": np.ones([2, 3], np.float32), "right": np.ones([2, 4], np.float32)}
    found = search(module, candidate, inputs, tmp_path)
    assert found.node is None
    assert found.reason.startswith("output "), found.reason
    assert not found.confirmed
    assert not (tmp_path / "found").exists()


def test_a_run_that_takes_too_long_ends(module_dir: ModuleDir, tmp_path: Path) -> None:
    module = module_dir("no_default_signature")
    candidate = converted(module, tmp_path / "saved")
    inputs = {"features": np.ones([2, 4], np.float32)}
    found = search(module, candidate, inputs, tmp_path, "squash", time_limit=0.05)
    assert found.node is None
    assert found.reason == "it can't be searched: it took more than 0.05 s"


@pytest.mark.slow
def test_one_changed_weight_is_named(module_dir: ModuleDir, tmp_path: Path) -> None:
    import tensorflow as tf

    module, name = module_dir("toy_image_resource"), "Toy/block3/weights"
    loaded = tf.saved_model.load(str(converted(module, tmp_path / "saved")))
    (variable,) = (v for v in loaded.variables if v.name == f"{name}:0")
    variable.assign(variable * tf.constant([1.001] + [1.0] * 7))
    tf.saved_model.save(loaded, str(tmp_path / "changed"), signatures=loaded.signatures)
    found = search(module, tmp_path / "changed", IMAGES, tmp_path)
    assert (found.node, found.confirmed) == (name, True), found.reason
    assert found.reason == "the value of the variable differs"
    assert 0 < found.difference < 0.01
    assert found.limit == 0


@pytest.mark.slow
def test_loops_and_conditionals_are_searched_as_a_whole(
    module_dir: ModuleDir, tmp_path: Path
) -> None:
    module = module_dir("control_flow_ref")
    steps = np.arange(20, dtype=np.float32).reshape(5, 4) % 7
    inputs = {"features": steps / 4}
    equal = converted(module, tmp_path / "equal")
    found = search(module, equal, inputs, tmp_path)
    assert found.reason.startswith("today's TensorFlow computes the same at all"), found.reason


@pytest.mark.parametrize(
    ("name", "shape", "inside", "end"),
    [
        ("control_flow_ref", (5, 4), "Flow/cond/Tanh", "Flow/cond/Merge"),
        ("rnn", (2, 7, 4), "Rnn/rnn/while/lstm_cell/Tanh", "Rnn/rnn/while/Exit_3"),
    ],
)
def test_a_fault_in_a_loop_or_conditional_is_found_at_its_end(
    name: str,
    shape: tuple[int, ...],
    inside: str,
    end: str,
    module_dir: ModuleDir,
    tmp_path: Path,
) -> None:
    """Both sides have loops of one name, and TensorArrays; of two branches one is not taken."""
    module, candidate = module_dir(name), tmp_path / "candidate"
    shutil.copytree(module, candidate)

    def change(node: Node) -> None:
        if node.name == inside:
            assert node.op == "Tanh"
            node.op = "Sin"

    edit(candidate, change)
    values = -np.linspace(0, 1, math.prod(shape), dtype=np.float32).reshape(shape)
    found = search(module, candidate, {"only": values}, tmp_path)
    assert (found.node, found.confirmed) == (end, True), found.reason
    assert found.reason == "it stands for the whole loop or conditional that it ends"


def test_functions_that_compute_the_same_are_the_same_by_any_name(tmp_path: Path) -> None:
    """Of a loop with another body the condition is the same, and only its name is another."""
    import tensorflow as tf

    def save(path: Path, factor: float) -> Path:
        def call(x: Any) -> Any:
            return tf.while_loop(
                lambda i, _: i < 3, lambda i, y: (i + 1, tf.sin(y) * factor), [0, x], name="loop"
            )[1]

        model = tf.Module()
        model.__call__ = tf.function(call, input_signature=[tf.TensorSpec([None, 4])])
        tf.saved_model.save(model, str(path))
        return path

    sides = [save(tmp_path / "reference", 1.0), save(tmp_path / "candidate", 1.5)]
    names = [
        {f.signature.name for f in read_model_with_objects(path).graph_def.library.function}
        for path in sides
    ]
    assert {name.startswith("loop_cond") for name in names[0] ^ names[1]} == {False, True}
    found = search(*sides, {"x": np.ones([2, 4], np.float32)}, tmp_path)
    assert (found.node, found.confirmed) == ("loop", True), found.reason
    assert found.reason == "its attributes differ: body"


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A SavedModel of Keras, the module made of it, and the SavedModel made of that."""
    import keras

    folder = tmp_path_factory.mktemp("mobilenet")
    keras.utils.set_random_seed(3)
    model = keras.applications.MobileNet(weights=None, alpha=0.25, input_shape=(64, 64, 3))
    model.export(str(folder / "source"), verbose=False)
    to_hub_module(folder / "source", folder / "module", ToHubModuleOptions(verify=False))
    return folder / "source", folder / "module", converted(folder / "module", folder / "back")


@pytest.mark.slow
def test_a_wrong_op_in_a_module_made_of_a_real_network_is_found(
    mobilenet: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    source, module, _ = mobilenet
    changed = Path(shutil.copytree(module, tmp_path / "changed"))
    wrong = "conv_dw_5_relu"

    def change(node: Node) -> None:
        if wrong in node.name and node.op == "Relu6":
            node.op = "Softplus"

    edit(changed, change)
    found = search(source, changed, PICTURES, tmp_path)
    assert wrong in (found.node or ""), found.reason
    assert (found.op, found.confirmed) == ("Relu6", True)


@pytest.mark.slow
def test_a_wrong_constant_in_a_converted_network_is_found(
    mobilenet: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    _, module, back = mobilenet
    changed = Path(shutil.copytree(back, tmp_path / "changed"))

    def change(node: Node) -> None:
        # The epsilon of all batch norms.
        if node.op == "Const" and node.name.endswith("batchnorm/add/y"):
            node.attr["value"].CopyFrom(float_tensor_attr(0.002))

    edit(changed, change)
    found = search(module, changed, PICTURES, tmp_path)
    assert (found.node or "").endswith("batchnorm/add/y"), found.reason
    assert (found.op, found.confirmed, found.reason) == ("Const", True, "the constant differs")
    assert found.reference == pytest.approx((0.001,))
    assert found.candidate == pytest.approx((0.002,))


def test_what_nobody_can_fetch_is_known() -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    v1.disable_control_flow_v2()
    try:
        with tf.Graph().as_default() as graph:
            x = v1.placeholder(tf.float32, [], name="x")

            def body(i: Any, y: Any) -> Any:
                even = tf.equal(i % 2, 0, name="even")
                return i + 1, v1.cond(
                    even, lambda: tf.sin(y, name="sin"), lambda: tf.cos(y, name="cos")
                )

            loop = v1.while_loop(lambda i, _: i < 3, body, [tf.constant(0), x])[1]
            outer = v1.cond(
                x > 0,
                lambda: v1.cond(loop > 0, lambda: tf.exp(x, name="exp"), lambda: x + 1.0),
                lambda: tf.tan(x, name="tan"),
            )
            tf.identity(loop, name="after_loop")
            tf.identity(outer, name="after_cond")
    finally:
        v1.enable_control_flow_v2()
    definition = tf_pb.GraphDef.FromString(graph.as_graph_def().SerializeToString())
    inner = inner_nodes(Graph(definition.node, OpTable()))
    ends = {loop.op.name, outer.op.name, "after_loop", "after_cond", "x"}
    assert not inner & ends
    by_op = {node.op: node.name for node in definition.node if node.name in inner}
    assert {"Sin", "Cos", "Exp", "Tan", "Enter", "NextIteration", "LoopCond"} <= set(by_op)
    with tf.Graph().as_default() as plain:
        tf.graph_util.import_graph_def(graph.as_graph_def(), name="")
    # A Switch has one of its values only, and all others have theirs whichever branch is taken.
    named = [op for op in plain.get_operations() if op.name not in inner and op.type != "Switch"]
    with v1.Session(graph=plain) as session:
        for value in (-1.0, 1.0):
            session.run([op.outputs for op in named], {"x:0": value})


def test_scripts_have_names_of_their_own() -> None:
    def named(signature: str, *tags: str, taken: Collection[str] = ()) -> str:
        one = Computation(frozenset(tags), signature, {}, {}, ())
        return script_name(Pair(one, one, {}, {}), taken)

    assert named("default") == "bisect-default.py"
    assert named("default", "train") == "bisect-train-default.py"
    assert named("a/b", taken=["bisect-a-b.py"]) == "bisect-a-b-2.py"
    assert named("a_b", taken=["bisect-a-b.py", "bisect-a-b-2.py"]) == "bisect-a-b-3.py"
    # Some file systems take these for one.
    assert named("Default", taken=["bisect-default.py"]) == "bisect-Default-2.py"
    assert len(named("x" * 300)) < 120


def test_a_script_takes_its_place_at_once_or_not_at_all(tmp_path: Path) -> None:
    made, script = tmp_path / "made.py", tmp_path / "folder" / "script.py"
    made.write_text("new")
    made.with_suffix(".npz").write_text("data")
    assert publish(made, script, "") == {"repro": str(script)}
    assert sorted(script.parent.iterdir()) == [script.with_suffix(".npz"), script]
    assert (script.read_text(), script.with_suffix(".npz").read_text()) == ("new", "data")
    told = publish(made, made / "script.py", "its value differs")
    assert list(told) == ["reason"]
    assert told["reason"].startswith("its value differs; its script can't be written: ")


def test_what_goes_wrong_in_the_process_is_told(module_dir: ModuleDir, tmp_path: Path) -> None:
    module = module_dir("no_default_signature")
    candidate = converted(module, tmp_path / "saved")
    inputs = {"features": np.ones([2, 3], np.float32)}
    found = search(module, candidate, inputs, tmp_path, "squash")
    assert found.node is None
    assert "can't be searched: " in found.reason
    assert "Cannot feed value of shape (2, 3)" in found.reason
