"""Can the objects of a SavedModel be reused, as hub.KerasLayer does?

TensorFlow Hub's page "Reusable SavedModels" says what they offer: `__call__`, the list `variables`
of all that it uses, `trainable_variables` out of these, `regularization_losses` without arguments,
and where `__call__` takes `training`, it is False by default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bridge._check.results import Breach
from bridge._check.seen import SeenVariable
from bridge._surfaces.saved_interfaces import Interface
from bridge._surfaces.ways import WayReader
from bridge.dtypes import FLOATS, dtype_name
from bridge.model import DEFAULT, Encoding, format_shape
from bridge.saved_model.names import TRAINING
from bridge.saved_model.traces import Trace, argument_defaults, argument_names

_CALL = "__call__"
_VARIABLES = "variables"
_TRAINABLE = "trainable_variables"
_LOSSES = "regularization_losses"
_MAX_NAMED = 3


def reuse_breaches(
    reader: WayReader, interfaces: Iterable[Interface], variables: Mapping[int, SeenVariable]
) -> list[Breach] | None:
    """Returns what keeps objects from being reused.

    Args:
      reader: finds their functions.
      interfaces: the objects.
      variables: by the number of the object.

    Returns:
      The breaches; None where no object has a `__call__`.
    """
    callable_ones = [i for i in interfaces if reader.tree.child(i.number, _CALL) is not None]
    if not callable_ones:
        return None
    return [
        breach
        for interface in callable_ones
        for breach in _Object(reader, interface, variables).breaches()
    ]


class _Object:
    """One object with a `__call__`."""

    def __init__(
        self, reader: WayReader, interface: Interface, variables: Mapping[int, SeenVariable]
    ):
        self._reader = reader
        self._tree = reader.tree
        self._interface = interface
        self._variables = variables
        self._prefix = f"{interface.name}." if interface.name else ""
        self._call = reader.tree.child(interface.number, _CALL)
        self._traces = reader.functions.traces(self._call)

    def breaches(self) -> list[Breach]:
        return [*self._of_call(), *self._of_lists(), *self._of_losses()]

    def _breach(self, found: str, mend: str, name: str) -> Breach:
        return Breach(found, mend, called=f"{self._prefix}{_CALL}", name=f"{self._prefix}{name}")

    def _of_call(self) -> list[Breach]:
        spec = self._reader.functions.spec(self._call)
        defaults = argument_defaults(spec)
        found: list[Breach] = []
        if not self._traces:
            mend = "call it once with the inputs that it is for, and save again"
            found.append(self._breach("`__call__` was never traced", mend, _CALL))
        names = argument_names(spec)
        if defaults.get(TRAINING):
            mend = "give the argument the default False"
            found.append(self._breach("`training` is True by default", mend, TRAINING))
        if TRAINING in names and TRAINING not in defaults:
            what = "`training` has no default, so that callers must give it"
            found.append(self._breach(what, "give the argument the default False", TRAINING))
        elif self._traces and not self._infers():
            what = "`__call__` was traced with training=True only"
            mend = "call it once with training=False, and save again"
            found.append(self._breach(what, mend, TRAINING))
        return found

    def _infers(self) -> bool:
        ways = self._interface.ways[False].get(DEFAULT, ())
        return any(way.call.kind == "callable" for way in ways)

    def _items(self, name: str) -> list[int]:
        return self._tree.items(self._tree.child(self._interface.number, name))

    def _of_lists(self) -> list[Breach]:
        found: list[Breach] = []
        listed = self._items(_VARIABLES)
        used = {n for trace in self._traces for n in trace.captures if n in self._variables}
        if missing := sorted(used - set(listed)):
            found.append(
                self._breach(
                    f"`__call__` uses {self._names(missing)}, which the list does not have",
                    "let `variables` list all variables of the model before it is saved",
                    _VARIABLES,
                )
            )
        trained = self._items(_TRAINABLE)
        if odd := [n for n in trained if n not in listed]:
            found.append(
                self._breach(
                    f"it lists {self._names(odd)}, which the list `variables` does not have",
                    "let `variables` list all variables of the model before it is saved",
                    _TRAINABLE,
                )
            )
        if odd := [n for n in trained if not self._tree.nodes[n].variable.trainable]:
            found.append(
                self._breach(
                    f"it lists {self._names(odd)}, made with trainable=False",
                    "take them out of the list, or make them with trainable=True",
                    _TRAINABLE,
                )
            )
        return found

    def _names(self, numbers: Iterable[int]) -> str:
        names = [
            repr(self._variables[n].name if n in self._variables else self._tree.path(n))
            for n in dict.fromkeys(numbers)
        ]
        more = len(names) - _MAX_NAMED
        return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")

    def _of_losses(self) -> list[Breach]:
        found: list[Breach] = []
        for position, number in enumerate(self._items(_LOSSES)):
            traces = self._reader.functions.traces(number)
            if (what := _loss_fault(traces)) is not None:
                mend = "make it a tf.function without arguments that returns a scalar"
                found.append(self._breach(what, mend, f"{_LOSSES}[{position}]"))
        return found


def _loss_fault(traces: list[Trace]) -> str | None:
    """Returns what is wrong with a regularization loss, if anything is."""
    alone = [trace for trace in traces if not trace.inputs]
    if not alone:
        return "it takes arguments" if traces else "it is no function that was traced"
    outputs = alone[0].outputs
    if len(outputs) != 1:
        return f"it returns {len(outputs)} values"
    end = outputs[0].endpoint
    dense = end.encoding is Encoding.DENSE and end.dtype in FLOATS
    if not dense or end.shape not in ((), None):
        return f"it returns {dtype_name(end.dtype)}{format_shape(end.shape)}"
    return None
