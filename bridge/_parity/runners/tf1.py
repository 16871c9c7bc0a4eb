"""Where the real TensorFlow 1.x is."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from bridge.errors import UsageError

VARIABLE = "HUBBRIDGE_TF1_PYTHON"
HINT = (
    "give a Python that imports TensorFlow 1.15 and tensorflow-hub 0.12; "
    "`python tools/tf1_env.py` in a checkout of hubbridge installs one"
)

_TIME_LIMIT = 60.0

_LOOK = """
import importlib.util, json
names = ("tensorflow", "tensorflow_hub")
print(json.dumps([name for name in names if importlib.util.find_spec(name) is None]))
"""


def find_tf1_python(option: Path | None) -> Path | None:
    """Returns the interpreter that was given, else that of HUBBRIDGE_TF1_PYTHON, else None.

    Whether its TensorFlow is a 1.x shows when it is imported.

    Raises:
      UsageError: it can't be run, or lacks a package.
    """
    named = os.environ.get(VARIABLE)
    if option is None and not named:
        return None
    python, origin = (option, "--tf1-python") if option else (Path(named or ""), VARIABLE)
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    try:
        found = subprocess.run(
            [python, "-c", _LOOK],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environ,
            timeout=_TIME_LIMIT,
            check=True,
        )
        missing = json.loads(found.stdout)
    except OSError as error:
        raise UsageError(
            f"{origin}: {python} can't be run: {error.strerror or error}", hint=HINT
        ) from error
    except (subprocess.SubprocessError, ValueError) as error:
        raise UsageError(f"{origin}: {python} is no Python", hint=HINT) from error
    if missing:
        raise UsageError(f"{origin}: {python} has no {' and no '.join(missing)}", hint=HINT)
    return python
