"""Compares what can be seen of two models without running them.

1. What the reference has, the candidate must have. What only the candidate has is told, and
   passes; but not a variable, an input or an update, which change what the other things mean.
2. A computation that is another one of the reference again (`Computation.same_as`) may be missing
   if that one is there; and an output that is another one again, under its second name.
3. Variants are the same if their tags are, or the names that subobjects have after their tags.
4. Inputs are the same if their names are. Where one is left on each side, these two are: the
   module calls its image `images`, whatever the SavedModel does.
5. Static shapes are equal, except that the candidate may know more of an output than the reference
   does, and may leave the first dimension, the batch, open. Of an input it may not know more: it
   would refuse what the reference takes.
6. What a SavedModel offers besides its signatures, a SavedModel must offer too, and it is compared
   likewise; unless it runs the graph of the same signature in both. A module has no place for it.
   A call of a SavedModel must be one of the other, and return what it returns in the same form.
   No more has a module place for what only functions of a SavedModel stand for, which nothing
   serves; unless the SavedModel says of what module it was made, and so becomes that again.
7. A SavedModel that serves anything serves every signature of a module's variant without tags, and
   `default` also as `serving_default`. What it serves as `default` must be the module's, also where
   that is not known to be what it computes when it is called. A callable that takes what those of a
   converted module take can be called in all forms of these. What servers find of all that, which
   load the graph and not the objects, structure_served.py compares.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from bridge._parity.results import Status, StructureCheck
from bridge._parity.structure_forms import match_names, what_differs
from bridge._parity.structure_served import compare_served
from bridge._parity.structure_state import compare_state, match_variables
from bridge._surfaces.further import kind_of
from bridge._surfaces.surface import HUB_MODULE, SAVED_MODEL, Computation, Pair, Surface
from bridge.model import DEFAULT, INFERENCE, TRAIN, Endpoint, Shape, Tags, format_shape, format_tags
from bridge.saved_model.names import SERVING_DEFAULT, TRAINING
from bridge.tensor_info import describe

_Key = tuple[Tags, str]
_DEFAULT: _Key = (INFERENCE, DEFAULT)

_NOT_KEPT = "nothing serves it, and a TF1 Hub module has nothing but signatures"


@dataclass(frozen=True)
class Structure:
    """What the comparison found.

    Attributes:
      checks: one for each thing.
      pairs: the computations that both have.
      variables: the candidate's name of each variable of the reference that both have.
    """

    checks: list[StructureCheck]
    pairs: list[Pair]
    variables: dict[str, str]


def compare_structure(reference: Surface, candidate: Surface) -> Structure:
    """Compares the surfaces of two models."""
    comparison = _Comparison(reference, candidate)
    comparison.run()
    variables = match_variables(reference, candidate)
    state = compare_state(reference, candidate, comparison.variants, variables)
    checks = [*comparison.checks, *compare_served(reference, candidate), *state]
    return Structure(checks, comparison.pairs, variables)


class _Comparison:
    def __init__(self, reference: Surface, candidate: Surface):
        self.checks: list[StructureCheck] = []
        self.pairs: list[Pair] = []
        self._reference = reference
        self._candidate = candidate
        self._absent_forms = dict(candidate.absent_forms)
        self._ours = {(c.variant, c.signature): c for c in reference.computations}
        self._theirs = {(c.variant, c.signature): c for c in candidate.computations}
        self.variants = _match_variants(_variants(reference), _variants(candidate))

    def run(self) -> None:
        for tags in _variants(self._reference):
            self._compare_variant(tags)
        matched = set(self.variants.values())
        for tags in _variants(self._candidate):
            if tags not in matched:
                self._add("variant", format_tags(tags), candidate="it alone has it", variant=tags)
        seen = {(pair.candidate.variant, pair.candidate.signature) for pair in self.pairs}
        for tags, name in self._theirs.keys() - seen:
            if tags in matched and self._theirs[tags, name].same_as not in seen:
                text = "it alone has it"
                self._add("signature", name, candidate=text, variant=tags, signature=name)
        self._compare_further()

    def _add(
        self,
        check: str,
        name: str,
        reference: str = "",
        candidate: str = "",
        reason: str = "",
        variant: Tags | None = None,
        signature: str | None = None,
        missing: Sequence[Computation] = (),
    ) -> None:
        """Adds a check; `missing` is what the candidate lacks, where the reason is that it does."""
        status = Status.FAIL if reason else Status.PASS
        to_module = self._candidate.format == HUB_MODULE
        if to_module and missing and not any(computation.is_kept for computation in missing):
            status, reason = Status.NOT_COMPARABLE, _NOT_KEPT
        label = None if variant is None else format_tags(variant)
        self.checks.append(
            StructureCheck(check, name, status, reference, candidate, reason, label, signature)
        )

    # -- variants and signatures ---------------------------------------------------------------

    def _compare_variant(self, tags: Tags) -> None:
        names = [name for variant, name in self._ours if variant == tags]
        text = f"{len(names)} signature{'' if len(names) == 1 else 's'}"
        other = self.variants.get(tags)
        if other is None:
            same = [self._elsewhere((tags, name)) for name in names]
            there = ", ".join(sorted({format_tags(key[0]) for key in same if key}))
            label = format_tags(tags)
            if None in same:
                has = ", ".join(map(format_tags, _variants(self._candidate)))
                missing = [n for n, key in zip(names, same, strict=True) if key is None]
                self._add("variant", label, text, f"has {has}",
                          f"the candidate has no variant {label}", tags,
                          missing=[self._ours[tags, n] for n in missing])  # fmt: skip
            else:
                self._add("variant", label, text, f"the same as {there}", variant=tags)
            return
        self._add("variant", format_tags(tags), text, format_tags(other), variant=tags)
        for name in names:
            self._compare_signature((tags, name), (other, name))

    def _elsewhere(self, key: _Key) -> _Key | None:
        """Returns the computation of the candidate that one of the reference is another name of."""
        same = self._ours[key].same_as
        while same is not None:
            tags, name = same
            if tags in self.variants and (self.variants[tags], name) in self._theirs:
                return self.variants[tags], name
            same = self._ours[same].same_as
        return None

    def _compare_signature(self, key: _Key, other: _Key) -> None:
        tags, name = key
        ours = self._ours[key]
        reference = _ways(ours)
        if other not in self._theirs:
            same = self._elsewhere(key)
            if same is not None:
                text = f"the same as {same[1]!r} of {format_tags(same[0])}"
                self._add("signature", name, reference, text, "", tags, name)
                return
            has = ", ".join(repr(n) for variant, n in sorted(self._theirs, key=str)
                            if variant == other[0])  # fmt: skip
            reason = f"the candidate has no signature {name!r} in variant {format_tags(tags)}"
            self._add("signature", name, reference, f"has {has}", reason, tags, name,
                      [ours])  # fmt: skip
            return
        theirs = self._theirs[other]
        self._add("signature", name, reference, _ways(theirs), self._not_served(ours, theirs),
                  tags, name)  # fmt: skip
        inputs = self._compare_inputs(ours, theirs)
        outputs = self._compare_outputs(ours, theirs)
        self.pairs.append(Pair(ours, theirs, inputs, outputs))
        self._compare_forms(self.pairs[-1])
        if self._reference.format == HUB_MODULE:
            for call in theirs.calls:
                for form in self._absent_forms.pop(call.name, ()):
                    if f"{TRAINING}=True" in form and self._lacks_training(key):
                        continue  # that is told already, or true of both
                    reason = f"it can't be called {form}"
                    self._add("callable", call.name, reason=reason, variant=tags, signature=name)
        if (served := self._served_default(ours)) is not None:
            inputs = self._compare_inputs(ours, served)
            outputs = self._compare_outputs(ours, served)
            self.pairs.append(Pair(ours, served, inputs, outputs))

    def _lacks_training(self, key: _Key) -> bool:
        """Whether the candidate has no variant for training, or that of the reference has not this.

        Where a module has none, `training=True` is what it is without.
        """
        tags, name = key
        if not any(variant == TRAIN for variant, _ in self._ours):
            return False
        return TRAIN not in self.variants or (tags == INFERENCE and (TRAIN, name) not in self._ours)

    def _served_default(self, ours: Computation) -> Computation | None:
        """Returns what the SavedModel serves as `default`, where nothing else stands for it."""
        formats = self._reference.format, self._candidate.format
        if formats != (HUB_MODULE, SAVED_MODEL) or (ours.variant, ours.signature) != _DEFAULT:
            return None
        served = (
            c
            for c in self._candidate.further
            if c.calls[0].kind == "signature" and c.same_as != _DEFAULT
        )
        return next((c for c in served if c.calls[0].name == DEFAULT), None)

    # -- further callables ---------------------------------------------------------------------

    def _compare_further(self) -> None:
        theirs: defaultdict[object, list[Computation]] = defaultdict(list)
        for computation in self._candidate.further:
            theirs[kind_of(computation)].append(computation)
        seen: set[str] = set()
        for ours in self._reference.further:
            same = theirs[kind_of(ours)]
            other = next((c for c in same if c.signature == ours.signature), next(iter(same), None))
            self._compare_callable(ours, other)
            seen |= {c.signature for c in same}
        for computation in self._candidate.further:
            if computation.signature not in seen and computation.same_as is None:
                self._add("callable", computation.signature, candidate="it alone has it")

    def _compare_callable(self, ours: Computation, theirs: Computation | None) -> None:
        name = ours.signature
        if theirs is None and self._candidate.format == HUB_MODULE:
            if ours.same_as is not None:
                text = f"the same as {ours.same_as[1]!r} of {format_tags(ours.same_as[0])}"
                self._add("callable", name, _ways(ours), text)
                return
            reason = "it is no signature, and a TF1 Hub module has nothing else"
            check = StructureCheck(
                "callable", name, Status.NOT_COMPARABLE, _ways(ours), reason=reason
            )
            self.checks.append(check)
            return
        if theirs is None:
            same = [c for c in self._theirs.values() if kind_of(c) == kind_of(ours)]
            reason = "" if same else "the candidate has no such callable"
            text = _ways(same[0]) if same else ""
            self._add("callable", name, _ways(ours), text, reason)
            return
        self._add("callable", name, _ways(ours), _ways(theirs))
        if ours.same_as is None or ours.same_as != theirs.same_as:
            inputs = self._compare_inputs(ours, theirs)
            outputs = self._compare_outputs(ours, theirs)
            self.pairs.append(Pair(ours, theirs, inputs, outputs))
        inputs, outputs = (
            match_names(*ends)
            for ends in ((ours.inputs, theirs.inputs), (ours.outputs, theirs.outputs))
        )
        self._compare_forms(Pair(ours, theirs, inputs, outputs))

    def _compare_forms(self, pair: Pair) -> None:
        """Compares how SavedModels are called: what works for one must work for the other."""
        if HUB_MODULE in (self._reference.format, self._candidate.format):
            return
        theirs = (*pair.candidate.calls, *pair.candidate.forms)
        for call in (*pair.reference.calls, *pair.reference.forms):
            reason = what_differs(call, theirs, pair.inputs, pair.outputs)
            if reason:
                of = pair.reference
                self._add("callable", call.label, _ways(of), _ways(pair.candidate), reason,
                          of.variant, of.signature)  # fmt: skip

    # -- what is served ------------------------------------------------------------------------

    def _not_served(self, ours: Computation, theirs: Computation) -> str:
        """Says that a signature of a module is none that the SavedModel serves."""
        formats = self._reference.format, self._candidate.format
        calls = [call for c in self._candidate.computations for call in c.calls]
        serves = any(call.kind == "signature" for call in calls)
        if formats != (HUB_MODULE, SAVED_MODEL) or ours.variant != INFERENCE or not serves:
            return ""
        names = {call.name for call in theirs.calls if call.kind == "signature"}
        if self._served_default(ours) is not None:
            names.add(DEFAULT)
        if ours.signature not in names and ours.signature != DEFAULT:
            return f"the candidate has no serving signature {ours.signature!r}"
        served = {call.name for call in calls if call.kind == "signature"}
        if DEFAULT in names and SERVING_DEFAULT not in served:
            return f"the candidate has no serving signature {SERVING_DEFAULT!r}"
        return ""

    # -- inputs and outputs --------------------------------------------------------------------

    def _compare_inputs(self, ours: Computation, theirs: Computation) -> dict[str, str]:
        names = match_names(ours.inputs, theirs.inputs)
        for name, endpoint in ours.inputs.items():
            if name not in names:
                reason = "the candidate takes no such input"
                self._add_endpoint("input", ours, name, endpoint, None, reason)
                continue
            other = theirs.inputs[names[name]]
            note = "" if names[name] == name else f" called {names[name]!r}"
            self._add_endpoint("input", ours, name, endpoint, other, note=note)
        for name in theirs.inputs.keys() - set(names.values()):
            reason = "the candidate wants an input that the reference does not have"
            self._add_endpoint("input", ours, name, None, theirs.inputs[name], reason)
        return names

    def _compare_outputs(self, ours: Computation, theirs: Computation) -> dict[str, str]:
        for name, endpoint in ours.outputs.items():
            if name in theirs.outputs:
                self._add_endpoint("output", ours, name, endpoint, theirs.outputs[name])
            elif same := [n for n in _same_outputs(ours, name) if n in theirs.outputs]:
                note = f", {same[0]!r} again"
                self._add_endpoint(
                    "output", ours, name, endpoint, theirs.outputs[same[0]], note=note
                )
            else:
                reason = f"the candidate's signature {ours.signature!r} has no such output"
                self._add_endpoint("output", ours, name, endpoint, None, reason)
        for name in theirs.outputs.keys() - ours.outputs.keys():
            self._add_endpoint("output", ours, name, None, theirs.outputs[name])
        return {name: name for name in ours.outputs if name in theirs.outputs}

    def _add_endpoint(
        self,
        check: str,
        computation: Computation,
        name: str,
        ours: Endpoint | None,
        theirs: Endpoint | None,
        reason: str = "",
        note: str = "",
    ) -> None:
        if ours is not None and theirs is not None:
            reason = difference(ours, theirs, is_input=check == "input")
            note += "" if reason else refinement(ours.shape, theirs.shape)
        self._add(
            check,
            name,
            _text(ours),
            f"{_text(theirs)}{note}",
            reason,
            computation.variant,
            computation.signature,
        )


def _variants(surface: Surface) -> list[Tags]:
    return list(dict.fromkeys(c.variant for c in surface.computations))


def _match_variants(ours: list[Tags], theirs: list[Tags]) -> dict[Tags, Tags]:
    """Returns the candidate's variant for each of the reference's that it has."""
    result = {tags: tags for tags in ours if tags in theirs}
    for tags in ours:
        free = (other for other in theirs if other not in result.values())
        if tags not in result:
            same = next((other for other in free if _joined(other) == _joined(tags)), None)
            if same is not None:
                result[tags] = same
    return result


def _joined(tags: Tags) -> str:
    return "_".join(sorted(tags)).strip("_")


def _same_outputs(computation: Computation, name: str) -> list[str]:
    """Returns the other names of an output."""
    return [
        other
        for other in computation.outputs
        if other != name
        and all(call.outputs.get(other) == call.outputs.get(name) for call in computation.calls)
    ]


def _ways(computation: Computation) -> str:
    return ", ".join(dict.fromkeys(call.label for call in computation.calls))


def _text(endpoint: Endpoint | None) -> str:
    return "" if endpoint is None else describe({"": endpoint})[0].removeprefix(": ")


def difference(ours: Endpoint, theirs: Endpoint, *, is_input: bool = False) -> str:
    """Says what is wrong with an input or output of the candidate; empty where nothing is."""
    if ours.encoding is not theirs.encoding:
        return f"the candidate's is {theirs.encoding.value}, not {ours.encoding.value}"
    if ours.dtype != theirs.dtype:
        return "the candidate's is of another dtype"
    if ours.shape is None:
        if is_input and theirs.shape is not None:
            return f"it may have any shape, the candidate takes {format_shape(theirs.shape)} only"
        return ""
    if theirs.shape is None or len(ours.shape) != len(theirs.shape):
        return "the candidate's static shape is another"
    for position, (wanted, size) in enumerate(zip(ours.shape, theirs.shape, strict=True)):
        may_be_open = position == 0 and size is None
        if wanted not in (None, size) and not may_be_open:
            there = "leaves it open" if size is None else f"says {size}"
            return f"dimension {position} of its static shape is {wanted}, the candidate {there}"
        if is_input and wanted is None and size is not None:
            return f"dimension {position} of it may have any size, the candidate takes {size} only"
    return ""


def refinement(ours: Shape, theirs: Shape) -> str:
    """Says how a static shape that agrees is not equal."""
    if ours == theirs:
        return ""
    if ours is None or theirs is None:
        return ", which knows more"
    known = any(a is None and b is not None for a, b in zip(ours, theirs, strict=True))
    opened = any(a is not None and b is None for a, b in zip(ours, theirs, strict=True))
    said = [text for text, is_so in (("knows more", known), ("leaves the batch open", opened))
            if is_so]  # fmt: skip
    return f", which {' and '.join(said)}"
