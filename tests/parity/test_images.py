"""Which inputs are images, and the images that are made and read for them."""

from __future__ import annotations

import os
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from bridge._parity.feed import photos
from bridge._parity.feed.images import image_inputs, photo_input
from bridge._parity.feed.inputs import InputLog, batches, check_inputs
from bridge._parity.options import ParityOptions
from bridge.errors import SourceNotFoundError, UsageError
from bridge.proto import tf_pb
from tests.parity.endpoints import IMAGES, dense, image_pair, pair, sets, sparse


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


OTHER_IMAGES = {
    "bytes": dense(tf_pb.DT_UINT8, (None, None, None, 3)),
    "float16": dense(tf_pb.DT_HALF, (None, None, None, 1)),
    "float64": dense(tf_pb.DT_DOUBLE, (None, None, None, 3)),
    "bfloat16": dense(tf_pb.DT_BFLOAT16, (None, None, None, 3)),
    "int8": dense(tf_pb.DT_INT8, (None, None, None, 3)),
    "int32": dense(tf_pb.DT_INT32, (None, None, None, 1)),
    "six channels": dense(tf_pb.DT_FLOAT, (None, None, None, 6)),
    "video": dense(tf_pb.DT_FLOAT, (None, None, None, None, 3)),
}


@pytest.mark.parametrize("kind", OTHER_IMAGES)
def test_images_of_every_dtype_and_depth_are_as_large_as_networks_want_them(kind):
    of = pair(x=OTHER_IMAGES[kind])
    options = ParityOptions(samples=2, batch_size=2)
    white = {"bytes": 255, "int32": 255, "int8": 127}.get(kind, 1)
    for size, expected in ((None, (224, 224)), ((96, 64), (96, 64))):
        found = sets(of, options, size)
        for batch in (b for name, made in found.items() if "x" not in name for b in made):
            assert batch.values["x"].shape[-3:-1] == expected
        noise, smooth = (found[name][1].values["x"] for name in ("noise", "smooth"))
        for array in (noise, smooth, found["ones"][0].values["x"]):
            assert array.min() >= 0
            assert float(array.max()) == pytest.approx(white, abs=0.01 * white)
        assert (
            np.abs(np.diff(smooth.astype(float), axis=-2)).mean()
            < 0.3 * np.abs(np.diff(noise.astype(float), axis=-2)).mean()
        )
        assert found["zeros"][0].values["x"].max() == 0
        assert found["ones"][0].values["x"].min() == found["ones"][0].values["x"].max()
        assert ("noise 256x256" in found) == (size is None)
        assert "noise 128x128" not in found  # the model says what it wants


@pytest.mark.parametrize("kind", OTHER_IMAGES)
def test_only_what_may_be_features_is_fed_other_values_too(kind):
    found = sets(pair(x=OTHER_IMAGES[kind]), ParityOptions(samples=1, batch_size=1), (32, 32))
    assert ("values" in found) == (kind in ("int8", "int32", "six channels"))
    assert ("values below 100" in found) == kind.startswith("int")
    assert ("positive values" in found) == ("values" in found)
    # What trains must take the first set, so it is the one that says least.
    assert next(iter(found)) == ("values" if "values" in found else "noise")
    if kind == "six channels":
        assert found["values"][0].values["x"].min() < -1


def test_features_of_many_channels_stay_small():
    of = pair(x=dense(tf_pb.DT_FLOAT, (None, None, None, 2048)))
    found = sets(of, ParityOptions(samples=1, batch_size=1))
    assert {b.values["x"].nbytes < 2**25 for made in found.values() for b in made} == {True}
    assert found["noise"][0].values["x"].shape[1:3] == (28, 28)


def test_bfloat16_images_are_those_of_float32_rounded():
    options = ParityOptions(samples=1, batch_size=1)
    of = pair(images=dense(tf_pb.DT_BFLOAT16, IMAGES))
    for name, (made, *_) in sets(of, options).items():
        array = made.values["images"]
        assert array.dtype == ml_dtypes.bfloat16
        expected = sets(image_pair(), options)[name][0].values["images"]
        assert np.array_equal(array, expected.astype(ml_dtypes.bfloat16))


def test_photos_are_bytes_where_bytes_are_taken():
    as_floats = sets(image_pair())["photos"][0].values["images"]
    as_bytes = sets(pair(x=dense(tf_pb.DT_UINT8, IMAGES)))["photos"][0].values["x"]
    assert as_bytes.dtype == np.uint8
    assert np.array_equal(as_bytes.astype(np.float32) * np.float32(1 / 255), as_floats)


def test_everything_of_the_shape_of_images_has_their_size():
    mask = dense(tf_pb.DT_BOOL, (None, None, None, 1))
    ids = dense(tf_pb.DT_INT32, (None, None, None, 1))
    more = dense(tf_pb.DT_FLOAT, (None, None, None, 3))
    of = image_pair((None, None, None, 3), mask=mask, ids=ids, more=more)
    found = sets(of, ParityOptions(samples=1, batch_size=2), (32, 48))
    assert {"photos", "noise 16x48", "values below 100"} < found.keys()
    for made in found.values():
        for batch in made:
            assert {value.shape[:3] for value in batch.values.values()} == {
                batch.values["images"].shape[:3]
            }
    first, second = (found["noise"][0].values[name] for name in ("images", "more"))
    assert not np.array_equal(first, second)
    assert found["photos"][0].values["more"].max() == 1
    assert not np.array_equal(*(found["photos"][0].values[name] for name in ("images", "more")))
    large = found["values below 10000"][0].values
    assert large["ids"].max() > 100
    assert 0.5 < large["images"].max() <= 1


FLOAT = tf_pb.DT_FLOAT


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"images": dense(FLOAT, IMAGES)}, "images"),
        ({"x": dense(FLOAT, (None, None, None, None))}, "x"),
        ({"x": dense(FLOAT, IMAGES), "images": dense(FLOAT, IMAGES)}, "images"),
        ({"x": dense(FLOAT, (None, 8, 8, 1)), "y": dense(FLOAT, IMAGES)}, "y"),
        ({"x": dense(FLOAT, IMAGES), "y": dense(FLOAT, IMAGES)}, "x"),
        ({"images": dense(tf_pb.DT_UINT8, IMAGES)}, "images"),
        ({"images": dense(tf_pb.DT_INT32, IMAGES)}, None),
        ({"images": dense(FLOAT, (None, 8, 8, 64))}, None),
        ({"images": dense(FLOAT, (None, 4, 8, 8, 3))}, None),
        ({"images": dense(FLOAT, None)}, None),
        ({"images": sparse(FLOAT, IMAGES)}, None),
    ],
)
def test_the_photos_go_to_the_input_that_takes_images(inputs, expected):
    assert photo_input(inputs) == expected


@pytest.mark.parametrize(
    ("shape", "alone", "with_tokens"),
    [
        ((None, None, None, 3), True, True),
        ((None, 224, None, 6), True, True),
        ((None, 7, 7, 512), True, False),
        ((None, None, None, None), True, False),
        ((None, 12, None, 64), True, False),  # heads of attention, and lengths
        ((None, 1, None, None), False, False),  # a mask
        ((None, 1, 1, 3), False, False),
        ((None, 0, 8, 3), False, False),
        ((None, None, 3), False, False),
        ((None, 4, 4, 4, 4, 3), False, False),
    ],
)
def test_lengths_of_sequences_are_not_taken_for_images(shape, alone, with_tokens):
    image = dense(FLOAT, shape)
    tokens, flag = dense(tf_pb.DT_INT32, (None, None)), dense(tf_pb.DT_BOOL, ())
    assert bool(image_inputs({"x": image, "flag": flag})) == alone
    assert bool(image_inputs({"x": image, "tokens": tokens})) == with_tokens
    made = sets(pair(x=image, tokens=tokens), ParityOptions(samples=1, batch_size=1))
    for batch in made.get("values", ()):
        if shape[-2:] == (None, None):
            assert batch.values["x"].shape[2] == batch.values["tokens"].shape[1] + 1


def test_strings_have_no_size():
    assert image_inputs({"x": dense(tf_pb.DT_STRING, (None, 8, 8, 3))}) == ()


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


@pytest.mark.parametrize("kind", ["JPEG", "progressive", "PNG", "text", "nothing", "link"])
def test_a_damaged_image_is_found_before_anything_runs(folder, kind):
    path = folder / ("b.png" if kind == "PNG" else "b.jpeg")
    if kind in ("JPEG", "progressive", "PNG"):
        options = {"progressive": True} if kind == "progressive" else {}
        Image.effect_noise((64, 64), 50).convert("RGB").save(path, **options)
        check_inputs([image_pair()], ParityOptions(images=folder))
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "link":
        path.unlink()
        path.symlink_to(folder / "nowhere.jpeg")
    else:
        path.write_bytes(b"some text" if kind == "text" else b"")
    with pytest.raises(UsageError, match=rf"can't read the image .*{path.name}"):
        check_inputs([image_pair()], ParityOptions(images=folder))


def test_images_are_checked_one_at_a_time(tmp_path):
    Image.effect_noise((512, 512), 50).save(tmp_path / "0.png")
    for number in range(1, 60):
        (tmp_path / f"{number}.png").hardlink_to(tmp_path / "0.png")
    tracemalloc.start()
    try:
        check_inputs([image_pair()], ParityOptions(images=tmp_path))
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * 512 * 512
    assert held < 512 * 512


def test_a_folder_without_images_is_refused(tmp_path):
    options = ParityOptions(images=tmp_path)
    with pytest.raises(UsageError, match="no image in"):
        check_inputs([image_pair()], options)
    tmp_path.rmdir()
    with pytest.raises(SourceNotFoundError):
        photos.find_photos(tmp_path)


def test_what_lies_beside_photos_is_no_photo(tmp_path):
    for name in ("a.jpg", "._a.jpg", "b.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "x.jpg").mkdir()
    assert [path.name for path in photos.find_photos(tmp_path)] == ["a.jpg"]


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(UsageError, match=r"a\.jpg is no file"):
        photos.find_photos(tmp_path)


def test_images_that_no_signature_takes_are_refused(folder):
    with pytest.raises(UsageError, match="no signature takes images"):
        check_inputs([pair(x=dense(tf_pb.DT_FLOAT, (None, 4)))], ParityOptions(images=folder))


def test_images_that_a_file_of_inputs_displaces_are_refused(folder):
    np.savez(folder / "in.npz", images=np.zeros((1, 32, 48, 3), np.float32))
    options = ParityOptions(images=folder, inputs=folder / "in.npz")
    with pytest.raises(UsageError, match="that the file of inputs does not give"):
        check_inputs([image_pair()], options)
    other = pair("other", x=dense(tf_pb.DT_FLOAT, IMAGES))
    check_inputs([image_pair(), other], options)


def test_without_sample_photos_there_are_none(monkeypatch, tmp_path):
    monkeypatch.setattr(photos, "SAMPLE_PHOTOS", tmp_path / "none")
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
