from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.bundle import crc, table
from bridge.bundle.table import read_table, write_table
from bridge.errors import MalformedError, UnsupportedError

PATH = Path("m.index")

ENTRIES = st.dictionaries(st.binary(max_size=12), st.binary(max_size=40), max_size=60)

SAMPLE = write_table(
    [(b"", b"\x08\x01"), *((f"scope/layer_{i:03}/kernel".encode(), bytes([i])) for i in range(40))]
)


@given(ENTRIES)
@settings(deadline=None)
def test_what_is_written_is_read_back(entries):
    data = write_table(sorted(entries.items()))
    assert dict(read_table(data, PATH)) == entries


@given(ENTRIES)
@settings(max_examples=30, deadline=None)
def test_many_blocks_are_read_back(entries):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "_BLOCK_SIZE", 64)
        data = write_table(sorted(entries.items()))
    assert list(read_table(data, PATH)) == sorted(entries.items())


def test_a_table_without_entries_is_empty():
    assert list(read_table(write_table([]), PATH)) == []


@pytest.mark.parametrize("keys", [[b"b", b"a"], [b"a", b"a"]])
def test_keys_that_do_not_rise_are_not_written(keys):
    with pytest.raises(ValueError, match="comes after"):
        write_table([(key, b"") for key in keys])


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_a_change_of_any_byte_is_noticed(mask):
    for position in range(len(SAMPLE)):
        broken = bytearray(SAMPLE)
        broken[position] ^= mask
        with pytest.raises(MalformedError) as error:
            list(read_table(bytes(broken), PATH))
        assert "m.index" in str(error.value)


def test_a_cut_at_any_byte_is_noticed():
    for size in range(len(SAMPLE)):
        with pytest.raises(MalformedError, match=r"m\.index"):
            list(read_table(SAMPLE[:size], PATH))
        with pytest.raises(MalformedError, match=r"m\.index"):
            list(read_table(SAMPLE[len(SAMPLE) - size :], PATH))


@given(st.data())
@settings(deadline=None)
def test_random_damage_is_noticed_or_harmless(data):
    broken = bytearray(SAMPLE)
    for _ in range(data.draw(st.integers(1, 6))):
        start = data.draw(st.integers(0, len(broken)))
        end = data.draw(st.integers(start, min(len(broken), start + 8)))
        broken[start:end] = data.draw(st.binary(max_size=8))
    try:
        entries = list(read_table(bytes(broken), PATH))
    except MalformedError:
        return
    assert entries == list(read_table(SAMPLE, PATH))


def resealed(block: bytes, kind: int = 0) -> bytes:
    """A table whose one data block is `block`, with right checksums."""

    def sealed(contents: bytes, kind: int = 0) -> bytes:
        contents += bytes([kind])
        return contents + crc.mask(crc.value(contents)).to_bytes(4, "little")

    empty = sealed(bytes(4) + b"\x01\0\0\0")
    handle = table._Handle(0, len(block))
    index = table._BlockBuilder(1)
    index.add(b"\xff", handle.encode())
    body = sealed(block, kind) + empty + sealed(index.finish())
    meta = table._Handle(handle.end, 8)
    footer = meta.encode() + table._Handle(meta.end, len(index.finish())).encode()
    return body + footer.ljust(40, b"\0") + table._MAGIC


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_a_block_of_any_bytes_is_refused_or_read(block):
    data = resealed(block)
    try:
        list(read_table(data, PATH))
    except MalformedError as error:
        assert "m.index" in str(error)  # noqa: PT017 - it may also be read


@pytest.mark.parametrize(
    ("block", "found"),
    [
        (b"\0\x01\0a\0\x01\0a" + bytes(4) + b"\x01\0\0\0", "not in order"),
        (b"\0\x01\0b\0\x01\0a" + bytes(4) + b"\x01\0\0\0", "not in order"),
        (b"\x01\x01\0a" + bytes(4) + b"\x01\0\0\0", "not whole"),
        (b"\0\x01\0a\x05\0\0" + bytes(4) + b"\x01\0\0\0", "over its end"),
        (b"\0\x09\0a" + bytes(4) + b"\x01\0\0\0", "over its end"),
        (b"\0\x01\0a" + bytes(4) + b"\0\0\0\0", "number of restart points"),
        (b"\0\x01\0a" + bytes(4) + b"\xff\xff\xff\xff", "number of restart points"),
        (b"\0\x01\0a" + bytes(4) + b"\x02\0\0\0\x02\0\0\0", "not at an entry"),
        (b"\0\x01\0a" + b"\x01\0\0\0" * 2, "first restart point"),
        (b"", "too small"),
    ],
)
def test_a_block_that_breaks_a_rule_is_refused(block, found):
    with pytest.raises(MalformedError, match=found):
        list(read_table(resealed(block), PATH))


def test_a_compressed_block_is_unsupported():
    with pytest.raises(UnsupportedError, match="snappy"):
        list(read_table(resealed(b"anything", kind=1), PATH))


def test_a_block_of_unknown_type_is_refused():
    with pytest.raises(MalformedError, match="unknown type"):
        list(read_table(resealed(b"anything", kind=2), PATH))


def test_keys_may_not_unfold_without_measure(monkeypatch):
    monkeypatch.setattr(table, "MAX_KEY_BYTES", 1000)
    with pytest.raises(MalformedError, match="more than 1000 bytes"):
        list(read_table(write_table([(b"k" * 200 + bytes([i]), b"") for i in range(9)]), PATH))
