"""A tree of text, as terminals of any width and encoding can show it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field

from bridge.cli._terminal import NO_BREAK, Style, plain

_UNICODE = ("├── ", "│   ", "└── ", "    ")
_ASCII = ("|-- ", "|   ", "`-- ", "    ")
_MIN_TEXT = 16


@dataclass
class Node:
    """A line of the tree, and what hangs below it.

    Attributes:
      text: the line; it is wrapped where it is too long.
      children: below it.
      heading: whether it stands out.
    """

    text: str
    children: list[Node] = field(default_factory=list)
    heading: bool = False

    def add(self, text: str, *, heading: bool = False) -> Node:
        """Adds a child and returns it."""
        child = Node(text, heading=heading)
        self.children.append(child)
        return child


def render(node: Node, style: Style) -> str:
    """Returns the lines of the tree, with their newlines."""
    return "".join(f"{line}\n" for line in _lines(node, style, "", ""))


def _lines(node: Node, style: Style, first: str, rest: str) -> Iterator[str]:
    branch, trunk, last_branch, last_trunk = _UNICODE if style.unicode else _ASCII
    below = trunk if node.children else last_trunk
    width = max(style.width - len(rest), _MIN_TEXT)
    for number, line in enumerate(wrap(node.text, width, style)):
        shown = style.bold(line) if node.heading else line
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
        text = text.replace("…", "...")
    lines = textwrap.wrap(text, width - 2, break_long_words=False, break_on_hyphens=False)
    return [line.replace(NO_BREAK, " ") for line in lines] or [""]


def glue(text: str) -> str:
    """Keeps text together on one line."""
    return text.replace(" ", NO_BREAK)
