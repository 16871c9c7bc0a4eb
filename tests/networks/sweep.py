"""Takes networks through TensorFlow 2, the conversion and TensorFlow 1.15."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import bridge
from tests.clients.tf1 import Tf1Client
from tests.networks.catalog import FORMATS, KERAS3, STILL, TRAINABLE_FORMATS, Network
from tests.networks.compare import Pair, Result, Trace, compare
from tests.networks.compare import noise as compare_ways

ROOT = Path(__file__).resolve().parents[2]

# TensorFlow 1.15 computes in one thread and with Eigen. Both are set alike here, so that what
# differs is the conversion.
REFERENCE = {
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}
# What TensorFlow 2 does unless it is told otherwise; between both lies its noise.
ANOTHER_WAY = {"TF_ENABLE_ONEDNN_OPTS": "1"}
NOISE = "-noise"

Talk = Callable[[str], None]


def tf2(*arguments: str, ways: dict[str, str]) -> None:
    """Runs a module of this package in a process of its own.

    Raises:
      RuntimeError: it failed; the text is the end of what it said.
    """
    environ = {key: value for key, value in os.environ.items() if not key.startswith("TF")}
    environ |= ways | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-W", "ignore", "-m", *arguments]
    ran = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{ran.stderr[-4000:]}")


def generate(network: Network, formats: Sequence[str], directory: Path, *, noisy: bool) -> None:
    """Saves a network in formats of one Keras and computes the references, if not yet done."""
    if all(beside(directory / format_).exists() for format_ in formats):
        return
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    keras = "keras" if formats[0] in KERAS3 else "tf_keras"
    tf2("tests.networks.generate", network.name, keras, str(directory), *formats, ways=REFERENCE)
    if noisy and (source := noise_source(formats, directory)):
        tf2("tests.networks.reference", str(source), network.name, NOISE, ways=ANOTHER_WAY)


def noise_source(formats: Sequence[str], directory: Path) -> Path | None:
    """The SavedModel that is computed in two ways, for all formats of its Keras."""
    for format_ in formats:
        if format_ in TRAINABLE_FORMATS:
            still = directory / f"{format_}{STILL}"
            return still if still.exists() else directory / format_
    return None


def read(path: Path) -> dict[str, Any]:
    """Reads an .npz file."""
    with np.load(path) as arrays:
        return dict(arrays)


def beside(source: Path, suffix: str = "") -> Path:
    """The .npz of a SavedModel."""
    return source.with_name(f"{source.name}{suffix}.npz")


def recompute(network: str, source: Path, batch: int) -> dict[str, Any]:
    """Computes in TensorFlow 2 with another batch of images."""
    suffix = f"-batch{batch}"
    tf2("tests.networks.reference", str(source), network, suffix, str(batch), ways=REFERENCE)
    return read(beside(source, suffix))


def noise_of(formats: Sequence[str], directory: Path) -> dict[str, Trace]:
    """What TensorFlow 2 differs by from itself, in inference and in training."""
    source = noise_source(formats, directory)
    if source is None or not beside(source, NOISE).exists():
        return {}
    first, second = read(beside(source)), read(beside(source, NOISE))
    return {mode: compare_ways(first, second, mode) for mode in ("inference", "training")}


def convert(source: Path, dest: Path) -> bridge.Report:
    """Converts a SavedModel, without TensorFlow."""
    shutil.rmtree(dest, ignore_errors=True)
    report = bridge.to_hub_module(source, dest, verify=False)
    if "tensorflow" in sys.modules and "pytest" not in sys.modules:
        raise RuntimeError("the conversion imports TensorFlow")
    return report


def check(
    client: Tf1Client, network: Network, format_: str, directory: Path, noise: dict[str, Trace]
) -> Result:
    """Converts one format of a network and compares the module with it."""
    result = Result(network.name, format_, noise=noise)
    source = directory / format_
    result.megabytes = sum(p.stat().st_size for p in source.rglob("*") if p.is_file()) / 1e6
    modules = directory / "modules"
    try:
        start = time.monotonic()
        report = convert(source, modules / format_)
        result.seconds = time.monotonic() - start
        again = functools.partial(recompute, network.name)
        still = None
        if network.drops and format_ in TRAINABLE_FORMATS:
            twin = directory / f"{format_}{STILL}"
            convert(twin, modules / twin.name)
            still = Pair(client, twin, modules / twin.name, again), read(beside(twin))
        dropped = {note.name for note in report.not_kept}
        pair = Pair(client, source, modules / format_, again)
        compare(result, pair, read(beside(source)), still, dropped)
    except Exception as error:  # the table shows it, and the sweep fails
        result.problems.append(f"{type(error).__name__}: {str(error).strip()[-1000:]}")
    finally:
        shutil.rmtree(modules, ignore_errors=True)
    return result


def stamp(*patterns: str) -> str:
    """A digest of files of code."""
    digest = hashlib.sha1(usedforsecurity=False)
    for path in sorted(path for pattern in patterns for path in ROOT.glob(pattern)):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f"{path.relative_to(ROOT)} ".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def stamp_of_models() -> str:
    """A digest of what makes the models and the references."""
    names = ("build", "catalog", "generate", "reference", "vit")
    return stamp(*(f"tests/networks/{name}.py" for name in names))


def stamp_of_results() -> str:
    """A digest of all that a result depends on."""
    names = ("compare", "digests", "sweep")
    mine = (f"tests/networks/{name}.py" for name in names)
    return stamp_of_models() + stamp("bridge/**/*", "tests/clients/tf1*.py", *mine)


def sweep(
    python: Path,
    networks: Sequence[Network],
    formats: Sequence[str],
    work: Path,
    talk: Talk,
    *,
    keep: bool,
) -> Iterator[Result]:
    """Takes each network in each format through all; yields the results.

    A good result that this same code gave before is read from `work`. While TensorFlow 1.15 runs,
    one process of TensorFlow 2 makes what comes next.

    Args:
      python: of TensorFlow 1.15.
      networks: the networks.
      formats: the formats.
      work: where results lie and work is done.
      talk: tells the user.
      keep: whether to keep what TensorFlow 2 made, for the next time.
    """
    code, models = stamp_of_results(), stamp_of_models()
    jobs = []
    for network in networks:
        for group in (KERAS3, tuple(f for f in FORMATS if f not in KERAS3)):
            mine = [format_ for format_ in formats if format_ in group]
            wanted = [f for f in mine if cached(work, code, network, f) is None]
            directory = work / "models" / f"{network.name}-{group[0].split('-')[0]}-{models}"
            if mine:
                jobs.append((network, mine, wanted, directory))
    with ThreadPoolExecutor(1) as pool:

        def prepare(index: int) -> Any:
            if index == len(jobs):
                return None
            network, mine, wanted, directory = jobs[index]
            if not wanted:
                return pool.submit(lambda: None)
            return pool.submit(generate, network, mine, directory, noisy=True)

        coming = prepare(0)
        for index, (network, mine, _, directory) in enumerate(jobs):
            error = ""
            try:
                coming.result()
            except RuntimeError as failure:
                error = str(failure)
            coming = prepare(index + 1)
            with Tf1Client(python, timeout=1200) as client:
                for format_ in mine:
                    result = cached(work, code, network, format_)
                    if result is None:
                        start = time.monotonic()
                        if error:
                            result = Result(network.name, format_, [error])
                        else:
                            noise = noise_of(mine, directory)
                            result = check(client, network, format_, directory, noise)
                        write(work, code, result)
                        talk(f"{network.name} {format_}: {time.monotonic() - start:.0f} s")
                    yield result
            if not keep:
                shutil.rmtree(directory, ignore_errors=True)


def result_path(work: Path, network: str, format_: str) -> Path:
    """Where a result lies."""
    return work / "results" / f"{network}-{format_}.json"


def cached(work: Path, code: str, network: Network, format_: str) -> Result | None:
    """Returns the result that this same code gave before, if it was good."""
    path = result_path(work, network.name, format_)
    if not path.exists():
        return None
    facts = json.loads(path.read_text(encoding="utf-8"))
    if facts.pop("code") != code or facts["problems"]:
        return None
    for key in ("inference", "training"):
        facts[key] = facts[key] and Trace(**facts[key])
    facts["noise"] = {mode: Trace(**trace) for mode, trace in facts["noise"].items()}
    return Result(**facts)


def write(work: Path, code: str, result: Result) -> None:
    """Keeps a result."""
    path = result_path(work, result.network, result.format)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"code": code, **result.to_dict()}, indent=1), encoding="utf-8")
