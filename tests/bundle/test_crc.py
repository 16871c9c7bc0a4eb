import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.bundle import crc


def test_the_checksum_is_the_castagnoli_one():
    assert crc.value(b"123456789") == 0xE3069283  # RFC 3720


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_unmask_undoes_mask(value):
    assert crc.unmask(crc.mask(value)) == value


@given(st.binary(max_size=100), st.binary(max_size=100))
@settings(deadline=None)
def test_extend_goes_on_where_value_ended(first, second):
    array = np.frombuffer(second, np.uint8)
    assert crc.extend(crc.value(first), array) == crc.value(first + second)


def test_the_checksum_is_the_same_without_the_c_extension(monkeypatch):
    python = pytest.importorskip("google_crc32c.python")
    monkeypatch.setattr(crc, "_PURE_PYTHON", True)
    monkeypatch.setattr(crc.google_crc32c, "extend", python.extend)
    assert crc.value(np.frombuffer(b"123456789", np.uint8)) == 0xE3069283
