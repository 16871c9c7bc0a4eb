"""A runner in a process of its own: fresh memory, a time limit, a crash becomes a named failure."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bridge._parity.results import Runtime
from bridge._parity.runners.fork_server import fork_server
from bridge._parity.runners.protocol import (
    Lane,
    NoGpuError,
    RunnerError,
    TrainResult,
    Value,
    Values,
)
from bridge._parity.runners.segments import Results, Segment, Segments
from bridge._parity.runners.subprocesses import (
    Process,
    end,
    ending,
    environment,
    exchange,
    last_words,
)
from bridge._parity.runners.worker_values import (
    TransportError,
    length,
    read_values,
    write_values,
)
from bridge._surfaces.surface import HUB_MODULE, Call
from bridge.model import format_tags

WORKER = Path(__file__).with_name("worker.py")


class RunnerProcess:
    """Runs one model in a process, which starts with the first request.

    Each request may take `time_limit` seconds; then the process and its children are killed. What
    crashed or hung once is not tried again, other requests start a new process. Runners may be used
    from several threads; the requests to one of them wait for each other, and `close` ends the one
    that is under way.
    """

    def __init__(
        self,
        lane: Lane,
        time_limit: float,
        work: Path,
        *,
        variables: Mapping[int, str] | None = None,
        script: Path = WORKER,
    ):
        """Creates the runner.

        Args:
          lane: what to run.
          time_limit: seconds that one request may take.
          work: directory of its own for files that pass between the processes; it is made.
          variables: names of a SavedModel's variables by the number of their object. What is not in
            it goes by its own name.
          script: what the interpreter runs; tests put another in the worker's place.
        """
        self._lane = lane
        self._time_limit = time_limit
        self._work = work
        self._names = dict(variables or {})
        self._script = script
        self._segments = Segments(work)
        self._lock = threading.RLock()
        self._process: Process | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None
        self._facts: dict[str, Any] = {}
        self._is_loaded = self._was_loaded = self._closed = False
        self._nondeterministic = ""
        self._placed: dict[str, int] = {}
        self._broken: dict[str, RunnerError] = {}

    # -- what a Runner does -----------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What it calls itself, such as `TF 1.15.5 hub.Module`; empty until it has said it."""
        return f"TF {self._facts['tensorflow']} {_way(self._lane)}" if self._facts else ""

    def runtime(self) -> Runtime:
        """Says what it is; starts the process and loads the model if that was not done.

        After some requests it also says, as `ran_on`, how many nodes each device ran (of a
        SavedModel: on which devices outputs lay), and as `determinism` whether something refused
        to run deterministically.

        Raises:
          NoGpuError: the lane is on a GPU and there is none.
        """
        with self._lock:
            if not self._was_loaded:
                self._load()
            lane, facts = self._lane, self._facts
            settings = dict(facts["settings"])
            if self._nondeterministic:
                settings["determinism"] = f"off: {self._nondeterministic}"
            if self._placed:
                places = sorted(self._placed.items())
                settings["ran_on"] = ", ".join(f"{name} ({count})" for name, count in places)
            return Runtime(
                name=self.name,
                side=lane.side,
                device=lane.device,
                tensorflow=facts["tensorflow"],
                tensorflow_hub=facts["tensorflow_hub"],
                python=facts["python"],
                devices=tuple(facts["devices"]),
                settings=settings,
            )

    def run(
        self,
        call: Call,
        inputs: Values,
        known: Results | None = None,
        names: Mapping[str, str] | None = None,
    ) -> Results:
        """Computes a signature; returns its outputs by name.

        Whatever a call changes in the model is undone after it.

        Args:
          call: what to compute.
          inputs: what to feed it.
          known: what another runner returned. An output that is the same as one of these bit for
            bit is not passed on: it becomes the same object.
          names: by names of outputs, those of `known` that they may be the same as.
        """
        names = names or {}
        header = known.header if known is not None else {}
        same = {name: header[other] for name, other in names.items() if other in header}
        asked = {"file": known.path, "header": same} if known is not None and same else None
        with self._lock:
            doing = f"running {_named(call)}"
            reply, outputs = self._compute("run", doing, call, inputs, known=asked)
            self._placed = reply["placed"]
            for name, parts in reply["outputs"].items():
                if parts is None and known is not None:
                    outputs[name] = known[names[name]]
            return outputs

    def train(self, call: Call, inputs: Values, steps: Sequence[int], rate: float) -> TrainResult:
        """Takes gradients and some steps of gradient descent, on fresh variables.

        The loss is the sum over the outputs of mean(output · projection), where the projection is
        `cos(0.37 · k + 1)` for the k-th value of the output in row-major order; of a sparse or
        ragged output, those are the values that are stored. A complex output counts as an array of
        pairs, its real and its imaginary part; outputs that are neither don't count. Each term is
        computed in float32, or in float64 if the output, or its parts, are of that dtype.

        In a step, forward pass, gradients and update ops read the variables as they are before it;
        the update ops write; then each trainable variable that has a gradient becomes
        `variable - rate · gradient`, computed in float64 or complex128 and rounded to its dtype
        once. A session runs the forward pass again for the update ops, so ops that draw anew each
        time can't be compared.
        """
        with self._lock:
            doing = f"training {_named(call)}"
            steps = sorted(set(steps))
            reply, found = self._compute("train", doing, call, inputs, steps=steps, rate=rate)
            names = self._variable_names(reply["names"])
            variables: dict[int, dict[str, Value]] = {step: {} for step in (0, *steps)}
            for key, value in found.items():
                step, _, name = key.partition(" ")
                variables[int(step)][names.get(name, name)] = value
            return TrainResult(variables.pop(0), variables)

    def losses(self, call: Call) -> list[float]:
        """Returns the regularization losses of what a call belongs to."""
        with self._lock:
            doing = f"computing the regularization losses beside {_named(call)}"
            _, found = self._compute("losses", doing, call, {})
            return [float(found[str(number)]) for number in range(len(found))]

    def loss_gradients(self, call: Call) -> dict[str, Value]:
        """Returns the gradients of the sum of those, at variables that are moved apart."""
        with self._lock:
            doing = f"computing the gradients of regularization losses beside {_named(call)}"
            reply, found = self._compute("loss_gradients", doing, call, {})
            names = self._variable_names(reply["names"])
            return {names.get(name, name): value for name, value in found.items()}

    def close(self) -> None:
        """Ends the process."""
        self._closed = True
        self._segments.close()
        if self._process is not None:
            end(self._process)

    # -- requests ---------------------------------------------------------------------------------

    def _hello(self) -> None:
        self._facts = self._ask({"op": "hello"}, "starting")

    def _load(self) -> None:
        """Starts the process and loads the model if that was not done."""
        if self._process is None:
            self._hello()
        if not self._is_loaded:
            self._ask({"op": "load"}, "loading the model")
            self._is_loaded = self._was_loaded = True

    def _compute(
        self, op: str, doing: str, call: Call, inputs: Values, **fields: Any
    ) -> tuple[dict[str, Any], Results]:
        """Sends a request with arrays; returns the reply and the arrays in it."""
        request = {"op": op, "call": asdict(call), **fields}
        what = json.dumps([op, request["call"]])
        if what in self._broken:
            raise self._broken[what]
        self._load()
        segments: list[Segment] = []
        try:
            for key in ("outputs_file", "inputs_file"):
                segments.append(self._segments.take())
                request[key] = segments[-1].path
            request["inputs"] = write_values(segments[-1].space, inputs)
            reply = self._ask(request, doing, what)
            if reply.get("nondeterministic") and not self._nondeterministic:
                # Some ops refuse to run where TensorFlow is told to be deterministic.
                self._nondeterministic = reply["error"]
                self._discard()
                self._load()
                reply = self._ask(request, doing, what)
            if "error" in reply:
                raise RunnerError(f"{self._who()} failed while {doing}: {reply['error']}")
            header = {name: parts for name, parts in reply["outputs"].items() if parts is not None}
            data = self._segments.read(segments[0], length(header))
            segments.pop(0)  # it comes back by itself
            values = read_values(data, header, _more_dtypes())
            return reply, Results(values, request["outputs_file"], header)
        except (TransportError, OSError) as error:
            raise RunnerError(f"{self._who()} failed while {doing}: {error}") from error
        finally:
            for segment in segments:
                self._segments.give_back(segment)

    def _ask(self, request: Mapping[str, Any], doing: str, what: str = "") -> dict[str, Any]:
        """Sends a request; returns the reply.

        Args:
          request: what to send.
          doing: the same in words.
          what: what is not tried again if the process dies of it; all, if it is empty.

        Raises:
          RunnerError: the process died or took too long, or can't run anything.
        """
        if "" in self._broken:
            raise self._broken[""]
        try:
            process = self._process or self._start()
            line, late = exchange(process, json.dumps(request), self._time_limit)
        except BaseException:
            # An interrupt does not reach the process by itself.
            self._discard()
            raise
        reply = None if late else _parse(line)
        if reply is not None and not ("error" in reply and (what == "" or reply.get("fatal"))):
            return reply
        if reply is not None:
            kind = NoGpuError if reply.get("no_gpu") else RunnerError
            error = kind(f"{self._who()} failed while {doing}: {reply['error']}", fatal=True)
        else:
            error = RunnerError(f"{self._who()} {self._end_of(line, late, doing)}", fatal=True)
        self._broken[what] = error
        raise error

    def _end_of(self, line: str, late: bool, doing: str) -> str:
        """Ends a process that gave no answer; returns what came of it."""
        status = self._discard()
        if late:
            return f"took more than {self._time_limit:g} s, and was ended, while {doing}"
        if self._is_closed():
            return f"was closed while {doing}"
        how = "gave an answer that is none" if line else ending(status)
        return f"{how} while {doing}{last_words(self._stderr())}"

    # -- the process ------------------------------------------------------------------------------

    def _start(self) -> Process:
        lane = self._lane
        if self._is_closed():
            raise RunnerError(f"{self._who()} was closed", fatal=True)
        self._work.mkdir(parents=True, exist_ok=True)
        settings = {
            "model": str(lane.model.absolute()),
            "format": lane.format,
            "runtime": lane.runtime,
            "device": lane.device,
            "threads": lane.threads,
            "tf32": lane.tf32,
            "seed": lane.seed,
            "determinism": not self._nondeterministic,
        }
        environ = environment(lane)
        # A GPU's driver is better not loaded before a fork, and TensorFlow 1 starts fast.
        forks = lane.runtime == "tf2" and lane.device != "gpu" and self._script == WORKER
        try:
            server = None
            if forks:
                server = fork_server(lane.python, environ, lambda: not self._closed)
            # Appended to, so that it can be cut from outside.
            with self._stderr().open("ab") as stderr:
                self._process = None
                if server is not None:
                    with contextlib.suppress(OSError):  # then a process is started without it
                        self._process = server.start(settings, environ, stderr)
                if self._process is None:
                    self._process = subprocess.Popen(
                        [lane.python, self._script, json.dumps(settings)],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=stderr,
                        encoding="utf-8",
                        errors="replace",
                        env=environ,
                        start_new_session=True,
                    )
        except OSError as error:
            why = error.strerror or str(error)
            raise RunnerError(f"{lane.python} can't be run: {why}", fatal=True) from error
        process = self._process
        self._finalizer = weakref.finalize(self, end, process)
        if self._is_closed():  # by another thread, meanwhile
            end(process)
        return process

    def _is_closed(self) -> bool:
        return self._closed

    def _discard(self) -> int:
        """Ends the process; returns its status."""
        process, self._process, self._is_loaded = self._process, None, False
        if process is None:
            return 0
        if self._finalizer is not None:
            self._finalizer.detach()
        status = end(process)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        return status

    def _stderr(self) -> Path:
        return self._work / "stderr.txt"

    def _who(self) -> str:
        release = f"TF {self._facts['tensorflow']}" if self._facts else "TensorFlow"
        at = "" if self._facts else f" ({self._lane.python})"
        return f"the {self._lane.side}'s {release} process{at}"

    def _variable_names(self, own: Mapping[str, str]) -> dict[str, str]:
        """Returns the name of each variable of a SavedModel, by number."""
        # A copy that nothing reads, as Keras saves them, does not take a name away.
        counts = Counter([*own.values(), *self._names.values()])
        return {
            n: self._names.get(int(n)) or (name if counts[name] == 1 else f"{name}#{n}")
            for n, name in own.items()
        }


def _parse(line: str) -> dict[str, Any] | None:
    """Returns a reply; None if a line is none."""
    try:
        reply = json.loads(line)
    except ValueError:
        return None
    return reply if isinstance(reply, dict) else None


def _named(call: Call) -> str:
    if call.kind == "module":
        return f"signature {call.name!r} of variant {format_tags(call.tags)}"
    return call.label


def _way(lane: Lane) -> str:
    if lane.format != HUB_MODULE:
        return "tf.saved_model.load"
    return "hub.Module" if lane.runtime == "tf1" else "v1 session"


def _more_dtypes() -> dict[str, Any]:
    """Returns the dtypes that come with TensorFlow."""
    try:
        import ml_dtypes
    except ImportError:
        return {}
    return {"bfloat16": ml_dtypes.bfloat16}
