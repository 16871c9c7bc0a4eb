"""Compares how two SavedModels are called, and the form of what they return.

What a user writes for the one must work for the other: positions and keywords of arguments,
defaults, lists, dictionaries and tuples. What an input that is given by position is called does not
matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bridge._surfaces.surface import Call
from bridge.dtypes import dtype_name
from bridge.model import Endpoint
from bridge.saved_model.names import TRAINING

Path = tuple[str | int, ...]


def match_names(ours: Mapping[str, Endpoint], theirs: Mapping[str, Endpoint]) -> dict[str, str]:
    """Returns the candidate's name of each input or output, that of the one that is left too."""
    names = {name: name for name in ours if name in theirs}
    rest = ours.keys() - names.keys(), theirs.keys() - names.keys()
    if len(rest[0]) == len(rest[1]) == 1:
        names[next(iter(rest[0]))] = next(iter(rest[1]))
    return names


def what_differs(
    ours: Call, theirs: Iterable[Call], inputs: Mapping[str, str], outputs: Mapping[str, str]
) -> str:
    """Says why a call of the reference is none of the candidate; empty where it is one.

    Args:
      ours: the call.
      theirs: the calls of the candidate that compute the same.
      inputs: the candidate's name for each input of the reference.
      outputs: the candidate's name for each output of the reference.
    """
    named = [call for call in theirs if (call.kind, call.name) == (ours.kind, ours.name)]
    if not named:
        return f"the candidate can't be called as {ours.label}"
    taking = [call for call in named if is_called_like(call, ours, inputs)]
    if not taking:
        return f"it is called {_text(ours)}, in the candidate {_text(named[0])}"
    paths = {outputs[name]: path for name, path in ours.outputs.items() if name in outputs}
    if any(paths.items() <= dict(call.outputs).items() for call in taking):
        return ""
    there = taking[0].outputs
    for name, path in paths.items():
        if name in there and there[name] != path:
            text = _place(path), _place(there[name])
            return f"output {name!r} is {text[0]} of {_text(ours)}, in the candidate {text[1]}"
    return f"the candidate does not return all outputs when it is called {_text(ours)}"


def is_called_like(theirs: Call, ours: Call, inputs: Mapping[str, str]) -> bool:
    """Whether what one call gives is what another of its name takes.

    What `training` is, the variant says.
    """
    if (theirs.kind, theirs.name) != (ours.kind, ours.name):
        return False
    args = _renamed(ours.args, inputs)
    given = {k: _renamed(value, inputs) for k, value in ours.kwargs.items() if k != TRAINING}
    wanted = {k: _renamed(value, {}) for k, value in theirs.kwargs.items() if k != TRAINING}
    return (
        bool(args == _renamed(theirs.args, {}))
        and all(key in given for key in wanted)
        and all({**theirs.implied, **wanted}.get(key) == value for key, value in given.items())
    )


def _renamed(template: Any, names: Mapping[str, str]) -> Any:
    if isinstance(template, list | tuple):
        return [_renamed(item, names) for item in template]
    if not isinstance(template, Mapping):
        return template
    if "input" in template:
        name, mark, part = template["input"].partition("|")
        return {"input": f"{names.get(name, name)}{mark}{part}"}
    return {key: _renamed(value, names) for key, value in template.items()}


def _text(call: Call) -> str:
    given = [_show(template) for template in call.args]
    given += [f"{key}={_show(value)}" for key, value in sorted(call.kwargs.items())]
    name = call.name if call.kind == "callable" else call.label
    return f"{name}({', '.join(given)})"


def _show(template: Any) -> str:
    if isinstance(template, list):
        return f"[{', '.join(map(_show, template))}]"
    if "input" in template:
        return str(template["input"])
    if "dict" in template:
        items = (f"{key!r}: {_show(value)}" for key, value in template["dict"].items())
        return f"{{{', '.join(items)}}}"
    if "tuple" in template:
        inner = ", ".join(map(_show, template["tuple"]))
        return f"({inner}{',' if len(template['tuple']) == 1 else ''})"
    if "named_tuple" in template:
        items = (f"{name}={_show(value)}" for name, value in template["fields"])
        return f"{template['named_tuple']}({', '.join(items)})"
    if "dtype" in template:
        return dtype_name(template["dtype"])
    return repr(template["value"])


def _place(path: Path) -> str:
    return f"result{''.join(f'[{step!r}]' for step in path)}"
