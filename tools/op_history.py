"""Makes bridge/opsets/op-history.txt of the op registries of many TensorFlow releases.

    python tools/op_history.py DIRECTORY

DIRECTORY holds a file `tf-RELEASE.opset` of each release, which tools/dump_opset.py writes where
the release is installed. The first line of the result that is no comment names the releases. Each
further line is an op and

    1.14                    the release that it came with, unless the oldest has it
    -2.11                   the release that had it last, unless the newest has it
    explicit_paddings=1.14  the release that an attribute came with, where it is newer than the op
    T:int32,half=2.4        the release since which an attribute takes types that it did not before
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bridge.dtypes import dtype_name
from bridge.proto import tf_pb

RESULT = Path(__file__).resolve().parent.parent / "bridge" / "opsets" / "op-history.txt"
COMMENT = "# Made by tools/op_history.py, which says what a line means.\n"

BUILD_DEPENDENT = "_Mkl"  # the runtime's own, which no graph names; some builds have them

Registry = dict[str, tf_pb.OpDef]


def read(directory: Path) -> dict[str, Registry]:
    """Returns the ops of each release, by release, oldest first."""
    found = {}
    for file in directory.glob("tf-*.opset"):
        ops = tf_pb.OpList.FromString(zlib.decompress(file.read_bytes())).op
        found[file.stem.removeprefix("tf-")] = {
            op.name: op for op in ops if not op.name.startswith(BUILD_DEPENDENT)
        }
    return dict(sorted(found.items(), key=lambda item: list(map(int, item[0].split(".")))))


def lines(registries: dict[str, Registry]) -> Iterator[str]:
    """Yields a line for each op that any release has."""
    oldest, newest = next(iter(registries)), list(registries)[-1]
    for op in sorted({op for registry in registries.values() for op in registry}):
        having = [release for release, registry in registries.items() if op in registry]
        words = [op]
        if having[0] != oldest:
            words.append(having[0])
        if having[-1] != newest:
            words.append(f"-{having[-1]}")
        yield " ".join([*words, *changes({r: registries[r][op] for r in having})])


def changes(definitions: dict[str, tf_pb.OpDef]) -> Iterator[str]:
    """Yields what came to an op after it was there."""
    attrs: dict[str, str] = {}
    types: dict[str, dict[int, str]] = {}
    for release, definition in definitions.items():
        for attr in definition.attr:
            attrs.setdefault(attr.name, release)
            known = types.setdefault(attr.name, {})
            for dtype in attr.allowed_values.list.type:
                known.setdefault(dtype, release)
    first = next(iter(definitions))
    for name, release in sorted(attrs.items()):
        if release != first:
            yield f"{name}={release}"
        later: dict[str, list[int]] = {}
        for dtype, since in types[name].items():
            if since != release:
                later.setdefault(since, []).append(dtype)
        # Where the attribute took anything once, no type is new.
        free = any(
            attr.name == name and not attr.allowed_values.list.type
            for definition in definitions.values()
            for attr in definition.attr
        )
        for since, dtypes in {} if free else later.items():
            yield f"{name}:{','.join(dtype_name(dtype) for dtype in sorted(dtypes))}={since}"


def main() -> int:
    registries = read(Path(sys.argv[1]))
    text = "\n".join([" ".join(registries), *lines(registries)])
    RESULT.write_text(f"{COMMENT}{text}\n", encoding="utf-8")
    print(f"{RESULT}: {len(text.splitlines()) - 1} ops in {len(registries)} releases")
    return 0


if __name__ == "__main__":
    sys.exit(main())
