"""How a parity run talks with the processes that run the models.

A worker is a script that a Python with TensorFlow runs, bridge/_parity/runners/worker.py. It reads
requests from stdin and writes replies to a private copy of stdout, one JSON object a line. Arrays
travel in files whose paths stand in the request, as worker_values.py says. A request that fails is
answered with `{"error": sentence}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bridge._parity.results import Runtime
from bridge._surfaces.surface import Call

Value = Any
"""A numpy array, or a mapping from component name to array for a sparse or ragged tensor.

The components are `indices`, `values` and `dense_shape`; or `values` (flat), `row_splits_0`,
`row_splits_1` and so on, the outermost splits first. Strings are arrays of `bytes` objects.
"""

Values = Mapping[str, Value]


class RunnerError(Exception):
    """A runner that failed: what happened, as one sentence. It becomes a named failure.

    Attributes:
      fatal: whether its process crashed, hung or can't run anything, so that nothing can be said of
        the model; otherwise the model refused what it was given.
    """

    def __init__(self, message: str, *, fatal: bool = False):
        super().__init__(message)
        self.fatal = fatal


class NoGpuError(RunnerError):
    """A lane on a GPU whose process sees none."""


@dataclass(frozen=True)
class Lane:
    """One model in one runtime on one device.

    Attributes:
      side: `reference` or `candidate`.
      model: directory of the model.
      format: HUB_MODULE or SAVED_MODEL.
      runtime: `tf2` (today's TensorFlow: tf.saved_model.load, and for a module the v1 session) or
        `tf1` (a real TensorFlow 1.x with its hub.Module).
      python: the interpreter to run.
      device: `cpu`, `gpu`, or for tests a logical CPU device such as `cpu:1`.
      threads: intra-op threads; 0 leaves it to TensorFlow.
      tf32: whether a GPU may round to TensorFloat-32.
      seed: for TensorFlow's own random ops.
    """

    side: str
    model: Path
    format: str
    runtime: str
    python: Path
    device: str = "cpu"
    threads: int = 0
    tf32: bool = False
    seed: int = 0


@dataclass(frozen=True)
class TrainResult:
    """What some steps of training did.

    Attributes:
      gradients: of the fixed projection of the outputs, before the first step, by variable name.
      variables: by number of steps, the values of all variables after them.
    """

    gradients: Mapping[str, Value]
    variables: Mapping[int, Mapping[str, Value]] = field(default_factory=dict)


class Runner(Protocol):
    """Runs one model; every method raises RunnerError where the process fails or takes too long."""

    def runtime(self) -> Runtime:
        """Says what it is; starts the process and loads the model if that was not done.

        Raises:
          NoGpuError: the lane is on a GPU and there is none.
        """
        ...

    def run(self, call: Call, inputs: Values) -> dict[str, Value]:
        """Computes a signature; returns its outputs by name."""
        ...

    def train(self, call: Call, inputs: Values, steps: Sequence[int], rate: float) -> TrainResult:
        """Takes gradients and some steps of gradient descent, on fresh variables.

        The loss is the sum over the outputs of mean(output · projection), where the projection is
        `cos(0.37 · k + 1)` for the k-th value of the output in row-major order; a complex output
        is an array of pairs there, its real and its imaginary part. A step runs forward pass and
        update ops, then subtracts `rate` · gradient.

        Args:
          call: what to differentiate.
          inputs: what to feed it.
          steps: after which steps to return the variables, such as (1, 3).
          rate: of gradient descent.
        """
        ...

    def losses(self, call: Call) -> list[float]:
        """Returns the regularization losses of what a call belongs to.

        They are those of the variant, or of the object.
        """
        ...

    def loss_gradients(self, call: Call) -> dict[str, Value]:
        """Returns the gradients of the sum of those losses, by variable name.

        They are taken by all variables, trainable or not, where `1.5 + cos(0.37 · k + 1)` has been
        added to the k-th value of each in row-major order. A variable that no loss is made of has
        none, or zeros.
        """
        ...

    def close(self) -> None:
        """Ends the process."""
        ...
