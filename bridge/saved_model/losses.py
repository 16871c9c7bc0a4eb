"""Regularization losses as functions without arguments."""

from __future__ import annotations

from collections import Counter

from bridge.errors import UnsupportedError
from bridge.graph import parse_tensor
from bridge.model import Component, Encoding, Endpoint, Variant
from bridge.report import Report
from bridge.saved_model.bodies import Body, build_body
from bridge.saved_model.library import Library, content_of
from bridge.saved_model.state import State
from bridge.saved_model.structured_value import tensor_spec


def add_losses(variant: Variant, state: State) -> list[int]:
    """Adds a function for each regularization loss of a variant.

    Returns:
      Their numbers in the object graph.
    """
    numbers = []
    for name in variant.regularization_losses:
        body = _build(name, variant, state, state.library)
        spec = tensor_spec("loss", next(iter(body.outputs.values())).dtype, ())
        numbers.append(state.add_function_without_arguments(body.name, body.captures, spec))
    return numbers


def report_other_losses(variant: Variant, trained: Variant, state: State, report: Report) -> None:
    """Tells which losses of a variant the one that training uses does not have.

    Losses are the same if they compute the same, whatever their names.
    """
    if _definitions(variant) == _definitions(trained):
        return
    there = Counter(_content(name, trained, state) for name in trained.regularization_losses)
    for name in variant.regularization_losses:
        content = _content(name, variant, state)
        there[content] -= 1
        if there[content] < 0:
            report.drop(
                "regularization_loss",
                name,
                f"training uses variant {trained.label}, which has no such loss",
                variant.graph.at(parse_tensor(name).node),
            )


def _definitions(variant: Variant) -> list[tuple[str, frozenset[bytes]]]:
    """What the losses are made of, by their nodes: enough to see quickly that all are the same."""
    graph = variant.graph
    return [
        (
            name,
            frozenset(
                graph.nodes[node].SerializeToString(deterministic=True)
                for node in graph.ancestors([parse_tensor(name).node])
            ),
        )
        for name in variant.regularization_losses
    ]


def _content(name: str, variant: Variant, state: State) -> tuple[object, ...]:
    scratch = Library()
    body = _build(name, variant, state, scratch)
    return (content_of(scratch.functions[body.name]), *(c.key for c in body.captures))


def _build(name: str, variant: Variant, state: State, library: Library) -> Body:
    graph = variant.graph
    tensor = parse_tensor(name)
    dtype = graph.output(tensor).dtype
    loss = Endpoint(Encoding.DENSE, dtype, (), (Component(name, dtype, ()),))
    if graph.nodes[tensor.node].op in ("VarHandleOp", "HashTableV2"):
        raise UnsupportedError("a regularization loss is no number", where=graph.at(tensor.node))
    return build_body(
        state.variants[variant.label],
        library,
        "regularization_loss",
        {},
        {"loss": loss},
        share=False,
    )
