"""What the models are fed."""

from __future__ import annotations

from bridge._parity.feed.inputs import InputLog, batches, count_batches
from bridge._parity.options import ParityOptions
from bridge.proto import tf_pb
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
    noise, *_, photos = log.sets()
    assert (noise.name, noise.variant, noise.signature) == ("noise", "{}", "default")
    assert noise.shapes[1] == {"images": (4, 32, 48, 3), "x": (4, -1)}
    assert noise.files == ()
    assert len(photos.files) == sum(shapes["images"][0] for shapes in photos.shapes) == 6
