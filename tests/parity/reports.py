"""Parity reports made by hand: of every kind of result that a run can have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bridge._parity.options import ParityOptions, as_json
from bridge._parity.results import (
    Bisection,
    Comparison,
    Difference,
    InputSet,
    ParityReport,
    PhotoRow,
    Runtime,
    Side,
    Status,
    StructureCheck,
    Verdict,
    Worst,
)
from bridge._parity.rule import RULE
from tests.conftest import TESTDATA

TF1 = "TF 1.15.5 hub.Module"
TF2 = "TF 2.21.0 saved_model.load"
PHOTOS = tuple(str(path) for path in sorted((TESTDATA / "images" / "photos").glob("*.jpg")))
_SETTINGS = {"threads": "0", "oneDNN": "off", "TF32": "off", "determinism": "on", "seed": "0"}


def report(options: ParityOptions | None = None) -> ParityReport:
    """Two models of which nothing was compared."""
    return ParityReport(
        reference=Side("testdata/modules/digits", "TF1 Hub module", "1.15.5"),
        candidate=Side("out/digits saved", "TF2 SavedModel", "1.15.5"),
        decided_by="nothing could be compared",
        rule=RULE,
        options=as_json(options or ParityOptions()),
        seconds={"total": 12.34, "reference": 6.2, "candidate": 4.1, "compare": 0.4},
    )


def runtimes(device: str = "cpu") -> list[Runtime]:
    """One for each side."""
    names = (f"/device:{device.upper()}:0",)
    return [
        Runtime(TF1, "reference", device, "1.15.5", "0.12.0", "3.7.17", names, dict(_SETTINGS)),
        Runtime(TF2, "candidate", device, "2.21.0", "", "3.11.7", names, dict(_SETTINGS)),
    ]


def difference(scale: float = 1e-7, **changes: object) -> Difference:
    """Numbers such as those of a matrix of scores whose largest value is 10."""
    made = Difference(
        values=12_000,
        max_abs=10 * scale,
        mean_abs=scale,
        median_abs=0.8 * scale,
        p99_abs=6 * scale,
        max_rel=30 * scale,
        mean_rel=2 * scale,
        median_rel=scale,
        p99_rel=9 * scale,
        max_ulp=max(1, int(scale * 6e7)),
        cosine=0.999999,
        largest=10.0,
        worst=Worst("photos", 1, (2, 7), 1.25, 1.25 + 10 * scale),
        top1=1.0,
        top5=0.96875,
        needed_rtol=scale,
        headroom=1e-4 / scale,
        histogram={"equal": 9000, "-9": 1500, "-8": 1400, "-7": 100},
        magnitudes=((-3.0, -9.5, 40), (-2.0, -8.5, 900), (-1.0, -7.5, 5000), (0.0, -7.0, 700)),
        photos=(PhotoRow(1, 2, 10 * scale, (7, 7)), PhotoRow(0, 0, scale, (3, 5))),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def comparison(output: str, status: Status = Status.PASS, **changes: object) -> Comparison:
    """An output of the module's signature `default`."""
    made = Comparison(
        kind="output",
        reference_runtime=TF1,
        candidate_runtime=TF2,
        device="cpu",
        reference_device="cpu",
        variant="{}",
        signature="default",
        output=output,
        status=status,
        through=("default", "__call__(training=False)"),
        tolerance=(1e-4, 0.0),
        limit=1e-3,
        difference=difference(),
        noise=3e-7,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def skipped(output: str, reason: str = "no GPU visible", **changes: object) -> Comparison:
    """An output that was to be compared on a GPU that is not there."""
    made = comparison(output, Status.SKIPPED, device="gpu", reason=reason, through=("", ""))
    made = replace(made, tolerance=(0.0, 0.0), limit=0.0, difference=None, noise=None)
    return replace(made, **changes)  # type: ignore[arg-type]


def failure(output: str, **changes: object) -> Comparison:
    """An output that is twelve times as far off as it may be."""
    made = comparison(
        output,
        Status.FAIL,
        reason="max|a-b| is 0.012, the rule allows 0.001",
        difference=difference(
            1.2e-3,
            top1=0.75,
            top5=0.9,
            cosine=0.98,
            histogram={"equal": 5, "-5": 300, "-4": 4000, "-3": 7695},
            magnitudes=((-2.0, -5.0, 300), (-1.0, -3.5, 4000), (0.0, -2.0, 7700)),
        ),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def with_nan(output: str) -> Comparison:
    """An output that has NaN in the candidate only."""
    return failure(
        output,
        reason="NaN stands in other places: 0 in the reference, 3 in the candidate",
        difference=difference(
            nan=(0, 3),
            inf=(1, 0),
            needed_rtol=float("inf"),
            headroom=0.0,
            cosine=float("nan"),
            worst=Worst("ones", 0, (0, 1), float("-inf"), float("nan")),
        ),
    )


def structure(failures: Iterable[StructureCheck] = ()) -> list[StructureCheck]:
    """Checks of a module with two variants and some variables."""
    made = list(failures)
    for variant in ("{}", "{train}"):
        made.append(StructureCheck("variant", variant, Status.PASS, variant=variant))
        made.append(
            StructureCheck(
                "signature", "default", Status.PASS, variant=variant, signature="default"
            )
        )
    for number in range(14):
        made.append(StructureCheck("variable", f"conv{number}/kernel", Status.PASS, "same", "same"))
    return made


def passing() -> ParityReport:
    """All outputs agree."""
    made = report()
    made.verdict = Verdict.PASS
    made.decided_by = "all 4 outputs agree; the one nearest its limit is 'logits', with 1000×"
    made.runtimes = runtimes()
    made.structure = structure()
    made.inputs = [
        InputSet("noise", "{}", "default", ({"images": (1, 8, 8, 1)}, {"images": (4, 8, 8, 1)})),
        InputSet(
            "photos",
            "{}",
            "default",
            ({"images": (1, 8, 8, 3)}, {"images": (max(len(PHOTOS) - 1, 0), 8, 8, 3)}),
            PHOTOS,
        ),
    ]
    equal = Difference(values=320, largest=4.0, histogram={"equal": 320})
    made.comparisons = [
        comparison("default"),
        comparison("logits"),
        comparison("conv1", difference=equal, noise=0.0),
        comparison("default", variant="{train}", through=("default", "__call__(training=True)")),
    ]
    return made


def failing() -> ParityReport:
    """Something of everything: failures, NaN, rows that were skipped, training, a bisection."""
    made = passing()
    made.options = as_json(
        ParityOptions(device="all", train=True, bisect=True, images=TESTDATA / "images")
    ) | {"images": "my photos/"}
    made.verdict = Verdict.FAIL
    made.decided_by = (
        "output 'logits' of signature 'default' of variant {} differs by 0.012, 12 times as much "
        "as the rule allows"
    )
    made.structure = structure(
        [
            StructureCheck(
                "trainable",
                "dense/kernel",
                Status.FAIL,
                "trainable",
                "not trainable",
                "the candidate has it not trainable",
            ),
            StructureCheck(
                "output",
                "features",
                Status.FAIL,
                "float32[?, 64]",
                "",
                "the candidate has no such output",
                "{train}",
                "default",
            ),
        ]
    )
    made.comparisons += [
        failure("logits", variant="{train}", through=("default", "__call__(training=True)")),
        with_nan("block4/unit_2/bottleneck_v2/conv3/activations"),
        *(
            comparison(f"block{number}/out", difference=difference(number * 1e-8))
            for number in range(1, 21)
        ),
        comparison(
            "dropout",
            Status.NOT_COMPARABLE,
            reason="random ops that can't be pinned act on it: RandomShuffle",
            difference=None,
            noise=None,
        ),
        *(skipped(name) for name in ("default", "logits", "conv1")),
    ]
    made.training = [
        *(
            comparison(
                f"conv{number}/kernel",
                kind="gradient",
                variant="{train}",
                difference=difference(number * 1e-8, top1=None, top5=None),
            )
            for number in range(1, 10)
        ),
        failure(
            "dense/kernel",
            kind="gradient",
            variant="{train}",
            reason="the candidate gives no gradient",
            difference=None,
        ),
        comparison("bn/moving_mean", kind="variable", variant="{train}"),
        comparison("l2", kind="regularization_loss", variant="{train}"),
    ]
    made.bisections = [
        Bisection(
            "{}",
            "default",
            "InceptionV3/Mixed_5b/Branch_0/Conv2d_0a_1x1/Conv2D",
            "Conv2D",
            True,
            0.0123,
            1e-4,
            (0.5, float("nan"), -1.25),
            (0.5, 0.25, -1.26),
            "out/bisect_default.py",
        ),
        Bisection("{train}", "default", None, reason="no node differs while its inputs agree"),
    ]
    made.remarks = ["TF32 would change the outputs by up to 2e-3 on this GPU"]
    return made


def inconclusive() -> ParityReport:
    """Only a GPU was asked for, and there is none."""
    made = report(ParityOptions(device="gpu"))
    made.structure = structure()
    made.comparisons = [skipped(name, reference_device="gpu") for name in ("default", "logits")]
    return made
