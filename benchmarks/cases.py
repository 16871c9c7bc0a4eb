"""The models that are converted, how they are made, and whether what becomes of them is right."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import targets
from contestants import TO_HUB_MODULE, TO_SAVED_MODEL, hubbridge, through_tensorflow
from processes import ROOT, run_quietly, talk
from rounds import Results

WORK = ROOT / "build" / "bench"
SCRIPTS = ROOT / "benchmarks"

Targets = Callable[[Results], list[targets.Target]]


@dataclass(frozen=True)
class Maker:
    """A script that makes what is too large to be checked in.

    It is called as `PYTHON SCRIPT OUT_DIR NAME…` and writes `OUT_DIR/NAME`.

    Attributes:
      script: the script.
      runs_in: what it needs.
      python: finds the Python that has it, or returns None.
    """

    script: Path
    runs_in: str
    python: Callable[[], str | None]


@dataclass(frozen=True)
class Case:
    """A model to convert.

    Attributes:
      name: what `--only` calls it.
      title: what the tables call it.
      command: the command of hubbridge that converts it.
      path: where it lies.
      targets: returns what its figures should be.
      maker: what makes it; None where it is checked in.
    """

    name: str
    title: str
    command: str
    path: Path
    targets: Targets
    maker: Maker | None = None


def tf1_python() -> str | None:
    """Returns the Python that has TensorFlow 1.15, or None where there is none."""
    named = os.environ.get("HUBBRIDGE_TF1_PYTHON")
    local = ROOT / ".venv-tf1" / "bin" / "python"
    return named or (str(local) if local.exists() else None)


SLIM = Maker(ROOT / "testdata" / "make_slim.py", "TensorFlow 1.15", tf1_python)
KERAS = Maker(SCRIPTS / "make_saved_models.py", "Keras", lambda: sys.executable)


def slim(name: str, title: str, wanted: Targets, path: str) -> Case:
    return Case(name, title, TO_SAVED_MODEL, WORK / "modules" / path, wanted, SLIM)


def keras(name: str, title: str, wanted: Targets) -> Case:
    return Case(name, title, TO_HUB_MODULE, WORK / "saved_models" / name, wanted, KERAS)


CASES = (
    Case("toy", "digits", TO_SAVED_MODEL, ROOT / "testdata" / "modules" / "digits", targets.toy),
    slim("resnet", "resnet_v2_50", targets.beside_tensorflow, "resnet_v2_50"),
    slim("big", "VGG-16 with 21843 classes", targets.big, "big"),
    keras("keras-export", "ResNet50, exported by Keras 3", targets.beside_cp),
    keras("keras-train", "ResNet50 with training, saved by tf_keras", targets.beside_cp),
    keras("keras-big", "VGG16 with 28500 classes, saved by Keras 3", targets.big),
)


# -- making them -----------------------------------------------------------------------------------


def make_missing(cases: Iterable[Case]) -> list[Case]:
    """Makes the models that are not there yet; returns those that are there now."""
    wanted = list(cases)
    missing: dict[Maker, list[Case]] = {}
    for case in wanted:
        if case.maker and not case.path.exists():
            missing.setdefault(case.maker, []).append(case)
    for maker, theirs in missing.items():
        if python := maker.python():
            make(python, maker, [case.path for case in theirs])
    return [case for case in wanted if case.path.exists()]


def make(python: str, maker: Maker, paths: Iterable[Path]) -> None:
    """Lets a script make models, and puts them where they belong when all are whole."""
    names = [path.name for path in paths]
    talk.print(f"Making {', '.join(names)} with {maker.runs_in} (a minute or two, once)")
    making = WORK / "making"
    shutil.rmtree(making, ignore_errors=True)
    run_quietly([python, "-W", "ignore", str(maker.script), str(making), *names])
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        (making / path.name).rename(path)
    shutil.rmtree(making)


def say_skipped(cases: Iterable[Case]) -> None:
    for case in cases:
        talk.print(f"[yellow]skipped:[/] {case.name}, which TensorFlow 1.15 has to make")
    talk.print("hint: `python tools/tf1_env.py` installs it, or says what it lacks")


# -- checking them ---------------------------------------------------------------------------------


def check(case: Case) -> None:
    """Fails unless what hubbridge makes of a model computes what it should."""
    ours, theirs = WORK / "ours", WORK / "theirs"
    for dest in (ours, theirs):
        shutil.rmtree(dest, ignore_errors=True)
    run_quietly(hubbridge(case.command, "--no-verify")(case.path, ours))
    if case.command == TO_SAVED_MODEL:
        run_quietly(through_tensorflow(case.path, theirs))
        run_quietly([sys.executable, str(SCRIPTS / "compare.py"), str(ours), str(theirs)])
        shutil.rmtree(theirs)
    elif python := tf1_python():
        script = SCRIPTS / "compare_module.py"
        run_quietly([sys.executable, str(script), str(case.path), str(ours), python])
    else:
        talk.print(f"[yellow]not compared:[/] {case.name}, for want of TensorFlow 1.15")
    shutil.rmtree(ours)
