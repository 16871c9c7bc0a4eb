"""A tree of text, as terminals of any width and encoding can show it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from bridge.cli._terminal import NO_BREAK, Style, plain

_UNICODE = ("├── ", "│   ", "└── ", "    ")
_ASCII = ("|-- ", "|   ", "`-- ", "    ")
_MIN_TEXT = 16
_IN_ASCII = str.maketrans({"…": "...", "→": "->", "≤": "<=", "×": "x", "·": "*"})


class Mark(Enum):
    """What stands before a line that tells a result: in Unicode, in ASCII, in which colour."""

    PASS = ("✓", "ok", Style.green)
    FAIL = ("✗", "FAIL", Style.red)
    OPEN = ("·", "~", Style.yellow)

    def __init__(self, sign: str, text: str, paint: Callable[[Style, str], str]):
        self.sign = sign
        self.text = text
        self.paint = paint


@dataclass
class Node:
    """A line of the tree, and what hangs below it.

    Attributes:
      text: the line; it is wrapped where it is too long.
      children: below it.
      heading: whether it stands out.
      mark: what stands before it.
    """

    text: str
    children: list[Node] = field(default_factory=list)
    heading: bool = False
    mark: Mark | None = None

    def add(self, text: str, *, heading: bool = False, mark: Mark | None = None) -> Node:
        """Adds a child and returns it."""
        child = Node(text, heading=heading, mark=mark)
        self.children.append(child)
        return child


def render(node: Node, style: Style) -> str:
    """Returns the lines of the tree, with their newlines."""
    return "".join(f"{line}\n" for line in _lines(node, style, "", ""))


def _lines(node: Node, style: Style, first: str, rest: str) -> Iterator[str]:
    branch, trunk, last_branch, last_trunk = _UNICODE if style.unicode else _ASCII
    below = trunk if node.children else last_trunk
    sign = ""
    if node.mark is not None:
        sign = node.mark.sign if style.unicode else node.mark.text
    width = max(style.width - len(rest) - len(sign), _MIN_TEXT)
    for number, line in enumerate(wrap(node.text, width, style)):
        shown = style.bold(line) if node.heading else line
        if node.mark is not None and number == 0:
            shown = f"{node.mark.paint(style, sign)} {shown}"
        # Where the text goes on, the line to the first child is already there.
        yield (first if number == 0 else rest + below.rstrip().ljust(2)) + shown
    for child in node.children:
        last = child is node.children[-1]
        yield from _lines(
            child,
            style,
            rest + (last_branch if last else branch),
            rest + (last_trunk if last else trunk),
        )


def wrap(text: str, width: int, style: Style) -> list[str]:
    """Breaks text between words only: a name that is longer than a line must stay whole."""
    text = plain(text)
    if not style.unicode:
        text = text.translate(_IN_ASCII)
    lines = textwrap.wrap(text, width - 2, break_long_words=False, break_on_hyphens=False)
    return [line.replace(NO_BREAK, " ") for line in lines] or [""]


def glue(text: str) -> str:
    """Keeps text together on one line."""
    return text.replace(" ", NO_BREAK)
