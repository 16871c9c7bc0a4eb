"""What a pass is, and how a sequence of them runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Protocol

from bridge.model import Model, Variant
from bridge.report import Report


class Pass(Protocol):
    """A step that changes a Model in place.

    Its class docstring says what it requires of the model, what it ensures, and its rules.
    """

    name: ClassVar[str]

    def run(self, model: Model, report: Report) -> int:
        """Changes the model; returns in how many places."""
        ...


class VariantPass:
    """Base of passes that treat each variant by itself."""

    name: ClassVar[str]

    def run(self, model: Model, report: Report) -> int:
        """Rewrites every variant; returns in how many places."""
        return sum(self.rewrite(variant, report) for variant in model.variants.values())

    def rewrite(self, variant: Variant, report: Report) -> int:
        """Changes one variant; returns in how many places."""
        raise NotImplementedError


def run_passes(model: Model, passes: Iterable[Pass], report: Report) -> None:
    """Runs the passes in order, and notes in the report how much each changed."""
    for one in passes:
        report.passes[one.name] = one.run(model, report)
