"""The objects of a SavedModel, and where the checkpoint has their variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.bundle import BundleIndex, Entry, read_index
from bridge.errors import MalformedError, UnsupportedError
from bridge.layout import VARIABLES
from bridge.model import ByteRange
from bridge.proto import tf_pb
from bridge.saved_model.object_tree import (
    ObjectTree,
    entries_of_variables,
    places_of_variables,
)
from bridge.saved_model.objects import OBJECT_GRAPH_KEY, ROOT
from tests.saved_model.handmade import Handmade

HERE = Path("saved_model.pb")


def tree_of(model: Handmade) -> ObjectTree:
    return ObjectTree(tf_pb.SavedObjectGraph(nodes=model.objects.nodes), HERE)


def index_of(model: Handmade, folder: Path) -> BundleIndex:
    path = model.write(folder / "model")
    return read_index(path / VARIABLES / VARIABLES)


def test_the_shortest_path_leads_to_an_object() -> None:
    model = Handmade()
    objects = model.objects
    outer, inner, deep = (objects.add_object() for _ in range(3))
    objects.link(ROOT, "outer", outer)
    objects.link(outer, "inner", inner)
    objects.link(inner, "deep", deep)
    objects.link(ROOT, "short", deep)
    tree = tree_of(model)
    assert [tree.path(n) for n in (ROOT, outer, inner, deep)] == [
        "",
        "outer",
        "outer/inner",
        "short",
    ]


def test_a_path_through_a_list_of_all_variables_is_the_last_choice() -> None:
    model = Handmade()
    placed, listed = model.variable("a"), model.variable("b")
    layer = model.objects.add_object()
    model.objects.link(layer, "kernel", placed)
    for name in ("variables", "trainable_variables"):
        model.list_of(name, [placed, listed])
    model.objects.link(ROOT, "layer", layer)
    tree = tree_of(model)
    assert tree.path(placed) == "layer/kernel"
    assert tree.path(listed) == "variables/1"
    assert [tree.is_only_listed(n) for n in (placed, listed)] == [False, True]
    assert tree.variables() == [placed, listed]


def test_cycles_end() -> None:
    model = Handmade()
    other = model.objects.add_object()
    model.objects.link(ROOT, "self", ROOT)
    model.objects.link(ROOT, "other", other)
    model.objects.link(other, "root", ROOT)
    model.objects.link(other, "self", other)
    variable = model.variable("v")
    model.objects.link(other, "v", variable)
    tree = tree_of(model)
    assert tree.path(ROOT) == ""
    assert tree.variables() == [variable]


def test_objects_that_nothing_leads_to_have_no_path() -> None:
    model = Handmade()
    hidden = model.variable("hidden")
    tree = tree_of(model)
    assert tree.path(hidden) == f"object {hidden}"
    assert tree.variables() == []


def test_an_attribute_of_the_root_may_be_skipped() -> None:
    model = Handmade()
    both, slot = model.variable("both", attribute="both"), model.variable("slot")
    optimizer = model.objects.add_object()
    for name, number in (("slot", slot), ("both", both)):
        model.objects.link(optimizer, name, number)
    model.objects.link(ROOT, "optimizer", optimizer)
    tree = tree_of(model)
    assert tree.variables() == [both, slot]
    assert tree.variables(skipped="optimizer") == [both]


def test_very_long_paths_are_cut_and_take_no_time() -> None:
    model = Handmade()
    parent = ROOT
    for _ in range(5000):
        child = model.objects.add_object()
        model.objects.link(parent, "n" * 100, child)
        parent = child
    path = tree_of(model).path(parent)
    assert len(path) == 1000
    assert path.endswith("/" + "n" * 100)


def test_items_of_a_list_come_by_number() -> None:
    model = Handmade()
    numbers = [model.variable(f"v{i}") for i in range(12)]
    model.list_of("items", numbers)
    tree = tree_of(model)
    assert tree.items(tree.child(ROOT, "items")) == numbers
    assert tree.items(tree.child(ROOT, "absent")) == []


@pytest.mark.parametrize("number", [1, 99, -1])
def test_children_must_be_there(number: int) -> None:
    graph = tf_pb.SavedObjectGraph(nodes=[{}])
    graph.nodes[0].children.add(node_id=number, local_name="child")
    with pytest.raises(MalformedError, match=f"'child' has number {number}, there are 1"):
        ObjectTree(graph, HERE)


def test_there_must_be_a_root() -> None:
    with pytest.raises(MalformedError, match="empty"):
        ObjectTree(tf_pb.SavedObjectGraph(), HERE)


# -- the checkpoint --------------------------------------------------------------------------------


def test_variables_are_found_by_path_where_numbers_differ(tmp_path: Path) -> None:
    model = Handmade()
    model.variable("a", [1.0], attribute="a")
    b = model.variable("b", [1.0, 2.0], attribute="b")
    index = index_of(model, tmp_path)
    # The same objects, in another order than the checkpoint has them.
    other = Handmade()
    for _ in range(3):
        other.objects.add_object()
    moved = other.variable("b", [1.0, 2.0], attribute="b")
    assert moved != b
    places = places_of_variables(tree_of(other), [moved], index)
    assert places[moved].shape == (2,)


def test_a_variable_without_a_value_is_refused_where_it_is_needed(tmp_path: Path) -> None:
    model = Handmade()
    model.variable("a", attribute="a")
    index = index_of(model, tmp_path)
    lost = model.variable("lost", attribute="lost")
    tree = tree_of(model)
    assert entries_of_variables(tree, [lost], index) == {}
    with pytest.raises(MalformedError, match="'lost' has no value in the checkpoint"):
        places_of_variables(tree, [lost], index)


def test_an_unnamed_variable_is_called_by_its_path(tmp_path: Path) -> None:
    model = Handmade()
    index = index_of(model, tmp_path)
    layer, lost = model.objects.add_object(), model.variable("")
    model.objects.link(ROOT, "layer", layer)
    model.objects.link(layer, "bias", lost)
    with pytest.raises(MalformedError, match="'layer/bias' has no value"):
        places_of_variables(tree_of(model), [lost], index)


@pytest.mark.parametrize("shape", [[-1], None])
def test_a_variable_of_no_fixed_shape_is_refused(shape: list[int] | None, tmp_path: Path) -> None:
    model = Handmade()
    number = model.variable("v", attribute="v")
    index = index_of(model, tmp_path)
    proto = model.objects.nodes[number].variable.shape
    proto.Clear()
    proto.unknown_rank = shape is None
    for size in shape or ():
        proto.dim.add(size=size)
    with pytest.raises(UnsupportedError, match="not fully defined") as caught:
        places_of_variables(tree_of(model), [number], index)
    assert "fixed shape" in str(caught.value.hint)


def test_no_number_of_the_checkpoint_s_objects_leads_outside(tmp_path: Path) -> None:
    model = Handmade()
    number = model.variable("v", attribute="v")
    graph = tf_pb.TrackableObjectGraph()
    graph.nodes.add().children.add(node_id=-1, local_name="v")
    graph.nodes[0].attributes.add(name="VARIABLE_VALUE", checkpoint_key="key")
    graph.nodes[0].children.add(node_id=5, local_name="v")

    class Index(BundleIndex):
        def read_string(self, key: str) -> bytes:
            assert key == OBJECT_GRAPH_KEY
            return graph.SerializeToString()

    entry = Entry(tf_pb.DT_FLOAT, (1,), ByteRange(0, 0, 4, 0))
    index = Index(tmp_path, [], {"key": entry})
    assert entries_of_variables(tree_of(model), [number], index) == {}
