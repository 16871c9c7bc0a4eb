"""The processes of a run, each with a thread that waits for it, so that they work side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from bridge._parity.lanes import GPU
from bridge._parity.results import Runtime
from bridge._parity.runners.process import RunnerProcess
from bridge._parity.runners.protocol import (
    Lane,
    NoGpuError,
    RunnerError,
    TrainResult,
    Value,
    Values,
)
from bridge._parity.runners.segments import Results
from bridge._surfaces.surface import Call

T = TypeVar("T")


class Crew:
    """Runs each lane in a process of its own; use it as a context manager.

    What comes of a request is its result, or the failure of the runner.
    """

    def __init__(
        self,
        lanes: Iterable[Lane],
        time_limit: float,
        work: Path,
        variables: Mapping[str, Mapping[int, str]],
    ):
        """Starts all processes.

        Args:
          lanes: what to run.
          time_limit: seconds that one request may take.
          work: directory for files that pass between the processes.
          variables: of each side, the names of a SavedModel's variables by number of their object.
        """
        self.lanes = tuple(lanes)
        self.seconds: dict[str, float] = {}
        self._runners = {
            lane: RunnerProcess(
                lane, time_limit, work / f"lane{number}", variables=variables[lane.side]
            )
            for number, lane in enumerate(self.lanes)
        }
        # One thread a process: requests to one process wait for each other.
        self._threads = {lane: ThreadPoolExecutor(1) for lane in self.lanes}
        self._hello = {lane: self._submit(lane, self._runners[lane].runtime) for lane in self.lanes}

    def described(self, lane: Lane) -> Runtime | None:
        """Says what runs a lane; None where it can't run, as every request to it will say."""
        found = self._hello[lane].result()
        return None if isinstance(found, RunnerError) else found

    def described_at_last(self, lane: Lane) -> Runtime | None:
        """Says what ran a lane, and what it turned out to do, after all requests."""
        found = self._submit(lane, self._runners[lane].runtime).result()
        return None if isinstance(found, RunnerError) else found

    def name(self, lane: Lane) -> str:
        """The name by which comparisons speak of what runs a lane."""
        self._hello[lane].result()
        # What has no GPU, or can't load the model, may have said before what it is.
        return self._runners[lane].name or f"TensorFlow of {lane.python}"

    def without_gpu(self) -> set[Lane]:
        """The lanes that need a GPU and have none."""
        return {
            lane
            for lane in self.lanes
            if lane.device == GPU and isinstance(self._hello[lane].result(), NoGpuError)
        }

    def run(
        self,
        lane: Lane,
        call: Call,
        inputs: Values,
        known: Future[Results | RunnerError] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> Future[Results | RunnerError]:
        """Lets a lane compute a signature.

        Args:
          lane: what computes it.
          call: the signature.
          inputs: what it is fed.
          known: a request that was made before; the lane waits for it, and outputs that are the
            same as its become the same objects.
          names: by names of outputs, those of `known` that they may be the same as.
        """

        def run() -> Results | RunnerError:
            found = known.result() if known is not None else None
            other = found if isinstance(found, Results) else None
            return self._timed(lane, lambda: self._runners[lane].run(call, inputs, other, names))

        return self._threads[lane].submit(run)

    def train(
        self, lane: Lane, call: Call, inputs: Values, steps: Sequence[int], rate: float
    ) -> Future[TrainResult | RunnerError]:
        """Lets a lane train."""
        return self._submit(lane, lambda: self._runners[lane].train(call, inputs, steps, rate))

    def losses(self, lane: Lane, call: Call) -> Future[list[float] | RunnerError]:
        """Lets a lane compute the regularization losses of what a call belongs to."""
        return self._submit(lane, lambda: self._runners[lane].losses(call))

    def loss_gradients(self, lane: Lane, call: Call) -> Future[dict[str, Value] | RunnerError]:
        """Lets a lane compute the gradients of the sum of those losses."""
        return self._submit(lane, lambda: self._runners[lane].loss_gradients(call))

    def _submit(self, lane: Lane, work: Callable[[], T]) -> Future[T | RunnerError]:
        return self._threads[lane].submit(self._timed, lane, work)

    def _timed(self, lane: Lane, work: Callable[[], T]) -> T | RunnerError:
        start = time.monotonic()
        try:
            return work()
        except RunnerError as error:
            # The frames that it came through hold the outputs of other lanes.
            return error.with_traceback(None)
        finally:
            spent = time.monotonic() - start
            self.seconds[lane.side] = self.seconds.get(lane.side, 0.0) + spent

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Killing a process ends the request that its thread waits for.
        for runner in self._runners.values():
            runner.close()
        for threads in self._threads.values():
            threads.shutdown(cancel_futures=True)
