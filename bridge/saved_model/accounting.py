"""Tells in the report what was kept, what callables do, and what no call reaches."""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge.counts import count_model
from bridge.model import Model, Variant
from bridge.report import CallableReport, Report
from bridge.saved_model.callables import Modes
from bridge.saved_model.interfaces import Interface
from bridge.saved_model.state import State
from bridge.tensor_info import describe


@dataclass
class Facts:
    """What is noted while the result is built.

    Attributes:
      update_ops: label of the variant and name of each update op that some call runs.
      losses: the variants whose regularization losses are in some list.
    """

    update_ops: set[tuple[str, str]] = field(default_factory=set)
    losses: dict[str, Variant] = field(default_factory=dict)

    def add_modes(self, modes: Modes) -> None:
        """Notes what a callable runs."""
        for mode in modes.values():
            self.update_ops.update((mode.variant.label, name) for name in mode.update_ops)


def count(model: Model, state: State, facts: Facts, report: Report) -> None:
    """Fills in `report.kept`, and names the update ops that no call runs."""
    kept = report.kept
    count_model(model, kept)
    kept.update_ops = len(facts.update_ops)
    kept.regularization_losses = sum(len(v.regularization_losses) for v in facts.losses.values())
    kept.tables = len(state.tables)
    kept.functions = len(state.library.functions)
    for variant in model.variants.values():
        for name, node in variant.update_ops.items():
            if (variant.label, name) not in facts.update_ops:
                report.drop(
                    "update_op",
                    name,
                    "it depends on the inputs of no signature that training=True runs, so no call "
                    "runs it",
                    variant.graph.at(node),
                )


def report_callable(
    interface: Interface, name: str, signature: str, modes: Modes, report: Report
) -> None:
    """Tells what a callable takes, gives and does when training."""
    path = ".".join(part for part in (interface.name, name) if part)
    body = next(iter(modes.values())).body
    inputs, outputs = describe(body.inputs), describe(body.outputs)
    report.callables.append(
        CallableReport(
            name=path,
            signature=signature,
            inputs=inputs,
            outputs=outputs,
            training={
                str(value): _training_sentence(value, modes)
                for value in (False, True)
                if value in modes
            },
            update_ops=list(modes[True].update_ops) if True in modes else [],
        )
    )
    for value in (False, True):
        if value not in modes:
            report.remark(
                "training",
                path,
                f"training={value} is not offered: variant {interface.modes[value].label} has no "
                f"signature {signature!r}",
            )
            continue
        mode = modes[value]
        there = describe(mode.body.inputs), describe(mode.body.outputs)
        if there != (inputs, outputs):
            report.remark(
                "training",
                path,
                f"training={value} takes {', '.join(there[0]) or 'nothing'} and gives "
                f"{', '.join(there[1]) or 'nothing'}",
            )
        if mode.body.writers:
            report.remark(
                "state",
                path,
                f"training={value} may change variables besides update ops, for what variant "
                f"{mode.variant.label} computes depends on {', '.join(mode.body.writers)}",
            )


def _training_sentence(training: bool, modes: Modes) -> str:
    mode = modes[training]
    if not training:
        return f"runs variant {mode.variant.label} and no update op"
    number = len(mode.update_ops)
    updates = f"{number} update op{'s' if number > 1 else ''}" if number else "no update op"
    if False in modes and modes[False].variant is mode.variant:
        same = "" if number else ", so it is the same as training=False"
        return f"runs the same variant {mode.variant.label} and {updates}{same}"
    return f"runs variant {mode.variant.label} and {updates}"
