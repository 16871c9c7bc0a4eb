"""Makes .venv-tf1: TensorFlow 1.15 and tensorflow-hub 0.12, the client that the tests drive.

    python tools/tf1_env.py [--env DIR] [--python PYTHON]

TensorFlow 1.15 needs Python 3.7 on x86-64. It is looked for on PATH, among pyenv's versions and
with uv; each find is run before it is believed, since a pyenv shim exists for versions that are not
selected. An environment that is already good is kept, one that an interrupted install left behind
is made anew.

The path of the environment's Python goes to stdout, all talk to stderr. Exit status: 0 it is ready;
1 the install failed; 3 this machine has no Python 3.7 to make it with.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = Path(__file__).resolve().with_name("tf1-requirements.txt")
STAMP = "hubbridge-tf1.stamp"

EXIT_FAILED = 1
EXIT_NO_PYTHON = 3

HINT = """\
hint: make one of these and run this again:
        pyenv install 3.7      (is found by itself)
        apt install python3.7 python3.7-venv      (deadsnakes PPA; is found by itself)
        conda create --name py37 python=3.7      (name its bin/python with --python)"""

# What a Python must be to make the environment; it answers with its real path, not the shim's.
PROBE = """\
import ensurepip, json, platform, sys, venv
print(json.dumps({
    "version": list(sys.version_info[:2]),
    "machine": platform.machine().lower(),
    "bits": 64 if sys.maxsize > 2**32 else 32,
    "in_venv": sys.prefix != sys.base_prefix,
    "executable": sys.executable,
}))
"""
WANTED = {"version": [3, 7], "bits": 64, "in_venv": False}
MACHINES = ("x86_64", "amd64")

# Imports what the tests need, then names every installed version.
VERIFY = """\
import json, warnings
warnings.simplefilter("ignore")
import pkg_resources, tensorflow, tensorflow_hub
print(json.dumps({found.key: found.version for found in pkg_resources.working_set}))
"""


class InstallError(Exception):
    """The environment could not be made."""


def say(message: str) -> None:
    """Writes one line of talk to stderr."""
    print(message, file=sys.stderr, flush=True)


def clean_environ() -> dict[str, str]:
    """Returns os.environ without what would make another Python read this one's packages."""
    unwanted = {"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"}
    environ = {key: value for key, value in os.environ.items() if key not in unwanted}
    return environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}


def ask(*command: str | Path, timeout: float = 60) -> str | None:
    """Returns what the command prints, or None where it does not run, fails or hangs."""
    try:
        done = subprocess.run(
            command,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=timeout,
            env=clean_environ(),
            text=True,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip()


def real_python37(candidate: str | Path) -> Path | None:
    """Returns the executable behind a candidate, or None where it can't make the environment.

    It can when it is a Python 3.7 for x86-64 with venv and ensurepip, outside of any environment.
    """
    answer = ask(candidate, "-c", PROBE)
    try:
        found = json.loads(answer or "")
    except ValueError:
        return None
    if found["machine"] not in MACHINES or any(found[key] != WANTED[key] for key in WANTED):
        return None
    return Path(found["executable"])


def candidates() -> Iterator[Path]:
    """Yields every place where a Python 3.7 may be, the likeliest first."""
    for folder in os.get_exec_path():
        yield Path(folder) / "python3.7"
    roots = [os.environ.get("PYENV_ROOT"), ask("pyenv", "root"), Path.home() / ".pyenv"]
    for root in dict.fromkeys(Path(root) for root in roots if root):
        for version in sorted(root.glob("versions/3.7*"), reverse=True):
            yield version / "bin" / "python3.7"
    if found := ask("uv", "python", "find", "3.7"):
        yield Path(found)


def find_python37() -> Path | None:
    """Returns a Python 3.7 that can make the environment, or None."""
    for candidate in candidates():
        if candidate.is_file() and (python := real_python37(candidate)):
            return python
    return None


def pins(requirements: str) -> dict[str, str]:
    """Returns the exact versions that a requirements file names."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", requirements, flags=re.MULTILINE))


def is_good(python: Path, requirements: str) -> bool:
    """Whether this Python imports TensorFlow and tensorflow-hub, and has all pinned versions."""
    answer = ask(python, "-I", "-c", VERIFY, timeout=300) if python.exists() else None
    try:
        found = json.loads((answer or "").rpartition("\n")[2])
    except ValueError:
        return False
    wanted = pins(requirements)
    if any(found.get(name) != version for name, version in wanted.items()):
        return False
    say(f"TensorFlow {found['tensorflow']}, tensorflow-hub {found['tensorflow-hub']} in {python}")
    return True


def run(*command: str | Path) -> None:
    """Runs a command with its output on stderr; raises InstallError where it fails."""
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, stdout=sys.stderr, env=clean_environ()
    )
    if done.returncode:
        raise InstallError(f"{' '.join(map(str, command))} exited with {done.returncode}")


def install(base: Path, env: Path) -> None:
    """Makes the environment from nothing, whatever stands at its path."""
    shutil.rmtree(env, ignore_errors=True)
    run(base, "-m", "venv", env)
    pip = (env / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--no-input")
    run(*pip, "install", "--quiet", "--requirement", REQUIREMENTS)


def ensure(env: Path, base: Path | None = None) -> int:
    """Makes `env` ready, doing only what is missing; returns the exit status."""
    requirements = REQUIREMENTS.read_text(encoding="utf-8")
    fingerprint = hashlib.sha256(requirements.encode()).hexdigest()
    python = env / "bin" / "python"
    stamp = env / STAMP
    ready = python.exists() and stamp.is_file() and stamp.read_text() == fingerprint
    if not ready and not is_good(python, requirements):
        base = real_python37(base) if base else find_python37()
        if base is None:
            say("No Python 3.7 for x86-64 found, so there is no TensorFlow 1.15 to test against")
            say(HINT)
            return EXIT_NO_PYTHON
        say(f"Installing TensorFlow 1.15 into {env} with {base} (a minute or two, once)")
        start = time.monotonic()
        install(base, env)
        if not is_good(python, requirements):
            raise InstallError(f"{python} can't import the TensorFlow that was just installed")
        say(f"Done in {time.monotonic() - start:.0f} s")
    if not ready:
        stamp.write_text(fingerprint)
    print(python)
    return 0


def main() -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--env", type=Path, default=ROOT / ".venv-tf1", help="where to make it")
    parser.add_argument("--python", type=Path, help="the Python 3.7 to make it with")
    options = parser.parse_args()
    try:
        return ensure(options.env.absolute(), options.python)
    except InstallError as error:
        say(f"error: {error}")
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
