"""What was converted passes; each fault that is planted fails, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import bridge
from bridge._parity.results import Status
from bridge._parity.structure import Structure, compare_structure, difference, refinement
from bridge._surfaces.read import read_surface
from bridge._surfaces.surface import (
    HUB_MODULE,
    SAVED_MODEL,
    Call,
    Computation,
    SeenTable,
    SeenVariable,
    Surface,
)
from bridge.model import TRAIN, Component, Encoding, Endpoint, Shape
from bridge.proto import hub_pb, tf_pb
from bridge.saved_model.object_tree import ObjectTree
from tests.clients.converted import MODULES
from tests.conftest import TESTDATA
from tests.parity import models
from tests.parity.models import Converted

TOY = "toy_image_resource"


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return Converted(tmp_path_factory.mktemp("converted"))


def compare(reference: Path, candidate: Path) -> Structure:
    return compare_structure(read_surface(reference), read_surface(candidate))


def failed(structure: Structure) -> set[tuple[str, str, str | None, str | None]]:
    """Which checks failed: check, name, variant and signature; each says why."""
    left = (Status.PASS, Status.NOT_COMPARABLE)
    checks = [check for check in structure.checks if check.status not in left]
    assert all(check.reason for check in structure.checks if check.status is not Status.PASS)
    # A SignatureDef whose object is gone can't be compared with anything.
    rest = {check.check for check in structure.checks if check.status is Status.NOT_COMPARABLE}
    assert rest <= ({"served"} if checks else set())
    return {(check.check, check.name, check.variant, check.signature) for check in checks}


# -- what is equal ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_a_converted_module_has_the_structure_of_its_source(
    name: str, converted: Converted
) -> None:
    module = read_surface(converted.module(name))
    saved_model = read_surface(converted.saved_model(name))
    back = read_surface(converted.back(name))
    pairs = [(module, saved_model), (saved_model, module), (saved_model, back), (module, back)]
    for reference, candidate in pairs:
        structure = compare_structure(reference, candidate)
        assert failed(structure) == set()
    # Every signature of the module is compared with one of the SavedModel, every output too.
    structure = compare_structure(module, saved_model)
    assert [pair.reference for pair in structure.pairs] == list(module.computations)
    for pair in structure.pairs:
        assert pair.inputs.keys() == pair.reference.inputs.keys()
        assert pair.outputs.keys() == pair.reference.outputs.keys()
    assert structure.variables == {name: name for name in module.variables}


@pytest.mark.parametrize("tags", [(), ("train",)])
def test_a_signature_may_be_in_one_variant_only(tags: tuple[str, ...], tmp_path: Path) -> None:
    module = models.copy(TESTDATA / "modules" / "toy_image_ref", tmp_path / "module")
    with models.variant(module, *tags) as graph:
        del graph.signature_def["image_classification"]
    saved_model = tmp_path / "saved_model"
    bridge.to_saved_model(module, saved_model, verify=False)
    assert failed(compare(module, saved_model)) == set()


def test_a_module_must_have_what_a_saved_model_becomes_again(tmp_path: Path) -> None:
    """A signature that is in {train} only is a function in the SavedModel, which nothing serves."""
    module = models.copy(TESTDATA / "modules" / "toy_image_ref", tmp_path / "module")
    with models.variant(module) as graph:
        del graph.signature_def["image_classification"]
    saved_model = tmp_path / "saved_model"
    bridge.to_saved_model(module, saved_model, verify=False)
    without = models.copy(module, tmp_path / "without")
    with models.variant(without, "train") as graph:
        del graph.signature_def["image_classification"]
    lost = "image_classification"
    assert failed(compare(saved_model, without)) == {("signature", lost, "{train}", lost)}
    # What tf.saved_model.save writes of it says no more what module it was, and loses that too.
    with models.only_graph(saved_model) as graph:
        graph.collection_def.pop("hubbridge_module")
    checks = compare(saved_model, without).checks
    (check,) = (c for c in checks if c.status is not Status.PASS)
    assert (check.check, check.name, check.status) == ("signature", lost, Status.NOT_COMPARABLE)
    assert failed(compare(saved_model, module)) == set()


def test_names_of_subobjects_are_those_of_variants(converted: Converted) -> None:
    structure = compare(converted.module("own_tags"), converted.saved_model("own_tags"))
    assert {pair.candidate.calls[0].name for pair in structure.pairs} == {
        "bs16.__call__",
        "bs16_train.__call__",
    }


def test_a_variable_of_another_name_is_found_by_its_bytes(converted: Converted) -> None:
    surface = read_surface(converted.module(TOY))
    renamed = {f"other/{n}": replace(v, name=f"other/{n}") for n, v in surface.variables.items()}
    updated = {
        tags: frozenset(f"other/{n}" for n in names) for tags, names in surface.updated.items()
    }
    structure = compare_structure(surface, replace(surface, variables=renamed, updated=updated))
    assert failed(structure) == set()
    assert structure.variables.keys() == surface.variables.keys()
    kernel = next(c for c in structure.checks if c.name == "Toy/logits/kernel")
    assert (
        "called 'other/Toy/logits/kernel': found by its dtype, shape and bytes" in kernel.candidate
    )


# -- faults of a module ----------------------------------------------------------------------------


def _drop_signature(module: Path) -> None:
    with models.variant(module) as graph:
        del graph.signature_def["image_classification"]


def _drop_output(module: Path) -> None:
    with models.variant(module) as graph:
        del graph.signature_def["default"].outputs["Toy/conv1"]


def _swap_dtype_of_output(module: Path) -> None:
    with models.variant(module) as graph:
        outputs = graph.signature_def["default"].outputs
        kept = outputs["Toy/conv1"].name
        outputs["Toy/conv1"].CopyFrom(graph.signature_def["default"].outputs["default"])
        assert outputs["Toy/conv1"].name != kept


def _wrong_shape(module: Path) -> None:
    with models.variant(module) as graph:
        shape = graph.signature_def["default"].outputs["default"].tensor_shape
        shape.dim[1].size += 1


def _open_shape(module: Path) -> None:
    with models.variant(module) as graph:
        shape = graph.signature_def["default"].inputs["images"].tensor_shape
        shape.dim[1].size = -1


def _drop_variant(module: Path) -> None:
    with models.saved_model(module) as message:
        train = next(m for m in message.meta_graphs if m.meta_info_def.tags)
        message.meta_graphs.remove(train)


def _drop_update_op(module: Path) -> None:
    with models.variant(module, "train") as graph:
        models.drop_from_nodes(graph, "update_ops", "bn1/AssignMovingAvg/")


def _drop_loss(module: Path) -> None:
    with models.variant(module, "train") as graph:
        models.drop_from_nodes(graph, "regularization_losses")


def _freeze(module: Path) -> None:
    with models.saved_model(module) as message:
        for graph in message.meta_graphs:
            models.drop_variable_def(graph, "trainable_variables", "Toy/logits/kernel")


def _change_weight(module: Path) -> None:
    models.scale_weight(module, "Toy/logits/kernel", 1.001)


def _change_attachment(module: Path) -> None:
    with models.variant(module) as graph:
        models.attach(graph, "toy_labels", b"other")


def _drop_attachment(module: Path) -> None:
    with models.variant(module) as graph:
        models.attach(graph, "toy_labels", None)


def _other_image_size(module: Path) -> None:
    with models.variant(module) as graph:
        info = hub_pb.ImageModuleInfo()
        info.default_image_size.height, info.default_image_size.width = 17, 16
        models.attach(graph, "image_module_info", info.SerializeToString())


SIZE = {
    ("attachment", "image_module_info", "{}", None),
    ("image_size", "images", None, None),
}

MODULE_FAULTS: list[tuple[Callable[[Path], None], set[tuple[str, str, str | None, str | None]]]] = [
    (_drop_signature, {("signature", "image_classification", "{}", "image_classification")}),
    (_drop_output, {("output", "Toy/conv1", "{}", "default")}),
    (_swap_dtype_of_output, {("output", "Toy/conv1", "{}", "default")}),
    (_wrong_shape, {("output", "default", "{}", "default")}),
    (_open_shape, {("input", "images", "{}", "default")}),
    (_drop_variant, {("variant", "{train}", "{train}", None)}),
    (_drop_update_op, {("update_op", "Toy/bn1/moving_mean", "{train}", None)}),
    (_drop_loss, {("regularization_loss", "count", "{train}", None)}),
    (_freeze, {("trainable", "Toy/logits/kernel", None, None)}),
    (_change_weight, {("variable", "Toy/logits/kernel", None, None)}),
    (_change_attachment, {("attachment", "toy_labels", "{}", None)}),
    (_drop_attachment, {("attachment", "toy_labels", "{}", None)}),
    (_other_image_size, SIZE),
]


@pytest.mark.parametrize(
    ("fault", "wanted"), MODULE_FAULTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_fault_of_a_module_fails_by_its_name(
    fault: Callable[[Path], None],
    wanted: set[tuple[str, str, str | None, str | None]],
    converted: Converted,
    tmp_path: Path,
) -> None:
    module = models.copy(converted.module(TOY), tmp_path)
    fault(module)
    assert failed(compare(converted.module(TOY), module)) == wanted
    # And likewise where the reference is the SavedModel that the module could have been made of.
    assert failed(compare(converted.saved_model(TOY), module)) == wanted


# -- faults of a SavedModel ------------------------------------------------------------------------


def _drop_function(path: Path) -> None:
    with models.only_graph(path) as graph:
        models.drop_child(graph, "image_classification")
        models.drop_child(graph, "signatures", "image_classification")


def _drop_served(path: Path) -> None:
    with models.only_graph(path) as graph:
        models.drop_child(graph, "signatures", "image_classification")


def _drop_serving_default(path: Path) -> None:
    with models.only_graph(path) as graph:
        models.drop_child(graph, "signatures", "serving_default")


def _drop_training(path: Path) -> None:
    with models.only_graph(path) as graph:
        for name in ("__call__", "image_feature_vector", "image_classification"):
            tree = models.ObjectTree(graph.object_graph_def, path)
            function = graph.object_graph_def.nodes[tree.children(0)[name]].function
            kept = [n for n in function.concrete_functions if not _trains(graph, n)]
            assert 0 < len(kept) < len(function.concrete_functions) or name != "__call__"
            function.concrete_functions[:] = kept


def _trains(graph: tf_pb.MetaGraphDef, name: str) -> bool:
    signature = graph.object_graph_def.concrete_functions[name].canonicalized_input_signature
    return bool(signature.tuple_value.values[0].tuple_value.values[1].bool_value)


def _drop_update(path: Path) -> None:
    with models.only_graph(path) as graph:
        for function in models.updating_functions(graph):
            for control, node in list(function.control_ret.items()):
                if "bn1/AssignMovingAvg/" in node:
                    del function.control_ret[control]
                    function.signature.control_output.remove(control)


def _drop_saved_loss(path: Path) -> None:
    with models.only_graph(path) as graph:
        models.drop_child(graph, "regularization_losses", "0")


def _freeze_saved(path: Path) -> None:
    with models.only_graph(path) as graph:
        models.saved_variable(graph, "Toy/logits/kernel").trainable = False


def _unlist(path: Path) -> None:
    with models.only_graph(path) as graph:
        tree = models.ObjectTree(graph.object_graph_def, path)
        listed = tree.children(tree.children(0)["trainable_variables"])
        nodes = graph.object_graph_def.nodes
        name = next(n for n, i in listed.items() if nodes[i].variable.name == "Toy/logits/kernel")
        models.drop_child(graph, "trainable_variables", name)


def _change_saved_weight(path: Path) -> None:
    models.scale_weight(path, "Toy/logits/kernel/.ATTRIBUTES/VARIABLE_VALUE", 1.001)


def _change_saved_attachment(path: Path) -> None:
    with models.only_graph(path) as graph:
        models.attach(graph, "toy_labels", b"other")


def _wrong_saved_shape(path: Path) -> None:
    with models.only_graph(path) as graph:
        tree = models.ObjectTree(graph.object_graph_def, path)
        for name in tree.concrete_functions(tree.children(0)["image_classification"]):
            fields = graph.object_graph_def.concrete_functions[name].output_signature.dict_value
            if not _trains(graph, name) and "Toy/conv1" in fields.fields:
                fields.fields["Toy/conv1"].tensor_spec_value.shape.dim[3].size += 1


SAVED_MODEL_FAULTS = [
    (_drop_function, {
        ("signature", "image_classification", "{}", "image_classification"),
        ("signature", "image_classification", "{train}", "image_classification"),
    }),
    (_drop_served, {("signature", "image_classification", "{}", "image_classification")}),
    (_drop_serving_default, {("signature", "default", "{}", "default")}),
    (_drop_training, {("variant", "{train}", "{train}", None)}),
    (_drop_update, {("update_op", "Toy/bn1/moving_mean", "{train}", None)}),
    (_drop_saved_loss, {("regularization_loss", "count", "{train}", None)}),
    (_freeze_saved, {("trainable", "Toy/logits/kernel", None, None)}),
    (_unlist, {("trainable", "Toy/logits/kernel", None, None)}),
    (_change_saved_weight, {("variable", "Toy/logits/kernel", None, None)}),
    (_change_saved_attachment, {
        ("attachment", "toy_labels", "{}", None),
        ("attachment", "toy_labels", "{train}", None),
    }),
    (_wrong_saved_shape, {("output", "Toy/conv1", "{}", "image_classification")}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "wanted"), SAVED_MODEL_FAULTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_fault_of_a_saved_model_fails_by_its_name(
    fault: Callable[[Path], None],
    wanted: set[tuple[str, str, str | None, str | None]],
    converted: Converted,
    tmp_path: Path,
) -> None:
    path = models.copy(converted.saved_model(TOY), tmp_path)
    fault(path)
    assert failed(compare(converted.module(TOY), path)) == wanted


def test_another_asset_fails_by_its_name(converted: Converted, tmp_path: Path) -> None:
    path = models.copy(converted.saved_model("text_vocab"), tmp_path)
    (asset,) = (path / "assets").iterdir()
    asset.write_bytes(asset.read_bytes() + b"more\n")
    table = "string_to_index/hash_table/hash_table"
    assert failed(compare(converted.module("text_vocab"), path)) == {
        ("asset", asset.name, None, None),
        ("table", table, None, None),
        ("table", "_tables/0", None, None),
    }
    (path / "assets" / "further").write_bytes(b"")
    asset.unlink()
    assert ("asset", asset.name, None, None) in failed(
        compare(converted.module("text_vocab"), path)
    )


def test_a_table_that_is_not_filled_fails(converted: Converted, tmp_path: Path) -> None:
    module = models.copy(converted.module("assets_many"), tmp_path)
    with models.variant(module) as graph:
        models.drop_from_nodes(graph, "table_initializer")
    assert failed(compare(converted.module("assets_many"), module)) == {
        ("table", "string_to_index/hash_table/hash_table", None, None)
    }


def test_a_table_of_other_content_fails_by_its_name(converted: Converted, tmp_path: Path) -> None:
    path = models.copy(converted.saved_model("assets_many"), tmp_path)
    with models.only_graph(path) as graph:
        nodes = [n for f in graph.graph_def.library.function for n in f.node_def]
        (values,) = (
            n.attr["value"].tensor
            for n in nodes
            if n.op == "Const" and b"cat" in n.attr["value"].tensor.string_val
        )
        values.string_val[1] = b"cow"
    assert failed(compare(converted.module("assets_many"), path)) == {
        ("table", "hash_table_2", None, None),
        ("table", "_tables/4", None, None),
    }


def test_a_variant_that_is_another_one_again_need_not_be_there(converted: Converted) -> None:
    """What `training=True` runs without a variant {train} is the variant without tags."""
    reference = read_surface(converted.saved_model("partitioned"))
    assert {c.variant for c in reference.computations} == {frozenset(), TRAIN}
    candidate = read_surface(converted.module("partitioned"))
    assert {c.variant for c in candidate.computations} == {frozenset()}
    checks = compare_structure(reference, candidate).checks
    (check,) = (c for c in checks if c.check == "variant" and c.name == "{train}")
    assert (check.status, check.candidate) == (Status.PASS, "the same as {}")


# -- rules -----------------------------------------------------------------------------------------


def endpoint(shape: Shape, dtype: int = tf_pb.DT_FLOAT) -> Endpoint:
    return Endpoint(Encoding.DENSE, dtype, shape, (Component("x:0", dtype, shape),))


@pytest.mark.parametrize(
    ("ours", "theirs", "agrees", "said"),
    [
        ((None, 3), (None, 3), True, ""),
        ((None, None), (None, 3), True, ", which knows more"),
        (None, (None, 3), True, ", which knows more"),
        ((2, 3), (None, 3), True, ", which leaves the batch open"),
        ((2, None), (None, 3), True, ", which knows more and leaves the batch open"),
        ((None, 3), (None, None), False, ""),
        ((None, 3), (None, 4), False, ""),
        ((None, 3), (3,), False, ""),
        ((None, 3), None, False, ""),
        ((2, 3), (4, 3), False, ""),
    ],
)
def test_static_shapes_may_know_more_and_leave_the_batch_open(
    ours: Shape, theirs: Shape, agrees: bool, said: str
) -> None:
    assert (difference(endpoint(ours), endpoint(theirs)) == "") is agrees
    if agrees:
        assert refinement(ours, theirs) == said


def test_dtype_and_encoding_must_be_equal() -> None:
    ours = endpoint((None,))
    assert difference(ours, endpoint((None,), tf_pb.DT_DOUBLE))
    assert difference(ours, replace(ours, encoding=Encoding.SPARSE))
    assert not difference(ours, ours)


@pytest.mark.parametrize(
    ("ours", "theirs", "agrees"),
    [
        ((None, 5), (None, 5), True),
        ((2, 5), (None, 5), True),
        ((None, 5), (1, 5), False),
        ((None, None), (None, 5), False),
        (None, (None, 5), False),
        (None, None, True),
    ],
)
def test_an_input_that_takes_less_fails(ours: Shape, theirs: Shape, agrees: bool) -> None:
    assert (difference(endpoint(ours), endpoint(theirs), is_input=True) == "") is agrees
    fed = [replace(surface(SAVED_MODEL).computations[0], inputs={"x": endpoint(s)})
           for s in (ours, theirs)]  # fmt: skip
    first, second = (surface(SAVED_MODEL, computations=(one,)) for one in fed)
    wanted = set() if agrees else {("input", "x", "{}", "default")}
    assert failed(compare_structure(first, second)) == wanted


def surface(model_format: str, **more: object) -> Surface:
    kinds = ("callable", "__call__"), ("signature", "default"), ("signature", "serving_default")
    calls = tuple(Call(*call) for call in kinds) if model_format == SAVED_MODEL else ()
    computation = Computation(frozenset(), "default", {"x": endpoint((None,))}, {}, calls)
    made = Surface(
        path=Path("model"),
        format=model_format,
        producer="",
        computations=(computation,),
        variables={},
        regularization_losses={},
        updated={},
        assets={},
        tables={},
        attachments={},
        image_size=None,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def variable(name: str, digest: str = "0") -> SeenVariable:
    return SeenVariable(name, tf_pb.DT_INT64, (2,), False, digest)


def test_a_variable_too_many_fails() -> None:
    ours = surface(HUB_MODULE, variables={"a": variable("a")})
    theirs = surface(SAVED_MODEL, variables={"a": variable("a"), "b": variable("b", "1")})
    assert failed(compare_structure(ours, theirs)) == {("variable", "b", None, None)}
    assert failed(compare_structure(theirs, ours)) == {("variable", "b", None, None)}


def test_a_module_need_not_have_the_state_of_random_ops() -> None:
    states = {"variables": {"s": variable("s")}, "random_states": frozenset(["s"])}
    ours, theirs = surface(SAVED_MODEL, **states), surface(HUB_MODULE)
    assert failed(compare_structure(ours, theirs)) == set()
    assert failed(compare_structure(theirs, ours)) == set()
    other = surface(SAVED_MODEL)
    assert failed(compare_structure(ours, other)) == {("variable", "s", None, None)}


def test_a_table_that_can_not_be_read_is_listed_and_equals_none() -> None:
    unread = {"tables": {"t": SeenTable("t", "0", reason="nobody knows what it holds")}}
    read = {"tables": {"t": SeenTable("t", "0")}}
    for first, second, sides in ((unread, unread, 2), (unread, read, 1), (read, unread, 1)):
        checks = compare_structure(surface(SAVED_MODEL, **first), surface(SAVED_MODEL, **second))
        tables = [check for check in checks.checks if check.check == "table"]
        listed = [check for check in tables if check.status is Status.NOT_COMPARABLE]
        assert len(listed) == sides
        assert all("nobody knows what it holds" in check.reason for check in listed)
        assert not [check for check in tables if check.status is Status.PASS]


def test_an_update_too_many_fails() -> None:
    variables = {"variables": {"a": variable("a")}}
    ours = surface(HUB_MODULE, **variables)
    theirs = surface(SAVED_MODEL, **variables, updated={frozenset(): frozenset(["a"])})
    assert failed(compare_structure(ours, theirs)) == {("update_op", "a", "{}", None)}


def test_an_update_op_without_inputs_has_no_place_in_a_saved_model() -> None:
    variables = {"variables": {"a": variable("a")}}
    written = {frozenset[str](): frozenset(["a"])}
    ours = surface(HUB_MODULE, **variables, updated=written, updated_apart=written)
    assert failed(compare_structure(ours, surface(SAVED_MODEL, **variables))) == set()
    assert failed(compare_structure(surface(SAVED_MODEL, **variables), ours)) == set()
    wanted = {("update_op", "a", "{}", None)}
    assert failed(compare_structure(ours, surface(HUB_MODULE, **variables))) == wanted


def test_the_only_inputs_left_are_the_same() -> None:
    def taking(*names: str) -> Surface:
        inputs = {name: endpoint((None,)) for name in names}
        return surface(
            HUB_MODULE, computations=(Computation(frozenset(), "default", inputs, {}, ()),)
        )

    structure = compare_structure(taking("images", "scale"), taking("picture", "scale"))
    assert failed(structure) == set()
    assert structure.pairs[0].inputs == {"images": "picture", "scale": "scale"}
    structure = compare_structure(taking("images"), taking("left", "right"))
    assert failed(structure) == {
        ("input", name, "{}", "default") for name in ("images", "left", "right")
    }
    structure = compare_structure(taking("images"), taking("images", "more"))
    assert failed(structure) == {("input", "more", "{}", "default")}


def test_an_output_that_is_another_one_again_need_not_be_there() -> None:
    def giving(path: tuple[str, ...], *names: str) -> Surface:
        outputs = {name: endpoint((None,)) for name in names}
        paths = {name: path or (name,) for name in names}
        call = Call("callable", "__call__", outputs=paths)
        made = Computation(frozenset(), "default", {}, outputs, (call,))
        return surface(SAVED_MODEL, computations=(made,))

    one = giving((), "features")
    structure = compare_structure(giving(("features",), "features", "default"), one)
    assert failed(structure) == set()
    assert structure.pairs[0].outputs == {"features": "features"}
    structure = compare_structure(giving((), "features", "default"), one)
    assert failed(structure) == {("output", "default", "{}", "default")}


def test_a_saved_model_without_attachments_may_say_the_size_by_its_input() -> None:
    ours = surface(
        HUB_MODULE, attachments={frozenset(): {"image_module_info": b"x"}}, image_size=(8, 8)
    )
    wanted = ("attachment", "image_module_info", "{}", None)
    assert failed(compare_structure(ours, surface(SAVED_MODEL, image_size=(8, 8)))) == set()
    assert wanted in failed(compare_structure(ours, surface(SAVED_MODEL, image_size=(8, 9))))
    assert failed(compare_structure(ours, surface(HUB_MODULE, image_size=(8, 8)))) == {wanted}
    other = {frozenset[str](): {"other": b""}}
    attaching = surface(SAVED_MODEL, image_size=(8, 8), attachments=other)
    assert failed(compare_structure(ours, attaching)) == {wanted}


def test_an_image_size_that_is_off_by_one_fails() -> None:
    sizes = [surface(HUB_MODULE, image_size=size) for size in ((224, 224), (225, 224), None)]
    wanted = {("image_size", "images", None, None)}
    assert failed(compare_structure(sizes[0], sizes[1])) == wanted
    assert failed(compare_structure(sizes[0], sizes[2])) == wanted
    assert failed(compare_structure(sizes[2], sizes[0])) == set()
    assert failed(compare_structure(sizes[0], sizes[0])) == set()


# -- forms of a call -------------------------------------------------------------------------------


def test_a_form_of_a_call_that_is_not_there_fails_by_its_name(
    converted: Converted, tmp_path: Path
) -> None:
    path = models.copy(converted.saved_model("rnn"), tmp_path)
    with models.only_graph(path) as graph:
        models.drop_child(graph, "default")
        tree = ObjectTree(graph.object_graph_def, path)
        function = graph.object_graph_def.nodes[tree.children(0)["__call__"]].function
        del function.concrete_functions[3]
    structure = compare(converted.module("rnn"), path)
    assert failed(structure) == {("callable", "__call__", "{}", "default")}
    reasons = {check.reason for check in structure.checks if check.status is Status.FAIL}
    assert reasons == {
        "it can't be called as the attribute default",
        "it can't be called with a dictionary, training=True, return_endpoints=True",
    }
    # A SavedModel is as good as another one that lacks the same.
    assert failed(compare(path, path)) == set()
