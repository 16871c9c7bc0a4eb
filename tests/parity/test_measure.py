"""The numbers and the status of outputs that are compared batch by batch."""

from __future__ import annotations

import math
import struct
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bridge._parity.feed.values import to_bfloat16
from bridge._parity.numbers import equal
from bridge._parity.numbers.equal import Looked, look
from bridge._parity.numbers.histogram import Magnitudes, bins
from bridge._parity.numbers.measure import Accumulator, Measured
from bridge._parity.numbers.ulp import BFLOAT16, max_ulp
from bridge._parity.results import Difference, PhotoRow, Status
from bridge._parity.rule import Breach, BreachKind, Tolerance
from bridge.proto import tf_pb

FLOATS = (np.float16, np.float32, np.float64)
QINT8 = [("qint8", "i1")]
"""What TensorFlow's arrays of its quantized dtype are."""

BIN = 10 ** (1 / 32)
"""How far apart, at the most, a quantile may be from what it stands for."""


def measured(a, b, tolerance=None, **options) -> Measured:
    accumulator = Accumulator(tolerance or Tolerance(1e-5), **options)
    accumulator.add(a, b, "noise", 0)
    return accumulator.result()


def difference(a, b, **options) -> Difference:
    found = measured(a, b, **options).difference
    assert found is not None
    return found


# -- against a plain implementation -----------------------------------------------------------


@st.composite
def two_arrays(draw):
    dtype = draw(st.sampled_from(FLOATS))
    shape = draw(st.sampled_from([(), (1,), (7,), (2, 3), (2, 0), (1, 2, 3)]))
    a = draw(arrays(dtype, shape))
    if draw(st.booleans()):
        return a, draw(arrays(dtype, shape))
    # Most outputs are close to each other.
    steps = draw(arrays(np.int8, shape, elements=st.integers(-3, 3)))
    with np.errstate(over="ignore", invalid="ignore"):
        return a, (a + steps * np.spacing(a)).astype(dtype)


def bits(value) -> int:
    """The place of a finite value among all of its dtype, counted from zero."""
    code = {2: "H", 4: "I", 8: "Q"}[value.dtype.itemsize]
    number = struct.unpack(f"<{code}", value.tobytes())[0]
    half = 1 << (8 * value.dtype.itemsize - 1)
    return -(number - half) if number >= half else number


@settings(max_examples=300, deadline=None)
@given(two_arrays())
def test_the_numbers_are_those_of_a_plain_implementation(both):
    a, b = both
    found = measured(a, b).difference
    if not a.size:
        assert found is None
        return
    pairs = list(zip(a.ravel(), b.ravel(), strict=True))
    finite = [(x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]
    with np.errstate(all="ignore"):
        abs_ = [abs(float(x) - float(y)) for x, y in finite]
        rel = [
            np.float64(d) / np.float64(abs(float(x)))
            for d, (x, _) in zip(abs_, finite, strict=True)
            if x
        ]
    assert found.values == a.size
    assert found.nan == (np.isnan(a).sum(), np.isnan(b).sum())
    assert found.inf == (np.isinf(a).sum(), np.isinf(b).sum())
    assert found.max_abs == max(abs_, default=0.0)
    assert found.largest == max((abs(float(x)) for x, _ in finite), default=0.0)
    assert found.max_rel == max(rel, default=0.0)
    assert found.max_ulp == max((abs(bits(x) - bits(y)) for x, y in finite), default=0)
    for mean, values in ((found.mean_abs, abs_), (found.mean_rel, rel)):
        assert mean == pytest.approx(sum(values) / len(values) if values else 0.0, rel=1e-12)
    assert sum(found.histogram.values()) == len(finite)
    for name, values in (("abs", abs_), ("rel", rel)):
        for quantile, share in (("median", 0.5), ("p99", 0.99)):
            ordered = sorted(values) or [0.0]
            value = ordered[max(0, math.ceil(share * len(ordered)) - 1)]
            got = getattr(found, f"{quantile}_{name}")
            # The histogram calls zero what is below 2^-1026.
            assert got == value or (value < 2.0**-1026 and not got) or 1 / BIN < got / value < BIN


@settings(max_examples=200, deadline=None)
@given(two_arrays(), st.sampled_from([0.0, 1e-5, 0.5]), st.sampled_from([0.0, 1e-3]))
def test_the_status_is_what_the_rule_says(both, rtol, atol):
    a, b = both
    found = measured(a, b, Tolerance(rtol, atol))
    x, y = a.astype(np.float64), b.astype(np.float64)
    special = ~(np.isfinite(x) & np.isfinite(y))
    same = np.array_equal(x[special], y[special], equal_nan=True)
    with np.errstate(all="ignore"):
        apart = np.max(np.abs(x - y)[~special], initial=0.0)
    largest = np.max(np.abs(x)[~special], initial=0.0)
    expected = Status.PASS if same and apart <= atol + rtol * largest else Status.FAIL
    if expected is Status.PASS and special.all():
        expected = Status.NOT_COMPARABLE  # there is no value, or none that could be subtracted
    assert found.status is expected
    assert bool(found.reason) == (found.status is not Status.PASS)
    if found.status is Status.FAIL and same:
        needed = found.difference.needed_rtol
        assert found.difference.headroom < 1
        if math.isfinite(needed):
            assert measured(a, b, Tolerance(needed * (1 + 1e-9), atol)).status is Status.PASS


def test_nothing_but_nan_on_both_sides_proves_nothing():
    both = np.full((2, 3), np.nan, np.float32)
    found = measured(both, both)
    assert found.status is Status.NOT_COMPARABLE
    assert "NaN" in found.reason


@settings(max_examples=100, deadline=None)
@given(two_arrays())
def test_the_worst_place_holds_the_values_that_differ_most(both):
    found = measured(*both).difference
    if found is None or found.worst is None:
        return
    a, b = both
    x, y = float(a[found.worst.index]), float(b[found.worst.index])
    assert (found.worst.reference, found.worst.candidate) == pytest.approx((x, y), nan_ok=True)
    if math.isfinite(x) and math.isfinite(y):
        assert abs(x - y) == found.max_abs


# -- the rule ---------------------------------------------------------------------------------


def test_an_output_passes_at_its_limit_and_fails_just_above():
    a = np.array([[4.0, -8.0]])
    limit = 2**-10 + 2**-10 * 8.0
    tolerance = Tolerance(2**-10, 2**-10)
    at = measured(a, a + np.array([[limit, 0.0]]), tolerance)
    more = np.array([[limit + np.spacing(8.0), 0.0]])
    above = measured(a, a + more, tolerance)
    assert (at.status, at.limit, at.difference.headroom) == (Status.PASS, limit, 1.0)
    assert above.status is Status.FAIL
    assert above.reason.startswith("max|a-b| is 0.008789 at [0, 0] in batch 0 (noise), where")


def test_the_limit_is_that_of_each_batch_alone():
    accumulator = Accumulator(Tolerance(1e-3))
    accumulator.add(np.array([1000.0]), np.array([1000.5]), "noise", 0)
    assert not accumulator.failed
    accumulator.add(np.array([1.0]), np.array([1.01]), "ones", 3)
    assert accumulator.failed
    found = accumulator.result()
    assert "batch 3 (ones)" in found.reason
    assert found.limit == pytest.approx(1e-3)
    assert found.difference.max_abs == 0.5
    assert found.difference.worst.inputs == "noise"
    assert found.difference.needed_rtol == pytest.approx(1e-2)
    assert found.difference.headroom == pytest.approx(0.1)


def added(*batches, tolerance=None) -> Measured:
    """What comes of batches of (reference, candidate)."""
    accumulator = Accumulator(tolerance or Tolerance(1e-3))
    for number, (a, b) in enumerate(batches):
        accumulator.add(np.array(a), np.array(b), "noise", number)
    return accumulator.result()


def test_the_numbers_of_a_failure_are_those_of_the_batch_that_decided():
    """Where the largest difference is another's, that is said."""
    inside, above = ([1000.0], [1000.5]), ([1.0], [1.01])
    why = "max|a-b| is 0.01 at [0] in batch {}, where 0.001 is allowed"
    assert added(inside, above).reason == (
        why.format("1 (noise)") + "; elsewhere max|a-b| is up to 0.5"
    )
    assert added(above).reason == why.format("0 (noise)")
    # Of two that nothing is allowed, the worse one decides.
    found = added(([0.0], [0.5]), ([0.0], [2.0]), ([0.0], [1.0]))
    assert found.reason == "max|a-b| is 2 at [0] in batch 1 (noise), where 0 is allowed"
    assert (found.limit, found.difference.max_abs) == (0, 2)
    # Nor is the limit that of another batch where NaN decided.
    nan = "it is NaN where the reference is a number at [1] in batch 1 (noise)"
    found = added(above, ([10.0, 1.0], [10.0, np.nan]))
    assert found.reason == f"{nan}; elsewhere max|a-b| is up to 0.01"
    assert found.limit == pytest.approx(1e-2)
    found = added(([1], [2]), ([1], [9]))
    assert found.reason == (
        "1 of 1 values differ, the most at [0] in batch 0 (noise); elsewhere max|a-b| is up to 8"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("other", [np.nan, np.inf, -np.inf, 1.0])
def test_special_values_have_to_stand_in_the_same_places(value, other):
    a = np.array([[0.0, value, 2.0]], np.float32)
    b = np.array([[0.0, other, 2.0]], np.float32)
    for x, y in ((a, b), (b, a)):
        found = measured(x, y, Tolerance(1.0, 1e30))
        if str(value) == str(other):
            assert found.status is Status.PASS
        else:
            assert found.status is Status.FAIL
            assert "at [0, 1] in batch 0 (noise)" in found.reason
            assert found.difference.worst.index == (0, 1)
            assert found.difference.needed_rtol == math.inf
            assert found.difference.headroom == 0.0


def test_a_special_value_is_found_beyond_the_first_chunk():
    a = np.ones(200_001, np.float32)
    b = a.copy()
    b[150_000] = np.nan
    b[150_001] = 1.5
    found = measured(a, b)
    assert found.reason == (
        "it is NaN where the reference is a number at [150000] in batch 0 (noise)"
    )
    assert found.difference.max_abs == 0.5


def test_a_worst_place_after_special_values_is_where_it_is():
    a = np.arange(10, dtype=np.float32)
    a[:3] = np.inf
    b = a.copy()
    b[7] += 1
    assert measured(a, b).difference.worst.index == (7,)


def test_an_imaginary_part_that_is_nan_is_out_of_place():
    a = np.array([1 + 1j, 2], np.complex64)
    b = np.array([1 + 1j, complex(2, math.nan)], np.complex64)
    assert "NaN where the reference is a number at [1]" in measured(a, b).reason
    assert measured(b, b).status is Status.PASS


def test_complex_values_differ_by_the_length_of_their_difference():
    found = difference(np.array([3 + 4j]), np.array([0j]))
    assert (found.max_abs, found.largest, found.max_rel, found.cosine) == (5.0, 5.0, 1.0, 0.0)
    assert found.worst.reference == "(3+4j)"


def test_complex_values_longer_than_a_double_can_say_have_a_limit():
    a = np.array([complex(1.7e308, 1.7e308), 1])
    assert measured(a, a).status is Status.PASS
    found = measured(a, np.array([complex(1.7e308, 0.9e308), 1]))
    assert found.status is Status.FAIL
    assert found.limit == pytest.approx(np.finfo(np.float64).max * 1e-5)


def test_a_zero_reference_allows_only_the_absolute_tolerance():
    a, b = np.zeros(3), np.array([0, 1e-7, 0])
    found = measured(a, b)
    assert found.status is Status.FAIL
    assert found.difference.needed_rtol == math.inf
    assert found.difference.max_rel == 0.0
    assert found.difference.histogram == {"equal": 2, "inf": 1}
    assert measured(a, b, Tolerance(0.0, 1e-6)).status is Status.PASS


def test_a_difference_that_overflows_is_infinite():
    largest = np.finfo(np.float64).max
    found = measured(np.array([largest]), np.array([-largest]))
    assert found.status is Status.FAIL
    assert found.difference.max_abs == math.inf
    assert found.difference.cosine == -1.0


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), "its shape is [3, 2] instead of [2, 3]"),
        (np.zeros(()), np.zeros((1,)), "its shape is [1] instead of []"),
        (np.zeros(2, np.float32), np.zeros(2), "its dtype is float64 instead of float32"),
        (np.array([b"a"], object), np.zeros(1), "its dtype is float64 instead of string"),
        (np.zeros(2, QINT8), np.zeros(2, np.int8), "its dtype is int8 instead of qint8"),
        (np.zeros(0), np.zeros((0, 2)), "its shape is [0, 2] instead of [0]"),
        ({"values": np.zeros(1)}, np.zeros(1), "it is dense instead of sparse or ragged"),
        (np.zeros(1), {"values": np.zeros(1)}, "it is sparse or ragged instead of dense"),
    ],
)
def test_what_is_not_alike_fails_whatever_the_tolerance(a, b, reason):
    found = measured(a, b, Tolerance(1e9, 1e9))
    assert (found.status, found.reason) == (Status.FAIL, f"{reason} in batch 0 (noise)")
    assert found.difference is None


def test_values_that_no_inputs_led_to_are_in_no_batch():
    for a, b in ((np.ones(3), np.zeros(3)), (np.ones(3), np.ones(2))):
        accumulator = Accumulator(Tolerance(1e-5))
        accumulator.add(a, b, "", 0)
        found = accumulator.result()
        assert found.status is Status.FAIL
        assert "batch" not in found.reason
        worst = found.difference.worst if found.difference else None
        assert worst is None or worst.place == "[0]"


def test_a_mismatch_in_a_later_batch_fails_what_passed_before():
    accumulator = Accumulator(Tolerance(1e-5))
    accumulator.add(np.ones(2), np.ones(2), "noise", 0)
    accumulator.add(np.ones(2), np.ones(3), "noise", 1)
    found = accumulator.result()
    assert found.status is Status.FAIL
    assert found.difference.needed_rtol == math.inf


@pytest.mark.parametrize(
    "dtype", [np.int8, np.int64, np.uint64, np.uint8, np.bool_, QINT8, [("quint16", "u2")]]
)
def test_integers_have_to_be_equal(dtype):
    a = np.array([[0, 1, 1]], dtype)
    b = np.array([[0, 1, 0]], dtype)
    assert measured(a, a).status is Status.PASS
    found = measured(a, b, Tolerance(10.0, 10.0))
    assert found.status is Status.FAIL
    assert found.reason == "1 of 3 values differ, the most at [0, 2] in batch 0 (noise)"
    assert found.difference.max_abs == 1.0
    assert (found.difference.worst.reference, found.difference.worst.candidate) == (1, 0)


def test_integers_beyond_a_double_are_told_apart():
    a, b = np.array([2**63 - 1, -(2**63)]), np.array([2**63 - 2, 2**63 - 1])
    found = measured(a, b)
    assert found.status is Status.FAIL
    assert found.difference.max_ulp == 2**64 - 1
    assert measured(a[:1], b[:1]).status is Status.FAIL


@pytest.mark.parametrize("kind", [object, "S", "U"])
def test_strings_have_to_be_equal(kind):
    a, b = np.array(["ab", "c", ""], kind), np.array(["ab", "d", "e"], kind)
    assert measured(a, a).status is Status.PASS
    found = measured(a, b)
    assert found.reason == "2 of 3 values differ, the most at [1] in batch 0 (noise)"
    assert (found.difference.worst.reference, found.difference.worst.candidate) == ("c", "d")


def test_sparse_tensors_are_compared_part_by_part():
    a = {"indices": np.array([[0, 1]]), "values": np.ones(1), "dense_shape": np.array([2, 2])}
    assert measured(a, dict(a)).status is Status.PASS
    moved = {**a, "indices": np.array([[0, 0]])}
    assert "of its indices" in measured(a, moved).reason
    other = {**a, "values": np.array([1.5])}
    found = measured(a, other)
    assert found.reason.startswith("max|a-b| is 0.5 at [0] of its values in batch 0")
    longer = {**a, "values": np.ones(2), "indices": np.array([[0, 0], [0, 1]])}
    assert measured(a, longer).reason.startswith("indices: its shape is [2, 2] instead of [1, 2]")
    without = {key: a[key] for key in ("indices", "values")}
    assert "its parts are" in measured(a, without).reason


def test_nothing_fed_and_nothing_returned_are_not_comparable():
    none = Accumulator(Tolerance(0)).result()
    assert (none.status, none.reason) == (Status.NOT_COMPARABLE, "no inputs were run")
    empty = measured(np.zeros((0, 3)), np.zeros((0, 3)))
    assert (empty.status, empty.reason) == (Status.NOT_COMPARABLE, "the output has no values")


# -- single numbers ---------------------------------------------------------------------------


def test_bfloat16_is_measured_in_its_own_last_place():
    a = np.array([1.0, -2.0], np.float32)
    b = np.array([1.0078125, -2.015625], np.float32)
    assert difference(a, b, dtype=tf_pb.DT_BFLOAT16).max_ulp == 1
    assert difference(a, b, dtype=tf_pb.DT_FLOAT).max_ulp == 65536
    assert max_ulp(np.float32([-0.0]), np.float32([0.0]), BFLOAT16) == 0
    smallest = to_bfloat16(np.float32([1e-40]))
    assert max_ulp(smallest, -smallest, BFLOAT16) == 2


def test_real_bfloat16_arrays_are_understood():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    a = np.array([1.0, 2.0], ml_dtypes.bfloat16)
    b = np.array([1.0, 2.015625], ml_dtypes.bfloat16)
    found = difference(a, b)
    assert (found.max_ulp, found.max_abs) == (1, 0.015625)
    assert "instead of bfloat16" in measured(a, b.astype(np.float32)).reason


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_farthest_numbers_of_a_dtype_are_that_many_apart(dtype):
    largest = np.finfo(dtype).max
    a, b = np.array([largest], dtype), np.array([-largest], dtype)
    assert max_ulp(a, b, np.dtype(dtype).name) == 2 * bits(a[0])
    assert max_ulp(np.array([-0.0], dtype), np.array([0.0], dtype), "") == 0


def test_the_cosine_is_the_smallest_of_all_batches():
    accumulator = Accumulator(Tolerance(1.0))
    accumulator.add(np.array([1.0, 0.0]), np.array([1.0, 0.0]), "noise", 0)
    accumulator.add(np.array([1.0, 0.0]), np.array([1.0, 1.0]), "noise", 1)
    accumulator.add(np.array([1e-200, 0.0]), np.array([1e-200, 1e-201]), "noise", 2)
    assert accumulator.result().difference.cosine == pytest.approx(math.sqrt(0.5))


def test_top_classes_are_compared_with_ties_in_order():
    a = np.array([[0, 3, 2, 1, 0, 0, 0], [5, 5, 1, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6, 7]], np.float32)
    b = a.copy()
    b[1, 1] = 6
    b[2, 1] = 4.5
    found = difference(a, b, classification=True)
    assert found.top1 == pytest.approx(2 / 3)
    assert found.top5 == pytest.approx(2 / 3)
    assert difference(a, b).top1 is None
    assert difference(a[:, :5], b[:, :5], classification=True).top5 is None
    assert difference(a[0], b[0], classification=True).top1 is None
    # Both have classes 0 and 4 as further zeros, or 0 and 3: the classes above them count first.
    one, other = np.float32([[0, 3, 2, 1, 0, 0, 0]]), np.float32([[0, 3, 2, 0, 0, 0, 1]])
    assert difference(one, other, classification=True).top5 == 0.0
    nan = a.copy()
    nan[0, 0] = np.nan
    assert difference(nan, nan, classification=True).top1 == 1.0


def test_the_histogram_counts_by_decade_of_the_largest_value():
    a = np.array([100.0, 1.0, 1.0, 1.0])
    b = a + np.array([0.0, 2e-4, 3e-5, 4e-5])
    assert difference(a, b).histogram == {"equal": 1, "-6": 1, "-7": 2}


def test_the_plane_counts_each_pair_of_magnitudes():
    a = np.array([1.5, 1.5, 100.0, 3.0])
    b = a + np.array([2e-6, 2e-6, 1e-3, 0.0])
    cells = difference(a, b).magnitudes
    assert sum(count for *_, count in cells) == 3
    for x, y, count in cells:
        near = [(1.5, 2e-6, 2), (100.0, 1e-3, 1)]
        assert any(
            abs(x - math.log10(p)) < 0.31 and abs(y - math.log10(q)) < 0.31 and count == n
            for p, q, n in near
        )


def test_a_bin_is_no_wider_than_a_32nd_of_a_decade():
    edges = [math.ldexp(1 + part / 16, power) for power in range(-3, 3) for part in range(16)]
    assert all(y / x < BIN for x, y in pairwise(edges))
    indices = bins(np.array(edges)).tolist()
    assert indices == list(range(indices[0], indices[0] + len(edges)))
    magnitudes = Magnitudes()
    magnitudes.add(bins(np.array([1e300, math.inf, 0.0])))
    assert [magnitudes.quantile(share) for share in (0.1, 1.0)] == [0.0, math.inf]


def test_a_large_output_takes_little_memory_beside_it():
    a = np.ones((4, 500, 500), np.float32)
    accumulator = Accumulator(Tolerance(1e-5))
    tracemalloc.start()
    try:
        accumulator.add(a, a, "noise", 0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < a.nbytes


def test_memory_stays_the_same_over_many_batches():
    rng = np.random.default_rng(0)
    accumulator = Accumulator(Tolerance(1e-5), classification=True)
    a = rng.standard_normal((4, 1000)).astype(np.float32)
    b = (a * (1 + 1e-6)).astype(np.float32)
    accumulator.add(a, b, "noise", 0)
    tracemalloc.start()
    try:
        accumulator.add(a, b, "noise", 1)
        before = tracemalloc.get_traced_memory()[0]
        for batch in range(2, 200):
            accumulator.add(a, b, "noise", batch)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 50_000
    assert peak - before < 5_000_000
    assert accumulator.result().difference.values == 200 * a.size


# -- what is the same -----------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(two_arrays(), st.booleans())
def test_one_array_on_both_sides_gives_the_numbers_of_two_equal_ones(both, read_only):
    found = []
    for second in (lambda a: a, np.copy):
        accumulator = Accumulator(Tolerance(1e-5))
        for number, array in enumerate(both):
            first = np.array(array)
            first.flags.writeable = not read_only
            # Twice: the second time, facts of what can't change are known.
            for batch in (2 * number, 2 * number + 1):
                accumulator.add(first, second(first), "noise", batch)
        found.append(accumulator.result())
    assert repr(found[0]) == repr(found[1])


def test_an_array_that_changes_is_looked_at_again():
    array = np.ones(3, np.float32)
    accumulator = Accumulator(Tolerance(1e-5))
    for batch, largest in enumerate((1, 7)):
        array[0] = largest
        accumulator.add(array, array, "noise", batch)
        assert accumulator.result().difference.largest == largest


def test_nothing_is_remembered_of_arrays_that_are_gone():
    for _ in range(3):
        array = np.ones(1000, np.float32)
        array.flags.writeable = False
        assert look(array) == Looked(1.0, 1000)
    before = len(equal._seen)
    del array
    assert len(equal._seen) == before - 1


# -- how a batch breaks the rule ------------------------------------------------------------------


def test_each_batch_tells_how_it_breaks_the_rule():
    one, nan = np.float32([1, 2]), np.float32([1, np.nan])
    accumulator = Accumulator(Tolerance(0.1))
    assert accumulator.add(one, one + np.float32(0.125), "noise", 0) is None
    assert accumulator.add(one, one + 1, "noise", 1) == Breach(BreachKind.FAR, 1.0, 0.2)
    assert accumulator.add(one, one, "noise", 2) is None
    assert accumulator.add(one, nan, "noise", 3).kind is BreachKind.MISPLACED
    assert accumulator.add(one, one[:1], "noise", 4).kind is BreachKind.FORM
    whole = np.array([1, 2])
    assert accumulator.add(whole, whole + 1, "noise", 5).kind is BreachKind.UNEQUAL
    parts = {"indices": whole, "values": one}
    worse = {"indices": whole + 1, "values": one + 1}
    assert accumulator.add(parts, worse, "noise", 6).kind is BreachKind.UNEQUAL


# -- photos ---------------------------------------------------------------------------------------


def test_the_photos_that_differ_most_come_with_their_best_classes():
    a = np.float32([[0, 3, 1], [2, 0, 1], [0, 0, 9], [1, 2, 3], [5, 1, 1], [1, 7, 1]])
    b = a.copy()
    for row, (column, change) in enumerate([(2, 4), (0, 0), (2, -1), (0, 5), (0, 0.5), (0, 0.25)]):
        b[row, column] += np.float32(change)
    accumulator = Accumulator(Tolerance(1e-5), classification=True)
    accumulator.add(a, b, "photos", 7, photos=6)
    accumulator.add(a[:1], a[:1] + 2, "photos", 8, photos=1)
    accumulator.add(a, b + 100, "noise", 0)
    assert accumulator.result().difference.photos == (
        PhotoRow(7, 3, 5.0, (2, 0)),
        PhotoRow(7, 0, 4.0, (1, 2)),
        PhotoRow(8, 0, 2.0, (1, 1)),
        PhotoRow(7, 2, 1.0, (2, 2)),
    )


def test_nan_out_of_place_is_the_farthest_a_photo_can_be_off():
    a = np.float32([[1, 2], [3, 4], [np.nan, 1]])
    b = np.float32([[1, 9], [np.nan, 4], [np.nan, 2]])
    accumulator = Accumulator(Tolerance(1e-5))
    accumulator.add(a, b, "photos", 0, photos=3)
    found = accumulator.result().difference.photos
    assert found == (PhotoRow(0, 1, math.inf), PhotoRow(0, 0, 7.0), PhotoRow(0, 2, 1.0))


def test_outputs_whose_rows_are_no_photos_have_none():
    a = np.ones((2, 3), np.float32)
    accumulator = Accumulator(Tolerance(1e-5))
    accumulator.add(a, a + 1, "photos", 0, photos=3)
    accumulator.add(np.float32(1), np.float32(2), "photos", 1, photos=1)
    accumulator.add(np.array([b"a"]), np.array([b"b"]), "photos", 2, photos=1)
    assert accumulator.result().difference.photos == ()


def test_photos_of_a_quantized_output_are_told_by_its_integers():
    a = np.array([[1, 2], [3, 4]], np.int8).view(QINT8)
    b = np.array([[1, 2], [3, -3]], np.int8).view(QINT8)
    accumulator = Accumulator(Tolerance(1e-5))
    accumulator.add(a, b, "photos", 0, photos=2)
    assert accumulator.result().difference.photos == (PhotoRow(0, 1, 7.0),)
