"""What the models are fed."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from bridge._parity.feed import images
from bridge._parity.feed.inputs import InputLog, batches, check_inputs, count_batches
from bridge._parity.options import ParityOptions
from bridge.errors import SourceNotFoundError, UsageError
from bridge.proto import tf_pb
from tests.parity.endpoints import IMAGES, dense, image_pair, pair, ragged, sets, sparse


def save(path, **arrays):
    np.savez(path, **{key.replace("__", "|"): value for key, value in arrays.items()})
    return ParityOptions(inputs=path)


# -- images -----------------------------------------------------------------------------------


def test_an_image_signature_sees_noise_and_flat_and_smooth_images_and_photos():
    found = sets(image_pair())
    assert list(found) == ["noise", "zeros", "ones", "smooth", "photos"]
    for name, expected in (("noise", [1, 4, 3]), ("smooth", [1, 4, 3]), ("zeros", [4])):
        assert [len(b.values["images"]) for b in found[name]] == expected
    for made in found.values():
        for batch in made:
            array = batch.values["images"]
            assert array.dtype == np.float32
            assert array.shape[1:] == (32, 48, 3)
            assert array.min() >= 0
            assert array.max() <= 1
    assert found["zeros"][0].values["images"].max() == 0
    assert found["ones"][0].values["images"].min() == 1
    assert found["photos"][0].files[0].endswith("astronaut.jpg")


def test_smooth_images_are_smoother_than_noise_and_span_the_range():
    found = sets(image_pair((None, 96, 96, 3)))
    rough, smooth = (found[name][1].values["images"] for name in ("noise", "smooth"))
    assert np.abs(np.diff(smooth, axis=1)).mean() < 0.25 * np.abs(np.diff(rough, axis=1)).mean()
    assert [smooth.min(), smooth.max()] == [0, 1]
    assert smooth.std() > 0.1
    assert len({image.tobytes() for image in smooth}) == 4


def test_the_expected_size_fills_what_the_signature_leaves_open():
    found = sets(image_pair((None, None, None, 3)), size=(128, 128))
    shapes = {name: made[0].values["images"].shape for name, made in found.items()}
    assert shapes["noise"] == (1, 128, 128, 3)
    assert shapes["noise 96x128"] == (4, 96, 128, 3)
    assert shapes["noise 128x160"] == (4, 128, 160, 3)
    assert shapes["photos"] == (4, 128, 128, 3)
    assert sets(image_pair((None, None, 60, 3)))["noise"][0].values["images"].shape[1:3] == (
        224,
        60,
    )
    assert "noise 1x2" in sets(image_pair((None, None, None, 3)), size=(1, 1))


def test_a_known_size_is_the_only_one():
    assert not [name for name in sets(image_pair(), size=(64, 64)) if "x" in name]


def test_a_fixed_batch_is_respected_and_filled_up():
    found = sets(image_pair((5, 16, 16, 3)), ParityOptions(samples=7))
    assert all(len(b.values["images"]) == 5 for made in found.values() for b in made)
    assert [len(made) for made in found.values()] == [2, 1, 1, 2, 2]
    files = found["photos"][1].files
    assert len(files) == 5
    assert set(files) == {files[0]}
    array = found["photos"][1].values["images"]
    assert np.array_equal(array[0], array[4])


def test_grey_images_have_one_channel():
    found = sets(image_pair((None, 8, 8, 1)))
    assert {b.values["images"].shape[-1] for made in found.values() for b in made} == {1}


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"images": dense(tf_pb.DT_FLOAT, IMAGES)}, "images"),
        ({"x": dense(tf_pb.DT_FLOAT, (None, None, None, None))}, "x"),
        ({"images": dense(tf_pb.DT_FLOAT, IMAGES), "x": dense(tf_pb.DT_FLOAT, IMAGES)}, "images"),
        ({"x": dense(tf_pb.DT_FLOAT, IMAGES), "y": dense(tf_pb.DT_FLOAT, IMAGES)}, None),
        ({"images": dense(tf_pb.DT_FLOAT, (None, 8, 8, 64))}, None),
        ({"images": dense(tf_pb.DT_UINT8, IMAGES)}, None),
        ({"images": dense(tf_pb.DT_FLOAT, None)}, None),
        ({"images": sparse(tf_pb.DT_FLOAT, IMAGES)}, None),
    ],
)
def test_the_image_input_is_the_one_that_takes_images(inputs, expected):
    assert images.image_input(inputs) == expected


def test_inputs_beside_the_images_go_with_them():
    flag = dense(tf_pb.DT_BOOL, ())
    weights = dense(tf_pb.DT_FLOAT, (None,))
    for made in sets(image_pair(flag=flag, weights=weights)).values():
        for batch in made:
            assert batch.values["flag"].shape == ()
            assert len(batch.values["weights"]) == len(batch.values["images"])


# -- photos -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    for number, suffix in enumerate(("png", "JPG", "jpeg")):
        image = Image.new("RGB", (20, 10), (0, 51 * number, 255))
        image.save(tmp_path / f"{'cab'[number]}.{suffix}")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_photos_are_scaled_and_in_the_order_of_their_names(folder):
    made = sets(image_pair(), ParityOptions(images=folder, batch_size=2))["photos"]
    assert [b.files for b in made] == [
        (str(folder / "a.JPG"), str(folder / "b.jpeg")),
        (str(folder / "c.png"),),
    ]
    array = made[1].values["images"]
    assert array.shape == (1, 32, 48, 3)
    assert array[0, 3, 4].tolist() == [0.0, 0.0, 1.0]
    assert made[0].values["images"][1, 0, 0] == pytest.approx([0, 0.4, 1], abs=0.02)


def test_a_file_that_is_no_image_is_named(folder):
    (folder / "b.jpeg").write_bytes(b"\xff\xd8 not really")
    with pytest.raises(UsageError, match=r"b\.jpeg"):
        sets(image_pair(), ParityOptions(images=folder))


def test_a_cut_off_image_is_named(folder):
    path = folder / "b.jpeg"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(UsageError, match=r"b\.jpeg"):
        sets(image_pair(), ParityOptions(images=folder))


def test_a_folder_without_images_is_refused(tmp_path):
    options = ParityOptions(images=tmp_path)
    with pytest.raises(UsageError, match="no image in"):
        check_inputs([image_pair()], options)
    tmp_path.rmdir()
    with pytest.raises(SourceNotFoundError):
        images.find_photos(tmp_path)


def test_images_that_no_signature_takes_are_refused(folder):
    with pytest.raises(UsageError, match="no signature takes images"):
        check_inputs([pair(x=dense(tf_pb.DT_FLOAT, (None, 4)))], ParityOptions(images=folder))


def test_without_sample_photos_there_are_none(monkeypatch, tmp_path):
    monkeypatch.setattr(images, "SAMPLE_PHOTOS", tmp_path / "none")
    assert "photos" not in sets(image_pair())


def test_memory_does_not_grow_with_the_number_of_photos(tmp_path):
    image = Image.effect_noise((64, 64), 50)
    image.save(tmp_path / "0.png")
    first = (tmp_path / "0.png").read_bytes()
    for number in range(1, 300):
        (tmp_path / f"{number}.png").write_bytes(first)
    of = image_pair((None, 128, 128, 3))
    log = InputLog(of)
    one = 4 * 128 * 128 * 3 * 4
    seen = 0
    tracemalloc.start()
    try:
        for batch in batches(of, ParityOptions(images=tmp_path)):
            log.add(batch)
            seen += len(batch.files)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == 300
    assert peak < 20 * one
    assert held < 3 * one


# -- the seed ---------------------------------------------------------------------------------


def everything(options) -> bytes:
    of = (
        image_pair(words=dense(tf_pb.DT_STRING, (None,))),
        pair(x=sparse(tf_pb.DT_FLOAT, (None, 9)), y=ragged(tf_pb.DT_INT64, (None, None))),
    )
    result = []
    for one in of:
        for batch in batches(one, options):
            for value in batch.values.values():
                arrays = value.values() if isinstance(value, dict) else [value]
                result += [repr(a.tolist()).encode() for a in arrays]
    return b"".join(result)


def test_a_seed_gives_the_same_bytes_and_another_one_others():
    first = everything(ParityOptions(seed=3))
    assert first == everything(ParityOptions(seed=3))
    assert first != everything(ParityOptions(seed=4))


def test_no_two_batches_are_the_same():
    found = sets(pair(x=dense(tf_pb.DT_FLOAT, (4,)), y=dense(tf_pb.DT_FLOAT, (4,))))["values"]
    arrays = [value.tobytes() for batch in found for value in batch.values.values()]
    assert len(set(arrays)) == len(arrays)


# -- the log ----------------------------------------------------------------------------------


def test_the_log_holds_shapes_and_files_of_what_was_fed():
    of = image_pair(x=ragged(tf_pb.DT_FLOAT, (None, None)))
    log = InputLog(of)
    number = 0
    for batch in batches(of, ParityOptions()):
        log.add(batch)
        number += 1
    assert number == count_batches(of, ParityOptions())
    noise, *_, photos = log.sets()
    assert (noise.name, noise.variant, noise.signature) == ("noise", "{}", "default")
    assert noise.shapes[1] == {"images": (4, 32, 48, 3), "x": (4, -1)}
    assert noise.files == ()
    assert len(photos.files) == sum(shapes["images"][0] for shapes in photos.shapes) == 6


# -- a file of inputs -------------------------------------------------------------------------


def test_a_file_takes_the_place_of_what_would_be_made(tmp_path):
    array = np.ones((2, 32, 48, 3), np.float32)
    options = save(tmp_path / "in.npz", images=array)
    check_inputs([image_pair()], options)
    (batch,) = batches(image_pair(), options)
    assert (batch.name, batch.index) == ("file", 0)
    assert np.array_equal(batch.values["images"], array)


@pytest.mark.parametrize("separator", ["/", "|"])
def test_an_array_may_be_for_one_signature(tmp_path, separator):
    one, two = (pair(name, x=dense(tf_pb.DT_INT32, (None,))) for name in ("one", "two"))
    np.savez(tmp_path / "in.npz", **{f"two{separator}x": np.int32([7]), "x": np.int32([8])})
    options = ParityOptions(inputs=tmp_path / "in.npz")
    check_inputs([one, two], options)
    assert [next(batches(of, options)).values["x"][0] for of in (one, two)] == [8, 7]


def test_signatures_without_arrays_get_made_values(tmp_path):
    options = save(tmp_path / "in.npz", x=np.int32([7]))
    of = [pair("a", x=dense(tf_pb.DT_INT32, (1,))), pair("b", y=dense(tf_pb.DT_INT32, (1,)))]
    check_inputs(of, options)
    assert [next(batches(one, options)).name for one in of] == ["file", "values"]


def test_parts_of_sparse_tensors_strings_and_bfloat16_come_from_a_file(tmp_path):
    of = pair(s=sparse(tf_pb.DT_STRING, (None, 2)), h=dense(tf_pb.DT_BFLOAT16, (None,)))
    options = save(
        tmp_path / "in.npz",
        s__indices=np.array([[0, 1]]),
        s__values=np.array(["é"]),
        s__dense_shape=np.array([1, 2]),
        h=np.float32([1.001]),
    )
    check_inputs([of], options)
    (batch,) = batches(of, options)
    assert batch.values["s"]["values"].tolist() == ["é".encode()]
    assert batch.values["h"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"z": np.int32([1])}, "'z', which is no input"),
        ({"x": np.int32([1])}, "no array for input 'y' of signature 'default'"),
        ({"x": np.int64([1]), "y": np.float32(1)}, "'x' .* is int64 instead of int32"),
        ({"x": np.array(["a"]), "y": np.float32(1)}, "'x' .* instead of int32"),
        ({"x": np.int32([[1]]), "y": np.float32(1)}, r"shape \[1, 1\], which does not fit \[\?\]"),
        ({"x": np.array([{}]), "y": np.float32(1)}, "can't read array 'x'"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, arrays, message):
    of = pair(x=dense(tf_pb.DT_INT32, (None,)), y=dense(tf_pb.DT_FLOAT, ()))
    with pytest.raises(UsageError, match=message):
        check_inputs([of], save(tmp_path / "in.npz", **arrays))


def test_a_missing_part_is_named(tmp_path):
    of = pair(s=sparse(tf_pb.DT_FLOAT, (None, 2)))
    with pytest.raises(UsageError, match=r"no array 's\|values'"):
        check_inputs([of], save(tmp_path / "in.npz", s__indices=np.zeros((0, 2), np.int64)))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"text"])
def test_a_file_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "in.npz").write_bytes(content)
    with pytest.raises(UsageError, match="can't read"):
        check_inputs([image_pair()], ParityOptions(inputs=tmp_path / "in.npz"))


def test_a_single_array_is_no_file_of_inputs(tmp_path):
    np.save(tmp_path / "in.npy", np.zeros(3))
    with pytest.raises(UsageError, match="one array without a name"):
        check_inputs([image_pair()], ParityOptions(inputs=tmp_path / "in.npy"))
