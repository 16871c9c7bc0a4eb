"""For tests: `assert_parity`, which is also the pytest fixture `parity`.

Example:
    def test_the_converted_model_is_the_same(tmp_path):
        bridge.to_saved_model("module", tmp_path / "saved_model")
        assert_parity("module", tmp_path / "saved_model")
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridge import ParityReport


def assert_parity(
    reference: str | os.PathLike[str], candidate: str | os.PathLike[str], **options: Any
) -> ParityReport:
    """Fails unless two models agree in everything that a user could see.

    Args:
      reference: a TF1 Hub module or a SavedModel.
      candidate: what is compared with it: a module or a SavedModel too.
      **options: those of `bridge.parity`.

    Returns:
      The report, whose verdict is pass.

    Raises:
      AssertionError: the verdict is another one; the message is the tree that `hubbridge parity`
        prints.
      HubBridgeError: whatever `bridge.parity` raises.
    """
    from bridge import Verdict, parity
    from bridge.cli._parity_tree import parity_summary
    from bridge.cli._terminal import Style

    report = parity(reference, candidate, **options)
    if report.verdict is not Verdict.PASS:
        raise AssertionError("\n" + parity_summary(report, Style(width=100)))
    return report
