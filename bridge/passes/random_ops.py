"""Lets random numbers be drawn by ops of old, without generators and their state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from bridge.graph import Graph, parse_tensor
from bridge.model import Model, Variant
from bridge.ops import RESOURCE_VARIABLE
from bridge.passes._bodies import open_body
from bridge.passes._draws import REWRITTEN, Draws, first_argument, seeds_of
from bridge.passes._variable_ops import uses_variable
from bridge.proto import tf_pb
from bridge.report import Report


class RandomOps:
    """Replaces the random ops of TF2, and drops the state that only they need.

    Requires: MergeEqual has run. Ensures: no random op gets a key and a counter, or uses a
    generator; a variable that only held the state of random ops is gone, and so are its writes.

    1. Where the seed is the same in each call, as tf.random.stateless_uniform gets it from the
       user, so are the numbers, bit for bit: the op of old makes the key and the counter of a seed
       as StatelessRandomGetKeyCounter does, and both run Philox.
    2. Where the seed comes from state that the function moves on, as the seed generators of Keras
       and tf.random.Generator do, each call draws other numbers. In a TF1 Hub module a forward pass
       moves no state on, and a dropout that drops the same units until somebody runs UPDATE_OPS is
       none. There, the seed is itself drawn anew in each run. Ops that shared a seed share it
       still; what they draw is not what TF2 would draw.
    3. State that then serves nothing else is dropped, by name; its writes are no update ops.
    4. Bodies of If, While and Case go the same way; a seed that is an argument counts as the
       caller's.
    5. An algorithm other than Philox, a key that no seed was made to, and a seed that comes into a
       body from state that moves on outside are refused by name.
    """

    name: ClassVar[str] = "random-ops"

    def run(self, model: Model, report: Report) -> int:
        """Rewrites every variant, then drops the variables that no variant needs any more."""
        count = 0
        states: set[str] = set()
        for variant in model.variants.values():
            changed, found = _rewrite(variant, report)
            count += changed
            states |= found
        for name in sorted(states - _used(model)) if states else ():
            _drop_variable(model, name)
            report.drop(
                "variable",
                name,
                "it only held the state of random ops, which draw anew in each run without it",
            )
        return count


def _used(model: Model) -> set[str]:
    """Returns the names of the nodes that any node of any variant reads."""
    return {
        tensor.node
        for variant in model.variants.values()
        for node in variant.graph.nodes.values()
        for tensor in variant.graph.inputs(node)
    }


def _drop_variable(model: Model, name: str) -> None:
    model.variables.pop(name, None)
    for variant in model.variants.values():
        variant.graph.nodes.pop(name, None)
        for names in (variant.trainable_variables, variant.model_variables):
            if name in names:
                names.remove(name)


def _rewrite(variant: Variant, report: Report) -> tuple[int, set[str]]:
    graph = variant.graph
    count = 0
    seeds = {name: _seed_arguments(graph, name) for name in graph.functions}
    variables = _variables_of_arguments(graph)
    for name, function in list(graph.functions.items()):
        if not any(node.op in REWRITTEN for node in function.node_def):
            continue
        body = open_body(graph, name)
        handles = {
            tensor.node
            for node in body.graph.nodes.values()
            if uses_variable(node.op)
            for tensor in [parse_tensor(node.input[0])]
            if body.graph.nodes[tensor.node].op == "Placeholder"
        }
        targets = {tensor.node for _, tensor in body.outputs}
        draws = Draws(body.graph, handles, targets)
        if changed := draws.run():
            count += changed
            body.controls = [control for control in body.controls if control in body.graph.nodes]
            graph.functions[name] = body.close()
            _remark(graph, draws, variables.get(name, {}), report)
    targets = {parse_tensor(name).node for name in variant.regularization_losses}
    for signature in variant.signatures.values():
        targets |= {parse_tensor(name).node for name in signature.output_tensors()}
    draws = Draws(graph, None, targets)
    draws.check_bodies(seeds)
    count += draws.run()
    _remark(graph, draws, {}, report)
    return count, set(draws.states)


def _variables_of_arguments(graph: Graph) -> dict[str, dict[str, str]]:
    """Returns for each function the variables that its arguments are; the first, of several."""
    found: dict[str, dict[str, str]] = {}
    if not graph.functions:
        return found
    handles = {n.name: n.name for n in graph.nodes.values() if n.op == RESOURCE_VARIABLE}
    stack = [(node, handles) for node in graph.nodes.values()]
    while stack:
        node, handles = stack.pop()
        inputs = node.input[first_argument(node) :]
        for name in graph.called_functions(node):
            known = found.setdefault(name, {})
            args = [arg.name for arg in graph.functions[name].signature.input_arg]
            new = {
                arg: handles[text]
                for arg, text in zip(args, inputs, strict=False)
                if text in handles and arg not in known
            }
            if new:
                known |= new
                stack += [(inner, known) for inner in graph.functions[name].node_def]
    return found


def _seed_arguments(graph: Graph, name: str) -> frozenset[int]:
    """Returns the positions of the arguments that a function makes seeds of."""
    if not any(n.op in REWRITTEN for f in _reached(graph, name) for n in f.node_def):
        return frozenset()
    body = open_body(graph, name)
    seeds: list[str] = []
    for node in body.graph.nodes.values():
        seeds += [parse_tensor(text).node for text in seeds_of(node)]
        for called in graph.called_functions(node):
            seeds += [
                parse_tensor(node.input[position + first_argument(node)]).node
                for position in _seed_arguments(graph, called)
            ]
    made_of = body.graph.ancestors(seeds, lambda tensor: tensor.is_control)
    return frozenset(i for i, arg in enumerate(body.args) if arg.name in made_of)


def _reached(graph: Graph, name: str) -> list[tf_pb.FunctionDef]:
    """Returns a function and all that it refers to."""
    reached = {name: graph.functions[name]}
    for function in (order := [graph.functions[name]]):  # grows while it runs
        for node in function.node_def:
            for called in graph.called_functions(node):
                if called not in reached:
                    reached[called] = graph.functions[called]
                    order.append(reached[called])
    return order


def _remark(graph: Graph, draws: Draws, variables: Mapping[str, str], report: Report) -> None:
    for state, node in draws.states.items():
        report.remark(
            "random_op",
            variables.get(state, state),
            "random ops draw anew in each run, as in TF2, but not the numbers that this state "
            "would make them draw",
            graph.at(node),
        )
