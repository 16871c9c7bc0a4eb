"""Runs models for `bridge._parity.runners.process`, until stdin closes.

A script for any Python from 3.7 on, beside TensorFlow 2 or TensorFlow 1.15 and tensorflow-hub. The
lane, as JSON, is its argument. A request is one line of JSON on stdin, its reply one line on
stdout; arrays travel in files as worker_values.py says. A request that fails is answered with
`{"error": sentence}`, and the worker lives on.
"""

from __future__ import annotations

import functools
import json
import os
import re
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from worker_saved_model import SavedModel
from worker_session import HubModule, PlainGraph, SessionModel
from worker_setup import TF1, NoGpuError, Setup, SetupError
from worker_values import length, read_values, writable, write_values

LONGEST = 600
"""So many characters of an error are passed on."""

NOISE = re.compile(
    r"Graph execution error:|\(most recent call last\):|<stack traces unavailable>"
    r"|Detected at node \S+ defined at|\[\[\{\{.*?\}\}\]\]|\[Op:\w+\]|\d+ successful operations\."
    r"|\d+ derived errors ignored\."
)
"""What TensorFlow puts around the sentence that says what is wrong."""


class Worker:
    """Answers the requests of one runner."""

    def __init__(self, lane: Mapping[str, Any]):
        self._lane = lane
        self._setup: Setup | None = None
        self._facts: dict[str, Any] = {}
        self._sessions: dict[Any, SessionModel] = {}
        self._saved_model: SavedModel | None = None

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the reply to a request."""
        operation = {
            "hello": self._hello,
            "load": self._load,
            "run": self._run,
            "train": self._train,
            "losses": self._losses,
            "loss_gradients": self._loss_gradients,
        }[request["op"]]
        try:
            return operation(request)
        except SetupError as error:
            return {"error": str(error), "fatal": True, "no_gpu": isinstance(error, NoGpuError)}
        except Exception as error:
            traceback.print_exc()
            return {
                "error": sentence(error),
                # It says nothing of the inputs, as what a model refuses does.
                "fatal": isinstance(error, (MemoryError, OSError)) or _is_exhausted(error),
                # Some ops refuse to run where TensorFlow is told to be deterministic.
                "nondeterministic": "determinis" in str(error).lower(),
            }

    def _hello(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """Imports TensorFlow; says what it is."""
        self._setup = Setup(self._lane)
        self._facts = self._setup.facts()
        return self._facts

    def _load(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """Loads a SavedModel; of a module, variants are loaded as they are asked for."""
        assert self._setup is not None
        if self._setup.device not in self._facts["devices"]:
            raise (
                NoGpuError("no GPU is visible")
                if self._lane["device"] == "gpu"
                else SetupError(f"there is no {self._setup.device}")
            )
        if self._lane["format"] != "TF1 Hub module" and self._saved_model is None:
            if self._lane["runtime"] == TF1:
                raise SetupError("TensorFlow 1 runs TF1 Hub modules only")
            self._saved_model = SavedModel(self._setup)
        return {}

    def _run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        call, values = request["call"], self._values(request)
        if self._saved_model is not None:
            outputs = self._saved_model.run(call, values)
            placed = dict(self._saved_model.placed)
        else:
            outputs = self._session(call, training=False).run(call["name"], values)
            outputs = {name: outputs[name] for name in call["outputs"]}
            placed = dict(sum((s.placed for s in self._sessions.values()), Counter()))
        written = write_values(_outputs(request), outputs, request["known"])
        return {"outputs": written, "placed": placed}

    def _train(self, request: Mapping[str, Any]) -> dict[str, Any]:
        call: dict[str, Any] = request["call"]
        rest = self._values(request), request["steps"], request["rate"]
        names: dict[str, str] = {}
        if self._saved_model is not None:
            gradients, after = self._saved_model.train(call, *rest)
            names = self._saved_model.names
        else:
            session = self._session(call, training=True)
            gradients, after = session.train(call, *rest)
        # By number of steps; what stands at none are the gradients.
        found = {f"0 {name}": value for name, value in gradients.items()}
        for step, variables in after.items():
            found.update({f"{step} {name}": value for name, value in variables.items()})
        outputs = write_values(_outputs(request), found)
        return {"outputs": outputs, "names": names}

    def _losses(self, request: Mapping[str, Any]) -> dict[str, Any]:
        call: dict[str, Any] = request["call"]
        if self._saved_model is not None:
            losses = self._saved_model.losses(call)
        else:
            losses = self._with_losses(call).loss_values()
        found = {str(number): np.asarray(loss) for number, loss in enumerate(losses)}
        return {"outputs": write_values(_outputs(request), found)}

    def _loss_gradients(self, request: Mapping[str, Any]) -> dict[str, Any]:
        call: dict[str, Any] = request["call"]
        names: dict[str, str] = {}
        if self._saved_model is not None:
            found = self._saved_model.loss_gradients(call)
            names = self._saved_model.names
        else:
            found = self._with_losses(call).loss_gradients()
        return {"outputs": write_values(_outputs(request), found), "names": names}

    def _with_losses(self, call: Mapping[str, Any]) -> SessionModel:
        """Returns a session that has regularization losses: HubModule's only where it trains."""
        return self._session(call, training=self._lane["runtime"] == TF1)

    def _session(self, call: Mapping[str, Any], *, training: bool) -> SessionModel:
        assert self._setup is not None
        key = (frozenset(call["tags"]), training)
        if key not in self._sessions:
            kind = HubModule if self._lane["runtime"] == TF1 else PlainGraph
            self._sessions[key] = kind(self._setup, call["tags"], training=training)
        return self._sessions[key]

    def _values(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._setup is not None
        dtypes = {"bfloat16": self._setup.tf.bfloat16.as_numpy_dtype}
        # A copy, for TensorFlow may keep an array that it is fed, and the file is written again.
        data = np.fromfile(request["inputs_file"], np.uint8, length(request["inputs"]))
        values: dict[str, Any] = read_values(data, request["inputs"], dtypes)
        return values


def _outputs(request: Mapping[str, Any]) -> Callable[[int], Any]:
    """Where the outputs go."""
    return functools.partial(writable, request["outputs_file"])


def _is_exhausted(error: BaseException) -> bool:
    return type(error).__name__ == "ResourceExhaustedError"


def sentence(error: BaseException) -> str:
    """Returns what an error says, on one line and without TensorFlow's decoration."""
    text = " ".join(NOISE.sub(" ", str(getattr(error, "message", error))).split())
    text = f"{type(error).__name__}: {text}".rstrip(" :.")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def main(kind: type[Worker] = Worker) -> None:
    """Answers requests."""
    # Replies go to a private copy of stdout, so that nothing TensorFlow prints comes between them.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    worker = kind(json.loads(sys.argv[1]))
    for line in sys.stdin:
        replies.write(json.dumps(worker.answer(json.loads(line))) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
