import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.bundle.coding import decode_varint, encode_slice_key, encode_varint


@given(st.integers(0, 2**64 - 1), st.binary(max_size=3))
@settings(deadline=None)
def test_a_varint_is_read_back(number, rest):
    encoded = encode_varint(number)
    assert decode_varint(encoded + rest, 0, len(encoded)) == (number, len(encoded))


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\x80\x00", b"\xff" * 9 + b"\x7f", b"\x80" * 10 + b"\x01"]
)
def test_a_varint_that_is_cut_too_long_or_too_large_is_an_error(data):
    with pytest.raises(ValueError, match="varint"):
        decode_varint(data, 0, len(data))


# The number 0, the string, the rank, then start and length by dimension.
@pytest.mark.parametrize(
    ("extents", "encoded"),
    [
        (((0, None),), "00656d6200010101807f"),
        (((5, 63), (64, 8191)), "00656d620001010285bfc040dfff"),
        (((8192, 2**20),), "00656d6200010101e02000f0100000"),
        (((2**55, 2**62),), "00656d6200010101ff8080000000000000ffc04000000000000000"),
    ],
)
def test_the_key_of_a_slice_is_ordered_code(extents, encoded):
    key = encode_slice_key("emb", extents)
    assert key.hex() == encoded


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
@settings(deadline=None)
def test_keys_of_slices_sort_as_their_starts(a, b):
    keys = [encode_slice_key("v", [(start, 1)]) for start in (a, b)]
    assert (keys[0] < keys[1]) == (a < b)


def test_a_zero_in_a_name_is_escaped():
    assert encode_slice_key("a\0b", [(0, 1)]).startswith(b"\0a\0\xffb\0\x01")
