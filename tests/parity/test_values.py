"""Values for inputs of which only dtype and shape are known."""

from __future__ import annotations

import numpy as np
import pytest

from bridge._parity.feed.inputs import batches, check_inputs
from bridge._parity.feed.values import parts, to_bfloat16
from bridge._parity.options import ParityOptions
from bridge.errors import UnsupportedError
from bridge.model import Encoding, Endpoint
from bridge.proto import tf_pb
from tests.parity.endpoints import dense, pair, ragged, sets, sparse

DTYPES = {
    tf_pb.DT_FLOAT: np.float32,
    tf_pb.DT_DOUBLE: np.float64,
    tf_pb.DT_HALF: np.float16,
    tf_pb.DT_BFLOAT16: np.float32,
    tf_pb.DT_INT8: np.int8,
    tf_pb.DT_INT32: np.int32,
    tf_pb.DT_INT64: np.int64,
    tf_pb.DT_UINT8: np.uint8,
    tf_pb.DT_UINT32: np.uint32,
    tf_pb.DT_COMPLEX64: np.complex64,
    tf_pb.DT_BOOL: np.bool_,
    tf_pb.DT_STRING: np.object_,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (None,), (None, 3), (2, None, 4), None])
def test_values_have_the_dtype_and_shape_of_the_input(dtype, shape):
    for batch in batches(pair(x=dense(dtype, shape)), ParityOptions()):
        array = batch.values["x"]
        assert array.dtype == DTYPES[dtype]
        assert array.ndim == (1 if shape is None else len(shape))
        assert all(
            want in (None, got) for want, got in zip(shape or (None,), array.shape, strict=False)
        )
        if dtype == tf_pb.DT_STRING:
            assert all(isinstance(text, bytes) for text in array.ravel())
        elif array.dtype.kind in "iu":
            assert array.min() >= 0
            pixels = array.dtype == np.uint8 and array.ndim > 2
            assert array.max() < (256 if pixels else 2 if batch.name == "values" else 100)
            assert not pixels or array.max() > 100
        else:
            assert np.isfinite(array).all()


def test_open_dimensions_vary_and_are_alike_for_all_inputs():
    tokens, mask = dense(tf_pb.DT_INT32, (None, None)), dense(tf_pb.DT_FLOAT, (None, None, 2))
    made = sets(pair(tokens=tokens, mask=mask))
    shapes = [b.values["tokens"].shape for b in made["values"]]
    assert [rows for rows, _ in shapes] == [1, 4, 3]
    assert len({length for _, length in shapes}) == 3
    for batch in (*made["values"], *made["values below 100"]):
        assert batch.values["mask"].shape == (*batch.values["tokens"].shape, 2)
    assert made["values below 100"][0].values["tokens"].max() > 2


def test_words_are_empty_and_not_english_too():
    (batch, *_) = sets(pair(x=dense(tf_pb.DT_STRING, (200,))))["values"]
    words = set(batch.values["x"].tolist())
    assert b"" in words
    assert "日本語".encode() in words


def test_bfloat16_values_lose_nothing_as_bfloat16():
    (batch, *_) = sets(pair(x=dense(tf_pb.DT_BFLOAT16, (50,))))["values"]
    array = batch.values["x"]
    assert not (array.view(np.uint32) & 0xFFFF).any()
    ml_dtypes = pytest.importorskip("ml_dtypes")
    some = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    expected = some.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert np.array_equal(to_bfloat16(some), expected)


@pytest.mark.parametrize("shape", [(None, 5), (3, None, 4), (None, 100_000, 100_000), None, (0, 3)])
def test_sparse_values_are_well_formed(shape):
    for batch in batches(pair(x=sparse(tf_pb.DT_FLOAT, shape)), ParityOptions()):
        value = batch.values["x"]
        indices, size = value["indices"], value["dense_shape"]
        assert set(value) == set(parts("x", sparse(tf_pb.DT_FLOAT, shape)))
        assert indices.dtype == size.dtype == np.int64
        assert indices.shape == (len(value["values"]), len(size))
        assert (indices >= 0).all()
        assert (indices < size).all()
        rows = [tuple(row) for row in indices.tolist()]
        assert rows == sorted(set(rows))
        assert bool(rows) == bool(np.prod(size))


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("splits", [tf_pb.DT_INT32, tf_pb.DT_INT64])
def test_ragged_values_are_well_formed(rank, splits):
    shape = (None, *(None,) * rank, 3)
    for batch in batches(pair(x=ragged(tf_pb.DT_FLOAT, shape, rank, splits)), ParityOptions()):
        value = batch.values["x"]
        assert list(value) == ["values", *(f"row_splits_{axis}" for axis in range(rank))]
        length = None
        for axis in range(rank):
            ends = value[f"row_splits_{axis}"]
            assert ends.dtype == DTYPES[splits]
            assert ends[0] == 0
            assert (np.diff(ends) >= 0).all()
            assert length is None or len(ends) == length + 1
            length = ends[-1]
        assert value["values"].shape == (length, 3)


def test_sparse_and_ragged_values_of_several_inputs_are_in_the_same_places():
    of = pair(
        ids=sparse(tf_pb.DT_INT64, (None, 20)),
        weights=sparse(tf_pb.DT_FLOAT, (None, 20)),
        words=ragged(tf_pb.DT_STRING, (None, None)),
        scores=ragged(tf_pb.DT_FLOAT, (None, None)),
    )
    layouts = set()
    for batch in batches(of, ParityOptions()):
        ids, weights, words, scores = batch.values.values()
        assert np.array_equal(ids["indices"], weights["indices"])
        assert np.array_equal(words["row_splits_0"], scores["row_splits_0"])
        layouts.add(ids["indices"].tobytes())
    assert len(layouts) == 4


def test_a_ragged_dimension_of_known_size_has_it():
    (batch, *_) = sets(pair(x=ragged(tf_pb.DT_INT32, (3, 2))))["values"]
    assert batch.values["x"]["row_splits_0"].tolist() == [0, 2, 4, 6]


def test_what_has_no_values_is_refused_with_its_place():
    for endpoint in (
        dense(tf_pb.DT_RESOURCE, ()),
        Endpoint(Encoding.COMPOSITE, tf_pb.DT_FLOAT, None, (), tf_pb.TypeSpecProto()),
    ):
        with pytest.raises(UnsupportedError, match=r"input 'x' .*variant {}, signature 'default'"):
            check_inputs([pair(x=endpoint)], ParityOptions())


def test_a_signature_without_inputs_is_called_once():
    (batch,) = batches(pair(), ParityOptions())
    assert batch.values == {}
