"""The rule: when an output agrees with its reference.

An output passes when NaN, +Inf and -Inf stand in the same places on both sides and, everywhere
else, max|a - b| ≤ atol + rtol · max|a|, where a is the reference, and the maxima go over all values
of the output in one batch of inputs. Integers, booleans and strings must be equal.
"""

from __future__ import annotations

from dataclasses import dataclass

SAME_RUNTIME_RTOL = 1e-5
"""Default `rtol` on one device, in one release of TensorFlow."""

ACROSS_RTOL = 1e-4
"""Default `rtol` across devices or releases, which sum in another order."""

RULE = (
    "an output passes when NaN and Inf stand in the same places on both sides and, elsewhere, "
    "max|a-b| ≤ atol + rtol · max|a|, a being the reference; integers, booleans and strings must "
    "be equal"
)


@dataclass(frozen=True)
class Tolerance:
    """How far an output may be from its reference.

    Attributes:
      rtol: allowed part of the reference's largest absolute value.
      atol: what is allowed whatever that value is.
    """

    rtol: float
    atol: float = 0.0

    def limit(self, largest: float) -> float:
        """The allowed absolute difference where the reference's largest value is `largest`."""
        return self.atol + self.rtol * largest
