"""Which ops may stand in a stranger's model; op-safety.txt is the list."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path

from bridge.proto import tf_pb

SAFE = "safe"
CHECKED = "checked"
UNSAFE = "unsafe: "

_INTERNAL = "is internal to TensorFlow's runtime"
_UNKNOWN = "is of a kind that may reach outside the model, and nobody has looked at it"

_TELLING_NAME = re.compile(r"(?:^|_)(?:file|path|url|uri|address|proto|spec|dir|device|host)", re.I)


@functools.cache
def load_safety() -> Mapping[str, str]:
    """Returns the heading of op-safety.txt that each listed op stands under.

    Raises:
      ValueError: an op is listed twice, or before any heading.
    """
    result: dict[str, str] = {}
    heading = ""
    text = Path(__file__).with_name("op-safety.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("["):
            heading = line.strip("[]")
        elif not line.startswith("#"):
            for op in line.split():
                if op in result or not heading:
                    raise ValueError(f"op-safety.txt lists {op} twice, or under no heading")
                result[op] = heading
    return result


def is_suspicious(op_def: tf_pb.OpDef) -> bool:
    """True for an op that could do more than compute, as far as its definition tells.

    Such an op is stateful, takes text (which may name a file, an address or a program), or has an
    argument whose name speaks of such things. A reference to text is a handle of old, no text.
    """
    return (
        op_def.is_stateful
        or any(attr.type in ("string", "list(string)") for attr in op_def.attr)
        or any(arg.type == tf_pb.DT_STRING and not arg.is_ref for arg in op_def.input_arg)
        or any(_TELLING_NAME.search(attr.name) for attr in op_def.attr)
        or any(_TELLING_NAME.search(arg.name) for arg in op_def.input_arg)
    )


def danger(op_def: tf_pb.OpDef) -> str | None:
    """Returns what is unsafe about an op, such as `reads or writes files`; None if nothing is.

    A CHECKED op is safe here: only its attributes and inputs tell.
    """
    heading = load_safety().get(op_def.name)
    if heading is not None:
        return heading.removeprefix(UNSAFE) if heading.startswith(UNSAFE) else None
    if op_def.name.startswith("_"):
        return _INTERNAL
    return _UNKNOWN if is_suspicious(op_def) else None
