"""tools/tf1_env.py, run as a command with stand-ins for Python 3.7, and the fixture it serves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

GOOD = {"tensorflow": "1.15.5", "tensorflow-hub": "0.12.0"}
NO_PYTHON = 3

# A Python 3.7 as far as tf1_env.py can tell. Its environments are copies of itself, which import
# TensorFlow once `pip install` ran in them.
STAND_IN = """\
#!/bin/sh
PATH=/usr/bin:/bin
here=$(dirname "$0")
echo "$0 $1 $2" >> "$STAND_IN_LOG"
case "$*" in
    *ensurepip*) echo '{answer}' ;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip "*) printf '%s' "$STAND_IN_INSTALLS" > "$here/versions.json" && exit "$STAND_IN_PIP" ;;
    *pkg_resources*) cat "$here/versions.json" ;;
esac
"""
BROKEN_SHIM = "#!/bin/sh\necho 'pyenv: python3.7: command not found' >&2\nexit 127\n"


def write_script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def write_python37(path: Path, **other: object) -> Path:
    answer = {
        "version": [3, 7],
        "machine": "x86_64",
        "bits": 64,
        "in_venv": False,
        "executable": str(path),
    }
    return write_script(path, STAND_IN.replace("{answer}", json.dumps(answer | other)))


@dataclass
class Checkout:
    """A repository with tools/ and nothing else, on a machine with nothing on PATH but bin/."""

    root: Path

    def __post_init__(self) -> None:
        (self.root / "bin").mkdir()
        (self.root / "tools").mkdir()
        shutil.copy(ROOT / "tools" / "tf1_env.py", self.root / "tools")
        self.require(GOOD)

    @property
    def on_path(self) -> Path:
        return self.root / "bin" / "python3.7"

    @property
    def env(self) -> Path:
        return self.root / ".venv-tf1"

    def require(self, versions: dict[str, str]) -> None:
        lines = [f"{name}=={version}" for name, version in versions.items()]
        (self.root / "tools" / "tf1-requirements.txt").write_text("\n".join(lines))

    def run(
        self, *arguments: str | Path, installs: dict[str, str] = GOOD, pip_status: int = 0
    ) -> subprocess.CompletedProcess[str]:
        environ = {
            "HOME": str(self.root / "home"),
            "PATH": str(self.root / "bin"),
            "STAND_IN_INSTALLS": json.dumps(installs),
            "STAND_IN_LOG": str(self.root / "log"),
            "STAND_IN_PIP": str(pip_status),
        }
        return subprocess.run(
            [sys.executable, self.root / "tools" / "tf1_env.py", *arguments],
            check=False,
            capture_output=True,
            env=environ,
            text=True,
        )

    def used(self) -> list[str]:
        """Returns the interpreters that made an environment, in order."""
        lines = (self.root / "log").read_text().splitlines()
        return [line.partition(" ")[0] for line in lines if line.endswith(" -m venv")]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_it_makes_the_environment_and_prints_its_python(checkout: Checkout) -> None:
    write_python37(checkout.on_path)
    done = checkout.run()
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{checkout.env}/bin/python\n"
    assert "TensorFlow 1.15.5" in done.stderr


def test_a_second_run_installs_nothing(checkout: Checkout) -> None:
    write_python37(checkout.on_path)
    first = checkout.run()
    second = checkout.run()
    assert (second.returncode, second.stdout) == (0, first.stdout)
    assert len(checkout.used()) == 1


def test_it_makes_the_environment_elsewhere_if_told_so(checkout: Checkout) -> None:
    write_python37(checkout.on_path)
    elsewhere = checkout.root / "else where"
    assert checkout.run("--env", elsewhere).stdout == f"{elsewhere}/bin/python\n"


def test_a_shim_that_does_not_run_is_passed_over_for_a_pyenv_version(checkout: Checkout) -> None:
    write_script(checkout.on_path, BROKEN_SHIM)
    python = write_python37(checkout.root / "home/.pyenv/versions/3.7.16/bin/python3.7")
    assert checkout.run().returncode == 0
    assert checkout.used() == [str(python)]


def test_a_shim_that_runs_is_replaced_by_the_real_interpreter(checkout: Checkout) -> None:
    real = write_python37(checkout.root / "real" / "python3.7")
    write_python37(checkout.on_path, executable=str(real))
    assert checkout.run().returncode == 0
    assert checkout.used() == [str(real)]


def test_pyenv_says_where_its_versions_are(checkout: Checkout) -> None:
    python = write_python37(checkout.root / "opt/versions/3.7.9/bin/python3.7")
    write_script(checkout.root / "bin" / "pyenv", f"#!/bin/sh\necho '{checkout.root}/opt'\n")
    assert checkout.run().returncode == 0
    assert checkout.used() == [str(python)]


def test_uv_says_where_its_python_is(checkout: Checkout) -> None:
    python = write_python37(checkout.root / "uv-python" / "python3.7")
    write_script(
        checkout.root / "bin" / "uv", f'#!/bin/sh\n[ "$1 $2" = "python find" ] && echo {python}\n'
    )
    assert checkout.run().returncode == 0
    assert checkout.used() == [str(python)]


def test_an_interpreter_named_on_the_command_line_goes_first(checkout: Checkout) -> None:
    write_python37(checkout.on_path)
    named = write_python37(checkout.root / "named" / "python")
    assert checkout.run("--python", named).returncode == 0
    assert checkout.used() == [str(named)]


@pytest.mark.parametrize(
    "other",
    [{"version": [3, 8]}, {"machine": "aarch64"}, {"bits": 32}, {"in_venv": True}],
    ids=lambda other: next(iter(other)),
)
def test_an_interpreter_that_can_not_hold_tensorflow_1_is_refused(
    checkout: Checkout, other: dict[str, object]
) -> None:
    write_python37(checkout.on_path, **other)
    assert checkout.run().returncode == NO_PYTHON


def test_without_python_3_7_it_exits_with_3_and_says_what_to_install(checkout: Checkout) -> None:
    done = checkout.run()
    assert (done.returncode, done.stdout) == (NO_PYTHON, "")
    assert "pyenv install 3.7" in done.stderr
    assert "--python" in done.stderr
    assert not checkout.env.exists()


def test_a_good_environment_without_stamp_is_adopted(checkout: Checkout) -> None:
    write_python37(checkout.env / "bin" / "python")
    (checkout.env / "bin" / "versions.json").write_text(json.dumps(GOOD))
    done = checkout.run()
    assert done.returncode == 0, done.stderr
    assert checkout.used() == []


def test_an_interrupted_install_is_made_anew(checkout: Checkout) -> None:
    write_python37(checkout.on_path)
    write_python37(checkout.env / "bin" / "python")
    (checkout.env / "left-over").touch()
    assert checkout.run().returncode == 0
    assert not (checkout.env / "left-over").exists()


def test_an_environment_whose_interpreter_is_gone_is_made_anew(checkout: Checkout) -> None:
    write_python37(checkout.on_path)
    checkout.run()
    (checkout.env / "bin" / "python").unlink()
    (checkout.env / "bin" / "python").symlink_to(checkout.root / "gone")
    assert checkout.run().returncode == 0
    assert len(checkout.used()) == 2


def test_new_requirements_are_installed(checkout: Checkout) -> None:
    write_python37(checkout.on_path)
    checkout.run()
    newer = GOOD | {"numpy": "1.18.5"}
    checkout.require(newer)
    assert checkout.run(installs=newer).returncode == 0
    assert len(checkout.used()) == 2


def test_a_failed_install_exits_with_1_and_is_repaired_by_the_next_run(checkout: Checkout) -> None:
    write_python37(checkout.on_path)
    failed = checkout.run(installs={}, pip_status=2)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "pip" in failed.stderr
    assert checkout.run().returncode == 0


def test_an_install_of_wrong_versions_exits_with_1(checkout: Checkout) -> None:
    write_python37(checkout.on_path)
    assert checkout.run(installs=GOOD | {"tensorflow": "1.14.0"}).returncode == 1


def run_one_test_that_needs_tf1(root: Path, required: str) -> str:
    """Runs a test in a copy of the suite that has no .venv-tf1; returns pytest's last line."""
    (root / "tests").mkdir()
    shutil.copy(ROOT / "pyproject.toml", root)
    shutil.copy(ROOT / "tests" / "conftest.py", root / "tests")
    shutil.copytree(ROOT / "tests" / "clients", root / "tests" / "clients")
    (root / "tests" / "test_it.py").write_text("def test_it(tf1): assert tf1.ping()\n")
    environ = os.environ | {"HUBBRIDGE_REQUIRE_TF1": required}
    environ.pop("HUBBRIDGE_TF1_PYTHON", None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "tf1", "tests/test_it.py"],
        check=False,
        capture_output=True,
        cwd=root,
        env=environ,
        text=True,
    )
    assert "tools/tf1_env.py" in done.stdout, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


def test_tests_of_tf1_are_skipped_where_it_is_missing(tmp_path: Path) -> None:
    assert "1 skipped" in run_one_test_that_needs_tf1(tmp_path, required="")


def test_tests_of_tf1_fail_where_it_is_missing_but_required(tmp_path: Path) -> None:
    assert "1 error" in run_one_test_that_needs_tf1(tmp_path, required="1")
