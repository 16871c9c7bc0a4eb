"""The size of images that `inspect` tells, against the real client where it can be asked."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import bridge
from bridge._inspect.image_size import find_image_size
from bridge._inspect.results import (
    CallableInfo,
    EndpointInfo,
    ImageSize,
    SignatureInfo,
    TraceInfo,
    VariantInfo,
)
from bridge._surfaces.read import read_surface
from bridge.proto import hub_pb, tf_pb
from tests.attacks.edit import copy_module, saved_model
from tests.clients.tf1 import tf1_environ

ATTACHMENTS = "hub_module_attachments"

# Runs in TensorFlow 1.15: prints what tensorflow-hub says of each module.
SCRIPT = """
import json, sys
import tensorflow_hub as hub

def size(path):
    try:
        return hub.get_expected_image_size(hub.load_module_spec(path))
    except ValueError:
        return None

print(json.dumps([size(path) for path in sys.argv[1:]]))
"""

# -- modules --------------------------------------------------------------------------------------


def _attach(graph: tf_pb.MetaGraphDef, *sizes: tuple[int, int]) -> None:
    """Attaches sizes in the place of what is attached."""
    held = graph.collection_def[ATTACHMENTS].bytes_list
    del held.value[:]
    held.SetInParent()
    for height, width in sizes:
        info = hub_pb.ImageModuleInfo()
        info.default_image_size.height, info.default_image_size.width = height, width
        message = hub_pb.ModuleAttachment(key="image_module_info", value=info.SerializeToString())
        held.value.append(message.SerializeToString())


def _shape(graph: tf_pb.MetaGraphDef, *sizes: int) -> None:
    shape = graph.signature_def["default"].inputs["images"].tensor_shape
    del shape.dim[:]
    for size in sizes:
        shape.dim.add(size=size)


def _zero_width(plain: tf_pb.MetaGraphDef, _train: tf_pb.MetaGraphDef) -> None:
    _attach(plain, (20, 0))


def _zero_height_of_any(plain: tf_pb.MetaGraphDef, _train: tf_pb.MetaGraphDef) -> None:
    _attach(plain, (0, 20))
    _shape(plain, -1, -1, -1, 3)


def _in_training_only(plain: tf_pb.MetaGraphDef, _train: tf_pb.MetaGraphDef) -> None:
    _attach(plain)
    _shape(plain, -1, -1, -1, 3)


def _other_in_training(plain: tf_pb.MetaGraphDef, train: tf_pb.MetaGraphDef) -> None:
    _attach(plain, (20, 21))
    _attach(train, (30, 31))


def _twice(plain: tf_pb.MetaGraphDef, _train: tf_pb.MetaGraphDef) -> None:
    _attach(plain, (20, 21), (40, 41))


def _static_in_training(plain: tf_pb.MetaGraphDef, train: tf_pb.MetaGraphDef) -> None:
    for graph in (plain, train):
        _attach(graph)
    _shape(plain, -1, -1, -1, 3)


def _six_channels(plain: tf_pb.MetaGraphDef, _train: tf_pb.MetaGraphDef) -> None:
    _attach(plain)
    _shape(plain, -1, 15, 16, 6)


def _channels_first(plain: tf_pb.MetaGraphDef, _train: tf_pb.MetaGraphDef) -> None:
    _attach(plain)
    _shape(plain, -1, 3, 32, 33)


def _three_dimensions(plain: tf_pb.MetaGraphDef, _train: tf_pb.MetaGraphDef) -> None:
    _attach(plain)
    _shape(plain, -1, 15, 16)


def _unknown_rank(plain: tf_pb.MetaGraphDef, _train: tf_pb.MetaGraphDef) -> None:
    _attach(plain)
    plain.signature_def["default"].inputs["images"].tensor_shape.unknown_rank = True
    del plain.signature_def["default"].inputs["images"].tensor_shape.dim[:]


def _sparse(plain: tf_pb.MetaGraphDef, _train: tf_pb.MetaGraphDef) -> None:
    _attach(plain)
    images = plain.signature_def["default"].inputs["images"]
    images.coo_sparse.values_tensor_name = images.name


def _other_name(plain: tf_pb.MetaGraphDef, _train: tf_pb.MetaGraphDef) -> None:
    _attach(plain)
    inputs = plain.signature_def["default"].inputs
    inputs["pixels"].CopyFrom(inputs["images"])
    del inputs["images"]


def _no_default(plain: tf_pb.MetaGraphDef, _train: tf_pb.MetaGraphDef) -> None:
    del plain.signature_def["default"]


def _static_in_a_serving_signature(plain: tf_pb.MetaGraphDef, _train: tf_pb.MetaGraphDef) -> None:
    _attach(plain)
    plain.signature_def["serving_default"].CopyFrom(plain.signature_def["default"])
    _shape(plain, -1, -1, -1, 3)


Edit = Callable[[tf_pb.MetaGraphDef, tf_pb.MetaGraphDef], None]
EDITS: dict[Edit, list[int] | None] = {
    _zero_width: [16, 16],
    _zero_height_of_any: None,
    _in_training_only: None,
    _other_in_training: [20, 21],
    _twice: [40, 41],
    _static_in_training: None,
    _six_channels: [15, 16],
    _channels_first: [3, 32],
    _three_dimensions: None,
    _unknown_rank: None,
    _sparse: [16, 16],
    _other_name: None,
    _no_default: [16, 16],
    _static_in_a_serving_signature: None,
}
"""What each edit of the module makes the real client say."""


def _edited(edit: Edit, directory: Path) -> Path:
    directory.mkdir()
    module = copy_module("digits", directory)
    with saved_model(module) as message:
        # The variant without tags does not come first.
        graphs = sorted(message.meta_graphs, key=lambda one: -len(one.meta_info_def.tags))
        edit(graphs[1], graphs[0])
        del message.meta_graphs[:]
        message.meta_graphs.extend(graphs)
    return module


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__.strip("_"))
def test_the_size_in_a_module_is_what_the_client_says(edit: Edit, tmp_path: Path) -> None:
    found = bridge.inspect(_edited(edit, tmp_path / "edited"), conversion=False).image_size
    assert (None if found is None else [found.height, found.width]) == EDITS[edit]


@pytest.mark.parametrize(
    "edit",
    [edit for edit in EDITS if edit is not _sparse],
    ids=lambda edit: edit.__name__.strip("_"),
)
def test_check_and_parity_find_the_same_size(edit: Edit, tmp_path: Path) -> None:
    module, size = _edited(edit, tmp_path / "edited"), EDITS[edit]
    (clause,) = bridge.check(module, only=["IMG09"]).clauses
    if size is None:
        assert "{}" in {breach.variant for breach in clause.breaches}
    else:
        assert clause.reason.startswith(f"{size[0]}x{size[1]}, ")
    if edit is not _other_name:  # what it compares are models, and in a SavedModel any name will do
        assert read_surface(module).image_size == (None if size is None else tuple(size))


def test_the_real_client_says_so(tmp_path: Path, tf1_python: Path) -> None:
    modules = [_edited(edit, tmp_path / edit.__name__) for edit in EDITS]
    done = subprocess.run(
        [tf1_python, "-W", "ignore", "-c", SCRIPT, *modules],
        capture_output=True,
        text=True,
        check=False,
        env=tf1_environ(),
    )
    assert done.returncode == 0, done.stderr
    said = dict(zip(EDITS, json.loads(done.stdout.splitlines()[-1]), strict=True))
    assert said == EDITS


def test_the_place_that_says_the_size_is_told(tmp_path: Path) -> None:
    found = {
        edit: bridge.inspect(_edited(edit, tmp_path / edit.__name__), conversion=False).image_size
        for edit in (_twice, _six_channels)
    }
    assert found == {
        _twice: ImageSize(40, 41, "image_module_info"),
        _six_channels: ImageSize(15, 16, "input 'images' of signature 'default' of {}"),
    }


# -- SavedModels ----------------------------------------------------------------------------------


def images(*shape: int | None, name: str = "x", encoding: str = "dense") -> EndpointInfo:
    return EndpointInfo(name, encoding, "float32", list(shape))


TRAINING = EndpointInfo("training", "dense", "bool", [])


def call(*traces: list[EndpointInfo], name: str = "__call__") -> CallableInfo:
    made = [TraceInfo("f", None, inputs, {}, [], 0) for inputs in traces]
    return CallableInfo(name, ["x"], made)


def variant(*tags: str, **signatures: list[EndpointInfo]) -> VariantInfo:
    label = f"{{{','.join(tags)}}}"
    found = [SignatureInfo(name, "", inputs, []) for name, inputs in sorted(signatures.items())]
    return VariantInfo(label, list(tags), 0, 0, found, [], [])


def size_of(variants: list[VariantInfo], *callables: CallableInfo) -> ImageSize | None:
    graphs = [tf_pb.MetaGraphDef() for _ in variants]
    return find_image_size(graphs, variants, callables, Path("saved_model.pb"), is_module=False)


SERVE = variant("serve")
BY_CALL = ImageSize(5, 6, "input 'x' of __call__")


def test_the_call_says_the_size_whether_it_trains_or_not() -> None:
    one = [images(None, 5, 6, 3), TRAINING]
    assert size_of([SERVE], call(one)) == BY_CALL
    assert size_of([SERVE], call(one, one[:1])) == BY_CALL
    assert size_of([SERVE], call(one, name="classify")) is None


def test_traces_that_disagree_say_nothing() -> None:
    for other in (images(None, 7, 6, 3), images(None, None, None, 3), images(None, 9)):
        traces = [images(None, 5, 6, 3)], [other]
        assert size_of([SERVE], call(*traces)) is None
        assert size_of([SERVE], call(*reversed(traces))) is None


def test_a_serving_signature_says_it_where_the_call_does_not() -> None:
    serving = variant("serve", serving_default=[images(None, 5, 6, 3)], other=[images(1, 2, 2, 3)])
    said = ImageSize(5, 6, "input 'x' of signature 'serving_default' of {serve}")
    assert size_of([serving], call([images(None, None, None, 3)])) == said
    assert size_of([serving]) == said
    assert size_of([serving], call([images(None, 8, 9, 3)])) != said


def test_of_several_inputs_the_one_called_images_counts() -> None:
    two = [images(None, 7, 8, 3, name="mask"), images(None, 5, 6, 9, name="images")]
    said = ImageSize(5, 6, "input 'images' of __call__")
    assert size_of([SERVE], call(two)) == said
    assert size_of([SERVE], call([two[0], images(None, 5, 6, 3)])) is None
    assert size_of([SERVE], call([])) is None


def test_an_input_without_the_name_must_look_like_images() -> None:
    for odd in (images(None, 3, 32, 32), images(None, 5, 6, 6), images(None, 5, 6, None)):
        assert size_of([SERVE], call([odd])) is None
    for encoding in ("sparse", "ragged", "composite"):
        assert size_of([SERVE], call([images(None, 5, 6, 3, encoding=encoding)])) is None


def test_of_several_graphs_the_one_for_serving_counts() -> None:
    graphs = [
        variant("train", serving_default=[images(None, 7, 7, 3)]),
        variant("gpu", "serve", serving_default=[images(None, 8, 8, 3)]),
        variant("serve", serving_default=[images(None, 5, 6, 3)]),
    ]
    for order in (graphs, graphs[::-1]):
        found = size_of(order)
        assert found is not None
        assert (found.height, found.width) == (5, 6)


def test_without_one_for_serving_it_is_the_one_of_fewest_tags() -> None:
    graphs = [
        variant("gpu", "train", serving_default=[images(None, 7, 7, 3)]),
        variant("train", serving_default=[images(None, 5, 6, 3)]),
    ]
    said = ImageSize(5, 6, "input 'x' of signature 'serving_default' of {train}")
    assert size_of(graphs) == size_of(graphs[::-1]) == said


def test_a_broken_attachment_is_an_error_that_names_its_place(tmp_path: Path) -> None:
    module = copy_module("digits", tmp_path)
    with saved_model(module) as message:
        broken = hub_pb.ModuleAttachment(key="image_module_info", value=b"\xff\xff")
        held = message.meta_graphs[0].collection_def[ATTACHMENTS].bytes_list
        held.value.append(broken.SerializeToString())
    with pytest.raises(bridge.MalformedError, match="image_module_info") as caught:
        bridge.inspect(module)
    assert caught.value.where.path == module / "saved_model.pb"
