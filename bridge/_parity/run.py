"""A parity run: two paths in, a report out."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bridge._parity.bisection.script import script_name
from bridge._parity.bisection.search import bisect
from bridge._parity.crew import Crew
from bridge._parity.feed.inputs import Batch, InputLog, batches, check_inputs, count_batches
from bridge._parity.lanes import CANDIDATE, REFERENCE, LanePair, Plan, plan
from bridge._parity.losses import LossComparer
from bridge._parity.options import ParityOptions, as_json
from bridge._parity.outputs import Failure, OutputComparer
from bridge._parity.random.pins import pin
from bridge._parity.random.random_ops import RandomOps, random_ops
from bridge._parity.results import Comparison, ParityReport, Side, Status
from bridge._parity.rule import RULE, check_overrides, decide
from bridge._parity.runners.tf1 import find_tf1_python, idle
from bridge._parity.structure import compare_structure
from bridge._parity.training import TrainingComparer
from bridge._parity.training_ways import TrainedPair, TrainingWays, to_train
from bridge._surfaces.read import read_surface
from bridge._surfaces.surface import Pair, Surface
from bridge.errors import MissingExtraError
from bridge.model import format_tags
from bridge.source import open_source

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

NO_GPU = "no GPU visible"
UPDATES_ARE_NAMES = "values that update ops write are compared with --train only"


def parity(
    reference: str | os.PathLike[str],
    candidate: str | os.PathLike[str],
    options: ParityOptions,
    *,
    artifacts: Path,
    progress: Progress | None = None,
) -> ParityReport:
    """Does what `bridge.parity` says, with its options as one object."""
    start = time.monotonic()
    if importlib.util.find_spec("tensorflow") is None:
        raise MissingExtraError(
            "parity runs the models, which needs TensorFlow",
            hint="pip install 'hubbridge[parity]'",
        )
    tf1_python = find_tf1_python(options.tf1_python)
    with (
        open_source(reference) as reference_directory,
        open_source(candidate) as candidate_directory,
        tempfile.TemporaryDirectory(prefix="hubbridge-parity-") as work,
    ):
        surfaces = read_surface(reference_directory), read_surface(candidate_directory)
        report = ParityReport(
            _side(reference, surfaces[0]),
            _side(candidate, surfaces[1]),
            rule=RULE,
            options=as_json(options),
        )
        structure = compare_structure(*surfaces)
        report.structure = structure.checks
        check_overrides(
            options.overrides,
            ((pair.reference.signature, name) for pair in structure.pairs for name in pair.outputs),
        )
        check_inputs(structure.pairs, options)
        run = _Run(
            options=options,
            report=report,
            surfaces=surfaces,
            plan=plan(*surfaces, options, Path(sys.executable), tf1_python),
            names=structure.variables,
            work=Path(work),
            artifacts=artifacts,
            progress=progress or (lambda *_: None),
        )
        report.remarks += idle(options.tf1_python, run.plan.lanes())
        if not options.train and any(any(s.updated.values()) for s in surfaces):
            report.remarks.append(UPDATES_ARE_NAMES)
        run.all([pair for pair in structure.pairs if _can_be_fed(pair)])
    report.seconds["total"] = time.monotonic() - start
    report.verdict, report.decided_by = decide(
        report.structure, report.comparisons, report.training, require_gpu=options.require_gpu
    )
    return report


def _side(path: str | os.PathLike[str], surface: Surface) -> Side:
    return Side(os.fspath(path), surface.format, surface.producer)


@dataclass(frozen=True)
class _Unpinned:
    """What of a pair can't be compared, because random ops act on it that nothing pins.

    Attributes:
      outputs: why, by the names of outputs in the reference.
      training: why it can't be trained; empty where it can.
    """

    outputs: Mapping[str, str] = field(default_factory=dict)
    training: str = ""


@dataclass
class _Run:
    """One run.

    Attributes:
      options: of the run.
      report: takes what is found.
      surfaces: reference and candidate.
      plan: the lanes.
      names: the candidate's name of each variable of the reference.
      work: a directory for temporary files.
      artifacts: where `bisect` leaves what it shows.
      progress: told how far the run is.
    """

    options: ParityOptions
    report: ParityReport
    surfaces: tuple[Surface, Surface]
    plan: Plan
    names: Mapping[str, str]
    work: Path
    artifacts: Path
    progress: Progress
    _trained: Sequence[Pair] = field(default=(), init=False)
    _with_losses: Sequence[Pair] = field(default=(), init=False)
    _done: int = field(default=0, init=False)
    _total: int = field(default=0, init=False)

    def all(self, pairs: Sequence[Pair]) -> None:
        """Compares everything.

        A pair that draws at random is compared in copies of the models whose random ops are
        pinned, all others in the models as they are.
        """
        ops = [random_ops(surface.path) for surface in self.surfaces]
        self._trained = to_train(pairs, *self.surfaces) if self.options.train else []
        self._with_losses = self._one_of_each_loss(pairs)
        plain = [pair for pair in pairs if not _draws(pair, ops)]
        drawing = [pair for pair in pairs if _draws(pair, ops)]
        self._total = sum(self._count(pair) for pair in pairs)
        if plain:
            self._run(plain, self.plan, self._paths, {})
        if drawing:
            copies = [
                pin(surface.path, self.work / f"pinned{number}", self.options.seed)
                for number, surface in enumerate(self.surfaces)
            ]
            moved = {s.path: copy.path for s, copy in zip(self.surfaces, copies, strict=True)}
            left = [copy.unpinned for copy in copies]
            reasons = {id(pair): _unpinned(pair, left) for pair in drawing}
            self._run(drawing, self.plan.moved(moved), [copy.path for copy in copies], reasons)

    def _one_of_each_loss(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Returns a signature of each variant with losses on both sides.

        Those of which the structure says that they can't be compared are none.
        """
        compared = {
            check.variant
            for check in self.report.structure
            if check.check == "regularization_loss"
            and int(check.reference) == int(check.candidate) > 0
        }
        first = {format_tags(pair.reference.variant): pair for pair in reversed(pairs)}
        return [pair for tags, pair in first.items() if tags in compared]

    @functools.cached_property
    def _ways(self) -> TrainingWays:
        return TrainingWays(*self.surfaces)

    @property
    def _variables(self) -> dict[str, dict[int, str]]:
        """Of each side, the names of a SavedModel's variables by number."""
        return {
            side: {v.number: v.name for v in surface.variables.values() if v.number is not None}
            for side, surface in zip((REFERENCE, CANDIDATE), self.surfaces, strict=True)
        }

    @property
    def _paths(self) -> list[Path]:
        return [surface.path for surface in self.surfaces]

    def _run(
        self,
        pairs: Sequence[Pair],
        lanes: Plan,
        models: Sequence[Path],
        reasons: Mapping[int, _Unpinned],
    ) -> None:
        """Compares some pairs in processes of their own.

        Args:
          pairs: what to compare.
          lanes: what runs it.
          models: directories of the reference and the candidate, or of their copies.
          reasons: why parts of a pair can't be compared, by its id.
        """
        with Crew(lanes.lanes(), self.options.time_limit, self.work, self._variables) as crew:
            missing = crew.without_gpu()
            for pair in pairs:
                self._skip(pair, [p for p in lanes.pairs if {p.first, p.second} & missing], crew)
            lanes = lanes.without(missing)
            for pair in pairs:
                unpinned = reasons.get(id(pair), _Unpinned())
                failure = self._compare(pair, lanes, crew, unpinned.outputs)
                if failure and self.options.bisect:
                    self._bisect(failure, models)
                if pair in self._trained:
                    self._train(pair, lanes, crew, unpinned.training)
                if pair in self._with_losses:
                    self._compare_losses(pair, lanes, crew)
            self._describe(crew, lanes)
            for side, seconds in crew.seconds.items():
                self.report.seconds[side] = self.report.seconds.get(side, 0.0) + seconds

    def _skip(self, pair: Pair, lanes: Sequence[LanePair], crew: Crew) -> None:
        for pair_of_lanes in lanes:
            for output in pair.outputs:
                self.report.comparisons.append(
                    Comparison(
                        kind="output",
                        reference_runtime=crew.name(pair_of_lanes.first),
                        candidate_runtime=crew.name(pair_of_lanes.second),
                        device=pair_of_lanes.second.device,
                        reference_device=pair_of_lanes.first.device,
                        variant=format_tags(pair.reference.variant),
                        signature=pair.reference.signature,
                        output=output,
                        status=Status.SKIPPED,
                        reason=NO_GPU,
                    )
                )

    def _describe(self, crew: Crew, lanes: Plan) -> None:
        known = {(runtime.name, runtime.side, runtime.device) for runtime in self.report.runtimes}
        for lane in lanes.lanes():
            runtime = crew.described_at_last(lane)
            if runtime and (runtime.name, runtime.side, runtime.device) not in known:
                known.add((runtime.name, runtime.side, runtime.device))
                self.report.runtimes.append(runtime)

    def _compare(
        self, pair: Pair, lanes: Plan, crew: Crew, reasons: Mapping[str, str]
    ) -> Failure | None:
        """Compares one pair; returns where it failed first."""
        what = f"{pair.reference.signature} of {format_tags(pair.reference.variant)}"
        comparer = OutputComparer(pair, lanes, crew, self.options, reasons)
        log = InputLog(pair)

        def fed() -> Iterator[Batch]:
            for batch in self._batches(pair):
                self.progress(what, self._done, self._total)
                log.add(batch)
                yield batch
                self._done += 1

        self.report.comparisons += comparer.run(fed())
        self.report.inputs += log.sets()
        seconds = self.report.seconds
        seconds["compare"] = seconds.get("compare", 0.0) + comparer.seconds
        return comparer.first_failure()

    def _train(self, pair: Pair, lanes: Plan, crew: Crew, reason: str) -> None:
        excused = self._excused(pair)
        self.progress(f"training {pair.reference.signature}", self._done, self._total)
        for first, second in self._ways.of(pair):
            trained = TrainedPair(pair, first, second, self.names, excused)
            comparer = TrainingComparer(trained, lanes, crew, self.options)
            if reason:
                self.report.training += comparer.listed(reason)
            else:
                self.report.training += comparer.run(_larger_first(self._batches(pair)))

    def _compare_losses(self, pair: Pair, lanes: Plan, crew: Crew) -> None:
        calls = pair.reference.calls[0], pair.candidate.calls[0]
        trained = TrainedPair(pair, *calls, self.names, {})
        self.report.training += LossComparer(trained, lanes, crew, self.options).run()

    def _excused(self, pair: Pair) -> dict[str, str]:
        """Why variables can't be compared after training."""
        reference, candidate = self.surfaces
        excused: dict[str, str] = {}
        if reference.format == candidate.format:
            return excused
        theirs = {new: old for old, new in self.names.items()}
        apart = {
            *reference.updated_apart.get(pair.reference.variant, ()),
            *(theirs.get(n, "") for n in candidate.updated_apart.get(pair.candidate.variant, ())),
        }
        states = {
            *reference.random_states,
            *(theirs.get(name, "") for name in candidate.random_states),
        }
        for name in apart:
            excused[name] = "its update op depends on no input, so that no call runs it"
        for name in states:
            excused[name] = "it is the state of random ops, which a module does not have"
        return excused

    def _bisect(self, failure: Failure, models: Sequence[Path]) -> None:
        taken = [Path(found.repro).name for found in self.report.bisections if found.repro]
        self.report.bisections.append(
            bisect(
                models[0],
                models[1],
                failure.pair,
                failure.batch.values,
                failure.tolerance,
                Path(sys.executable),
                self.artifacts / script_name(failure.pair, taken),
                time_limit=self.options.time_limit,
            )
        )

    def _batches(self, pair: Pair) -> Iterator[Batch]:
        return batches(pair, self.options, self._image_size, self._table_keys)

    def _count(self, pair: Pair) -> int:
        return count_batches(pair, self.options, self._image_size, self._table_keys)

    @property
    def _image_size(self) -> tuple[int, int] | None:
        return self.surfaces[0].image_size or self.surfaces[1].image_size

    @property
    def _table_keys(self) -> tuple[bytes | int, ...]:
        return tuple(dict.fromkeys(key for s in self.surfaces for key in s.table_keys))


def _can_be_fed(pair: Pair) -> bool:
    """Whether both sides take the same inputs; if not, a check of the structure has failed."""
    ours = pair.inputs.keys() == pair.reference.inputs.keys()
    return ours and set(pair.inputs.values()) == pair.candidate.inputs.keys()


def _larger_first(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yields up to two batches of each set.

    In a batch of one, batch norm makes zeros of features, and of all gradients before it. A set
    starts with such a batch if it has several.
    """
    for _, of_set in itertools.groupby(batches, key=lambda batch: batch.name):
        yield from reversed(list(itertools.islice(of_set, 2)))


def _draws(pair: Pair, ops: Sequence[RandomOps]) -> list[object]:
    """The random ops that decide about a pair, of both models."""
    sides = zip((pair.reference, pair.candidate), ops, strict=True)
    return [
        op for side, found in sides for call in side.calls for op in found.of(call, training=True)
    ]


def _unpinned(pair: Pair, left: Sequence[RandomOps]) -> _Unpinned:
    """Says what the random ops that are left keep from being compared."""
    found = _draws(pair, left)
    if not found:
        return _Unpinned()
    outputs: dict[str, str] = {}
    for name, other in pair.outputs.items():
        ops = [
            op
            for side, output, random in zip(
                (pair.reference, pair.candidate), (name, other), left, strict=True
            )
            for call in side.calls
            if output in call.outputs
            for op in random.of(call, output=output)
        ]
        if ops:
            outputs[name] = f"nothing pins {ops[0]}"
    return _Unpinned(outputs, f"nothing pins {found[0]}")
