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
    """Runs the passes in order, and notes in the report how much each changed.

    What a pass raises gets a note of the pass, and of those that ran before. Tracebacks show notes;
    the message that users see stays as it is.
    """
    done: list[str] = []
    for one in passes:
        try:
            report.passes[one.name] = report.passes.get(one.name, 0) + one.run(model, report)
        except Exception as error:
            note = f"in pass {one.name}, after {', '.join(done) or 'no other'}"
            # What BaseException.add_note does, which Python 3.10 does not have.
            error.__notes__ = [*getattr(error, "__notes__", ()), note]
            raise
        done.append(one.name)
