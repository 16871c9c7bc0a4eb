import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.bundle import (
    BytesTensor,
    Entry,
    Slice,
    StringTensor,
    TensorSource,
    read_index,
    total_bytes,
    transfer,
    write_bundle,
)
from bridge.errors import DestinationError, MalformedError, UnsafeError, UnsupportedError
from bridge.model import ByteRange
from tests.bundle.helpers import INT64, STRING, contents, make_checkpoint, ones, read, source

GRAPH = {"_CHECKPOINTABLE_OBJECT_GRAPH": StringTensor((b"graph",))}


@pytest.fixture
def shards(tmp_path):
    """Two shards, of 30 and 20 bytes."""
    paths = [tmp_path / "one", tmp_path / "two"]
    paths[0].write_bytes(bytes(range(30)))
    paths[1].write_bytes(bytes(range(100, 120)))
    return paths


@pytest.fixture
def out(tmp_path):
    path = tmp_path / "out"
    path.mkdir()
    return path


def cut(shards, shard, start, end):
    return source(shard, start, shards[shard].read_bytes()[start:end])


def values(prefix):
    index = read_index(prefix)
    return {key: read(index, entry.data) for key, entry in index.entries.items()}


def test_a_shard_in_full_use_is_reproduced(shards, out):
    tensors = {"b": cut(shards, 0, 0, 10), "a": cut(shards, 0, 10, 30)}
    stats = write_bundle(out, "m", shards, tensors)
    assert (out / "m.data-00000-of-00001").read_bytes() == bytes(range(30))
    assert (stats.shards, stats.tensors, stats.bytes_dropped) == (("m.data-00000-of-00001",), 2, 0)
    assert values(out / "m") == {"a": bytes(range(10, 30)), "b": bytes(range(10))}


def test_ranges_may_be_shared_and_overlap(shards, out):
    tensors = {
        "a": cut(shards, 0, 0, 20),
        "b": cut(shards, 0, 0, 20),
        "c": cut(shards, 0, 5, 30),
    }
    write_bundle(out, "m", shards, tensors)
    assert (out / "m.data-00000-of-00001").read_bytes() == bytes(range(30))
    assert values(out / "m")["c"] == bytes(range(5, 30))


def test_dead_bytes_are_left_behind(shards, out):
    tensors = {"a": cut(shards, 0, 20, 30), "b": cut(shards, 0, 2, 8), "c": cut(shards, 0, 4, 9)}
    stats = write_bundle(out, "m", shards, tensors)
    assert (out / "m.data-00000-of-00001").read_bytes() == bytes([*range(2, 9), *range(20, 30)])
    assert stats.bytes_dropped == 13
    assert values(out / "m") == {
        "a": bytes(range(20, 30)),
        "b": bytes(range(2, 8)),
        "c": bytes(range(4, 9)),
    }


def test_a_shard_without_a_needed_byte_vanishes(shards, out):
    shards[0].unlink()
    stats = write_bundle(out, "m", shards, {"a": cut(shards, 1, 0, 20)}, GRAPH)
    assert stats.shards == ("m.data-00000-of-00002", "m.data-00001-of-00002")
    assert sorted(path.name for path in out.iterdir()) == [*stats.shards, "m.index"]
    assert values(out / "m")["a"] == bytes(range(100, 120))


def test_zeros_that_align_the_next_tensor_are_no_dead_bytes(tmp_path, out):
    path = tmp_path / "aligned"
    path.write_bytes(b"aaa" + bytes(61) + b"bb" + bytes(62))
    tensors = {"a": cut([path], 0, 0, 3), "b": cut([path], 0, 64, 66)}
    write_bundle(out, "m", [path], tensors)
    assert (out / "m.data-00000-of-00001").read_bytes() == path.read_bytes()


def test_a_tensor_in_the_place_of_padding_is_dead(tmp_path, out):
    path = tmp_path / "aligned"
    path.write_bytes(b"aaa" + bytes(60) + b"xbb" + bytes(62))
    tensors = {"a": cut([path], 0, 0, 3), "b": cut([path], 0, 64, 66)}
    write_bundle(out, "m", [path], tensors)
    assert (out / "m.data-00000-of-00001").read_bytes() == b"aaabb"


def test_empty_tensors_need_no_bytes(shards, out):
    empty = TensorSource(1, (0, 3), ByteRange(1, 7, 0, 0xA282EAD8))
    write_bundle(out, "m", shards, {"e": empty})
    assert (out / "m.data-00000-of-00001").read_bytes() == b""
    assert read_index(out / "m").entries["e"].shape == (0, 3)


def test_extras_get_the_last_shard(shards, out):
    extras = {**GRAPH, "step": BytesTensor(INT64, (), (7).to_bytes(8, "little"))}
    write_bundle(out, "m", shards, {"a": cut(shards, 0, 0, 30)}, extras)
    index = read_index(out / "m")
    assert index.entries["step"].data.shard == 1
    assert read(index, index.entries["step"].data) == (7).to_bytes(8, "little")
    graph = index.entries["_CHECKPOINTABLE_OBJECT_GRAPH"]
    assert (graph.dtype, graph.shape) == (STRING, ())
    assert read(index, graph.data).endswith(b"graph")


def test_a_bundle_without_tensors_has_an_empty_shard(out):
    write_bundle(out, "m", [], {})
    assert read_index(out / "m").entries == {}


def test_a_partitioned_tensor_stays_partitioned(shards, out):
    parts = [cut(shards, 1, 0, 8), cut(shards, 0, 0, 12)]
    slices = tuple(
        Slice((extent,), part.shape, part.data)
        for extent, part in zip([(0, 8), (8, 12)], parts, strict=True)
    )
    write_bundle(out, "m", shards, {"emb": Entry(4, (20,), None, slices)})
    index = read_index(out / "m")
    assert [part.extents for part in index.entries["emb"].slices] == [((0, 8),), ((8, 12),)]
    assert contents(index)["emb"][2] == [bytes(range(100, 108)), bytes(range(12))]


class TestChecksums:
    @pytest.mark.parametrize("link", [False, True])
    @pytest.mark.parametrize("position", [10, 29])
    def test_a_damaged_tensor_is_named(self, shards, out, link, position):
        tensors = {"a": cut(shards, 0, 0, 10), "b": cut(shards, 0, 10, 30)}
        data = bytearray(shards[0].read_bytes())
        data[position] ^= 1
        shards[0].write_bytes(data)
        with pytest.raises(MalformedError, match=r"checksum of tensor 'b' .*one"):
            write_bundle(out, "m", shards, tensors, link=link)

    def test_all_keys_of_a_damaged_range_are_named(self, shards, out):
        bad = cut(shards, 0, 0, 10)
        shards[0].write_bytes(bytes(30))
        with pytest.raises(MalformedError, match="'x', 'y'"):
            write_bundle(out, "m", shards, {"x": bad, "y": bad})

    def test_ranges_are_verified_across_chunks(self, shards, out, monkeypatch):
        monkeypatch.setattr(transfer, "_CHUNK_BYTES", 7)
        tensors = {f"t{i}": cut(shards, 0, i, 30 - i) for i in range(10)}
        write_bundle(out, "m", shards, tensors)
        assert values(out / "m")["t9"] == bytes(range(9, 21))

    def test_a_string_tensor_is_verified_by_its_own_rule(self, tmp_path, out):
        write_bundle(tmp_path, "s", [], {}, {"s": StringTensor((b"x" * 300, b""), (2,))})
        index = read_index(tmp_path / "s")
        write_bundle(out, "m", index.shards, index.entries)
        assert contents(read_index(out / "m")) == contents(index)
        os.truncate(index.shards[0], 0)
        index.shards[0].write_bytes(b"\xac\x02\0\1\2\3\4" + b"x" * 300)
        with pytest.raises(MalformedError, match="checksum of tensor 's'"):
            write_bundle(out, "n", index.shards, index.entries)

    def test_an_empty_tensor_has_the_checksum_of_nothing(self, shards, out):
        with pytest.raises(MalformedError, match="'e', which is empty"):
            write_bundle(out, "m", shards, {"e": TensorSource(1, (0,), ByteRange(0, 0, 0, 1))})


class TestLinks:
    def test_a_shard_in_full_use_is_linked(self, shards, out):
        stats = write_bundle(out, "m", shards, {"a": cut(shards, 0, 0, 30)}, GRAPH, link=True)
        assert (out / "m.data-00000-of-00002").samefile(shards[0])
        assert stats.bytes_linked == 30

    def test_a_shard_with_dead_bytes_is_copied(self, shards, out):
        stats = write_bundle(out, "m", shards, {"a": cut(shards, 0, 0, 29)}, link=True)
        assert stats.bytes_linked == 0
        assert (out / "m.data-00000-of-00001").stat().st_nlink == 1

    @pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK])
    def test_a_file_system_that_can_not_link_gets_a_copy(self, shards, out, monkeypatch, code):
        def refuse(*_args):
            raise OSError(code, "no")

        monkeypatch.setattr(Path, "hardlink_to", refuse)
        write_bundle(out, "m", shards, {"a": cut(shards, 0, 0, 30)}, link=True)
        assert (out / "m.data-00000-of-00001").read_bytes() == bytes(range(30))
        assert (out / "m.data-00000-of-00001").stat().st_nlink == 1

    def test_a_shard_that_is_a_symbolic_link_is_refused(self, shards, out):
        shards[0].rename(shards[0].with_name("elsewhere"))
        shards[0].symlink_to(shards[0].with_name("elsewhere"))
        with pytest.raises(UnsafeError, match="symbolic link"):
            write_bundle(out, "m", shards, {"a": cut(shards, 0, 0, 30)}, link=True)


class TestCopies:
    @pytest.fixture(params=["missing", "refused", "stuck", "halfway"])
    def poor_kernel(self, request, monkeypatch):
        """Systems without copy_file_range, or on which it does less than one hopes."""
        real = getattr(os, "copy_file_range", None)
        calls = []

        def poor(source, target, count, offset):
            calls.append(offset)
            if request.param == "stuck":
                return 0
            if request.param == "halfway" and len(calls) == 1 and real is not None:
                return real(source, target, 3, offset)
            raise OSError(errno.EXDEV, "no")

        if request.param == "missing":
            monkeypatch.delattr(os, "copy_file_range", raising=False)
        else:
            monkeypatch.setattr(os, "copy_file_range", poor, raising=False)

    @pytest.mark.usefixtures("poor_kernel")
    def test_the_copy_is_the_same_by_hand(self, shards, out):
        tensors = {"a": cut(shards, 0, 0, 10), "b": cut(shards, 0, 15, 30)}
        tensors["c"] = cut(shards, 1, 0, 20)
        write_bundle(out, "m", shards, tensors)
        assert (out / "m.data-00000-of-00002").read_bytes() == bytes([*range(10), *range(15, 30)])
        assert (out / "m.data-00001-of-00002").read_bytes() == bytes(range(100, 120))

    def test_a_full_disk_is_the_destination_s_error(self, shards, out, monkeypatch):
        def full(*_args):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "copy_file_range", full, raising=False)
        with pytest.raises(DestinationError, match="No space left on device"):
            write_bundle(out, "m", shards, {"a": cut(shards, 0, 0, 30)})

    def test_a_file_that_is_there_is_not_overwritten(self, shards, out):
        (out / "m.data-00000-of-00001").write_bytes(b"mine")
        with pytest.raises(DestinationError):
            write_bundle(out, "m", shards, {"a": cut(shards, 0, 0, 30)})
        assert (out / "m.data-00000-of-00001").read_bytes() == b"mine"

    def test_progress_ends_at_the_total(self, shards, out):
        tensors = {
            "a": cut(shards, 0, 0, 10),
            "b": cut(shards, 0, 5, 20),
            "c": cut(shards, 1, 0, 9),
        }
        seen = []
        write_bundle(out, "m", shards, tensors, GRAPH, progress=seen.append)
        assert seen == sorted(seen)
        assert seen[-1] == total_bytes(tensors) == 29


@pytest.mark.parametrize(
    ("tensor", "error"),
    [
        (TensorSource(4, (8,), ByteRange(0, 25, 8, 0)), MalformedError),
        (TensorSource(4, (8,), ByteRange(2, 0, 8, 0)), MalformedError),
        (TensorSource(4, (8,), ByteRange(-1, 0, 8, 0)), MalformedError),
        (TensorSource(4, (8,), ByteRange(0, -1, 8, 0)), MalformedError),
        (TensorSource(4, (0,), ByteRange(2, 0, 0, 0xA282EAD8)), MalformedError),
        (TensorSource(21, (), ByteRange(0, 0, 8, 0)), UnsupportedError),
    ],
)
def test_a_range_that_can_not_be_is_refused(shards, out, tensor, error):
    with pytest.raises(error, match="tensor 'a'"):
        write_bundle(out, "m", shards, {"a": tensor})


def test_overlap_without_measure_is_refused(shards, out):
    tensors = {f"t{i}": cut(shards, 0, 0, 30 - i) for i in range(20)}
    with pytest.raises(MalformedError, match="overlap"):
        write_bundle(out, "m", shards, tensors)


@pytest.mark.parametrize(
    ("tensors", "extras"),
    [({"": 0}, {}), ({}, {"": StringTensor((b"",))}), ({"a": 0}, {"a": StringTensor((b"",))})],
)
def test_a_key_that_is_empty_or_twice_in_use_is_an_error(shards, out, tensors, extras):
    tensors = dict.fromkeys(tensors, cut(shards, 0, 0, 30))
    with pytest.raises(ValueError, match="key"):
        write_bundle(out, "m", shards, tensors, extras)


@pytest.mark.parametrize("extra", [StringTensor((b"a", b"b")), BytesTensor(INT64, (), b"1234")])
def test_an_extra_that_does_not_fill_its_shape_is_an_error(out, extra):
    with pytest.raises(ValueError, match="'x' has"):
        write_bundle(out, "m", [], {}, {"x": extra})


def test_the_same_input_gives_the_same_bytes(tmp_path):
    results = []
    for name in ("first", "second"):
        made = make_checkpoint(tmp_path / name, a=ones("a", 9), b=ones("b", 4), c=ones("c", 70))
        index = read_index(made)
        os.utime(index.shards[0], (len(results), len(results)))
        entries = list(index.entries.items())
        kept = dict(entries if name == "first" else reversed(entries))
        del kept["b"]
        out = tmp_path / f"{name}-out"
        out.mkdir()
        write_bundle(out, "m", index.shards, kept, GRAPH)
        results.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert results[0] == results[1]


@given(
    sizes=st.lists(st.lists(st.integers(0, 40), max_size=6), min_size=1, max_size=3),
    data=st.data(),
)
@settings(deadline=None, max_examples=60)
def test_any_choice_of_tensors_is_read_back(tmp_path_factory, sizes, data):
    directory = tmp_path_factory.mktemp("any")
    tensors, expected, shards = {}, {}, []
    for shard, lengths in enumerate(sizes):
        content = b""
        for number, length in enumerate(lengths):
            key = f"s{shard}/t{number}"
            value = bytes((shard * 91 + number * 7 + i) % 256 for i in range(length))
            if data.draw(st.booleans()):
                tensors[key] = source(shard, len(content), value)
                expected[key] = value
            content += value
        shards.append(directory / f"shard{shard}")
        shards[-1].write_bytes(content)
    write_bundle(directory, "m", shards, tensors)
    assert values(directory / "m") == expected
    needed = sum(map(len, expected.values()))
    written = sum(path.stat().st_size for path in directory.glob("m.data*"))
    assert needed <= written <= sum(map(sum, sizes))
