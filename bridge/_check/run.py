"""The check: read a model, judge its clauses."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from bridge._check.read_module import read_module
from bridge._check.read_saved_model import read_saved_model
from bridge._check.results import CheckReport, ClauseResult
from bridge._check.rule import Rule
from bridge._check.rules import RULES
from bridge._check.seen import SeenModel
from bridge.errors import UsageError
from bridge.kinds import is_hub_module
from bridge.source import open_source, source_name


def check(path: str | os.PathLike[str], only: Collection[str] = ()) -> CheckReport:
    """Does what `bridge.check` says."""
    rules = _chosen(only)
    name = source_name(path)
    with open_source(path) as directory:
        model = _read(directory)
        results = tuple(_judge(rule, model) for rule in rules)
    return CheckReport(name, model.format, model.producer, results, tuple(model.remarks))


def _chosen(only: Collection[str]) -> list[Rule]:
    known = {rule.id.lower(): rule for rule in RULES}
    for name in sorted(only):
        if name.lower() not in known:
            raise UsageError(
                f"there is no clause {name!r}",
                hint=f"the clauses are {', '.join(rule.id for rule in RULES)}",
            )
    wanted = {name.lower() for name in only}
    return [rule for id_, rule in known.items() if not wanted or id_ in wanted]


def _judge(rule: Rule, model: SeenModel) -> ClauseResult:
    found = rule.judge(model)
    return ClauseResult(rule.id, rule.title, found.status, found.reason, found.breaches)


def _read(directory: Path) -> SeenModel:
    if is_hub_module(directory):
        return read_module(directory)
    return read_saved_model(directory)
