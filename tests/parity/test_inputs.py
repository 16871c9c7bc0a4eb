"""What the models are fed."""

from __future__ import annotations

import contextlib

import pytest

from bridge._parity.feed.inputs import InputLog, batches, count_batches
from bridge._parity.options import ParityOptions
from bridge.proto import tf_pb
from bridge.verify import SAMPLES
from tests.parity.endpoints import dense, image_pair, pair, ragged, sets, sparse

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
    noise, *others = log.sets()
    (photos,) = (one for one in others if one.name == "photos")
    assert (noise.name, noise.variant, noise.signature) == ("noise", "{}", "default")
    assert noise.shapes[1] == {"images": (4, 32, 48, 3), "x": (4, -1)}
    assert noise.files == ()
    assert len(photos.files) == sum(shapes["images"][0] for shapes in photos.shapes) == 6


# -- what models take -------------------------------------------------------------------------


@pytest.mark.tf2
def test_models_that_refuse_most_are_fed_something_that_they_take():
    import tensorflow as tf

    floats, integers, strings = tf_pb.DT_FLOAT, tf_pb.DT_INT32, tf_pb.DT_STRING
    vector, matrix = dense(floats, (None,)), dense(floats, (None, None))

    def not_negative(x):
        with tf.control_dependencies([tf.debugging.assert_non_negative(x)]):
            return tf.sqrt(x)

    models = {
        "frames of sound": (lambda x: tf.signal.stft(x, 400, 160), {"x": vector}),
        "frames of sounds": (lambda x: tf.signal.frame(x, 400, 160), {"x": matrix}),
        "probabilities": (not_negative, {"x": dense(floats, (None, 3))}),
        "ids from 1": (
            lambda x: tf.gather(tf.ones([5, 4]), x - 1),
            {"x": dense(integers, (None, 3))},
        ),
        "a square": (tf.linalg.inv, {"x": matrix}),
        "matrix and vector": (tf.linalg.matvec, {"a": dense(floats, (4, None)), "x": vector}),
        "numbers in strings": (tf.strings.to_number, {"x": dense(strings, (None,))}),
        "rows above 3": (
            lambda x: tf.boolean_mask(x, tf.reduce_sum(x, 1) > 3),
            {"x": dense(floats, (None, 3))},
        ),
    }
    # These are all that verification of a conversion feeds.
    options = ParityOptions(samples=SAMPLES, batch_size=SAMPLES)
    # TensorFlow quotes what is no number, such as an image, and Python can't read the quote.
    refused = tf.errors.InvalidArgumentError, UnicodeDecodeError
    taken = {}
    for name, (model, inputs) in models.items():
        taken[name] = set()
        for batch in batches(pair(**inputs), options):
            with contextlib.suppress(*refused):
                output = model(*map(tf.constant, batch.values.values()))
                if tf.size(output) > 0:
                    taken[name].add(batch.name)
    assert taken == {
        "frames of sound": {"long values"},
        "frames of sounds": {"long values"},
        "probabilities": {"positive values"},
        "ids from 1": {"positive values"},
        "a square": {"values of one size"},
        "matrix and vector": {"values of one size"},
        "numbers in strings": {"numbers"},
        "rows above 3": {"many rows"},
    }
