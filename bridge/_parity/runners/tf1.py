"""Where the real TensorFlow 1.x is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from bridge._parity.runners.protocol import Lane
from bridge.errors import UsageError

VARIABLE = "HUBBRIDGE_TF1_PYTHON"
HINT = (
    "give a Python that imports TensorFlow 1.15 and tensorflow-hub 0.12; "
    "`python tools/tf1_env.py` in a checkout of hubbridge installs one"
)

_TIME_LIMIT = 120.0

# Any Python understands it, so that it can say that it is too old. Only TensorFlow 1.x has
# `contrib`; without it, TensorFlow itself is asked, which takes seconds.
_LOOK = """
import json, os, sys
found = {"python": list(sys.version_info[:2]), "missing": [], "tensorflow": "1", "error": ""}
if sys.version_info >= (3, 7):
    from importlib.util import find_spec
    specs = [find_spec(name) for name in ("tensorflow", "tensorflow_core", "tensorflow_hub")]
    found["missing"] = [
        name for name, spec in zip(("tensorflow", "tensorflow_hub"), specs[::2]) if spec is None
    ]
    places = [p for s in specs[:2] if s for p in s.submodule_search_locations or ()]
    if specs[0] and not any(os.path.isdir(os.path.join(p, "contrib")) for p in places):
        try:
            import tensorflow
            found["tensorflow"] = tensorflow.__version__
        except Exception as error:
            found["error"] = "%s: %s" % (type(error).__name__, error)
print("\\n" + json.dumps(found))
"""


def find_tf1_python(option: Path | None) -> Path | None:
    """Returns the interpreter that was given, else that of HUBBRIDGE_TF1_PYTHON, else None.

    Args:
      option: a path, from the current directory if it is relative; or a name on PATH.

    Returns:
      An absolute path.

    Raises:
      UsageError: it can't be run, is too old, lacks a package, or has another TensorFlow.
    """
    named = os.environ.get(VARIABLE)
    if option is None and not named:
        return None
    given, origin = (option, "--tf1-python") if option else (Path(named or ""), VARIABLE)
    wrong, python = _look(given)
    if wrong:
        raise UsageError(f"{origin}: {python} {wrong}", hint=HINT)
    return python


def idle(option: Path | None, lanes: Iterable[Lane]) -> list[str]:
    """Returns the remark that an interpreter was given for nothing, if so.

    Args:
      option: what was given for this run. An environment variable is meant for others too.
      lanes: what runs.
    """
    if option is None or any(lane.runtime == "tf1" for lane in lanes):
        return []
    return [
        f"--tf1-python: {option} ran nothing, since it runs TF1 Hub modules on the CPU and there "
        "is none"
    ]


def _look(given: Path) -> tuple[str, Path]:
    """Returns what is wrong with an interpreter, as the end of a sentence, and where it is."""
    found = shutil.which(given) if given.name == str(given) and not given.is_file() else None
    # Links stay: where the link lies, the packages of a virtual environment are.
    python = Path(found or given).absolute()
    if python.is_dir():
        return "is a directory, no Python", python
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    try:
        answer = subprocess.run(
            [python, "-c", _LOOK],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environ,
            timeout=_TIME_LIMIT,
            check=True,
        )
        facts = json.loads(answer.stdout.splitlines()[-1])
        release, missing = tuple(facts["python"]), facts["missing"]
        tensorflow, failure = str(facts["tensorflow"]), facts["error"]
    except subprocess.TimeoutExpired:
        return f"gave no answer within {_TIME_LIMIT:g} s", python
    except OSError as error:
        return f"can't be run: {error.strerror or error}", python
    except (subprocess.SubprocessError, ValueError, LookupError, TypeError):
        return "is no Python", python
    if release < (3, 7):
        return f"is Python {'.'.join(map(str, release))}, and 3.7 at least is needed", python
    if missing:
        return f"has no {' and no '.join(missing)}", python
    if failure:
        return f"can't import its TensorFlow: {failure}", python
    if tensorflow.partition(".")[0] != "1":
        return f"has TensorFlow {tensorflow}, no 1.x", python
    return "", python
