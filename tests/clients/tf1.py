"""Drives a real TensorFlow 1.15 with tensorflow-hub 0.12, in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).resolve().with_name("tf1_worker.py")
STDERR_TAIL = 4000

Inputs = Mapping[str, ArrayLike]
Arrays = dict[str, NDArray[Any]]


class Tf1Error(Exception):
    """The client raised, died or took too long; the text is its own traceback."""


class Loaded(NamedTuple):
    """What `Tf1Client.saved_model_v2` saw.

    Attributes:
      outputs: outputs of the signature, by name.
      variables: sorted names of all variables that the loaded object reaches.
    """

    outputs: Arrays
    variables: list[str]


class Record(NamedTuple):
    """All that testdata/golden.py records of a module; testdata/README.md says what.

    Attributes:
      arrays: what a golden .npz holds.
      facts: what a golden .json holds.
    """

    arrays: Arrays
    facts: dict[str, Any]


class Training(NamedTuple):
    """What `Tf1Client.hub_train` saw. Arrays of variables go by the variable's name in the module.

    Attributes:
      start: variables at the start.
      outputs: outputs at the start.
      gradients: of the projected outputs at the start, None for a variable that has none.
      regularization: the regularization losses at the start, in their order.
      forward: variables that computing the outputs and gradients changed: none should.
      update: variables that the update ops changed, after they ran once and nothing else did.
      losses: the loss before each step and after the last one.
      trained: sorted names of the variables that changed in all.
      updates: how many update ops there are.
    """

    start: Arrays
    outputs: Arrays
    gradients: dict[str, NDArray[Any] | None]
    regularization: NDArray[Any]
    forward: Arrays
    update: Arrays
    losses: list[float]
    trained: list[str]
    updates: int


class Fitted(NamedTuple):
    """What `Tf1Client.hub_estimator` saw.

    Attributes:
      losses: the evaluated loss after the first training step and after the last one.
      logits: what the Estimator predicts in the end, a row for each label.
    """

    losses: list[float]
    logits: NDArray[Any]


class Uses(NamedTuple):
    """What `Tf1Client.hub_client` saw.

    Attributes:
      outputs: by way (`first`, `again`: the same instance applied twice; `second`: another
        instance in the same graph; `nested`: one within variable scopes; `exported`: exported by
        `Module.export` and loaded again) the outputs by name.
      facts: `infos`, dtypes and shapes of inputs and outputs by signature; `variables`, the names
        of the variables in the graph by instance; `module_variables`, those of the module; `tags`
        and `exported_tags`, the variants of the module and of the exported one; for images
        `image_size` and `channels`.
    """

    outputs: dict[str, Arrays]
    facts: dict[str, Any]


def find_tf1_python() -> Path | None:
    """Returns $HUBBRIDGE_TF1_PYTHON, else the Python of .venv-tf1, else None."""
    if named := os.environ.get("HUBBRIDGE_TF1_PYTHON"):
        return Path(named)
    python = ROOT / ".venv-tf1" / "bin" / "python"
    return python if python.exists() else None


class Tf1Client:
    """A TensorFlow 1.15 process that answers one request after another.

    It starts with the first request, and again with the next one after it died. Arrays go by name,
    those of a sparse tensor `x` as `x|indices`, `x|values` and `x|dense_shape`, of a ragged one as
    `x|values` and `x|row_splits_0`, `x|row_splits_1` …; strings come back as arrays of bytes.
    """

    def __init__(self, python: Path, *, timeout: float = 300) -> None:
        """Creates the client.

        Args:
          python: an interpreter that imports TensorFlow 1.15.
          timeout: seconds that one request may take.
        """
        self._python = python
        self._timeout = timeout
        self._process: subprocess.Popen[str] | None = None
        self._stderr: IO[str] | None = None

    def __enter__(self) -> Tf1Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

    def ping(self) -> dict[str, str]:
        """Returns the versions: `python`, `tensorflow` and `tensorflow_hub`."""
        return self._request({"op": "ping"})

    def hub_apply(
        self,
        path: Path,
        inputs: Inputs,
        *,
        signature: str = "default",
        tags: Collection[str] = (),
        trainable: bool = False,
    ) -> Arrays:
        """Returns the outputs of `hub.Module(path, ...)(inputs, signature, as_dict=True)`."""
        return self._run(
            "hub_apply", path, inputs, signature=signature, tags=sorted(tags), trainable=trainable
        )[0]

    def hub_gradients(
        self,
        path: Path,
        inputs: Inputs,
        projections: Inputs,
        *,
        signature: str = "default",
        tags: Collection[str] = (),
    ) -> dict[str, NDArray[Any] | None]:
        """Returns the gradient of a scalar by each trainable variable of a module.

        Args:
          path: the module.
          inputs: inputs of the signature.
          projections: by output, arrays of the output's shape; the scalar is
            `sum(output * projection)` over all of them.
          signature: the signature.
          tags: the graph variant.

        Returns:
          By name of the variable in the module; partitioned variables are put together, and a
          variable that the scalar does not depend on has None.
        """
        with tempfile.TemporaryDirectory() as folder:
            path_of_projections = _save(projections, Path(folder, "projections.npz"))
            gradients, reply = self._run(
                "hub_gradients",
                path,
                inputs,
                signature=signature,
                tags=sorted(tags),
                trainable=True,
                projections=path_of_projections,
            )
        return gradients | dict.fromkeys(reply["without"])

    def hub_record(
        self, path: Path, inputs: Inputs | None = None, *, training: bool = True
    ) -> Record:
        """Returns for any module what testdata/golden holds for those of testdata/modules.

        Args:
          path: the module.
          inputs: inputs where the seeded ones are not wanted.
          training: whether gradients, updates and training steps are recorded too.
        """
        arrays, reply = self._run("hub_record", path, inputs or {}, training=training)
        return Record(arrays, reply["facts"])

    def hub_train(
        self,
        path: Path,
        inputs: Inputs,
        targets: Inputs,
        *,
        steps: int,
        learning_rate: float = 0.01,
        optimizer: str = "sgd",
        loss: str = "squared",
        projections: Inputs | None = None,
        signature: str = "default",
        tags: Collection[str] = (),
    ) -> Training:
        """Trains a module as its users do, on one batch.

        What is minimized is the loss plus all regularization losses; each step runs all UPDATE_OPS
        before it changes the variables.

        Args:
          path: the module.
          inputs: inputs of the signature.
          targets: by output, an array of its shape.
          steps: how many steps are trained, after one that runs nothing but the update ops.
          learning_rate: of the optimizer.
          optimizer: `sgd` or `adam`.
          loss: of outputs and targets, `squared` or `cross_entropy` (of probabilities).
          projections: by output, arrays of its shape, for the gradients, which are those of
            `sum(output * projection)`.
          signature: the signature.
          tags: the graph variant.
        """
        with tempfile.TemporaryDirectory() as folder:
            arrays, reply = self._run(
                "hub_train",
                path,
                inputs,
                targets=_save(targets, Path(folder, "targets.npz")),
                projections=_save(projections or {}, Path(folder, "projections.npz")),
                signature=signature,
                tags=sorted(tags),
                trainable=True,
                steps=steps,
                learning_rate=learning_rate,
                optimizer=optimizer,
                loss=loss,
            )
        return Training(
            start=_under(arrays, "start"),
            outputs=_under(arrays, "output"),
            gradients=_under(arrays, "gradient") | dict.fromkeys(reply["without"]),
            regularization=arrays["regularization"],
            forward=_under(arrays, "forward"),
            update=_under(arrays, "update"),
            losses=reply["losses"],
            trained=reply["trained"],
            updates=reply["updates"],
        )

    def hub_estimator(
        self,
        path: Path,
        inputs: Inputs,
        labels: ArrayLike,
        *,
        steps: int,
        learning_rate: float = 0.001,
        signature: str = "default",
    ) -> Fitted:
        """Trains, evaluates and predicts with an Estimator that has the module in its model_fn.

        A dense layer on the output `default` classifies. Training takes the variant `{"train"}`
        where there is one, evaluation and prediction the one without tags.

        Args:
          path: the module.
          inputs: inputs of the signature.
          labels: a class for each row of the inputs.
          steps: how many steps are trained between the two evaluations.
          learning_rate: of the optimizer, Adam.
          signature: the signature.
        """
        with tempfile.TemporaryDirectory() as folder:
            arrays, reply = self._run(
                "hub_estimator",
                path,
                inputs,
                labels=_save({"labels": labels}, Path(folder, "labels.npz")),
                signature=signature,
                steps=steps,
                learning_rate=learning_rate,
            )
        return Fitted(reply["losses"], arrays["logits"])

    def hub_client(
        self, path: Path, inputs: Inputs, *, signature: str = "default", image: bool = True
    ) -> Uses:
        """Uses a module in each way that `Uses` names.

        Args:
          path: the module.
          inputs: inputs of the signature.
          signature: the signature.
          image: whether it is an image module, which has an image size.
        """
        with tempfile.TemporaryDirectory() as folder:
            arrays, reply = self._run(
                "hub_client", path, inputs, signature=signature, image=image, folder=folder
            )
        ways = ("first", "again", "second", "nested", "exported")
        return Uses({way: _under(arrays, way) for way in ways}, reply)

    def saved_model_signature(
        self,
        path: Path,
        inputs: Inputs,
        *,
        signature: str = "serving_default",
        tags: Collection[str] = ("serve",),
    ) -> Arrays:
        """Returns a signature's outputs from `tf.compat.v1.saved_model.load` in a session."""
        return self._run(
            "saved_model_signature", path, inputs, signature=signature, tags=sorted(tags)
        )[0]

    def saved_model_v2(
        self,
        path: Path,
        inputs: Inputs,
        *,
        signature: str = "serving_default",
        tags: Collection[str] = (),
    ) -> Loaded:
        """Returns a signature's outputs from `tf.compat.v2.saved_model.load`, eagerly."""
        outputs, reply = self._run(
            "saved_model_v2", path, inputs, signature=signature, tags=sorted(tags)
        )
        return Loaded(outputs, reply["variables"])

    def run_graph(
        self,
        graph_def: bytes,
        feeds: Inputs,
        fetches: Collection[str],
        *,
        steps: Collection[Collection[str]] = (),
        gradients: Collection[str] = (),
        projections: Inputs | None = None,
    ) -> tuple[Arrays, dict[str, NDArray[Any] | None]]:
        """Runs a plain graph in a session.

        Args:
          graph_def: a serialized GraphDef.
          feeds: arrays by tensor name (`x:0`).
          fetches: names of the tensors to return.
          steps: names of nodes, run together one step after another before the tensors are.
          gradients: names of tensors to take gradients by; handles of variables may be among them.
          projections: by fetch, arrays of its shape; the gradients are those of
            `sum(fetch * projection)` over all of them.

        Returns:
          The fetches, and the gradients, by name; None for one that does not exist.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "graph.pb")
            path.write_bytes(graph_def)
            arrays, reply = self._run(
                "run_graph",
                path,
                feeds,
                fetches=list(fetches),
                steps=[list(step) for step in steps],
                gradients=list(gradients),
                projections=_save(projections or {}, Path(folder, "projections.npz")),
            )
        mark = "gradient|"
        found: dict[str, NDArray[Any] | None] = dict.fromkeys(reply["without"])
        found |= {name[len(mark) :]: arrays.pop(name) for name in list(arrays) if mark in name}
        return arrays, found

    def _run(self, op: str, path: Path, inputs: Inputs, **fields: Any) -> tuple[Arrays, Any]:
        """Sends a request that reads and writes arrays; returns these and the reply."""
        with tempfile.TemporaryDirectory() as folder:
            outputs = Path(folder, "outputs.npz")
            request = {
                "op": op,
                "path": str(Path(path).absolute()),
                "inputs": _save(inputs, Path(folder, "inputs.npz")),
                "outputs": str(outputs),
            }
            reply = self._request(request | fields)
            with np.load(outputs) as arrays:
                return dict(arrays), reply

    def _request(self, request: dict[str, Any]) -> Any:
        """Sends a request; returns the reply, or raises what the worker raised."""
        process = self._process or self._start()
        late = threading.Event()

        def give_up() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._timeout, give_up)
        timer.start()
        line = ""
        try:
            with contextlib.suppress(BrokenPipeError):
                print(json.dumps(request), file=process.stdin, flush=True)
                line = process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            what = f"took over {self._timeout:g} s" if late.is_set() else "died"
            talk = self._talk()
            self.close()
            raise Tf1Error(f"TensorFlow 1.15 {what} at {request['op']}\n{talk}")
        reply = json.loads(line)
        if "error" in reply:
            raise Tf1Error(reply["error"])
        return reply

    def _start(self) -> subprocess.Popen[str]:
        """Starts the worker."""
        self._stderr = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [self._python, WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            env=tf1_environ(),
        )
        return self._process

    def _talk(self) -> str:
        """Returns the end of what the worker said on stderr."""
        self._stderr.seek(0)
        return self._stderr.read()[-STDERR_TAIL:]


def tf1_environ() -> dict[str, str]:
    """Returns the environment of TensorFlow 1.15: without GPUs, chatter and this Python's paths.

    It is also without what TensorFlow 2 sets when it is imported: TF2_BEHAVIOR would make another
    client of TensorFlow 1.15, with resource variables and functional control flow.
    """
    environ = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "TF"))
    }
    return environ | {
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONWARNINGS": "ignore",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def _under(arrays: Arrays, prefix: str) -> Arrays:
    """Returns the arrays whose name starts with `prefix|`, by the rest of it."""
    start = f"{prefix}|"
    return {
        name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)
    }


def _save(arrays: Inputs, path: Path) -> str:
    """Writes arrays so that an old numpy reads them without pickle; returns the path."""
    np.savez(path, **{name: _portable(np.asarray(array)) for name, array in arrays.items()})
    return str(path)


def _portable(array: NDArray[Any]) -> NDArray[Any]:
    """Returns strings as fixed-width bytes, and any other array as it is."""
    if array.dtype.kind not in "OU":
        return array
    items = [item.encode() if isinstance(item, str) else item for item in array.flat]
    return np.array(items, dtype=np.bytes_).reshape(array.shape)
