"""Runs two signatures as one graph, and compares their tensors while it runs.

A script beside TensorFlow 2: `python graph_worker.py SETUP`. It reads requests from stdin, one line
of JSON each, and writes a line of JSON for each to stdout; where anything goes wrong it writes
`{"error": text}` and ends. SETUP is a file of JSON with

- `graph`: file of a GraphDef in which the nodes of the two sides have names of their own.
- `variables`: for each variable's node, where the bytes of its value lie.
- `values`: .npz of what is fed, by key; `feeds`: the key of each tensor that is fed.
- `initializers`: nodes to run first.

A request has either of

- `pairs`: pairs of tensors; the reply has `[difference, largest]` of each.
- `repros`: parts of the graph to compute alone, each what node_script.py finds as `description`,
  with the tensors whose values it is fed as `taken`; the reply has what node_script.py says of
  each, up to the first that differs, whose script then lies under `path`.
"""

from __future__ import annotations

import json
import os
import pathlib
import runpy
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import numpy as np

SCRIPT = pathlib.Path(__file__).with_name("node_script.py")


def read_variable(tf: Any, place: Mapping[str, Any]) -> Any:
    """Returns the value of a variable, which lies in a shard as it is."""
    dtype = tf.as_dtype(place["dtype"]).as_numpy_dtype
    shape = tuple(place["shape"])
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    # numpy does not read bfloat16, but takes bytes for it.
    data = np.fromfile(place["file"], np.uint8, size, offset=place["offset"])
    return data.view(dtype).reshape(shape)


def compare_pairs(
    tf: Any, session: Any, pairs: list[list[str]], feeds: Mapping[str, Any], differ: Any
) -> list[list[float]]:
    """Compares tensors inside of one run, so that no more of them are kept than the run needs."""
    found: list[list[float]] = [[0.0, 0.0] for _ in pairs]

    def noter(number: int) -> Callable[[Any, Any], Any]:
        def note(a: Any, b: Any) -> Any:
            result = differ(a, b, 0.0, 0.0)
            found[number] = [result["difference"], result["largest"]]
            return np.bool_(True)

        return note

    graph = session.graph
    with graph.as_default():
        operations = []
        for number, names in enumerate(pairs):
            tensors = [graph.get_tensor_by_name(name) for name in names]
            operations.append(tf.numpy_function(noter(number), tensors, tf.bool).op)
        everything = tf.group(operations)
    session.run(everything, feeds)
    return found


def write_repros(
    tf: Any,
    session: Any,
    repros: list[dict[str, Any]],
    variables: Mapping[str, Any],
    feeds: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Writes scripts that compute nodes alone, and runs them until one shows a difference."""
    results = []
    for repro in repros:
        taken = repro.pop("taken")
        fetched = session.run(list(taken.values()), feeds) if taken else []
        arrays = dict(zip(taken, fetched, strict=True))
        for side in ("reference", "candidate"):
            for name, (key, _) in repro[side]["variables"].items():
                arrays[key] = read_variable(tf, variables[side + "/" + name])
        path = pathlib.Path(repro.pop("path"))
        description = np.frombuffer(json.dumps(repro).encode(), np.uint8)
        portable = {key: as_portable(array) for key, array in arrays.items()}
        np.savez(path.with_suffix(".npz"), description=description, **portable)
        shutil.copyfile(SCRIPT, path)
        script = runpy.run_path(str(path))
        results.append(script["compare"](path.with_suffix(".npz")))
        if results[-1]["differs"]:
            break
    return results


def as_portable(value: Any) -> Any:
    """Returns an array that numpy writes without pickle."""
    array = np.asarray(value)
    return array.astype(np.bytes_) if array.dtype.kind in "OU" else array


def serve(setup_path: str, replies: TextIO) -> None:
    """Loads the graph, and answers requests until stdin closes."""
    import tensorflow as tf

    script = runpy.run_path(str(SCRIPT))
    setup = json.loads(pathlib.Path(setup_path).read_text())
    definition = tf.compat.v1.GraphDef.FromString(pathlib.Path(setup["graph"]).read_bytes())
    graph = tf.Graph()
    with graph.as_default():
        tf.compat.v1.import_graph_def(definition, name="")
    config = tf.compat.v1.ConfigProto()
    # Every node runs as it is, and none is fused with another.
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    config.graph_options.optimizer_options.opt_level = -1
    with (
        np.load(setup["values"]) as values,
        tf.compat.v1.Session(graph=graph, config=config) as session,
    ):
        feeds = {}
        for name, key in setup["feeds"].items():
            dtype = graph.get_tensor_by_name(name).dtype
            # Where numpy has no such type, float32 stands for it.
            feeds[name] = values[key].astype(dtype.as_numpy_dtype)
        for name, place in setup["variables"].items():
            script["assign"](tf, session, name, read_variable(tf, place))
        session.run([graph.get_operation_by_name(name) for name in setup["initializers"]], feeds)
        for line in sys.stdin:
            request = json.loads(line)
            if "pairs" in request:
                reply: Any = compare_pairs(tf, session, request["pairs"], feeds, script["differ"])
            else:
                reply = write_repros(tf, session, request["repros"], setup["variables"], feeds)
            print(json.dumps(reply), file=replies, flush=True)


def main(setup_path: str) -> int:
    """Does the same, and says what went wrong."""
    with os.fdopen(os.dup(1), "w") as replies:
        os.dup2(2, 1)  # whatever else is printed must not get among the replies
        try:
            serve(setup_path, replies)
        except Exception as error:
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=replies)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
