"""Runs two flat graphs side by side in one process of TensorFlow 2."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from bridge._parity.bisection.flat_graph import FlatGraph
from bridge._parity.bisection.regions import ENTERS
from bridge._parity.runners.protocol import Lane, RunnerError, Values
from bridge._parity.runners.subprocesses import end, ending, environment, exchange
from bridge._surfaces.surface import SAVED_MODEL
from bridge.dtypes import dtype_name, element_bytes
from bridge.errors import UnsupportedError
from bridge.graph import Tensor
from bridge.proto import tf_pb
from bridge.saved_model.library import rename_calls

SIDES = ("reference", "candidate")

_WORKER = Path(__file__).parents[1] / "runners" / "graph_worker.py"
_LAST_WORDS = 600


class SideBySide:
    """The process; use it as a context manager."""

    def __init__(
        self,
        graphs: tuple[FlatGraph, FlatGraph],
        names: Mapping[str, str],
        inputs: Values,
        folder: Path,
        python: Path,
        time_limit: float,
    ):
        """Writes down what to run, and starts.

        Args:
          graphs: reference and candidate.
          names: the candidate's name for each input of the reference.
          inputs: what to feed, by the reference's names.
          folder: takes temporary files.
          python: an interpreter with TensorFlow 2.
          time_limit: seconds that one request may take.

        Raises:
          UnsupportedError: a variable that is no plain array.
          RunnerError: the interpreter can't be run.
        """
        self._folder = folder
        self._time_limit = time_limit
        setup = folder / "setup.json"
        setup.write_text(json.dumps(_setup(graphs, names, inputs, folder)))
        lane = Lane(SIDES[0], folder, SAVED_MODEL, "tf2", python)
        try:
            with (folder / "stderr.txt").open("wb") as stderr:
                self._process = subprocess.Popen(
                    [python, _WORKER, setup],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    encoding="utf-8",
                    env=environment(lane),
                    start_new_session=True,
                )
        except OSError as error:
            raise RunnerError(f"{python} can't be run: {error.strerror}") from error

    def __enter__(self) -> SideBySide:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        end(self._process)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def compare(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> list[tuple[float, float]]:
        """Computes both graphs once.

        Returns:
          For each pair of tensors the largest difference, and the reference's largest value; text
          and whole numbers are infinitely far apart or not at all.

        Raises:
          RunnerError: the process failed, or took too long.
        """
        named = [[named_tensor(0, first), named_tensor(1, second)] for first, second in pairs]
        return [(found[0], found[1]) for found in self._ask({"pairs": named})]

    def try_alone(self, repros: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Computes parts of the graphs alone, until one differs.

        Args:
          repros: as graph_worker.py describes them.

        Returns:
          What node_script.py says of each, up to the one that differs.

        Raises:
          RunnerError: the process failed, or took too long.
        """
        found: list[dict[str, Any]] = self._ask({"repros": repros})
        return found

    def _ask(self, request: Mapping[str, Any]) -> Any:
        process = self._process
        line, late = exchange(process, json.dumps(request), self._time_limit)
        reply = json.loads(line) if line else None
        if isinstance(reply, dict):
            raise RunnerError(" ".join(reply["error"].split())[:_LAST_WORDS])
        if reply is not None:
            return reply
        if late:
            raise RunnerError(f"it took more than {self._time_limit:g} s")
        talk = (self._folder / "stderr.txt").read_text("utf-8", "replace")
        words = " ".join(talk.split())[-_LAST_WORDS:]
        raise RunnerError(f"its process {ending(process.wait())}: {words}")


def named_tensor(side: int, tensor: Tensor) -> str:
    """Returns the name of a tensor in the graph that both sides share."""
    return f"{SIDES[side]}/{tensor.node}:{tensor.output}"


def _setup(
    graphs: tuple[FlatGraph, FlatGraph], names: Mapping[str, str], inputs: Values, folder: Path
) -> dict[str, Any]:
    for flat in graphs:
        for name, variable in flat.variables.items():
            if element_bytes(variable.dtype) is None:
                raise UnsupportedError(
                    f"a variable of {dtype_name(variable.dtype)} can't be read",
                    where=flat.graph.at(name),
                )
    (folder / "graph.pb").write_bytes(_merged(graphs).SerializeToString())
    arrays: dict[str, Any] = {}
    feeds: dict[str, str] = {}
    own = {second: first for first, second in names.items()}
    for number, flat in enumerate(graphs):
        for name, tensors in flat.inputs.items():
            whole, bar, part = name.partition("|")
            given = name if number == 0 else own.get(name, own.get(whole, whole) + bar + part)
            for position, (tensor, value) in enumerate(
                zip(tensors, _parts(inputs, given), strict=True)
            ):
                arrays[f"{given}|{position}"] = value
                feeds[named_tensor(number, tensor)] = f"{given}|{position}"
    np.savez(folder / "values.npz", **arrays)
    return {
        "graph": str(folder / "graph.pb"),
        "values": str(folder / "values.npz"),
        "feeds": feeds,
        "variables": {
            f"{side}/{name}": {
                "file": str(flat.shards[variable.data.shard].absolute()),
                "offset": variable.data.offset,
                "dtype": dtype_name(variable.dtype),
                "shape": list(variable.shape),
            }
            for side, flat in zip(SIDES, graphs, strict=True)
            for name, variable in flat.variables.items()
        },
        "initializers": [
            f"{side}/{name}"
            for side, flat in zip(SIDES, graphs, strict=True)
            for name in flat.initializers
        ],
    }


def _parts(inputs: Values, name: str) -> list[Any]:
    """Returns the arrays of an input, or of a part of one, in the order of its tensors."""
    whole, _, part = name.partition("|")
    value = inputs[name] if name in inputs else inputs[whole]
    if not isinstance(value, Mapping):
        return [_plain(value)]
    return [_plain(value[part])] if part else [_plain(array) for array in value.values()]


def _plain(value: Any) -> Any:
    """Returns an array that numpy writes without pickle."""
    array = np.asarray(value)
    if array.dtype.name == "bfloat16":  # which np.load does not know; the session converts
        array = array.astype(np.float32)
    if array.dtype.kind not in "OU":
        return array
    texts = [t.encode() if isinstance(t, str) else t for t in array.ravel().tolist()]
    return np.array(texts, np.bytes_).reshape(array.shape)


def _merged(graphs: Iterable[FlatGraph]) -> tf_pb.GraphDef:
    """Returns both graphs as one, in which they share no name."""
    merged = tf_pb.GraphDef()
    for side, flat in zip(SIDES, graphs, strict=True):
        graph = flat.graph
        renamed = {name: f"{side}_{name}" for name in graph.functions}
        for function in graph.functions.values():
            copy = merged.library.function.add()
            copy.CopyFrom(function)
            copy.signature.name = renamed[function.signature.name]
            rename_calls(copy.node_def, renamed)
        for original in graph.nodes.values():
            node = merged.node.add()
            node.CopyFrom(original)
            node.name = f"{side}/{node.name}"
            node.input[:] = [
                f"^{side}/{text[1:]}" if text.startswith("^") else f"{side}/{text}"
                for text in node.input
            ]
            # Resources of one name are one resource, in the whole session.
            if "shared_name" in node.attr and node.attr["shared_name"].s:
                node.attr["shared_name"].s = f"{side}/".encode() + node.attr["shared_name"].s
            # A loop consists of the nodes that lead into a frame of one name, in the whole graph.
            if node.op in ENTERS:
                node.attr["frame_name"].s = f"{side}/".encode() + node.attr["frame_name"].s
            rename_calls([node], renamed)
    return merged
