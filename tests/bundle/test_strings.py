import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.bundle import crc
from bridge.bundle.strings import StringChecksum, encode_strings

VALUES = st.lists(st.one_of(st.binary(max_size=6), st.binary(min_size=130, max_size=300)))


def checksum(stored, count, step=1000):
    running = StringChecksum(count)
    for start in range(0, len(stored), step):
        if not running.feed(stored[start : start + step]):
            return None
    result = running.result()
    return None if result is None else crc.mask(result)


@given(VALUES, st.integers(1, 40))
@settings(deadline=None)
def test_the_checksum_is_the_same_in_chunks_of_any_size(values, step):
    stored, expected = encode_strings(values)
    assert checksum(stored, len(values), step) == expected


@given(VALUES, st.data())
@settings(deadline=None)
def test_a_changed_byte_changes_the_checksum(values, data):
    stored, expected = encode_strings(values)
    position = data.draw(st.integers(0, len(stored) - 1))
    broken = bytearray(stored)
    broken[position] ^= data.draw(st.integers(1, 255))
    assert checksum(bytes(broken), len(values)) != expected


@pytest.mark.parametrize(
    ("stored", "count"),
    [
        (b"", 0),
        (b"\1", 1),
        (b"\xff" * 11, 1),
        (b"\xff" * 9 + b"\x7f", 1),
        (encode_strings([b"ab"])[0] + b"c", 1),
        (encode_strings([b"ab"])[0][:-1], 1),
        (encode_strings([b"ab"])[0], 2),
    ],
)
def test_bytes_that_are_no_string_tensor_have_no_checksum(stored, count):
    assert checksum(stored, count) is None
