"""The bundles that TensorFlow itself writes and reads."""

import numpy as np
import pytest

from bridge.bundle import BytesTensor, StringTensor, TensorSource, read_index, write_bundle
from bridge.bundle.coding import encode_slice_key
from bridge.bundle.table import read_table, write_table
from tests.bundle.helpers import FLOAT, INT64, contents, read

pytestmark = pytest.mark.tf2

BYTES = StringTensor((b"a graph " * 50,))


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def arrays(tf):
    """One array of each kind of tensor."""
    rng = np.random.default_rng(0)
    values = {
        dtype: (rng.random((3, 5)) * 100).astype(dtype)
        for dtype in (
            *("float32", "float64", "float16", "complex64", "complex128", "bool"),
            *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        )
    }
    values["bfloat16"] = (rng.random((7,)) * 100).astype(tf.bfloat16.as_numpy_dtype)
    values["scalar"] = np.float32(2.5)
    values["empty"] = np.zeros((0, 4), np.float32)
    values["strings"] = np.array([[b"", b"x" * 127], [b"y" * 128, b"z" * 20000]], object)
    values["string scalar"] = np.array(b"text", object)
    values["no strings"] = np.zeros((0,), object)
    values["ünïcode/" + "long" * 40] = np.arange(4)
    return values


def save(tf, prefix, arrays):
    keys = sorted(arrays, reverse=True)  # TensorFlow does not ask for order
    tensors = [
        tf.constant(arrays[key], tf.string if arrays[key].dtype == object else None) for key in keys
    ]
    tf.raw_ops.SaveV2(
        prefix=str(prefix), tensor_names=keys, shape_and_slices=[""] * len(keys), tensors=tensors
    )
    return prefix


def assert_holds(tf, prefix, arrays):
    """TensorFlow reads these arrays from the checkpoint, checksums and all."""
    checkpoint = tf.train.load_checkpoint(str(prefix))
    for key, array in arrays.items():
        np.testing.assert_array_equal(checkpoint.get_tensor(key), array)
    assert_restores(tf, prefix, arrays)


def assert_restores(tf, prefix, arrays):
    restored = tf.raw_ops.RestoreV2(
        prefix=str(prefix),
        tensor_names=list(arrays),
        shape_and_slices=[""] * len(arrays),
        dtypes=[tf.string if a.dtype == object else tf.as_dtype(a.dtype) for a in arrays.values()],
    )
    for tensor, array in zip(restored, arrays.values(), strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array)


@pytest.fixture
def saved(tf, tmp_path, arrays):
    return save(tf, tmp_path / "saved", arrays)


@pytest.fixture
def out(tmp_path):
    path = tmp_path / "out"
    path.mkdir()
    return path


def test_what_tensorflow_saved_is_read(tf, saved, arrays):
    index = read_index(saved)
    assert set(index.entries) == set(arrays)
    for key, array in arrays.items():
        entry = index.entries[key]
        assert entry.shape == array.shape
        if array.dtype == object:
            assert entry.dtype == tf.string.as_datatype_enum
        else:
            assert entry.dtype == tf.as_dtype(array.dtype).as_datatype_enum
            assert read(index, entry.data) == array.tobytes()


@pytest.mark.parametrize("link", [False, True])
def test_a_copy_is_byte_for_byte_what_tensorflow_saved(saved, out, link):
    index = read_index(saved)
    write_bundle(out, "saved", index.shards, index.entries, link=link)
    for path in out.iterdir():
        assert path.read_bytes() == (saved.parent / path.name).read_bytes()
    assert len(list(out.iterdir())) == 2


def test_tensorflow_reads_a_copy_under_new_names(tf, saved, arrays, out):
    index = read_index(saved)
    tensors = {f"{key}/.ATTRIBUTES/VARIABLE_VALUE": e for key, e in index.entries.items()}
    extras = {"graph": BYTES, "step": BytesTensor(INT64, (2,), np.arange(2).tobytes())}
    write_bundle(out, "variables", index.shards, tensors, extras)
    expected = {f"{key}/.ATTRIBUTES/VARIABLE_VALUE": array for key, array in arrays.items()}
    expected["graph"] = np.array(BYTES.values[0], object)
    expected["step"] = np.arange(2)
    assert_holds(tf, out / "variables", expected)


def test_tensorflow_reads_a_copy_without_dead_bytes(tf, saved, arrays, out):
    index = read_index(saved)
    kept = {key: array for key, array in arrays.items() if not key.startswith("int")}
    stats = write_bundle(out, "variables", index.shards, {key: index.entries[key] for key in kept})
    assert stats.bytes_dropped == 15 * (1 + 2 + 4 + 8)
    assert_holds(tf, out / "variables", kept)


def test_an_index_of_many_blocks_is_read_and_written_as_by_tensorflow(tf, tmp_path, out):
    # About 3 blocks of 256 KiB.
    names = [f"{i * 7919 % 9001}/{'scope/' * (i % 20)}block_{i}/kernel" for i in range(9000)]
    arrays = {name: np.float32(i) for i, name in enumerate(names)}
    saved = save(tf, tmp_path / "saved", arrays)
    path = saved.with_name("saved.index")
    table = path.read_bytes()
    assert len(table) > 2 * 262144
    assert write_table(read_table(table, path)) == table
    index = read_index(saved)
    assert len(index.entries) == len(arrays)
    write_bundle(out, "saved", index.shards, index.entries)
    some = {name: arrays[name] for name in names[::500]}
    assert_holds(tf, out / "saved", some)


@pytest.mark.parametrize("sharded", [False, True])
def test_partitioned_variables_and_shards_are_read_and_written(tf, tmp_path, out, sharded):
    v1 = tf.compat.v1
    random = v1.random_uniform_initializer(seed=1)
    with tf.Graph().as_default(), v1.Session(config=v1.ConfigProto(device_count={"CPU": 2})) as s:
        with v1.variable_scope("rows", partitioner=v1.fixed_size_partitioner(3)):
            rows = v1.get_variable("emb", [7, 2], initializer=random)
        with v1.variable_scope("columns", partitioner=v1.fixed_size_partitioner(2, axis=1)):
            columns = v1.get_variable("emb", [2, 70], initializer=random)
        with tf.device("/cpu:1"):
            v1.get_variable("w", initializer=np.ones(3, np.float32))
        s.run(v1.global_variables_initializer())
        expected = {
            "rows/emb": s.run(tf.convert_to_tensor(rows)),
            "columns/emb": s.run(tf.convert_to_tensor(columns)),
            "w": np.ones(3, np.float32),
        }
        saved = v1.train.Saver(sharded=sharded).save(
            s, str(tmp_path / "m"), write_meta_graph=False, write_state=False
        )
    index = read_index(tmp_path / "m")
    assert saved == str(index.prefix)
    assert len(index.shards) == 1 + sharded
    rows = index.entries["rows/emb"]
    assert (rows.shape, rows.data) == ((7, 2), None)
    assert [part.offsets for part in rows.slices] == [(0, 0), (3, 0), (5, 0)]
    assert [part.shape for part in rows.slices] == [(3, 2), (2, 2), (2, 2)]
    assert read(index, rows.slices[1].data) == expected["rows/emb"][3:5].tobytes()

    write_bundle(out, "m", index.shards, index.entries)
    assert_holds(tf, out / "m", expected)
    assert contents(read_index(out / "m")) == contents(index)
    if not sharded:
        assert (out / "m.index").read_bytes() == (tmp_path / "m.index").read_bytes()
    # A slice is a tensor of its own, too.
    parts = {f"part_{i}": part for i, part in enumerate(rows.slices)}
    sources = {key: TensorSource(FLOAT, part.shape, part.data) for key, part in parts.items()}
    write_bundle(out, "parts", index.shards, sources)
    assert_holds(tf, out / "parts", {"part_0": expected["rows/emb"][:3]})


def test_tensorflow_verifies_the_checksums_that_we_write(tf, out):
    write_bundle(out, "m", [], {}, {"s": BYTES})
    (shard,) = read_index(out / "m").shards
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(tf.errors.DataLossError, match="Checksum does not match"):
        assert_restores(tf, out / "m", {"s": np.array(BYTES.values[0], object)})


def test_keys_of_slices_are_as_tensorflow_encodes_them(tf, tmp_path):
    # The starts take 1 to 10 bytes.
    starts = [5, *(2**bits for bits in range(6, 63, 7)), 2**62 + 2**61]
    lengths = [4, *[8] * (len(starts) - 1)]
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "m"),
        tensor_names=["emb"] * len(starts),
        shape_and_slices=[
            f"1 {2**62 + 2**61 + 8} -:{start},{length}"
            for start, length in zip(starts, lengths, strict=True)
        ],
        tensors=[tf.zeros([1, length], tf.uint8) for length in lengths],
    )
    path = tmp_path / "m.index"
    keys = {key for key, _ in read_table(path.read_bytes(), path) if key.startswith(b"\0")}
    assert keys == {
        encode_slice_key("emb", [(0, None), extent]) for extent in zip(starts, lengths, strict=True)
    }
