"""Measures hubbridge against `cp -r` and against the same conversion through TensorFlow.

    python benchmarks/run.py [--only toy,resnet,big] [--rounds N] [--markdown FILE]

Every run is a fresh process; DEST is deleted in between; nothing is synced to the disk, and the
source is in the page cache. The contestants take turns, round by round, so that a busy spell of the
machine hits them all; what is shown is the median of the rounds. An untimed round goes first.

The big modules are made with TensorFlow 1.15 on the first run and kept below build/bench.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "bench"
MODULES = WORK / "modules"
MEASURE = ROOT / "benchmarks" / "measure.py"
RUNTIME_SCRIPT = ROOT / "benchmarks" / "through_tensorflow.py"
COMPARE_SCRIPT = ROOT / "benchmarks" / "compare.py"
RUNTIME_ROUNDS = 3  # It takes its time, and varies less.

console = Console(highlight=False, soft_wrap=True)
talk = Console(highlight=False, stderr=True)


@dataclass(frozen=True)
class Contestant:
    """One way to make DEST from SOURCE.

    Attributes:
      name: what the tables call it.
      command: makes its command line.
      rounds: how often it runs, at most.
    """

    name: str
    command: Callable[[Path, Path], list[str]]
    rounds: int = sys.maxsize


@dataclass(frozen=True)
class Module:
    """A module to convert.

    Attributes:
      name: what `--only` calls it.
      title: what the tables call it.
      path: where it lies.
      made_by: its name in testdata/make_slim.py; empty where it is checked in.
    """

    name: str
    title: str
    path: Path
    made_by: str = ""


@dataclass
class Samples:
    """What was measured of one contestant: seconds, seconds of CPU time, bytes."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    floor: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def peak(self) -> int:
        return max(self.memory)


@dataclass(frozen=True)
class Target:
    """What a figure should be; the text says it with the figures in it."""

    text: str
    reached: bool


Results = dict[str, Samples]

COPY = "hubbridge"
LINK = "hubbridge --link"
CP = "cp -r"
RUNTIME = "TensorFlow"


# -- contestants -----------------------------------------------------------------------------------


def cp(source: Path, dest: Path) -> list[str]:
    return ["cp", "-r", str(source), str(dest)]


def hubbridge(*options: str) -> Callable[[Path, Path], list[str]]:
    # The console script of this environment, or what it does, where hubbridge is not installed.
    script = Path(sys.executable).with_name("hubbridge")
    program = [str(script)] if script.exists() else [sys.executable, "-m", "bridge"]
    return lambda source, dest: [*program, "to-saved-model", str(source), str(dest), *options]


def through_tensorflow(source: Path, dest: Path) -> list[str]:
    return [sys.executable, str(RUNTIME_SCRIPT), str(source), str(dest)]


CONTESTANTS = (
    Contestant(CP, cp),
    Contestant(COPY, hubbridge()),
    Contestant(LINK, hubbridge("--link")),
    Contestant(RUNTIME, through_tensorflow, RUNTIME_ROUNDS),
)


# -- modules ---------------------------------------------------------------------------------------

CASES = (
    Module("toy", "digits", ROOT / "testdata" / "modules" / "digits"),
    Module("resnet", "resnet_v2_50", MODULES / "resnet_v2_50", made_by="resnet_v2_50"),
    Module("big", "VGG-16 with 21843 classes", MODULES / "big", made_by="big"),
)


def make_missing(modules: Iterable[Module]) -> list[Module]:
    """Makes the modules that are not there yet; returns those that are there now."""
    missing = [module for module in modules if not module.path.exists()]
    if missing and (python := tf1_python()):
        names = [module.made_by for module in missing]
        talk.print(f"Making {', '.join(names)} with TensorFlow 1.15 (a minute or two, once)")
        making = WORK / "making"
        shutil.rmtree(making, ignore_errors=True)
        command = [python, "-W", "ignore", str(ROOT / "testdata" / "make_slim.py"), str(making)]
        run_quietly([*command, *names])
        MODULES.mkdir(parents=True, exist_ok=True)
        for module in missing:
            (making / module.made_by).rename(module.path)
        shutil.rmtree(making)
    return [module for module in modules if module.path.exists()]


def tf1_python() -> str | None:
    """Returns the Python that has TensorFlow 1.15, or None where there is none."""
    named = os.environ.get("HUBBRIDGE_TF1_PYTHON")
    local = ROOT / ".venv-tf1" / "bin" / "python"
    return named or (str(local) if local.exists() else None)


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def run_quietly(command: list[str]) -> None:
    """Runs a command; shows what it printed only if it fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environ())
    if done.returncode:
        talk.print(done.stderr, markup=False)
        sys.exit(f"error: {' '.join(command)} exited with {done.returncode}")


# -- measuring -------------------------------------------------------------------------------------


def environ() -> dict[str, str]:
    """Returns the environment of a contestant: the same for all, with bytecode as installed."""
    unwanted = ("PYTHONDONTWRITEBYTECODE", "PYTHONPROFILEIMPORTTIME", "PYTHONDEVMODE")
    kept = {key: value for key, value in os.environ.items() if key not in unwanted}
    return kept | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}


def measure(command: list[str], samples: Samples) -> None:
    """Runs a command in a fresh process and adds a sample."""
    # The shell forks: a process that it starts does not inherit the peak memory of this one.
    launcher = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-I", "-S", str(MEASURE)]
    done = subprocess.run(
        [*launcher, *command], check=False, capture_output=True, text=True, env=environ()
    )
    if done.returncode:
        talk.print(done.stderr, markup=False)
        sys.exit(f"error: {' '.join(command)} exited with {done.returncode}")
    figures = json.loads(done.stdout)
    samples.seconds.append(figures["seconds"])
    samples.cpu.append(figures["cpu"])
    samples.memory.append(figures["memory"])
    samples.floor = max(samples.floor, figures["floor"])


def turns(rounds: int) -> Iterator[tuple[Contestant, bool]]:
    """Yields whose turn it is, and whether it counts: one round does not, to warm the caches."""
    for number in range(-1, rounds):
        for contestant in CONTESTANTS:
            if number < contestant.rounds:
                yield contestant, number >= 0


def bench(module: Module, rounds: int) -> Results:
    """Measures all contestants with one module."""
    results: Results = {contestant.name: Samples() for contestant in CONTESTANTS}
    dest = WORK / "out"
    with talk.status("") as status:
        for contestant, counts in turns(rounds):
            status.update(f"{module.name}: {contestant.name}")
            shutil.rmtree(dest, ignore_errors=True)
            command = contestant.command(module.path, dest)
            measure(command, results[contestant.name] if counts else Samples())
    shutil.rmtree(dest, ignore_errors=True)
    return results


def check_same(module: Module) -> None:
    """Fails unless hubbridge and the runtime made models that compute the same."""
    ours, theirs = WORK / "ours", WORK / "theirs"
    for dest, contestant in ((ours, CONTESTANTS[1]), (theirs, CONTESTANTS[3])):
        shutil.rmtree(dest, ignore_errors=True)
        run_quietly(contestant.command(module.path, dest))
    run_quietly([sys.executable, str(COMPARE_SCRIPT), str(ours), str(theirs)])
    shutil.rmtree(ours)
    shutil.rmtree(theirs)


# -- targets ---------------------------------------------------------------------------------------


def targets(module: Module, results: Results) -> list[Target]:
    """Returns what the figures of a module should be."""
    found = {"toy": toy_targets, "resnet": resnet_targets, "big": big_targets}
    return found[module.name](results)


def toy_targets(results: Results) -> list[Target]:
    seconds = results[COPY].median
    return [Target(f"under 0.3 s: {seconds:.2f} s", seconds < 0.3)]


def resnet_targets(results: Results) -> list[Target]:
    factor = results[RUNTIME].median / results[COPY].median
    return [Target(f"at least 15 × as fast as TensorFlow: {factor:.1f} ×", factor >= 15)]


def big_targets(results: Results) -> list[Target]:
    limit = 1.5 * results[CP].median + 0.5
    seconds, memory = results[COPY].median, max(results[COPY].peak, results[LINK].peak)
    return [
        Target(f"within 1.5 × cp + 0.5 s = {limit:.2f} s: {seconds:.2f} s", seconds <= limit),
        Target(f"under 100 MB of memory: {memory / 1e6:.0f} MB", memory < 100e6),
    ]


# -- output ----------------------------------------------------------------------------------------

HEADINGS = ("", "wall", "range", "CPU", "memory", "TF ÷ it", "it ÷ cp")


def rows(results: Results) -> list[list[str]]:
    """Returns the cells of a module's table."""
    return [
        [
            name,
            f"{samples.median:.2f} s",
            f"{min(samples.seconds):.2f}-{max(samples.seconds):.2f}",
            f"{statistics.median(samples.cpu):.2f} s",
            memory_text(samples),
            "" if name in (CP, RUNTIME) else ratio(results[RUNTIME], samples),
            "" if name == CP else ratio(samples, results[CP]),
        ]
        for name, samples in results.items()
    ]


def ratio(one: Samples, other: Samples) -> str:
    """Returns how many times as long one takes; says nothing where the other takes no time."""
    return f"{one.median / other.median:.1f}" if other.median > 0.02 else ""


def memory_text(samples: Samples) -> str:
    """Returns the peak memory; what is no more than the launcher has can't be told."""
    if samples.peak <= samples.floor * 1.05:
        return f"< {samples.floor / 1e6:.0f} MB"
    return f"{samples.peak / 1e6:,.0f} MB"


def title(module: Module) -> str:
    size = size_of(module.path)
    text = f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} KB"
    return f"{module.title}, {text}"


def show(module: Module, results: Results) -> None:
    table = Table(
        title=title(module), title_justify="left", title_style="bold", box=None, pad_edge=False
    )
    for heading in HEADINGS:
        justify = "right" if heading else "left"
        table.add_column(heading, justify=justify, header_style="dim", no_wrap=True)
    for row in rows(results):
        table.add_row(*row)
    console.print(table)
    for target in targets(module, results):
        mark = "[green]✓[/]" if target.reached else "[red]✗[/]"
        console.print(f"{mark} {target.text}")
    console.print()


def markdown(module: Module, results: Results) -> str:
    lines = [
        f"### {title(module)}",
        "",
        markdown_row(HEADINGS),
        "| --- " + "| ---: " * (len(HEADINGS) - 1) + "|",
        *map(markdown_row, rows(results)),
        "",
        *(f"- {'✓' if t.reached else '✗'} {t.text}" for t in targets(module, results)),
    ]
    return "\n".join(lines)


def markdown_row(cells: Sequence[str]) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def summary(measured: dict[Module, Results]) -> str:
    """Returns one table of all modules: wall time and peak memory."""
    names = [contestant.name for contestant in CONTESTANTS]
    cells = [
        [title(module), *(f"{s.median:.2f} s, {memory_text(s)}" for s in results.values())]
        for module, results in measured.items()
    ]
    lines = [["module", *(f"`{name}`" if name != RUNTIME else name for name in names)]]
    lines += [["---"] * len(lines[0]), *cells]
    return "\n".join(map(markdown_row, lines))


def machine() -> list[str]:
    """Returns lines on what this was measured with."""
    version = importlib.metadata.version
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cp_version = subprocess.run(["cp", "--version"], check=False, capture_output=True, text=True)
    return [
        f"{os.cpu_count()} cores, {memory / 2**30:.0f} GiB of memory, {cpu_model()}, "
        f"{platform.system()} {platform.machine()}",
        f"Python {platform.python_version()}, protobuf {version('protobuf')}, "
        f"TensorFlow {version('tensorflow')} on the CPU",
        f"{cp_version.stdout.partition(chr(10))[0] or 'cp'}; {reflinks()}",
    ]


def cpu_model() -> str:
    """Returns the name of the CPU as Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown CPU")


def reflinks() -> str:
    """Tells whether the file system can copy without copying (FICLONE), as cp tries first."""
    source, clone = WORK / "reflink", WORK / "reflink.clone"
    source.write_bytes(bytes(4096))
    try:
        with source.open("rb") as reader, clone.open("wb") as writer:
            fcntl.ioctl(writer.fileno(), 0x40049409, reader.fileno())
    except OSError:
        return "the file system has no reflinks, so that copies move every byte"
    finally:
        source.unlink()
        clone.unlink(missing_ok=True)
    return "the file system has reflinks, so that copies share the bytes"


def say_skipped(modules: Iterable[Module]) -> None:
    for module in modules:
        talk.print(f"[yellow]skipped:[/] {module.name}, which TensorFlow 1.15 has to make")
    talk.print("hint: `python tools/tf1_env.py` installs it, or says what it lacks")


# -- the command line ------------------------------------------------------------------------------


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    names = [module.name for module in CASES]
    parser.add_argument("--only", default=",".join(names), help="comma-separated parts to run")
    parser.add_argument("--rounds", type=int, default=7, help="timed runs of each (7)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="put the tables into it")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="put one short table into it")
    parser.add_argument("--no-compare", action="store_true", help="do not compare the results")
    args = parser.parse_args()
    args.only = args.only.split(",")
    if unknown := set(args.only) - set(names):
        parser.error(f"--only knows {', '.join(names)}, not {', '.join(sorted(unknown))}")
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    return args


def write_markdown(path: Path, parts: list[str]) -> None:
    """Puts the parts between the markers in a file that may say more around them."""
    start, end = "<!-- begin: make bench -->", "<!-- end: make bench -->"
    text = path.read_text(encoding="utf-8") if path.exists() else f"{start}\n{end}\n"
    before, _, rest = text.partition(start)
    after = rest.partition(end)[2]
    body = "\n\n".join(parts)
    path.write_text(f"{before}{start}\n\n{body}\n\n{end}{after}", encoding="utf-8")


def main() -> int:
    args = parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    wanted = [module for module in CASES if module.name in args.only]
    modules = make_missing(wanted)
    about = machine()
    rounds = (
        f"Median of {args.rounds} rounds, {min(args.rounds, RUNTIME_ROUNDS)} through TensorFlow"
    )
    about.append(f"load average at the start: {os.getloadavg()[0]:.1f}")
    about.append(f"{rounds}; fresh processes, warm page cache, nothing synced")
    console.print("\n".join(about), "\n")
    parts = ["\n".join(f"- {line}" for line in about)]
    measured = {}
    for module in modules:
        if not args.no_compare:
            with talk.status(f"{module.name}: comparing what the results compute"):
                check_same(module)
        measured[module] = results = bench(module, args.rounds)
        show(module, results)
        parts.append(markdown(module, results))
    if len(modules) < len(wanted):
        say_skipped(module for module in wanted if module not in modules)
    if args.markdown:
        write_markdown(args.markdown, parts)
    if args.readme:
        write_markdown(args.readme, [summary(measured)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
