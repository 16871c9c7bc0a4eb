"""Modules in graphs: what they put into the graph, and where they can be applied."""

from __future__ import annotations

import ast
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.errors import HubBridgeError
from tests.clients.converted import assemble, assert_close
from tests.clients.tf1 import tf1_environ
from tests.conftest import TESTDATA
from tests.hub.programs import ROOT, run_program

pytestmark = pytest.mark.tf2

SCRIPT = ROOT / "tests" / "hub" / "scenarios.py"
SCENARIOS = [
    function.name
    for function in ast.parse(SCRIPT.read_text(encoding="utf-8")).body
    if isinstance(function, ast.FunctionDef)
    and any(isinstance(one, ast.Name) and one.id == "scenario" for one in function.decorator_list)
]
ERRORS = ("TypeError", "ValueError", "KeyError", "RuntimeError", "NotFoundError")


@pytest.fixture(scope="module")
def seen(tf1_python: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the old library and bridge.hub say in each scenario."""
    out = tmp_path_factory.mktemp("scenarios")
    made, old, new = out / "made", out / "old.json", out / "new.json"
    modules = TESTDATA / "modules"
    done = subprocess.run(
        [tf1_python, SCRIPT, "tensorflow_hub", modules, made, old],
        env=tf1_environ(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    run_program("tests.hub.scenarios", "bridge.hub", modules, made, new)
    return [json.loads(path.read_text(encoding="utf-8")) for path in (old, new)]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_programs_see_what_they_saw_with_the_old_library(seen, scenario) -> None:
    old, new = (one[scenario] for one in seen)
    if scenario == "wrong_calls_raise":
        # Its documentation says TypeError, as for any other input that does not fit.
        assert old.pop("slices for dense")[0] == "ValueError"
        assert "TypeError" in new.pop("slices for dense")
    _assert_same(new, old, scenario)


def _assert_same(found: Any, wanted: Any, what: str) -> None:
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), what
        for key, value in wanted.items():
            _assert_same(found[key], value, f"{what}, {key}")
    elif isinstance(wanted, list) and wanted and wanted[0] in ERRORS:
        assert wanted[0] in found, what
        assert "HubBridgeError" in found or found == wanted, what
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), what
        for index, pair in enumerate(zip(found, wanted, strict=True)):
            _assert_same(*pair, f"{what}, {index}")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=1e-5), what
    else:
        assert found == wanted, what


# What the old library could not do, or what only today's TensorFlow has.


def _tensorflow() -> tuple[Any, Any]:
    import tensorflow as tf

    from bridge import hub

    return tf, hub


def _run(fetches: Any, feeds: Any = None) -> Any:
    v1 = _tensorflow()[0].compat.v1
    with v1.Session() as session:
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        return session.run(fetches, feeds)


def _state_module(use_resource: bool) -> Callable[[], None]:
    def module_fn() -> None:
        tf, hub = _tensorflow()
        v1 = tf.compat.v1
        x = v1.placeholder(tf.float32, name="x")
        with tf.control_dependencies([x]):
            one = tf.constant(1.0)
        state = v1.get_variable("state", initializer=10.0, use_resource=use_resource)
        count = v1.get_variable("count", initializer=0, trainable=False, use_resource=use_resource)
        with tf.control_dependencies([state.op]):
            y = tf.add(x * one, state, name="y")
        v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, v1.assign_add(count, 1).op)
        hub.add_signature(inputs=x, outputs={"default": y, "same": x})
        # An update op that runs only where this signature is applied.
        other = v1.placeholder(tf.int32, name="other")
        v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, v1.assign_add(count, other).op)
        hub.add_signature("counted", inputs=other, outputs=other + count)

    return module_fn


def _table_module() -> None:
    tf, hub = _tensorflow()
    x = tf.compat.v1.placeholder(tf.int64)
    filled = tf.lookup.KeyValueTensorInitializer(tf.constant([1, 2], tf.int64), [11.0, 12.0])
    hub.add_signature(inputs=x, outputs=tf.lookup.StaticHashTable(filled, -1.0).lookup(x))


@pytest.fixture(scope="module")
def specs() -> dict[str, Any]:
    hub = _tensorflow()[1]
    return {
        "resource": hub.create_module_spec(_state_module(True)),
        "reference": hub.create_module_spec(_state_module(False)),
        "table": hub.create_module_spec(_table_module),
    }


def _as_function(apply: Callable[[Any], Any], x: Any) -> Any:
    return _tensorflow()[0].function(apply)(x)


def _as_wrapped(apply: Callable[[Any], Any], x: Any) -> Any:
    tf = _tensorflow()[0]
    return tf.compat.v1.wrap_function(apply, [tf.TensorSpec(x.shape, x.dtype)])(x)


def _as_defun(apply: Callable[[Any], Any], x: Any) -> Any:
    from tensorflow.python.framework.function import Defun

    def body(one: Any) -> Any:
        return apply(one)

    return Defun(x.dtype)(body)(x)


def _as_branch(apply: Callable[[Any], Any], x: Any) -> Any:
    tf = _tensorflow()[0]
    chosen = tf.compat.v1.placeholder_with_default(True, [])
    return tf.cond(chosen, lambda: apply(x), lambda: tf.zeros_like(x, tf.float32))


def _as_loop(apply: Callable[[Any], Any], x: Any) -> Any:
    tf = _tensorflow()[0]

    def body(i: Any, _: Any) -> Any:
        return i + 1, tf.reshape(apply(x), [])

    return tf.while_loop(lambda i, _: i < 1, body, [0, tf.constant(0.0)])[1]


def _as_nested(apply: Callable[[Any], Any], x: Any) -> Any:
    return _as_function(lambda one: _as_branch(apply, one), x)


WAYS = [_as_function, _as_wrapped, _as_defun, _as_branch, _as_loop, _as_nested]


@pytest.mark.parametrize("control_flow_v2", [True, False])
def test_modules_work_in_functions_and_branches_whatever_state_they_have(
    specs, control_flow_v2
) -> None:
    tf, hub = _tensorflow()
    toggle = ("disable_control_flow_v2", "enable_control_flow_v2")
    getattr(tf.compat.v1, toggle[control_flow_v2])()
    try:
        with tf.Graph().as_default():
            results, wanted = {}, {}
            for name, spec in specs.items():
                module = hub.Module(spec, name=name)
                x = tf.constant(2, tf.int64) if name == "table" else tf.constant(2.0)
                for way in WAYS:
                    key = f"{name}{way.__name__}"
                    results[key] = way(lambda one, module=module: module(one), x)
                    results[f"{key}, made inside"] = way(
                        lambda one, spec=spec: hub.Module(spec)(one), x
                    )
                    wanted[key] = wanted[f"{key}, made inside"] = 12.0
            found = _run(results)
    finally:
        tf.compat.v1.enable_control_flow_v2()
    assert {key: float(value) for key, value in found.items()} == wanted


def test_modules_work_in_functions_of_datasets(specs) -> None:
    tf, hub = _tensorflow()
    with tf.Graph().as_default():
        iterators = []
        for name, spec in specs.items():
            module = hub.Module(spec)
            data = tf.data.Dataset.from_tensors(2 if name == "table" else 2.0)
            if name == "table":
                data = data.map(lambda one: tf.cast(one, tf.int64))
            data = data.map(lambda one, module=module: module(one))
            iterators.append(tf.compat.v1.data.make_initializable_iterator(data))
        nexts = [iterator.get_next() for iterator in iterators]
        with tf.compat.v1.Session() as session:
            v1 = tf.compat.v1
            session.run([v1.global_variables_initializer(), v1.tables_initializer()])
            session.run([iterator.initializer for iterator in iterators])
            assert session.run(nexts) == [12.0, 12.0, 12.0]


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("control_flow_resource", "flagged"),
        ("rnn", "default"),
        ("sparse_input", "scaled"),
        ("ragged_input", "scores"),
        ("text_vocab", "default"),
        ("assets_many", "default"),
    ],
)
def test_a_function_computes_what_the_old_client_did(module_dir, golden, name, signature) -> None:
    tf, hub = _tensorflow()
    recorded = golden(name)
    wanted = recorded.under(f"|{signature}|out")
    facts = recorded.facts["variants"][0]["signatures"][signature]
    with tf.Graph().as_default():
        module = hub.Module(str(module_dir(name)))
        inputs = assemble(recorded.under(f"|{signature}|in"), facts["inputs"])
        function = tf.function(lambda given: module(given, signature=signature, as_dict=True))
        outputs = _run(function(inputs))
    found = {
        f"{key}{part}": array
        for key, value in outputs.items()
        for part, array in _parts(value).items()
    }
    assert found.keys() == wanted.keys()
    for key, array in wanted.items():
        assert_close(found[key], array, key)


def _parts(value: Any) -> dict[str, Any]:
    """The plain arrays of what a session returned, by the ends of their names in the goldens."""
    if hasattr(value, "dense_shape"):
        return {f"|{part}": getattr(value, part) for part in ("indices", "values", "dense_shape")}
    if hasattr(value, "row_splits"):
        return {"|values": value.values, "|row_splits_0": value.row_splits}
    return {"": value}


def test_a_function_runs_the_update_ops_of_its_signature_and_no_other(specs) -> None:
    tf, hub = _tensorflow()
    with tf.Graph().as_default():
        module = hub.Module(specs["resource"], trainable=True)
        fixed = hub.Module(specs["resource"])
        x = tf.constant(1.0)
        outputs = [tf.function(module)(x), tf.function(fixed)(x)]
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            session.run(outputs)
            session.run(outputs)
            counts = [session.run(one.variable_map["count"]) for one in (module, fixed)]
            assert counts == [2, 0]
            other = tf.function(lambda one: module(one, signature="counted"))(tf.constant(5))
            session.run(other)
            assert session.run(module.variable_map["count"]) == 8


def test_a_branch_or_loop_runs_update_ops_that_are_in_no_collection(specs) -> None:
    tf, hub = _tensorflow()
    with tf.Graph().as_default():
        module = hub.Module(specs["resource"], trainable=True)
        x = tf.constant(1.0)
        branch = tf.cond(tf.constant(True), lambda: module(x), lambda: tf.constant(0.0))
        loop = tf.while_loop(
            lambda i, _: i < 3, lambda i, _: (i + 1, module(x)), (tf.constant(0), x)
        )
        with tf.control_dependencies(tf.compat.v1.get_collection("update_ops")):
            outputs = [tf.identity(branch), tf.identity(loop[1])]
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            session.run(outputs[0])
            assert session.run(module.variable_map["count"]) == 1
            session.run(outputs[1])
            assert session.run(module.variable_map["count"]) == 4


def test_gradients_reach_variables_through_functions(specs) -> None:
    tf, hub = _tensorflow()
    with tf.Graph().as_default():
        module = hub.Module(specs["resource"], trainable=True)
        x = tf.constant(2.0)
        # TensorFlow itself fails at a Defun that writes one resource and differentiates another.
        ways = [way for way in WAYS if way is not _as_defun]
        slopes = [
            tf.compat.v1.gradients(way(lambda one: module(one) ** 2, x), module.trainable_variables)
            for way in ways
        ]
        assert _run(slopes) == [[24.0]] * len(ways)


def test_a_reference_that_a_function_would_change_is_an_error(specs) -> None:
    tf, hub = _tensorflow()
    with tf.Graph().as_default():
        module = hub.Module(specs["reference"], trainable=True)
        with pytest.raises(HubBridgeError, match="reference count:0") as caught:
            tf.cond(tf.constant(True), lambda: module(1.0), lambda: 0.0)
        assert isinstance(caught.value, ValueError)
        assert "disable_control_flow_v2" in str(caught.value.hint)
        # The graph is as it was: the module can be applied outside.
        assert _run(module(1.0)) == 11.0


def test_what_waits_for_an_input_or_for_state_waits_for_what_takes_its_place(specs) -> None:
    tf, hub = _tensorflow()
    with tf.Graph().as_default():
        module = hub.Module(specs["reference"])
        ran = tf.Variable(0.0, use_resource=True)
        with tf.control_dependencies([ran.assign(5.0)]):
            x = tf.constant(1.0)
        y = module(x)
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            assert session.run(y.op.inputs[0].op.inputs[1]) == 1.0
            assert session.run(ran) == 5.0
            assert session.run(y) == 11.0


def test_an_output_that_is_an_input_is_the_tensor_that_was_given(specs) -> None:
    tf, hub = _tensorflow()
    with tf.Graph().as_default():
        x = tf.constant(3.0)
        assert hub.Module(specs["resource"])(x, as_dict=True)["same"] is x


def test_the_second_argument_must_have_a_name(specs) -> None:
    tf, hub = _tensorflow()
    with tf.Graph().as_default():
        module = hub.Module(specs["resource"])
        with pytest.raises(TypeError, match="without a name") as caught:
            module(1.0, "counted")
        assert isinstance(caught.value, HubBridgeError)


def test_wrong_arguments_say_what_is_wrong(specs, tmp_path) -> None:
    tf, hub = _tensorflow()
    with tf.Graph().as_default():
        with pytest.raises(ValueError, match="is empty"):
            hub.Module(specs["resource"], name="")
        with pytest.raises(TypeError, match="in a session"):
            hub.Module(specs["resource"]).export(tmp_path / "module", None)
    with pytest.raises(OSError, match="absent"):
        hub.Module(str(tmp_path / "absent"))
    for wrong in (3, [({"a"},)], [(None, {})]):
        with pytest.raises((TypeError, ValueError), match="tags") as caught:
            hub.create_module_spec(lambda: None, tags_and_args=wrong)
        assert isinstance(caught.value, HubBridgeError)


def test_an_op_that_tensorflow_does_not_know_is_named(specs) -> None:
    tf, hub = _tensorflow()
    spec = hub.ModuleSpec([specs["resource"]._meta_graph(None)])
    meta_graph = spec._meta_graphs[frozenset()]
    meta_graph.graph_def.node.add(name="strange", op="NoOpAtAll")
    meta_graph.graph_def.library.function.add().node_def.add(name="inner", op="NoOpEither")
    with tf.Graph().as_default() as graph:
        with pytest.raises(tf.errors.NotFoundError, match="NoOpAtAll, NoOpEither") as caught:
            hub.Module(spec)
        assert isinstance(caught.value, HubBridgeError)
        assert "load_op_library" in str(caught.value.hint)
        assert not graph.get_operations()


def test_attributes_say_what_was_made(module_dir) -> None:
    tf, hub = _tensorflow()
    with tf.Graph().as_default():
        path = module_dir("toy_image_resource")
        modules = [hub.Module(path, trainable=True, tags=["train"]), hub.Module(str(path))]
        first, second = modules
        assert all(isinstance(module, hub.Module) for module in modules)
        assert [module.name for module in modules] == ["module", "module_1"]
        assert [module.trainable for module in modules] == [True, False]
        assert [module.tags for module in modules] == [{"train"}, set()]
        assert second.trainable_variables == []
        assert [one.name for one in first.trainable_variables] == sorted(
            one.name for one in tf.compat.v1.trainable_variables()
        )
        assert first.get_signature_names() == first._spec.get_signature_names({"train"})
        assert first.get_input_info_dict()["images"].get_shape().as_list() == [None, 16, 16, 3]
        assert first.get_output_info_dict("image_classification")["default"].dtype == tf.float32
        message = first.get_attached_message("image_module_info", hub.ImageModuleInfo)
        assert message.default_image_size.height == 16


def test_eager_programs_get_a_module_that_computes_at_once(module_dir) -> None:
    _, hub = _tensorflow()
    module = hub.Module(module_dir("toy_image_resource"))
    assert isinstance(module, hub.Module)
    assert module(np.zeros([1, 16, 16, 3], np.float32)).numpy().shape == (1, 8)


def test_a_module_can_not_be_derived_from(module_dir) -> None:
    tf, hub = _tensorflow()

    class Derived(hub.Module):  # type: ignore[misc,name-defined]
        pass

    with tf.Graph().as_default(), pytest.raises(TypeError, match="Derived"):
        Derived(module_dir("no_variables"))


def test_a_module_that_uses_a_module_is_one_for_the_real_client(
    tf1, module_dir, golden, tmp_path
) -> None:
    tf, hub = _tensorflow()

    def module_fn() -> None:
        ids = tf.compat.v1.placeholder(tf.int64, [None])
        inner = hub.Module(module_dir("partitioned"), name="inner")
        hub.add_signature(inputs={"ids": ids}, outputs=2.0 * inner(ids))

    spec = hub.create_module_spec(module_fn)
    with tf.Graph().as_default():
        module = hub.Module(spec)
        assert sorted(module.variable_map) == sorted(
            f"inner/{name}" for name in golden("partitioned").under("var")
        )
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            module.export(tmp_path / "outer", session)
    wanted = golden("partitioned").arrays
    found = tf1.hub_apply(tmp_path / "outer", {"ids": wanted["|default|in|ids"]})
    np.testing.assert_allclose(found["default"], 2 * wanted["|default|out|default"], rtol=1e-5)


def test_parts_along_another_dimension_are_one_variable_that_the_old_client_can_not_load(
    tmp_path,
) -> None:
    tf, hub = _tensorflow()
    v1 = tf.compat.v1

    def module_fn() -> None:
        cut = v1.fixed_size_partitioner(2, axis=1)
        start = v1.ones_initializer()
        table = v1.get_variable("table", [2, 4], initializer=start, partitioner=cut)
        hub.add_signature(outputs=tf.convert_to_tensor(table))

    with tf.Graph().as_default():
        module = hub.Module(hub.create_module_spec(module_fn))
        names = [part.name for part in module.variable_map["table"]]
        assert names == ["module/table/part_0:0", "module/table/part_1:0"]
        output = module()
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            np.testing.assert_array_equal(session.run(output), np.ones([2, 4]))
            with pytest.raises(HubBridgeError, match="another dimension"):
                module.export(tmp_path / "cut", session)
    assert not (tmp_path / "cut").exists()


def test_state_that_has_not_one_output_is_an_error(specs) -> None:
    tf, hub = _tensorflow()
    spec = hub.ModuleSpec([specs["resource"]._meta_graph(None)])
    node = spec._meta_graphs[frozenset()].graph_def.node.add(name="fed", op="OutfeedDequeueTuple")
    node.attr["dtypes"].list.type.append(tf.float32.as_datatype_enum)
    with tf.Graph().as_default(), pytest.raises(ValueError, match="OutfeedDequeueTuple") as caught:
        hub.Module(spec)
    assert "node 'fed'" in str(caught.value)


def test_two_variables_of_one_name_are_an_error(specs) -> None:
    from tensorflow.core.framework import variable_pb2

    tf, hub = _tensorflow()
    spec = hub.ModuleSpec([specs["resource"]._meta_graph(None)])
    collections = spec._meta_graphs[frozenset()].collection_def
    packed = collections["variables"].bytes_list.value
    other = variable_pb2.VariableDef.FromString(packed[0])
    other.trainable = not other.trainable
    packed.append(other.SerializeToString())
    with tf.Graph().as_default(), pytest.raises(ValueError, match="two variables") as caught:
        hub.Module(spec)
    assert isinstance(caught.value, HubBridgeError)
