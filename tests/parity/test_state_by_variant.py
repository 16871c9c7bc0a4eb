"""What a model changes and trains is compared for each call and variant, and in each list."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import bridge
from bridge._parity.results import Status
from bridge._parity.structure import compare_structure
from bridge._surfaces.read import read_surface
from bridge._surfaces.surface import (
    HUB_MODULE,
    SAVED_MODEL,
    Call,
    Computation,
    SeenList,
    SeenVariable,
    Surface,
    Updates,
)
from bridge.model import INFERENCE, TRAIN, Tags, format_tags
from bridge.proto import record_pb, tf_pb
from bridge.saved_model.object_tree import ObjectTree
from bridge.saved_model.record import RECORD, VERSION
from tests.parity import models
from tests.parity.models import Converted

TOY = "toy_image_resource"
MEAN = "Toy/bn1/moving_mean"
KERNEL = "Toy/logits/kernel"
BOTH_TRAINED = (
    "`__call__(training=True, return_endpoints=True)`, `__call__(training=True)`",
    "`image_classification(training=True, return_endpoints=True)`, "
    "`image_classification(training=True)`",
)

Failed = set[tuple[str, str, str | None, str | None, str]]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return Converted(tmp_path_factory.mktemp("converted"))


def failed_of(reference: Surface, candidate: Surface) -> Failed:
    """Which checks failed: check, name, variant, signature and reason."""
    checks = compare_structure(reference, candidate).checks
    bad = [check for check in checks if check.status is Status.FAIL]
    return {(c.check, c.name, c.variant, c.signature, c.reason) for c in bad}


def failed(reference: Path, candidate: Path) -> Failed:
    return failed_of(read_surface(reference), read_surface(candidate))


# -- updates of each call --------------------------------------------------------------------------


def _lose_update(function: tf_pb.FunctionDef) -> None:
    """Takes the update of MEAN out of a function."""
    (control,) = (c for c, n in function.control_ret.items() if "bn1/AssignMovingAvg/" in n)
    del function.control_ret[control]
    function.signature.control_output.remove(control)


@pytest.mark.parametrize("place", [0, 1])
def test_an_update_that_one_callable_loses_fails_by_the_callable(
    place: int, converted: Converted, tmp_path: Path
) -> None:
    path = models.copy(converted.saved_model(TOY), tmp_path)
    with models.only_graph(path) as graph:
        functions = models.updating_functions(graph)
        assert len(functions) == 2
        _lose_update(functions[place])
    found = failed(converted.module(TOY), path)
    assert {key[:3] for key in found} == {("update_op", MEAN, "{train}")}
    reason = f"the candidate does not change it in {BOTH_TRAINED[place]}"
    signature = ("default", "image_classification")[place]
    assert ("update_op", MEAN, "{train}", signature, reason) in found
    assert ("default", "image_classification")[1 - place] not in {key[3] for key in found}
    assert ("update_op", MEAN, "{train}", signature, reason) in failed(
        converted.saved_model(TOY), path
    )


def test_an_update_that_one_form_of_a_call_loses_fails(
    converted: Converted, tmp_path: Path
) -> None:
    path = models.copy(converted.saved_model(TOY), tmp_path)
    with models.only_graph(path) as graph:
        library = graph.graph_def.library.function
        body = models.updating_functions(graph)[0]
        other = library.add()
        other.CopyFrom(body)
        other.signature.name = "lost"
        _lose_update(other)
        callers = [f for f in library if any(_calls(n, body.signature.name) for n in f.node_def)]
        (node,) = (node for node in callers[0].node_def if _calls(node, body.signature.name))
        node.attr["f"].func.name = "lost"
        assert len(callers) > 1
    for reference in (converted.module(TOY), converted.saved_model(TOY)):
        found = failed(reference, path)
        (reason,) = {key[4] for key in found if key[3] == "default"}
        assert reason.count("`") == 2  # one call of the two
        assert {key[:3] for key in found if key[3] == "default"} == {("update_op", MEAN, "{train}")}


def _calls(node: tf_pb.NodeDef, name: str) -> bool:
    return node.attr["f"].func.name == name


def test_an_update_of_a_subobject_that_is_lost_fails_by_its_callable(
    converted: Converted, tmp_path: Path
) -> None:
    path = models.copy(converted.saved_model("own_tags"), tmp_path)
    with models.only_graph(path) as graph:
        (body,) = models.updating_functions(graph)
        library = graph.graph_def.library.function
        other = library.add()
        other.CopyFrom(body)
        other.signature.name = "lost"
        for control in list(other.signature.control_output):
            del other.control_ret[control]
        del other.signature.control_output[:]
        caller = next(f for f in library if any(_calls(n, body.signature.name) for n in f.node_def))
        (node,) = (node for node in caller.node_def if _calls(node, body.signature.name))
        node.attr["f"].func.name = "lost"
    found = failed(converted.module("own_tags"), path)
    assert len(found) == 2  # mean and variance
    assert {(c, variant, signature) for c, _, variant, signature, _ in found} == {
        ("update_op", "{bs16, train}", "default")
    }
    assert {reason for *_, reason in found} <= {
        f"the candidate does not change it in `bs16_train.__call__({given})`"
        for given in ("training=True", "training=True, return_endpoints=True")
    }


def way(name: str, *written: str, trains: bool = True) -> Updates:
    call = Call("callable", name, kwargs={"training": {"value": trains}})
    return Updates(call, trains, frozenset(written), frozenset(written))


def of_module(
    *written: str, forward: tuple[str, ...] = (), others: tuple[str, ...] = ()
) -> Updates:
    sets = (frozenset(names) for names in (written, forward, others))
    return Updates(Call("module", "default"), False, *sets)


def surface(
    model_format: str, *updates: Updates, tags: Tags = TRAIN, names: str = "ab", **more: object
) -> Surface:
    """A model with one signature, and variables of these names that nothing tells apart else."""
    computation = Computation(tags, "default", {}, {}, (updates[0].call,), updates=updates)
    made = Surface(
        path=Path("somewhere"),
        format=model_format,
        producer="",
        computations=(computation,),
        variables={n: SeenVariable(n, tf_pb.DT_FLOAT, (), False, n) for n in names},
        regularization_losses={},
        updated={tags: frozenset[str]().union(*(found.written for found in updates))},
        assets={},
        tables={},
        attachments={},
        image_size=None,
    )
    return replace(made, **more)


def updates_of(reference: Surface, candidate: Surface) -> dict[str, str]:
    return {
        name: reason
        for check, name, _, _, reason in failed_of(reference, candidate)
        if check == "update_op"
    }


def test_a_call_for_inference_need_not_run_update_ops() -> None:
    module = surface(HUB_MODULE, of_module("a"))
    calls = way("__call__", "a"), way("__call__", trains=False)
    assert updates_of(module, surface(SAVED_MODEL, *calls)) == {}


def test_a_call_for_inference_changes_what_the_module_changes_without_update_ops() -> None:
    module = surface(HUB_MODULE, of_module("a", forward=("a",)))
    calls = way("__call__", "a"), way("__call__", trains=False)
    assert updates_of(module, surface(SAVED_MODEL, *calls)) == {
        "a": "the candidate does not change it in `__call__(training=False)`"
    }


def test_a_call_for_inference_that_runs_update_ops_fails() -> None:
    module = surface(HUB_MODULE, of_module("a"))
    calls = way("__call__", "a"), way("__call__", "a", trains=False)
    reason = "the candidate changes it in `__call__(training=False)`, the reference in training"
    assert updates_of(module, surface(SAVED_MODEL, *calls)) == {"a": f"{reason} only"}


def test_where_no_call_trains_each_runs_the_update_ops() -> None:
    module = surface(HUB_MODULE, of_module("a"))
    calls = way("__call__", "a", trains=False), way("named", trains=False)
    assert updates_of(module, surface(SAVED_MODEL, *calls)) == {
        "a": "the candidate does not change it in `named(training=False)`"
    }


def test_a_call_need_not_change_what_belongs_to_another_signature() -> None:
    calls = way("__call__", "a", "b"), way("named", "a")
    for others, wanted in (((), ["b"]), (("b",), [])):
        module = surface(HUB_MODULE, of_module("a", "b", others=others))
        assert list(updates_of(module, surface(SAVED_MODEL, *calls))) == wanted


def test_a_call_of_a_saved_model_that_changes_more_fails() -> None:
    ours = surface(SAVED_MODEL, way("__call__", "a"), way("named"))
    theirs = surface(SAVED_MODEL, way("__call__", "a"), way("named", "a"))
    reason = "the candidate changes it in `named(training=True)`, the reference does not"
    assert updates_of(ours, theirs) == {"a": reason}
    assert updates_of(ours, ours) == {}


def test_an_update_in_inference_is_none_in_training() -> None:
    calls = (way("__call__", "a"), way("__call__", trains=False))
    swapped = (way("__call__"), way("__call__", "a", trains=False))
    assert len(failed_of(surface(SAVED_MODEL, *calls), surface(SAVED_MODEL, *swapped))) == 2


def test_a_further_callable_that_loses_an_update_fails_by_its_name() -> None:
    def with_further(*written: str) -> Surface:
        one = way("score", *written)
        named = Computation(INFERENCE, "score(x)", {}, {}, (one.call,), updates=(one,))
        return surface(SAVED_MODEL, way("__call__"), further=(named,))

    assert updates_of(with_further("a"), with_further()) == {
        "a": "the candidate does not change it in `score(training=True)`"
    }
    assert updates_of(with_further("a"), with_further("a")) == {}


def test_a_module_need_not_change_what_only_functions_change_that_it_can_not_have() -> None:
    ours = surface(SAVED_MODEL, way("__call__", "a"))
    (call,) = ours.computations
    named = way("named", "b")
    function = replace(
        call, signature="named", calls=(named.call,), updates=(named,), is_kept=False
    )
    updated = {TRAIN: frozenset("ab")}
    ours = replace(ours, computations=(call, function), updated=updated)
    assert updates_of(ours, surface(HUB_MODULE, of_module("a"))) == {}
    kept = replace(ours, computations=(call, replace(function, is_kept=True)))
    assert updates_of(kept, surface(HUB_MODULE, of_module("a"))) == {
        "b": "no update op of the candidate changes it"
    }


# -- trainable variables of each variant -----------------------------------------------------------


@pytest.fixture(scope="module", params=[(), ("train",)], ids=["inference", "train"])
def freezing(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Converted, Path]:
    """A module of which one variant does not train KERNEL: the variant, and how it is converted."""

    class Frozen(Converted):
        def module(self, name: str) -> Path:
            return module

    directory = tmp_path_factory.mktemp("frozen")
    module = models.copy(Converted(directory).module(TOY), directory)
    with models.variant(module, *request.param) as graph:
        models.drop_variable_def(graph, "trainable_variables", KERNEL)
    return format_tags(request.param), Frozen(directory), module


def test_a_variable_that_one_variant_trains_no_more_fails_by_the_variant(
    freezing: tuple[str, Converted, Path], converted: Converted
) -> None:
    variant, _, module = freezing
    reason = "it is trainable, the candidate's is not trainable"
    wanted = {("trainable", KERNEL, variant, None, reason)}
    for reference in (converted.module(TOY), converted.saved_model(TOY)):
        assert failed(reference, module) == wanted
    reason = "it is not trainable, the candidate's is trainable"
    assert failed(module, converted.module(TOY)) == {("trainable", KERNEL, variant, None, reason)}


def test_a_module_whose_variants_train_differently_is_converted_faithfully(
    freezing: tuple[str, Converted, Path],
) -> None:
    _, frozen, module = freezing
    saved_model, back = frozen.saved_model(TOY), frozen.back(TOY)
    for reference, candidate in ((module, saved_model), (saved_model, back), (module, back)):
        assert failed(reference, candidate) == set()


def _change_record(path: Path, change: Callable[[record_pb.VariantRecord], None]) -> None:
    with models.only_graph(path) as graph:
        values = graph.collection_def[RECORD].bytes_list.value
        records = [record_pb.VariantRecord.FromString(base64.b64decode(v)) for v in values]
        for record in records:
            change(record)
        values[:] = [base64.b64encode(record.SerializeToString()) for record in records]


def test_a_record_of_a_newer_version_says_nothing(
    freezing: tuple[str, Converted, Path], tmp_path: Path
) -> None:
    variant, frozen, module = freezing

    def make_newer(record: record_pb.VariantRecord) -> None:
        record.version = VERSION + 1

    path = models.copy(frozen.saved_model(TOY), tmp_path)
    _change_record(path, make_newer)
    assert {key[:3] for key in failed(path, module)} == {("trainable", KERNEL, variant)}


def test_a_broken_record_is_malformed(converted: Converted, tmp_path: Path) -> None:
    path = models.copy(converted.saved_model(TOY), tmp_path)
    with models.only_graph(path) as graph:
        graph.collection_def[RECORD].bytes_list.value.append(b"!")
    with pytest.raises(bridge.MalformedError, match=RECORD):
        read_surface(path)


# -- lists -----------------------------------------------------------------------------------------


def _lose_list(path: Path) -> None:
    with models.only_graph(path) as graph:
        models.drop_child(graph, "trainable_variables")


def _lose_variable(path: Path) -> None:
    with models.only_graph(path) as graph:
        _unlist(graph, KERNEL)


def _add_variable(path: Path) -> None:
    with models.only_graph(path) as graph:
        _, number = _listed(graph, "variables", MEAN)
        listed, _ = _listed(graph, "trainable_variables", KERNEL)
        listed.children.add(local_name=str(len(listed.children)), node_id=number)


def _unlist(graph: tf_pb.MetaGraphDef, name: str) -> None:
    listed, number = _listed(graph, "variables", name)
    (child,) = (c for c in listed.children if c.node_id == number)
    listed.children.remove(child)


def _listed(graph: tf_pb.MetaGraphDef, kind: str, name: str) -> tuple[tf_pb.SavedObject, int]:
    """Returns a list of the root, and the number of a variable in it."""
    nodes = graph.object_graph_def.nodes
    tree = ObjectTree(graph.object_graph_def, Path("saved_model.pb"))
    listed = tree.children(0)[kind]
    (number,) = (n for n in tree.items(listed) if nodes[n].variable.name == name)
    return nodes[listed], number


@pytest.mark.parametrize(
    ("fault", "name", "reason"),
    [
        (_lose_list, "trainable_variables", "the candidate has no list `trainable_variables`"),
        (_lose_variable, "variables", f"the candidate's lacks {KERNEL!r}"),
        (_add_variable, "trainable_variables", f"the candidate's also has {MEAN!r}"),
    ],
)
def test_a_fault_of_a_list_fails_by_the_name_of_the_list(
    fault: Callable[[Path], None], name: str, reason: str, converted: Converted, tmp_path: Path
) -> None:
    path = models.copy(converted.saved_model(TOY), tmp_path)
    fault(path)
    for reference in (converted.module(TOY), converted.saved_model(TOY)):
        assert failed(reference, path) == {("variable_list", name, None, None, reason)}


@pytest.mark.parametrize("kind", ["variables", "trainable_variables"])
def test_a_list_of_a_subobject_is_what_its_variant_has(
    kind: str, converted: Converted, tmp_path: Path
) -> None:
    path = models.copy(converted.saved_model("multi_variant"), tmp_path)
    with models.only_graph(path) as graph:
        models.drop_child(graph, "gpu", kind, "0")
    for reference in (converted.module("multi_variant"), converted.saved_model("multi_variant")):
        ((check, name, _, _, reason),) = failed(reference, path)
        assert (check, name) == ("variable_list", f"gpu.{kind}")
        assert reason.startswith("the candidate's lacks '")


def test_what_only_a_subobject_lists_is_missing_in_the_list_of_the_root(
    converted: Converted, tmp_path: Path
) -> None:
    path = models.copy(converted.saved_model("multi_variant"), tmp_path)
    with models.only_graph(path) as graph:
        name = next(
            node.variable.name
            for node in graph.object_graph_def.nodes
            if node.HasField("variable") and not node.variable.trainable
        )
        _unlist(graph, name)
    reason = f"the candidate's lacks {name!r}"
    wanted = {("variable_list", "variables", None, None, reason)}
    assert failed(converted.module("multi_variant"), path) == wanted


def test_lists_are_asked_of_who_has_some() -> None:
    def listing(**members: str | None) -> Surface:
        lists = (
            SeenList(kind, kind, None, None if found is None else frozenset(found))
            for kind, found in members.items()
        )
        return surface(SAVED_MODEL, way("__call__"), lists=tuple(lists))

    module, without = surface(HUB_MODULE, of_module()), listing()
    whole = listing(variables="ab", trainable_variables="")
    for reference, candidate in (
        (module, without),
        (module, whole),
        (without, whole),
        (without, module),
        (whole, module),
        (listing(variables=None, trainable_variables=""), whole),
    ):
        assert failed_of(reference, candidate) == set()
    assert {key[1] for key in failed_of(whole, without)} == {"variables", "trainable_variables"}
    half = listing(variables=None, trainable_variables="")
    for reference in (module, whole):
        assert {key[1] for key in failed_of(reference, half)} == {"variables"}


def test_what_an_object_holds_besides_its_lists_is_its_own_choice() -> None:
    def listing(held: str) -> Surface:
        return surface(
            SAVED_MODEL,
            way("__call__"),
            lists=(SeenList("variables", "variables", None, frozenset("a"), frozenset(held)),),
        )

    module = surface(HUB_MODULE, of_module())
    assert failed_of(module, listing("b")) == set()
    assert {key[4] for key in failed_of(module, listing(""))} == {"the candidate's lacks 'b'"}


def test_many_names_are_cut_short() -> None:
    names = "abcdefgh"
    ours, theirs = (
        surface(
            SAVED_MODEL,
            way("__call__"),
            names=names,
            lists=(SeenList("variables", "variables", None, frozenset(listed)),),
        )
        for listed in (names, "h")
    )
    (found,) = failed_of(ours, theirs)
    assert found[4] == "the candidate's lacks 'a', 'b', 'c', 'd', 'e' and 2 more"
