"""Decides which concrete functions of a SavedModel become which signatures of which variant.

`__call__` is the signature `default`: its trace with `training=False` for inference, the one with
`training=True` for training. Serving signatures keep their names. docs/how-it-works.md has the
whole table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bridge.dtypes import dtype_name
from bridge.errors import MalformedError, UnsupportedError, Where
from bridge.model import DEFAULT, INFERENCE, TRAIN, Tags, format_shape, format_tags
from bridge.proto import tf_pb
from bridge.report import Report
from bridge.saved_model.mappings import compute_the_same
from bridge.saved_model.names import RETURN_ENDPOINTS, SERVING_DEFAULT, TRAINING
from bridge.saved_model.object_tree import ObjectTree
from bridge.saved_model.objects import ROOT
from bridge.saved_model.traces import (
    Python,
    Trace,
    argument_defaults,
    argument_names,
    read_trace,
)

_MODES = (TRAINING, RETURN_ENDPOINTS)
_WITH_LOSSES = "call_and_return_all_conditional_losses"
_KERAS_OWN = frozenset({_WITH_LOSSES, "keras_api"})
_EXPORT_HINT = (
    "give the object a tf.function `__call__`, call it once and save again, or pass `signatures=` "
    "to tf.saved_model.save"
)


@dataclass
class Choice:
    """What the module is made of.

    Attributes:
      signatures: for each variant, the trace of each signature.
      losses: the regularization losses, functions without arguments.
    """

    signatures: dict[Tags, dict[str, Trace]] = field(default_factory=dict)
    losses: list[Trace] = field(default_factory=list)

    def traces(self) -> list[Trace]:
        """All functions that the module needs."""
        return [*(t for named in self.signatures.values() for t in named.values()), *self.losses]


class Functions:
    """Reads traces from the object graph."""

    def __init__(
        self,
        tree: ObjectTree,
        concrete: Mapping[str, tf_pb.SavedConcreteFunction],
        library: Mapping[str, tf_pb.FunctionDef],
    ):
        self._tree = tree
        self._concrete = concrete
        self._library = library

    def trace(
        self,
        name: str,
        arguments: Iterable[str] = (),
        defaults: Mapping[str, Python] | None = None,
    ) -> Trace:
        """Reads a concrete function; MalformedError where there is none of this name."""
        if name not in self._concrete or name not in self._library:
            raise MalformedError(f"there is no function {name!r}", where=self._tree.where)
        return read_trace(
            name,
            self._concrete[name],
            self._library[name],
            list(arguments),
            self._tree.where,
            defaults,
        )

    def spec(self, number: int | None) -> tf_pb.FunctionSpec:
        """Returns how the Python function behind a function object is called."""
        return (
            tf_pb.FunctionSpec()
            if number is None
            else self._tree.nodes[number].function.function_spec
        )

    def traces(self, number: int | None) -> list[Trace]:
        """Returns the traces of a function object, in its order."""
        spec = self.spec(number)
        arguments, defaults = argument_names(spec), argument_defaults(spec)
        names = self._tree.concrete_functions(number)
        return [self.trace(name, arguments, defaults) for name in names]


def choose(
    tree: ObjectTree,
    concrete: Mapping[str, tf_pb.SavedConcreteFunction],
    library: Mapping[str, tf_pb.FunctionDef],
    report: Report,
) -> Choice:
    """Chooses the functions of the module.

    Args:
      tree: the objects.
      concrete: how each concrete function is called.
      library: the functions.
      report: told what is left out.

    Raises:
      UnsupportedError: the SavedModel has nothing to call for inference.
      MalformedError: it names functions that are not there.
    """
    functions = Functions(tree, concrete, library)
    call = tree.child(ROOT, "__call__")
    inference = pick_trace(functions, call, training=False)
    training = pick_trace(functions, call, training=True, like=inference)
    served = _served(tree, functions)
    signatures = dict(served)
    source = stand_in(served)
    if inference is not None:
        if DEFAULT in served and not compute_the_same(inference, served[DEFAULT], library):
            report.drop("signature", DEFAULT, "the signature of this name is `__call__`")
        signatures[DEFAULT] = inference
        _report_other_traces(
            functions, call, [inference, *([training] if training else [])], report
        )
    elif source is not None:
        signatures[DEFAULT] = served[source]
    if not signatures:
        raise UnsupportedError(
            "the SavedModel has neither a `__call__` that was traced for inference nor a serving "
            "signature",
            where=tree.where,
            hint=_EXPORT_HINT,
        )
    if DEFAULT not in signatures:
        report.remark(
            "signature",
            DEFAULT,
            f"there is neither `__call__` nor {SERVING_DEFAULT!r}, so the module has no signature "
            "of this name; callers must name one",
        )
    choice = Choice({INFERENCE: dict(sorted(signatures.items()))})
    fed = training or inference
    trained = {
        name: trained_as(tree, functions, name, trace, fed, report)
        for name, trace in served.items()
    }
    if training is not None or trained != served:
        # What was traced for inference only is in training what it is in inference.
        if training is not None:
            trained[DEFAULT] = training
        elif inference is not None:
            trained[DEFAULT] = inference
        elif source is not None:
            trained[DEFAULT] = trained[source]
        choice.signatures[TRAIN] = dict(sorted(trained.items()))
    _report_modes(served, TRAIN in choice.signatures, report)
    _report_defaults(choice, report)
    _report_call_losses(tree, functions, choice, report)
    choice.losses = _losses(tree, functions)
    _report_other_functions(tree, served, report)
    return choice


def _served(tree: ObjectTree, functions: Functions) -> dict[str, Trace]:
    served = tree.child(ROOT, "signatures")
    result: dict[str, Trace] = {}
    for name, number in sorted(tree.children(served).items()) if served is not None else ():
        for function in tree.concrete_functions(number):
            result[name] = functions.trace(function)
    return result


def stand_in(served: Mapping[str, Trace]) -> str | None:
    """Returns the serving signature that stands in for an absent `__call__`."""
    for name in (DEFAULT, SERVING_DEFAULT):
        if name in served:
            return name
    return next(iter(served)) if len(served) == 1 else None


def trained_as(
    tree: ObjectTree,
    functions: Functions,
    name: str,
    served: Trace,
    default: Trace | None,
    report: Report,
) -> Trace:
    """Returns what a serving signature is in training.

    A callable of its name that was traced for training, and that takes and gives the same; else the
    serving signature as it is. A client runs the update ops of all signatures together, so all
    that train must take what `default` takes.
    """
    trace = pick_trace(functions, tree.child(ROOT, name), training=True, like=served)
    if trace is None or name == SERVING_DEFAULT:
        return served
    if _keys(trace) != _keys(served):
        report.remark(
            "signature",
            name,
            "in {train} it is what it is in {}: the training trace of the callable of its name "
            "takes or gives others",
        )
        return served
    if default is not None and _fed(trace) != _fed(default):
        report.remark(
            "signature",
            name,
            "in {train} it is what it is in {}: its training trace takes other inputs than "
            "`default`, and a client runs the update ops of all signatures with the inputs of one",
        )
        return served
    return trace


def _fed(trace: Trace) -> set[tuple[str, int, str]]:
    """What decides whether two traces can be given the same inputs."""
    return {
        (leaf.key, part.dtype, format_shape(part.shape))
        for leaf in trace.inputs
        if not leaf.is_fixed
        for part in leaf.endpoint.components
    }


def _keys(trace: Trace) -> tuple[set[str], set[str]]:
    inputs = {leaf.key for leaf in trace.inputs if not leaf.is_fixed}
    return inputs, {leaf.key for leaf in trace.outputs}


def pick_trace(
    functions: Functions, number: int | None, *, training: bool, like: Trace | None = None
) -> Trace | None:
    """Returns the trace of a function that serves best for inference or for training.

    Old releases of Keras trace each mode twice, for other names of the inputs: those of `like` are
    the best.
    """
    defaults = argument_defaults(functions.spec(number))
    traces = [t for t in functions.traces(number) if _runs(t, training)]

    def rank(trace: Trace) -> tuple[bool, bool, int, int]:
        odd = sum(
            repr(value) != repr(defaults.get(name, value)) and value != defaults.get(name, value)
            for name, value in trace.values.items()
            if name not in _MODES
        )
        known = sum(
            size is not None
            for leaf in trace.inputs
            for part in leaf.endpoint.components
            for size in part.shape or ()
        )
        other = like is not None and _keys(trace) != _keys(like)
        return other, trace.values.get(RETURN_ENDPOINTS) is not True, odd, known

    return min(traces, key=rank, default=None)


def _runs(trace: Trace, training: bool) -> bool:
    """True if a trace is one for this value of `training`, given as a bool or as a tensor."""
    if any(leaf.is_training for leaf in trace.inputs):
        return True
    return bool(trace.values.get(TRAINING)) == training  # 1 is as good as True


def _losses(tree: ObjectTree, functions: Functions) -> list[Trace]:
    losses: list[Trace] = []
    for number in tree.items(tree.child(ROOT, "regularization_losses")):
        traces = [trace for trace in functions.traces(number) if not trace.inputs]
        if not traces or len(traces[0].outputs) != 1:
            raise UnsupportedError(
                f"the regularization loss {tree.path(number)!r} is no function without arguments "
                "that returns a tensor",
                where=tree.where,
            )
        losses.append(traces[0])
    return losses


# -- what is left out ------------------------------------------------------------------------------


def _report_modes(served: Mapping[str, Trace], trains: bool, report: Report) -> None:
    """Names the serving signatures that take `training` as a tensor, which no signature does."""
    values = "False in variant {} and True in variant {train}" if trains else "always False"
    for name, trace in served.items():
        if any(leaf.is_training for leaf in trace.inputs):
            report.drop("input", TRAINING, f"it is {values}", Where(signature=name))


def _report_defaults(choice: Choice, report: Report) -> None:
    """Names the arguments that no signature takes because the function has a default for them."""
    for tags, named in choice.signatures.items():
        for name, trace in named.items():
            for leaf in trace.inputs:
                if leaf.default is not None:
                    reason = f"it is always {leaf.default!r}, its default"
                    report.drop(
                        "input", leaf.argument, reason, Where(None, format_tags(tags), name)
                    )


def _report_call_losses(
    tree: ObjectTree, functions: Functions, choice: Choice, report: Report
) -> None:
    """Names the losses that Keras computes from the inputs of a call.

    That function of Keras gives the outputs of the call, and beside them the list of these losses
    (keras/saving/legacy/saved_model/save_impl.py).
    """
    traces = functions.traces(tree.child(ROOT, _WITH_LOSSES))
    for tags in choice.signatures:
        count = max(
            (
                sum(leaf.key.startswith("output_1_") for leaf in trace.outputs)
                for trace in traces
                if _runs(trace, tags == TRAIN)
            ),
            default=0,
        )
        if count:
            report.drop(
                "loss",
                _WITH_LOSSES,
                f"{count} {'loss' if count == 1 else 'losses'} of the layers' inputs (add_loss, "
                "activity_regularizer): regularization losses of a TF1 Hub module have no inputs",
                Where(None, format_tags(tags)),
            )


def _report_other_traces(
    functions: Functions, number: int | None, chosen: list[Trace], report: Report
) -> None:
    """Names the traces of `__call__` that take something that no chosen one takes."""
    seen = {(_types(trace), _values(trace)) for trace in chosen}
    for trace in functions.traces(number):
        if (key := (_types(trace), _values(trace))) in seen:
            continue
        seen.add(key)
        reason = "a signature has one type of each input"
        for like in chosen:
            if _types(like) == _types(trace):
                kept = ", ".join(f"{k}={v}" for k, v in _values(like)) or "no such argument"
                reason = (
                    f"the signature's function has {kept}; only by an argument named {TRAINING!r} "
                    "do the variants differ"
                )
        report.drop("trace", f"__call__({_description(trace)})", reason)


def _types(trace: Trace) -> tuple[object, ...]:
    """What tensors a trace takes, whatever these are called."""
    return tuple(
        (leaf.argument, leaf.endpoint.dtype, leaf.endpoint.shape)
        for leaf in trace.inputs
        if not leaf.is_fixed
    )


def _values(trace: Trace) -> tuple[tuple[str, str], ...]:
    """What else a trace is given, as Python writes it, but for what tells variants apart.

    The text is compared, for no NaN is equal to another, and 1 is equal to True.
    """
    return tuple((k, repr(v)) for k, v in sorted(trace.values.items()) if k not in _MODES)


def _description(trace: Trace) -> str:
    inputs = [
        f"{leaf.key}: {dtype_name(leaf.endpoint.dtype)}{format_shape(leaf.endpoint.shape)}"
        for leaf in sorted(trace.inputs, key=lambda leaf: leaf.key)
    ]
    return ", ".join([*inputs, *(f"{k}={v}" for k, v in _values(trace))])


def _report_other_functions(tree: ObjectTree, served: Mapping[str, Trace], report: Report) -> None:
    for name, number in sorted(tree.children(ROOT).items()):
        public = not name.startswith("_") and name not in served and name not in _KERAS_OWN
        if not public or name == "signatures":
            continue
        if tree.concrete_functions(number):
            report.drop(
                "function",
                name,
                "a TF1 Hub module has signatures only: pass it as one to tf.saved_model.save",
            )
        elif tree.kind(number) == "user_object" and _is_callable(tree, number):
            report.drop(
                "callable", name, "only the root's `__call__` and signatures can be in a module"
            )


def _is_callable(tree: ObjectTree, number: int) -> bool:
    keras = tree.nodes[number].user_object.identifier.startswith("_tf_keras")
    return not keras and bool(tree.concrete_functions(tree.child(number, "__call__")))
