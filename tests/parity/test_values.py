"""Values for inputs of which only dtype and shape are known."""

from __future__ import annotations

import io
import re
import sys

import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from bridge._parity.feed import strings as strings_module
from bridge._parity.feed.inputs import batches, check_inputs, count_batches
from bridge._parity.feed.values import parts
from bridge._parity.options import ParityOptions
from bridge.errors import MissingExtraError, UnsupportedError
from bridge.model import Encoding, Endpoint
from bridge.proto import tf_pb
from tests.parity.endpoints import dense, image_pair, pair, ragged, sets, sparse

STRING = tf_pb.DT_STRING
FLOAT = tf_pb.DT_FLOAT
INT = tf_pb.DT_INT32

DTYPES = {
    tf_pb.DT_FLOAT: np.float32,
    tf_pb.DT_DOUBLE: np.float64,
    tf_pb.DT_HALF: np.float16,
    tf_pb.DT_BFLOAT16: ml_dtypes.bfloat16,
    tf_pb.DT_INT8: np.int8,
    tf_pb.DT_INT32: np.int32,
    tf_pb.DT_INT64: np.int64,
    tf_pb.DT_UINT8: np.uint8,
    tf_pb.DT_UINT32: np.uint32,
    tf_pb.DT_COMPLEX64: np.complex64,
    tf_pb.DT_BOOL: np.bool_,
    tf_pb.DT_STRING: np.object_,
}

BOUNDS = {
    "values": 2,
    "many rows": 2,
    "values of one size": 2,
    "values below 100": 100,
    "positive values": 3,
    "values below 10000": 10_000,
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
            assert array.max() < BOUNDS[batch.name]
        else:
            assert np.isfinite(array.astype(complex)).all()


def test_open_dimensions_vary_and_are_alike_for_all_inputs():
    tokens, mask = dense(tf_pb.DT_INT32, (None, None)), dense(tf_pb.DT_FLOAT, (None, None, 2))
    made = sets(pair(tokens=tokens, mask=mask))
    shapes = [b.values["tokens"].shape for b in made["values"]]
    assert [rows for rows, _ in shapes] == [1, 4, 3]
    assert len({length for _, length in shapes}) == 3
    for batch in (*made["values"], *made["values below 100"]):
        assert batch.values["mask"].shape == (*batch.values["tokens"].shape, 2)
    assert made["values below 100"][0].values["tokens"].max() > 2


@pytest.mark.parametrize("dtype", [d for d, n in DTYPES.items() if np.issubdtype(n, np.integer)])
def test_integers_are_as_large_as_their_dtype_lets_them_in_sets_of_their_own(dtype):
    found = sets(pair(x=dense(dtype, (500,)), words=dense(tf_pb.DT_STRING, (500,))))
    largest = {name: made[0].values["x"].max() for name, made in found.items()}
    limit = min(np.iinfo(DTYPES[dtype]).max, 9999)
    assert 90 < largest.pop("values below 100") < 100
    assert 0.95 * limit < largest.pop("values below 10000") <= limit
    assert largest.pop("positive values") == 2
    assert "values" in largest
    assert set(largest.values()) == {1}


@pytest.mark.parametrize("shape", [(), (1,), (4,)])
def test_what_may_be_a_size_stays_small(shape):
    found = sets(pair(x=dense(tf_pb.DT_INT64, shape)), keys=(10**12,))
    assert "values below 10000" not in found
    beside = sets(pair(x=dense(tf_pb.DT_INT64, shape), y=dense(tf_pb.DT_INT64, (None,))), keys=(7,))
    assert beside["values below 10000"][0].values["y"].max() > 100
    for made in (found, beside):
        assert max(b.values["x"].max() for batches in made.values() for b in batches) < 100
    longer = sets(pair(x=dense(tf_pb.DT_INT64, (5,))))
    assert longer["values below 10000"][0].values["x"].max() > 100


# -- sizes ----------------------------------------------------------------------------------------


def shapes(name, **inputs):
    """The shapes in the one batch of a set; None where there is no such set."""
    found = sets(pair(**inputs)).get(name)
    if found is None:
        return None
    (batch,) = found
    return tuple(array.shape for array in batch.values.values())


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (dense(FLOAT, (None,)), (32,)),
        (dense(STRING, (None,)), (32,)),
        (dense(FLOAT, None), (32,)),
        (dense(INT, (None, None)), (32, 12)),
        (dense(FLOAT, (None, 20_000)), (32, 20_000)),
        (dense(FLOAT, ()), None),
        (dense(FLOAT, (3,)), None),
        (dense(FLOAT, (4, None)), None),
        (dense(FLOAT, (None, 20, 30, 3)), None),  # pictures
        (dense(FLOAT, (None, 33_000)), None),
    ],
)
def test_rows_are_many_once_where_they_may_be(x, expected):
    assert shapes("many rows", x=x) == (expected and (expected,))


@pytest.mark.parametrize(
    ("output", "fed"), [(FLOAT, True), (tf_pb.DT_HALF, False), (tf_pb.DT_BFLOAT16, False)]
)
def test_rows_are_few_where_releases_may_round_otherwise(output, fed):
    of = pair(x=dense(FLOAT, (None, 3)))
    of.reference.outputs["default"] = dense(output, (None, 2))
    assert ("many rows" in sets(of)) == fed


def test_what_is_beside_images_has_no_more_rows_than_they():
    images = dense(FLOAT, (None, None, None, 6))
    assert shapes("many rows", images=images, labels=dense(INT, (None,))) is None


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"x": dense(FLOAT, (None,))}, [(16_000,)]),
        ({"x": dense(FLOAT, (None, None))}, [(1, 16_000)]),
        ({"x": dense(FLOAT, (2, None)), "rate": dense(INT, ())}, [(2, 16_000), ()]),
        # Rows of sound, and how long each of them is.
        ({"x": dense(FLOAT, (None, None)), "n": dense(INT, (None,))}, [(1, 16_000), (1,)]),
        # One number of each row, beside others.
        ({"x": dense(FLOAT, (None,)), "y": dense(FLOAT, (None, 4))}, [(16_000,), (16_000, 4)]),
        ({"x": dense(FLOAT, (None,)), "y": dense(FLOAT, (None, 400))}, None),
        ({"x": dense(FLOAT, (100, None))}, None),
        ({"x": dense(FLOAT, (None, None, None))}, None),
        ({"x": dense(FLOAT, (None, 3))}, None),
        ({"x": dense(FLOAT, None)}, None),
        ({"x": dense(INT, (None, None))}, None),
        ({"x": sparse(FLOAT, (None, None))}, None),
        # A mask of tokens, which would be as many.
        ({"x": dense(FLOAT, (None, None)), "ids": dense(INT, (None, None))}, None),
        ({"x": dense(FLOAT, (None,)), "images": dense(FLOAT, (None, 32, 32, 3))}, None),
    ],
)
def test_only_sound_is_long(inputs, expected):
    assert shapes("long values", **inputs) == (expected and tuple(expected))


def test_sound_is_as_loud_as_can_be_and_no_louder():
    (batch,) = sets(pair(x=dense(FLOAT, (None,))))["long values"]
    array = batch.values["x"]
    assert -1 <= array.min() < -0.99
    assert 0.99 < array.max() <= 1


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"x": dense(FLOAT, (None, None))}, [(8, 8)]),
        ({"x": dense(FLOAT, (None,)), "y": dense(FLOAT, (4, None))}, [(8,), (4, 8)]),
        ({"x": dense(INT, (None, 3, None))}, [(8, 3, 8)]),
        # Rows are as many in all inputs anyway.
        ({"x": dense(FLOAT, (None,)), "y": dense(FLOAT, (None, 4))}, None),
        ({"x": dense(FLOAT, (4, None)), "y": dense(FLOAT, (5, None))}, None),
        ({"x": dense(FLOAT, None)}, None),
        ({"x": ragged(FLOAT, (None, None))}, None),
        ({"images": dense(FLOAT, (None, None, None, 3)), "x": dense(INT, (None, None))}, None),
    ],
)
def test_all_sizes_are_one_where_they_would_differ(inputs, expected):
    assert shapes("values of one size", **inputs) == (expected and tuple(expected))


# -- strings --------------------------------------------------------------------------------------


def strings(batch) -> set[bytes]:
    return set(batch.values["x"].ravel().tolist())


def test_words_are_empty_and_not_english_too():
    (batch, *_) = sets(pair(x=dense(tf_pb.DT_STRING, (200,))))["values"]
    assert b"" in strings(batch)
    assert "日本語".encode() in strings(batch)


@pytest.mark.parametrize(
    "endpoint",
    [
        dense(STRING, ()),
        dense(STRING, (None,)),
        ragged(STRING, (None, None)),
        sparse(STRING, (None, 3)),
    ],
)
def test_strings_are_also_what_models_parse_and_decode(endpoint):
    plain = sets(pair(x=endpoint, n=dense(tf_pb.DT_INT32, (None,))))
    assert list(plain)[-5:] == [
        "empty strings", "numbers", "empty examples", "PNG images", "JPEG images",
    ]  # fmt: skip


def test_encoded_images_are_images_of_one_size():
    found = sets(pair(x=dense(STRING, (40,))))
    for kind in ("PNG", "JPEG"):
        texts = strings(found[f"{kind} images"][0])
        assert len(texts) == 4
        for text in texts:
            # A text model reads them too, and the work of some grows with the square of it.
            assert len(text) < 2000
            image = Image.open(io.BytesIO(text))
            assert (image.format, image.size) == (kind, (96, 96))


def test_encoded_images_are_no_text_to_one_release_that_is_none_to_another():
    # The RE2 of TensorFlow 1.15 takes whatever has the right bits in front.
    lax = rb"[\xf0-\xf7][\x80-\xbf]{3}|[\xe0-\xef][\x80-\xbf]{2}|[\xc0-\xdf][\x80-\xbf]"
    found = sets(pair(x=dense(STRING, (40,))))
    texts = strings(found["PNG images"][0]) | strings(found["JPEG images"][0])
    letters = [letter for text in texts for letter in re.findall(lax, text)]
    assert letters
    for letter in letters:
        assert len(letter.decode()) == 1


@pytest.mark.tf2
def test_tensorflow_parses_and_decodes_these_strings():
    import tensorflow as tf

    found = {name: made[0].values["x"] for name, made in sets(pair(x=dense(STRING, (40,)))).items()}
    assert set(found["empty strings"].tolist()) == {b""}
    for dtype in (tf.float32, tf.int32):
        assert set(tf.strings.to_number(found["numbers"], dtype).numpy().tolist()) == {1, 2, 7, 12}
    assert set(found["empty examples"].tolist()) == {
        tf.train.Example(features=tf.train.Features()).SerializeToString()
    }
    features = {"a": tf.io.FixedLenFeature([], tf.float32, 7.0), "b": tf.io.VarLenFeature(tf.int64)}
    for name in ("empty strings", "empty examples"):
        assert tf.io.parse_example(found[name], features)["a"].numpy().tolist() == [7.0] * 40
    png, jpeg = found["PNG images"], found["JPEG images"]
    for decode, text in ((tf.io.decode_png, png[0]), (tf.io.decode_jpeg, jpeg[0])):
        assert decode(text).shape == (96, 96, 3)
        assert tf.io.decode_image(text).numpy().std() > 50


def test_known_keys_are_fed_beside_unknown_words():
    keys = tuple(f"key{number}".encode() for number in range(200))
    of = pair(x=dense(STRING, (None,)), n=dense(tf_pb.DT_INT64, (None,)))
    found = sets(of, keys=keys)
    texts = set().union(*map(strings, found["table keys"]))
    assert len(texts & set(keys)) > 10
    assert any(text.split(b" ")[0] in keys for text in texts - set(keys))
    assert texts & set(strings_module.WORDS)
    assert max(batch.values["n"].max() for batch in found["table keys"]) == 1
    assert not any(
        strings(b) & set(keys) for name, made in found.items() if name != "table keys" for b in made
    )


def test_keys_that_are_integers_are_fed_as_far_as_the_dtype_goes():
    of = pair(
        x=dense(STRING, (None,)),
        small=dense(tf_pb.DT_INT8, (None,)),
        n=dense(tf_pb.DT_INT64, (None,)),
    )
    found = sets(of, keys=(-5, 300, 10**12, 10**30))["table keys"]
    drawn = {
        name: set(np.concatenate([b.values[name] for b in found]).tolist())
        for name in ("small", "n")
    }
    assert drawn["n"] == {-5, 300, 10**12, 0, 1}
    assert drawn["small"] == {-5, 0, 1}


@pytest.mark.parametrize(
    ("dtype", "keys"),
    [(STRING, (1, 2)), (tf_pb.DT_INT64, (b"a",)), (STRING, ()), (tf_pb.DT_FLOAT, (1, b"a"))],
)
def test_keys_that_no_input_can_be_are_not_fed(dtype, keys):
    assert "table keys" not in sets(pair(x=dense(dtype, (None,))), keys=keys)


def test_without_pillow_strings_are_refused_before_anything_runs(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    strings_module._encoded.cache_clear()
    with pytest.raises(MissingExtraError, match="without Pillow"):
        count_batches(pair(x=dense(STRING, (None,))), ParityOptions())


# -- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [d for d, n in DTYPES.items() if np.dtype(n).kind in "fViu"])
@pytest.mark.parametrize("shape", [(), (4,), (None, 500)])
def test_positive_values_are_above_zero_and_small(dtype, shape):
    array = sets(pair(x=dense(dtype, shape)))["positive values"][0].values["x"].astype(float)
    assert array.min() > 0
    if np.issubdtype(DTYPES[dtype], np.integer):
        assert set(array.ravel()) <= {1, 2}
        assert array.size < 500 or len(set(array.ravel())) == 2
    else:
        assert array.max() <= 1
        assert array.size < 500 or array.std() > 0.2


@pytest.mark.parametrize("dtype", [STRING, tf_pb.DT_BOOL, tf_pb.DT_COMPLEX64])
def test_what_is_no_real_number_is_not_positive(dtype):
    assert "positive values" not in sets(pair(x=dense(dtype, (None,))))


def test_numbers_beside_pictures_are_positive_too():
    made = sets(image_pair(x=dense(FLOAT, (None, 50))))["positive values"][0].values
    assert made["x"].min() > 0
    assert made["images"].shape == (3, 32, 48, 3)


def test_bfloat16_needs_what_comes_with_tensorflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(MissingExtraError, match="without ml_dtypes"):
        sets(pair(x=dense(tf_pb.DT_BFLOAT16, (50,))))


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
    assert len(layouts) == sum(len(made) for made in sets(of).values())


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
