"""A parity report as one HTML page that needs nothing else, no network either."""

from bridge._parity.html.page import render, require

__all__ = ["render", "require"]
