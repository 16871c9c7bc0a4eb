"""The script that shows a node: what it is called, and how it gets to its place."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from bridge._surfaces.surface import Pair
from bridge.model import format_tags

_LONGEST = 100
"""So many characters of its name say which signature it is about."""


def script_name(pair: Pair, taken: Collection[str]) -> str:
    """Returns what the script of a signature is called.

    Args:
      pair: the signature.
      taken: the names of other scripts. One that differs from it by upper and lower case only is
        taken too, as it is on some file systems.
    """
    text = f"bisect-{format_tags(pair.reference.variant)}-{pair.reference.signature}"
    stem = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:_LONGEST]
    lower = {name.lower() for name in taken}
    names = (f"{stem}{'' if n == 1 else f'-{n}'}.py" for n in itertools.count(1))
    return next(name for name in names if name.lower() not in lower)


def publish(written: Path, script: Path, reason: str) -> dict[str, Any]:
    """Copies the script and its data to their place.

    Args:
      written: the script, with its data beside it.
      script: where it goes.
      reason: what is said of the node.

    Returns:
      The fields of a Bisection that tell what came of it.
    """
    try:
        script.parent.mkdir(parents=True, exist_ok=True)
        for suffix in (".npz", ".py"):
            # Whoever looks at what was there before does not see a part of what is new.
            part = script.with_name(f".{script.stem}.{os.getpid()}{suffix}")
            try:
                shutil.copyfile(written.with_suffix(suffix), part)
                part.replace(script.with_suffix(suffix))
            finally:
                part.unlink(missing_ok=True)
    except OSError as error:
        why = f"its script can't be written: {error}"
        return {"reason": f"{reason}; {why}" if reason else why}
    return {"repro": str(script)}
