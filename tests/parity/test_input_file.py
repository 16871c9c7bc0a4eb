"""Inputs that the user gives as arrays in a .npz file."""

from __future__ import annotations

import io

import ml_dtypes
import numpy as np
import pytest

from bridge._parity.feed.inputs import batches, check_inputs
from bridge._parity.options import ParityOptions
from bridge.errors import SourceNotFoundError, UsageError
from bridge.proto import tf_pb
from tests.parity.endpoints import dense, image_pair, pair, sparse


def save(path, **arrays):
    np.savez(path, **{key.replace("__", "|"): value for key, value in arrays.items()})
    return ParityOptions(inputs=path)


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
    assert batch.values["h"].dtype == ml_dtypes.bfloat16
    assert batch.values["h"].tolist() == [1.0]


def test_the_order_of_bytes_in_a_file_means_nothing(tmp_path):
    of = pair(
        x=dense(tf_pb.DT_INT32, (None,)),
        y=dense(tf_pb.DT_BFLOAT16, (None,)),
        s=dense(tf_pb.DT_STRING, (None,)),
    )
    arrays = {
        "x": np.array([1, 258], ">i4"),
        "y": np.array([2.5], ">f4"),
        "s": np.array(["é"], ">U1"),
    }
    options = save(tmp_path / "in.npz", **arrays)
    check_inputs([of], options)
    (batch,) = batches(of, options)
    assert batch.values["x"].tolist() == [1, 258]
    assert batch.values["x"].dtype == np.int32
    assert batch.values["y"].tolist() == [2.5]
    assert batch.values["s"].tolist() == ["é".encode()]


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


def one_array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"text", one_array()])
def test_a_file_that_is_none_is_refused(tmp_path, content):
    path = tmp_path / "in.npz"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        check_inputs([image_pair()], ParityOptions(inputs=path))
    assert str(caught.value) == f"can't read {path} as a .npz file: it is none"


def test_a_file_that_is_cut_short_is_refused(tmp_path):
    path = tmp_path / "in.npz"
    np.savez(path, images=np.zeros((2, 32, 48, 3), np.float32))
    content = path.read_bytes()
    for end in (len(content) // 2, len(content) - 30):
        path.write_bytes(content[:end])
        with pytest.raises(UsageError, match="can't read"):
            check_inputs([image_pair()], ParityOptions(inputs=path))


def test_a_file_without_arrays_is_refused(tmp_path):
    with pytest.raises(UsageError, match="has no array"):
        check_inputs([image_pair()], save(tmp_path / "in.npz"))


@pytest.mark.parametrize("name", ["images", "inputs"])
def test_paths_that_are_not_there_are_refused_at_once(tmp_path, name):
    with pytest.raises(SourceNotFoundError, match=r"there is no (directory|file) .*absent"):
        ParityOptions(**{name: tmp_path / "absent"})
